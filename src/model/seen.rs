//! What a write changed, so that any manager can wait until it has seen it.

use serde::{Deserialize, Serialize};

use super::NodeId;

/// What a write changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The index in the log up to which the state must be applied.
    pub index: u64,
    /// The objects on nodes that must have been read again.
    pub touched: Vec<Touched>,
}

/// One object on a node, and the reading of it that shows the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Where the object is.
    pub node: NodeId,
    /// What kind of object it is, in Docker's words: `container`, `network`, `volume`, `image`.
    pub kind: String,
    /// The object's id, or its name where it has no id.
    pub object: String,
    /// The reading of the node's inventory that shows the change, or a later one.
    pub stamp: u64,
}
