//! One catalogue of images: what one node has, every node runs, and a tag means one image everywhere.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use integration::counter::{Counter, Moment, Watcher};
use integration::harness::{Case, case};
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::registry::Registry;

use crate::{SOON, contains, noise};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("what_one_client_built_runs_on_every_node", built_runs),
        case("what_buildkit_rebuilt_is_what_runs_next", rebuilt),
        case("what_was_committed_runs_on_every_node", committed),
        case("a_node_that_drifted_is_put_right", drifted),
        case("many_creates_bring_an_image_once", once),
        case("a_source_that_breaks_off_is_replaced", broken_source),
        case("an_image_that_cannot_be_brought_says_why", not_brought),
        case("what_a_registry_has_is_pulled_by_digest", pulled_by_digest),
        case("a_pull_gives_all_nodes_the_same", pulled_the_same),
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
    for (turn, kit) in [(2, true), (3, true), (4, false), (5, true)] {
        let word = format!("turn{turn}");
        build(&pool, kit, "it:1", context(&word)?.path())?;
        // At once, and on every node.
        says_everywhere(&pool, lab, "it:1", &word)?;
    }
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

/// An image with so many bytes that are like no others, on this host only.
fn make_large(host: &Host, name: &str, bytes: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar");
    let mut archive = tar_with(&noise(bytes));
    archive.extend([0; 1024]);
    std::fs::write(&file, archive)?;
    host.docker(&["import", &file.display().to_string(), name])
        .map(drop)
}

/// The first block of a tar archive with one file, and the file.
fn tar_with(content: &[u8]) -> Vec<u8> {
    let mut head = [0u8; 512];
    head[..4].copy_from_slice(b"file");
    head[100..107].copy_from_slice(b"0000644");
    head[108..115].copy_from_slice(b"0000000");
    head[116..123].copy_from_slice(b"0000000");
    head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    head[136..147].copy_from_slice(b"00000000000");
    head[148..156].copy_from_slice(b"        ");
    head[156] = b'0';
    head[257..263].copy_from_slice(b"ustar\0");
    head[263..265].copy_from_slice(b"00");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut all = head.to_vec();
    all.extend_from_slice(content);
    all.resize(all.len().next_multiple_of(512), 0);
    all
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
    make_large(lab.host(0), "large:1", 20 << 20)?;
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
    make_large(lab.host(0), "large:1", 20 << 20)?;
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
    make_large(lab.host(0), "large:1", 1 << 20)?;
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
    make_large(lab.host(index), name, 1 << 20)?;
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
    make_large(lab.host(0), "large:1", 1 << 20)?;
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

fn pulled_the_same(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let all: Watcher = Arc::new(|_, _| true);
    let (pool, counters) = watched(lab, &all)?;
    let name = format!("{}/some/it:1", registry.address());
    // Two nodes have what the tag meant before.
    push(lab.host(0), "busybox", &name)?;
    pool.ok(&format!("pull {name}"))?;
    make_large(lab.host(0), "large:1", 1 << 20)?;
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
