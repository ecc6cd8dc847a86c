//! Whole projects of `docker compose`, over three engines as over one.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use integration::compose::Project;
use integration::harness::{Case, case};
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::wait;

use crate::{SOON, contains};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("compose_does_all_it_does_on_one_engine", whole),
        case("compose_is_the_same_in_a_pool_of_one", of_one),
        case("compose_runs_one_off_and_in_the_foreground", one_off),
        case("compose_takes_down_what_runs_beside_what_ended", ended),
        case("compose_recreates_what_there_is_room_for_once", recreated),
        case("compose_follows_what_happens", followed),
        case("compose_watch_brings_changes", watched),
        case("compose_projects_come_up_at_once", at_once),
        case("compose_projects_share_networks_and_volumes", shared),
        case("compose_finds_a_project_again_after_its_node_died", lost),
        case("compose_1_29_does_the_basics", by_old_compose),
        case("compose_lets_go_of_a_project_whose_node_is_dead", let_go),
    ]
}

const PROJECT: &str = r#"
services:
  db:
    image: busybox
    command: sh -c 'sleep 1; touch /data/ready; sleep 600'
    stop_signal: SIGKILL
    healthcheck:
      test: test -e /data/ready
      interval: 300ms
      retries: 60
    volumes: [ "data:/data" ]
    networks: [ back ]
  web:
    build: .
    stop_signal: SIGKILL
    depends_on:
      db: { condition: service_healthy }
    configs: [ { source: greeting, target: /greeting } ]
    secrets: [ token ]
    volumes: [ "data:/data:ro", "cache:/cache" ]
    networks: { back: {}, front: { aliases: [ www ] } }
    develop:
      watch: [ { action: sync, path: ./source, target: /source } ]
  edge:
    image: busybox
    command: sleep 600
    stop_signal: SIGKILL
    depends_on: [ web ]
    networks: [ front ]
volumes:
  data:
  cache: { labels: { kind: cache } }
networks:
  back: { internal: true }
  front:
configs:
  greeting: { content: "hello" }
secrets:
  token: { environment: TOKEN }
"#;

const IMAGE: &str =
    "FROM busybox\nRUN mkdir /source\nCMD [\"sh\", \"-c\", \"echo serving; exec sleep 600\"]\n";

fn shop(pool: &Pool) -> Result<Shop<'_>> {
    let project = Project::new(pool, "shop", PROJECT)?;
    project.write("Dockerfile", IMAGE)?;
    Ok(Shop(project))
}

/// The project above; its secret comes from the environment of whoever brings it up.
struct Shop<'a>(Project<'a>);

impl Shop<'_> {
    fn ok(&self, line: &str) -> Result<String> {
        let mut command = self.0.command()?;
        command
            .args(integration::pool::words(line))
            .env("TOKEN", "s3cret");
        self.0.finish(&mut command)?.ok()
    }

    /// Brings it up once more, and nothing is made anew.
    fn is_up_to_date(&self) -> Result<()> {
        let before = self.0.containers()?;
        self.ok("up -d")?;
        let after = self.0.containers()?;
        ensure!(before == after, "{before:?} became {after:?}");
        Ok(())
    }
}

/// Nothing but the image that was there before.
fn nothing_is_left(lab: &Lab, pool: &Pool) -> Result<()> {
    pool.says("ps -aq", "")?;
    pool.says("volume ls -q", "")?;
    pool.says("network ls -q --filter type=custom", "")?;
    pool.says("images --format {{.Repository}}", "busybox")?;
    for host in lab.hosts() {
        for list in [
            "ps -aq",
            "volume ls -q",
            "network ls -q --filter type=custom",
        ] {
            let words: Vec<&str> = list.split(' ').collect();
            wait::until_true(
                &format!("`{list}` of {} to be empty", host.name()),
                SOON,
                || Ok(host.docker(&words)?.is_empty()),
            )?;
        }
    }
    Ok(())
}

fn whole(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    does_all(&pool)?;
    nothing_is_left(lab, &pool)
}

fn of_one(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints()[..1], &[])?;
    does_all(&pool)?;
    nothing_is_left(lab, &pool)
}

