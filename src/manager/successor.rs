//! Containers that are made to take the place of another one.
//!
//! Compose makes a container's successor before it stops the container, so for a moment there are two where there is to be
//! one. An engine does not mind; here the successor would be refused the room, the slot and the company that only its
//! predecessor is in the way of. So it is placed as if that one was gone, and takes its claim over when it ends
//! ([`Placement::successor`]).
//!
//! **Invariant**: a node's claims never count both, and nobody else gets in between.

use std::sync::Arc;

use api_compat::labels;

use super::{CreateOrder, Manager};
use crate::model::Placement;

impl Manager {
    /// The placement whose place the new container is to take.
    pub(super) fn replaced(&self, order: &CreateOrder<'_>) -> Option<Arc<Placement>> {
        let is_successor = |(key, _): &(_, _)| *key == labels::COMPOSE_REPLACE;
        order
            .wanted
            .labels
            .iter()
            .find(|label| is_successor(label))?;
        let prefix = predecessor_in(order.name.as_deref()?)?;
        let cluster = self.cluster();
        let mut placements = cluster.placements_by_prefix(prefix);
        let replaced = placements.next().cloned();
        replaced.filter(|_| placements.next().is_none())
    }
}

/// The short id in the name that compose gives a successor until it can have its own: `0123456789ab_project-web-1`.
fn predecessor_in(name: &str) -> Option<&str> {
    let (prefix, _) = name.split_once('_')?;
    let is_short_id = prefix.len() == 12 && prefix.bytes().all(|b| b.is_ascii_hexdigit());
    is_short_id.then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_named_after_its_predecessor() {
        let check = |name, expected| assert_eq!(predecessor_in(name), expected, "{name}");
        check("0123456789ab_shop-web-1", Some("0123456789ab"));
        check("0123456789ab_my_web", Some("0123456789ab"));
        check("0123456789_web", None);
        check("0123456789xy_web", None);
        check("0123456789ab-web", None);
        check("web", None);
    }
}
