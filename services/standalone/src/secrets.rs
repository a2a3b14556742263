//! Secrets that outlive a run: `secrets.json` in the state directory, readable by its owner only.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use waystation_domain::ApiKeyId;
use waystation_runtime::Entropy;
use waystation_token::ApiKeySecret;

use crate::{StartError, io};

const FILE: &str = "secrets.json";

/// No Debug: nothing of it may be printed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// Two ids of 128 bits: 64 hexadecimal digits.
    pepper: String,
    api_secret: String,
    service_secret: String,
}

impl Secrets {
    pub(crate) fn load_or_make(dir: &Path, entropy: &Entropy) -> Result<Secrets, StartError> {
        let path = dir.join(FILE);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| StartError::Options(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                let secrets = Secrets {
                    pepper: hex(entropy.secret()),
                    api_secret: new_api_key(entropy)?.expose(),
                    service_secret: hex(entropy.secret()),
                };
                secrets.save(dir)?;
                Ok(secrets)
            }
            Err(error) => Err(io(format!("read {}", path.display()))(error)),
        }
    }

    fn save(&self, dir: &Path) -> Result<(), StartError> {
        write_private(&dir.join(FILE), self)
    }

    pub(crate) fn pepper(&self) -> Vec<u8> {
        self.pepper.clone().into_bytes()
    }

    pub(crate) fn service_secret(&self) -> &str {
        &self.service_secret
    }

    pub(crate) fn api_key(&self) -> Result<ApiKeySecret, StartError> {
        ApiKeySecret::parse(&self.api_secret)
            .map_err(|error| StartError::Options(format!("{FILE}: api_secret {error}")))
    }

    /// Another key in place of one that was revoked.
    pub(crate) fn renew_api_key(&mut self, dir: &Path, entropy: &Entropy) -> Result<ApiKeySecret, StartError> {
        let key = new_api_key(entropy)?;
        self.api_secret = key.expose();
        self.save(dir)?;
        Ok(key)
    }
}

fn new_api_key(entropy: &Entropy) -> Result<ApiKeySecret, StartError> {
    let id: ApiKeyId = format!("dev-{}", &entropy.id()[..12])
        .parse()
        .map_err(|error| StartError::Options(format!("API key {error}")))?;
    Ok(ApiKeySecret::new(id, entropy.secret()))
}

/// Writes a file that only its owner reads, whole or not at all.
pub(crate) fn write_private(path: &Path, content: &impl Serialize) -> Result<(), StartError> {
    let failed = || io(format!("write {}", path.display()));
    let dir = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed())?;
    let text = serde_json::to_vec_pretty(content).map_err(|error| failed()(error.into()))?;
    let temporary = path.with_extension("tmp");
    let mut file =
        fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary).map_err(failed())?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed())?;
    fs::rename(&temporary, path).map_err(failed())
}
