//! A network of the cluster: one record with our id, whatever engines make of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{NetworkId, NodeId, Realm};

/// A network of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Our id: the one that every reply, event and body shows.
    pub id: NetworkId,
    /// The realm of its name.
    pub realm: Realm,
    /// Its name.
    pub name: String,
    /// The body of the create request as it was sent, unknown fields and all.
    pub spec: String,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
    /// What it belongs to, if anything: networks of one group share a node if they can.
    #[serde(default)]
    pub group: Option<String>,
    /// Whether its user said where it is: it stays there, joined or not.
    #[serde(default)]
    pub pinned: bool,
    /// What there is of it on engines.
    pub realised: Realised,
    /// Whether it is being removed: nothing may join any more.
    pub deleting: bool,
}

impl Network {
    /// The node that it is bound to.
    pub fn node(&self) -> Option<NodeId> {
        match self.realised {
            Realised::On { node, .. } => Some(node),
            Realised::Unbound | Realised::Fabric => None,
        }
    }
}

/// What there is of a network on engines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Realised {
    /// Nothing: its next container decides where it goes.
    Unbound,
    /// One node has it, or is about to.
    On {
        /// The node; everything that joins the network must run there.
        node: NodeId,
        /// The id that the node's engine gave it, once made.
        engine_id: Option<NetworkId>,
    },
    /// It crosses hosts, in the overlay fabric.
    Fabric,
}
