//! The cluster as those who command it see it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use raft_store::Machine as _;

use super::*;
use crate::model::generic::Counts;
use crate::model::{
    ApiRange, Availability, Caller, EngineFacts, ManagerId, Owner, Platform, PortClaim, PortOrigin,
    Protocol, PublishedPort, Realised, Residence, VolumeSpec,
};

const GIB: u64 = 1 << 30;

fn request(number: u8) -> RequestId {
    RequestId::from_bytes([number; 16])
}

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn network(number: u8) -> NetworkId {
    NetworkId::from_bytes([number; 32])
}

fn container(number: u8) -> ContainerId {
    ContainerId::from_bytes([number; 32])
}

fn second(number: i64) -> Timestamp {
    Timestamp::from_second(number).expect("in range")
}

fn port(number: u16, origin: PortOrigin) -> PortClaim {
    let port = PublishedPort {
        protocol: Protocol::Tcp,
        address: None,
        number,
    };
    PortClaim {
        port,
        container_port: 80,
        origin,
        group: None,
    }
}

/// A promise for request `number` with that name on node `on`, asking for nothing.
fn promise(number: u8, name: &str, on: u8) -> Promise {
    Promise {
        request: request(number),
        name: name.to_owned(),
        node: node(on),
        owner: Owner::Plain,
        claim: Resources::ZERO,
        generic: Counts::default(),
        ports: Vec::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
        new_volumes: Vec::new(),
        acting: ManagerId::from_bytes([1; 16]),
        recipe: None,
    }
}

fn found() -> Command {
    let settings = Settings {
        name: "test".to_owned(),
        random_ports: RandomPorts::default(),
    };
    Command::Found {
        cluster: ClusterId::from_bytes([9; 16]),
        settings,
    }
}

fn add_node(number: u8) -> Command {
    Command::AddNode {
        node: node(number),
        name: format!("host{number}").parse().expect("valid"),
        endpoint: format!("tcp://10.0.0.{number}:2375"),
        address: None,
        labels: BTreeMap::new(),
    }
}

fn report(number: u8, capacity: Resources) -> Command {
    let version = |minor| api_compat::version::ApiVersion::new(1, minor);
    Command::ReportNode {
        node: node(number),
        engine: EngineFacts {
            engine_id: format!("engine {number}"),
            capacity,
            allocatable: None,
            generic: [("gpu", 4)].into_iter().collect(),
            platform: Platform {
                os: "linux".to_owned(),
                arch: "amd64".to_owned(),
            },
            engine_version: "28.5.2".to_owned(),
            api: ApiRange {
                min: version(24),
                max: version(51),
            },
        },
    }
}

fn down(number: u8) -> Command {
    Command::JudgeDown {
        node: node(number),
        reason: "no answer for 3s".to_owned(),
    }
}

fn exited(number: u8, run: u32) -> Command {
    Command::Exited {
        request: request(number),
        run,
    }
}

fn reclaim(number: u8) -> Command {
    Command::Reclaim {
        request: request(number),
        running: false,
    }
}

/// A cluster, and the second it is now.
struct World {
    cluster: Cluster,
    now: i64,
}

impl World {
    /// Two ready nodes with 4 CPUs and 8 GiB each.
    fn new() -> Self {
        let mut world = Self {
            cluster: Cluster::new(),
            now: 0,
        };
        world.ok(found());
        for number in [1, 2] {
            world.ok(add_node(number));
            world.ok(report(number, Resources::new(4_000_000_000, 8 * GIB)));
            world.ok(Command::JudgeReady { node: node(number) });
        }
        world
    }

    fn apply(&mut self, command: Command) -> Result<Change, Refusal> {
        let at = second(self.now);
        let mut before = self.cluster.clone();
        before.pass_time(at);
        let envelope = Envelope::new(request(0), Caller::local(), at, command.clone());
        let outcome = self.cluster.apply(envelope);
        if outcome.is_err() {
            assert!(before == self.cluster, "refused, but changed: {command:?}");
        }
        let broken = audit(&self.cluster);
        assert!(broken.is_empty(), "{command:?}: {broken:?}");
        outcome
    }

    /// Applies it, and once more: both must give the same.
    fn ok(&mut self, command: Command) {
        let first = self.apply(command.clone()).expect("accepted");
        if !matches!(
            command,
            Command::BeginRename { .. } | Command::Exited { .. }
        ) {
            assert_eq!(self.apply(command), Ok(first));
        }
    }

    fn refused(&mut self, command: Command) -> String {
        self.apply(command).expect_err("refused").to_string()
    }
}

#[test]
fn nothing_is_done_before_the_founding() {
    let mut world = World {
        cluster: Cluster::new(),
        now: 0,
    };
    assert_eq!(
        world.refused(add_node(1)),
        "the cluster has not been founded"
    );
    world.ok(found());
    let other = ClusterId::from_bytes([8; 16]);
    let settings = Settings {
        name: String::new(),
        random_ports: RandomPorts::default(),
    };
    let text = world.refused(Command::Found {
        cluster: other,
        settings,
    });
    assert_eq!(text, format!("this is cluster {} already", "09".repeat(16)));
}

#[test]
fn a_name_has_one_holder_who_is_named() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    assert_eq!(
        world.refused(Command::Reserve(promise(2, "web", 2))),
        format!(
            "the container name web is held by request {}, which is being created on node host1",
            "01".repeat(16)
        )
    );
    world.ok(Command::Bind {
        request: request(1),
        container: container(1),
    });
    assert_eq!(
        world.refused(Command::Reserve(promise(2, "web", 2))),
        format!(
            "the container name web is held by container {} on node host1",
            "01".repeat(32)
        )
    );
    world.ok(Command::Remove {
        request: request(1),
    });
    world.ok(Command::Reserve(promise(2, "web", 2)));
}

#[test]
fn a_request_comes_once() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    let text = world.refused(Command::Reserve(promise(1, "web", 2)));
    assert_eq!(
        text,
        format!(
            "request {} is container web on node host1 already",
            request(1)
        )
    );
    world.ok(Command::Release {
        request: request(1),
    });
    let over = format!(
        "request {} for container web was given up on node host1",
        request(1)
    );
    assert_eq!(world.refused(Command::Reserve(promise(1, "web", 1))), over);
    let late = Command::Bind {
        request: request(1),
        container: container(1),
    };
    assert_eq!(world.refused(late), over);
}

