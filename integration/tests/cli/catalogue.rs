//! One catalogue of images: what one node has, every node runs, and a tag means one image everywhere.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Context, Result, bail, ensure};
use integration::counter::{Counter, Moment, Watcher};
use integration::fake_engine::{Fleet, Spec as Fake, Transport};
use integration::harness::{Case, case};
use integration::images;
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::registry::{self, Registry};

use crate::{SOON, contains};

/// A small image is brought within so long, on a busy machine.
const QUICKLY: std::time::Duration = std::time::Duration::from_secs(5);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("what_one_client_built_runs_on_every_node", built_runs),
        case("what_buildkit_rebuilt_is_what_runs_next", rebuilt),
        case(
            "compose_builds_for_all_nodes_and_recreates_nothing",
            compose,
        ),
        case("what_no_engine_lists_runs_by_id", unlisted),
        case("what_was_committed_runs_on_every_node", committed),
        case("images_of_one_second_have_an_order", in_one_second),
        case("what_a_tag_meant_before_is_dangling", moved),
        case("no_build_is_based_on_what_a_tag_meant_before", based),
        case("a_node_that_drifted_is_put_right", drifted),
        case("many_creates_bring_an_image_once", once),
        case("a_source_that_breaks_off_is_replaced", broken_source),
        case("an_image_that_cannot_be_brought_says_why", not_brought),
        case("a_source_that_is_killed_is_replaced", killed_source),
        case(
            "a_manager_killed_while_it_brings_leaves_nothing",
            manager_killed,
        ),
        case("what_a_registry_has_is_pulled_by_digest", pulled_by_digest),
        case("a_private_image_comes_from_a_node_at_once", private),
        case("a_pull_gives_all_nodes_the_same", pulled_the_same),
        case("many_nodes_pull_a_few_at_a_time", pulled_in_turns),
        case("an_image_of_few_nodes_runs_on_all", pulled_to_one),
        case(
            "images_of_different_nodes_are_saved_together",
            saved_together,
        ),
        case("what_a_container_uses_anywhere_is_not_pruned", pruned),
    ]
}

/// A folder with a Dockerfile whose image says `word`.
fn context(word: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let file = format!("FROM busybox\nRUN echo {word} >/word\nCMD [\"cat\", \"/word\"]\n");
    std::fs::write(folder.path().join("Dockerfile"), file)?;
    Ok(folder)
}

fn build(pool: &Pool, kit: bool, tag: &str, folder: &Path) -> Result<()> {
    let mut command = pool.docker().command()?;
    command
        .env("DOCKER_BUILDKIT", if kit { "1" } else { "0" })
        .args(["build", "-t", tag])
        .arg(folder);
    pool.docker().finish(&mut command, b"")?.ok().map(drop)
}

/// Runs the image on this very node.
fn run_on(pool: &Pool, host: &Host, image: &str) -> Result<String> {
    pool.ok(&format!(
        "run --rm -e constraint:node=={} {image}",
        host.name()
    ))
}

fn says_everywhere(pool: &Pool, lab: &Lab, image: &str, wanted: &str) -> Result<()> {
    for host in lab.hosts() {
        let said = run_on(pool, host, image)?;
        ensure!(said == wanted, "on {} it says {said:?}", host.name());
    }
    Ok(())
}

/// The id that the host's own engine has under a name; empty if it has none.
fn id_on(host: &Host, name: &str) -> Result<String> {
    host.docker(&["images", "-q", "--no-trunc", name])
}

fn built_runs(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for (kit, word) in [(false, "classic"), (true, "kit")] {
        let name = format!("{word}:1");
        build(&pool, kit, &name, context(word)?.path())?;
        let id = pool.ok(&format!("image inspect -f {{{{.Id}}}} {name}"))?;
        // An image that is only mounted comes to the container's node as well.
        let mounting = format!("--mount type=image,src={name},dst=/it busybox cat /it/word");
        says_everywhere(&pool, lab, &mounting, word)?;
        says_everywhere(&pool, lab, &name, word)?;
        pool.says(&format!("images -q --no-trunc {word}"), &id)?;
        for host in lab.hosts() {
            ensure!(id_on(host, &name)? == id, "{} has another", host.name());
        }
        let removed = pool.ok(&format!("rmi {name}"))?;
        let untagged = removed.matches(&format!("Untagged: {name}")).count();
        ensure!(untagged == 1, "{removed}");
        for host in lab.hosts() {
            ensure!(id_on(host, &name)?.is_empty(), "{} has it", host.name());
        }
    }
    pool.ok("builder prune -af").map(drop)
}

