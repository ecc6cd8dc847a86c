//! Who answers on which published port: the containers behind each port of the pool, as observed.
//!
//! | question | answer |
//! | --- | --- |
//! | who shares a port's entry | containers of one group (one compose service, one `com.flotilla.entry` label); all others are alone |
//! | several groups publish one number | the first one keeps it as long as one of its containers serves; then the one of the others that was started first |
//! | who serves | what runs, is healthy (or has no health check), and publishes the port on all addresses of its node |
//!
//! **Invariant**: a change of one container costs the ports of that container, whatever else there is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{ContainerId, NodeId, Protocol};

/// A port of the whole pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolPort {
    /// The transport: TCP or UDP.
    pub(crate) protocol: Protocol,
    /// The number.
    pub(crate) number: u16,
}

/// Those who share the entry of a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// All of this name.
    Named(Arc<str>),
    /// This container alone.
    Alone(ContainerId),
}

/// What a container serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Serving {
    /// Its node.
    pub(crate) node: NodeId,
    /// With whom it shares entries.
    pub(crate) group: Group,
    /// When it was started, in nanoseconds since 1970.
    pub(crate) since: i64,
    /// The ports of the pool that it publishes.
    pub(crate) ports: Vec<PoolPort>,
}

/// One of those who answer on a port, on the port of this number of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    /// The container.
    pub(crate) container: ContainerId,
    /// Its node.
    pub(crate) node: NodeId,
}

/// All published ports.
#[derive(Debug, Default)]
pub(crate) struct Book {
    serving: BTreeMap<ContainerId, Serving>,
    ports: BTreeMap<PoolPort, Port>,
}

#[derive(Debug)]
struct Port {
    /// In the order of who came first.
    publishers: BTreeSet<(i64, ContainerId)>,
    owner: Group,
}

impl Book {
    /// Notes what a container serves now, if anything. Returns the ports that this is about.
    pub(crate) fn set(
        &mut self,
        container: ContainerId,
        serving: Option<Serving>,
    ) -> BTreeSet<PoolPort> {
        let before = self.serving.remove(&container);
        if before == serving {
            self.serving.extend(serving.map(|same| (container, same)));
            return BTreeSet::new();
        }
        let mut touched = BTreeSet::new();
        if let Some(before) = before {
            for port in before.ports {
                if let Some(entry) = self.ports.get_mut(&port) {
                    entry.publishers.remove(&(before.since, container));
                }
                touched.insert(port);
            }
        }
        if let Some(serving) = serving {
            for port in &serving.ports {
                let entry = self.ports.entry(*port).or_insert_with(|| Port {
                    publishers: BTreeSet::new(),
                    owner: serving.group.clone(),
                });
                entry.publishers.insert((serving.since, container));
                touched.insert(*port);
            }
            self.serving.insert(container, serving);
        }
        for port in &touched {
            self.choose_owner(*port);
        }
        touched
    }

    /// The containers that answer on a port, oldest first. Nobody listens on a port without any.
    pub(crate) fn backends(&self, port: PoolPort) -> Vec<Backend> {
        let Some(entry) = self.ports.get(&port) else {
            return Vec::new();
        };
        let behind = entry.publishers.iter().filter_map(|(_, container)| {
            let serving = self.serving.get(container)?;
            (serving.group == entry.owner).then_some(Backend {
                container: *container,
                node: serving.node,
            })
        });
        behind.collect()
    }

    /// The containers that answer on a port in place of a new one of this group, or of none.
    pub(crate) fn others(&self, port: PoolPort, group: Option<&str>) -> Vec<Backend> {
        let is_same =
            |owner: &Group| matches!((owner, group), (Group::Named(a), Some(b)) if **a == *b);
        if self
            .ports
            .get(&port)
            .is_some_and(|port| !is_same(&port.owner))
        {
            self.backends(port)
        } else {
            Vec::new()
        }
    }

    /// The owner stays as long as one of its group is there.
    fn choose_owner(&mut self, port: PoolPort) {
        let Some(entry) = self.ports.get_mut(&port) else {
            return;
        };
        let groups = || {
            let ids = entry.publishers.iter().map(|(_, container)| container);
            ids.filter_map(|id| self.serving.get(id).map(|serving| &serving.group))
        };
        if groups().any(|group| *group == entry.owner) {
            return;
        }
        match groups().next().cloned() {
            Some(next) => entry.owner = next,
            None => {
                self.ports.remove(&port);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ContainerId {
        ContainerId::from_bytes([number; 32])
    }

    fn port(number: u16) -> PoolPort {
        PoolPort {
            protocol: Protocol::Tcp,
            number,
        }
    }

    /// `7 g@2: 80 81` is container 7 of group `g`, made at 2, which serves two ports; `7 -: ` serves nothing.
    fn tell(book: &mut Book, line: &str) -> Vec<u16> {
        let (head, ports) = line.split_once(':').expect("ports");
        let (number, group) = head.split_once(' ').expect("a group");
        let number: u8 = number.parse().expect("a number");
        let serving = group.split_once('@').map(|(group, since)| Serving {
            node: NodeId::from_bytes([number; 16]),
            group: match group {
                "" => Group::Alone(id(number)),
                name => Group::Named(name.into()),
            },
            since: since.parse().expect("a time"),
            ports: ports
                .split_whitespace()
                .map(|number| port(number.parse().expect("a port")))
                .collect(),
        });
        let touched = book.set(id(number), serving);
        touched.into_iter().map(|port| port.number).collect()
    }

    fn behind(book: &Book, number: u16) -> Vec<u8> {
        let backends = book.backends(port(number));
        backends.iter().map(|b| b.container.as_bytes()[0]).collect()
    }

    #[test]
    fn a_group_shares_a_port_and_the_first_keeps_it() {
        let mut book = Book::default();
        assert_eq!(tell(&mut book, "1 web@5: 80 81"), [80, 81]);
        assert_eq!(tell(&mut book, "2 web@9: 80"), [80]);
        // Unrelated, though made earlier: the first to publish has it.
        assert_eq!(tell(&mut book, "3 @1: 80"), [80]);
        assert_eq!(behind(&book, 80), [1, 2]);
        assert_eq!(behind(&book, 81), [1]);
        assert_eq!(book.others(port(80), None).len(), 2);
        assert!(book.others(port(80), Some("web")).is_empty());
        // Told again, nothing changes.
        assert!(tell(&mut book, "2 web@9: 80").is_empty());
        assert_eq!(tell(&mut book, "1 -:"), [80, 81]);
        assert_eq!(behind(&book, 80), [2]);
        assert!(behind(&book, 81).is_empty());
        tell(&mut book, "2 -:");
        assert_eq!(behind(&book, 80), [3]);
        // Back again, it has lost its place.
        tell(&mut book, "2 web@9: 80");
        assert_eq!(behind(&book, 80), [3]);
        tell(&mut book, "3 -:");
        tell(&mut book, "2 -:");
        assert!(book.ports.is_empty());
    }

    #[test]
    fn of_those_who_wait_the_oldest_is_next() {
        let mut book = Book::default();
        for line in ["1 @5: 80", "2 @9: 80", "3 @7: 80", "1 -:"] {
            tell(&mut book, line);
        }
        assert_eq!(behind(&book, 80), [3]);
    }
}
