//! `waystation-gateway`

use std::process::ExitCode;

use waystation_gateway::process::GatewayProcess;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    waystation_runtime::run::<GatewayProcess>()
}