fn does_all(pool: &Pool) -> Result<()> {
    let shop = shop(pool)?;
    shop.ok("up -d --build")?;
    let first = shop.0.containers()?;
    ensure!(first.len() == 3, "{first:?}");
    let node = shop.0.node()?;
    pool.says("inspect -f {{.State.Health.Status}} shop-db-1", "healthy")?;
    shop.is_up_to_date()?;
    for (line, said) in [
        ("exec -T web cat /greeting", "hello"),
        ("exec -T web cat /run/secrets/token", "s3cret"),
        ("exec -T web ls /data", "ready"),
    ] {
        let answer = shop.ok(line)?;
        ensure!(answer == said, "{line}: {answer}");
    }
    for (from, to) in [("web", "db"), ("edge", "www")] {
        shop.ok(&format!("exec -T {from} ping -c 1 -W 5 {to}"))?;
    }
    ensure!(
        shop.0.run("exec -T edge ping -c 1 -W 1 db")?.code != 0,
        "edge reaches db, and has no network with it"
    );
    copies(&shop)?;
    scales(&shop)?;
    changes(&shop)?;
    contains(&shop.ok("top web")?, "sleep 600")?;
    contains(&shop.ok("images web")?, "shop-web")?;
    contains(&shop.ok("volumes")?, "shop_cache")?;
    contains(&shop.ok("ls")?, "running(3)")?;
    contains(&shop.ok("stats --no-stream")?, "shop-edge-1")?;
    for line in ["pause web", "unpause web", "restart -t 0 web"] {
        shop.ok(line)?;
    }
    shop.ok("stop -t 0")?;
    let running = shop.ok("ps -q")?;
    ensure!(running.is_empty(), "it runs on: {running}");
    shop.ok("start")?;
    shop.ok("kill edge")?;
    shop.ok("rm -f edge")?;
    shop.ok("up -d")?;
    ensure!(shop.0.containers()?.len() == 3 && shop.0.node()? == node);
    shop.ok("down -v --rmi local -t 0").map(drop)
}

fn copies(shop: &Shop<'_>) -> Result<()> {
    shop.0.write("page", "here and there")?;
    shop.ok("cp page web:/source/page")?;
    shop.ok("cp web:/source/page back")?;
    let back = std::fs::read_to_string(shop.0.folder().join("back"))?;
    ensure!(back == "here and there", "{back}");
    Ok(())
}

fn scales(shop: &Shop<'_>) -> Result<()> {
    let node = shop.0.node()?;
    shop.ok("up -d --scale edge=3")?;
    let mut names: Vec<String> = shop
        .ok("ps --format {{.Name}}")?
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    ensure!(
        names
            == [
                "shop-db-1",
                "shop-edge-1",
                "shop-edge-2",
                "shop-edge-3",
                "shop-web-1"
            ],
        "{names:?}"
    );
    ensure!(shop.0.node()? == node, "it was torn");
    shop.ok("scale edge=2")?;
    ensure!(
        shop.0.containers()?.len() == 4,
        "{:?}",
        shop.0.containers()?
    );
    shop.ok("up -d --scale edge=1")?;
    ensure!(
        shop.0.containers()?.len() == 3,
        "{:?}",
        shop.0.containers()?
    );
    Ok(())
}

/// A change makes anew what it is about, and what hangs on that, under the same names.
fn changes(shop: &Shop<'_>) -> Result<()> {
    let before = shop.0.containers()?;
    let project = "services: { edge: { environment: { A: b } } }";
    shop.0.write("compose.override.yaml", project)?;
    shop.ok("up -d")?;
    let after = shop.0.containers()?;
    let kept = before.iter().filter(|it| after.contains(it)).count();
    ensure!(kept == 2 && after.len() == 3, "{before:?} became {after:?}");
    shop.ok("up -d --force-recreate --no-deps web")?;
    let all = shop.0.containers()?;
    let kept = after.iter().filter(|it| all.contains(it)).count();
    ensure!(kept == 2 && all.len() == 3, "{after:?} became {all:?}");
    shop.is_up_to_date()
}

