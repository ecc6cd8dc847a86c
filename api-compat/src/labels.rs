//! The labels that mark an object as ours, and the one that clients see in their place.

use crate::filters::Filters;
use crate::json_view::View;

/// The request that made the container: taken out of what clients see.
pub const ID: &str = "com.flotilla.id";
/// The cluster that made the container: taken out of what clients see.
pub const CLUSTER: &str = "com.flotilla.cluster";
/// The cluster's id of a network, on the engine's network that it is made of: taken out of what clients see.
pub const NETWORK: &str = "com.flotilla.network";
/// What containers, networks and volumes of one compose project have in common.
pub const GROUP: &str = "com.docker.compose.project";
/// The node of a container: shown in lists, never stored.
pub const NODE: &str = "com.flotilla.node";

/// Containers with the same value share the entry of a published port at the managers.
pub const ENTRY: &str = "com.flotilla.entry";
/// Marks a container that compose makes to take another one's place.
pub const COMPOSE_REPLACE: &str = "com.docker.compose.replace";
/// The service of a container, as compose writes it.
const COMPOSE_SERVICE: &str = "com.docker.compose.service";

/// With whom a container of these labels shares the entry of its published ports: all of one [`ENTRY`], or of one service of a
/// compose project.
pub fn entry_group(label: impl Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(entry) = label(ENTRY).filter(|entry| !entry.is_empty()) {
        return Some(format!("entry {entry}"));
    }
    Some(format!(
        "compose {}/{}",
        label(GROUP)?,
        label(COMPOSE_SERVICE)?
    ))
}

/// Whether clients must not see this label: they compare labels exactly.
pub fn is_hidden(name: &str) -> bool {
    name == ID || name == CLUSTER || name == NETWORK
}

/// Whether every value of the filter `key` (`name` or `name=value`) holds for an object of labels.
pub(crate) fn all_hold(filters: &Filters, key: &str, labels: Option<View<'_>>) -> bool {
    let label = |name: &str| {
        let mut pairs = labels?.string_pairs();
        pairs.find(|(key, _)| key == name).map(|(_, value)| value)
    };
    filters.get(key).all(|wanted| match wanted.split_once('=') {
        Some((name, value)) => label(name).is_some_and(|found| found == value),
        None => label(wanted).is_some(),
    })
}