/// The old image is on every node, and its name points there: what counts is what was built last.
fn rebuilt(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    build(&pool, true, "it:1", context("first")?.path())?;
    says_everywhere(&pool, lab, "it:1", "first")?;
    for host in lab.hosts() {
        let node = host.name();
        pool.ok(&format!(
            "create --name=old-{node} -e constraint:node=={node} it:1"
        ))?;
    }
    let old = pool.ok("image inspect -f {{.Id}} it:1")?;
    let shown = "ps -a --no-trunc --filter name=old --format {{.Image}}";
    pool.says(shown, &["it:1"; 3].join("\n"))?;
    let mut former = old.clone();
    for (turn, kit) in [(2, true), (3, true), (4, false), (5, true)] {
        let word = format!("turn{turn}");
        build(&pool, kit, "it:1", context(&word)?.path())?;
        // Whoever cleans up at once, as `compose watch` does, is not told that what was just built has no name.
        let dangling = "images -q --no-trunc --filter dangling=true";
        let dangling = pool.ok(dangling)?;
        let built = pool.ok("images -q --no-trunc it:1")?;
        let is_there = built != former && !dangling.contains(&built);
        ensure!(is_there, "{built} is new, {dangling:?} dangling");
        former = built;
        // At once, and on every node.
        says_everywhere(&pool, lab, "it:1", &word)?;
        // What was made of the old one is known by that alone, wherever its node's tag points.
        pool.says(shown, &[old.as_str(); 3].join("\n"))?;
        pool.says("ps -aq --filter ancestor=it:1", "")?;
    }
    pool.ok("create --name=new it:1")?;
    let of_it = "ps -a --filter ancestor=it:1 --format {{.Names}}:{{.Image}}";
    pool.says(of_it, "new:it:1")?;
    pool.ok("rm new old-host1 old-host2 old-host3")?;
    pool.ok("rmi it:1")?;
    pool.ok("image prune -f")?;
    pool.ok("builder prune -af").map(drop)
}

/// The classic builder keeps the steps of a build as images that are in no list.
fn unlisted(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    build(&pool, false, "it:1", context("step")?.path())?;
    let history = pool.ok("history -q --no-trunc it:1")?;
    let id = history.lines().nth(1).context("it has one step")?;
    let listed = pool.ok("images -q --no-trunc")?;
    ensure!(!listed.contains(id), "{id} is in {listed}");
    for reference in [id, &id["sha256:".len()..][..12]] {
        let said = pool.ok(&format!("run --rm --pull never {reference} cat /word"))?;
        ensure!(said == "step", "{said:?}");
        pool.says(&format!("image inspect -f {{{{.Id}}}} {reference}"), id)?;
    }
    let nobody = "f".repeat(12);
    pool.refuses(&format!("create --pull never {nobody}"), "No such image")?;
    pool.ok("rmi it:1")?;
    pool.ok("image prune -f")?;
    pool.ok("builder prune -af").map(drop)
}

fn committed(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run --name=one busybox sh -c 'echo committed >/word'")?;
    let id = pool.ok("commit one it:1")?;
    let said = "sh -c 'cat /word'";
    for host in lab.hosts() {
        ensure!(run_on(&pool, host, &format!("it:1 {said}"))? == "committed");
        // Also by its id, which is no name.
        ensure!(run_on(&pool, host, &format!("{id} {said}"))? == "committed");
    }
    pool.ok("rmi it:1").map(drop)
}

/// Commits a container of this node, which has its name in a file.
fn commit_on(pool: &Pool, host: &Host, name: &str) -> Result<String> {
    let node = host.name();
    pool.ok(&format!(
        "run --name=on-{node} -e constraint:node=={node} busybox sh -c 'echo {node} >/word'"
    ))?;
    let id = pool.ok(&format!("commit on-{node} {name}"))?;
    pool.ok(&format!("rm on-{node}"))?;
    Ok(id)
}

