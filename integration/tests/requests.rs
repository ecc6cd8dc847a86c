//! What our answers cost the engines: every request that reaches one is counted.

#![expect(
    clippy::disallowed_methods,
    reason = "the lab runs real processes in real time"
)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::counter::Counter;
use integration::harness::{self, Case, case};
use integration::lab::{Lab, Spec};
use integration::pool::Pool;
use integration::wait;

const SOON: Duration = Duration::from_secs(20);
/// Nothing more is on its way once nothing came for so long: re-reads wait for events at most a tenth of it.
const QUIET: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    harness::main(Spec::hosts(1), cases())
}

fn cases() -> Vec<Case> {
    vec![
        case("create_and_start_cost_four_requests", create_and_start),
        case("a_volume_that_is_there_costs_nothing_more", volume_there),
        case("lists_and_look_ups_cost_nothing", lists),
        case("what_one_engine_knows_is_asked_of_it_once", one_each),
        case("a_change_costs_itself_and_one_read", changes),
        case("a_refused_name_costs_one_look", refused_name),
        case(
            "a_container_made_elsewhere_costs_its_reads_only",
            behind_our_back,
        ),
        case("an_idle_pool_is_silent_but_for_probes", idle),
        case("the_cli_runs_a_container_in_few_requests", cli_run),
    ]
}

/// A pool of the lab's engine, and the counter between them; all that starting costs is over.
fn counted(lab: &Lab) -> Result<(Pool, Counter)> {
    let counter = Counter::before(&lab.host(0).tcp())?;
    let pool = Pool::of(&[counter.endpoint()], &[])?;
    settled(&counter)?;
    Ok((pool, counter))
}

/// All requests until nothing more comes.
fn settled(counter: &Counter) -> Result<Vec<String>> {
    let mut all = Vec::new();
    let mut last = std::time::Instant::now();
    wait::until("the engine to be left alone", SOON, || {
        let new = counter.take();
        if !new.is_empty() {
            last = std::time::Instant::now();
            all.extend(new);
        }
        Ok((last.elapsed() >= QUIET).then(|| std::mem::take(&mut all)))
    })
}

