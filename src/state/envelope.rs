//! The envelope of a command: what every binary can read of it, whatever is inside.
//!
//! **Invariant**: a command that this binary does not fully understand is never applied in part.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Command;
use crate::model::{Caller, RequestId};

/// The layout of envelopes that this binary writes.
pub const FORMAT: u32 = 1;

/// The newest commands that this binary understands.
pub const FEATURE_LEVEL: u32 = 1;

/// A command with what is needed to judge and apply it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The layout of the envelope.
    pub format: u32,
    /// The level a binary must have to understand the body.
    pub feature_level: u32,
    /// Which request it belongs to.
    pub request_id: RequestId,
    /// Who asked.
    pub caller: Caller,
    /// When it was proposed.
    pub at: Timestamp,
    /// The command.
    pub body: Command,
}

/// The part that is read first; it never changes.
#[derive(Deserialize)]
struct Head {
    format: u32,
    feature_level: u32,
}

/// Bytes that this binary must not apply.
#[derive(Debug, thiserror::Error)]
pub enum BadEnvelope {
    /// Written by a newer binary.
    #[error(
        "the command has {what} {found}, this binary knows {known} at most: upgrade this manager"
    )]
    TooNew {
        /// Which number is too large.
        what: &'static str,
        /// What the command says.
        found: u32,
        /// What this binary knows.
        known: u32,
    },
    /// Not a command at all.
    #[error("the command cannot be read")]
    Garbled(#[from] serde_json::Error),
}

impl Envelope {
    /// Wraps a command that every binary of this level understands.
    pub fn new(request_id: RequestId, caller: Caller, at: Timestamp, body: Command) -> Self {
        Self {
            format: FORMAT,
            feature_level: FEATURE_LEVEL,
            request_id,
            caller,
            at,
            body,
        }
    }

    /// The envelope as the log keeps it.
    pub fn encode(&self) -> Bytes {
        // Keys are strings and values have no failing serializers, so there is nothing to fail.
        Bytes::from(serde_json::to_vec(self).expect("a command is plain data"))
    }

    /// Reads what [`Envelope::encode`] wrote, here or in an older binary.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadEnvelope> {
        let head: Head = serde_json::from_slice(bytes)?;
        for (what, found, known) in [
            ("format", head.format, FORMAT),
            ("feature level", head.feature_level, FEATURE_LEVEL),
        ] {
            if found > known {
                return Err(BadEnvelope::TooNew { what, found, known });
            }
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_reads_back_as_it_was_written() {
        let request = RequestId::from_bytes([7; 16]);
        let body = Command::Release { request };
        let envelope = Envelope::new(request, Caller::local(), Timestamp::UNIX_EPOCH, body);
        let bytes = envelope.encode();
        assert_eq!(Envelope::decode(&bytes).expect("reads"), envelope);
    }

    #[test]
    fn what_a_newer_binary_wrote_is_refused_before_its_body_is_read() {
        let refuse = |text: &str| {
            Envelope::decode(text.as_bytes())
                .expect_err(text)
                .to_string()
        };
        assert_eq!(
            refuse(r#"{"format":2,"feature_level":1,"shape":"unheard of"}"#),
            "the command has format 2, this binary knows 1 at most: upgrade this manager"
        );
        assert_eq!(
            refuse(r#"{"format":1,"feature_level":9,"body":{"command":"teleport"}}"#),
            "the command has feature level 9, this binary knows 1 at most: upgrade this manager"
        );
        assert_eq!(refuse("{}"), "the command cannot be read");
    }
}