fn in_one_second(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run --name=it busybox true")?;
    for number in 1..=4 {
        let answer = pool.ask(
            "POST",
            &format!("/commit?container=it&repo=quick&tag={number}"),
            b"",
        )?;
        ensure!(answer.status == 201, "{answer:?}");
    }
    let tags = |filter: &str| -> Result<Vec<String>> {
        let line = format!("images --format {{{{.Tag}}}} --filter {filter} quick");
        let mut tags: Vec<_> = pool.ok(&line)?.lines().map(str::to_owned).collect();
        tags.sort();
        Ok(tags)
    };
    ensure!(tags("since=quick:1")? == ["2", "3", "4"]);
    ensure!(tags("since=quick:3")? == ["4"]);
    ensure!(tags("before=quick:3")? == ["1", "2"]);
    ensure!(tags("before=quick:1")?.is_empty());
    pool.ok("rm it")?;
    pool.ok("rmi quick:1 quick:2 quick:3 quick:4").map(drop)
}

fn moved(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let mut ids = Vec::new();
    for host in lab.hosts() {
        ids.push(commit_on(&pool, host, "it:1")?);
    }
    let [first, second, third] = ids.as_slice() else {
        bail!("not three hosts: {ids:?}");
    };
    let dangling = "images -q --no-trunc --filter dangling=true";
    let told = pool.ok(dangling)?;
    ensure!(
        told.contains(first) && told.contains(second) && told.lines().count() == 2,
        "{told}"
    );
    for (host, id) in lab.hosts().iter().zip(&ids) {
        let wanted = if id == third { &**id } else { "" };
        ensure!(id_on(host, "it:1")? == wanted, "on {}", host.name());
        ensure!(&host.docker(&["image", "inspect", "-f", "{{.Id}}", id])? == id);
        let all = host.docker(&["images", "-aq"])?;
        ensure!(all.lines().count() == 2, "on {}: {all}", host.name());
    }
    let removed = pool.ok(&format!("rmi {first}"))?;
    contains(&removed, &format!("Deleted: {first}"))?;
    ensure!(!removed.contains("it:1"), "{removed}");
    let pruned = pool.ok("image prune -f")?;
    contains(&pruned, &format!("deleted: {second}"))?;
    ensure!(!pruned.contains("it:1"), "{pruned}");
    pool.says(dangling, "")?;
    for host in lab.hosts() {
        let said = run_on(&pool, host, "it:1 cat /word")?;
        ensure!(said == lab.host(2).name(), "on {} {said:?}", host.name());
    }
    pool.ok("rmi it:1").map(drop)
}

fn based(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    build(&pool, false, "it:1", context("first")?.path())?;
    let builder = pool
        .inspect("it:1")?
        .get("Nodes")
        .and_then(|nodes| nodes[0].as_str().map(str::to_owned))
        .context("the image is nowhere")?;
    let other = lab.hosts().iter().find(|host| host.name() != builder);
    let other = other.context("there is one host")?;
    commit_on(&pool, other, "it:1")?;
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("Dockerfile"),
        "FROM it:1\nCMD [\"cat\", \"/word\"]\n",
    )?;
    for kit in [false, true] {
        let built = build(&pool, kit, "on-top:1", folder.path());
        ensure!(built.is_err(), "it was built on what the tag meant before");
    }
    // This is how it gets there.
    pool.ok(&format!(
        "create --name=bring -e constraint:node=={builder} it:1"
    ))?;
    for kit in [false, true] {
        build(&pool, kit, "on-top:1", folder.path())?;
        pool.says("run --rm on-top:1", other.name())?;
    }
    pool.ok("rm bring")?;
    pool.ok("rmi on-top:1 it:1")?;
    pool.ok("image prune -f")?;
    pool.ok("builder prune -af").map(drop)
}

