//! What references mean, what follows from what is seen, and what is left over.

use super::engines::is_left_over;
use super::*;
use crate::engine::{HostTag, OwnNetwork};
use crate::model::ContainerId;
use crate::state::{Envelope, Promise};
use crate::state::{RandomPorts, Settings};
use jiff::Timestamp;

fn id(number: u8) -> NetworkId {
    NetworkId::from_bytes([number; 32])
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

/// Networks `front` (01…), bound to node 1, and `back` (12…), which is nowhere.
fn cluster() -> Cluster {
    let commands = [
        Command::Found {
            cluster: crate::model::ClusterId::from_bytes([9; 16]),
            settings: Settings {
                name: "c".to_owned(),
                random_ports: RandomPorts::default(),
            },
        },
        Command::AddNode {
            node: node(1),
            name: "host1".parse().expect("a name"),
            endpoint: "e".to_owned(),
            address: None,
            labels: BTreeMap::new(),
        },
        add(0x01, "front", Some(node(1))),
        add(0x12, "back", None),
        add(0x13, "host1/deep", None),
    ];
    let mut cluster = Cluster::new();
    for command in commands {
        let request = RequestId::from_bytes([1; 16]);
        let envelope = Envelope::new(request, Caller::local(), Timestamp::UNIX_EPOCH, command);
        cluster.apply(envelope).expect("accepted");
    }
    cluster
}

fn add(number: u8, name: &str, node: Option<NodeId>) -> Command {
    Command::AddNetwork {
        network: id(number),
        name: name.to_owned(),
        spec: "{}".to_owned(),
        group: None,
        node,
    }
}

#[test]
fn a_reference_is_an_id_a_name_or_a_beginning() {
    let cluster = cluster();
    let check = |reference: &str, expected: &str| {
        let is_node = |text: &str, at| text == "host1" && at == node(1);
        let is_strangers = || reference == "12";
        let found = meant(&cluster, reference, is_node, is_strangers);
        assert_eq!(
            found.map_or("-", |n| n.name.as_str()),
            expected,
            "{reference}"
        );
    };
    check("front", "front");
    check(&id(0x12).to_string(), "back");
    check("host1/front", "front");
    check("host1/back", "-");
    check("host2/front", "-");
    check("host1/deep", "host1/deep");
    check("0101", "front");
    check("1", "-");
    check("121", "back");
    // An engine has a network that is called so.
    check("12", "-");
    check("", "-");
    check("bridge", "-");
}

/// A container of node 1 as its engine lists it, in these networks.
fn seen_in(networks: &[u8]) -> Container {
    let tag = Arc::new(HostTag::new(
        node(1),
        "host1".parse().expect("a name"),
        None,
        "tcp://10.0.0.1:2375".parse().expect("an endpoint"),
        crate::model::ClusterId::from_bytes([9; 16]),
        false,
    ));
    let mut joined = serde_json::Map::new();
    for number in networks {
        tag.networks.made(OwnNetwork {
            id: id(*number),
            engine_id: id(number + 0x80),
            name: format!("n{number}"),
        });
        let endpoint = serde_json::json!({"NetworkID": id(number + 0x80)});
        joined.insert(format!("n{number}"), endpoint);
    }
    let item = serde_json::json!({
        "Id": ContainerId::from_bytes([5; 32]),
        "Names": ["/web"],
        "Labels": {},
        "State": "running",
        "Status": "Up 2 seconds",
        "NetworkSettings": {"Networks": joined},
    });
    Container::read(item.to_string().as_bytes(), &tag).expect("reads")
}

#[test]
fn what_is_seen_is_followed_but_for_what_is_due() {
    let mut cluster = cluster();
    let request = RequestId::from_bytes([2; 16]);
    let mut apply = |command| {
        let at = Timestamp::UNIX_EPOCH;
        let envelope = Envelope::new(request, Caller::local(), at, command);
        cluster.apply(envelope).expect("accepted");
        cluster.clone()
    };
    apply(Command::JudgeReady { node: node(1) });
    let joined = apply(Command::Reserve(Promise {
        request,
        name: "web".to_owned(),
        node: node(1),
        owner: crate::model::Owner::Plain,
        claim: crate::model::Resources::ZERO,
        generic: crate::model::generic::Counts::default(),
        ports: Vec::new(),
        networks: vec![id(0x01)],
        volumes: Vec::new(),
        new_volumes: Vec::new(),
        replaces: None,
        acting: crate::model::ManagerId::from_bytes([1; 16]),
        recipe: None,
    }));
    let network = id(0x01);
    let leaving = apply(Command::LeaveNetworkLater { request, network });
    let left = apply(Command::SettleLeave { request, network });
    let check = |cluster: &Cluster, seen: &[u8], expected: Option<Command>| {
        let placement = cluster.placement(request).expect("there");
        assert_eq!(joining(&seen_in(seen), placement, cluster), expected);
    };
    let join = |number| {
        let network = id(number);
        Some(Command::JoinNetwork { request, network })
    };
    let leave = Some(Command::LeaveNetwork { request, network });
    check(&joined, &[0x01], None);
    check(&joined, &[], leave);
    check(&joined, &[0x01, 0x12], join(0x12));
    // Its engine has not been told yet.
    check(&leaving, &[0x01], None);
    check(&leaving, &[0x01, 0x12], join(0x12));
    check(&leaving, &[], None);
    check(&left, &[0x01], join(0x01));
    check(&left, &[], None);
}

#[test]
fn what_nothing_needs_on_a_node_is_left_over() {
    for (bound, joined, expected) in [
        (Some(1), false, false),
        (Some(1), true, false),
        (Some(2), false, true),
        (None, false, true),
        (Some(2), true, false),
        (None, true, false),
    ] {
        assert_eq!(is_left_over(bound.map(node), node(1), joined), expected);
    }
}
