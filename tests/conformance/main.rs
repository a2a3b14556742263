//! `waystation-conformance`: plays the scenarios of the conformance kit with a client's adapter.
#![allow(clippy::print_stdout, missing_docs)]

use std::process::ExitCode;

use waystation_tests::adapter::Program;
use waystation_tests::conformance::failures;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let mut only = None;
    if arguments.first().is_some_and(|first| first == "--only") && arguments.len() > 1 {
        only = arguments.drain(..2).nth(1).and_then(|name| name.into_string().ok());
    }
    if arguments.is_empty() {
        println!("waystation-conformance [--only WORD] COMMAND [ARGUMENT…]: runs a client's adapter (docs/clients.md)");
        return ExitCode::from(64);
    }
    // Failures are told at the end; a panic's own message would come in between.
    std::panic::set_hook(Box::new(|_| {}));
    let failed = failures(&Program::new(arguments), only.as_deref(), |name, passed| {
        println!("{} {}", if passed { "ok    " } else { "FAILED" }, name.replace('_', " "));
    })
    .await;
    for (name, problem) in &failed {
        println!("\n{}\n{problem}", name.replace('_', " "));
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
