//! What one client has looked for, from one request to the next: a project is told by the list of its containers, which
//! compose asks for between looking for the project's networks and volumes and making the first container.
//!
//! Requests of one command of compose come over one connection, as long as they come one after the other.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use api_compat::filters::Filters;
use api_compat::labels::GROUP;
use api_compat::route::Operation;

use super::Proxy;
use super::exchange::Exchange;
use crate::manager::Shared;

/// So much is remembered of one client.
const MOST: usize = 64;

/// What came over one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct LookedUp(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    group: Option<String>,
    shared: BTreeSet<Shared>,
}

impl Seen {
    /// The project that the client is about; what it looked for on behalf of another one is forgotten.
    fn be_about(&mut self, group: &str) {
        if self.group.as_deref().is_some_and(|before| before != group) {
            self.shared.clear();
        }
        self.group = Some(group.to_owned());
    }

    fn look_for(&mut self, shared: Shared) {
        if self.shared.len() < MOST {
            self.shared.insert(shared);
        }
    }
}

/// Notes what a request looks for.
pub(super) fn note(proxy: &Proxy, exchange: &Exchange) {
    let network = |name: &str| {
        let network = proxy.manager.network_called(name)?;
        Some(Shared::Network(network.id))
    };
    let (group, shared) = match exchange.route.operation {
        Operation::ContainerList => (filters(exchange).and_then(|all| group_in(&all)), None),
        Operation::NetworkList => {
            let name = filters(exchange).and_then(|all| only(&all, "name"));
            (None, name.and_then(|name| network(&name)))
        }
        Operation::NetworkInspect => (None, network(exchange.name())),
        Operation::VolumeInspect => (None, Some(Shared::Volume(exchange.name().to_owned()))),
        _ => return,
    };
    let mut seen = exchange
        .peer
        .looked_up
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(group) = group {
        seen.be_about(&group);
    }
    if let Some(shared) = shared {
        seen.look_for(shared);
    }
    if let Some(group) = &seen.group {
        for shared in &seen.shared {
            proxy.manager.looked_for(group, shared.clone());
        }
    }
}

/// What cannot be read is refused elsewhere.
fn filters(exchange: &Exchange) -> Option<Filters> {
    Filters::parse(exchange.query().ok()?.text("filters")).ok()
}

fn only(filters: &Filters, key: &str) -> Option<String> {
    let mut all = filters.get(key);
    let first = all.next()?.to_owned();
    all.next().is_none().then_some(first)
}

/// The project whose containers are asked for.
fn group_in(filters: &Filters) -> Option<String> {
    let mut labels = filters.get("label");
    let found = labels.find_map(|label| label.strip_prefix(GROUP)?.strip_prefix('='));
    found.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_looked_for_belongs_to_one_project() {
        let mut seen = Seen::default();
        let volume = |name: &str| Shared::Volume(name.to_owned());
        seen.look_for(volume("before"));
        seen.be_about("app");
        seen.look_for(volume("after"));
        seen.be_about("app");
        assert_eq!(seen.shared, [volume("after"), volume("before")].into());
        seen.be_about("other");
        assert!(seen.shared.is_empty());
    }

    #[test]
    fn a_project_is_in_the_filters_of_its_list() {
        let check = |filters: &str, expected: Option<&str>| {
            let filters = Filters::parse(filters).expect("valid");
            assert_eq!(group_in(&filters).as_deref(), expected);
        };
        check(
            r#"{"label":{"com.docker.compose.config-hash":true,"com.docker.compose.project=app":true}}"#,
            Some("app"),
        );
        check(r#"{"label":["com.docker.compose.project"]}"#, None);
        check("", None);
    }
}
