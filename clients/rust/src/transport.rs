//! Sockets: TCP, TLS, WebSocket, and the one HTTP request of a login.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::either::Either;

/// The path that daemons connect to.
const WEBSOCKET_PATH: &str = "/daemon/ws";
/// Frames have at most 256 KiB; a newer gateway may allow more.
const LARGEST_FRAME: usize = 4 << 20;
/// Enough for many messages in one read.
const READ_BUFFER: usize = 32 << 10;
/// An answer to a login is far smaller.
const LARGEST_ANSWER: usize = 64 << 10;

pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;
pub(crate) type Socket = WebSocketStream<Stream>;

/// Where the gateway is.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
    path: String,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
}

/// The answer to a request.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Endpoint {
    /// From an address as `wss://gateway.example.com` or `ws://127.0.0.1:8780/daemon/ws`; `make_tls` is asked if it needs
    /// TLS.
    pub(crate) fn new(
        url: &str,
        timeout: Duration,
        make_tls: impl FnOnce() -> Result<Arc<ClientConfig>, String>,
    ) -> Result<Endpoint, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
        let host = uri.host().ok_or("has no host")?.to_owned();
        let (default_port, encrypted) = match uri.scheme_str() {
            Some("ws" | "http") => (80, false),
            Some("wss" | "https") => (443, true),
            _ => return Err("must begin with ws:// or wss://".into()),
        };
        let path = Some(uri.path()).filter(|path| path.len() > 1).unwrap_or(WEBSOCKET_PATH).to_owned();
        let tls = encrypted.then(make_tls).transpose()?;
        Ok(Endpoint { host, port: uri.port_u16().unwrap_or(default_port), path, tls, timeout })
    }

    async fn open(&self) -> Result<Stream, String> {
        // An address in brackets is an IPv6 one.
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, self.port)).await.map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else { return Ok(Either::Left(tcp)) };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let tls = TlsConnector::from(tls.clone()).connect(name, tcp).await.map_err(|error| error.to_string())?;
        Ok(Either::Right(tls))
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let late = |_| format!("no answer of {}:{} within {:?}", self.host, self.port, self.timeout);
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    /// Opens a WebSocket.
    pub(crate) async fn connect(&self) -> Result<Socket, String> {
        self.in_time(async {
            let scheme = if self.tls.is_some() { "wss" } else { "ws" };
            let url = format!("{scheme}://{}:{}{}", self.host, self.port, self.path);
            let request = url.into_client_request().map_err(|error| error.to_string())?;
            let config = WebSocketConfig::default()
                .read_buffer_size(READ_BUFFER)
                .max_message_size(Some(LARGEST_FRAME))
                .max_frame_size(Some(LARGEST_FRAME));
            let stream = self.open().await?;
            let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
            opened.map(|(socket, _)| socket).map_err(|error| error.to_string())
        })
        .await
    }

    /// Posts JSON.
    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Result<Exchange, String> {
        self.in_time(async {
            let host =
                HeaderValue::from_str(&format!("{}:{}", self.host, self.port)).map_err(|error| error.to_string())?;
            let request = Request::post(path)
                .header(header::HOST, host)
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONNECTION, "close")
                .body(Full::new(Bytes::from(body.to_string())))
                .map_err(|error| error.to_string())?;
            let stream = TokioIo::new(self.open().await?);
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
            let exchange = async move {
                let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
                let status = response.status().as_u16();
                let body = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
                Ok(Exchange { status, body: body.map_err(|error| error.to_string())?.to_bytes() })
            };
            // The connection ends by itself once the exchange is over.
            futures_util::future::join(exchange, connection).await.0
        })
        .await
    }
}

/// TLS as the operating system trusts, with what else the program trusts.
pub(crate) fn system_tls(more: &[rustls::pki_types::CertificateDer<'static>]) -> Result<Arc<ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    for certificate in more {
        roots.add(certificate.clone()).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate authority is trusted: the system has none, and none was given".into());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str) -> Result<Endpoint, String> {
        Endpoint::new(url, Duration::from_secs(1), || Err("TLS".into()))
    }

    #[test]
    fn addresses_are_read() {
        let read = |url| endpoint(url).map(|found| (found.host, found.port, found.path));
        let expected = |host: &str, port, path: &str| Ok((host.to_owned(), port, path.to_owned()));
        assert_eq!(read("ws://gateway:8780"), expected("gateway", 8780, "/daemon/ws"));
        assert_eq!(read("ws://gateway/"), expected("gateway", 80, "/daemon/ws"));
        assert_eq!(read("http://127.0.0.1:1/api/daemon/ws"), expected("127.0.0.1", 1, "/api/daemon/ws"));
        assert_eq!(read("wss://gateway"), Err("TLS".into()));
        for wrong in ["gateway", "ftp://gateway", "ws://", "ws://a b"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
