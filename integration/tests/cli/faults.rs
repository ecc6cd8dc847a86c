//! Everything that breaks: the rest goes on, nothing hangs, and what comes back is taken back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::harness::{Case, case};
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::wait;
use integration::wire::{self, Wire};

use crate::{SOON, contains};

/// How long a loss may go unnoticed: the time-out, a probe's period, and a busy machine.
const NOTICED: Duration = Duration::from_secs(6);
/// How long any command may take while a node is being lost.
const AT_ONCE: Duration = Duration::from_secs(2);
/// A question to a node that is just being lost may wait for the loss to be noticed, and no longer.
const MOMENT_OF_LOSS: Duration = Duration::from_millis(4500);
/// How long an engine may take to be back in the pool once it answers.
const BACK: Duration = Duration::from_secs(20);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_hung_node_stops_nobody", |lab: &Lab| {
            lost(lab, Host::hang, true)
        }),
        case("a_cut_node_stops_nobody", |lab: &Lab| {
            lost(lab, Host::cut, true)
        }),
        case("a_killed_engine_stops_nobody", |lab: &Lab| {
            lost(lab, Host::kill_engine, false)
        }),
        case("a_node_without_power_stops_nobody", |lab: &Lab| {
            lost(lab, Host::power_off, false)
        }),
        case("a_node_that_stops_in_good_order_comes_back", stopped),
        case(
            "what_is_removed_on_a_lost_node_goes_when_it_is_back",
            removed_while_down,
        ),
        case("a_name_on_a_lost_node_stays_taken", name_while_down),
        case("with_all_nodes_lost_lists_still_answer", all_lost),
        case("a_manager_starts_before_its_engines", engines_late),
        case(
            "changes_behind_our_back_show_within_a_second",
            behind_our_back,
        ),
        case("engines_with_one_hostname_are_told_apart", same_hostname),
        case("a_killed_manager_finds_everything_again", manager_killed),
        case(
            "a_manager_killed_during_creates_loses_none",
            manager_killed_during_creates,
        ),
        case("a_stopped_manager_lets_streams_finish", manager_stopped),
    ]
}

/// One container on each node; returns the name of the one on `host`.
fn one_each(pool: &Pool, host: &Host) -> Result<String> {
    for number in 0..pool.size() {
        pool.ok(&format!(
            "run -d --restart=always --stop-signal=KILL --name=on-{number} busybox sh -c 'echo begun; exec sleep 600'"
        ))?;
    }
    let filter = format!("ps --filter node={} --format {{{{.Names}}}}", host.name());
    let name = pool.ok(&filter)?;
    ensure!(
        name.starts_with("on-") && name.lines().count() == 1,
        "the node has {name:?}"
    );
    Ok(name)
}

/// Runs `docker <line>` and fails if it takes longer than that.
fn quick(pool: &Pool, line: &str, limit: Duration) -> Result<integration::client::Output> {
    let output = pool.run(line)?;
    ensure!(
        output.took < limit,
        "`docker {line}` took {:?}: {output:?}",
        output.took
    );
    Ok(output)
}

fn is_marked(pool: &Pool, name: &str) -> Result<bool> {
    let line = format!("ps -a --filter name={name} --format {{{{.Status}}}}");
    Ok(quick(pool, &line, AT_ONCE)?
        .ok()?
        .starts_with("Host Down (last seen "))
}