fn one_off(lab: &Lab) -> Result<()> {
    for engines in [1, 3] {
        let pool = Pool::of(&lab.endpoints()[..engines], &[])?;
        let shop = shop(&pool)?;
        let said = shop.ok("run --rm --no-deps -T web echo hi")?;
        ensure!(said.ends_with("hi"), "{said}");
        let mut fails = shop.0.command()?;
        fails.args(["run", "--rm", "--no-deps", "-T", "web", "false"]);
        let failed = shop.0.finish(fails.env("TOKEN", "x"))?;
        ensure!(failed.code == 1, "{failed:?}");
        // With all that it depends on.
        let said = shop.ok("run --rm -T web cat /data/ready /greeting")?;
        ensure!(said.ends_with("hello"), "{said}");
        shop.0.write(
            "compose.override.yaml",
            "services: { web: { command: sh -c 'echo from web; exit 6' } }",
        )?;
        let mut front = shop.0.command()?;
        front.args(["up", "--no-color", "--exit-code-from", "web"]);
        let front = shop.0.finish(front.env("TOKEN", "x"))?;
        ensure!(front.code == 6, "{front:?}");
        contains(&front.stdout, "from web")?;
        shop.ok("down -v --rmi local -t 0")?;
        nothing_is_left(lab, &pool)?;
    }
    Ok(())
}

const TALKER: &str = r"
services:
  one: &talker
    image: busybox
    command: sh -c 'while true; do echo it talks; sleep 0.2; done'
    stop_signal: SIGKILL
  two: *talker
";

/// A service that is no longer in the file, and has ended, is in nobody's way.
fn ended(lab: &Lab) -> Result<()> {
    for engines in [1, 3] {
        let pool = Pool::of(&lab.endpoints()[..engines], &[])?;
        let project = Project::new(&pool, "talk", TALKER)?;
        project.ok("up -d")?;
        project.ok("stop two")?;
        // Told the project's name by an argument, compose would not look into the file.
        let one = format!("name: talk\n{}", TALKER.replace("  two: *talker\n", ""));
        project.write("compose.yaml", &one)?;
        let mut down = pool.docker().command()?;
        down.current_dir(project.folder()).args(["compose", "down"]);
        project.finish(&mut down)?.ok()?;
        pool.says("ps -a --format {{.Names}}", "talk-two-1")?;
        pool.says("network ls -q --filter type=custom", "")?;
        pool.ok("rm talk-two-1")?;
        nothing_is_left(lab, &pool)?;
    }
    Ok(())
}

/// What is shared, two forms: the container that is made first has nothing to do with it.
const SHARING: &str = "
services:
  web:
    image: busybox
    command: sleep 600
    stop_signal: KILL
    depends_on: [db]
    networks: [default, front]
  job:
    image: busybox
    command: sleep 600
    stop_signal: KILL
    depends_on: [db]
    volumes: [pool:/pool]
  db:
    image: busybox
    command: sleep 600
    stop_signal: KILL
    volumes: [data:/data]
networks:
  front: {external: true}
volumes:
  pool: {external: true}
  data:
";

fn shared(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("network create front")?;
    pool.ok("volume create pool")?;
    // Where it is, is the fullest node.
    let proxy = "run -d --name=proxy --network front -v pool:/pool busybox sleep 600";
    let names = ["one", "two", "three"];
    for is_bound in [true, false] {
        if is_bound {
            pool.ok(proxy)?;
        }
        let projects = names.map(|name| Project::new(&pool, name, SHARING));
        let projects = projects.into_iter().collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let ups: Vec<_> = projects
                .iter()
                .map(|project| scope.spawn(|| project.ok("up -d")))
                .collect();
            let mut ups = ups.into_iter().map(|up| up.join().expect("no panic"));
            ups.try_for_each(|up| up.map(drop))
        })?;
        let nodes: Result<BTreeSet<_>> = projects.iter().map(Project::node).collect();
        ensure!(
            nodes.as_ref().is_ok_and(|nodes| nodes.len() == 1),
            "{nodes:?}"
        );
        for project in &projects {
            project.ok("down -v")?;
        }
        if is_bound {
            pool.ok("rm -f proxy")?;
        }
    }
    pool.ok("network rm front")?;
    pool.ok("volume rm pool")?;
    nothing_is_left(lab, &pool)
}

