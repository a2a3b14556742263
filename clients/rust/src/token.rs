//! Where access tokens come from.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use waystation_domain::Timestamp;

use crate::transport::{Endpoint, Exchange};

/// An access token.
#[derive(Clone)]
pub struct Token {
    /// A JWT.
    pub access_token: String,
    /// When it ends, by the clock of its issuer. `None`: it is used until it is refused.
    pub expires: Option<Timestamp>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

impl Token {
    /// A JWT, whose claim `exp` says when it ends. It is not verified: that is the gateway's part.
    pub fn of_jwt(access_token: impl Into<String>) -> Token {
        #[derive(Deserialize)]
        struct Claims {
            exp: u64,
        }
        let access_token = access_token.into();
        let claims = access_token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims = claims.and_then(|json| serde_json::from_slice::<Claims>(&json).ok());
        let expires = claims.map(|claims| Timestamp::from_millis(claims.exp.saturating_mul(1_000)));
        Token { access_token, expires }
    }
}

/// Why a token is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// There is none yet.
    First,
    /// The present one ends soon.
    Renewal,
    /// The gateway refused the present one, or it has ended: the same again would not do.
    Refused,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There may be one later.
    #[error("{0}")]
    ForNow(String),
    /// There will be none until somebody changes something.
    #[error("{0}")]
    ForGood(String),
}

/// What a token source answers with.
pub type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<Token, TokenError>> + Send + 'a>>;

/// Gives access tokens.
pub trait TokenSource: Send + Sync {
    /// A token, as good as there is one.
    fn token(&self, occasion: Occasion) -> TokenFuture<'_>;
}

/// Calls a function for each token.
pub(crate) struct Callback<F>(pub(crate) F);

impl<F, Fut> TokenSource for Callback<F>
where
    F: Fn(Occasion) -> Fut + Send + Sync,
    Fut: Future<Output = Result<Token, TokenError>> + Send + 'static,
{
    fn token(&self, occasion: Occasion) -> TokenFuture<'_> {
        Box::pin((self.0)(occasion))
    }
}

/// Logs in with an API key, and keeps the login alive with its refresh tokens.
pub(crate) struct Login {
    endpoint: Endpoint,
    body: serde_json::Value,
    refresh: Mutex<Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    access_token: String,
    refresh_token: Option<String>,
    expires_at: Option<String>,
}

impl Login {
    pub(crate) fn new(endpoint: Endpoint, body: serde_json::Value) -> Login {
        Login { endpoint, body, refresh: Mutex::new(None) }
    }

    fn take(&self, answer: &[u8]) -> Result<Token, TokenError> {
        let answer: LoggedIn = serde_json::from_slice(answer)
            .map_err(|error| TokenError::ForNow(format!("the answer to the login cannot be read: {error}")))?;
        *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = answer.refresh_token;
        let expires = answer.expires_at.and_then(|time| time.parse().ok());
        Ok(Token { access_token: answer.access_token, expires })
    }

    async fn refreshed(&self, refresh: String) -> Option<Token> {
        let body = serde_json::json!({"refreshToken": refresh});
        let Exchange { status, body } = self.endpoint.post("/api/daemon/auth/refresh", &body).await.ok()?;
        (status == 200).then(|| self.take(&body).ok()).flatten()
    }

    async fn logged_in(&self) -> Result<Token, TokenError> {
        let answer = self.endpoint.post("/api/daemon/auth", &self.body).await.map_err(TokenError::ForNow)?;
        let Exchange { status, body } = answer;
        let said = || String::from_utf8_lossy(&body).chars().take(256).collect::<String>();
        match status {
            200 => self.take(&body),
            // Wrong credentials do not become right by themselves.
            400 | 401 | 403 | 404 => Err(TokenError::ForGood(format!("the login was refused: {status} {}", said()))),
            _ => Err(TokenError::ForNow(format!("the login was answered {status} {}", said()))),
        }
    }
}

impl TokenSource for Login {
    fn token(&self, occasion: Occasion) -> TokenFuture<'_> {
        let refresh = self.refresh.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A refused token may belong to a login that is over.
        let refresh = refresh.filter(|_| occasion != Occasion::Refused);
        Box::pin(async move {
            if let Some(refresh) = refresh
                && let Some(token) = self.refreshed(refresh).await
            {
                return Ok(token);
            }
            self.logged_in().await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_says_when_it_ends() {
        let claims = URL_SAFE_NO_PAD.encode(r#"{"exp":1767225600,"sub":"o"}"#);
        let token = Token::of_jwt(format!("e30.{claims}.sig"));
        assert_eq!(token.expires, Some(Timestamp::from_millis(1_767_225_600_000)));
        assert_eq!(Token::of_jwt("opaque").expires, None);
        assert!(!format!("{token:?}").contains("e30"), "tokens are not shown");
    }
}
