//! Broken invariants of a cluster, for the simulator after every step and for an operator.

use std::fmt;

use crate::model::{Name, NameHolder, Placement, Realised, Residence, Volume, VolumeOrigin};

use super::index::{Index, names, volumes};
use super::ports::held;
use super::tombstones::Tombstones;
use super::{Cluster, FEATURE_LEVEL};

/// One broken invariant, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken(String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lists what is broken; nothing in a sound cluster. Looks at everything.
pub fn audit(cluster: &Cluster) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut say = |text: String| broken.push(Broken(text));
    if cluster.founding.is_none()
        && *cluster
            != (Cluster {
                now: cluster.now,
                ..Cluster::new()
            })
    {
        say("something exists in a cluster that was never founded".to_owned());
    }
    if cluster.feature_level() > FEATURE_LEVEL {
        say("the cluster is newer than this binary".to_owned());
    }
    let mut index = Index::default();
    for node in cluster.nodes() {
        index.add_node(node);
    }
    for network in cluster.networks() {
        index.add_network(network);
    }
    for volume in cluster.volumes() {
        index.add_volume(volume);
    }
    for placement in cluster.placements() {
        index.add_placement(placement);
    }
    if index != cluster.index {
        say(
            "the index is not what follows from nodes, placements, networks and volumes".to_owned(),
        );
    }
    for node in cluster.nodes() {
        if cluster
            .node_named(&node.name)
            .is_none_or(|found| found.id != node.id)
        {
            say(format!("two nodes are called {}", node.name));
        }
        if cluster
            .node_at(&node.endpoint)
            .is_none_or(|found| found.id != node.id)
        {
            say(format!("two nodes are {}", node.endpoint));
        }
    }
    for endpoint in cluster.retired.keys() {
        if cluster.node_at(endpoint).is_some() {
            say(format!("{endpoint} is a node and retired"));
        }
    }
    for network in cluster.networks() {
        if let Realised::On { node, .. } = &network.realised
            && cluster.node(*node).is_none()
        {
            say(format!(
                "network {} is on a node that is gone",
                network.name
            ));
        }
        let users = cluster.network_users(network.id);
        if network.node().is_some() && users == 0 && !network.pinned {
            say(format!(
                "network {} is bound and nothing joins it",
                network.name
            ));
        }
        if network.pinned && network.node().is_none() {
            say(format!(
                "network {} was given a node and has none",
                network.name
            ));
        }
        if network.deleting && cluster.network_users(network.id) > 0 {
            say(format!(
                "network {} is being removed and in use",
                network.name
            ));
        }
    }
    for ((realm, name), tag) in &cluster.tags {
        if (*realm, name) != (tag.realm, &tag.name) {
            say(format!("tag {} is kept as {name}", tag.name));
        }
        if tag.twins.contains(&tag.image) {
            say(format!("tag {name} means an image that is its own twin"));
        }
    }
    for volume in cluster.volumes() {
        audit_volume(cluster, volume, &mut say);
    }
    for (node, image) in cluster.images_due.keys() {
        if cluster.node(*node).is_none() {
            say(format!("image {image} is due on a node that is gone"));
        }
    }
    for (node, name) in &cluster.volumes_due {
        if cluster.node(*node).is_none() {
            say(format!("volume {name} is due on a node that is gone"));
        }
    }
    for placement in cluster.placements() {
        audit_placement(cluster, placement, &mut say);
    }
    if !cluster.tombstones.is_consistent() || cluster.tombstones.len() > Tombstones::MOST {
        say("the tombstones are out of order".to_owned());
    }
    broken
}

fn audit_volume(cluster: &Cluster, volume: &Volume, say: &mut impl FnMut(String)) {
    let name = &volume.spec.name;
    if volume
        .residence
        .nodes()
        .any(|node| cluster.node(node).is_none())
    {
        say(format!("volume {name} is on a node that is gone"));
    }
    let users = cluster.volume_users(volume.realm, name);
    let promised = matches!(volume.residence, Residence::On { made: false, .. });
    let nowhere = volume.residence.nodes().next().is_none();
    if volume.origin == VolumeOrigin::Mounted && users == 0 && (promised || nowhere) {
        say(format!("volume {name} is promised to nobody"));
    }
    let kept = cluster.volumes.get(&Name::volume(volume.realm, name));
    if kept.is_none_or(|kept| **kept != *volume) {
        say(format!("volume {name} is kept under another name"));
    }
}

fn audit_placement(cluster: &Cluster, placement: &Placement, say: &mut impl FnMut(String)) {
    let request = placement.request;
    let name = &placement.name;
    if cluster.node(placement.node).is_none() {
        say(format!("container {name} is on a node that is gone"));
    }
    if cluster.tombstone(request).is_some() {
        say(format!("container {name} has a tombstone"));
    }
    for name in names(placement) {
        if cluster.holder(&name) != Some(NameHolder::Placement(request)) {
            say(format!("two containers are called {}", name.name));
        }
    }
    if let Some(container) = placement.container
        && cluster
            .placement_of(container)
            .is_none_or(|found| found.request != request)
    {
        say(format!("container {container} has two placements"));
    }
    for volume in volumes(placement) {
        let has = |record: &Volume| record.residence.nodes().any(|node| node == placement.node);
        if !cluster
            .volumes
            .get(&volume)
            .is_some_and(|record| has(record))
        {
            say(format!(
                "container {name} is not where its volume {} is",
                volume.name
            ));
        }
    }
    for id in &placement.networks {
        let Some(network) = cluster.network(*id) else {
            say(format!("container {name} joins a network that is gone"));
            continue;
        };
        match &network.realised {
            Realised::On { node, .. } if *node == placement.node => {}
            Realised::Fabric => {}
            Realised::On { .. } | Realised::Unbound => {
                say(format!(
                    "container {name} is not where its network {} is",
                    network.name
                ));
            }
        }
    }
    for id in &placement.leaving {
        if placement.networks.contains(id) {
            say(format!("container {name} joins a network that it leaves"));
        }
    }
    if !placement.leaving.is_sorted_by(|one, next| one < next) {
        say(format!("container {name} leaves a network twice"));
    }
    for claim in held(placement) {
        if let Some(other) = cluster
            .ports()
            .conflict_on(placement.node, &claim.port, request)
        {
            say(format!(
                "port {} is held by requests {request} and {other}",
                claim.port
            ));
        }
    }
}