fn drifted(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    build(&pool, false, "it:1", context("right")?.path())?;
    build(&pool, false, "other:1", context("wrong")?.path())?;
    says_everywhere(&pool, lab, "other:1", "wrong")?;
    let right = pool.ok("image inspect -f {{.Id}} it:1")?;
    // Behind our back two of three nodes take another image for it.
    let away = pool
        .inspect("it:1")?
        .get("Nodes")
        .and_then(|nodes| nodes[0].as_str().map(str::to_owned));
    let home = away.context("the image is nowhere")?;
    for host in lab.hosts().iter().filter(|host| host.name() != home) {
        host.docker(&["tag", "other:1", "it:1"])?;
    }
    for host in lab.hosts() {
        pool.comes_to_say(
            &format!("images -q --no-trunc --filter node={} other", host.name()),
            &id_on(host, "other:1")?,
            SOON,
        )?;
    }
    pool.says("image inspect -f {{.Id}} it:1", &right)?;
    pool.says("images -q --no-trunc it:1", &right)?;
    says_everywhere(&pool, lab, "it:1", "right")?;
    for host in lab.hosts() {
        ensure!(id_on(host, "it:1")? == right, "{} has another", host.name());
    }
    // A tag that is moved by a client means the new one everywhere.
    pool.ok("tag other:1 it:1")?;
    says_everywhere(&pool, lab, "it:1", "wrong")?;
    pool.ok("rmi it:1 other:1")?;
    pool.ok("image prune -f").map(drop)
}

/// A pool behind counters, which tell what each engine was asked.
fn watched(lab: &Lab, watcher: &Watcher) -> Result<(Pool, Vec<Counter>)> {
    let counters = lab
        .hosts()
        .iter()
        .map(|host| Counter::watched(&host.tcp(), Arc::clone(watcher)))
        .collect::<Result<Vec<_>>>()?;
    let engines: Vec<_> = counters.iter().map(Counter::endpoint).collect();
    Ok((Pool::of(&engines, &[])?, counters))
}

fn once(lab: &Lab) -> Result<()> {
    let all: Watcher = Arc::new(|_, _| true);
    let (pool, counters) = watched(lab, &all)?;
    images::make(lab.host(0), "large:1", 20 << 20)?;
    pool.comes_to_say("images -q large", &pool_id(lab, "large:1")?, SOON)?;
    counters.iter().for_each(|counter| drop(counter.take()));
    let line = format!(
        "create -e constraint:node=={} large:1 sleep 1",
        lab.host(1).name()
    );
    std::thread::scope(|scope| {
        let creates: Vec<_> = (0..8).map(|_| scope.spawn(|| pool.ok(&line))).collect();
        creates
            .into_iter()
            .try_for_each(|create| create.join().expect("no panic").map(drop))
    })?;
    let asked = counters[1].take();
    let loads = asked.iter().filter(|asked| *asked == "POST /images/load");
    ensure!(loads.count() == 1, "{asked:?}");
    let saved = counters[0].take();
    let saves = saved.iter().filter(|asked| asked.ends_with("/get"));
    ensure!(saves.count() == 1, "{saved:?}");
    let made = asked
        .iter()
        .filter(|asked| *asked == "POST /containers/create");
    ensure!(made.count() == 8, "{asked:?}");
    // Where the image is, nothing is asked about images any more.
    pool.ok(&line)?;
    let asked = counters[1].take();
    let of_images = asked.iter().filter(|asked| asked.contains("/images/"));
    ensure!(of_images.count() == 0, "{asked:?}");
    pool.ok("rmi -f large:1").map(drop)
}

fn pool_id(lab: &Lab, name: &str) -> Result<String> {
    lab.host(0).docker(&["images", "-q", name])
}

/// The first of two sources is cut while it sends: the second one is asked.
fn broken_source(lab: &Lab) -> Result<()> {
    let cut = Arc::new(AtomicBool::new(true));
    let armed = Arc::clone(&cut);
    let watcher: Watcher = Arc::new(move |moment, asked: &str| {
        let is_save = asked.starts_with("GET /images/") && asked.ends_with("/get");
        !(is_save && moment == Moment::Answered && armed.swap(false, Ordering::AcqRel))
    });
    let (pool, counters) = watched(lab, &watcher)?;
    images::make(lab.host(0), "large:1", 20 << 20)?;
    let id = pool_id(lab, "large:1")?;
    pool.comes_to_say("images -q large", &id, SOON)?;
    // The second holder.
    cut.store(false, Ordering::Release);
    pool.ok(&format!(
        "create --name=first -e constraint:node=={} large:1 true",
        lab.host(1).name()
    ))?;
    counters.iter().for_each(|counter| drop(counter.take()));
    cut.store(true, Ordering::Release);
    pool.ok(&format!(
        "create --name=second -e constraint:node=={} large:1 true",
        lab.host(2).name()
    ))?;
    ensure!(!cut.load(Ordering::Acquire), "nothing was cut");
    let saves: usize = counters
        .iter()
        .map(|counter| {
            let asked = counter.take();
            asked.iter().filter(|asked| asked.ends_with("/get")).count()
        })
        .sum();
    ensure!(saves == 2, "{saves} sources were asked");
    pool.ok("rm first second")?;
    pool.ok("rmi large:1").map(drop)
}

