//! Images in a pool: one catalogue, whatever node they are on.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;
use integration::registry::Registry;
use integration::wait;

use crate::contains;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("an_image_of_all_nodes_is_listed_once", listed_once),
        case("a_tag_is_the_whole_pools", tag),
        case("a_saved_image_is_loaded_again", save_and_load),
        case("a_file_system_becomes_an_image", import),
        case(
            "an_image_is_pulled_for_the_pool_and_pushed_from_it",
            registry,
        ),
        case("beside_a_digest_a_tag_says_nothing", pinned),
        case(
            "an_image_nobody_has_is_refused_as_by_an_engine",
            nobody_has_it,
        ),
        case("the_classic_builder_builds", build_classic),
        case("a_classic_build_joins_what_one_node_has", build_joins),
        case("buildkit_builds", build_kit),
        case("two_clients_build_at_once", two_builds),
    ]
}

fn listed_once(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.says("images --format {{.Repository}}:{{.Tag}}", "busybox:latest")?;
    let id = lab
        .host(0)
        .docker(&["images", "-q", "--no-trunc", "busybox"])?;
    pool.says("images -q --no-trunc", &id)?;
    pool.says("image inspect -f {{.Id}} busybox", &id)?;
    pool.says("image inspect -f {{.Id}} busybox:latest", &id)?;
    pool.says(&format!("image inspect -f {{{{.Id}}}} {}", &id[7..19]), &id)?;
    ensure!(
        pool.ok("history -q --no-trunc busybox")?.starts_with(&id),
        "another history"
    );
    pool.says("images -q --filter reference=nosuch", "")?;
    pool.says(
        "images --filter reference=busy* --format {{.Tag}}",
        "latest",
    )
}

fn tag(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("tag busybox some:1")?;
    pool.ok("tag some:1 other:2")?;
    let names = "images --format {{.Repository}}:{{.Tag}} --filter reference=";
    pool.says(&format!("{names}some"), "some:1")?;
    for _ in 0..3 {
        pool.ok("run -d some:1 sleep 600")?;
    }
    let mut nodes: Vec<String> = pool
        .ok("ps --format '{{.Label \"com.flotilla.node\"}}'")?
        .lines()
        .map(str::to_owned)
        .collect();
    nodes.sort();
    nodes.dedup();
    ensure!(nodes.len() == 3, "the new name is known on {nodes:?} only");
    pool.says("rmi other:2", "Untagged: other:2")?;
    pool.refuses("rmi nosuch", "No such image: nosuch:latest")?;
    let held = pool.refusal("rmi some:1");
    // The image has another name, so this one goes although containers were made with it.
    ensure!(held.is_err(), "the name cannot be removed: {held:?}");
    for host in lab.hosts() {
        let there = host.docker(&["images", "-q", "some"])?;
        ensure!(there.is_empty(), "{} has it still", host.name());
    }
    Ok(())
}

fn save_and_load(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar");
    pool.ok("tag busybox copy:1")?;
    pool.ok(&format!("save -o {} copy:1", file.display()))?;
    pool.ok("rmi copy:1")?;
    pool.says("images -q copy", "")?;
    contains(
        &pool.ok(&format!("load -i {}", file.display()))?,
        "Loaded image: copy:1",
    )?;
    pool.says("run --rm copy:1 echo hi", "hi")?;
    let again = pool.run_with("load", &std::fs::read(&file)?)?.ok()?;
    contains(&again, "Loaded image: copy:1")?;
    pool.says("rmi copy:1", "Untagged: copy:1")?;
    pool.refuses(
        &format!("save -o {} nosuch", file.display()),
        "No such image: nosuch",
    )
}

fn import(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar");
    pool.ok("create --name=it busybox true")?;
    pool.ok(&format!("export -o {} it", file.display()))?;
    let id = pool.ok(&format!(
        "import -c 'CMD echo imported' {} made:1",
        file.display()
    ))?;
    ensure!(id.starts_with("sha256:"), "{id}");
    pool.says("run --rm made:1", "imported")?;
    pool.ok("rmi made:1").map(drop)
}

