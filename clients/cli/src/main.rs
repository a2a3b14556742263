//! `waystation`: looks at a running Waystation, and talks to it, without code.
#![allow(clippy::print_stdout)]

mod arguments;
mod calls;
mod commands;
mod failure;
mod place;
mod show;

use std::process::ExitCode;

use clap::Parser as _;

use crate::arguments::Arguments;
use crate::failure::Failure;

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let asked = !error.use_stderr();
            error.print().ok();
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(Failure::USAGE) };
        }
    };
    match commands::run(arguments).await {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("waystation: {failure}");
            if let Some(advice) = failure.advice() {
                eprintln!("{advice}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