fn not_brought(lab: &Lab) -> Result<()> {
    let watcher: Watcher =
        Arc::new(|moment, asked: &str| !(asked.ends_with("/get") && moment == Moment::Answered));
    let (pool, _counters) = watched(lab, &watcher)?;
    images::make(lab.host(0), "large:1", 1 << 20)?;
    let id = pool_id(lab, "large:1")?;
    pool.comes_to_say("images -q large", &id, SOON)?;
    let node = lab.host(1).name();
    let refusal = pool.run(&format!(
        "create --name=it -e constraint:node=={node} large:1 true"
    ))?;
    contains(
        &refusal.stderr,
        &format!(
            "image large:1 could not be brought to node {node}: from {}: ",
            lab.host(0).name()
        ),
    )?;
    // Nothing is left of it: the name is free, and where the image is the container is made.
    pool.ok("create --name=it large:1 true")?;
    ensure!(pool.node_of("it")? == lab.host(0).name());
    pool.ok("rm it")?;
    pool.ok("rmi large:1").map(drop)
}

fn large_on(pool: &Pool, lab: &Lab, index: usize, name: &str) -> Result<()> {
    images::make(lab.host(index), name, 1 << 20)?;
    let id = lab.host(index).docker(&["images", "-q", name])?;
    pool.comes_to_say(&format!("images -q {name}"), &id, SOON)
}

/// Pushes an image to the registry, from one host, which then has no image of that name.
fn push(host: &Host, image: &str, name: &str) -> Result<()> {
    host.docker(&["tag", image, name])?;
    host.docker(&["push", name])?;
    host.docker(&["rmi", name]).map(drop)
}

fn pulled_by_digest(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let all: Watcher = Arc::new(|_, _| true);
    let (pool, counters) = watched(lab, &all)?;
    let name = format!("{}/some/it:1", registry.address());
    images::make(lab.host(0), "large:1", 1 << 20)?;
    push(lab.host(0), "large:1", &name)?;
    lab.host(0).docker(&["rmi", "large:1"])?;
    lab.host(0).docker(&["pull", &name])?;
    let id = lab.host(0).docker(&["images", "-q", &name])?;
    pool.comes_to_say(&format!("images -q {name}"), &id, SOON)?;
    counters.iter().for_each(|counter| drop(counter.take()));
    pool.ok(&format!(
        "create --name=it -e constraint:node=={} {name} true",
        lab.host(1).name()
    ))?;
    let asked = counters[1].take();
    let count = |wanted: &str| asked.iter().filter(|asked| *asked == wanted).count();
    ensure!(count("POST /images/create") == 1, "{asked:?}");
    ensure!(count("POST /images/load") == 0, "{asked:?}");
    ensure!(lab.host(1).docker(&["images", "-q", &name])? == id);
    // The registry is gone: the image comes from a node.
    drop(registry);
    pool.ok(&format!(
        "create --name=that -e constraint:node=={} {name} true",
        lab.host(2).name()
    ))?;
    let asked = counters[2].take();
    let count = |wanted: &str| asked.iter().filter(|asked| *asked == wanted).count();
    ensure!(count("POST /images/load") == 1, "{asked:?}");
    ensure!(lab.host(2).docker(&["images", "-q", &name])? == id);
    pool.ok("rm it that")?;
    pool.ok(&format!("rmi {name}")).map(drop)
}

