//! API keys: `wsk_<id>_<secret><checksum>`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;
use waystation_domain::ApiKeyId;

use crate::Pepper;

/// Characters of the secret: 256 bits in base64url.
const SECRET_LEN: usize = 43;
/// Characters of the checksum, which finds typing errors without asking the store.
const CHECKSUM_LEN: usize = 8;

/// An API key as its owner has it.
pub struct ApiKeySecret {
    id: ApiKeyId,
    secret: String,
}

/// The text is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an API key")]
pub struct MalformedApiKey;

impl ApiKeySecret {
    /// A new key from 256 random bits.
    pub fn new(id: ApiKeyId, random: [u8; 32]) -> ApiKeySecret {
        ApiKeySecret { id, secret: URL_SAFE_NO_PAD.encode(random) }
    }

    /// Reads what [`ApiKeySecret::expose`] wrote.
    ///
    /// # Errors
    /// If the form or the checksum is wrong.
    pub fn parse(text: &str) -> Result<ApiKeySecret, MalformedApiKey> {
        if !text.is_ascii() || text.len() > 200 {
            return Err(MalformedApiKey);
        }
        let rest = text.strip_prefix("wsk_").ok_or(MalformedApiKey)?;
        let tail = rest.len().checked_sub(SECRET_LEN + CHECKSUM_LEN).ok_or(MalformedApiKey)?;
        let (id, tail) = rest.split_at(tail);
        let id = id.strip_suffix('_').ok_or(MalformedApiKey)?;
        let (secret, checksum) = tail.split_at(SECRET_LEN);
        let key = ApiKeySecret { id: id.parse().map_err(|_| MalformedApiKey)?, secret: secret.to_owned() };
        if key.checksum() == checksum { Ok(key) } else { Err(MalformedApiKey) }
    }

    /// The public half.
    pub fn id(&self) -> &ApiKeyId {
        &self.id
    }

    /// The whole key, shown once to its owner.
    pub fn expose(&self) -> String {
        format!("wsk_{}_{}{}", self.id, self.secret, self.checksum())
    }

    /// What is stored in place of the secret.
    pub fn mac(&self, pepper: &Pepper) -> [u8; 32] {
        pepper.mac("api-key", &[self.id.as_str().as_bytes(), self.secret.as_bytes()])
    }

    /// Whether this is the key that was stored; takes the same time in either case.
    pub fn matches(&self, pepper: &Pepper, stored: &[u8; 32]) -> bool {
        self.mac(pepper).ct_eq(stored).into()
    }

    fn checksum(&self) -> String {
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{}_{}", self.id, self.secret).as_bytes());
        URL_SAFE_NO_PAD.encode(&digest.as_ref()[..CHECKSUM_LEN / 4 * 3])
    }
}

impl fmt::Debug for ApiKeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeySecret({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_and_matches_only_itself() {
        let pepper = Pepper::new([1; 32]);
        let key = ApiKeySecret::new("dev_key".parse().unwrap(), [9; 32]);
        let read = ApiKeySecret::parse(&key.expose()).unwrap();
        assert_eq!(read.id().as_str(), "dev_key");
        assert!(read.matches(&pepper, &key.mac(&pepper)));
        assert!(!read.matches(&Pepper::new([2; 32]), &key.mac(&pepper)));
        let other = ApiKeySecret::new("dev_key".parse().unwrap(), [8; 32]);
        assert!(!other.matches(&pepper, &key.mac(&pepper)));
    }

    #[test]
    fn other_texts_are_no_keys() {
        let good = ApiKeySecret::new("k".parse().unwrap(), [9; 32]).expose();
        let mistyped = good.replacen('C', "D", 1);
        for bad in ["", "wsk_", "wsk__", "Bearer x", "wsk_ä", &good[1..], &good[..good.len() - 1], &mistyped] {
            assert!(ApiKeySecret::parse(bad).is_err(), "{bad}");
        }
    }
}
