//! Images while nodes are down or die: what is removed goes everywhere or nowhere, and what is under way ends.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::counter::{Counter, Moment, Watcher};
use integration::harness::{Case, case};
use integration::images;
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::registry::Registry;
use integration::wait;

use crate::{SOON, contains, now};

/// How long a loss may go unnoticed, and any answer meanwhile.
const NOTICED: Duration = Duration::from_secs(6);
/// A client whose build is lost is told so within.
const BUILD_ENDS: Duration = Duration::from_secs(10);
/// How long an engine may take to be back in the pool once it answers.
const BACK: Duration = Duration::from_secs(20);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("an_image_used_anywhere_is_removed_nowhere", in_use),
        case(
            "an_image_removed_while_a_node_is_down_goes_when_it_is_back",
            removed_while_down,
        ),
        case(
            "what_a_forced_removal_leaves_is_not_told_as_deleted",
            forced,
        ),
        case(
            "what_a_tag_meant_loses_it_when_its_node_is_back",
            moved_while_down,
        ),
        case("an_image_of_a_dead_node_alone_can_be_removed", of_dead_node),
        case("an_image_used_anywhere_is_pruned_nowhere", pruned),
        case("what_passes_a_lost_node_by_is_told", told),
        case(
            "a_registry_is_asked_through_a_node_that_reaches_it",
            registry,
        ),
        case("a_node_killed_during_a_pull_is_named", killed_in_pull),
        case("a_node_killed_during_a_load_is_named", killed_in_load),
        case(
            "a_node_killed_during_a_removal_does_it_later",
            killed_in_removal,
        ),
        case("a_node_killed_during_a_prune_is_named", killed_in_prune),
        case("a_node_killed_during_df_is_named", killed_in_df),
        case("a_node_killed_during_a_save_ends_it", killed_in_save),
        case(
            "a_node_killed_before_a_save_begins_is_replaced",
            saved_elsewhere,
        ),
        case("a_save_that_is_cut_short_never_looks_whole", cut_short),
        case("a_node_killed_during_a_build_ends_it", killed_in_build),
        case(
            "a_node_lost_during_a_buildkit_build_ends_it",
            lost_in_buildkit,
        ),
    ]
}

/// Gives one node an image that no other has.
fn only_on(pool: &Pool, host: &Host, name: &str) -> Result<()> {
    images::make(host, name, 1 << 20)?;
    let id = host.docker(&["images", "-q", name])?;
    pool.comes_to_say(&format!("images -q {name}"), &id, SOON)
}

fn has(host: &Host, name: &str) -> Result<bool> {
    Ok(!host.docker(&["images", "-q", name])?.is_empty())
}

fn until_down(pool: &Pool, host: &Host) -> Result<()> {
    let marker = format!("WARNING: node {} is down", host.name());
    wait::until_true("the loss to be noticed", NOTICED, || {
        Ok(pool.run("info")?.stderr.contains(&marker) || pool.ok("info")?.contains(&marker))
    })
}

fn in_use(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("tag busybox some:1")?;
    only_on(&pool, lab.host(0), "it:1")?;
    let node = lab.host(1).name();
    pool.ok(&format!(
        "create --name=user -e constraint:node=={node} it:1 true"
    ))?;
    let id = pool.ok("images -q --no-trunc it:1")?;
    let said = pool.refusal("rmi it:1")?;
    contains(
        &said,
        "conflict: unable to remove repository reference \"it:1\" (must force) - container ",
    )?;
    contains(&said, &format!("on node {node}"))?;
    contains(
        &pool.refusal(&format!("rmi {id}"))?,
        "(must be forced) - image is being used by stopped container",
    )?;
    for host in [lab.host(0), lab.host(1)] {
        ensure!(has(host, "it:1")?, "{} lost it", host.name());
    }
    // One of two names may go whatever uses the image.
    pool.says("rmi some:1", "Untagged: some:1")?;
    pool.ok("rm user")?;
    // What is only mounted is used as well.
    pool.ok(&format!(
        "create --name=user -e constraint:node=={node} --mount type=image,src=it:1,dst=/it busybox true"
    ))?;
    pool.refuses("rmi it:1", "is using its referenced image")?;
    pool.says("image prune -af", "Total reclaimed space: 0B")?;
    for host in [lab.host(0), lab.host(1)] {
        ensure!(has(host, "it:1")?, "{} lost it", host.name());
    }
    pool.ok("rm user")?;
    contains(&pool.ok("rmi it:1")?, "Untagged: it:1")?;
    for host in lab.hosts() {
        ensure!(!has(host, "it:1")?, "{} has it still", host.name());
    }
    Ok(())
}

