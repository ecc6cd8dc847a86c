//! The cluster as bytes, and back: what the log is replaced by once it is long.
//!
//! Only what was promised is in it. The index follows from that and is made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;
use jiff::Timestamp;
use raft_store::RestoreError;
use serde::{Deserialize, Serialize};

use super::envelope::FEATURE_LEVEL;
use super::index::Index;
use super::tombstones::Tombstones;
use super::{Cluster, Founding, ImageRemoval, Retired, Tombstone};
use crate::model::{Network, Node, NodeId, Placement, Tag, Volume};

/// The layout of snapshots that this binary writes.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    founding: &'a Option<Founding>,
    now: Timestamp,
    nodes: Vec<&'a Node>,
    placements: Vec<&'a Placement>,
    networks: Vec<&'a Network>,
    tags: Vec<&'a Tag>,
    images_due: Vec<(NodeId, &'a str, ImageRemoval)>,
    volumes: Vec<&'a Volume>,
    volumes_due: Vec<&'a (NodeId, String)>,
    retired: BTreeMap<&'a str, &'a Retired>,
    tombstones: Vec<&'a Tombstone>,
}

#[derive(Deserialize)]
struct Read {
    founding: Option<Founding>,
    now: Timestamp,
    nodes: Vec<Node>,
    placements: Vec<Placement>,
    networks: Vec<Network>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    images_due: Vec<(NodeId, String, ImageRemoval)>,
    #[serde(default)]
    volumes: Vec<Volume>,
    #[serde(default)]
    volumes_due: Vec<(NodeId, String)>,
    #[serde(default)]
    retired: BTreeMap<String, Retired>,
    tombstones: Vec<Tombstone>,
}

/// The part that is read first; it never changes.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Cluster {
    /// All of the cluster as bytes.
    pub(super) fn to_snapshot(&self) -> Bytes {
        let written = Written {
            format: FORMAT,
            founding: &self.founding,
            now: self.now,
            nodes: self.nodes.values().map(Arc::as_ref).collect(),
            placements: self.placements.values().map(Arc::as_ref).collect(),
            networks: self.networks.values().map(Arc::as_ref).collect(),
            tags: self.tags.values().map(Arc::as_ref).collect(),
            images_due: self
                .images_due
                .iter()
                .map(|((node, image), removal)| (*node, image.as_str(), *removal))
                .collect(),
            volumes: self.volumes.values().map(Arc::as_ref).collect(),
            volumes_due: self.volumes_due.iter().collect(),
            retired: self
                .retired
                .iter()
                .map(|(endpoint, retired)| (endpoint.as_str(), retired))
                .collect(),
            tombstones: self.tombstones.all().collect(),
        };
        Bytes::from(serde_json::to_vec(&written).expect("a cluster is plain data"))
    }

    /// The cluster that the snapshot was taken of. Refuses what a newer binary wrote.
    pub(super) fn from_snapshot(snapshot: &[u8]) -> Result<Self, RestoreError> {
        let head: Head = serde_json::from_slice(snapshot)?;
        if head.format > FORMAT {
            return Err(newer("format", head.format, FORMAT));
        }
        let read: Read = serde_json::from_slice(snapshot)?;
        let level = read.founding.as_ref().map_or(0, |f| f.feature_level);
        if level > FEATURE_LEVEL {
            return Err(newer("feature level", level, FEATURE_LEVEL));
        }
        let mut index = Index::default();
        read.nodes.iter().for_each(|node| index.add_node(node));
        let networks = read.networks.iter();
        networks.for_each(|network| index.add_network(network));
        let placements = read.placements.iter();
        placements.for_each(|placement| index.add_placement(placement));
        let mut cluster = Self {
            founding: read.founding,
            now: read.now,
            nodes: read
                .nodes
                .into_iter()
                .map(|n| (n.id, Arc::new(n)))
                .collect(),
            placements: read
                .placements
                .into_iter()
                .map(|p| (p.request, Arc::new(p)))
                .collect(),
            networks: read
                .networks
                .into_iter()
                .map(|n| (n.id, Arc::new(n)))
                .collect(),
            tags: read
                .tags
                .into_iter()
                .map(|tag| ((tag.realm, tag.name.clone()), Arc::new(tag)))
                .collect(),
            images_due: read
                .images_due
                .into_iter()
                .map(|(node, image, removal)| ((node, image), removal))
                .collect(),
            volumes: OrdMap::new(),
            volumes_due: read.volumes_due.into_iter().collect(),
            retired: read.retired.into_iter().collect(),
            tombstones: Tombstones::restored(read.tombstones),
            index,
            released: Vec::new(),
        };
        for volume in read.volumes {
            cluster.put_volume(volume);
        }
        cluster.record_what_is_mounted();
        Ok(cluster)
    }
}

fn newer(what: &str, found: u32, known: u32) -> RestoreError {
    format!(
        "the snapshot has {what} {found}, this binary knows {known} at most: upgrade this manager"
    )
    .into()
}
