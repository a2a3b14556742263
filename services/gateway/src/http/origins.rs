//! Web pages: those of a list may call, with a token and never with cookies; others may not.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::body::flat_error;
use crate::Parts;
use crate::metrics::Refused;

/// How long a browser may remember what is allowed.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Where a web page comes from, as browsers say it: `https://app.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebOrigin(HeaderValue);

/// That is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an origin, as https://app.example.com")]
pub struct OriginError;

impl FromStr for WebOrigin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<WebOrigin, OriginError> {
        let uri: Uri = text.parse().map_err(|_| OriginError)?;
        let host = uri.host().ok_or(OriginError)?.to_ascii_lowercase();
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "https" | "http")).ok_or(OriginError)?;
        let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
        // A path, a name of a user or a capital would never be sent by a browser, and so never fit.
        let is_whole = text == format!("{scheme}://{host}{port}");
        is_whole.then(|| HeaderValue::from_str(text)).and_then(Result::ok).map(WebOrigin).ok_or(OriginError)
    }
}

/// What browsers are told that pages of these origins may do.
pub(super) fn sharing(allowed: &[WebOrigin]) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed.iter().map(|WebOrigin(origin)| origin.clone())))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("last-event-id")])
        .expose_headers([header::RETRY_AFTER])
        .max_age(REMEMBERED)
}

/// Refuses pages of other origins. Whoever sends no Origin is no page.
pub(super) async fn guard(State(parts): State<Parts>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN);
    if origin.is_some_and(|origin| !parts.config.allowed_origins.iter().any(|WebOrigin(allowed)| allowed == origin)) {
        parts.metrics.refused(Refused::Origin);
        return flat_error(StatusCode::FORBIDDEN, "FORBIDDEN", "this web page may not connect");
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in ["https://app.example.com", "http://localhost:3000", "https://[::1]:8443"] {
            assert!(good.parse::<WebOrigin>().is_ok(), "{good}");
        }
        for bad in ["", "*", "app.example.com", "https://app.example.com/", "https://App.example.com", "null"] {
            assert!(bad.parse::<WebOrigin>().is_err(), "{bad}");
        }
        for bad in ["https://u@app.example.com", "https://app.example.com/a", "ftp://a.example.com", "https://"] {
            assert!(bad.parse::<WebOrigin>().is_err(), "{bad}");
        }
    }
}
