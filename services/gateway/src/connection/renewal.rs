//! A new token on an open socket.

use std::sync::Arc;

use waystation_domain::Scope;
use waystation_token::{Claims, TokenError};

use crate::Parts;

/// What a new token must have in common with the one it replaces; else the client connects anew.
pub(super) fn judge(parts: &Parts, present: &Claims, token: &str) -> Result<Arc<Claims>, &'static str> {
    let verified = parts.verifier.verify(token, parts.context.clock.now());
    let claims = verified.map_err(|error| match error {
        TokenError::Expired => "the token has expired",
        TokenError::Revoked => "the token has been revoked",
        TokenError::Invalid => "the token is not valid",
    })?;
    if claims.as_daemon().is_none() || claims.as_daemon() != present.as_daemon() {
        return Err("the token is not of the login of this connection");
    }
    let reads_mail = |claims: &Claims| claims.scopes.allows(Scope::MessagesRead);
    if reads_mail(&claims) != reads_mail(present) {
        return Err("the token differs in messages:read: connect anew");
    }
    Ok(claims)
}