/// A forced removal of what runs takes its name only.
fn forced(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run --name=made busybox touch /it")?;
    let id = pool.ok("commit made it:1")?;
    for host in lab.hosts() {
        let node = host.name();
        pool.ok(&format!(
            "create --name=on-{node} -e constraint:node=={node} it:1 sleep 600"
        ))?;
    }
    pool.ok("rm made on-host1 on-host2")?;
    pool.ok("start on-host3")?;
    pool.says("rmi -f it:1", "Untagged: it:1")?;
    pool.says("images -q --no-trunc --filter dangling=true", &id)?;
    pool.ok("rm -f on-host3")?;
    contains(&pool.ok(&format!("rmi {id}"))?, &format!("Deleted: {id}"))?;
    pool.says("images -q --filter dangling=true", "")
}

fn moved_while_down(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    only_on(&pool, lab.host(0), "old:1")?;
    pool.ok("tag old:1 it:1")?;
    pool.ok(&format!(
        "create --name=user -e constraint:node=={} it:1 true",
        host.name()
    ))?;
    let old = pool.ok("images -q --no-trunc it:1")?;
    ensure!(has(host, "it:1")?, "it was not brought");
    host.cut()?;
    until_down(&pool, host)?;
    pool.ok("tag busybox it:1")?;
    host.heal()?;
    pool.wait_until_ready(3)?;
    wait::until_true("the tag to go", BACK, || Ok(!has(host, "it:1")?))?;
    // The image stays.
    host.docker(&["image", "inspect", &old])?;
    pool.says("inspect -f {{.Image}} user", &old)?;
    pool.ok("rm user")?;
    pool.ok("rmi it:1 old:1")?;
    pool.ok("image prune -f").map(drop)
}

fn removed_while_down(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    for name in ["some:1", "other:1", "again:1"] {
        pool.ok(&format!("tag busybox {name}"))?;
    }
    host.cut()?;
    until_down(&pool, host)?;
    pool.says("rmi some:1", "Untagged: some:1")?;
    pool.ok("rmi again:1")?;
    pool.ok("tag busybox again:1")?;
    let answer = pool.ask("DELETE", "/images/other:1", b"")?;
    ensure!(
        (answer.status, answer.header("x-cluster-partial")) == (200, Some("host2=unreachable")),
        "{answer:?}"
    );
    pool.refuses("image inspect some:1", "No such image: some:1")?;
    pool.refuses("rmi some:1", "No such image: some:1")?;
    host.heal()?;
    pool.wait_until_ready(3)?;
    for name in ["some:1", "other:1"] {
        wait::until_true("the removal", BACK, || Ok(!has(host, name)?))
            .with_context(|| name.to_owned())?;
        pool.says(&format!("images -q {name}"), "")?;
    }
    ensure!(has(host, "again:1")?, "what was wanted again is gone");
    pool.ok("rmi again:1").map(drop)
}

fn of_dead_node(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    // Of a registry that refuses connections at once.
    let used = "127.0.0.1:1/used:1";
    only_on(&pool, host, "it:1")?;
    only_on(&pool, host, used)?;
    pool.ok(&format!(
        "create --name=user -e constraint:node=={} {used} true",
        host.name()
    ))?;
    host.kill_engine()?;
    until_down(&pool, host)?;
    // A client pulls what is on no node that is up: the image may be in no registry.
    let refusal = pool.refusal(&format!("run --rm {used} true"))?;
    contains(&refusal, "connection refused; the pool's own image")?;
    contains(&refusal, "is on no other node: node host2 ")?;
    pool.says("rmi it:1", "Untagged: it:1")?;
    pool.refuses("image inspect it:1", "No such image: it:1")?;
    pool.refuses(&format!("rmi {used}"), "is using its referenced image")?;
    host.start_engine()?;
    host.wait_until_it_answers()?;
    pool.wait_until_ready(3)?;
    wait::until_true("the removal", BACK, || Ok(!has(host, "it:1")?))?;
    pool.ok("rm user")?;
    pool.ok(&format!("rmi {used}")).map(drop)
}

