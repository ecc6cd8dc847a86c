//! A pool of one engine does all that the engine does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::client::Output;
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

use crate::{SOON, contains};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("one_engine_makes_volumes", volumes),
        case("one_engine_makes_networks", networks),
        case("a_compose_project_lives_on_one_engine", compose),
        case("compose_run_and_watch_do_their_work", compose_run),
    ]
}

fn one(lab: &Lab) -> Result<Pool> {
    Pool::of(&lab.endpoints()[..1], &[])
}

fn volumes(lab: &Lab) -> Result<()> {
    let pool = one(lab)?;
    pool.says("volume create --label a=b data", "data")?;
    pool.says("volume create data", "data")?;
    pool.says("volume ls -q --filter label=a=b", "data")?;
    pool.says(
        "run --rm -v data:/data busybox sh -c 'echo kept >/data/it'",
        "",
    )?;
    pool.says("run --rm -v data:/data busybox cat /data/it", "kept")?;
    pool.says("volume rm data", "data")?;
    pool.refuses("volume rm data", "no such volume")
}

fn networks(lab: &Lab) -> Result<()> {
    let pool = one(lab)?;
    let id = pool.ok("network create net")?;
    pool.refuses("network create net", "network with name net already exists")?;
    pool.says("network ls -q --no-trunc --filter name=net", &id)?;
    pool.ok("run -d --name=peer --network=net busybox sleep 600")?;
    pool.ok("run --rm --network=net busybox ping -c1 -W5 peer")?;
    pool.ok("run -d --name=late busybox sleep 600")?;
    pool.ok("network connect --alias second net late")?;
    pool.ok("exec peer ping -c1 -W5 second")?;
    pool.says("ps --filter network=net --format {{.Names}}", "late\npeer")?;
    pool.ok("network disconnect net late")?;
    pool.says("ps --filter network=net --format {{.Names}}", "peer")?;
    pool.refuses("network rm net", "has active endpoints")?;
    pool.ok("rm -f peer")?;
    pool.says("network rm net", "net")?;
    pool.refuses("network inspect net", "network net not found")
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
    networks: [ back ]
volumes:
  data:
networks:
  back:
configs:
  greeting: { content: "hello" }
"#;

fn project() -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("compose.yaml"), PROJECT)?;
    let file =
        "FROM busybox\nRUN mkdir /built\nCMD [\"sh\", \"-c\", \"echo serving; exec sleep 600\"]\n";
    std::fs::write(folder.path().join("Dockerfile"), file)?;
    Ok(folder)
}

fn compose(lab: &Lab) -> Result<()> {
    let pool = one(lab)?;
    let folder = project()?;
    let run = |line: &str| run_compose(&pool, folder.path(), line);
    let ok = |line: &str| run(line)?.ok();
    ok("up -d --build")?;
    let first = pool.ok("ps -q --no-trunc")?;
    ensure!(first.lines().count() == 2, "{first}");
    let db = pool.ok("inspect -f {{.State.Health.Status}} it-db-1")?;
    ensure!(db == "healthy", "the dependency was not waited for: {db}");
    let again = run("up -d")?;
    ensure!(again.code == 0, "{again:?}");
    ensure!(
        !again.stderr.contains("Recreate") && !again.stderr.contains("Created"),
        "{}",
        again.stderr
    );
    ensure!(
        pool.ok("ps -q --no-trunc")? == first,
        "containers were made again"
    );
    ensure!(
        ok("exec -T web cat /greeting")? == "hello",
        "the config is not there"
    );
    ok("exec -T web ping -c1 -W5 db")?;
    ok("up -d --scale web=3")?;
    let mut services: Vec<String> = ok("ps --format {{.Name}}")?
        .lines()
        .map(str::to_owned)
        .collect();
    services.sort();
    ensure!(
        services == ["it-db-1", "it-web-1", "it-web-2", "it-web-3"],
        "{services:?}"
    );
    let logs = ok("logs --no-color web")?;
    ensure!(logs.matches("serving").count() == 3, "{logs}");
    contains(&ok("top web")?, "sleep 600")?;
    ok("up -d --scale web=1")?;
    ensure!(ok("ps -q")?.lines().count() == 2, "not scaled down");
    // A change makes exactly one container anew, under the same name.
    std::fs::write(
        folder.path().join("compose.override.yaml"),
        "services: {web: {environment: {A: b}}}",
    )?;
    ok("up -d")?;
    let second = pool.ok("ps -q --no-trunc")?;
    let kept = first.lines().filter(|id| second.contains(id)).count();
    ensure!(
        kept == 1 && second.lines().count() == 2,
        "{first} became {second}"
    );
    ok("restart -t 0 web")?;
    ok("stop -t 0")?;
    ensure!(ok("ps -q")?.is_empty(), "it runs on");
    ok("start")?;
    ok("down -v --rmi local -t 0")?;
    pool.says("ps -aq", "")?;
    pool.says("volume ls -q", "")?;
    pool.says("network ls -q --filter type=custom", "")?;
    pool.says("images --format {{.Repository}}", "busybox")
}

fn compose_run(lab: &Lab) -> Result<()> {
    let pool = one(lab)?;
    let folder = project()?;
    let ok = |line: &str| run_compose(&pool, folder.path(), line)?.ok();
    ensure!(
        ok("run --rm --no-deps -T web echo hi")?.ends_with("hi"),
        "no output"
    );
    let failed = run_compose(&pool, folder.path(), "run --rm --no-deps -T web false")?;
    ensure!(failed.code == 1, "{failed:?}");
    // In the foreground: output of all, and the exit code of one.
    std::fs::write(
        folder.path().join("compose.override.yaml"),
        "services: {web: {command: sh -c 'echo from web; exit 6'}}",
    )?;
    let front = run_compose(&pool, folder.path(), "up --no-color --exit-code-from web")?;
    ensure!(front.code == 6, "{front:?}");
    contains(&front.stdout, "from web")?;
    ok("down -v --rmi local -t 0")?;
    pool.says("ps -aq", "")
}

fn run_compose(pool: &Pool, folder: &Path, line: &str) -> Result<Output> {
    let patient = pool
        .docker()
        .clone()
        .patience(Duration::from_secs(120).max(SOON));
    let mut command = patient.command()?;
    command.current_dir(folder).args(["compose", "-p", "it"]);
    command.args(line.split(' '));
    patient.finish(&mut command, b"")
}
