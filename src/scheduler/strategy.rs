//! Which of the nodes that fit is the best: one file for each strategy.
//!
//! **Invariant**: no two nodes are equally good, for the last word has the id; so the order of the nodes does not matter.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::brief::Brief;
use super::{Request, binpack, random, spread};
use crate::model::{NodeId, Resources};

/// How a node is chosen among those that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The node with most left: containers part.
    #[default]
    Spread,
    /// The node with least left: containers fill one node after the other.
    Binpack,
    /// Any.
    Random,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spread => "spread",
            Self::Binpack => "binpack",
            Self::Random => "random",
        })
    }
}

/// A word that is no strategy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no strategy: it is spread, binpack or random")]
pub struct NoStrategy(String);

impl FromStr for Strategy {
    type Err = NoStrategy;

    fn from_str(text: &str) -> Result<Self, NoStrategy> {
        match text {
            "spread" => Ok(Self::Spread),
            "binpack" => Ok(Self::Binpack),
            "random" => Ok(Self::Random),
            _ => Err(NoStrategy(text.to_owned())),
        }
    }
}

/// How good a node is; the greatest is taken. In this order: what the strategy weighs, how many containers are there,
/// whether the image is, and the smaller id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) weight: u64,
    pub(super) containers: u32,
    pub(super) has_image: bool,
    pub(super) id: Reverse<NodeId>,
}

pub(super) fn rank(request: &Request, node: &Brief) -> Rank {
    let (weight, containers) = match request.strategy {
        Strategy::Spread => spread::weigh(request, node),
        Strategy::Binpack => binpack::weigh(request, node),
        Strategy::Random => random::weigh(request, node),
    };
    Rank {
        weight,
        containers,
        has_image: node.has_image && request.strategy != Strategy::Random,
        id: Reverse(node.node),
    }
}

/// All of a node: shares are in millionths of it.
pub(super) const WHOLE: u64 = 1_000_000;

/// What is left as a share of what there is, of CPU or memory, whichever is scarcer.
pub(super) fn share(left: Resources, of: Resources) -> u64 {
    let (cpu, memory) = shares(left, of);
    (cpu.min(memory) * WHOLE as f64) as u64
}

/// What is left as a share of what there is, of CPU and memory together: their mean.
pub(super) fn mean_share(left: Resources, of: Resources) -> u64 {
    let (cpu, memory) = shares(left, of);
    ((cpu + memory) * (WHOLE / 2) as f64) as u64
}

/// Sums, products and quotients round the same way everywhere (IEEE 754), so every manager comes to the same; and they are
/// fast.
fn shares(left: Resources, of: Resources) -> (f64, f64) {
    let share = |left: u64, of: u64| left as f64 / of.max(1) as f64;
    (
        share(left.cpu_nanos, of.cpu_nanos),
        share(left.memory_bytes, of.memory_bytes),
    )
}