/// The requests with ids left out.
fn named(requests: &[String]) -> Vec<String> {
    let plain = |request: &String| {
        let is_id =
            |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parts = request
            .split('/')
            .map(|part| if is_id(&part) { "ID" } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    requests.iter().map(plain).collect()
}

/// Fails unless exactly these requests reached the engine, in any order.
fn cost(counter: &Counter, wanted: &[&str]) -> Result<()> {
    let mut found = named(&settled(counter)?);
    found.sort();
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    ensure!(
        found == wanted,
        "the engine was asked {found:?}, not {wanted:?}"
    );
    Ok(())
}

const BODY: &[u8] = br#"{"Image":"busybox","Cmd":["sleep","600"]}"#;

fn create_and_start(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    costs_four(&pool, &counter, BODY)
}

/// Creates and starts two containers of this body, at four requests each.
fn costs_four(pool: &Pool, counter: &Counter, body: &[u8]) -> Result<()> {
    for name in ["one", "two"] {
        let made = pool.ask("POST", &format!("/containers/create?name={name}"), body)?;
        ensure!(made.status == 201, "{made:?}");
        let started = pool.ask("POST", &format!("/containers/{name}/start"), b"")?;
        ensure!(started.status == 204, "{started:?}");
        cost(
            counter,
            &[
                "POST /containers/create",
                "GET /containers/json",
                "POST /containers/ID/start",
                "GET /containers/json",
            ],
        )?;
    }
    Ok(())
}

fn volume_there(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    pool.ok("run --rm -v data:/d busybox true")?;
    settled(&counter)?;
    let body = br#"{"Image":"busybox","Cmd":["sleep","600"],"HostConfig":{"Binds":["data:/d"]}}"#;
    costs_four(&pool, &counter, body)
}

fn lists(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    pool.ok("run -d --name=it -l a=b busybox sleep 600")?;
    settled(&counter)?;
    for path in [
        "/_ping",
        "/containers/json",
        "/containers/json?all=1",
        "/containers/json?all=1&limit=3",
        "/containers/json?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D",
        "/containers/json?filters=%7B%22name%22%3A%5B%22it%22%5D%7D",
        "/containers/nosuch/json",
        "/containers/json?all=1&filters=%7B%22since%22%3A%5B%22it%22%5D%7D",
    ] {
        pool.ask("GET", path, b"")?;
    }
    for path in [
        "/containers/nosuch/start",
        "/containers/nosuch/stop",
        "/containers/nosuch/wait",
    ] {
        pool.ask("POST", path, b"")?;
    }
    cost(&counter, &[])
}

fn one_each(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    settled(&counter)?;
    for (method, path) in [
        ("GET", "json"),
        ("GET", "top"),
        ("GET", "changes"),
        ("GET", "logs?stdout=1"),
        ("GET", "stats?stream=0&one-shot=1"),
        ("HEAD", "archive?path=/etc"),
        ("GET", "archive?path=/etc/passwd"),
    ] {
        let answer = pool.ask(method, &format!("/containers/it/{path}"), b"")?;
        ensure!(answer.status == 200, "{path}: {answer:?}");
        let path = path.split('?').next().unwrap_or_default();
        cost(&counter, &[&format!("{method} /containers/ID/{path}")])?;
    }
    let made = pool.ask("POST", "/containers/it/exec", br#"{"Cmd":["true"]}"#)?;
    let id = made.json()?["Id"].as_str().unwrap_or_default().to_owned();
    cost(&counter, &["POST /containers/ID/exec"])?;
    pool.ask("POST", &format!("/exec/{id}/start"), br#"{"Detach":true}"#)?;
    pool.ask("GET", &format!("/exec/{id}/json"), b"")?;
    cost(&counter, &["POST /exec/ID/start", "GET /exec/ID/json"])
}

fn changes(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    settled(&counter)?;
    for path in ["stop?t=0", "start", "restart?t=0", "rename?name=new"] {
        let name = if pool.ok("ps -aq --filter name=new")?.is_empty() {
            "it"
        } else {
            "new"
        };
        let answer = pool.ask("POST", &format!("/containers/{name}/{path}"), b"")?;
        ensure!(answer.status == 204, "{path}: {answer:?}");
        let path = path.split('?').next().unwrap_or_default();
        let change = format!("POST /containers/ID/{path}");
        cost(&counter, &[&change, "GET /containers/json"])?;
    }
    // Done already: nothing to read.
    let again = pool.ask("POST", "/containers/new/start", b"")?;
    ensure!(again.status == 304, "{again:?}");
    cost(&counter, &["POST /containers/ID/start"])?;
    let removed = pool.ask("DELETE", "/containers/new?force=1", b"")?;
    ensure!(removed.status == 204, "{removed:?}");
    cost(&counter, &["DELETE /containers/ID"])
}

fn refused_name(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    settled(&counter)?;
    let refused = pool.ask("POST", "/containers/create?name=it", BODY)?;
    ensure!(refused.status == 409, "{refused:?}");
    cost(&counter, &["GET /containers/ID/json"])?;
    let body = br#"{"Image":"busybox","HostConfig":{"Memory":999000000000}}"#;
    let refused = pool.ask("POST", "/containers/create", body)?;
    ensure!(refused.status == 409, "{refused:?}");
    cost(&counter, &[])
}

fn behind_our_back(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    lab.host(0)
        .docker(&["create", "--name=theirs", "busybox", "sleep", "600"])?;
    pool.comes_to_say("ps -a --format {{.Names}}", "theirs", SOON)?;
    // Its list item, and once an inspect for what items leave out.
    cost(
        &counter,
        &["GET /containers/ID/json", "GET /containers/json"],
    )
}

fn idle(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    settled(&counter)?;
    // Three seconds by the engine's own clock, which is what an idle pool has to get through.
    lab.host(0).docker(&["exec", "it", "sleep", "3"])?;
    let seen = settled(&counter)?;
    ensure!(seen.is_empty(), "an idle pool asked {seen:?}");
    Ok(())
}

fn cli_run(lab: &Lab) -> Result<()> {
    let (pool, counter) = counted(lab)?;
    pool.says("run --rm busybox echo hi", "hi")?;
    let seen = named(&settled(&counter)?);
    let count = |wanted: &str| seen.iter().filter(|request| *request == wanted).count();
    for wanted in [
        "POST /containers/create",
        "POST /containers/ID/attach",
        "POST /containers/ID/wait",
        "POST /containers/ID/start",
    ] {
        ensure!(
            count(wanted) == 1,
            "{wanted} reached the engine {} times: {seen:?}",
            count(wanted)
        );
    }
    // A read after the create and one after the start; the end and the network it leaves cost at most one each, and an
    // engine that takes its time to remove it is asked once more for that network: it told of leaving it early.
    ensure!(
        (2..=5).contains(&count("GET /containers/json")) && seen.len() <= 9,
        "the engine was asked {seen:?}"
    );
    Ok(())
}
