//! How long a manager's own decision takes, with all that it looks at for it, and how that grows with the pool.
//!
//! `POST /flotilla/v1/plan` decides as a create does, and commits nothing; `GET /_ping` on the same connection shows what the
//! way there and back costs.

#![expect(clippy::disallowed_methods, reason = "benches measure real time")]

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use integration::bench::{self, Client, Managed, Probe, Table, interleaved};
use integration::fake_engine::Spec;

const ROUNDS: usize = 5;
const EACH: usize = 50;
const CREATE: &[u8] = br#"{"Create":{"Image":"busybox","HostConfig":{"Memory":1048576}}}"#;

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    table.part("one decision (ms)", ["ping", "plan", "more"]);
    for nodes in [10, 1000] {
        let managed = Managed::start(&Spec::sized(nodes, 10))?;
        let (mut idle, mut deciding) = (managed.client()?, managed.client()?);
        let mut probes: [Probe<'_>; 2] = [
            Box::new(|| took(|| idle.get("/_ping", 200).map(drop))),
            Box::new(|| took(|| plan(&mut deciding))),
        ];
        let medians = interleaved(ROUNDS, &mut probes)?;
        drop(probes);
        let more = medians[1] - medians[0];
        table.at_most(
            &format!("{nodes} nodes"),
            &format!("{:.3}", medians[0]),
            &format!("{:.3}", medians[1]),
            more,
            1.0,
        );
    }
    Ok(())
}

fn plan(client: &mut Client) -> Result<()> {
    client
        .request("POST", "/flotilla/v1/plan", CREATE, 200)
        .map(drop)
}

/// Milliseconds for one of them.
fn took(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    for _ in 0..EACH {
        work()?;
    }
    Ok(began.elapsed().as_secs_f64() * 1000.0 / EACH as f64)
}
