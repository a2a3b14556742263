//! The admin page of a service: liveness, readiness, metrics.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use waystation_telemetry::metrics::{self, Format, Registry};

use crate::Context;
use crate::vitals::Vitals;

/// Whether a service wants traffic. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<watch::Sender<bool>>);

impl Readiness {
    /// Says whether the service wants traffic.
    pub fn set(&self, ready: bool) {
        self.0.send_if_modified(|known| std::mem::replace(known, ready) != ready);
    }

    /// Whether it does.
    pub fn is_ready(&self) -> bool {
        *self.0.borrow()
    }

    /// Follows it.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

/// What the admin page shows.
#[derive(Clone)]
struct Admin {
    context: Context,
    vitals: Vitals,
    registry: Arc<Registry>,
}

impl Context {
    /// Serves the admin page until the service stops.
    pub fn serve_admin(&self, listener: TcpListener, mut registry: Registry) {
        let stop = self.lifecycle.clone();
        let vitals = Vitals::register(&mut registry);
        self.tracer.register(&mut registry);
        let admin = Admin { context: self.clone(), vitals, registry: Arc::new(registry) };
        self.lifecycle.spawn_vital("admin", async move {
            let serving = axum::serve(listener, admin.routes());
            // Keep-alive connections of scrapers do not hold up the stop.
            tokio::select! {
                ended = serving.into_future() => ended,
                () = stop.stopping() => Ok::<(), io::Error>(()),
            }
        });
    }
}

impl Admin {
    fn routes(self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(show_metrics))
            .route("/debug/log", get(show_filter).put(change_filter))
            .with_state(self)
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.context.readiness.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn show_filter() -> String {
    waystation_telemetry::filter().unwrap_or_default() + "\n"
}

/// Until the process ends; what it starts with is `RUST_LOG`.
async fn change_filter(directives: String) -> Result<StatusCode, (StatusCode, String)> {
    let changed = waystation_telemetry::set_filter(directives.trim());
    changed.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    tracing::info!(filter = directives.trim(), "what is logged was changed");
    Ok(StatusCode::NO_CONTENT)
}

async fn show_metrics(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::wanted(accept);
    admin.vitals.look(&admin.context);
    ([(header::CONTENT_TYPE, format.content_type())], metrics::encode(&admin.registry, format))
}
