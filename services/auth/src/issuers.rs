//! Other issuers whose tokens are accepted from daemons: where their keys come from, and that they stay fresh.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use waystation_rpc::Fault;
use waystation_token::{IssuedFor, KeySet, TrustedIssuer};

use crate::Authority;

/// How often keys are read again.
const EVERY: Duration = Duration::from_secs(60);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// How long an issuer may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest JWK Set, in bytes.
const MAX_JWKS: usize = 256 * 1024;

/// Where the keys of an issuer are.
#[derive(Clone, Debug)]
pub enum Keys {
    /// In a file.
    File(PathBuf),
    /// At an address, `https://` or `http://`.
    Url(http::Uri),
}

/// An issuer to trust.
#[derive(Clone, Debug)]
pub struct IssuerConfig {
    /// What it is trusted with; its keys are read from `keys`.
    pub trusted: TrustedIssuer,
    /// Where its keys are.
    pub keys: Keys,
}

/// Reads the keys of all issuers, and again every minute until the process stops. An issuer whose address does not
/// answer is not trusted until it does; what was read before stays in force.
///
/// # Errors
/// If a file cannot be read, or its keys cannot be used.
pub(crate) async fn keep(authority: &Authority, issuers: Vec<IssuerConfig>) -> Result<(), Fault> {
    if issuers.is_empty() {
        return Ok(());
    }
    let mut known: Vec<Option<TrustedIssuer>> = Vec::new();
    for issuer in &issuers {
        let read = read(issuer).await;
        known.push(match (&issuer.keys, read) {
            (_, Ok(read)) => Some(read),
            (Keys::File(_), Err(fault)) => return Err(fault),
            (Keys::Url(_), Err(fault)) => {
                tracing::warn!(issuer = issuer.trusted.issuer, "its keys cannot be read: {fault}");
                None
            }
        });
    }
    authority.trust(known.iter().flatten().cloned().collect())?;
    let authority = authority.clone();
    let lifecycle = authority.context().lifecycle.clone();
    lifecycle.clone().spawn(async move {
        loop {
            let pause = if known.iter().all(Option::is_some) { EVERY } else { AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = lifecycle.stopping() => return,
            }
            for (issuer, known) in issuers.iter().zip(&mut known) {
                match read(issuer).await {
                    Ok(read) => *known = Some(read),
                    Err(fault) => tracing::warn!(issuer = issuer.trusted.issuer, "its keys cannot be read: {fault}"),
                }
            }
            if let Err(fault) = authority.trust(known.iter().flatten().cloned().collect()) {
                tracing::error!("the keys of issuers cannot be used: {fault}");
            }
        }
    });
    Ok(())
}

/// The issuer with its keys of now, if they can be used.
async fn read(issuer: &IssuerConfig) -> Result<TrustedIssuer, Fault> {
    let jwks = match &issuer.keys {
        Keys::File(path) => {
            let read = tokio::fs::read(path).await;
            read.map_err(|error| Fault::field("jwks_file", format!("{}: {error}", path.display())))?
        }
        Keys::Url(url) => {
            let fetched = tokio::time::timeout(ANSWER, fetch(url.clone())).await;
            fetched.map_err(|_| Fault::unavailable(format!("{url} does not answer")))??
        }
    };
    let trusted = TrustedIssuer { jwks, ..issuer.trusted.clone() };
    KeySet::default().with_issuer(trusted.clone()).map_err(|error| Fault::field("issuers", error))?;
    Ok(trusted)
}

async fn fetch(url: http::Uri) -> Result<Vec<u8>, Fault> {
    let failed = |error: &dyn std::fmt::Display| Fault::unavailable(format!("{url}: {error}"));
    let connector = HttpsConnectorBuilder::new().with_native_roots().map_err(|error| failed(&error))?;
    let connector = connector.https_or_http().enable_http1().build();
    let client: Client<_, Empty<hyper::body::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let answer = client.get(url.clone()).await.map_err(|error| failed(&error))?;
    if answer.status() != http::StatusCode::OK {
        return Err(failed(&answer.status()));
    }
    let body = Limited::new(answer.into_body(), MAX_JWKS).collect().await.map_err(|error| failed(&error))?;
    Ok(body.to_bytes().to_vec())
}

/// As verifiers are told.
pub(crate) fn to_wire(trusted: &TrustedIssuer) -> waystation_proto::auth::v1::TrustedIssuer {
    let (organization_id, organization_claim) = match &trusted.organization {
        IssuedFor::Organization(organization) => (organization.to_string(), String::new()),
        IssuedFor::Claim(claim) => (String::new(), claim.clone()),
    };
    waystation_proto::auth::v1::TrustedIssuer {
        issuer: trusted.issuer.clone(),
        audience: trusted.audience.clone(),
        organization_id,
        organization_claim,
        orchestrator_claim: trusted.orchestrator_claim.clone(),
        users: trusted.users,
        scopes_claim: trusted.scopes_claim.clone().unwrap_or_default(),
        scopes: trusted.scopes.to_strings(),
        jwks: trusted.jwks.clone().into(),
    }
}
