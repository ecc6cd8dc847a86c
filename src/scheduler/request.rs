//! What is asked of a node.

use std::collections::BTreeSet;

use api_compat::constraint::Constraint;
use api_compat::features::Feature;

use super::Strategy;
use crate::model::generic::Wishes;
use crate::model::{NodeId, Platform, PublishedPort, Resources};

/// What a container needs of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// CPU and memory.
    pub claim: Resources,
    /// What it claims beside that; what no node of the cluster states is left out.
    pub generic: Wishes,
    /// Host ports that must be free on the node.
    pub ports: Vec<PublishedPort>,
    /// The image, as the user wrote it.
    pub image: String,
    /// Whether a node without the image will do as long as another one has it.
    pub bring_image: bool,
    /// The platform the user insists on.
    pub platform: Option<Platform>,
    /// What the user says of the node; all must hold, but for the soft ones.
    pub constraints: Vec<Constraint>,
    /// What ties the container to certain nodes; all must hold.
    pub pins: Vec<Pin>,
    /// What it is to be with or away from; all must hold, but for the soft ones.
    pub affinities: Vec<Near>,
    /// What not every engine knows.
    pub features: Vec<Feature>,
    /// How a node is chosen among those that fit.
    pub strategy: Strategy,
    /// Thrown by whoever asks, for the strategy that needs it.
    pub seed: u64,
}

/// A wish to be with something, or away from it, and the nodes that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// As it was written.
    pub text: String,
    /// Whether it is to be away.
    pub negated: bool,
    /// Whether it gives way.
    pub soft: bool,
    /// The nodes that have what is meant.
    pub nodes: BTreeSet<NodeId>,
}

/// Something that is on certain nodes only, and that the container cannot be without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The nodes that will do.
    pub nodes: BTreeSet<NodeId>,
    /// Ends the sentence `host3 excluded by …`: `volume data, which is on host1`.
    pub why: String,
}
