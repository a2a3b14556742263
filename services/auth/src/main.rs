//! `waystation-auth`

use std::process::ExitCode;

use waystation_auth::process::AuthProcess;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    waystation_runtime::run::<AuthProcess>()
}
