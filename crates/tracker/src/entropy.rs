//! Where everything secret or random comes from.

use anyhow::Context;

/// A source of random bytes. The daemon's is the operating system ([`OsEntropy`]); a simulation's
/// is a [`fastrand::Rng`] with a seed.
pub trait Entropy {
    /// Random bytes.
    ///
    /// # Errors
    /// If the source fails.
    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]>;

    /// A random number.
    ///
    /// # Errors
    /// If the source fails.
    fn number(&mut self) -> anyhow::Result<u64> {
        Ok(u64::from_ne_bytes(self.bytes()?))
    }

    /// A random key of 128 bits.
    ///
    /// # Errors
    /// If the source fails.
    fn key(&mut self) -> anyhow::Result<[u64; 2]> {
        Ok([self.number()?, self.number()?])
    }
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
        Ok(bytes)
    }
}

/// The same each time, and no secret: for simulations.
impl Entropy for fastrand::Rng {
    fn bytes<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        Ok(bytes)
    }
}
