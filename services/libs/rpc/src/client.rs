//! Calling other services.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::Uri;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tower::service_fn;
use waystation_proto::auth::v1::IssueServiceTokenRequest;
use waystation_proto::auth::v1::auth_service_client::AuthServiceClient;
use waystation_proto::common::v1::ErrorReason;
use waystation_runtime::{Context, Reach};

use crate::balance::Balanced;
use crate::fault::Fault;

/// A channel that carries this service's token.
pub type Authorized = InterceptedService<Balanced, Bearer>;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Between attempts to log in.
const AGAIN: Duration = Duration::from_millis(500);

/// A connection that does not answer a ping for this long is dead: the process behind it may have been stopped.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_ANSWER: Duration = Duration::from_secs(2);

/// A channel to one process at an address such as `http://127.0.0.1:8781`, connected when it is first used.
///
/// # Errors
/// If the address is no URI.
pub fn channel(address: &str, reach: &Reach) -> Result<Channel, Fault> {
    let target = Target::read(address)?;
    let at = target.authority().parse();
    Ok(match at {
        Ok(at) => target.connect(at, reach),
        Err(_) => target.connect_by_name(reach),
    })
}

/// Where a service is, as it was configured.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    endpoint: Endpoint,
    pub(crate) host: String,
    pub(crate) port: u16,
    secure: bool,
}

impl Target {
    pub(crate) fn read(address: &str) -> Result<Target, Fault> {
        let bad = |problem: &dyn std::fmt::Display| Fault::field("address", problem);
        let uri: Uri = address.parse().map_err(|error| bad(&error))?;
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or_else(|| bad(&"has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        // The connection is made, and made safe, by us: the library is not told of it.
        let plain = address.strip_prefix("https://").map(|rest| format!("http://{rest}"));
        let endpoint = Endpoint::from_shared(plain.unwrap_or_else(|| address.to_owned()));
        Ok(Target { endpoint: settings(endpoint.map_err(|error| bad(&error))?), host, port, secure })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// A channel to one of the addresses behind it; to a service of this process through memory.
    pub(crate) fn connect(&self, address: SocketAddr, reach: &Reach) -> Channel {
        let (target, reach) = (self.clone(), reach.clone());
        self.endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let (target, reach) = (target.clone(), reach.clone());
            async move {
                if let Some(pipe) = reach.neighbours.dial(address).await {
                    return Ok(TokioIo::new(Either::Right(pipe)));
                }
                let stream = TcpStream::connect(address).await?;
                target.secured(stream, &reach).await.map(|stream| TokioIo::new(Either::Left(stream)))
            }
        }))
    }

    fn connect_by_name(&self, reach: &Reach) -> Channel {
        let (target, reach) = (self.clone(), reach.clone());
        self.endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
            let (target, reach) = (target.clone(), reach.clone());
            async move {
                let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
                target.secured(stream, &reach).await.map(TokioIo::new)
            }
        }))
    }

    async fn secured(&self, stream: TcpStream, reach: &Reach) -> std::io::Result<Line> {
        stream.set_nodelay(true)?;
        if !self.secure {
            return Ok(Either::Left(stream));
        }
        let tls = reach.tls.as_ref().ok_or_else(|| std::io::Error::other("https needs the settings of [tls]"))?;
        tls.connect(&self.host, stream).await.map(|stream| Either::Right(Box::new(stream)))
    }
}

/// A connection, plain or secured.
type Line = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// How services connect to each other.
pub(crate) fn settings(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(true)
}

/// Puts the newest token on every call. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bearer {
    token: Arc<ArcSwapOption<MetadataValue<Ascii>>>,
    renew: Arc<Notify>,
}

impl Bearer {
    /// Asks for another token soon: the present one may not be valid any more.
    pub(crate) fn renew(&self) {
        self.renew.notify_one();
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.token.load();
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
    /// Logs in, and again before each token ends or when its key is gone, until the process stops.
    /// Resolves with the first token.
    pub async fn keep(self, auth: Balanced, context: &Context) -> Bearer {
        let bearer = Bearer::default();
        let mut left = self.log_in_until_done(&auth, &bearer, context).await;
        let (keeper, of_task) = (bearer.clone(), context.clone());
        context.lifecycle.spawn(async move {
            let pause = async |left: Duration| {
                tokio::select! {
                    () = tokio::time::sleep(left / 2) => {}
                    () = keeper.renew.notified() => {}
                }
            };
            while run_until_stop(&of_task, pause(left)).await.is_some() {
                left = self.log_in_until_done(&auth, &keeper, &of_task).await;
            }
        });
        bearer
    }

    /// Answers how long the token lives.
    async fn log_in_until_done(&self, auth: &Balanced, bearer: &Bearer, context: &Context) -> Duration {
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

    async fn log_in(&self, auth: &Balanced, bearer: &Bearer, context: &Context) -> Result<Duration, Fault> {
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
        bearer.token.store(Some(Arc::new(token)));
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