fn registry(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let pool = Pool::over(lab)?;
    let name = format!("{}/some/busybox", registry.address());
    pool.ok(&format!("tag busybox {name}:1"))?;
    contains(&pool.ok(&format!("push {name}:1"))?, "digest: sha256:")?;
    pool.ok(&format!("rmi {name}:1"))?;
    contains(
        &pool.ok(&format!("pull {name}:1"))?,
        "Status: Downloaded newer image",
    )
    .or_else(|_| {
        contains(
            &pool.ok(&format!("pull {name}:1"))?,
            "Status: Image is up to date",
        )
    })?;
    for host in lab.hosts() {
        ensure!(
            !host.docker(&["images", "-q", &name])?.is_empty(),
            "{} has it not",
            host.name()
        );
    }
    pool.ok(&format!("rmi {name}:1"))?;
    // As on one engine: what is missing is pulled.
    let run = pool.run(&format!("run --rm {name}:1 echo hi"))?;
    ensure!(run.stdout == "hi\n", "{run:?}");
    pool.ok(&format!("rmi {name}:1"))?;
    pool.refuses(&format!("pull {name}:2"), "not found")?;
    pool.refuses(&format!("push {name}:3"), "does not exist")
}

/// As compose files often have it.
fn pinned(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let pool = Pool::over(lab)?;
    let name = format!("{}/some/busybox", registry.address());
    pool.ok(&format!("tag busybox {name}:1"))?;
    pool.ok(&format!("push {name}:1"))?;
    pool.ok(&format!("rmi {name}:1"))?;
    pool.ok(&format!("pull {name}:1"))?;
    let all = "'{{range .RepoDigests}}{{println .}}{{end}}'";
    let digests = pool.ok(&format!("image inspect -f {all} {name}:1"))?;
    let digest = digests
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}@")))
        .with_context(|| digests.clone())?;
    let id = pool.ok(&format!("images -q --no-trunc {name}:1"))?;
    // The second tag is nowhere.
    for tag in [":1", ":7"] {
        let pinned = format!("{name}{tag}@{digest}");
        pool.says(&format!("image inspect -f {{{{.Id}}}} {pinned}"), &id)?;
        pool.says(&format!("run --rm --pull never {pinned} echo hi"), "hi")?;
        pool.says(&format!("run --rm {pinned} echo hi"), "hi")?;
        pool.ok(&format!("create --name=it --pull never {pinned} true"))?;
        let of_it = format!("ps -a --format {{{{.Names}}}} --filter ancestor={pinned}");
        pool.says(&of_it, "it")?;
        pool.ok("rm it")?;
    }
    let pinned = format!("{name}:1@{digest}");
    contains(&pool.ok(&format!("rmi {pinned}"))?, "Untagged: ")?;
    for host in lab.hosts() {
        let left = host.docker(&["image", "inspect", "-f", "{{.RepoDigests}}", &id])?;
        ensure!(!left.contains(&name), "{} has {left}", host.name());
        ensure!(!host.docker(&["images", "-q", &name])?.is_empty());
    }
    pool.refuses(&format!("rmi {pinned}"), "No such image")?;
    pool.ok(&format!("rmi {name}:1")).map(drop)
}

fn nobody_has_it(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let body = br#"{"Image":"nosuch:1"}"#;
    let answer = pool.ask("POST", "/containers/create", body)?;
    ensure!(
        (answer.status, answer.message()?.as_str()) == (404, "No such image: nosuch:1"),
        "{answer:?}"
    );
    pool.refuses("image inspect nosuch", "No such image: nosuch:latest")?;
    pool.ends_with("run --rm nosuch true", 125)
}

/// A folder with a Dockerfile whose image says `word`.
fn context(word: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let file = "FROM busybox\nARG WORD=none\nCOPY word /word\nRUN echo and $WORD >>/word\nCMD [\"cat\", \"/word\"]\n";
    std::fs::write(folder.path().join("Dockerfile"), file)?;
    std::fs::write(folder.path().join("word"), format!("{word}\n"))?;
    Ok(folder)
}

fn build(pool: &Pool, kit: bool, line: &[&str], folder: &Path) -> Result<String> {
    let mut command = pool.docker().command()?;
    command
        .env("DOCKER_BUILDKIT", if kit { "1" } else { "0" })
        .arg("build")
        .args(line)
        .arg(folder);
    let built = pool.docker().finish(&mut command, b"")?;
    let said = built.stderr.clone();
    Ok(built.ok()? + &said)
}