#[test]
fn only_a_ready_and_active_node_takes_new_work() {
    let mut world = World::new();
    let availability = |availability| Command::UpdateNode {
        address: None,
        node: node(1),
        name: None,
        availability: Some(availability),
        labels: None,
    };
    world.ok(availability(Availability::Drain));
    let reserve = Command::Reserve(promise(1, "web", 1));
    assert_eq!(
        world.refused(reserve.clone()),
        "node host1 takes no new containers: its availability is drain"
    );
    world.ok(availability(Availability::Active));
    world.ok(down(1));
    assert_eq!(
        world.refused(reserve.clone()),
        "node host1 is down: no answer for 3s"
    );
    world.ok(Command::JudgeReady { node: node(1) });
    world.ok(reserve);
}

#[test]
fn a_verdict_keeps_its_age() {
    let mut world = World::new();
    world.now = 10;
    world.ok(down(1));
    world.now = 20;
    world.ok(Command::JudgeDown {
        node: node(1),
        reason: "refused".to_owned(),
    });
    let node = world.cluster.node(node(1)).expect("there");
    assert_eq!(
        (node.since, node.verdict.to_string()),
        (second(10), "down: refused".to_owned())
    );
}

#[test]
fn a_full_node_says_the_numbers() {
    let mut world = World::new();
    let gib = |number, gib| {
        let claim = Resources::new(1_000_000_000, gib * GIB);
        Command::Reserve(Promise {
            claim,
            ..promise(number, &format!("c{number}"), 1)
        })
    };
    world.ok(gib(1, 6));
    let lacks = "node host1 lacks memory (need 3GiB, 2GiB free of 8GiB)";
    assert_eq!(world.refused(gib(2, 3)), lacks);
    let set_claim = |gib| Command::SetClaim {
        request: request(1),
        claim: Resources::new(1_000_000_000, gib * GIB),
    };
    let lacks = "node host1 lacks memory (need 3GiB, 2GiB free of 8GiB)";
    assert_eq!(world.refused(set_claim(9)), lacks);
    world.ok(set_claim(8));
    world.ok(set_claim(1));
    world.ok(gib(2, 3));
    assert_eq!(
        world.cluster.free(node(1)),
        Resources::new(2_000_000_000, 4 * GIB)
    );
    world.ok(report(1, Resources::new(1, 1)));
    world.ok(set_claim(1));
    assert_eq!(world.cluster.free(node(1)), Resources::ZERO);
}

#[test]
fn an_exited_container_claims_again_when_it_starts() {
    let mut world = World::new();
    let big = |number, name| Promise {
        claim: Resources::new(0, 6 * GIB),
        ports: vec![
            port(80, PortOrigin::Asked),
            port(10_000, PortOrigin::Chosen),
        ],
        ..promise(number, name, 1)
    };
    world.ok(Command::Reserve(big(1, "one")));
    world.ok(exited(1, 1));
    let chosen = world.refused(Command::Reserve(big(2, "two")));
    assert_eq!(
        chosen,
        "port 10000/tcp on node host1 is held by container one"
    );
    let ports = vec![port(80, PortOrigin::Asked)];
    world.ok(Command::Reserve(Promise {
        ports,
        ..big(2, "two")
    }));
    let port = world.refused(reclaim(1));
    assert_eq!(port, "port 80/tcp on node host1 is held by container two");
    world.ok(exited(2, 1));
    world.ok(reclaim(1));
    assert_eq!(
        world.cluster.totals(node(1)).claimed,
        Resources::new(0, 6 * GIB)
    );
}

#[test]
fn what_nodes_have_a_number_of_is_not_promised_twice() {
    let mut world = World::new();
    let gpus = |number, on, count| Promise {
        generic: [("gpu", count)].into_iter().collect(),
        ..promise(number, &format!("c{number}"), on)
    };
    world.ok(Command::Reserve(gpus(1, 1, 3)));
    let lacks = "node host1 lacks gpu (need 2, 1 free of 4)";
    assert_eq!(world.refused(Command::Reserve(gpus(2, 1, 2))), lacks);
    // What has exited claims nothing, and claims anew when it starts.
    world.ok(exited(1, 1));
    world.ok(Command::Reserve(gpus(2, 1, 2)));
    let lacks = "node host1 lacks gpu (need 3, 2 free of 4)";
    assert_eq!(world.refused(reclaim(1)), lacks);
    world.ok(Command::Remove {
        request: request(2),
    });
    world.ok(reclaim(1));
    let left = world.cluster.stock(node(1)).left("gpu");
    assert_eq!(left.map(|left| (left.free, left.of)), Some((1, 4)));
    // What an operator says goes before what the engine says.
    let label = |count: &str| Command::UpdateNode {
        node: node(2),
        name: None,
        address: None,
        availability: None,
        labels: Some([("com.flotilla.resource.gpu".to_owned(), count.to_owned())].into()),
    };
    world.ok(label("1"));
    let lacks = "node host2 lacks gpu (need 2, 1 free of 1)";
    assert_eq!(world.refused(Command::Reserve(gpus(3, 2, 2))), lacks);
    world.ok(label("0"));
    assert_eq!(
        world.refused(Command::Reserve(gpus(3, 2, 1))),
        "node host2 has no gpu"
    );
}

#[test]
fn what_no_node_states_is_not_counted() {
    let mut world = World::new();
    let tpus = |number| Promise {
        generic: [("tpu", 1)].into_iter().collect(),
        ..promise(number, &format!("c{number}"), 1)
    };
    world.ok(Command::Reserve(tpus(1)));
    world.ok(Command::Reserve(tpus(2)));
    world.ok(Command::UpdateNode {
        node: node(2),
        name: None,
        address: None,
        availability: None,
        labels: Some([("com.flotilla.resource.tpu".to_owned(), "8".to_owned())].into()),
    });
    assert_eq!(
        world.refused(Command::Reserve(tpus(3))),
        "node host1 has no tpu"
    );
}

