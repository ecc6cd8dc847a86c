//! What it costs that a project of ten containers is brought up on a pool: hardly more than on one engine.

#![expect(clippy::disallowed_methods, reason = "benches measure real time")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use integration::bench::{self, Probe, Table, interleaved, time};
use integration::client::Docker;
use integration::lab::{self, Lab, Spec};
use integration::pool::Pool;

const ROUNDS: usize = 7;
const CONTAINERS: usize = 10;

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    if let Some(reason) = lab::unavailable() {
        println!("not measured: {reason}");
        return Ok(());
    }
    let lab = Lab::start(&Spec::hosts(3))?;
    let pool = Pool::over(&lab)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("compose.yaml");
    std::fs::write(&file, project())?;
    let file = file.display().to_string();
    let up = |docker: &Docker| {
        let compose = |words: &[&str]| {
            let line = [&["compose", "-p", "ten", "-f", &*file], words].concat();
            docker.run(&line)?.ok()
        };
        let begun = Instant::now();
        compose(&["up", "-d"])?;
        let taken = begun.elapsed().as_secs_f64();
        let running = compose(&["ps", "-q"])?;
        ensure!(running.lines().count() == CONTAINERS, "{running}");
        compose(&["down", "-v", "-t", "0"])?;
        Ok(taken)
    };
    let engine = || up(lab.host(0).client());
    let pooled = || up(pool.docker());
    let mut probes: [Probe<'_>; 2] = [Box::new(engine), Box::new(pooled)];
    let medians = interleaved(ROUNDS, &mut probes)?;
    drop(probes);
    table.part(
        "`docker compose up -d` of ten containers",
        ["one engine", "pool of three", "ratio"],
    );
    table.at_most(
        "time",
        &time(medians[0]),
        &time(medians[1]),
        medians[1] / medians[0],
        1.2,
    );
    lab.end()
}

/// Services that share a network and two volumes; the first is depended on.
fn project() -> String {
    let mut file = String::from("volumes: { data: {}, cache: {} }\nservices:\n");
    for number in 0..CONTAINERS {
        file += &format!(
            "  s{number}:\n    image: busybox\n    command: sleep 600\n    stop_signal: SIGKILL\n    \
             volumes: [ 'data:/data', 'cache:/cache' ]\n"
        );
        if number > 0 {
            file += "    depends_on: [ s0 ]\n";
        }
    }
    file
}
