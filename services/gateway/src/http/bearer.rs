//! Who calls by REST, and whether it may.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use secrecy::SecretString;
use waystation_domain::policy::{RestCall, Rule};
use waystation_domain::{OrganizationId, allows_address};
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
        Caller::judge_by(door, headers, Caller::bearer(headers)?, call.rule())
    }

    /// The token of a request.
    fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or_else(|| unauthorized("a bearer token is needed"))?;
        if values.next().is_some() {
            return Err(unauthorized("there is more than one authorization header"));
        }
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        token.ok_or_else(|| unauthorized("authorization must be `Bearer <token>`"))
    }

    /// Judges a request that may bring its token among the subprotocols of a WebSocket, as browsers must.
    pub(super) fn judge_socket(
        door: &Door,
        headers: &HeaderMap,
        offered: Option<&str>,
        rule: Rule,
    ) -> Result<Caller, Refusal> {
        let token = match offered {
            Some(token) => token,
            None => Caller::bearer(headers)?,
        };
        Caller::judge_by(door, headers, token, rule)
    }

    fn judge_by(door: &Door, headers: &HeaderMap, token: &str, rule: Rule) -> Result<Caller, Refusal> {
        let address = door.client_address(headers);
        let claims = door.parts.verifier.verify(token, door.parts.context.clock.now());
        let claims = claims.map_err(|error| unauthorized(&error.to_string()))?;
        if !allows_address(&claims.networks, address) {
            return Err(unauthorized("the token may not be used from this address"));
        }
        rule.check(claims.identity())
            .map_err(|forbidden| flat_error(StatusCode::FORBIDDEN, "INSUFFICIENT_SCOPE", &forbidden.to_string()))?;
        Ok(Caller { claims, token: SecretString::from(token) })
    }

    /// Whose things it is about.
    pub(super) fn organization(&self) -> Result<OrganizationId, Refusal> {
        self.claims.organization.clone().ok_or_else(|| unauthorized("the token is of no organization"))
    }

    /// Whose token it is, if it is a daemon's.
    pub(super) fn daemon(&self) -> Result<DaemonClaims, Refusal> {
        self.claims.as_daemon().ok_or_else(|| unauthorized("the token is not a daemon's"))
    }
}
