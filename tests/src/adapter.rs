//! A client in a process of its own that is told what to do and tells what it sees: one JSON object a line. Any client can
//! be driven so (docs/clients.md, "Conformance").

use std::collections::VecDeque;
use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, timeout_at};

use crate::PATIENCE;

/// How a client is started.
#[derive(Clone, Debug)]
pub struct Program {
    pub command: Vec<OsString>,
}

impl Program {
    pub fn new(command: impl IntoIterator<Item = impl Into<OsString>>) -> Program {
        Program { command: command.into_iter().map(Into::into).collect() }
    }

    /// Starts it with options, each as `name=value`.
    pub fn start(&self, options: &[(&str, &str)]) -> Adapter {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(options.iter().map(|(name, value)| format!("{name}={value}")));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let (orders, lines) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()).lines());
        Adapter { child, orders, lines, seen: VecDeque::new() }
    }
}

/// A client that runs.
#[derive(Debug)]
pub struct Adapter {
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Read while something else was waited for.
    seen: VecDeque<Value>,
}

impl Adapter {
    pub async fn order(&mut self, order: Value) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    /// The next thing that it sees; `None`: it has ended, or the time has come.
    pub async fn next(&mut self, until: Instant) -> Option<Value> {
        if let Some(seen) = self.seen.pop_front() {
            return Some(seen);
        }
        let line = timeout_at(until, self.lines.next_line()).await.ok()?.unwrap()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
    }

    /// The next thing that it sees of a kind; what it saw before stays to be looked at.
    pub async fn sees(&mut self, what: &str) -> Value {
        self.sees_where(what, |_| true).await
    }

    /// Likewise, if it also fits.
    pub async fn sees_where(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let fits = |seen: &Value| seen["saw"] == what && fits(seen);
        if let Some(index) = self.seen.iter().position(fits) {
            return self.seen.remove(index).unwrap();
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let line = timeout_at(until, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("it does not see {what}; it saw {:?}", self.seen)).unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended and did not see {what}; it saw {:?}", self.seen));
            let seen: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            if fits(&seen) {
                return seen;
            }
            self.seen.push_back(seen);
        }
    }

    /// All that it sees of a kind within a time; the rest stays to be looked at.
    pub async fn sees_within(&mut self, what: &str, time: Duration) -> Vec<Value> {
        let until = Instant::now() + time;
        while let Ok(Ok(Some(line))) = timeout_at(until, self.lines.next_line()).await {
            self.seen.push_back(serde_json::from_str(&line).unwrap());
        }
        let (found, rest): (Vec<Value>, Vec<Value>) = self.seen.drain(..).partition(|seen| seen["saw"] == what);
        self.seen = VecDeque::from(rest);
        found
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// kill -9
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
