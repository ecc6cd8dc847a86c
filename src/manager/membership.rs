//! Who is to be pooled at a start: what the state has, and what the settings add to it.
//!
//! The state wins. `--engine` adds what is missing, under the name and address given with it; it changes
//! nothing of a node that is there, but for the files that it is reached with, and brings none back that an operator
//! removed.
//!
//! **Invariant**: whatever of the settings has no effect is said, with what would have one.

use super::Member;
use crate::engine::Endpoint;
use crate::model::{Node, NodeId};
use crate::state::Cluster;

/// An engine that is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contact {
    /// The node that it is; none before it has joined.
    pub(super) node: Option<NodeId>,
    /// How it is reached, and what it is called.
    pub(super) member: Member,
}

/// Joins the nodes of the state and those of the settings. The second value says, a sentence each, what in
/// the settings has no effect.
pub(super) fn contacts(cluster: &Cluster, given: Vec<Member>) -> (Vec<Contact>, Vec<String>) {
    let mut contacts = Vec::new();
    let mut notices = Vec::new();
    let mut nodes: Vec<_> = cluster.nodes().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    for node in nodes {
        match node.endpoint.parse::<Endpoint>() {
            Ok(endpoint) => contacts.push(Contact {
                node: Some(node.id),
                member: Member {
                    endpoint,
                    name: Some(node.name.clone()),
                    address: node.address.clone(),
                },
            }),
            Err(error) => notices.push(format!("node {} cannot be reached: {error}", node.name)),
        }
    }
    for member in given {
        let endpoint = member.endpoint.to_string();
        let there = contacts
            .iter_mut()
            .find(|contact| contact.member.endpoint.shown() == member.endpoint.shown());
        if let Some(there) = there
            && let Some(node) = there.node.and_then(|id| cluster.node(id))
        {
            notices.extend(without_effect(node, &member));
            // Where files are is this manager's affair, and nothing that was promised.
            if matches!(member.endpoint, Endpoint::Tcp { tls: Some(_), .. }) {
                there.member.endpoint = member.endpoint;
            }
        } else if let Some(retired) = cluster.retired(&endpoint) {
            notices.push(format!(
                "engine {endpoint} stays out: it was removed as node {}. `flotilla node add {endpoint}` brings it back; \
                 else take it out of the settings",
                retired.name
            ));
        } else {
            contacts.push(Contact { node: None, member });
        }
    }
    (contacts, notices)
}

