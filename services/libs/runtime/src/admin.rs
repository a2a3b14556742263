//! The admin page of a service: liveness, readiness, metrics.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use waystation_telemetry::metrics::{self, Registry};

use crate::Lifecycle;

/// Whether a service wants traffic. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether the service wants traffic.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it does.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the admin page shows.
#[derive(Clone)]
pub struct Admin {
    /// Judged by `/readyz`.
    pub readiness: Readiness,
    /// Shown by `/metrics`.
    pub registry: Arc<Registry>,
}

impl Admin {
    /// Serves the page until the service stops.
    pub fn serve(self, listener: TcpListener, lifecycle: &Lifecycle) {
        let stop = lifecycle.clone();
        lifecycle.spawn_vital("admin", async move {
            let serving = axum::serve(listener, self.routes());
            // Keep-alive connections of scrapers do not hold up the stop.
            tokio::select! {
                ended = serving.into_future() => ended,
                () = stop.stopping() => Ok::<(), io::Error>(()),
            }
        });
    }

    fn routes(self) -> Router {
        Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(show_metrics))
            .with_state(self)
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.readiness.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
    }
}

async fn show_metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::encode(&admin.registry))
}
