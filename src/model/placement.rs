//! A placement: the promise that one container lives on one node.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::generic::Counts;
use super::{
    BlobId, ContainerId, ManagerId, NetworkId, NodeId, PortClaim, Realm, RequestId, Resources,
    ServiceId,
};

/// The promise that one container lives on one node, from its reservation until it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// What the container is known by, before it has an id and for ever after.
    pub request: RequestId,
    /// The realm its names belong to.
    pub realm: Realm,
    /// The container's name.
    pub name: String,
    /// The name it is being given; both are held until the engine has answered.
    pub renaming: Option<String>,
    /// Where it lives.
    pub node: NodeId,
    /// The container, once its engine has made it.
    pub container: Option<ContainerId>,
    /// What it belongs to.
    pub owner: Owner,
    /// Counts the containers that this placement has had: 1 for the first.
    pub generation: u32,
    /// The containers it had before, oldest first.
    pub past: Vec<ContainerId>,
    /// CPU and memory it needs to run.
    pub claim: Resources,
    /// What it needs beside those.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub generic: Counts,
    /// Whether the claim and the asked ports are held now. A container that has exited holds
    /// neither.
    pub claiming: bool,
    /// Counts the times the claim was taken: 1 from the reservation on. What was observed of an
    /// earlier run is thereby told from this one.
    pub run: u32,
    /// The ports it publishes, held or not.
    pub ports: Vec<PortClaim>,
    /// The cluster's networks that it joins.
    pub networks: Vec<NetworkId>,
    /// Networks that it was cut off from while its node was down: the engine there is told when it is back. They may be
    /// gone from the cluster by then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<NetworkId>,
    /// The named volumes it mounts: each has a record, which its node is in.
    pub volumes: Vec<String>,
    /// The one that takes its claim over when it ends: it was made to take this one's place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<RequestId>,
    /// Who makes the container: a reservation lives as long as this manager works on it.
    pub acting: ManagerId,
    /// The sealed create body, for what may move.
    pub recipe: Option<BlobId>,
    /// When it was reserved.
    pub at: Timestamp,
    /// Counts the changes of this placement.
    pub version: u64,
}

/// What a placement belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    /// Nothing: the container was created by itself.
    #[default]
    Plain,
    /// One slot of a service.
    Task {
        /// The service.
        service: ServiceId,
        /// The slot, from 1.
        slot: u64,
        /// The version of the service's spec that the task runs.
        spec_version: u64,
    },
}