fn without_effect(node: &Node, member: &Member) -> Option<String> {
    let name = member.name.as_ref().filter(|name| **name != node.name);
    let address = member
        .address
        .as_ref()
        .filter(|address| node.address.as_ref() != Some(address));
    match (name, address) {
        (Some(name), _) => Some(format!(
            "engine {} stays node {}, though the settings call it {name}: to rename it, `flotilla node rm` it and add it again",
            member.endpoint.shown(),
            node.name
        )),
        (None, Some(address)) => Some(format!(
            "node {} keeps the address {}, though the settings say {address}: `flotilla node update {} --address {address}` \
             changes it",
            node.name,
            node.address.as_deref().unwrap_or("(none)"),
            node.name
        )),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{Caller, ClusterId, RequestId};
    use crate::state::{Command, Envelope, RandomPorts, Settings};

    fn cluster(commands: impl IntoIterator<Item = Command>) -> Cluster {
        let mut cluster = Cluster::new();
        let found = Command::Found {
            cluster: ClusterId::from_bytes([1; 16]),
            settings: Settings {
                name: "test".to_owned(),
                random_ports: RandomPorts::default(),
            },
        };
        for command in std::iter::once(found).chain(commands) {
            let request = RequestId::from_bytes([2; 16]);
            let envelope = Envelope::new(request, Caller::local(), Timestamp::UNIX_EPOCH, command);
            cluster.apply(envelope).expect("is applied");
        }
        cluster
    }

    fn add(number: u8, name: &str) -> Command {
        Command::AddNode {
            node: NodeId::from_bytes([number; 16]),
            name: name.parse().expect("a name"),
            endpoint: format!("tcp://10.0.0.{number}:2375"),
            address: Some(format!("10.0.0.{number}")),
            labels: BTreeMap::new(),
        }
    }

    fn given(text: &str, address: Option<&str>) -> Member {
        let (name, endpoint) = match text.split_once('=') {
            Some((name, endpoint)) => (Some(name.parse().expect("a name")), endpoint),
            None => (None, text),
        };
        Member {
            endpoint: endpoint.parse().expect("an endpoint"),
            name,
            address: address.map(str::to_owned),
        }
    }

    fn check(cluster: &Cluster, given: Vec<Member>, expected: &[&str], notices: &[&str]) {
        let (contacts, said) = contacts(cluster, given);
        let shown: Vec<_> = contacts
            .iter()
            .map(|contact| {
                let name = contact.member.name.as_ref();
                let name = name.map_or("?", |name| name.as_str());
                let known = if contact.node.is_some() { "" } else { " new" };
                format!("{name} {}{known}", contact.member.endpoint)
            })
            .collect();
        assert_eq!(shown, expected);
        assert_eq!(said.len(), notices.len(), "{said:?}");
        for (said, part) in said.iter().zip(notices) {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn settings_add_what_is_missing_and_change_nothing_else() {
        let cluster = cluster([add(2, "beta"), add(1, "alpha")]);
        let known = ["alpha tcp://10.0.0.1:2375", "beta tcp://10.0.0.2:2375"];
        check(&cluster, vec![], &known, &[]);
        check(
            &cluster,
            vec![given("tcp://10.0.0.1:2375", None)],
            &known,
            &[],
        );
        check(
            &cluster,
            vec![given("other=tcp://10.0.0.1:2375", None)],
            &known,
            &["stays node alpha, though the settings call it other"],
        );
        check(
            &cluster,
            vec![given("tcp://10.0.0.1:2375", Some("192.0.2.1"))],
            &known,
            &["node alpha keeps the address 10.0.0.1"],
        );
        let more = [known[0], known[1], "gamma tcp://10.0.0.3:2375 new"];
        check(
            &cluster,
            vec![given("gamma=tcp://10.0.0.3:2375", None)],
            &more,
            &[],
        );
    }

    #[test]
    fn the_settings_say_which_files_a_node_is_reached_with() {
        let mut by_tls = add(1, "alpha");
        if let Command::AddNode { endpoint, .. } = &mut by_tls {
            endpoint.push_str("?tls=/old");
        }
        let moved = given("alpha=tcp://10.0.0.1:2375?tls=/new", None);
        let silent = given("alpha=tcp://10.0.0.1:2375", None);
        let (old, new) = (
            "alpha tcp://10.0.0.1:2375?tls=/old",
            "alpha tcp://10.0.0.1:2375?tls=/new",
        );
        let cluster_of = |command| cluster([command]);
        check(&cluster_of(by_tls.clone()), vec![], &[old], &[]);
        check(&cluster_of(by_tls.clone()), vec![silent], &[old], &[]);
        check(&cluster_of(by_tls), vec![moved.clone()], &[new], &[]);
        check(&cluster_of(add(1, "alpha")), vec![moved], &[new], &[]);
    }

    #[test]
    fn what_an_operator_removed_stays_out_until_it_is_added_again() {
        let remove = Command::RemoveNode {
            node: NodeId::from_bytes([1; 16]),
            force: false,
        };
        let given = || vec![given("alpha=tcp://10.0.0.1:2375", None)];
        let removed = cluster([add(1, "alpha"), remove.clone()]);
        check(
            &removed,
            given(),
            &[],
            &["`flotilla node add tcp://10.0.0.1:2375` brings it back"],
        );
        let again = Command::AddNode {
            node: NodeId::from_bytes([9; 16]),
            name: "alpha".parse().expect("a name"),
            endpoint: "tcp://10.0.0.1:2375".to_owned(),
            address: None,
            labels: BTreeMap::new(),
        };
        let added = cluster([add(1, "alpha"), remove, again]);
        check(&added, given(), &["alpha tcp://10.0.0.1:2375"], &[]);
    }
}
