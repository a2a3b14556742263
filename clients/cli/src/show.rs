//! Output for people and for machines.

use std::io::IsTerminal as _;

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use prost_types::Timestamp;
use serde_json::{Value, json};

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    People,
    /// JSON, an object a line.
    Machines,
}

impl Show {
    /// The same in both forms.
    pub(crate) fn say(self, machine: &Value, human: impl FnOnce() -> String) {
        match self {
            Show::Machines => println!("{machine}"),
            Show::People => println!("{}", human()),
        }
    }

    /// A list: a table for people, an object a line for machines.
    pub(crate) fn list(self, header: &[&str], rows: &[(Vec<String>, Value)], nothing: &str) {
        match self {
            Show::Machines => rows.iter().for_each(|(_, machine)| println!("{machine}")),
            Show::People if rows.is_empty() => println!("{nothing}"),
            Show::People => println!("{}", table(header, rows.iter().map(|(row, _)| row.clone()))),
        }
    }

    /// A bar for people who look at it.
    pub(crate) fn bar(self, length: u64, what: &'static str) -> ProgressBar {
        if self == Show::Machines || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {per_sec}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(length).with_style(style).with_message(what)
    }
}

pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.to_vec());
    table.add_rows(rows);
    table
}

/// ISO 8601, or a dash.
pub(crate) fn time(time: Option<&Timestamp>) -> String {
    let read = time.and_then(|time| jiff::Timestamp::new(time.seconds, time.nanos).ok());
    read.map_or_else(|| "-".to_owned(), |time| format!("{time:.3}"))
}

/// Data as JSON, if they are.
pub(crate) fn data(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(bytes)))
}

/// A name of an enum without its prefix, in lower case.
pub(crate) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}

/// What `-` stands for, a dash where there is nothing.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}
