//! `waystation-federation`

use std::process::ExitCode;

use waystation_federation::process::FederationProcess;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    waystation_runtime::run::<FederationProcess>()
}
