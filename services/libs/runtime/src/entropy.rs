//! The one place where services draw random numbers.

use std::time::Duration;

use rand::Rng as _;
use rand::TryRngCore as _;
use rand::rngs::OsRng;

/// Draws from the operating system for secrets, from a fast generator seeded by it for the rest.
#[derive(Clone, Copy, Debug)]
pub struct Entropy(());

impl Entropy {
    /// The randomness of this host.
    pub fn of_host() -> Entropy {
        Entropy(())
    }

    /// A number that nobody needs to guess.
    pub fn number(&self) -> u64 {
        rand::rng().random()
    }

    /// A number up to and without `below`; 0 for 0.
    pub fn below(&self, below: u64) -> u64 {
        if below == 0 { 0 } else { rand::rng().random_range(0..below) }
    }

    /// A moment within a time, in milliseconds, for those who should not all act at once.
    pub fn within(&self, time: Duration) -> u32 {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(u32::MAX.into());
        u32::try_from(self.below(millis)).unwrap_or(0)
    }

    /// 256 bits for a secret.
    ///
    /// # Panics
    /// If the operating system has no randomness: no secret could be made.
    pub fn secret(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        if let Err(error) = OsRng.try_fill_bytes(&mut bytes) {
            panic!("the operating system has no randomness: {error}");
        }
        bytes
    }

    /// 128 bits, for names that nobody else may draw.
    pub fn large_number(&self) -> u128 {
        rand::rng().random()
    }

    /// An id of 128 random bits in 32 hexadecimal digits.
    pub fn id(&self) -> String {
        format!("{:032x}", self.large_number())
    }
}
