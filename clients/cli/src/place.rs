//! Where a command goes, and as whom.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use crate::failure::Failure;

/// Where Waystation is and who asks. What is not said is read from the dev.json that a standalone writes.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlaceArguments {
    /// The dev.json of a standalone
    #[arg(long, global = true, env = "WAYSTATION_DEV", default_value = ".waystation/dev.json")]
    dev: PathBuf,
    /// Where daemons connect, as wss://gateway.example.com
    #[arg(long, global = true, env = "WAYSTATION_GATEWAY_URL", value_name = "URL")]
    gateway_url: Option<String>,
    /// gRPC of a router, as http://router:8782 or https://…
    #[arg(long, global = true, env = "WAYSTATION_ROUTER", value_name = "URL")]
    router: Option<String>,
    /// gRPC of an auth
    #[arg(long, global = true, env = "WAYSTATION_AUTH", value_name = "URL")]
    auth: Option<String>,
    /// gRPC of a federation
    #[arg(long, global = true, env = "WAYSTATION_FEDERATION", value_name = "URL")]
    federation: Option<String>,
    /// A backend's or operator's bearer token
    #[arg(long, global = true, env = "WAYSTATION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The organization, if the token is not of one
    #[arg(long, global = true, env = "WAYSTATION_ORGANIZATION", value_name = "ID")]
    organization: Option<String>,
    /// Id of an API key, to be a daemon
    #[arg(long, global = true, env = "WAYSTATION_API_KEY", value_name = "ID")]
    api_key: Option<String>,
    /// Its secret, wsk_…
    #[arg(long, global = true, env = "WAYSTATION_API_SECRET", hide_env_values = true, value_name = "SECRET")]
    api_secret: Option<String>,
}

/// What a standalone writes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct DevFile {
    gateway_url: Option<String>,
    router: Option<String>,
    auth: Option<String>,
    federation: Option<String>,
    service_token: Option<String>,
    api_key: Option<String>,
    api_secret: Option<String>,
}

/// Where to go, and as whom.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The file that was read, if there is one.
    pub(crate) dev: PathBuf,
    pub(crate) dev_found: bool,
    gateway_url: Option<String>,
    router: Option<String>,
    auth: Option<String>,
    federation: Option<String>,
    token: Option<String>,
    pub(crate) organization: String,
    api_key: Option<String>,
    api_secret: Option<String>,
}

impl Place {
    /// Reads what was not said.
    pub(crate) fn find(said: PlaceArguments) -> Result<Place, Failure> {
        let file = match std::fs::read_to_string(&said.dev) {
            Ok(text) => Some(
                serde_json::from_str::<DevFile>(&text)
                    .map_err(|error| Failure::Usage(format!("{}: {error}", said.dev.display())))?,
            ),
            // Whoever says everything needs none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::Usage(format!("{}: {error}", said.dev.display()))),
        };
        let dev_found = file.is_some();
        let dev = file.unwrap_or_default();
        Ok(Place {
            dev: said.dev,
            dev_found,
            gateway_url: said.gateway_url.or(dev.gateway_url),
            router: said.router.or(dev.router),
            auth: said.auth.or(dev.auth),
            federation: said.federation.or(dev.federation),
            token: said.token.or(dev.service_token),
            organization: said.organization.unwrap_or_default(),
            api_key: said.api_key.or(dev.api_key),
            api_secret: said.api_secret.or(dev.api_secret),
        })
    }

    fn need(&self, value: &Option<String>, option: &str, variable: &str) -> Result<String, Failure> {
        let missing = || {
            let dev = self.dev.display();
            Failure::Usage(format!("--{option} or {variable} is needed: there is no {dev} that would say it"))
        };
        value.clone().ok_or_else(missing)
    }

    pub(crate) fn gateway_url(&self) -> Result<String, Failure> {
        self.need(&self.gateway_url, "gateway-url", "WAYSTATION_GATEWAY_URL")
    }

    pub(crate) fn router(&self) -> Result<String, Failure> {
        self.need(&self.router, "router", "WAYSTATION_ROUTER")
    }

    pub(crate) fn auth(&self) -> Result<String, Failure> {
        self.need(&self.auth, "auth", "WAYSTATION_AUTH")
    }

    pub(crate) fn federation(&self) -> Result<String, Failure> {
        self.need(&self.federation, "federation", "WAYSTATION_FEDERATION")
    }

    pub(crate) fn token(&self) -> Result<String, Failure> {
        self.need(&self.token, "token", "WAYSTATION_TOKEN")
    }

    /// Id and secret of the API key.
    pub(crate) fn api_key(&self) -> Result<(String, String), Failure> {
        let id = self.need(&self.api_key, "api-key", "WAYSTATION_API_KEY")?;
        Ok((id, self.need(&self.api_secret, "api-secret", "WAYSTATION_API_SECRET")?))
    }
}
