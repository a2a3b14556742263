//! gRPC clients that show the token of this place.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::federation::v1::federation_service_client::FederationServiceClient;
use waystation_proto::router::v1::router_service_client::RouterServiceClient;

use crate::failure::Failure;
use crate::place::Place;

/// How long a connection and an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts the bearer on each call, if there is one.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

pub(crate) type Calls = InterceptedService<Channel, Bearer>;

async fn dial(service: &'static str, address: &str, token: Option<&str>) -> Result<Calls, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("{service} {address}: {error}"));
    let bearer =
        token.map(|token| format!("Bearer {token}").parse()).transpose().map_err(|_| wrong(&"the token is none"))?;
    let mut endpoint =
        Endpoint::from_shared(address.to_owned()).map_err(|error| wrong(&error))?.connect_timeout(PATIENCE);
    if address.starts_with("https://") {
        let tls = ClientTlsConfig::new().with_native_roots();
        endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
    }
    let channel =
        endpoint.connect().await.map_err(|error| Failure::Unreachable(service, format!("{address}: {error}")))?;
    Ok(InterceptedService::new(channel, Bearer(bearer)))
}

impl Place {
    pub(crate) async fn call_router(&self) -> Result<RouterServiceClient<Calls>, Failure> {
        Ok(RouterServiceClient::new(dial("the router", &self.router()?, Some(&self.token()?)).await?))
    }

    pub(crate) async fn call_federation(&self) -> Result<FederationServiceClient<Calls>, Failure> {
        Ok(FederationServiceClient::new(dial("the federation", &self.federation()?, Some(&self.token()?)).await?))
    }

    /// Logins bring no token.
    pub(crate) async fn call_auth(&self) -> Result<AuthServiceClient<Calls>, Failure> {
        Ok(AuthServiceClient::new(dial("auth", &self.auth()?, None).await?))
    }
}
