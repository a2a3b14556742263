//! Who calls: the bearer is judged once, before any handler runs.

use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use futures_util::future::{Either, Ready, ready};
use http::{Request, Response, header};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};
use waystation_domain::{OrganizationId, policy};
use waystation_proto::common::v1::ErrorReason;
use waystation_runtime::Clock;
use waystation_token::{Claims, Verifier};

use crate::fault::Fault;
use crate::incoming::Peer;

/// Lets through what the policy allows. A tower layer.
#[derive(Clone)]
pub struct Gate {
    verifier: Verifier,
    clock: Clock,
}

/// The verified caller. An extension of the request; of a public method only if it brought a bearer that holds.
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<Claims>);

impl Caller {
    /// The caller of a request.
    ///
    /// # Errors
    /// If there is none.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Caller, Fault> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| Fault::new(ErrorReason::Unauthenticated, "a bearer token is needed"))
    }

    /// Whether it is this internal service.
    pub fn is_service(&self, name: &str) -> bool {
        policy::is_internal(self.0.identity(), &[name])
    }

    /// The organization that the caller means: the token's, unless it may name any.
    ///
    /// # Errors
    /// If the id is malformed, or missing where the token names none; NOT_FOUND for another tenant's.
    pub fn organization(&self, named: &str) -> Result<OrganizationId, Fault> {
        let own = self.0.organization.as_ref();
        if named.is_empty() {
            return own
                .cloned()
                .ok_or_else(|| Fault::field("organization_id", "must not be empty: the token names none"));
        }
        let named: OrganizationId = named.parse().map_err(|error| Fault::field("organization_id", error))?;
        if own == Some(&named) || self.0.is_multi_organization() {
            return Ok(named);
        }
        Err(Fault::not_found("organization"))
    }

    /// The organization that the caller means, or `None` for all of them if the token names none and may see any.
    ///
    /// # Errors
    /// As [`Caller::organization`].
    pub fn any_organization(&self, named: &str) -> Result<Option<OrganizationId>, Fault> {
        if named.is_empty() && self.0.organization.is_none() && self.0.is_multi_organization() {
            return Ok(None);
        }
        self.organization(named).map(Some)
    }
}

impl Gate {
    /// Judges bearers with a verifier.
    pub fn new(verifier: Verifier, clock: Clock) -> Gate {
        Gate { verifier, clock }
    }

    fn judge<B>(&self, request: &mut Request<B>) -> Result<(), Fault> {
        let rule = policy::of_method(request.uri().path())
            .ok_or_else(|| Fault::new(ErrorReason::PermissionDenied, "no such method"))?;
        if rule.is_public() {
            // Nobody needs a bearer here; one that holds says more about the caller.
            if let Ok(claims) = self.bearer(request) {
                request.extensions_mut().insert(Caller(claims));
            }
            return Ok(());
        }
        let claims = self.bearer(request)?;
        rule.check(claims.identity())?;
        request.extensions_mut().insert(Caller(claims));
        Ok(())
    }

    /// Who calls: by its token, or, if it brings none, by its certificate.
    fn bearer<B>(&self, request: &Request<B>) -> Result<Arc<Claims>, Fault> {
        let refused = |message: &str| Fault::new(ErrorReason::Unauthenticated, message);
        let service = request.extensions().get::<Peer>().and_then(|peer| peer.service.as_deref());
        let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            let named = service.map(|service| Arc::new(Claims::of_certificate(service, self.clock.now())));
            return named.ok_or_else(|| refused("a bearer token is needed"));
        };
        if values.next().is_some() {
            return Err(refused("there is more than one authorization header"));
        }
        let token = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| refused("authorization must be `Bearer <token>`"))?;
        let claims = self.verifier.verify(token, self.clock.now())?;
        // Whoever can prove its name cannot use the token of another internal service.
        if service.is_some_and(|service| claims.is_internal() && claims.subject != service) {
            return Err(refused("the token is another service's"));
        }
        Ok(claims)
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;
    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A service behind a [`Gate`].
#[derive(Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B> Service<Request<B>> for Gated<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.gate.judge(&mut request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(fault) => Either::Right(ready(Ok(Status::from(fault).into_http()))),
        }
    }
}
