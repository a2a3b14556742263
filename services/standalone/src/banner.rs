//! What a person sees who has just started it.

use std::path::Path;

use crate::dev::DevFile;

/// Says where everything is and what to try next.
pub fn banner(dev: &DevFile, state_dir: &Path, durability: &str) -> String {
    let file = state_dir.join(DevFile::NAME);
    format!(
        "
  Waystation is ready.                                  (durability: {durability})

    daemons connect to    {gateway}
    REST for daemons      {http}
    backends call         {router}  (RouterService)
                          {auth}  (AuthService)
                          {federation}  (FederationService)
    metrics and health    {admin}/metrics  /readyz
    credentials           {file}

  Try next:
    make demo                          two daemons, an offline backlog, a broken line
    docs: README.md, the five-minute tour with a plain WebSocket and a plain gRPC client

  Ctrl-C stops it in order; what was accepted stays.
",
        gateway = dev.gateway_url,
        http = dev.http_url,
        router = dev.router,
        auth = dev.auth,
        federation = dev.federation,
        admin = dev.admin.gateway,
        file = file.display(),
    )
}