fn build_classic(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let folder = context("classic")?;
    let said = build(
        &pool,
        false,
        &["--build-arg=WORD=arg", "-t", "it:1"],
        folder.path(),
    )?;
    contains(&said, "Successfully tagged it:1")?;
    pool.says("run --rm it:1", "classic\nand arg")?;
    std::fs::write(
        folder.path().join("Dockerfile"),
        "FROM busybox\nRUN exit 5\n",
    )?;
    let refusal = build(&pool, false, &["-t", "it:2"], folder.path()).map(drop);
    contains(&format!("{refusal:?}"), "returned a non-zero code: 5")?;
    pool.ok("rmi it:1").map(drop)
}

fn build_joins(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let folder = tempfile::tempdir()?;
    let asks = |step: &str| {
        let file = format!("FROM busybox\nRUN {step}\n");
        std::fs::write(folder.path().join("Dockerfile"), file)
    };
    let build = |network: &str| {
        let line = ["--no-cache", "--network", network, "-t", "it:1"];
        build(&pool, false, &line, folder.path())
    };
    // Wherever this client builds, some of these networks are on another node.
    for name in ["server1", "server2", "server3"] {
        pool.ok(&format!("network create net-{name}"))?;
        pool.ok(&format!(
            "run -d --name={name} --network=net-{name} busybox sleep 600"
        ))?;
        asks(&format!("ping -c1 -W5 {name}"))?;
        build(&format!("net-{name}"))?;
        pool.says("run --rm it:1 echo built", "built")?;
        asks("ip -4 addr show eth0 >/mine")?;
        build(&format!("container:{name}"))?;
        let mine = pool.ok(&format!("exec {name} ip -4 addr show eth0"))?;
        pool.says("run --rm --network=none it:1 cat /mine", &mine)?;
    }
    // One that is nowhere is there for as long as the build runs.
    pool.ok("network create empty")?;
    asks("ip addr show eth0")?;
    build("empty")?;
    for host in lab.hosts() {
        wait::until_true("the network is gone from the node", crate::SOON, || {
            let networks = host.docker(&["network", "ls", "-q", "--filter", "name=empty"])?;
            Ok(networks.is_empty())
        })?;
    }
    pool.ok("network rm empty")?;
    let refusal = build("nosuch").map(drop);
    contains(&format!("{refusal:?}"), "network nosuch not found")?;
    let refusal = build("container:nosuch").map(drop);
    contains(&format!("{refusal:?}"), "No such container: nosuch")?;
    pool.ok("rmi it:1").map(drop)
}

fn build_kit(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let folder = context("kit")?;
    build(
        &pool,
        true,
        &["--build-arg=WORD=arg", "-t", "it:1"],
        folder.path(),
    )?;
    pool.says("run --rm it:1", "kit\nand arg")?;
    let again = build(
        &pool,
        true,
        &["--build-arg=WORD=arg", "-t", "it:1", "--progress=plain"],
        folder.path(),
    )?;
    contains(&again, "CACHED")?;
    std::fs::write(
        folder.path().join("Dockerfile"),
        "FROM busybox\nRUN exit 5\n",
    )?;
    let refusal = build(&pool, true, &["-t", "it:2"], folder.path()).map(drop);
    contains(&format!("{refusal:?}"), "exit code: 5")?;
    // No builder of its own: the engine's was used.
    pool.says("ps -aq --filter name=buildx", "")?;
    pool.ok("rmi it:1")?;
    pool.ok("builder prune -af").map(drop)
}

fn two_builds(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let other = integration::client::Docker::new(&pool.manager.tcp())?;
    std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            let folder = context("one")?;
            build(&pool, true, &["-t", "one:1"], folder.path())
        });
        let folder = context("two")?;
        let path = folder.path().to_string_lossy().into_owned();
        other.run(&["build", "-t", "two:1", &path])?.ok()?;
        one.join().expect("no panic")
    })?;
    pool.says("run --rm one:1", "one\nand none")?;
    pool.says("run --rm two:1", "two\nand none")?;
    pool.ok("rmi one:1 two:1").map(drop)
}
