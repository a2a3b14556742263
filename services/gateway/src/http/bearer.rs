//! Who calls by REST, and whether it may.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use secrecy::SecretString;
use waystation_domain::policy::{RestCall, Rule};
use waystation_domain::{OrganizationId, allows_address};
use waystation_token::{Claims, DaemonClaims};

use super::Door;
use super::body::{Refusal, flat_error, invalid};
use crate::connection::conductor::Watcher;

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

    /// Somebody who has shown nothing, where anybody may watch.
    pub(super) fn anybody(door: &Door, organization: &OrganizationId) -> Result<Caller, Refusal> {
        let clock = door.parts.context.clock;
        let id = door.parts.context.entropy.id().parse().map_err(|_| invalid("no id could be made"))?;
        let claims = Claims::of_anybody(id, organization.clone(), clock.now());
        Ok(Caller { claims: Arc::new(claims), token: SecretString::default() })
    }

    /// Takes a place among the clients that only watch.
    pub(super) fn watch(self, door: &Door) -> Result<Watcher, Refusal> {
        let (parts, organization) = (&door.parts, self.organization()?);
        let client = parts.context.entropy.id().parse().map_err(|_| invalid("no id could be made"))?;
        let most = parts.config.limits.conductor_clients;
        let place = parts.conductors.admit(client, organization.clone(), parts.context.clock.now(), most);
        let place = place.ok_or_else(|| {
            let full = flat_error(StatusCode::SERVICE_UNAVAILABLE, "OVERLOADED", "too many clients are connected");
            Refusal::from(full).later(Duration::from_secs(5))
        })?;
        Ok(Watcher { organization, claims: self.claims, token: self.token, place })
    }

    /// Whose things it is about.
    pub(super) fn organization(&self) -> Result<OrganizationId, Refusal> {
        self.claims.organization.clone().ok_or_else(|| unauthorized("the token is of no organization"))
    }

    /// Who writes: an orchestrator or a person.
    pub(super) fn author(&self) -> &str {
        self.claims.orchestrator.as_ref().map_or(&self.claims.subject, |orchestrator| orchestrator.as_str())
    }

    /// Whose token it is, if it is a daemon's.
    pub(super) fn daemon(&self) -> Result<DaemonClaims, Refusal> {
        self.claims.as_daemon().ok_or_else(|| unauthorized("the token is not a daemon's"))
    }
}