fn pruned(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    only_on(&pool, lab.host(0), "it:1")?;
    // Images of one size have the same layer.
    images::make(lab.host(0), "unused:1", 2 << 20)?;
    wait::until_true("the image to be seen", SOON, || {
        Ok(!pool.ok("images -q unused:1")?.is_empty())
    })?;
    let node = lab.host(1).name();
    for (name, image) in [("user", "it:1"), ("keeper", "busybox")] {
        pool.ok(&format!(
            "create --name={name} -e constraint:node=={node} {image} true"
        ))?;
    }
    pool.says(
        "image prune -af --filter label=nosuch",
        "Total reclaimed space: 0B",
    )?;
    let said = pool.ok("image prune -af")?;
    contains(&said, "untagged: unused:1")?;
    ensure!(
        !said.contains("it:1") && !said.contains("reclaimed space: 0B"),
        "{said}"
    );
    for (host, name) in [(0, "it:1"), (1, "it:1"), (0, "busybox"), (2, "busybox")] {
        let host = lab.host(host);
        ensure!(has(host, name)?, "{} lost {name}", host.name());
    }
    ensure!(!has(lab.host(0), "unused:1")?);
    pool.ok("rm user")?;
    contains(&pool.ok("image prune -af")?, "untagged: it:1")?;
    ensure!(!has(lab.host(0), "it:1")? && !has(lab.host(1), "it:1")?);
    pool.ok("rm keeper").map(drop)
}

fn told(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let since = now();
    lab.host(1).cut()?;
    until_down(&pool, lab.host(1))?;
    let mut begun = Instant::now();
    for (method, path) in [
        ("POST", "/containers/prune"),
        ("POST", "/images/prune"),
        ("POST", "/build/prune"),
        ("POST", "/networks/prune"),
        ("POST", "/volumes/prune"),
        ("GET", "/system/df"),
        ("GET", "/system/df?type=image"),
        ("GET", "/images/json"),
    ] {
        let answer = pool.ask(method, path, b"")?;
        ensure!(
            (answer.status, answer.header("x-cluster-partial")) == (200, Some("host2=unreachable")),
            "{path}: {answer:?}"
        );
        ensure!(
            begun.elapsed() < NOTICED,
            "{path} took {:?}",
            begun.elapsed()
        );
        begun = Instant::now();
    }
    let told = pool.ok(&format!(
        "events --since {since} --until {} --filter type=node --filter event=partial --format '{{{{.Actor.Attributes.name}}}} {{{{.Actor.Attributes.operation}}}}'",
        now()
    ))?;
    let expected = [
        "container prune",
        "image prune",
        "build prune",
        "network prune",
        "volume prune",
    ];
    let expected = expected
        .map(|operation| format!("host2 {operation}"))
        .join("\n");
    ensure!(told == expected, "{told:?}");
    contains(&pool.ok("system df")?, "Images")
}

fn registry(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let pool = Pool::over(lab)?;
    let name = format!("{}/some/it:1", registry.address());
    pool.ok(&format!("tag busybox {name}"))?;
    pool.ok(&format!("push {name}"))?;
    let path = format!("/distribution/{name}/json");
    let (_, port) = registry.address().rsplit_once(':').context("no port")?;
    for target in ["DROP", "REJECT"] {
        let rule = |deed: &str| -> Result<()> {
            let mut command = lab.host(0).command("iptables")?;
            command.args([deed, "OUTPUT", "-p", "tcp", "--dport", port, "-j", target]);
            ensure!(command.status()?.success(), "no rule");
            Ok(())
        };
        rule("-I")?;
        let begun = Instant::now();
        let answer = pool.ask("GET", &path, b"")?;
        rule("-D")?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            begun.elapsed()
        );
    }
    // None of them reaches the public registry.
    let begun = Instant::now();
    let answer = pool.ask("GET", "/images/search?term=busybox", b"")?;
    ensure!(answer.status >= 500, "{answer:?}");
    ensure!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    pool.ok(&format!("rmi {name}")).map(drop)
}