#[test]
fn an_exposed_port_keeps_others_away_and_refuses_nothing() {
    let mut world = World::new();
    let exposing = |number, origin| Promise {
        ports: vec![port(80, origin)],
        ..promise(number, &format!("c{number}"), 1)
    };
    let exposer = |world: &World| {
        let port = port(80, PortOrigin::Exposed).port;
        world.cluster.ports().exposer_on(node(1), &port)
    };
    world.ok(Command::Reserve(exposing(1, PortOrigin::Exposed)));
    world.ok(Command::Reserve(exposing(2, PortOrigin::Exposed)));
    world.ok(Command::Reserve(exposing(3, PortOrigin::Asked)));
    assert_eq!(exposer(&world), Some(request(1)));
    world.ok(exited(1, 1));
    assert_eq!(exposer(&world), Some(request(2)));
    world.ok(exited(2, 1));
    assert_eq!(exposer(&world), None);
    world.ok(reclaim(1));
    assert_eq!(exposer(&world), Some(request(1)));
}

#[test]
fn an_exit_of_an_earlier_run_is_recognised() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    let mut once = |command| world.apply(command);
    assert!(once(reclaim(1)).is_ok());
    let stale = once(exited(1, 1)).expect_err("stale").to_string();
    assert_eq!(stale, "container web on node host1 was started again since");
    assert!(once(exited(1, 2)).is_ok());
    assert!(!world.cluster.placement(request(1)).expect("there").claiming);
}

#[test]
fn a_start_is_refused_for_room_unless_it_has_happened() {
    let mut world = World::new();
    let big = |number, name| Promise {
        claim: Resources::new(0, 6 * GIB),
        ..promise(number, name, 1)
    };
    world.ok(Command::Reserve(big(1, "one")));
    world.ok(exited(1, 1));
    world.ok(Command::Reserve(big(2, "two")));
    let lacks = "node host1 lacks memory (need 6GiB, 2GiB free of 8GiB)";
    assert_eq!(world.refused(reclaim(1)), lacks);
    world.ok(Command::Reclaim {
        request: request(1),
        running: true,
    });
    assert_eq!(
        world.cluster.totals(node(1)).claimed,
        Resources::new(0, 12 * GIB)
    );
}

#[test]
fn a_port_is_held_on_its_node_and_a_chosen_one_in_the_pool() {
    let mut world = World::new();
    let with = |number: u8, on, claim| {
        let ports = vec![claim];
        Command::Reserve(Promise {
            ports,
            ..promise(number, &format!("c{number}"), on)
        })
    };
    world.ok(with(1, 1, port(80, PortOrigin::Asked)));
    world.ok(with(2, 2, port(80, PortOrigin::Asked)));
    let taken = "port 80/tcp on node host1 is held by container c1";
    assert_eq!(
        world.refused(with(3, 1, port(80, PortOrigin::Asked))),
        taken
    );
    let mut local = port(80, PortOrigin::Asked);
    local.port.address = Some([127, 0, 0, 1].into());
    let taken = "port 127.0.0.1:80/tcp on node host1 is held by container c1";
    assert_eq!(world.refused(with(3, 1, local)), taken);
    world.ok(with(4, 1, port(12_000, PortOrigin::Chosen)));
    let taken = "port 12000/tcp on node host1 is held by container c4";
    assert_eq!(
        world.refused(with(5, 2, port(12_000, PortOrigin::Chosen))),
        taken
    );
    world.ok(with(6, 2, port(12_000, PortOrigin::Asked)));
    // One that ended, or waits for a port of another, publishes it all the same: nobody else may listen there.
    world.ok(with(7, 1, port(13_000, PortOrigin::Asked)));
    world.ok(with(8, 1, port(13_000, PortOrigin::Waiting)));
    let published = |world: &World, number| {
        let ports = world.cluster.ports();
        ports.published_on(Protocol::Tcp, number).eq([node(1)])
    };
    assert!(published(&world, 13_000) && !published(&world, 13_001));
    world.ok(Command::Release {
        request: request(7),
    });
    assert!(published(&world, 13_000));
    world.ok(Command::Release {
        request: request(8),
    });
    assert!(!published(&world, 13_000));
    let range = RandomPorts {
        first: 11_999,
        last: 12_001,
    };
    let free = |start| {
        world
            .cluster
            .ports()
            .free_number(Protocol::Tcp, range, start, |_| true)
    };
    assert_eq!(free(12_000), Some(12_001));
    assert_eq!(free(0), Some(11_999));
    assert_eq!(free(u16::MAX), Some(12_001));
}

#[test]
fn a_volume_that_was_never_made_is_promised_to_its_users_only() {
    let mut world = World::new();
    let with = |number: u8, on| {
        let volumes = vec!["data".to_owned(), "data".to_owned()];
        Command::Reserve(Promise {
            volumes,
            ..promise(number, &format!("c{number}"), on)
        })
    };
    world.ok(with(1, 1));
    world.ok(with(2, 1));
    let elsewhere = "volume data is on node host1, not on node host2";
    assert_eq!(world.refused(with(3, 2)), elsewhere);
    world.ok(Command::Remove {
        request: request(1),
    });
    assert_eq!(world.refused(with(3, 2)), elsewhere);
    world.ok(Command::Remove {
        request: request(2),
    });
    world.ok(with(3, 2));
}

/// `name driver place`, a volume each.
fn volumes_of(world: &World) -> Vec<String> {
    let shown = world.cluster.volumes().map(|volume| {
        let label = |node: &NodeId| world.cluster.node(*node).expect("a node").name.to_string();
        let list = |nodes: &std::collections::BTreeSet<NodeId>| {
            nodes.iter().map(label).collect::<Vec<_>>().join("+")
        };
        let place = match &volume.residence {
            Residence::Unbound => "unbound".to_owned(),
            Residence::On { node, made: true } => format!("on {}", label(node)),
            Residence::On { node, made: false } => format!("promised on {}", label(node)),
            Residence::Shared { nodes } => format!("shared by [{}]", list(nodes)),
            Residence::PerNode { nodes } => format!("one on each of [{}]", list(nodes)),
        };
        format!("{} {place}", volume.spec.name)
    });
    shown.collect()
}

fn asked(name: &str, labels: &[(&str, &str)]) -> VolumeSpec {
    let owned = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    VolumeSpec {
        labels: Some(owned.collect()),
        ..VolumeSpec::plain(name)
    }
}

fn add_volume(spec: VolumeSpec) -> Command {
    Command::AddVolume {
        spec,
        on: None,
        made: false,
    }
}

