//! What became of the state from one look to the next: in words, and what must never become of it.
//!
//! **Invariant**: nothing here awaits; both looks are values.

use std::collections::BTreeSet;

use crate::model::{Node, NodeId, Placement, Verdict};
use crate::state::{Cause, Cluster, Tombstone, audit};

/// What changed, a line each.
pub(super) fn changes(before: &Cluster, now: &Cluster) -> Vec<String> {
    let mut lines = Vec::new();
    for node in now.nodes() {
        let known = before.node(node.id);
        if known.is_none_or(|known| verdict(known) != verdict(node)) {
            lines.push(format!("{} is {}", node.name, verdict(node)));
        }
    }
    for placement in before.placements() {
        if now.placement(placement.request).is_none() {
            lines.push(ended(now, placement));
        }
    }
    for placement in now.placements() {
        match before.placement(placement.request) {
            None => lines.push(begun(now, placement)),
            Some(known) => lines.extend(changed(known, placement)),
        }
    }
    for node in before.nodes() {
        let settled = before.removals_due_on(node.id).filter(|stone| {
            let now = now.tombstone(stone.request);
            now.is_none_or(|now| now.cause != Cause::RemovalDue)
        });
        let line =
            |stone: &Tombstone| format!("{} is removed from {} at last", stone.name, node.name);
        lines.extend(settled.map(line));
    }
    lines
}

/// The name of a node, or its id if it is gone.
pub(super) fn node_name(cluster: &Cluster, node: NodeId) -> String {
    cluster
        .node(node)
        .map_or_else(|| node.to_string(), |node| node.name.to_string())
}

fn verdict(node: &Node) -> &'static str {
    match node.verdict {
        Verdict::Joining => "joining",
        Verdict::Ready => "ready",
        Verdict::Down { .. } => "down",
    }
}

fn begun(now: &Cluster, placement: &Placement) -> String {
    let how = if placement.container.is_some() {
        "adopted"
    } else {
        "reserved"
    };
    format!(
        "{} is {how} on {}",
        placement.name,
        node_name(now, placement.node)
    )
}

fn ended(now: &Cluster, placement: &Placement) -> String {
    let node = node_name(now, placement.node);
    let name = &placement.name;
    match now.tombstone(placement.request).map(|stone| stone.cause) {
        Some(Cause::Released) => format!("{name} on {node} is given up"),
        Some(Cause::Removed) => format!("{name} on {node} is removed"),
        Some(Cause::RemovalDue) => format!("{name} is to be removed from {node} when it is back"),
        None => format!("{name} on {node} is forgotten"),
    }
}

fn changed(before: &Placement, now: &Placement) -> Vec<String> {
    let mut lines = Vec::new();
    let name = &now.name;
    if before.container.is_none() && now.container.is_some() {
        lines.push(format!("{name} is bound"));
    }
    match (&before.renaming, &now.renaming) {
        (None, Some(new_name)) => lines.push(format!("{name} is being renamed to {new_name}")),
        (Some(_), None) if before.name == now.name => lines.push(format!("{name} stays {name}")),
        _ => {}
    }
    if before.name != now.name {
        lines.push(format!("{} is now {name}", before.name));
    }
    match (before.claiming, now.claiming) {
        (true, false) => lines.push(format!("{name} claims nothing")),
        (false, true) => lines.push(format!("{name} claims again")),
        _ => {}
    }
    lines
}

/// What must never become of a state.
pub(super) fn broken(before: &Cluster, now: &Cluster) -> Vec<String> {
    let mut broken: Vec<_> = audit(now).iter().map(ToString::to_string).collect();
    broken.extend(overpromised(before, now));
    broken
}

/// A node on which something was reserved while it had no room for that.
fn overpromised(before: &Cluster, now: &Cluster) -> Vec<String> {
    let news = now.placements().filter(|placement| {
        before.placement(placement.request).is_none() && placement.container.is_none()
    });
    let nodes: BTreeSet<_> = news.map(|placement| placement.node).collect();
    let over = nodes.into_iter().filter_map(|id| {
        let node = now.node(id)?;
        let (claimed, has) = (now.totals(id).claimed, node.capacity());
        let over = claimed.cpu_nanos > has.cpu_nanos || claimed.memory_bytes > has.memory_bytes;
        let stock = now.stock(id);
        (over || stock.is_overdrawn()).then(|| {
            format!(
                "{} has {has:?} and promised {claimed:?}, of {stock:?}",
                node.name
            )
        })
    });
    over.collect()
}
