//! A collector of traces as operators run it, and what it hands on.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};
use waystation_test_redis::free_port;

use crate::{eventually, wheel};

/// Carries Rotel.
const WHEEL: &str = "rotel==0.0.1a15";

/// A span, and the service that told of it.
#[derive(Clone, Debug)]
pub struct Told {
    pub service: String,
    pub span: Span,
}

impl Told {
    /// The id of the span that it belongs to.
    pub fn parent(&self) -> &[u8] {
        &self.span.parent_span_id
    }

    /// An attribute that is a text.
    pub fn text(&self, key: &str) -> Option<&str> {
        let of_key = self.span.attributes.iter().find(|attribute| attribute.key == key)?;
        let Some(Value::StringValue(text)) = &of_key.value.as_ref()?.value else { return None };
        Some(text)
    }
}

/// What has been handed on. Cheap to clone.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Told>>>);

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_resource in request.into_inner().resource_spans {
            let name = Told { service: String::new(), span: Span::default() };
            let attributes = of_resource.resource.unwrap_or_default().attributes;
            let resource = Told { span: Span { attributes, ..Span::default() }, ..name };
            let service = resource.text("service.name").unwrap_or_default().to_owned();
            let found = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(found.map(|span| Told { service: service.clone(), span }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Rotel, which hands on what it gets. Killed when dropped.
pub struct Collector {
    /// Where spans go in.
    pub endpoint: String,
    next: String,
    spans: Spans,
    child: Option<Child>,
    _serving: JoinSet<()>,
}

impl Collector {
    /// Starts it, and waits until it takes spans.
    pub async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let next = format!("http://{}", listener.local_addr().unwrap());
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone()).accept_compressed(CompressionEncoding::Gzip);
        let server = tonic::transport::Server::builder().add_service(service);
        let mut serving = JoinSet::new();
        serving.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        let endpoint = format!("http://127.0.0.1:{}", free_port());
        let mut collector = Collector { endpoint, next, spans, child: None, _serving: serving };
        collector.resume().await;
        collector
    }

    /// Starts it again, at the same address.
    pub async fn resume(&mut self) {
        let program = tokio::task::spawn_blocking(|| wheel::program(WHEEL, "rotel-agent")).await.unwrap();
        let address = self.endpoint.trim_start_matches("http://").to_owned();
        let child = Command::new(program)
            .args(["start", "--otlp-grpc-endpoint", &address])
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", free_port())])
            .args(["--exporter", "otlp", "--otlp-exporter-endpoint", &self.next, "--batch-timeout", "100ms"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.unwrap());
        eventually("the collector listens", async || tokio::net::TcpStream::connect(&address).await.ok()).await;
    }

    /// kill -9
    pub async fn kill(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    /// Spans of a trace, in the order of their beginnings.
    pub fn of(&self, trace: u128) -> Vec<Told> {
        let spans = self.spans.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Told> =
            spans.iter().filter(|told| told.span.trace_id == trace.to_be_bytes()).cloned().collect();
        found.sort_by_key(|told| told.span.start_time_unix_nano);
        found
    }
}