fn remove_volume(name: &str, on: Option<u8>, due: &[u8]) -> Command {
    Command::RemoveVolume {
        name: name.to_owned(),
        on: on.map(node),
        due: due.iter().copied().map(node).collect(),
    }
}

fn mounting(number: u8, on: u8, volumes: &[&str]) -> Command {
    Command::Reserve(Promise {
        volumes: volumes.iter().map(|&name| name.to_owned()).collect(),
        ..promise(number, &format!("c{number}"), on)
    })
}

fn bound(number: u8) -> Command {
    Command::Bind {
        request: request(number),
        container: container(number),
    }
}

fn release(number: u8) -> Command {
    Command::Release {
        request: request(number),
    }
}

fn removed(number: u8) -> Command {
    Command::Remove {
        request: request(number),
    }
}

#[test]
fn a_volume_goes_where_its_first_container_goes_and_stays() {
    let mut world = World::new();
    world.ok(add_volume(asked("data", &[])));
    assert_eq!(volumes_of(&world), ["data unbound"]);
    world.ok(mounting(1, 2, &["data"]));
    assert_eq!(volumes_of(&world), ["data promised on host2"]);
    // The engine refused the container: nothing holds the volume there.
    world.ok(release(1));
    assert_eq!(volumes_of(&world), ["data unbound"]);
    world.ok(mounting(2, 1, &["data", "new"]));
    world.ok(bound(2));
    assert_eq!(volumes_of(&world), ["data on host1", "new on host1"]);
    world.ok(removed(2));
    assert_eq!(volumes_of(&world), ["data on host1", "new on host1"]);
    let elsewhere = "volume data is on node host1, not on node host2";
    assert_eq!(world.refused(mounting(3, 2, &["data"])), elsewhere);
    // Also when its node is down.
    world.ok(down(1));
    assert_eq!(world.refused(mounting(3, 2, &["data"])), elsewhere);
    world.ok(remove_volume("data", None, &[1]));
    world.ok(mounting(3, 2, &["data"]));
    let due: Vec<_> = world.cluster.volumes_due_on(node(1)).collect();
    assert_eq!(due, ["data"]);
    world.ok(Command::SettleVolume {
        name: "data".to_owned(),
        node: node(1),
    });
    assert_eq!(world.cluster.volumes_due_on(node(1)).count(), 0);
}

#[test]
fn a_volume_is_not_removed_under_its_containers() {
    let mut world = World::new();
    world.ok(add_volume(asked("data", &[])));
    world.ok(mounting(1, 1, &["data"]));
    let in_use = "volume data is mounted by 1 containers";
    assert_eq!(world.refused(remove_volume("data", None, &[])), in_use);
    assert_eq!(world.refused(remove_volume("data", Some(1), &[])), in_use);
    world.ok(bound(1));
    world.ok(removed(1));
    // What another node lacks says nothing.
    world.ok(remove_volume("data", Some(2), &[]));
    assert_eq!(volumes_of(&world), ["data on host1"]);
    world.ok(remove_volume("data", Some(1), &[]));
    assert_eq!(volumes_of(&world), Vec::<String>::new());
}

#[test]
fn what_is_shared_or_per_node_ties_nobody() {
    let mut world = World::new();
    world.ok(add_volume(asked(
        "all",
        &[("com.flotilla.volume", "shared")],
    )));
    world.ok(add_volume(asked(
        "own",
        &[("com.flotilla.volume", "per-node")],
    )));
    for (number, on) in [(1, 1), (2, 2)] {
        world.ok(mounting(number, on, &["all", "own"]));
        world.ok(bound(number));
    }
    assert_eq!(
        volumes_of(&world),
        [
            "all shared by [host1+host2]",
            "own one on each of [host1+host2]"
        ]
    );
    world.ok(removed(1));
    world.ok(remove_volume("own", Some(1), &[]));
    let in_use = "volume own is mounted by 1 containers";
    assert_eq!(world.refused(remove_volume("own", Some(2), &[])), in_use);
    world.ok(removed(2));
    world.ok(remove_volume("own", Some(2), &[]));
    // It was asked for: it is made again where it is needed.
    assert_eq!(
        volumes_of(&world),
        ["all shared by [host1+host2]", "own one on each of []"]
    );
}

#[test]
fn a_name_belongs_to_one_driver() {
    let mut world = World::new();
    world.ok(add_volume(asked("data", &[])));
    let other = VolumeSpec {
        driver: "other".to_owned(),
        ..VolumeSpec::plain("data")
    };
    assert_eq!(
        world.refused(add_volume(other)),
        "driver 'local' already has volume 'data': volume name must be unique"
    );
    // The first one stays what it was, whatever the second asks for, as on an engine.
    world.ok(add_volume(asked("data", &[("a", "b")])));
    let volume = world.cluster.volume(Realm::DEFAULT, "data");
    assert_eq!(volume.expect("a record").spec, asked("data", &[]));
}

#[test]
fn volumes_leave_with_their_node() {
    let mut world = World::new();
    world.ok(add_volume(asked("asked", &[])));
    world.ok(mounting(1, 1, &["asked", "data"]));
    world.ok(bound(1));
    world.ok(add_volume(asked("later", &[])));
    world.ok(mounting(2, 1, &["later", "unasked"]));
    world.ok(down(1));
    world.ok(remove_volume("gone", None, &[1]));
    world.ok(Command::RemoveNode {
        node: node(1),
        force: true,
    });
    assert_eq!(volumes_of(&world), ["later unbound"]);
}

#[test]
fn a_snapshot_of_before_volumes_had_records_gets_them() {
    let mut world = World::new();
    world.ok(mounting(1, 1, &["data"]));
    world.ok(bound(1));
    world.ok(mounting(2, 2, &["other"]));
    let snapshot = world.cluster.to_snapshot();
    let mut old: serde_json::Value = serde_json::from_slice(&snapshot).expect("JSON");
    let fields = old.as_object_mut().expect("an object");
    fields.remove("volumes").expect("volumes");
    fields.remove("volumes_due").expect("removals");
    let old = serde_json::to_vec(&old).expect("JSON");
    world.cluster = Cluster::from_snapshot(&old).expect("reads");
    assert_eq!(audit(&world.cluster), []);
    assert_eq!(
        volumes_of(&world),
        ["data on host1", "other promised on host2"]
    );
}

