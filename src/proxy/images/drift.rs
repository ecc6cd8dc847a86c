//! What `docker info` says of images that nodes do not agree on.
//!
//! **Invariant**: nothing is put right here; that is done where a container needs it.

use std::sync::Arc;

use super::super::{Proxy, nodes};
use crate::engine::Host;

/// More is not told of images in `docker info`.
const WARNINGS_MAX: usize = 8;

/// What `docker info` says of images that nodes do not agree on.
pub(in crate::proxy) fn warnings(proxy: &Proxy) -> Vec<String> {
    let hosts = nodes::up(proxy);
    let names = |hosts: Vec<&Arc<Host>>| {
        let names: Vec<_> = hosts.iter().map(|host| host.tag.name.as_str()).collect();
        names.join(", ")
    };
    let (containerd, own): (Vec<_>, Vec<_>) = hosts
        .iter()
        .partition(|host| host.facts().keeps_images_in_containerd());
    let mut warnings = Vec::new();
    if !containerd.is_empty() && !own.is_empty() {
        warnings.push(format!(
            "WARNING: {} keep images in containerd's store, {} in the engine's own: one image has different ids there. Set \
             the same on all (\"features\": {{\"containerd-snapshotter\": …}} in daemon.json)",
            names(containerd),
            names(own)
        ));
    }
    let cluster = proxy.manager.cluster();
    for tag in cluster.tags() {
        let drifted: Vec<_> = hosts
            .iter()
            .filter(|host| {
                let images = host.images();
                let there = images.named(&tag.name);
                there.is_some_and(|image| tag.ids().all(|id| id != image.id))
            })
            .collect();
        let is_held = |host: &&Arc<Host>| tag.ids().any(|id| host.images().with_id(id).is_some());
        if !drifted.is_empty() && hosts.iter().any(|host| is_held(&host)) {
            warnings.push(format!(
                "WARNING: {} is another image on {}; it is put right when a container needs it there",
                tag.name,
                names(drifted)
            ));
        }
        if warnings.len() >= WARNINGS_MAX {
            break;
        }
    }
    warnings
}
