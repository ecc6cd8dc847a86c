//! What a pool of several nodes says of itself, and what it does not do yet.

use anyhow::{Context, Result, ensure};
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

use crate::contains;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("info_has_a_table_of_the_nodes", info),
        case("version_names_engine_and_product", version),
        case("networks_are_listed_and_inspected", networks),
        case("volumes_are_listed_and_inspected", volumes),
        case("what_would_span_nodes_is_refused_with_advice", not_yet),
        case("swarm_commands_get_the_engines_answer", swarm),
        case("disk_usage_is_added_up", disk_usage),
        case("prunes_reach_every_node", prune),
    ]
}

fn info(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--cluster-name=test"])?;
    pool.ok("run -d -m 64m --cpus=0.5 --name=web busybox sleep 600")?;
    pool.ok("create busybox true")?;
    let info = pool.ask("GET", "/info", b"")?.json()?;
    ensure!(info["Name"] == "test" && info["Images"] == 1, "{info}");
    ensure!(
        info["Containers"] == 2 && info["ContainersRunning"] == 1,
        "{info}"
    );
    let one = lab.host(0).docker(&["info", "-f", "{{.NCPU}}"])?;
    let one: u64 = one.parse().context("no number")?;
    ensure!(info["NCPU"] == one * 3, "{info}");
    let shown = pool.ok("info")?;
    contains(&shown, " Nodes: 3\n")?;
    for host in lab.hosts() {
        contains(&shown, &format!("{}: {}\n", host.name(), host.tcp()))?;
    }
    contains(&shown, "└ Status: Ready\n")?;
    contains(&shown, "└ Reserved CPUs: 0.5 / ")?;
    contains(&shown, "└ Reserved Memory: 64MiB / ")?;
    contains(&shown, "└ Containers: 1 (1 Running, 0 Paused, 0 Stopped)\n")?;
    contains(&shown, "└ Containers: 1 (0 Running, 0 Paused, 1 Stopped)\n")
}

fn version(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let shown = pool.ok("version")?;
    contains(&shown, "Server: Flotilla")?;
    pool.says("version -f {{.Server.Version}}", &lab.host(0).version()?)?;
    pool.says("version -f {{.Server.APIVersion}}", "1.51")?;
    pool.says("version -f {{.Server.MinAPIVersion}}", "1.24")
}

fn networks(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let listed = pool.ok("network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'")?;
    let mut listed: Vec<&str> = listed.lines().collect();
    listed.sort_unstable();
    ensure!(
        listed == ["bridge bridge local", "host host local", "none null local"],
        "{listed:?}"
    );
    pool.says("network inspect -f {{.Name}} bridge", "bridge")?;
    pool.refuses("network inspect nosuch", "network nosuch not found")?;
    pool.refuses("network rm nosuch", "network nosuch not found")?;
    pool.says("network ls -q --filter driver=nosuch", "")?;
    let id = pool.ok("network inspect -f {{.Id}} bridge")?;
    pool.says(&format!("network inspect -f {{{{.Name}}}} {id}"), "bridge")?;
    pool.says("network ls -q --no-trunc --filter name=bridge", &id)
}

fn volumes(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.says("volume ls -q", "")?;
    pool.ok("run -d --name=it -v data:/data busybox sh -c 'echo kept >/data/it; sleep 600'")?;
    pool.says("volume ls -q", "data")?;
    pool.says(
        "volume inspect -f '{{.Name}} {{.Driver}}' data",
        "data local",
    )?;
    pool.refuses("volume inspect nosuch", "no such volume: nosuch")
        .or_else(|_| pool.refuses("volume inspect nosuch", "nosuch: no such volume"))
        .or_else(|_| pool.refuses("volume inspect nosuch", "get nosuch: no such volume"))?;
    let node = pool.node_of("it")?;
    // Whoever needs the data goes where it is.
    for _ in 0..4 {
        let line = "run -d -v data:/data busybox sleep 600";
        let id = pool.ok(line)?;
        ensure!(pool.node_of(&id)? == node, "it is away from its data");
    }
    pool.refuses("volume rm data", "volume is in use")?;
    let all = pool.ok("ps -q")?.replace('\n', " ");
    pool.ok(&format!("rm -f {all}"))?;
    pool.says("volume rm data", "data")?;
    pool.says("volume ls -q", "")
}

fn not_yet(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for (method, path, body) in [
        (
            "POST",
            "/networks/create",
            &br#"{"Name":"net","Driver":"overlay"}"#[..],
        ),
        ("POST", "/swarm/init", br"{}"),
    ] {
        let answer = pool.ask(method, path, body)?;
        ensure!(answer.status == 501, "{method} {path}: {answer:?}");
        contains(&answer.message()?, "is not supported on a cluster endpoint")?;
    }
    pool.refuses(
        "network create -d overlay net",
        "is not supported on a cluster endpoint",
    )
}

fn swarm(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for line in [
        "service ls",
        "node ls",
        "stack ls",
        "secret ls",
        "config ls",
        "service create busybox",
        "swarm leave",
        "swarm join-token worker",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let theirs = lab.host(0).client().run(&words)?.refusal()?;
        let ours = pool.refusal(line)?;
        ensure!(
            ours == theirs,
            "docker {line}: {ours:?}; an engine: {theirs:?}"
        );
    }
    pool.says(
        "info -f '{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}'",
        "inactive false",
    )?;
    pool.says("plugin ls -q", "")
}

fn disk_usage(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for _ in 0..3 {
        pool.ok("run -d busybox sleep 600")?;
    }
    let usage = pool.ask("GET", "/system/df", b"")?.json()?;
    let one = integration::wire::ask(&lab.host(0).tcp(), "GET", "/system/df", b"")?.json()?;
    let bytes = |usage: &serde_json::Value| usage["LayersSize"].as_u64().unwrap_or_default();
    ensure!(
        bytes(&one) > 0 && bytes(&usage) == 3 * bytes(&one),
        "{} is not three times {}",
        bytes(&usage),
        bytes(&one)
    );
    ensure!(
        usage["Containers"].as_array().map(Vec::len) == Some(3),
        "{usage}"
    );
    let shown = pool.ok("system df --format '{{.Type}} {{.TotalCount}}'")?;
    contains(&shown, "Containers 3")?;
    pool.ok("system df -v").map(drop)
}

fn prune(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for name in ["a1", "a2", "a3", "a4"] {
        pool.ok(&format!("run --name={name} -v /data busybox true"))?;
    }
    pool.ok("run -d --name=stays busybox sleep 600")?;
    let pruned = pool.ok("container prune -f")?;
    ensure!(
        pruned.lines().filter(|line| line.len() == 64).count() == 4,
        "{pruned}"
    );
    pool.says("ps -a --format {{.Names}}", "stays")?;
    let pruned = pool.ok("volume prune -f")?;
    ensure!(
        pruned.lines().filter(|line| line.len() == 64).count() == 4,
        "{pruned}"
    );
    pool.says("volume ls -q", "")?;
    // The names are free.
    pool.ok("run --name=a1 busybox true")?;
    contains(&pool.ok("system prune -f")?, "Total reclaimed space")?;
    contains(&pool.ok("image prune -f")?, "Total reclaimed space")?;
    contains(&pool.ok("network prune -f").map(|said| said + ".")?, ".")
}