fn private(lab: &Lab) -> Result<()> {
    let registry = Registry::private(lab)?;
    let pool = Pool::of(&lab.endpoints(), &["--pull-to=1"])?;
    let name = format!("{}/some/it:1", registry.address());
    large_on(&pool, lab, 0, "large:1")?;
    pool.ok(&format!("tag large:1 {name}"))?;
    pool.refuses(&format!("push {name}"), "no basic auth credentials")?;
    pool.ok(&format!(
        "login -u {} -p {} {}",
        registry::USER,
        registry::PASSWORD,
        registry.address()
    ))?;
    pool.ok(&format!("push {name}"))?;
    pool.ok(&format!("rmi {name} large:1"))?;
    pool.ok(&format!("pull {name}"))?;
    pool.ok(&format!("logout {}", registry.address()))?;
    // The password was not kept: no node can pull it, and none waits for that.
    for host in lab.hosts() {
        let line = format!("create -e constraint:node=={} {name} true", host.name());
        let created = pool.run(&line)?;
        ensure!(created.took < QUICKLY, "{created:?}");
        created.ok()?;
        let id = host.docker(&["images", "-q", &name])?;
        ensure!(!id.is_empty(), "{} has it not", host.name());
    }
    let log = pool.manager.log();
    ensure!(
        !log.contains(registry::PASSWORD),
        "the password is in the log"
    );
    let created = pool.ok("ps -aq")?;
    pool.ok(&format!("rm {}", created.replace('\n', " ")))?;
    pool.ok(&format!("rmi {name}"))?;
    pool.refuses(&format!("pull {name}"), "no basic auth credentials")
}

fn pulled_the_same(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let all: Watcher = Arc::new(|_, _| true);
    let (pool, counters) = watched(lab, &all)?;
    let name = format!("{}/some/it:1", registry.address());
    // Two nodes have what the tag meant before.
    push(lab.host(0), "busybox", &name)?;
    pool.ok(&format!("pull {name}"))?;
    images::make(lab.host(0), "large:1", 1 << 20)?;
    push(lab.host(0), "large:1", &name)?;
    let id = id_on(lab.host(0), "large:1")?;
    counters.iter().for_each(|counter| drop(counter.take()));
    let said = pool.ok(&format!("pull {name}"))?;
    contains(&said, "Status: Downloaded newer image for")?;
    contains(&said, "Digest: sha256:")?;
    ensure!(said.matches("Pulling from").count() == 1, "{said}");
    for (host, counter) in lab.hosts().iter().zip(&counters) {
        ensure!(id_on(host, &name)? == id, "{} has another", host.name());
        let asked = counter.take();
        let pulls = asked.iter().filter(|asked| *asked == "POST /images/create");
        ensure!(pulls.count() == 1, "{} was asked {asked:?}", host.name());
    }
    pool.says(&format!("image inspect -f {{{{.Id}}}} {name}"), &id)?;
    pool.ok(&format!("rmi {name} large:1"))?;
    // Nobody has it: the client pulls it, once on each node.
    counters.iter().for_each(|counter| drop(counter.take()));
    push(lab.host(0), "busybox", &name)?;
    let run = pool.run(&format!("run --rm {name} echo hi"))?;
    ensure!(run.stdout == "hi\n", "{run:?}");
    for counter in &counters {
        let asked = counter.take();
        let pulls = asked.iter().filter(|asked| *asked == "POST /images/create");
        ensure!(pulls.count() == 1, "{asked:?}");
    }
    pool.ok(&format!("rmi {name}")).map(drop)
}

/// Beyond sixteen nodes eight pull at a time. More engines than a machine has: they only pretend.
fn pulled_in_turns(_: &Lab) -> Result<()> {
    for (engines, at_once) in [(16, 16), (20, 8)] {
        let fleet = Fleet::start(&Fake {
            transport: Transport::Tcp,
            ..Fake::sized(engines, 0)
        })?;
        let pool = Pool::of(fleet.endpoints(), &["--pull-to=all"])?;
        let said = pool.ok("pull some/it:1")?;
        ensure!(
            fleet.pulls() == (engines as u64, at_once),
            "of {engines}: {:?}",
            fleet.pulls()
        );
        let lines = |wanted: &str| said.lines().filter(|line| line.ends_with(wanted)).count();
        ensure!(lines("1ayer: Pull complete") == 1, "{said}");
        ensure!(lines(": Pull complete") == engines + 1, "{said}");
        let waited = if engines > 16 { engines - 8 } else { 0 };
        ensure!(lines(": Waiting for other nodes") == waited, "{said}");
        ensure!(lines(": Pulling") == waited, "{said}");
        contains(&said, "Status: Downloaded newer image for some/it:1")?;
    }
    Ok(())
}

