//! Who uses an image on a node: the containers that were made from it, and those that mount it.

use std::sync::Arc;

use super::super::Proxy;
use crate::engine::{Container, Host};

/// The containers of this node that use the image with this id.
pub(super) fn users(proxy: &Proxy, host: &Host, image: &str) -> Vec<Arc<Container>> {
    let mut users = proxy.fleet.inventory.users_of(&host.tag.id, image);
    users.extend(mounting(proxy, host, image));
    users
}

/// Whether any container of this node uses it.
pub(super) fn is_used(proxy: &Proxy, host: &Host, image: &str) -> bool {
    let made_from = proxy.fleet.inventory.made_from(&host.tag.id, image);
    made_from > 0 || mounting(proxy, host, image).next().is_some()
}

fn mounting(proxy: &Proxy, host: &Host, image: &str) -> impl Iterator<Item = Arc<Container>> {
    let all = proxy.fleet.inventory.mounting_images(&host.tag.id);
    let images = host.images();
    let is_it = move |name: &String| images.find(name).is_some_and(|found| found.id == image);
    let mounts = move |container: &Arc<Container>| container.mounted_images().iter().any(&is_it);
    all.into_iter().filter(mounts)
}