#[test]
fn a_network_goes_where_its_first_container_goes() {
    let mut world = World::new();
    let (name, spec) = ("front".to_owned(), "{}".to_owned());
    world.ok(Command::AddNetwork {
        network: network(1),
        name: name.clone(),
        spec: spec.clone(),
        group: None,
        node: None,
    });
    let twin = Command::AddNetwork {
        network: network(2),
        name,
        spec,
        group: None,
        node: None,
    };
    assert_eq!(
        world.refused(twin),
        "the network name front is held by another network"
    );
    let with = |number: u8, on| {
        let networks = vec![network(1)];
        Command::Reserve(Promise {
            networks,
            ..promise(number, &format!("c{number}"), on)
        })
    };
    world.ok(with(1, 1));
    assert_eq!(
        world.refused(with(2, 2)),
        "network front is on node host1, not on node host2: a network of one host reaches no \
         other, and stays where it is as long as containers join it"
    );
    let realise = |on| Command::RealiseNetwork {
        network: network(1),
        node: node(on),
        engine_id: network(7),
    };
    world.ok(realise(1));
    assert!(
        world
            .refused(realise(2))
            .starts_with("network front is on node host1")
    );
    let remove = Command::BeginRemoveNetwork {
        network: network(1),
    };
    assert_eq!(
        world.refused(remove.clone()),
        "network front has 1 container"
    );
    world.ok(Command::Remove {
        request: request(1),
    });
    let realised = |world: &World| {
        let front = world.cluster.network(network(1)).expect("there");
        front.realised.clone()
    };
    assert_eq!(realised(&world), Realised::Unbound);
    assert_eq!(
        world.refused(realise(1)),
        "network front is not bound to node host1"
    );
    world.ok(with(2, 2));
    assert_eq!(
        realised(&world),
        Realised::On {
            node: node(2),
            engine_id: None
        }
    );
    world.ok(Command::Remove {
        request: request(2),
    });
    world.ok(remove);
    assert_eq!(world.refused(with(3, 2)), "network front is being removed");
    world.ok(Command::RemoveNetwork {
        network: network(1),
    });
}

fn add_network(number: u8, on: Option<u8>, group: Option<&str>) -> Command {
    Command::AddNetwork {
        network: network(number),
        name: format!("n{number}"),
        spec: "{}".to_owned(),
        group: group.map(str::to_owned),
        node: on.map(node),
    }
}

#[test]
fn a_network_is_joined_and_left_later_too() {
    let mut world = World::new();
    world.ok(add_network(1, None, None));
    for (number, on) in [(1, 1), (2, 2)] {
        world.ok(Command::Reserve(promise(number, &format!("c{number}"), on)));
    }
    let join = |number| Command::JoinNetwork {
        request: request(number),
        network: network(1),
    };
    let leave = |number| Command::LeaveNetwork {
        request: request(number),
        network: network(1),
    };
    let on = |world: &World| world.cluster.network(network(1)).and_then(|n| n.node());
    world.ok(join(1));
    assert_eq!(on(&world), Some(node(1)));
    assert!(
        world
            .refused(join(2))
            .contains("is on node host1, not on node host2")
    );
    world.ok(leave(1));
    assert_eq!(on(&world), None);
    world.ok(join(2));
    assert_eq!(on(&world), Some(node(2)));
    assert!(
        world
            .refused(Command::RemoveNetwork {
                network: network(1)
            })
            .contains("has 1 container")
    );
}

#[test]
fn a_container_is_cut_off_from_a_network_when_its_node_is_back() {
    let mut world = World::new();
    world.ok(add_network(1, None, None));
    let with = |number: u8, on| {
        Command::Reserve(Promise {
            networks: vec![network(1)],
            ..promise(number, &format!("c{number}"), on)
        })
    };
    let (request, network) = (request(1), network(1));
    let remove = |number: u8| Command::Remove {
        request: self::request(number),
    };
    let later = || Command::LeaveNetworkLater { request, network };
    let settle = || Command::SettleLeave { request, network };
    let lists = |world: &World| {
        let placement = world.cluster.placement(request).expect("there");
        (placement.networks.len(), placement.leaving.len())
    };
    world.ok(with(1, 1));
    world.ok(down(1));
    world.ok(later());
    assert_eq!(lists(&world), (0, 1));
    // It binds the network no more, which may go elsewhere, or go.
    world.ok(with(2, 2));
    world.ok(remove(2));
    world.ok(Command::RemoveNetwork { network });
    assert_eq!(lists(&world), (0, 1));
    world.ok(settle());
    assert_eq!(lists(&world), (0, 0));
    // It has never joined this one.
    world.ok(add_network(1, None, None));
    world.ok(later());
    assert_eq!(lists(&world), (0, 0));
    // What is connected anew is not cut off.
    world.ok(Command::JoinNetwork { request, network });
    world.ok(later());
    world.ok(Command::JoinNetwork { request, network });
    assert_eq!(lists(&world), (1, 0));
    world.ok(settle());
    assert_eq!(lists(&world), (1, 0));
}

#[test]
fn a_network_whose_user_named_a_node_stays_there() {
    let mut world = World::new();
    world.ok(add_network(1, Some(1), None));
    let with = |number: u8, on| {
        Command::Reserve(Promise {
            networks: vec![network(1)],
            ..promise(number, &format!("c{number}"), on)
        })
    };
    assert!(world.refused(with(1, 2)).contains("is on node host1"));
    world.ok(with(1, 1));
    world.ok(Command::Remove {
        request: request(1),
    });
    let on = |world: &World| world.cluster.network(network(1)).and_then(|n| n.node());
    assert_eq!(on(&world), Some(node(1)));
    // A node that leaves takes its promise with it, not the network.
    world.ok(Command::RemoveNode {
        node: node(1),
        force: false,
    });
    assert_eq!(on(&world), None);
    world.ok(with(2, 2));
    world.ok(Command::RemoveNode {
        node: node(2),
        force: true,
    });
    assert_eq!(on(&world), None);
    assert!(
        world
            .refused(add_network(2, Some(1), None))
            .contains("there is no node")
    );
}

