//! Refresh tokens: the login, a number, and a MAC over both. The store keeps only the number that is
//! valid now, so the same successor can be given again to a client whose answer was lost.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use waystation_domain::LoginId;

use crate::Pepper;

/// A refresh token.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// Whose.
    pub login: LoginId,
    /// Each is used once.
    pub number: u32,
}

/// The text is no refresh token of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a refresh token")]
pub struct MalformedRefreshToken;

impl RefreshToken {
    /// As the client gets it.
    pub fn expose(&self, pepper: &Pepper) -> String {
        format!("wsr_{}.{}.{}", self.number, URL_SAFE_NO_PAD.encode(self.mac(pepper)), self.login)
    }

    /// Reads what [`RefreshToken::expose`] wrote.
    ///
    /// # Errors
    /// If the form or the MAC is wrong.
    pub fn parse(text: &str, pepper: &Pepper) -> Result<RefreshToken, MalformedRefreshToken> {
        let mut parts = text.strip_prefix("wsr_").ok_or(MalformedRefreshToken)?.splitn(3, '.');
        let mut part = || parts.next().ok_or(MalformedRefreshToken);
        let (number, mac, login) = (part()?, part()?, part()?);
        let token = RefreshToken {
            login: login.parse().map_err(|_| MalformedRefreshToken)?,
            number: number.parse().map_err(|_| MalformedRefreshToken)?,
        };
        let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| MalformedRefreshToken)?;
        if bool::from(token.mac(pepper).ct_eq(&mac)) { Ok(token) } else { Err(MalformedRefreshToken) }
    }

    fn mac(&self, pepper: &Pepper) -> [u8; 32] {
        pepper.mac("refresh", &[self.login.as_str().as_bytes(), &self.number.to_le_bytes()])
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefreshToken({})", self.login)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_tokens_are_read() {
        let pepper = Pepper::new([1; 32]);
        let token = RefreshToken { login: "l.1".parse().unwrap(), number: 7 };
        let text = token.expose(&pepper);
        assert_eq!(RefreshToken::parse(&text, &pepper), Ok(token));
        let other_number = text.replacen("wsr_7", "wsr_8", 1);
        for bad in ["", "wsr_", "wsr_7..l", &other_number, &text[..text.len() - 1]] {
            assert!(RefreshToken::parse(bad, &pepper).is_err(), "{bad}");
        }
        assert!(RefreshToken::parse(&text, &Pepper::new([2; 32])).is_err());
    }
}