/// It makes a container's successor before it stops the container: only that is in the way of it.
fn recreated(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let memory = pool.ask("GET", "/info", b"")?.json()?["MemTotal"].as_u64();
    let most = memory.context("no memory")? / 3 / 100 * 70;
    for (what, said) in [
        (
            "room",
            format!("mem_limit: {most}\n    volumes: [data:/data]"),
        ),
        ("company", parted("com.docker.compose.service!=it")),
        ("no more", format!("mem_limit: {}", most / 2)),
    ] {
        let file = |round: &str| {
            format!(
                "services:\n  it:\n    image: busybox\n    command: sleep 600\n    stop_signal: KILL\n    \
                 network_mode: none\n    labels: {{round: '{round}'}}\n    {said}\nvolumes:\n  data:\n"
            )
        };
        let project = Project::new(&pool, "again", &file("1"))?;
        project.ok("up -d")?;
        let first = project.containers()?;
        for round in ["2", "3"] {
            project.write("compose.yaml", &file(round))?;
            project.ok("up -d").context(what)?;
            let now = project.containers()?;
            ensure!(now.len() == first.len(), "{what}: {now:?}");
            let rounds = vec![round; now.len()].join("\n");
            pool.says("ps --format '{{.Label \"round\"}}'", &rounds)?;
        }
        project.ok("down -v")?;
    }
    // What was held by those that are gone can be had.
    pool.ok(&format!("run --rm -m {most} busybox true"))?;
    nothing_is_left(lab, &pool)
}

/// One on each of three nodes.
fn parted(from: &str) -> String {
    format!("deploy: {{replicas: 3}}\n    environment: ['affinity:{from}']")
}

fn followed(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let project = Project::new(&pool, "talk", TALKER)?;
    project.ok("up -d")?;
    let logs = project.on_terminal("logs -f --no-color")?;
    for service in ["one-1", "two-1"] {
        logs.expect(&format!("{service}  | it talks"), SOON)?;
    }
    let events = project.on_terminal("events")?;
    // That the stream is open shows when something is told.
    wait::until_true("compose events to tell of a restart", SOON, || {
        project.ok("restart -t 0 two")?;
        Ok(events.screen().contains("container start") && events.screen().contains("talk-two-1"))
    })?;
    // Logs are followed over a restart.
    let before = logs.screen().matches("two-1  | it talks").count();
    wait::until_true("more lines after the restart", SOON, || {
        Ok(logs.screen().matches("two-1  | it talks").count() > before + 5)
    })?;
    let attached = project.on_terminal("attach one")?;
    attached.expect("it talks", SOON)?;
    drop((logs, events, attached));
    project.ok("down -t 0")?;
    nothing_is_left(lab, &pool)
}

fn watched(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let shop = shop(&pool)?;
    shop.0.write("source/page", "old")?;
    shop.ok("up -d")?;
    let watch = shop.0.on_terminal("watch --no-up")?;
    watch.expect("Watch enabled", SOON)?;
    let mut turn = 0;
    wait::until_true("a change to be in the container", SOON, || {
        turn += 1;
        let text = format!("new {turn}");
        shop.0.write("source/page", &text)?;
        let seen = wait::until_true("the change", std::time::Duration::from_secs(3), || {
            Ok(shop.0.run("exec -T web cat /source/page")?.stdout == text)
        });
        Ok(seen.is_ok())
    })?;
    drop(watch);
    shop.ok("down -v --rmi local -t 0")?;
    nothing_is_left(lab, &pool)
}

fn at_once(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let names = ["one", "two", "three"];
    let projects: Vec<_> = names
        .iter()
        .map(|name| {
            let project = Project::new(&pool, name, PROJECT)?;
            project.write("Dockerfile", IMAGE)?;
            Ok(Shop(project))
        })
        .collect::<Result<_>>()?;
    let all_at_once = |line: &str| {
        std::thread::scope(|scope| {
            let runs: Vec<_> = projects
                .iter()
                .map(|project| scope.spawn(|| project.ok(line)))
                .collect();
            let mut ended = runs.into_iter().map(|run| run.join().expect("no panic"));
            ended.try_for_each(|run| run.map(drop))
        })
    };
    all_at_once("up -d --build")?;
    let mut nodes: Vec<_> = projects
        .iter()
        .map(|project| project.0.node())
        .collect::<Result<_>>()?;
    nodes.sort();
    nodes.dedup();
    ensure!(nodes.len() > 1, "all are on {nodes:?}");
    for project in &projects {
        project.is_up_to_date()?;
        project.ok("exec -T web ping -c 1 -W 5 db")?;
    }
    all_at_once("down -v --rmi local -t 0")?;
    nothing_is_left(lab, &pool)
}

