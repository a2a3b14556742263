//! `waystation-router`

use std::process::ExitCode;

use waystation_router::process::RouterProcess;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    waystation_runtime::run::<RouterProcess>()
}
