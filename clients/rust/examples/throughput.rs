//! Receives and acknowledges so many messages, and tells how long that took and what it allocated: for `make bench`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use futures_util::TryStreamExt as _;
use waystation_client::{ConnectOptions, Messages, Token};

async fn take(messages: &mut Messages, count: u64) {
    for _ in 0..count {
        messages.try_next().await.unwrap().unwrap().ack().await.unwrap();
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap();
    let [warm, count] = [(); 2].map(|()| arguments.next().unwrap().parse::<u64>().unwrap());
    // One thread, so that all of the client's allocations are counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut messages = runtime.block_on(async {
        let options = ConnectOptions::new(&url, "orla", "d1").window(1_000, 16 << 20);
        let client = options.token_callback(|_| async { Ok(Token::of_jwt("t")) }).connect().await.unwrap();
        client.connected().await.unwrap();
        let mut messages = client.messages();
        take(&mut messages, warm).await;
        // It lives as long as the process.
        std::mem::forget(client);
        messages
    });
    println!(r#"{{"saw":"warm"}}"#);
    let begun = tokio::time::Instant::now();
    let counted = allocation_counter::measure(|| runtime.block_on(take(&mut messages, count)));
    let seconds = begun.elapsed().as_secs_f64();
    let each = counted.count_total as f64 / count as f64;
    println!(r#"{{"saw":"done","seconds":{seconds},"allocations":{each}}}"#);
    // Its CPU is looked at before it ends.
    std::io::stdin().read_line(&mut String::new()).ok();
}
