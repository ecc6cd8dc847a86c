//! What it costs that a container is made where its image is not: no more than to copy the image by hand.

#![expect(clippy::disallowed_methods, reason = "benches measure real time")]

use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::bench::{self, Probe, Table, interleaved, time};
use integration::lab::{self, Host, Lab, Spec};
use integration::pool::Pool;
use integration::{images, wait};

const ROUNDS: usize = 5;
const BYTES: usize = 100 << 20;
const NAME: &str = "large:1";
const SOON: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    if let Some(reason) = lab::unavailable() {
        println!("not measured: {reason}");
        return Ok(());
    }
    let lab = Lab::start(&Spec::hosts(2))?;
    let (source, target) = (lab.host(0), lab.host(1));
    let pool = Pool::over(&lab)?;
    images::make(source, NAME, BYTES)?;
    seen_on(&pool, source, true)?;
    let hand = || {
        let begun = Instant::now();
        by_hand(source, target)?;
        let taken = begun.elapsed().as_secs_f64();
        target.docker(&["rmi", NAME])?;
        seen_on(&pool, target, false)?;
        Ok(taken)
    };
    let line = format!(
        "create --name=it -e constraint:node=={} {NAME} true",
        target.name()
    );
    let pooled = || {
        seen_on(&pool, target, false)?;
        let begun = Instant::now();
        pool.ok(&line)?;
        let taken = begun.elapsed().as_secs_f64();
        pool.ok("rm it")?;
        target.docker(&["rmi", NAME])?;
        seen_on(&pool, target, false)?;
        Ok(taken)
    };
    let mut probes: [Probe<'_>; 2] = [Box::new(hand), Box::new(pooled)];
    let medians = interleaved(ROUNDS, &mut probes)?;
    drop(probes);
    table.part(
        "an image of 100 MiB for one node",
        ["by hand", "create", "ratio"],
    );
    table.at_most(
        "time",
        &time(medians[0]),
        &time(medians[1]),
        medians[1] / medians[0],
        1.3,
    );
    lab.end()
}

/// `docker save | docker load`
fn by_hand(source: &Host, target: &Host) -> Result<()> {
    let mut save = source.client().command()?;
    let mut save = save.args(["save", NAME]).stdout(Stdio::piped()).spawn()?;
    let archive = save.stdout.take().context("no archive")?;
    let mut load = target.client().command()?;
    let loaded = load
        .arg("load")
        .stdin(archive)
        .stdout(Stdio::null())
        .status()?;
    ensure!(
        save.wait()?.success() && loaded.success(),
        "it cannot be copied"
    );
    Ok(())
}

/// Waits until the pool has noticed that a node has the image, or has it no more.
fn seen_on(pool: &Pool, host: &Host, there: bool) -> Result<()> {
    let line = format!("images -q --filter node={} {NAME}", host.name());
    wait::until_true("the pool to notice", SOON, || {
        Ok(pool.ok(&line)?.is_empty() != there)
    })
}
