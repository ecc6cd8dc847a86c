//! Images: what tags mean, and what goes when its node is back.

use super::*;

pub(super) fn defer_image(image: &str, nodes: &[NodeId]) -> Command {
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
