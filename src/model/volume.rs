//! A volume of the cluster: one record, whatever engines make of it.
//!
//! **Invariant**: what kind a volume is follows from its spec alone, and is decided once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{NodeId, Realm};

/// The label by which a user says what kind a volume is: `shared` or `per-node`.
pub const KIND_LABEL: &str = "com.flotilla.volume";
/// The driver that every engine has.
pub const LOCAL_DRIVER: &str = "local";

/// File systems that show the same from every host that mounts them.
const NETWORK_FILE_SYSTEMS: [&str; 7] = ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs"];

/// A volume of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The realm of its name.
    pub realm: Realm,
    /// What engines are to make.
    pub spec: VolumeSpec,
    /// How it came to be known.
    pub origin: VolumeOrigin,
    /// What there is of it on engines.
    pub residence: Residence,
    /// When it became known.
    pub created: Timestamp,
}

/// What an engine is asked to make.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: String,
    /// The driver's options; nothing and an empty list are shown differently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<BTreeMap<String, String>>,
    /// Its labels; nothing and an empty list are shown differently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// On how many nodes a volume is, and whether it is the same on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeKind {
    /// On one node, which is the only one with its data.
    OneNode,
    /// The same data from every node: made on each with equal options.
    Shared,
    /// One on each node, with data of its own.
    PerNode,
}

/// How a volume came to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeOrigin {
    /// It was asked for by itself.
    Asked,
    /// A container of ours mounts it, or did.
    Mounted,
}

/// What there is of a volume on engines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Residence {
    /// Nothing so far: the first container that mounts it decides where it goes.
    Unbound,
    /// One node has it, or is about to.
    On {
        /// The node; everything that mounts the volume must run there.
        node: NodeId,
        /// Whether it is known to be there.
        made: bool,
    },
    /// It shows the same on every node.
    Shared {
        /// The nodes that may have it.
        nodes: BTreeSet<NodeId>,
    },
    /// Each node has one of its own.
    PerNode {
        /// The nodes that may have one.
        nodes: BTreeSet<NodeId>,
    },
}

impl VolumeSpec {
    /// What an engine makes when a container names a volume and says nothing more of it.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            driver: LOCAL_DRIVER.to_owned(),
            ..Self::default()
        }
    }

    /// What kind it is.
    pub fn kind(&self) -> VolumeKind {
        let given = |map: &Option<BTreeMap<String, String>>, key: &str| {
            map.as_ref().and_then(|map| map.get(key)).cloned()
        };
        match given(&self.labels, KIND_LABEL).as_deref() {
            Some("shared") => return VolumeKind::Shared,
            Some("per-node") => return VolumeKind::PerNode,
            Some(_) | None => {}
        }
        let file_system = given(&self.options, "type").unwrap_or_default();
        let file_system = file_system.to_ascii_lowercase();
        if self.driver == LOCAL_DRIVER && NETWORK_FILE_SYSTEMS.contains(&file_system.as_str()) {
            VolumeKind::Shared
        } else {
            VolumeKind::OneNode
        }
    }
}

impl Residence {
    /// Where a new volume of that kind is.
    pub fn nowhere(kind: VolumeKind) -> Self {
        let nodes = BTreeSet::new();
        match kind {
            VolumeKind::OneNode => Self::Unbound,
            VolumeKind::Shared => Self::Shared { nodes },
            VolumeKind::PerNode => Self::PerNode { nodes },
        }
    }

    /// The nodes that have it or may have it.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let (one, several) = match self {
            Self::Unbound => (None, None),
            Self::On { node, .. } => (Some(*node), None),
            Self::Shared { nodes } | Self::PerNode { nodes } => (None, Some(nodes)),
        };
        one.into_iter()
            .chain(several.into_iter().flatten().copied())
    }

    /// The one node that everything which mounts it must run on.
    pub fn bound(&self) -> Option<NodeId> {
        match self {
            Self::On { node, .. } => Some(*node),
            Self::Unbound | Self::Shared { .. } | Self::PerNode { .. } => None,
        }
    }

    /// The same, with one more node that has it; `None` if it is bound to another one.
    pub fn with(&self, node: NodeId, made: bool) -> Option<Self> {
        Some(match self {
            Self::Unbound => Self::On { node, made },
            Self::On {
                node: bound,
                made: before,
            } => (*bound == node).then_some(Self::On {
                node,
                made: made || *before,
            })?,
            Self::Shared { nodes } => Self::Shared {
                nodes: joined(nodes, node),
            },
            Self::PerNode { nodes } => Self::PerNode {
                nodes: joined(nodes, node),
            },
        })
    }

    /// The same, with nothing of it on this node.
    pub fn without(&self, node: NodeId) -> Self {
        let rest = |nodes: &BTreeSet<NodeId>| {
            nodes
                .iter()
                .copied()
                .filter(|other| *other != node)
                .collect()
        };
        match self {
            Self::On { node: bound, .. } if *bound == node => Self::Unbound,
            Self::Unbound | Self::On { .. } => self.clone(),
            Self::Shared { nodes } => Self::Shared { nodes: rest(nodes) },
            Self::PerNode { nodes } => Self::PerNode { nodes: rest(nodes) },
        }
    }
}

fn joined(nodes: &BTreeSet<NodeId>, node: NodeId) -> BTreeSet<NodeId> {
    nodes.iter().copied().chain([node]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(driver: &str, options: &[(&str, &str)], labels: &[(&str, &str)], kind: VolumeKind) {
        let map = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Some(owned.collect())
        };
        let spec = VolumeSpec {
            name: "data".to_owned(),
            driver: driver.to_owned(),
            options: map(options),
            labels: map(labels),
        };
        assert_eq!(spec.kind(), kind, "{spec:?}");
    }

    #[test]
    fn what_kind_a_volume_is() {
        use VolumeKind::{OneNode, PerNode, Shared};
        check("local", &[], &[], OneNode);
        check("local", &[("type", "tmpfs")], &[], OneNode);
        check("local", &[("type", "none"), ("o", "bind")], &[], OneNode);
        for file_system in [
            "nfs",
            "nfs4",
            "NFS",
            "cifs",
            "smb3",
            "9p",
            "ceph",
            "glusterfs",
        ] {
            check("local", &[("type", file_system)], &[], Shared);
        }
        // What options mean to another driver is not known here.
        check("other", &[("type", "nfs")], &[], OneNode);
        check("other", &[], &[(KIND_LABEL, "shared")], Shared);
        check("local", &[], &[(KIND_LABEL, "per-node")], PerNode);
        check(
            "local",
            &[("type", "nfs")],
            &[(KIND_LABEL, "per-node")],
            PerNode,
        );
        check("local", &[], &[(KIND_LABEL, "else")], OneNode);
    }
}