/// The host of a node, without power, and the pool knows.
fn power_off<'a>(lab: &'a Lab, pool: &Pool, node: &str) -> Result<&'a Host> {
    let host = lab.host_named(node)?;
    host.power_off()?;
    pool.wait_until_ready(2)?;
    Ok(host)
}

/// What survives its node: it is told of while the node is dead, and found again, data and all.
fn lost(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let shop = shop(&pool)?;
    shop.ok("up -d --build")?;
    let node = shop.0.node()?;
    let before = shop.0.containers()?;
    let host = power_off(lab, &pool, &node)?;
    // It is not brought up a second time elsewhere, without its data.
    let mut again = shop.0.command()?;
    again.args(["up", "-d"]).env("TOKEN", "s3cret");
    let refused = shop.0.finish(&mut again)?.refusal()?;
    contains(&refused, &node)?;
    ensure!(shop.0.containers()? == before);
    // Others go on.
    let other = Project::new(&pool, "talk", TALKER)?;
    other.ok("up -d")?;
    other.ok("down -t 0")?;
    host.power_on()?;
    pool.wait_until_ready(3)?;
    shop.ok("up -d")?;
    ensure!(shop.0.containers()? == before, "{before:?}");
    shop.ok("exec -T web cat /data/ready /greeting")?;
    shop.ok("down -v --rmi local -t 0")?;
    nothing_is_left(lab, &pool)
}

fn let_go(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let project = Project::new(&pool, "talk", TALKER)?;
    project.ok("up -d")?;
    let node = project.node()?;
    let host = power_off(lab, &pool, &node)?;
    // Nobody can stop what may still run there; removing it is a promise that is kept when the node is back.
    contains(
        &project.run("down -t 0")?.refusal()?,
        &format!("node {node} is not reachable"),
    )?;
    pool.ok("rm -f talk-one-1 talk-two-1")?;
    project.ok("down -t 0")?;
    pool.says("network ls -q --filter type=custom", "")?;
    // Its names are free at once.
    project.ok("up -d")?;
    ensure!(project.node()? != node);
    host.power_on()?;
    pool.wait_until_ready(3)?;
    project.is_up_to_date()?;
    project.ok("down -t 0")?;
    nothing_is_left(lab, &pool)
}

const OLD_PROJECT: &str = r#"
version: "3.7"
services:
  db:
    image: busybox
    command: sleep 600
    stop_signal: SIGKILL
    volumes: [ "data:/data" ]
    networks: [ back ]
  web:
    build: .
    stop_signal: SIGKILL
    depends_on: [ db ]
    networks: [ back, front ]
volumes: { data: {} }
networks: { back: {}, front: {} }
"#;

fn by_old_compose(lab: &Lab) -> Result<()> {
    let program = integration::install::old_compose()?;
    let pool = Pool::over(lab)?;
    let project = Project::new(&pool, "old", OLD_PROJECT)?;
    project.write("Dockerfile", IMAGE)?;
    let ok = |line: &str| {
        let mut command = Command::new(&program);
        command
            .current_dir(project.folder())
            .env("DOCKER_HOST", pool.docker().endpoint())
            .args(["-p", "old", "-f", "compose.yaml"])
            .args(integration::pool::words(line));
        project.finish(&mut command)?.ok()
    };
    ok("up -d")?;
    let first = project.containers()?;
    let node = project.node()?;
    ok("up -d")?;
    ensure!(project.containers()? == first, "made anew by a second up");
    ok("exec -T web ping -c 1 -W 5 db")?;
    contains(&ok("run --rm db echo hi")?, "hi")?;
    ok("up -d --scale web=3")?;
    ensure!(project.containers()?.len() == 4 && project.node()? == node);
    let logs = ok("logs --no-color web")?;
    ensure!(logs.matches("serving").count() == 3, "{logs}");
    contains(&ok("ps")?, "old_web_3")?;
    contains(&ok("top web")?, "sleep 600")?;
    for line in [
        "restart -t 0 web",
        "stop -t 0",
        "start",
        "kill db",
        "rm -f db",
    ] {
        ok(line)?;
    }
    // Not made anew by force: for that it reads what engines of today say no more of an image.
    ok("up -d")?;
    ensure!(
        project.containers()?.len() == 2 && project.node()? == node,
        "it moved"
    );
    ok("down -v --rmi local -t 0")?;
    nothing_is_left(lab, &pool)
}