/// Does something while a node dies: the one that first got this request, of those that may. If it has answered at once
/// its answer is lost. Returns what came of it, and which node it was.
fn killed_during<T: Send>(
    lab: &Lab,
    may_die: &[usize],
    request: &'static str,
    work: impl FnOnce(&Pool) -> Result<T> + Send,
) -> Result<(Pool, T, usize)> {
    killed_at(lab, Moment::Answered, may_die, request, work)
}

/// [`killed_during`], at this moment of the request, in which one `*` may stand for anything.
pub(crate) fn killed_at<T: Send>(
    lab: &Lab,
    at: Moment,
    may_die: &[usize],
    request: &'static str,
    work: impl FnOnce(&Pool) -> Result<T> + Send,
) -> Result<(Pool, T, usize)> {
    let (told, stopped) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let once = Arc::new(Mutex::new(Some((told, wait))));
    let counters = lab
        .hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let (once, may_die) = (Arc::clone(&once), may_die.contains(&index));
            let watcher: Watcher = Arc::new(move |moment, asked: &str| {
                if may_die && moment == at && is_about(asked, request) {
                    let taken = once.lock().expect("no panic").take();
                    if let Some((told, wait)) = taken {
                        // A test that has ended no longer needs to know.
                        let _ = told.send(index);
                        let _ = wait.recv_timeout(SOON);
                        return false;
                    }
                }
                true
            });
            Counter::watched(&host.tcp(), watcher)
        })
        .collect::<Result<Vec<_>>>()?;
    let engines: Vec<_> = counters.iter().map(Counter::endpoint).collect();
    let pool = Pool::of(&engines, &[])?;
    let (outcome, dead) = std::thread::scope(|scope| {
        let working = scope.spawn(|| work(&pool));
        let dead = stopped.recv_timeout(SOON);
        let dead = dead.with_context(|| format!("nobody was asked {request}"))?;
        lab.host(dead).kill_engine()?;
        let _ = go_on.send(());
        anyhow::Ok((working.join().expect("no panic")?, dead))
    })?;
    Ok((pool, outcome, dead))
}

fn is_about(asked: &str, request: &str) -> bool {
    match request.split_once('*') {
        Some((before, after)) => asked.starts_with(before) && asked.ends_with(after),
        None => asked.starts_with(request),
    }
}

pub(crate) fn is_back(lab: &Lab, pool: &Pool, dead: usize) -> Result<()> {
    lab.host(dead).recover()?;
    pool.wait_until_ready(3)
}

fn killed_in_pull(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let name = format!("{}/some/it:1", registry.address());
    images::make(lab.host(0), &name, 20 << 20)?;
    lab.host(0).docker(&["push", &name])?;
    lab.host(0).docker(&["rmi", &name])?;
    let line = format!("pull {name}");
    let (pool, said, _) = killed_during(lab, &[1], "POST /images/create", |pool| pool.run(&line))?;
    ensure!(said.took < SOON && said.code != 0, "{said:?}");
    contains(&format!("{}{}", said.stdout, said.stderr), "host2")?;
    ensure!(has(lab.host(0), &name)? && has(lab.host(2), &name)?);
    pool.ok(&format!("create --name=it {name} true"))?;
    is_back(lab, &pool, 1)?;
    pool.ok("rm it")?;
    pool.ok(&format!("rmi {name}")).map(drop)
}

fn killed_in_load(lab: &Lab) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar").display().to_string();
    images::make(lab.host(0), "it:1", 20 << 20)?;
    lab.host(0).docker(&["save", "-o", &file, "it:1"])?;
    lab.host(0).docker(&["rmi", "it:1"])?;
    let line = format!("load -i {file}");
    let (pool, said, _) = killed_during(lab, &[1], "POST /images/load", |pool| pool.run(&line))?;
    ensure!(said.took < SOON && said.code != 0, "{said:?}");
    contains(&format!("{}{}", said.stdout, said.stderr), "host2")?;
    ensure!(has(lab.host(0), "it:1")? && has(lab.host(2), "it:1")?);
    is_back(lab, &pool, 1)?;
    pool.ok("rmi it:1").map(drop)
}