fn pulled_to_one(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let pool = Pool::of(&lab.endpoints(), &["--pull-to=1"])?;
    let name = format!("{}/some/it:1", registry.address());
    push(lab.host(0), "busybox", &name)?;
    pool.ok(&format!("pull {name}"))?;
    let holders = || -> Result<usize> {
        let mut count = 0;
        for host in lab.hosts() {
            count += usize::from(!id_on(host, &name)?.is_empty());
        }
        Ok(count)
    };
    ensure!(holders()? == 1, "{} nodes have it", holders()?);
    says_everywhere(&pool, lab, &format!("{name} echo hi"), "hi")?;
    ensure!(holders()? == 3, "{} nodes have it", holders()?);
    pool.ok(&format!("rmi {name}"))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar");
    pool.ok("tag busybox it:1")?;
    pool.ok(&format!("save -o {} it:1", file.display()))?;
    pool.ok("rmi it:1")?;
    pool.ok(&format!("load -i {}", file.display()))?;
    says_everywhere(&pool, lab, "it:1 echo hi", "hi")?;
    pool.ok("rmi it:1").map(drop)
}

fn saved_together(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for index in 0..3 {
        large_on(&pool, lab, index, &format!("large:{index}"))?;
    }
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("all.tar");
    let names = "large:0 large:1 large:2";
    pool.ok(&format!("save -o {} {names}", file.display()))?;
    pool.ok(&format!("rmi {names}"))?;
    pool.says("images -q large", "")?;
    let said = pool.ok(&format!("load -i {}", file.display()))?;
    for index in 0..3 {
        contains(&said, &format!("Loaded image: large:{index}"))?;
    }
    pool.ok(&format!("rmi {names}")).map(drop)
}

fn pruned(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    large_on(&pool, lab, 0, "large:1")?;
    large_on(&pool, lab, 1, "unused:1")?;
    pool.ok(&format!(
        "create --name=it -e constraint:node=={} large:1 true",
        lab.host(1).name()
    ))?;
    let mut names = Vec::new();
    for host in lab.hosts() {
        let name = format!("on{}", host.name());
        pool.ok(&format!(
            "create --name={name} -e constraint:node=={} busybox true",
            host.name()
        ))?;
        names.push(name);
    }
    let said = pool.ok("image prune -af")?;
    contains(&said, "untagged: unused:1")?;
    ensure!(!said.contains("large:1"), "{said}");
    pool.says("images --format {{.Tag}} large", "1")?;
    pool.says("images -q unused", "")?;
    // It is where it is used, and comes from there.
    pool.ok(&format!(
        "create --name=that -e constraint:node=={} large:1 true",
        lab.host(0).name()
    ))?;
    pool.ok(&format!("rm it that {}", names.join(" ")))?;
    pool.ok("rmi large:1")?;
    // The image of all other cases.
    pool.says("images --format {{.Repository}} busybox", "busybox")
}

/// A watcher that stops the first save of an image before anything of it comes through: it tells so, and goes on when it
/// is told to.
fn stopping() -> (Watcher, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (told, stopped) = mpsc::channel();
    let (go_on, wait) = mpsc::channel();
    let once = Mutex::new(Some((told, wait)));
    let watcher: Watcher = Arc::new(move |moment, asked: &str| {
        let is_save = asked.starts_with("GET /images/") && asked.ends_with("/get");
        if is_save && moment == Moment::Answered {
            let taken = once.lock().expect("no panic").take();
            if let Some((told, wait)) = taken {
                // A test that has ended no longer needs to know.
                let _ = told.send(());
                let _ = wait.recv_timeout(SOON);
            }
        }
        true
    });
    (watcher, stopped, go_on)
}