#[test]
fn networks_are_found_by_group_and_by_the_beginning_of_their_ids() {
    let mut world = World::new();
    for (number, group) in [(1, Some("a")), (2, Some("b")), (3, Some("a")), (4, None)] {
        world.ok(add_network(number, None, group));
    }
    let of = |world: &World, group: &str| {
        let all = world.cluster.networks_of_group(group);
        all.map(|network| network.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(&world, "a"), ["n1", "n3"]);
    world.ok(Command::RemoveNetwork {
        network: network(1),
    });
    assert_eq!(of(&world, "a"), ["n3"]);
    assert!(of(&world, "").is_empty());
    let by = |prefix: &str| world.cluster.networks_by_prefix(prefix).count();
    assert_eq!((by("03"), by("0"), by("1"), by("x")), (1, 3, 0, 0));
}

#[test]
fn a_rename_holds_both_names_until_the_engine_has_answered() {
    let mut world = World::new();
    let rename = |number, name: &str| Command::BeginRename {
        request: request(number),
        new_name: name.to_owned(),
    };
    let end = |number, keep| Command::EndRename {
        request: request(number),
        keep,
    };
    world.ok(Command::Reserve(promise(1, "old", 1)));
    assert!(
        world
            .refused(rename(1, "old"))
            .starts_with("the container name old is held by")
    );
    world.ok(rename(1, "new"));
    for name in ["old", "new"] {
        assert!(
            world
                .refused(Command::Reserve(promise(2, name, 1)))
                .contains(" is held by ")
        );
    }
    let pending = "container old on node host1 is being renamed to new";
    assert_eq!(world.refused(rename(1, "third")), pending);
    world.ok(end(1, Keep::New));
    world.ok(Command::Reserve(promise(2, "old", 1)));
    world.ok(rename(2, "third"));
    world.ok(end(2, Keep::Old));
    world.ok(Command::Reserve(promise(3, "third", 1)));
    let holder = world
        .cluster
        .placement_named(Realm::DEFAULT, "new")
        .expect("held");
    assert_eq!(holder.request, request(1));
}

#[test]
fn a_removal_on_a_lost_node_waits_for_it() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    world.ok(Command::Bind {
        request: request(1),
        container: container(1),
    });
    world.ok(down(1));
    let gone = world
        .apply(Command::Remove {
            request: request(1),
        })
        .expect("removed");
    assert_eq!(
        gone,
        Change::Removed {
            request: request(1),
            deferred: true
        }
    );
    world.ok(Command::Reserve(promise(2, "web", 2)));
    world.now = 24 * 3600;
    world.ok(Command::JudgeReady { node: node(1) });
    let due: Vec<_> = world
        .cluster
        .removals_due_on(node(1))
        .map(|due| due.container)
        .collect();
    assert_eq!(due, [Some(container(1))]);
    let settled = world
        .apply(Command::Settle {
            request: request(1),
        })
        .expect("settled");
    assert_eq!(
        settled,
        Change::Removed {
            request: request(1),
            deferred: false
        }
    );
    assert_eq!(world.cluster.removals_due_on(node(1)).count(), 0);
}

#[test]
fn tombstones_end() {
    let mut world = World::new();
    for number in 1..=100 {
        world.ok(Command::Reserve(promise(number, "web", 1)));
        world.ok(Command::Remove {
            request: request(number),
        });
    }
    assert!(world.cluster.tombstone(request(100)).is_some());
    world.now = 601;
    world.ok(down(1));
    world.ok(down(1));
    assert!((1..=100).all(|number| world.cluster.tombstone(request(number)).is_none()));
}

#[test]
fn a_found_container_is_adopted_if_nothing_is_in_its_way() {
    let mut world = World::new();
    let adopt = |promise, number, claiming| Command::Adopt {
        promise,
        container: container(number),
        claiming,
    };
    let huge = Promise {
        claim: Resources::new(0, 100 * GIB),
        ports: vec![port(80, PortOrigin::Asked)],
        ..promise(1, "web", 1)
    };
    world.ok(adopt(huge.clone(), 1, true));
    assert_eq!(world.cluster.free(node(1)).memory_bytes, 0);
    let twin = Promise {
        request: request(2),
        ..huge.clone()
    };
    assert!(
        world
            .refused(adopt(twin, 2, true))
            .starts_with("the container name web is held by")
    );
    let other = Promise {
        request: request(3),
        name: "other".to_owned(),
        ..huge
    };
    let taken = "port 80/tcp on node host1 is held by container web";
    assert_eq!(world.refused(adopt(other.clone(), 3, true)), taken);
    world.ok(adopt(other, 3, false));
    world.ok(Command::Reserve(promise(4, "late", 2)));
    world.ok(adopt(promise(4, "late", 2), 4, true));
    let placement = world.cluster.placement_of(container(4)).expect("bound");
    assert_eq!(placement.name, "late");
}

#[test]
fn a_node_in_use_stays_unless_forced() {
    let mut world = World::new();
    world.ok(Command::Reserve(promise(1, "web", 1)));
    let remove = |force| Command::RemoveNode {
        node: node(1),
        force,
    };
    assert_eq!(
        world.refused(remove(false)),
        "node host1 has 1 container of the cluster: remove it, or force it (--force, force=1): what is on its engine then \
         stays there as it is and is no longer the cluster's, and names become free"
    );
    world.ok(remove(true));
    assert!(
        world
            .cluster
            .placement_named(Realm::DEFAULT, "web")
            .is_none()
    );
    let twin = Command::AddNode {
        node: node(3),
        name: "host2".parse().expect("valid"),
        endpoint: "tcp://10.0.0.9:2375".to_owned(),
        address: None,
        labels: BTreeMap::new(),
    };
    assert_eq!(world.refused(twin), "another node is called host2");
}

#[test]
fn outcomes_survive_the_log() {
    let mut cluster = Cluster::new();
    let mut apply = |command| {
        let envelope = Envelope::new(request(0), Caller::local(), second(0), command);
        let bytes = raft_store::Machine::apply(&mut cluster, 1, &envelope.encode());
        read_outcome(&bytes).expect("reads")
    };
    assert_eq!(apply(add_node(1)), Err(Refusal::NotFounded));
    assert_eq!(
        apply(found()),
        Ok(Change::Founded(ClusterId::from_bytes([9; 16])))
    );
    assert_eq!(apply(add_node(1)), Ok(Change::Node(node(1))));
    let reserve = Command::Reserve(promise(1, "web", 1));
    let refused = apply(reserve).expect_err("joining");
    assert_eq!(refused.to_string(), "node host1 is joining");
    assert_eq!(cluster.view(), cluster);
}