fn killed_in_removal(lab: &Lab) -> Result<()> {
    lab.each(|host| host.docker(&["tag", "busybox", "some:1"]).map(drop))?;
    let (pool, said, _) = killed_during(lab, &[1], "DELETE /images/some", |pool| {
        pool.run("rmi some:1")
    })?;
    ensure!(said.took < SOON, "{said:?}");
    ensure!(said.ok()? == "Untagged: some:1");
    pool.comes_to_say("images -q some:1", "", NOTICED)?;
    is_back(lab, &pool, 1)?;
    wait::until_true("the removal", BACK, || Ok(!has(lab.host(1), "some:1")?))?;
    pool.says("images -q some:1", "")
}

/// Whether the answer came soon and names the node that died.
fn is_partial(answer: &integration::wire::Answer, begun: Instant) -> Result<()> {
    ensure!(
        (answer.status, answer.header("x-cluster-partial")) == (200, Some("host2=unreachable")),
        "{answer:?}"
    );
    ensure!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    Ok(())
}

fn killed_in_prune(lab: &Lab) -> Result<()> {
    let begun = Instant::now();
    let (pool, answer, _) = killed_during(lab, &[1], "POST /images/prune", |pool| {
        pool.ask("POST", "/images/prune", b"")
    })?;
    is_partial(&answer, begun)?;
    is_back(lab, &pool, 1)
}

fn killed_in_df(lab: &Lab) -> Result<()> {
    let begun = Instant::now();
    let (pool, answer, _) = killed_during(lab, &[1], "GET /system/df", |pool| {
        pool.ask("GET", "/system/df", b"")
    })?;
    is_partial(&answer, begun)?;
    is_back(lab, &pool, 1)
}

fn killed_in_save(lab: &Lab) -> Result<()> {
    images::make(lab.host(1), "it:1", 20 << 20)?;
    let folder = tempfile::tempdir()?;
    let line = format!("save -o {} it:1", folder.path().join("it.tar").display());
    let (pool, said, _) = killed_during(lab, &[1], "GET /images/get", |pool| pool.run(&line))?;
    ensure!(said.took < SOON && said.code != 0, "{said:?}");
    contains(&said.stderr, "host2")?;
    is_back(lab, &pool, 1)?;
    pool.ok(&line)?;
    pool.ok("rmi it:1").map(drop)
}

/// Gives two nodes the same image.
fn on_two(lab: &Lab, name: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar").display().to_string();
    images::make(lab.host(0), name, 20 << 20)?;
    lab.host(0).docker(&["save", "-o", &file, name])?;
    lab.host(1).docker(&["load", "-i", &file]).map(drop)
}

fn saved_elsewhere(lab: &Lab) -> Result<()> {
    on_two(lab, "it:1")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar").display().to_string();
    let line = format!("save -o {file} it:1");
    let (pool, said, dead) =
        killed_during(lab, &[0, 1], "GET /images/get", |pool| pool.run(&line))?;
    ensure!(said.took < SOON, "{said:?}");
    said.ok()?;
    lab.host(2).docker(&["load", "-i", &file])?;
    ensure!(has(lab.host(2), "it:1")?, "it was no whole image");
    lab.host(2).docker(&["rmi", "it:1"])?;
    is_back(lab, &pool, dead)?;
    drop(pool);
    // Older clients name it in the path.
    let (pool, answer, dead) = killed_during(lab, &[0, 1], "GET /images/it", |pool| {
        pool.ask("GET", "/images/it:1/get", b"")
    })?;
    ensure!(
        answer.status == 200 && answer.body.len() > 20 << 20,
        "{} with {} bytes",
        answer.status,
        answer.body.len()
    );
    is_back(lab, &pool, dead)?;
    pool.ok("rmi it:1").map(drop)
}

fn cut_short(lab: &Lab) -> Result<()> {
    on_two(lab, "it:1")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar");
    let line = format!("save -o {} it:1", file.display());
    let (pool, said, dead) =
        killed_at(lab, Moment::Returned, &[0, 1], "GET /images/get", |pool| {
            pool.run(&line)
        })?;
    // What the client has got it leaves in the file, also of an engine's own archive.
    ensure!(said.took < SOON && said.code != 0, "{said:?}");
    contains(&said.stderr, "unexpected EOF")?;
    // The next one goes to the other node.
    pool.ok(&line)?;
    is_back(lab, &pool, dead)?;
    pool.ok("rmi it:1").map(drop)
}

