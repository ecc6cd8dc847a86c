//! The labels that mark an object as ours, and the one that clients see in their place.

/// The request that made the container: taken out of what clients see.
pub const ID: &str = "com.flotilla.id";
/// The cluster that made the container: taken out of what clients see.
pub const CLUSTER: &str = "com.flotilla.cluster";
/// The node of a container: shown in lists, never stored.
pub const NODE: &str = "com.flotilla.node";

/// Whether clients must not see this label: they compare labels exactly.
pub fn is_hidden(name: &str) -> bool {
    name == ID || name == CLUSTER
}