fn killed_source(lab: &Lab) -> Result<()> {
    let (watcher, stopped, go_on) = stopping();
    let (pool, counters) = watched(lab, &watcher)?;
    images::make(lab.host(0), "large:1", 20 << 20)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar").display().to_string();
    lab.host(0).docker(&["save", "-o", &file, "large:1"])?;
    lab.host(1).docker(&["load", "-i", &file])?;
    let id = id_on(lab.host(0), "large:1")?;
    for host in &lab.hosts()[..2] {
        let line = format!("images -q --no-trunc --filter node={} large", host.name());
        pool.comes_to_say(&line, &id, SOON)?;
    }
    let line = format!(
        "create --name=it -e constraint:node=={} large:1 true",
        lab.host(2).name()
    );
    std::thread::scope(|scope| {
        let create = scope.spawn(|| pool.ok(&line));
        stopped.recv_timeout(SOON).context("nothing was sent")?;
        let sends = |counter: &&Counter| counter.take().iter().any(|asked| asked.ends_with("/get"));
        let mut sources = lab.hosts().iter().zip(&counters);
        let source = sources.find(|(_, counter)| sends(counter));
        source.context("nobody sends")?.0.kill_engine()?;
        let _ = go_on.send(());
        create.join().expect("no panic").map(drop)
    })?;
    ensure!(pool.node_of("it")? == lab.host(2).name());
    ensure!(id_on(lab.host(2), "large:1")? == id);
    lab.hosts().iter().try_for_each(Host::recover)?;
    pool.wait_until_ready(3)?;
    pool.ok("rm it")?;
    pool.ok("rmi large:1").map(drop)
}

fn manager_killed(lab: &Lab) -> Result<()> {
    let (watcher, stopped, go_on) = stopping();
    let (mut pool, _counters) = watched(lab, &watcher)?;
    images::make(lab.host(0), "large:1", 20 << 20)?;
    let id = id_on(lab.host(0), "large:1")?;
    pool.comes_to_say("images -q --no-trunc large", &id, SOON)?;
    let node = lab.host(1).name().to_owned();
    let line = format!("create --name=it -e constraint:node=={node} large:1 true");
    let docker = integration::client::Docker::new(&pool.manager.tcp())?;
    std::thread::scope(|scope| {
        let words = integration::pool::words(&line);
        let create = scope.spawn(move || {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            docker.run(&words)
        });
        stopped.recv_timeout(SOON).context("nothing was sent")?;
        pool.manager.kill()?;
        let _ = go_on.send(());
        let output = create.join().expect("no panic")?;
        ensure!(output.code != 0, "{output:?}");
        Ok(())
    })?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    ensure!(id_on(lab.host(1), "large:1")?.is_empty(), "it came in part");
    // The name is free, and nothing is in the way of the same again.
    pool.ok(&line)?;
    ensure!(pool.node_of("it")? == node);
    ensure!(id_on(lab.host(1), "large:1")? == id);
    pool.ok("rm it")?;
    pool.ok("rmi large:1").map(drop)
}

/// One service on each node, all of one image that compose builds.
fn compose(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let folder = context("composed")?;
    let mut file = String::from("services:\n");
    for (number, host) in lab.hosts().iter().enumerate() {
        let node = host.name();
        // One service builds; the others are of the same image.
        let build = if number == 0 { "build: .\n    " } else { "" };
        file += &format!(
            "  on-{node}:\n    {build}image: it:1\n    network_mode: bridge\n    command: [sleep, '600']\n    \
             environment: ['constraint:node=={node}']\n"
        );
    }
    std::fs::write(folder.path().join("compose.yaml"), file)?;
    let compose = |words: &[&str]| -> Result<String> {
        let mut command = pool.docker().command()?;
        command.arg("compose").args(words).current_dir(&folder);
        let done = pool.docker().finish(&mut command, b"")?;
        let told = done.stderr.clone();
        Ok(done.ok()? + &told)
    };
    compose(&["-p", "it", "up", "-d"])?;
    let all = "ps -q --no-trunc --filter label=com.docker.compose.project=it";
    let first = pool.ok(all)?;
    ensure!(first.lines().count() == 3, "{first}");
    let told = compose(&["-p", "it", "up", "-d"])?;
    let second = pool.ok(all)?;
    ensure!(second == first, "{first} became {second}: {told}");
    for host in lab.hosts() {
        let line = format!("exec it-on-{}-1 cat /word", host.name());
        pool.says(&line, "composed")?;
    }
    // Built anew, all are made again, of the new image.
    let file = "FROM busybox\nRUN echo again >/word\n";
    std::fs::write(folder.path().join("Dockerfile"), file)?;
    compose(&["-p", "it", "up", "-d", "--build"])?;
    for host in lab.hosts() {
        let line = format!("exec it-on-{}-1 cat /word", host.name());
        pool.says(&line, "again")?;
    }
    compose(&["-p", "it", "down", "-t", "0", "--rmi", "all"])?;
    pool.says("images -q it:1", "")?;
    pool.ok("image prune -f")?;
    pool.ok("builder prune -af").map(drop)
}
