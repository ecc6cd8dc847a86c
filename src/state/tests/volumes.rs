//! Volumes: where they are, and who they tie.

use super::*;

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

pub(super) fn asked(name: &str, labels: &[(&str, &str)]) -> VolumeSpec {
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

pub(super) fn remove_volume(name: &str, on: Option<u8>, due: &[u8]) -> Command {
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
