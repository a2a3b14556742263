//! What a Redis says of its settings, asked in its inline protocol: the one place where the tool speaks to a Redis.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to a Redis.
pub(super) struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    /// Connects to `redis://[user:password@]host:port`, and logs in.
    pub(super) async fn connect(url: &str) -> Result<Redis, String> {
        let rest = url.strip_prefix("redis://").ok_or("must begin with redis:// (with TLS, ask by redis-cli)")?;
        let rest = rest.split('/').next().unwrap_or_default();
        let (login, address) = rest.rsplit_once('@').map_or((None, rest), |(login, address)| (Some(login), address));
        let address = if address.contains(':') { address.to_owned() } else { format!("{address}:6379") };
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(&address)).await;
        let stream = stream.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())?;
        let mut redis = Redis { stream: BufReader::new(stream) };
        if let Some(login) = login {
            let (user, password) = login.split_once(':').unwrap_or(("", login));
            let words = [user, password];
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            redis.ask(&format!("AUTH {}", words.join(" "))).await?;
        }
        Ok(redis)
    }

    /// All words of an answer, however deep they stand.
    pub(super) async fn ask(&mut self, command: &str) -> Result<Vec<String>, String> {
        let answer = async {
            self.stream.write_all(format!("{command}\r\n").as_bytes()).await.map_err(|error| error.to_string())?;
            self.read().await
        };
        tokio::time::timeout(PATIENCE, answer).await.map_err(|_| "no answer".to_owned())?
    }

    async fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.map_err(|error| error.to_string())?;
        Ok(line.trim_end().to_owned())
    }

    async fn read(&mut self) -> Result<Vec<String>, String> {
        let (mut words, mut awaited) = (Vec::new(), 1_u64);
        while awaited > 0 {
            awaited -= 1;
            let line = self.line().await?;
            let (kind, rest) = line.split_at_checked(1).ok_or("it closed the connection")?;
            match kind {
                "-" => return Err(rest.to_owned()),
                "*" => awaited += rest.parse::<u64>().unwrap_or(0),
                "$" => {
                    let Ok(length) = rest.parse::<usize>() else { continue };
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes).await.map_err(|error| error.to_string())?;
                    words.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
                }
                _ => words.push(rest.to_owned()),
            }
        }
        Ok(words)
    }

    /// A setting; `None` if it may not be asked.
    pub(super) async fn setting(&mut self, name: &str) -> Option<String> {
        self.ask(&format!("CONFIG GET {name}")).await.ok()?.into_iter().nth(1)
    }
}