fn lost(lab: &Lab, break_it: fn(&Host) -> Result<()>, keeps_running: bool) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    let name = one_each(&pool, host)?;
    // A wait is open once its headers have come, a log is once it has shown something.
    let mut waiting = Wire::open(&pool.manager.tcp())?;
    waiting.request("POST", &format!("/containers/{name}/wait"), &[], b"")?;
    let head = waiting.head()?;
    ensure!(head.status == 200, "{head:?}");
    let following = pool.on_terminal(&format!("logs -f {name}"))?;
    following.expect("begun", SOON)?;
    let begun = Instant::now();
    break_it(host)?;
    let inspected = quick(&pool, &format!("container inspect {name}"), MOMENT_OF_LOSS)?;
    contains(&inspected.refusal()?, "host2")?;
    wait::until_true("the loss to be noticed", NOTICED, || {
        is_marked(&pool, &name)
    })?;
    let noticed = begun.elapsed();
    ensure!(noticed < NOTICED, "it took {noticed:?} to notice");
    let others = quick(&pool, "ps --format {{.Names}}", AT_ONCE)?.ok()?;
    ensure!(
        others.lines().count() == 2 && !others.contains(&name),
        "{others}"
    );
    for line in ["container inspect", "logs", "stop -t 0", "exec -d", "top"] {
        let tail = if line.starts_with("exec") {
            " true"
        } else {
            ""
        };
        let refused = quick(&pool, &format!("{line} {name}{tail}"), AT_ONCE)?.refusal()?;
        contains(&refused, "node host2")?;
    }
    let answer = pool.ask("GET", &format!("/containers/{name}/json"), b"")?;
    ensure!(answer.status == 503, "{answer:?}");
    let answer = pool.ask("GET", "/containers/json?all=1", b"")?;
    let partial = answer
        .header("x-cluster-partial")
        .context("nothing says that a node is missing")?;
    contains(partial, "host2")?;
    let info = quick(&pool, "info", AT_ONCE)?.ok()?;
    contains(&info, "└ Status: Down (")?;
    // Work goes elsewhere at once.
    for turn in 0..4 {
        let begun = Instant::now();
        pool.ok(&format!("run -d --name=new-{turn} busybox sleep 600"))?;
        ensure!(
            begun.elapsed() < Duration::from_secs(5),
            "a run took {:?}",
            begun.elapsed()
        );
        ensure!(pool.node_of(&format!("new-{turn}"))? != host.name());
    }
    let waited = waiting.body(&head).context("a wait on the lost node")?;
    contains(&String::from_utf8_lossy(&waited), "node host2 lost")?;
    following
        .finish(SOON)
        .context("`docker logs -f` on the lost node")?;
    host.recover()?;
    pool.wait_until_ready(3)?;
    let line = format!("ps --filter name={name} --format {{{{.State}}}}");
    pool.comes_to_say(&line, "running", BACK)?;
    pool.says(&format!("exec {name} echo hi"), "hi")?;
    if keeps_running {
        let status = pool.ok(&format!("inspect -f {{{{.RestartCount}}}} {name}"))?;
        ensure!(status == "0", "it was restarted: {status}");
    }
    ensure!(pool.ok("ps -q")?.lines().count() == 7, "not all are listed");
    pool.ok(&format!("rm -f {name}")).map(drop)
}

fn stopped(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    let name = one_each(&pool, host)?;
    host.stop_engine()?;
    wait::until_true("the loss to be noticed", NOTICED, || {
        is_marked(&pool, &name)
    })?;
    host.start_engine()?;
    let line = format!("ps --filter name={name} --format {{{{.State}}}}");
    pool.comes_to_say(&line, "running", BACK)
}

fn removed_while_down(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    let name = one_each(&pool, host)?;
    let id = pool.ok(&format!("inspect -f {{{{.Id}}}} {name}"))?;
    host.cut()?;
    wait::until_true("the loss to be noticed", NOTICED, || {
        is_marked(&pool, &name)
    })?;
    pool.refuses(&format!("rm {name}"), "node host2")?;
    quick(&pool, &format!("rm -f {name}"), AT_ONCE)?.ok()?;
    pool.says(&format!("ps -a --filter name={name} -q"), "")?;
    // The name is free, and the next to have it is another.
    let next = pool.ok(&format!("run -d --name={name} busybox sleep 600"))?;
    ensure!(next != id);
    host.heal()?;
    // Its engine has it for a while yet; nobody else sees that.
    let mut is_shown = false;
    wait::until_true("the removal", BACK, || {
        let listed = pool.ask("GET", "/containers/json?all=1", b"")?.text();
        is_shown |= listed.contains(&id);
        Ok(!host.docker(&["ps", "-aq", "--no-trunc"])?.contains(&id))
    })?;
    ensure!(!is_shown, "it was listed again as its node came back");
    pool.wait_until_ready(3)?;
    pool.says(&format!("ps -a --no-trunc --filter name={name} -q"), &next)
}

fn name_while_down(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let name = one_each(&pool, lab.host(1))?;
    let id = pool.ok(&format!("inspect -f {{{{.Id}}}} {name}"))?;
    lab.host(1).cut()?;
    wait::until_true("the loss to be noticed", NOTICED, || {
        is_marked(&pool, &name)
    })?;
    let refused = quick(&pool, &format!("run --name={name} busybox true"), AT_ONCE)?;
    contains(
        &refused.refusal()?,
        &format!("is already in use by container \"{id}\""),
    )
}

