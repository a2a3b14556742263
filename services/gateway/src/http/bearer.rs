//! Who calls by REST, and whether it may.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use secrecy::SecretString;
use waystation_domain::allows_address;
use waystation_domain::policy::RestCall;
use waystation_token::{Claims, DaemonClaims};

use super::Door;
use super::body::{Refusal, flat_error};

/// A caller whose token holds and allows the call.
pub(super) struct Caller {
    pub(super) claims: Arc<Claims>,
    /// For services that verify it themselves.
    pub(super) token: SecretString,
}

fn unauthorized(message: &str) -> Refusal {
    flat_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message).into()
}

impl Caller {
    /// Judges the bearer of a request by the row of the call.
    pub(super) fn judge(door: &Door, headers: &HeaderMap, call: RestCall) -> Result<Caller, Refusal> {
        let address = door.client_address(headers);
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or_else(|| unauthorized("a bearer token is needed"))?;
        if values.next().is_some() {
            return Err(unauthorized("there is more than one authorization header"));
        }
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| unauthorized("authorization must be `Bearer <token>`"))?;
        let claims = door.parts.verifier.verify(token, door.parts.context.clock.now());
        let claims = claims.map_err(|error| unauthorized(&error.to_string()))?;
        if !allows_address(&claims.networks, address) {
            return Err(unauthorized("the token may not be used from this address"));
        }
        call.rule()
            .check(claims.identity())
            .map_err(|forbidden| flat_error(StatusCode::FORBIDDEN, "INSUFFICIENT_SCOPE", &forbidden.to_string()))?;
        Ok(Caller { claims, token: SecretString::from(token) })
    }

    /// Whose token it is, if it is a daemon's.
    pub(super) fn daemon(&self) -> Result<DaemonClaims, Refusal> {
        self.claims.as_daemon().ok_or_else(|| unauthorized("the token is not a daemon's"))
    }
}
