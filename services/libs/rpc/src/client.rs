//! Calling other services.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use secrecy::{ExposeSecret as _, SecretString};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use waystation_proto::auth::v1::IssueServiceTokenRequest;
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::common::v1::ErrorReason;
use waystation_runtime::Context;

use crate::fault::Fault;

/// A channel that carries this service's token.
pub type Authorized = InterceptedService<Channel, Bearer>;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Between attempts to log in.
const AGAIN: Duration = Duration::from_millis(500);

/// A channel to an address such as `http://127.0.0.1:8782`, connected when it is first used.
///
/// # Errors
/// If the address is no URI.
pub fn channel(address: &str) -> Result<Channel, Fault> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| Fault::field("address", error))?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// Puts the newest token on every call. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bearer(Arc<ArcSwapOption<MetadataValue<Ascii>>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.0.load();
        let token = token.as_deref().ok_or_else(|| Fault::unavailable("this service has not logged in yet"))?;
        request.metadata_mut().insert("authorization", token.clone());
        Ok(request)
    }
}

/// How an internal service logs in.
#[derive(Clone, Debug)]
pub struct ServiceLogin {
    /// Its name.
    pub service: &'static str,
    /// Its secret.
    pub secret: SecretString,
}

impl ServiceLogin {
    /// Logs in, and again before each token ends, until the process stops. Resolves with the first token.
    pub async fn keep(self, auth: Channel, context: &Context) -> Bearer {
        let bearer = Bearer::default();
        let mut left = self.log_in_until_done(&auth, &bearer, context).await;
        let (keeper, of_task) = (bearer.clone(), context.clone());
        context.lifecycle.spawn(async move {
            while run_until_stop(&of_task, tokio::time::sleep(left / 2)).await.is_some() {
                left = self.log_in_until_done(&auth, &keeper, &of_task).await;
            }
        });
        bearer
    }

    /// Answers how long the token lives.
    async fn log_in_until_done(&self, auth: &Channel, bearer: &Bearer, context: &Context) -> Duration {
        loop {
            match self.log_in(auth, bearer, context).await {
                Ok(left) => return left,
                Err(fault) => tracing::warn!(service = self.service, "cannot log in: {fault:?}"),
            }
            if run_until_stop(context, tokio::time::sleep(AGAIN)).await.is_none() {
                return Duration::ZERO;
            }
        }
    }

    async fn log_in(&self, auth: &Channel, bearer: &Bearer, context: &Context) -> Result<Duration, Fault> {
        let request = IssueServiceTokenRequest {
            service: self.service.to_owned(),
            secret: self.secret.expose_secret().to_owned(),
            organization_id: String::new(),
            scopes: Vec::new(),
        };
        let answer = AuthServiceClient::new(auth.clone()).issue_service_token(request).await;
        let answer = answer.map_err(|status| Fault::unavailable(status.message()))?.into_inner();
        let token = format!("Bearer {}", answer.access_token).parse();
        let token = token.map_err(|_| Fault::new(ErrorReason::Internal, "auth answered no token"))?;
        bearer.0.store(Some(Arc::new(token)));
        let expires = crate::convert::timestamp_from(answer.expire_time.as_ref());
        Ok(expires.since(context.clock.now()))
    }
}

/// Runs a future; `None` if the process stops first.
pub(crate) async fn run_until_stop<T>(context: &Context, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        value = future => Some(value),
        () = context.lifecycle.stopping() => None,
    }
}