fn all_lost(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let name = one_each(&pool, lab.host(1))?;
    lab.each(Host::cut)?;
    wait::until_true("the loss to be noticed", NOTICED, || {
        Ok(quick(&pool, "ps -q", AT_ONCE)?.ok()?.is_empty())
    })?;
    ensure!(quick(&pool, "ps -aq", AT_ONCE)?.ok()?.lines().count() == 3);
    quick(&pool, "info", AT_ONCE)?.ok()?;
    quick(&pool, "version", AT_ONCE)?.ok()?;
    quick(&pool, "images", AT_ONCE)?.ok()?;
    let refused = quick(&pool, "run busybox true", AT_ONCE)?.refusal()?;
    for host in lab.hosts() {
        contains(&refused, host.name())?;
    }
    quick(&pool, &format!("inspect {name}"), AT_ONCE)?.refusal()?;
    lab.each(Host::heal)?;
    pool.wait_until_ready(3)?;
    pool.ok("run --rm busybox true").map(drop)
}

fn engines_late(lab: &Lab) -> Result<()> {
    lab.host(1).hang()?;
    lab.host(2).kill_engine()?;
    let manager = integration::flotilla::Flotilla::start(&lab.endpoints(), &[])?;
    let docker = manager.docker()?;
    let run = docker.run(&["run", "-d", "--name=early", "busybox", "sleep", "600"])?;
    ensure!(
        run.took < Duration::from_secs(15),
        "the run took {:?}",
        run.took
    );
    run.ok()?;
    let info = docker.run(&["info"])?.ok()?;
    contains(&info, "└ Status: Joining (")?;
    lab.host(1).resume()?;
    lab.host(2).start_engine()?;
    wait::until_true("all nodes to join", BACK, || {
        let info = docker.run(&["info"])?.ok()?;
        Ok(info.matches("└ Status: Ready").count() == 3)
    })
}

fn behind_our_back(lab: &Lab) -> Result<()> {
    const BOUND: Duration = Duration::from_secs(1);
    let pool = Pool::over(lab)?;
    let host = lab.host(2);
    let mut worst = Duration::ZERO;
    let mut step = |arguments: &[&str], filter: &str, wanted: &str| -> Result<()> {
        host.docker(arguments)?;
        let done = Instant::now();
        let filter = filter
            .replace('"', "%22")
            .replace('{', "%7B")
            .replace('}', "%7D");
        let path = format!("/containers/json?all=1&filters={filter}");
        wait::until_true(&format!("{arguments:?} to show"), BOUND, || {
            let list = wire::ask(&pool.manager.tcp(), "GET", &path, b"")?.json()?;
            let state = list[0]["State"].as_str().unwrap_or("none");
            Ok(state == wanted)
        })?;
        worst = worst.max(done.elapsed());
        Ok(())
    };
    let old = r#"{"name":["^/theirs$"]}"#;
    let new = r#"{"name":["^/renamed$"]}"#;
    step(
        &["create", "--name=theirs", "busybox", "sleep", "600"],
        old,
        "created",
    )?;
    step(&["start", "theirs"], old, "running")?;
    step(&["pause", "theirs"], old, "paused")?;
    step(&["unpause", "theirs"], old, "running")?;
    step(&["rename", "theirs", "renamed"], new, "running")?;
    step(&["kill", "renamed"], new, "exited")?;
    step(&["rm", "renamed"], new, "none")?;
    println!("the slowest change showed after {worst:?}");
    Ok(())
}

fn same_hostname(lab: &Lab) -> Result<()> {
    let name = |host: &Host, name: &str| -> Result<()> {
        let status = host.command("hostname")?.arg(name).status()?;
        ensure!(status.success(), "the host keeps its name");
        Ok(())
    };
    name(lab.host(1), "host1")?;
    let outcome = (|| {
        let pool = Pool::over(lab)?;
        let rows = pool.ask("GET", "/info", b"")?.json()?["SystemStatus"].clone();
        let endpoints = lab.endpoints();
        let nodes: Vec<String> = rows
            .as_array()
            .into_iter()
            .flatten()
            .filter(|row| endpoints.iter().any(|endpoint| row[1] == **endpoint))
            .filter_map(|row| Some(row[0].as_str()?.trim().to_owned()))
            .collect();
        let mut distinct = nodes.clone();
        distinct.sort();
        distinct.dedup();
        ensure!(
            nodes.len() == 3 && distinct.len() == 3,
            "the nodes are {nodes:?}"
        );
        for number in 0..3 {
            pool.ok(&format!("run -d --name=on-{number} busybox sleep 600"))?;
        }
        for node in &distinct {
            let there = pool.ok(&format!("ps -q --filter node={node}"))?;
            ensure!(there.lines().count() == 1, "{node} has {there:?}");
        }
        Ok(())
    })();
    name(lab.host(1), "host2")?;
    outcome
}

