//! Tokens that others issue: what of them is believed, and how it reads as ours.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use waystation_domain::{OrchestratorId, OrganizationId, Scope, ScopeSet, Timestamp, TokenClass};

use crate::claims::Claims;
use crate::keys::{KeySetError, PublicKey, read_jwks};

/// Longest life that any token is given: what is revoked is listed for so long.
pub const LONGEST_LIFE: Duration = Duration::from_secs(31 * 24 * 3600);

/// Whose tokens an issuer makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuedFor {
    /// One organization's, whatever they say: the identity provider of one tenant.
    Organization(OrganizationId),
    /// The organization's that this claim names: the platform itself, trusted for every tenant.
    Claim(String),
}

/// The most that a person's token may have: they watch, and write to channels and orchestrators.
pub const USER_SCOPES: [Scope; 2] = [Scope::EventsRead, Scope::MessagesWrite];

/// Somebody else who says who daemons are, or people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedIssuer {
    /// `iss` of its tokens.
    pub issuer: String,
    /// What `aud` must name.
    pub audience: String,
    /// Whose tokens they are.
    pub organization: IssuedFor,
    /// The claim that names the orchestrator, as `sub`.
    pub orchestrator_claim: String,
    /// Whether a token without that claim is a person's. If not, it is none.
    pub users: bool,
    /// The claim that names scopes, in a list or separated by spaces; `None`: all of `scopes`.
    pub scopes_claim: Option<String>,
    /// The most that its tokens may have.
    pub scopes: ScopeSet,
    /// Its public keys (RFC 7517): Ed25519, P-256, or RSA of 2048 bits and more. Others in it are ignored.
    pub jwks: Vec<u8>,
}

/// An issuer whose keys have been read.
pub(crate) struct Issuer {
    trusted: TrustedIssuer,
    keys: HashMap<String, PublicKey>,
}

/// A claim by its name, or by a JSON pointer if that begins with a slash.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let Some(pointer) = name.strip_prefix('/') else { return claims.get(name) };
    let (first, rest) =
        pointer.split_once('/').map_or((pointer, String::new()), |(first, rest)| (first, format!("/{rest}")));
    claims.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(&rest)
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claim(claims, name)?.as_str()
}

/// A NumericDate (RFC 7519): seconds, perhaps with a fraction.
fn date(claims: &Map<String, Value>, name: &str) -> Option<Timestamp> {
    let seconds = claims.get(name)?.as_f64().filter(|seconds| (0.0..1e11).contains(seconds))?;
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    Some(Timestamp::default().after(since))
}

/// An id of ours for something of theirs. It cannot be taken for one that we made: those have no such beginning.
fn id_of(parts: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part.as_bytes());
    }
    format!("x-{}", URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..24]))
}

impl Issuer {
    pub(crate) fn new(trusted: TrustedIssuer) -> Result<Issuer, KeySetError> {
        let (keys, refused) = read_jwks(&trusted.jwks)?;
        if keys.is_empty() {
            let problem = format!("{:?} has no key that can be used; refused: {refused:?}", trusted.issuer);
            return Err(KeySetError::Malformed(problem));
        }
        Ok(Issuer { trusted, keys })
    }

    pub(crate) fn key(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.get(kid)
    }

    /// What claims of a token whose signature holds say; `early`: nothing may begin after it.
    pub(crate) fn claims(&self, claims: &Map<String, Value>, token: &str, early: Timestamp) -> Option<Claims> {
        let of = &self.trusted;
        let for_us = match claims.get("aud")? {
            Value::String(audience) => *audience == of.audience,
            Value::Array(all) => all.iter().any(|audience| audience.as_str() == Some(&of.audience)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        };
        let begins = if claims.contains_key("nbf") { date(claims, "nbf")? } else { Timestamp::default() };
        let (issued, expires) = (date(claims, "iat")?, date(claims, "exp")?);
        let ours = claims.get("iss")?.as_str()? == of.issuer && for_us && begins <= early && issued <= early;
        if !ours {
            return None;
        }
        let organization = match &of.organization {
            IssuedFor::Organization(organization) => organization.clone(),
            IssuedFor::Claim(name) => text(claims, name)?.parse().ok()?,
        };
        let subject = text(claims, "sub")?;
        let orchestrator: Option<OrchestratorId> = match claim(claims, &of.orchestrator_claim) {
            Some(named) => Some(named.as_str()?.parse().ok()?),
            None if of.users => None,
            None => return None,
        };
        let (class, most) = match &orchestrator {
            Some(_) => (TokenClass::Access, of.scopes),
            None => (TokenClass::User, USER_SCOPES.into_iter().collect::<ScopeSet>().intersection(of.scopes)),
        };
        // All tokens of one subject are one login, so that a connection can take the next one.
        let whom = orchestrator.as_ref().map_or("", OrchestratorId::as_str);
        let login = id_of(&[&of.issuer, subject, organization.as_str(), whom]);
        let id = match text(claims, "jti") {
            Some(jti) => id_of(&[&of.issuer, jti]),
            None => id_of(&[token]),
        };
        Some(Claims {
            id: id.parse().ok()?,
            class,
            subject: subject.to_owned(),
            organization: Some(organization),
            orchestrator,
            daemon: None,
            login: Some(login.parse().ok()?),
            key: None,
            scopes: self.scopes(claims)?.intersection(most),
            networks: Vec::new(),
            signer: None,
            issued,
            expires: expires.min(issued.after(LONGEST_LIFE)),
        })
    }

    fn scopes(&self, claims: &Map<String, Value>) -> Option<ScopeSet> {
        let Some(name) = &self.trusted.scopes_claim else { return Some(self.trusted.scopes) };
        let named = match claim(claims, name)? {
            Value::String(text) => ScopeSet::from_known(text.split_ascii_whitespace()),
            Value::Array(all) => ScopeSet::from_known(all.iter().filter_map(Value::as_str)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
        };
        Some(named.intersection(self.trusted.scopes))
    }
}
