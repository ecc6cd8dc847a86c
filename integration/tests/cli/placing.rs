//! Where containers go, and what is said when they go nowhere.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

use crate::contains;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("nine_containers_spread_over_three_nodes", spread),
        case("nine_containers_at_once_spread_too", spread_at_once),
        case("a_name_in_use_names_its_holder", conflict),
        case("only_one_of_many_gets_a_name", race),
        case("a_refusal_names_every_node", refusal),
        case("a_published_port_moves_the_next_container", ports),
        case("resources_are_counted", resources),
        case(
            "what_an_engine_refuses_it_refuses_in_its_words",
            engines_words,
        ),
    ]
}

fn counts(pool: &Pool) -> Result<BTreeMap<String, usize>> {
    let nodes = pool.ok("ps --format '{{.Label \"com.flotilla.node\"}}'")?;
    let mut counts = BTreeMap::new();
    for node in nodes.lines() {
        *counts.entry(node.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn even(pool: &Pool, each: usize) -> Result<()> {
    let counts = counts(pool)?;
    ensure!(
        counts.len() == pool.size() && counts.values().all(|&count| count == each),
        "the spread is {counts:?}"
    );
    Ok(())
}

fn spread(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for _ in 0..9 {
        pool.ok("run -d busybox sleep 600")?;
    }
    even(&pool, 3)
}

fn spread_at_once(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..9)
            .map(|_| scope.spawn(|| pool.ok("run -d busybox sleep 600")))
            .collect();
        let mut ended = runs.into_iter().map(|run| run.join().expect("no panic"));
        ended.try_for_each(|run| run.map(drop))
    })?;
    even(&pool, 3)
}

fn conflict(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let holder = pool.ok("run -d --name=web busybox sleep 600")?;
    for _ in 0..4 {
        let refusal = pool.refusal("run -d --name=web busybox sleep 600")?;
        contains(
            &refusal,
            &format!(
                "Conflict. The container name \"/web\" is already in use by container \"{holder}\". You have to remove (or rename) that container to be able to reuse that name."
            ),
        )?;
    }
    pool.ok("rm -f web")?;
    pool.ok("run -d --name=web busybox sleep 600").map(drop)
}

fn race(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let body = br#"{"Image":"busybox","Cmd":["true"]}"#;
    let answers = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..12)
            .map(|_| scope.spawn(|| pool.ask("POST", "/containers/create?name=only", body)))
            .collect();
        let ended = asked.into_iter().map(|ask| ask.join().expect("no panic"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let made: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .collect();
    ensure!(made.len() == 1, "{} were made", made.len());
    let id = made[0].json()?["Id"].clone();
    let id = id.as_str().unwrap_or_default();
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        ensure!(answer.status == 409, "{answer:?}");
        contains(&answer.message()?, &format!("in use by container \"{id}\""))?;
    }
    pool.says("ps -aq --no-trunc", id)?;
    let there = lab.hosts().iter().map(|host| host.docker(&["ps", "-aq"]));
    let there: Vec<String> = there.collect::<Result<_>>()?;
    ensure!(there.concat().len() == 12, "the engines have {there:?}");
    Ok(())
}

fn refusal(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let refusal = pool.refusal("run --memory 999g busybox true")?;
    contains(
        &refusal,
        "no node fits: host1, host2, host3 lack memory (need 999GiB;",
    )?;
    let answer = pool.ask(
        "POST",
        "/containers/create",
        br#"{"Image":"busybox","HostConfig":{"NanoCpus":999000000000}}"#,
    )?;
    ensure!(answer.status == 409, "{answer:?}");
    for host in lab.hosts() {
        contains(&answer.message()?, host.name())?;
    }
    // Whatever the request was, nothing is left of it.
    pool.says("ps -aq", "")
}

fn ports(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for name in ["a1", "a2", "a3"] {
        pool.ok(&format!(
            "run -d --name={name} -p 8080:80 busybox sleep 600"
        ))?;
    }
    even(&pool, 1)?;
    // As on one engine: it is made, and its start is refused while the port is taken.
    let refusal = pool.refusal("run -d --name=a4 -p 8080:80 busybox sleep 600")?;
    contains(&refusal, "port is already allocated (on node host")?;
    contains(&refusal, "port 8080/tcp is taken by container a")?;
    contains(
        &pool.flotilla("explain a4")?.ok()?,
        "has to wait for them: host1, host2, host3 have port 8080/tcp taken (by a1, a2, a3)",
    )?;
    pool.says("ps -a --filter name=a4 --format {{.Status}}", "Created")?;
    pool.ok("rm a4")?;
    pool.ok("run -d -p 8080:80/udp busybox sleep 600")?;
    let node = pool.node_of("a2")?;
    pool.ok("rm -f a2")?;
    pool.ok("run -d --name=a4 -p 8080:80 busybox sleep 600")?;
    ensure!(pool.node_of("a4")? == node, "it is on another node");
    Ok(())
}

fn resources(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let memory = pool.ask("GET", "/info", b"")?.json()?["MemTotal"].as_u64();
    let most = memory.unwrap_or_default() / 3 / 10 * 7;
    for name in ["a1", "a2", "a3"] {
        pool.ok(&format!("run -d --name={name} -m {most} busybox sleep 600"))?;
    }
    even(&pool, 1)?;
    let line = format!("run -d --name=a4 -m {most} busybox sleep 600");
    pool.refuses(&line, "host1, host2, host3 lack memory")?;
    // What has ended claims nothing.
    pool.ok("stop -t 0 a3")?;
    let node = pool.node_of("a3")?;
    pool.ok(&line)?;
    ensure!(pool.node_of("a4")? == node, "it is on another node");
    let refusal = pool.refusal("start a3")?;
    contains(&refusal, &node)?;
    pool.ok("rm -f a4")?;
    pool.ok("start a3").map(drop)
}

fn engines_words(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for line in [
        "run --memory=1 busybox true",
        "run --name=! busybox true",
        "run --network=nosuch busybox true",
        "run --rm --restart=always busybox true",
        "run --pull=never nosuch true",
        "run -v x:relative busybox true",
        "run --cap-add=NOSUCH busybox true",
        "run --device=/dev/nosuch busybox true",
    ] {
        let ours = pool.run(line)?;
        let words: Vec<&str> = line.split(' ').collect();
        let theirs = lab.host(0).client().run(&words)?;
        ensure!(
            ours.code == theirs.code,
            "docker {line}: {ours:?}; an engine: {theirs:?}"
        );
        let known = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        ensure!(
            known(&ours.stderr) == known(&theirs.stderr),
            "docker {line}: {:?}; an engine: {:?}",
            ours.stderr,
            theirs.stderr
        );
    }
    Ok(())
}
