//! A plain HTTP client.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use waystation_standalone::DevFile;

/// One request on a connection of its own. Answers status, headers and body.
pub async fn http(base: &str, request: Request<String>) -> Response<Vec<u8>> {
    let host = base.strip_prefix("http://").unwrap().to_owned();
    let stream = TcpStream::connect(&host).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let (mut parts, body) = request.into_parts();
    parts.headers.insert("host", host.parse().unwrap());
    let request = Request::from_parts(parts, Full::<hyper::body::Bytes>::new(body.into_bytes().into()));
    let exchange = async {
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Response::from_parts(parts, body)
    };
    tokio::select! {
        response = exchange => response,
        ended = connection => panic!("the connection ended first: {ended:?}"),
    }
}

/// One request, if it is answered in time: its status and its body.
pub async fn try_http(base: &str, request: Request<String>, patience: Duration) -> Option<(u16, Value)> {
    let exchange = async {
        let host = base.strip_prefix("http://")?.to_owned();
        let stream = TcpStream::connect(&host).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let (mut parts, body) = request.into_parts();
        parts.headers.insert("host", host.parse().unwrap());
        let request = Request::from_parts(parts, Full::<hyper::body::Bytes>::new(body.into_bytes().into()));
        let answer = async {
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.ok()?.to_bytes();
            Some((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        tokio::select! {
            answer = answer => answer,
            _ = connection => None,
        }
    };
    tokio::time::timeout(patience, exchange).await.ok()?
}

pub fn post(path: &str, body: &Value) -> Request<String> {
    Request::post(path).header("content-type", "application/json").body(body.to_string()).unwrap()
}

/// POST /api/daemon/auth with the key of dev.json.
pub async fn log_in(dev: &DevFile, orchestrator: &str) -> Value {
    let body = json!({"apiKey": dev.api_key, "apiSecret": dev.api_secret, "orchestratorId": orchestrator});
    let response = http(&dev.http_url, post("/api/daemon/auth", &body)).await;
    assert_eq!(response.status(), 200, "{}", String::from_utf8_lossy(response.body()));
    serde_json::from_slice(response.body()).unwrap()
}

/// A token as the older platform signs it.
pub fn hs256(claims: &Value, secret: &str) -> String {
    use base64::Engine as _;
    let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let mac = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(mac))
}

/// A connection that stays for many requests.
pub struct KeptAlive(TcpStream);

impl KeptAlive {
    pub async fn to(base: &str) -> KeptAlive {
        KeptAlive(TcpStream::connect(base.strip_prefix("http://").unwrap()).await.unwrap())
    }

    /// The head of the answer to a GET, and as much of its body as came with it.
    pub async fn ask(&mut self, path: &str, headers: &[(&str, &str)]) -> String {
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 16 * 1024];
        let count = self.0.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    }
}
