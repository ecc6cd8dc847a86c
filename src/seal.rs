//! Seals what must not lie on a disk in the clear: bodies of creates, which carry environments and thus secrets.
//!
//! ChaCha20-Poly1305 (RFC 8439) under one key for each data directory. What is sealed is bound to a context, so
//! that it cannot be put in another's place.
//!
//! **Invariant**: no nonce comes from here; a key is never shown.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

/// The layout of what is sealed: this byte, the nonce, the sealed bytes with their tag.
const FORMAT: u8 = 1;

/// How long a key is.
pub const KEY_BYTES: usize = 32;

/// How long the random part of each sealing is.
pub const NONCE_BYTES: usize = NONCE_LEN;

/// Something sealed that cannot be opened: damaged, of another key, or of another context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was sealed with another key, or is damaged")]
pub struct Unsealable;

/// Seals and opens.
pub struct Seal(LessSafeKey);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    /// Seals with this key.
    pub fn new(key: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of the right length");
        Self(LessSafeKey::new(key))
    }

    /// Seals `plain` for `context`. `nonce` must be random: with one key none may come twice.
    pub fn seal(&self, context: &[u8], nonce: [u8; NONCE_BYTES], plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(1 + NONCE_BYTES + plain.len() + 16);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context),
                &mut text,
            )
            .expect("far less than the 256 GiB that one sealing takes");
        sealed.extend_from_slice(&text);
        sealed
    }

    /// Opens what was sealed for `context`.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (format, rest) = sealed.split_first().ok_or(Unsealable)?;
        let (nonce, text) = rest.split_first_chunk().ok_or(Unsealable)?;
        if *format != FORMAT {
            return Err(Unsealable);
        }
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.0.open_in_place(nonce, Aad::from(context), &mut text);
        let length = plain.map_err(|_| Unsealable)?.len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_context_open_it() {
        let seal = Seal::new(&[7; KEY_BYTES]);
        let sealed = seal.seal(b"web", [1; NONCE_BYTES], b"PASSWORD=x");
        assert!(!sealed.windows(8).any(|part| part == b"PASSWORD"));
        assert_eq!(
            seal.open(b"web", &sealed).as_deref(),
            Ok(&b"PASSWORD=x"[..])
        );
        assert_eq!(seal.open(b"db", &sealed), Err(Unsealable));
        let other = Seal::new(&[8; KEY_BYTES]);
        assert_eq!(other.open(b"web", &sealed), Err(Unsealable));
    }

    #[test]
    fn whatever_is_damaged_is_refused() {
        let seal = Seal::new(&[7; KEY_BYTES]);
        let sealed = seal.seal(b"web", [1; NONCE_BYTES], b"PASSWORD=x");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(seal.open(b"web", &damaged), Err(Unsealable), "byte {at}");
            assert_eq!(seal.open(b"web", &sealed[..at]), Err(Unsealable));
        }
    }
}
