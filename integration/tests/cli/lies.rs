//! Engines whose answers make no sense: nobody waits for ever, nothing breaks, and once they do make sense all is as it is on
//! the engines.
//!
//! `SEEDS` is how many pools are lied to, one after the other, `FIRST` the seed of the first.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use integration::client::Docker;
use integration::harness::{self, Case, case};
use integration::lab::Lab;
use integration::liar::Liar;
use integration::pool::Pool;
use integration::wait;

use crate::SOON;

/// No answer that needs no waiting takes longer, whatever an engine says; a create may be tried on each of the nodes.
const PATIENCE: Duration = Duration::from_secs(25);

const COMMANDS: &[&str] = &[
    "run -d --name=one busybox sleep 60",
    "run --name=two -p 80 busybox true",
    "ps -a --no-trunc",
    "inspect one",
    "info",
    "images",
    "image inspect busybox",
    "volume create data",
    "volume ls",
    "network create net",
    "network inspect net",
    "run -d --network=net -v data:/data --name=three busybox sleep 60",
    "network connect net one",
    "top one",
    "exec three hostname",
    "rename one other",
    "update --memory=100m three",
    "tag busybox tagged:1",
    "history busybox",
    "system df -v",
    "port two",
    "commit three made",
    "rmi tagged:1",
    "restart -t 0 three",
    "rm -f two",
];

pub(crate) fn cases() -> Vec<Case> {
    vec![case("engines_that_lie_break_nothing", |lab: &Lab| {
        let first = harness::number("FIRST", 1)?;
        let seeds = harness::number("SEEDS", 1)?;
        for seed in first..first + seeds {
            lied_to(lab, seed).with_context(|| format!("FIRST={seed} SEEDS=1"))?;
            lab.recover()?;
        }
        Ok(())
    })]
}

fn lied_to(lab: &Lab, seed: u64) -> Result<()> {
    let engines = lab.endpoints();
    let liars = engines
        .iter()
        .zip(seed * 10..)
        .map(|(engine, seed)| Liar::before(engine, seed))
        .collect::<Result<Vec<_>>>()?;
    let endpoints: Vec<String> = liars.iter().map(Liar::endpoint).collect();
    let pool = Pool::begun(&endpoints, &[])?;
    for line in COMMANDS {
        // Refused or not: either may be right.
        let begun = Instant::now();
        pool.run(line)?;
        let took = begun.elapsed();
        ensure!(took < PATIENCE, "`docker {line}` took {took:?}");
    }
    for liar in &liars {
        liar.be_honest();
    }
    pool.wait_until_ready(engines.len())?;
    let hosts = engines
        .iter()
        .map(|engine| Docker::new(engine))
        .collect::<Result<Vec<_>>>()?;
    wait::until_true("the lists to be those of the engines", SOON, || {
        let mut there = BTreeSet::new();
        for host in &hosts {
            there.extend(listed(&host.run(&["ps", "-aq", "--no-trunc"])?.ok()?));
        }
        Ok(listed(&pool.ok("ps -aq --no-trunc")?) == there)
    })?;
    let all = listed(&pool.ok("ps -aq")?);
    if !all.is_empty() {
        pool.ok(&format!("rm -f {}", Vec::from_iter(all).join(" ")))?;
    }
    // A volume that was hidden by a lie may be there twice now, and is refused then.
    for name in ["one", "two", "three", "other"] {
        pool.says(&format!("run --rm --name={name} busybox echo fine"), "fine")?;
    }
    let log = pool.manager.log();
    let panicked = log.lines().find(|line| line.contains("panicked"));
    ensure!(panicked.is_none(), "{panicked:?}");
    Ok(())
}

fn listed(ids: &str) -> BTreeSet<String> {
    ids.split_whitespace().map(str::to_owned).collect()
}
