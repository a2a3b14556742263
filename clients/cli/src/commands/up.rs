//! Starts a standalone.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use super::Done;
use crate::failure::Failure;

const STANDALONE: &str = "waystation-standalone";

/// Becomes the standalone: the one beside this program, else that on the path.
pub(super) fn run(arguments: &[String]) -> Done {
    let beside = std::env::current_exe().ok().map(|here| here.with_file_name(STANDALONE));
    let program = beside.filter(|path| path.is_file()).unwrap_or_else(|| STANDALONE.into());
    let error = Command::new(&program).args(arguments).exec();
    Err(Failure::Os(format!(
        "{} cannot be started: {error}; it is built with `cargo build -p {STANDALONE}`",
        program.display()
    )))
}
