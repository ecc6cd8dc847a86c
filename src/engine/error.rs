//! Why a request to one engine failed.

use std::io;

use http::StatusCode;

use crate::model::NodeName;

/// Why a request to one engine failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection came about, or it broke before the engine answered.
    #[error("node {node} is not reachable: {source}")]
    Unreachable {
        /// The node that was asked.
        node: NodeName,
        /// What the transport said.
        source: io::Error,
    },
    /// The node is known to be down, so it was not even asked; or it went down while it was asked.
    #[error("node {node} is not reachable ({last_seen})")]
    Down {
        /// The node that would have been asked.
        node: NodeName,
        /// When it last answered, in words: `last seen 41s ago`.
        last_seen: String,
    },
    /// The engine answered with an error; its words reach the user unchanged.
    #[error("{message}")]
    Refused {
        /// The node that answered.
        node: NodeName,
        /// The engine's status.
        status: StatusCode,
        /// The engine's `message`.
        message: String,
    },
    /// The engine answered with something that is no Docker API.
    #[error("node {node} gave an answer that cannot be read: {why}")]
    Garbled {
        /// The node that answered.
        node: NodeName,
        /// What is wrong with the answer.
        why: String,
    },
    /// The engine cannot be part of a pool.
    #[error("node {node} cannot join: {why}")]
    Unfit {
        /// The node in question.
        node: NodeName,
        /// What to change.
        why: String,
    },
}

impl Error {
    /// Whether the same request may succeed later without anybody changing anything.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Down { .. } => true,
            Self::Refused { status, .. } => status.as_u16() >= 500,
            Self::Garbled { .. } | Self::Unfit { .. } => false,
        }
    }

    /// Whether the engine's machine answered "nobody listens here": the engine is gone, not slow.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::NotFound
        ))
    }
}
