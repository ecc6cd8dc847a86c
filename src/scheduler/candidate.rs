//! A node, as far as a decision goes by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_compat::ApiVersion;

use crate::model::generic::Stock;
use crate::model::{Availability, NodeId, NodeName, Platform, PublishedPort, Resources, Verdict};

/// One node, as the leader sees it when it decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// What was last decided about it.
    pub verdict: Verdict,
    /// Whether its last probe went unanswered: it gets new work only if nobody else can take it.
    pub suspect: bool,
    /// What an operator wants of it.
    pub availability: Availability,
    /// Whether what its containers claim is known.
    pub counted: bool,
    /// What it runs on, if it was ever reached.
    pub platform: Option<Platform>,
    /// What its machine has: the most that one container can have of it.
    pub machine: Resources,
    /// What may be promised of it in all, which may be less than it has, or more.
    pub capacity: Resources,
    /// What placements on it claim.
    pub claimed: Resources,
    /// What containers that are no placements claim.
    pub unmanaged: Resources,
    /// What it has beside CPU and memory, and what all its containers take of that.
    pub stock: Stock,
    /// How many containers are on it.
    pub containers: u32,
    /// How many it takes at most, if that is limited.
    pub slots: Option<u32>,
    /// The newest API version that its engine speaks, if it was ever reached.
    pub newest_api: Option<ApiVersion>,
    /// Whether it has the image.
    pub has_image: bool,
    /// Host ports that are taken there; those that the request does not ask for may be left out.
    pub taken: Vec<TakenPort>,
    /// What constraints ask for; may be left out where there are none.
    pub traits: Arc<Traits>,
}

/// What constraints may ask of a node, beside its name, id and platform.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traits {
    /// The name of its machine.
    pub hostname: String,
    /// The address its published ports are shown with.
    pub address: Option<String>,
    /// Labels that an operator gave the node.
    pub node_labels: BTreeMap<String, String>,
    /// Labels that its engine was started with.
    pub engine_labels: BTreeMap<String, String>,
    /// What its engine says of itself, by the names that classic Swarm gave it: `storagedriver`, `kernelversion` and
    /// the like.
    pub says: BTreeMap<String, String>,
}

impl Candidate {
    /// What is left of the node.
    pub fn free(&self) -> Resources {
        self.capacity
            .saturating_sub(self.claimed)
            .saturating_sub(self.unmanaged)
    }
}

/// A host port that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenPort {
    /// The port.
    pub port: PublishedPort,
    /// The name of the container that has it.
    pub by: String,
}