#[test]
#[should_panic(expected = "entry 7 cannot be applied: the command has format 2")]
fn a_manager_that_does_not_understand_stops() {
    let bytes = br#"{"format":2,"feature_level":1}"#;
    raft_store::Machine::apply(&mut Cluster::new(), 7, bytes);
}

#[test]
fn twenty_thousand_placements_cost_no_more_each_than_one() {
    let mut world = World::new();
    let mut reserve = |number: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let promise = Promise {
            request: RequestId::from_bytes(id),
            claim: Resources::new(1, 1),
            volumes: vec![format!("v{number}")],
            ..promise(0, &format!("c{number}"), 1)
        };
        let command = Command::Reserve(promise);
        let envelope = Envelope::new(request(0), Caller::local(), second(0), command);
        // A view is taken after each, as the store does.
        let view = world.cluster.clone();
        world.cluster.apply(envelope).expect("accepted");
        drop(view);
    };
    // The best of many short rounds: whatever else the machine does has no part in it.
    let mut best = |from: u32, rounds: u32| {
        let round = |round| {
            let start = crate::clock::instant();
            (0..50).for_each(|step| reserve(from + round * 50 + step));
            start.elapsed()
        };
        (0..rounds).map(round).min().expect("some rounds")
    };
    let first = best(0, 20);
    best(1_000, 360);
    let last = best(19_000, 20);
    // A scan would make the last at least twenty times as slow; trees make them a little slower.
    assert!(last < first * 8, "{last:?} after {first:?}");
    assert_eq!(world.cluster.totals(node(1)).placements, 20_000);
}

fn any_promise() -> impl Strategy<Value = Promise> {
    let ports = prop::collection::vec((0u16..3, 0usize..3), 0..2);
    let lists = (
        (ports, 0u64..3),
        prop::collection::vec(0u8..3, 0..2),
        prop::collection::vec(0u8..3, 0..2),
    );
    (0u8..12, 0u8..6, 0u8..4, 0u64..5, lists).prop_map(|(id, name, on, gib, lists)| {
        let ((ports, gpus), networks, volumes) = lists;
        let origins = [PortOrigin::Asked, PortOrigin::Chosen, PortOrigin::Exposed];
        Promise {
            claim: Resources::new(gib * 500_000_000, gib * GIB),
            ports: ports
                .into_iter()
                .map(|(at, origin)| port(80 + at, origins[origin]))
                .collect(),
            generic: [("gpu", gpus)].into_iter().collect(),
            networks: networks.into_iter().map(network).collect(),
            volumes: volumes
                .into_iter()
                .map(|number| format!("v{number}"))
                .collect(),
            ..promise(id, &format!("c{name}"), on)
        }
    })
}

fn any_command() -> impl Strategy<Value = Command> {
    let id = || (0u8..12).prop_map(request);
    let on = || (0u8..4).prop_map(node);
    let net = || (0u8..3).prop_map(network);
    prop_oneof![
        8 => any_promise().prop_map(Command::Reserve),
        4 => (any_promise(), 0u8..12, any::<bool>()).prop_map(|(promise, number, claiming)| {
            Command::Adopt { promise, container: container(number), claiming }
        }),
        4 => (id(), 0u8..12).prop_map(|(request, number)| {
            Command::Bind { request, container: container(number) }
        }),
        2 => id().prop_map(|request| Command::Release { request }),
        2 => id().prop_map(|request| Command::Remove { request }),
        1 => id().prop_map(|request| Command::Settle { request }),
        2 => (id(), 0u8..6).prop_map(|(request, name)| {
            Command::BeginRename { request, new_name: format!("c{name}") }
        }),
        2 => (id(), any::<bool>()).prop_map(|(request, new)| {
            Command::EndRename { request, keep: if new { Keep::New } else { Keep::Old } }
        }),
        1 => (id(), 0u64..9).prop_map(|(request, gib)| {
            Command::SetClaim { request, claim: Resources::new(0, gib * GIB) }
        }),
        1 => (0u8..3, on()).prop_map(|(image, node)| defer_image(&format!("it:{image}"), &[node])),
        1 => (0u8..3, on()).prop_map(|(image, node)| {
            Command::SettleImage { image: format!("it:{image}"), node }
        }),
        4 => (id(), 1u32..3).prop_map(|(request, run)| Command::Exited { request, run }),
        3 => (id(), any::<bool>()).prop_map(|(request, running)| {
            Command::Reclaim { request, running }
        }),
        1 => (0u8..4).prop_map(add_node),
        1 => (0u8..4, 1u64..9).prop_map(|(number, gib)| {
            report(number, Resources::new(4_000_000_000, gib * GIB))
        }),
        3 => (0u8..3, prop::option::of(on()), any::<bool>(), 0u8..3).prop_map(|(name, on, made, kind)| {
            let kind = ["", "shared", "per-node"][usize::from(kind)];
            let spec = asked(&format!("v{name}"), &[("com.flotilla.volume", kind)]);
            Command::AddVolume { spec, on, made }
        }),
        3 => (0u8..3, prop::option::of(0u8..4), prop::option::of(0u8..4)).prop_map(|(name, on, due)| {
            remove_volume(&format!("v{name}"), on, due.as_slice())
        }),
        1 => (0u8..3, on()).prop_map(|(name, node)| {
            Command::SettleVolume { name: format!("v{name}"), node }
        }),
        2 => on().prop_map(|node| Command::JudgeReady { node }),
        1 => (0u8..4).prop_map(down),
        1 => (on(), any::<bool>()).prop_map(|(node, force)| Command::RemoveNode { node, force }),
        1 => (on(), 0u8..4).prop_map(|(node, name)| Command::UpdateNode {
            address: None,
            node,
            name: Some(format!("host{name}").parse().expect("valid")),
            availability: Some(Availability::Active),
            labels: None,
        }),
        1 => (net(), 0u8..3, prop::option::weighted(0.2, on())).prop_map(|(network, name, node)| {
            let group = (name > 0).then(|| "group".to_owned());
            Command::AddNetwork { network, name: format!("n{name}"), spec: String::new(), group, node }
        }),
        1 => (id(), net()).prop_map(|(request, network)| Command::JoinNetwork { request, network }),
        1 => (id(), net()).prop_map(|(request, network)| Command::LeaveNetwork { request, network }),
        1 => (id(), net()).prop_map(|(request, network)| Command::LeaveNetworkLater { request, network }),
        1 => (id(), net()).prop_map(|(request, network)| Command::SettleLeave { request, network }),
        1 => (net(), on()).prop_map(|(id, node)| {
            Command::RealiseNetwork { network: id, node, engine_id: network(9) }
        }),
        1 => net().prop_map(|network| Command::BeginRemoveNetwork { network }),
        1 => net().prop_map(|network| Command::RemoveNetwork { network }),
        1 => ("[ab]", "[xyz]").prop_map(|(tag, image)| Command::PointTag { tag, image }),
        1 => ("[ab]", "[xyz]", "[xyz]").prop_map(|(tag, image, twin)| {
            Command::NoteTwin { tag, image, twin }
        }),
        1 => "[ab]".prop_map(|tag| Command::DropTag { tag }),
    ]
}