fn manager_killed(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    for number in 0..3 {
        pool.ok(&format!(
            "run -d --name=run-{number} -l n={number} busybox sleep 600"
        ))?;
    }
    pool.ok("create --name=made busybox true")?;
    pool.ends_with("run --name=over busybox sh -c 'exit 3'", 3)?;
    let format = "ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}} {{.Label \"com.flotilla.node\"}}'";
    let before = pool.ok(format)?;
    pool.manager.kill()?;
    // Life goes on meanwhile.
    let node = before
        .lines()
        .find(|line| line.contains("run-1"))
        .and_then(|line| line.rsplit(' ').next());
    let host = lab
        .hosts()
        .iter()
        .find(|host| Some(host.name()) == node)
        .context("no such host")?;
    host.docker(&["rm", "-f", "run-1"])?;
    host.docker(&["run", "-d", "--name=theirs", "busybox", "sleep", "600"])?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    let after = pool.ok(format)?;
    for line in before.lines().filter(|line| !line.contains("run-1")) {
        contains(&after, line)?;
    }
    ensure!(!after.contains("run-1"), "{after}");
    contains(&after, " theirs running ")?;
    for name in ["run-0", "run-2", "made", "over", "theirs"] {
        pool.refuses(
            &format!("create --name={name} busybox true"),
            "is already in use by container",
        )?;
    }
    pool.ok("create --name=run-1 busybox true")?;
    pool.says("stop -t 0 run-0", "run-0")?;
    pool.ok("start made over run-0")?;
    pool.ok("rm -f run-0 run-1 run-2 made over theirs")?;
    pool.says("ps -aq", "")?;
    pool.ok("create --name=run-0 busybox true").map(drop)
}

fn manager_killed_during_creates(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    let endpoint = pool.manager.tcp();
    let acknowledged = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let endpoint = endpoint.clone();
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for number in 0.. {
                        let path = format!("/containers/create?name=c-{client}-{number}");
                        let body = br#"{"Image":"busybox","Cmd":["true"]}"#;
                        // The manager ends in the middle: then nothing more is promised.
                        let Ok(answer) = wire::ask(&endpoint, "POST", &path, body) else {
                            break;
                        };
                        let id = answer
                            .json()
                            .ok()
                            .and_then(|body| Some(body["Id"].as_str()?.to_owned()));
                        made.extend(id.map(|id| (format!("/c-{client}-{number}"), id)));
                    }
                    made
                })
            })
            .collect();
        let enough = wait::until_true("some containers", SOON, || {
            let list = wire::ask(&endpoint, "GET", "/containers/json?all=1", b"")?.json()?;
            Ok(list.as_array().is_some_and(|list| list.len() >= 12))
        });
        let killed = pool.manager.kill();
        let made = clients
            .into_iter()
            .flat_map(|client| client.join().expect("no panic"));
        let made: Vec<(String, String)> = made.collect();
        enough.and(killed).map(|()| made)
    })?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    let list = pool.ask("GET", "/containers/json?all=1", b"")?.json()?;
    let list = list.as_array().cloned().unwrap_or_default();
    for (name, id) in &acknowledged {
        let found = list.iter().find(|item| item["Id"] == **id);
        let found = found.with_context(|| {
            format!(
                "{name} is lost; {} of {} are there",
                list.len(),
                acknowledged.len()
            )
        })?;
        ensure!(found["Names"][0] == **name, "{found}");
    }
    let mut names: Vec<_> = list
        .iter()
        .map(|item| item["Names"][0].to_string())
        .collect();
    names.sort();
    let all = names.len();
    names.dedup();
    ensure!(names.len() == all, "a name is there twice");
    Ok(())
}

fn manager_stopped(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    pool.ok("run -d --name=it busybox sh -c 'echo begun; sleep 2; echo ended'")?;
    let follower = pool.on_terminal("logs -f it")?;
    follower.expect("begun", SOON)?;
    pool.manager.stop()?;
    let followed = follower.finish(SOON)?;
    ensure!(
        followed.code == 0 && followed.stdout.contains("ended"),
        "the stream was cut off: {followed:?}"
    );
    Ok(())
}
