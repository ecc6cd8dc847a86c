//! A node dies in the middle of things: each operation ends with its stated result, soon, and nothing is lost or doubled.
//!
//! The node is cut off, and before anybody has noticed, everything that can be asked of what is on it is asked at once.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration::harness::{Case, case};
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::wait;

use crate::SOON;

/// A question to a node that is being lost waits for the verdict (3 s), on a busy machine.
const VERDICT: Duration = Duration::from_secs(10);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(
            "what_meets_a_node_as_it_is_cut_off_ends_as_stated",
            |lab: &Lab| all_at_once(lab, Host::cut),
        ),
        case(
            "what_meets_a_node_as_it_hangs_ends_as_stated",
            |lab: &Lab| all_at_once(lab, Host::hang),
        ),
    ]
}

/// How a command ends.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// It succeeds.
    Well,
    /// It fails and names the node.
    Blaming,
}

use Ends::{Blaming, Well};

/// `docker <line>` and how it ends when the node of `HERE` is lost. `X` is a container there for this line alone.
const OPERATIONS: &[(&str, Ends)] = &[
    ("run -d --name=anywhere busybox sleep 600", Well),
    (
        "run -d --name=there -e constraint:node==HERE busybox sleep 600",
        Blaming,
    ),
    (
        "run -d --name=beside --network=container:X busybox sleep 600",
        Blaming,
    ),
    (
        "run -d --name=netted --network=net busybox sleep 600",
        Blaming,
    ),
    (
        "run -d --name=stored -v data:/data busybox sleep 600",
        Blaming,
    ),
    ("stop -t 0 X", Blaming),
    ("restart -t 0 X", Blaming),
    ("kill X", Blaming),
    ("pause X", Blaming),
    ("rename X other", Blaming),
    ("update --memory=64m --memory-swap=-1 X", Blaming),
    ("exec X true", Blaming),
    ("top X", Blaming),
    ("diff X", Blaming),
    ("commit X committed", Blaming),
    ("cp X:/etc/passwd -", Blaming),
    ("logs X", Blaming),
    ("container inspect X", Blaming),
    ("rm X", Blaming),
    ("rm -f X", Well),
    ("network create fresh", Well),
    ("network connect free X", Blaming),
    ("network disconnect net in-net", Blaming),
    ("volume create fresh", Well),
    ("volume rm bound", Blaming),
    ("volume rm -f loose", Well),
    ("ps -a", Well),
    ("images", Well),
    ("network ls", Well),
    ("volume ls", Well),
    ("info", Well),
    ("events --since 1h --until 0s", Well),
];

fn all_at_once(lab: &Lab, lose: fn(&Host) -> Result<()>) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    let here = host.name();
    let there = |arguments: &str| {
        pool.ok(&format!(
            "run -d --stop-signal=KILL -e constraint:node=={here} {arguments}"
        ))
    };
    for name in ["net", "free"] {
        pool.ok(&format!("network create {name}"))?;
    }
    there("--name=in-net --network=net busybox sleep 600")?;
    there("--name=with-data -v data:/data busybox sleep 600")?;
    for name in ["bound", "loose"] {
        pool.ok(&format!("volume create {here}/{name}"))?;
    }
    let mut lines = Vec::new();
    for (number, (line, ends)) in OPERATIONS.iter().enumerate() {
        let own = format!("own-{number}");
        if line.split([' ', ':']).any(|word| word == "X") {
            there(&format!("--name={own} busybox sleep 600"))?;
        }
        lines.push((line.replace("HERE", here).replace('X', &own), *ends));
    }
    lose(host)?;
    std::thread::scope(|scope| {
        let runs: Vec<_> = lines
            .iter()
            .map(|(line, ends)| scope.spawn(|| ends_so(&pool, line, *ends, here)))
            .collect();
        let wrong: Vec<String> = runs
            .into_iter()
            .filter_map(|run| run.join().expect("no panic").err())
            .map(|error| format!("{error:#}"))
            .collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })?;
    host.recover()?;
    pool.wait_until_ready(3)?;
    settled(lab, &pool)
}

fn ends_so(pool: &Pool, line: &str, ends: Ends, node: &str) -> Result<()> {
    let output = pool.run(line)?;
    let took = output.took;
    ensure!(took < VERDICT, "`docker {line}` took {took:?}: {output:?}");
    match ends {
        Well => output.ok().map(drop),
        Blaming => {
            let said = output.refusal()?;
            ensure!(said.contains(node), "`docker {line}` said {said:?}");
            Ok(())
        }
    }
}

/// The pool shows what the engines have, no more and no less, and what had to go has gone.
fn settled(lab: &Lab, pool: &Pool) -> Result<()> {
    for (what, list) in [
        ("containers", "ps -a --format {{.Names}}"),
        ("volumes", "volume ls -q"),
    ] {
        wait::until_true(
            &format!("the {what} to be those of the engines"),
            SOON,
            || {
                let words: Vec<&str> = list.split(' ').collect();
                let mut there = BTreeSet::new();
                for host in lab.hosts() {
                    for name in host.docker(&words)?.lines() {
                        ensure!(there.insert(name.to_owned()), "two of {name}");
                    }
                }
                let mut shown = lines(&pool.ok(list)?);
                // A record that no engine has yet.
                shown.remove("fresh");
                Ok(shown == there)
            },
        )?;
    }
    let names = lines(&pool.ok("ps -a --format {{.Names}}")?);
    for gone in ["there", "beside", "netted", "stored"] {
        ensure!(!names.contains(gone), "{gone} was refused, and is there");
    }
    ensure!(names.contains("anywhere"), "{names:?}");
    let removed = OPERATIONS.iter().position(|(line, _)| *line == "rm -f X");
    let removed = removed.context("no forced removal")?;
    ensure!(!names.contains(&format!("own-{removed}")), "{names:?}");
    let volumes = lines(&pool.ok("volume ls -q")?);
    // Of what was refused with "not reachable", the engine may yet have got wind: `bound` is there or not.
    ensure!(
        volumes.contains("data") && !volumes.contains("loose"),
        "{volumes:?}"
    );
    // The names of what was refused are free.
    for name in ["there", "beside", "netted", "stored"] {
        pool.ok(&format!("run -d --name={name} busybox sleep 600"))?;
    }
    Ok(())
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(str::to_owned).collect()
}