proptest! {
    /// Whatever is commanded in whatever order: nothing breaks, a refusal changes nothing (both
    /// checked in `apply`), and a second cluster that reads the same log is the same.
    #[test]
    fn the_same_log_gives_the_same_sound_cluster(
        commands in prop::collection::vec((any_command(), 0i64..500), 1..120),
    ) {
        let mut world = World::new();
        let mut twin = world.cluster.clone();
        for (command, passed) in commands {
            world.now += passed;
            let envelope =
                Envelope::new(request(0), Caller::local(), second(world.now), command.clone());
            let bytes = envelope.encode();
            let outcome = world.apply(command);
            let twins = raft_store::Machine::apply(&mut twin, 1, &bytes);
            prop_assert_eq!(read_outcome(&twins).expect("reads"), outcome);
        }
        prop_assert!(twin == world.cluster);
        let mut restored = Cluster::new();
        let snapshot = <Cluster as raft_store::Machine>::snapshot(&world.cluster);
        let read = raft_store::Machine::restore(&mut restored, &snapshot);
        prop_assert!(read.is_ok());
        prop_assert!(restored == world.cluster);
        prop_assert!(audit(&restored).is_empty());
    }
}

fn defer_image(image: &str, nodes: &[NodeId]) -> Command {
    Command::DeferImageRemoval {
        image: image.to_owned(),
        nodes: nodes.to_vec(),
        removal: ImageRemoval {
            force: true,
            noprune: false,
        },
    }
}

#[test]
fn a_removed_image_goes_when_its_node_is_back_unless_it_is_wanted_again() {
    let mut world = World::new();
    let due = |world: &World, number| {
        let due = world.cluster.images_due_on(node(number));
        due.map(|(image, _)| image.to_owned()).collect::<Vec<_>>()
    };
    world.ok(defer_image("a:1", &[node(1), node(2)]));
    world.ok(defer_image("b:1", &[node(1)]));
    assert_eq!(due(&world, 1), ["a:1", "b:1"]);
    world.ok(Command::SettleImage {
        image: "a:1".to_owned(),
        node: node(1),
    });
    assert_eq!(
        (due(&world, 1), due(&world, 2)),
        (vec!["b:1".to_owned()], vec!["a:1".to_owned()])
    );
    // Its name is given anew.
    world.ok(Command::PointTag {
        tag: "a:1".to_owned(),
        image: "sha256:aa".to_owned(),
    });
    assert_eq!(due(&world, 2), [""; 0]);
    world.ok(Command::RemoveNode {
        node: node(1),
        force: true,
    });
    assert_eq!(due(&world, 1), [""; 0]);
    let nobodys = world.apply(defer_image("a:1", &[node(1)]));
    assert!(
        matches!(nobodys, Err(Refusal::NoSuchNode { .. })),
        "{nobodys:?}"
    );
}

#[test]
fn a_tag_means_what_it_was_last_pointed_at() {
    let mut world = World::new();
    let mut command = |command: Command| world.apply(command).map(drop).expect("never refused");
    let point = |image: &str| Command::PointTag {
        tag: "it:1".to_owned(),
        image: image.to_owned(),
    };
    let twin = |image: &str, twin: &str| Command::NoteTwin {
        tag: "it:1".to_owned(),
        image: image.to_owned(),
        twin: twin.to_owned(),
    };
    command(point("a"));
    command(twin("a", "x"));
    // The other kind of store says the same in other words: nothing has moved.
    command(point("x"));
    // What was found of an earlier meaning is not noted.
    command(twin("b", "y"));
    let ids = |world: &World| {
        let tag = world.cluster.tag(Realm::DEFAULT, "it:1")?;
        Some(tag.ids().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(ids(&world), Some(vec!["a".to_owned(), "x".to_owned()]));
    world.apply(point("b")).expect("moves");
    assert_eq!(ids(&world), Some(vec!["b".to_owned()]));
    let tag = "it:1".to_owned();
    world.apply(Command::DropTag { tag }).expect("forgotten");
    assert_eq!(ids(&world), None);
}

#[test]
fn a_snapshot_of_an_older_binary_has_no_tags() {
    let world = World::new();
    let snapshot = <Cluster as raft_store::Machine>::snapshot(&world.cluster);
    let mut older: serde_json::Value = serde_json::from_slice(&snapshot).expect("JSON");
    older
        .as_object_mut()
        .and_then(|members| members.remove("tags"))
        .expect("it has tags");
    let older = serde_json::to_vec(&older).expect("JSON");
    let mut restored = Cluster::new();
    raft_store::Machine::restore(&mut restored, &older).expect("reads");
    assert!(restored == world.cluster);
}

#[test]
fn a_snapshot_of_a_newer_binary_is_refused() {
    let refuse = |text: &str| {
        let mut cluster = Cluster::new();
        let refused = raft_store::Machine::restore(&mut cluster, text.as_bytes());
        refused.expect_err(text).to_string()
    };
    assert_eq!(
        refuse(r#"{"format":2,"shape":"unheard of"}"#),
        "the snapshot has format 2, this binary knows 1 at most: upgrade this manager"
    );
    assert!(refuse("{}").contains("missing field"));
}