fn killed_in_build(lab: &Lab) -> Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("Dockerfile"),
        "FROM busybox\nRUN sleep 1\n",
    )?;
    let build = |pool: &Pool| {
        let mut command = pool.docker().command()?;
        command
            .env("DOCKER_BUILDKIT", "0")
            .args(["build", "-t", "it:1"])
            .arg(folder.path());
        pool.docker().finish(&mut command, b"")
    };
    let (pool, said, dead) = killed_during(lab, &[0, 1, 2], "POST /build", build)?;
    ensure!(said.took < SOON && said.code != 0, "{said:?}");
    contains(&said.stderr, lab.host(dead).name())?;
    // Another node builds for this client now.
    build(&pool)?.ok()?;
    pool.ok("run --rm it:1 true")?;
    is_back(lab, &pool, dead)?;
    pool.ok("rmi it:1").map(drop)
}

/// BuildKit talks over connections that the engine has taken over, of which nobody here reads a word.
fn lost_in_buildkit(lab: &Lab) -> Result<()> {
    lost_building(lab, Host::kill_engine).context("killed")?;
    lost_building(lab, Host::hang).context("hung")?;
    lost_building(lab, Host::power_off).context("without power")
}

fn lost_building(lab: &Lab, lose: fn(&Host) -> Result<()>) -> Result<()> {
    let hosts = lab.hosts();
    let counters = hosts.iter().map(|host| Counter::before(&host.tcp()));
    let counters: Vec<_> = counters.collect::<Result<_>>()?;
    let engines: Vec<_> = counters.iter().map(Counter::endpoint).collect();
    let mut pool = Pool::of(&engines, &[])?;
    let folder = tempfile::tempdir()?;
    let dockerfile = folder.path().join("Dockerfile");
    std::fs::write(&dockerfile, "FROM busybox\nRUN echo begun-it; sleep 600\n")?;
    let build = |said: &Path| -> Result<Command> {
        let said = std::fs::File::create(said)?;
        let mut command = pool.docker().command()?;
        command
            .env("DOCKER_BUILDKIT", "1")
            .args(["build", "--progress=plain", "-t", "it:1"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said);
        Ok(command)
    };
    let builder = || {
        let mut asked = counters.iter().map(Counter::take);
        let is_of_buildkit = |request: &String| request == "POST /grpc";
        asked.position(|requests| requests.iter().any(is_of_buildkit))
    };
    let outside = tempfile::tempdir()?;
    let file = outside.path().join("said");
    let said = || std::fs::read_to_string(&file).unwrap_or_default();
    let mut building = build(&file)?.spawn()?;
    let outcome = (|| {
        wait::until_true("the build to be in its middle", SOON, || {
            // Not in the line that tells what is to be run.
            Ok(said().lines().any(|line| line.ends_with(" begun-it")))
        })?;
        let dead = builder().context("nobody builds")?;
        lose(lab.host(dead))?;
        let status = wait::until("the client to end", BUILD_ENDS, || Ok(building.try_wait()?))?;
        ensure!(!status.success(), "it was told that all is well");
        Ok(dead)
    })();
    // It has ended already if all is well.
    drop(building.kill());
    drop(building.wait());
    let dead = outcome.with_context(said)?;
    contains(&said(), "ERROR")?;
    // Another node builds for this client now.
    std::fs::write(&dockerfile, "FROM busybox\nRUN echo done\n")?;
    let status = build(&file)?.status()?;
    ensure!(status.success(), "{}", said());
    ensure!(builder().is_some_and(|next| next != dead), "the same node");
    pool.ok("run --rm it:1 true")?;
    is_back(lab, &pool, dead)?;
    // Who meets the loss itself goes on to the next node too: not being told why a connection fails, they would take it for
    // an engine without BuildKit.
    lose(lab.host(dead))?;
    pool.ok("builder prune -f")?;
    is_back(lab, &pool, dead)?;
    pool.ok("rmi it:1")?;
    // Nothing of the build is left that somebody would wait for.
    let begun = Instant::now();
    pool.manager.stop()?;
    ensure!(begun.elapsed() < NOTICED, "{:?}", begun.elapsed());
    Ok(())
}
