//! What a stream costs on its way through a manager: next to no time, and little of its processor.

#![expect(clippy::disallowed_methods, reason = "benches measure real time")]

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use integration::bench::{self, Client, Managed, Probe, Table, interleaved, time};
use integration::fake_engine::{Pace, Spec, Transport};

const ROUNDS: usize = 5;
/// As fast as the fastest sources: a container that logs, a disk that is archived.
const PACE: Pace = Pace {
    bytes: 512 << 20,
    bytes_per_second: 200_000_000,
};
/// Sources wait for no less.
const TIMER: Duration = Duration::from_millis(1);
/// What a client writes at a time.
const PIECE: &[u8] = &[b'x'; 32 << 10];

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    for transport in [Transport::Unix, Transport::Tcp] {
        let managed = Managed::start(&Spec {
            transport,
            stream: PACE,
            ..Spec::sized(1, 1)
        })?;
        let through = match transport {
            Transport::Unix => managed.manager.unix(),
            Transport::Tcp => managed.manager.tcp(),
        };
        let direct = managed.fleet.endpoints()[0].clone();
        for (what, stream) in [
            ("logs, a chunked reply", logs as Stream),
            ("attach, an upgraded connection", attach),
            ("archive, a chunked upload", upload),
        ] {
            one(
                table,
                &managed,
                &format!("{transport:?}: {what}"),
                [&direct, &through],
                stream,
            )?;
        }
    }
    Ok(())
}

type Stream = fn(&str, &str) -> Result<()>;

fn one(
    table: &mut Table,
    managed: &Managed,
    what: &str,
    [direct, through]: [&str; 2],
    stream: Stream,
) -> Result<()> {
    let id = managed.fleet.engines()[0].ids().remove(0);
    let run = |endpoint: &str| {
        let begun = Instant::now();
        stream(endpoint, &id)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let before = managed.usage()?.cpu_seconds;
    let mut probes: [Probe<'_>; 2] = [Box::new(|| run(direct)), Box::new(|| run(through))];
    let medians = interleaved(ROUNDS, &mut probes)?;
    drop(probes);
    let cpu = managed.usage()?.cpu_seconds - before;
    let megabytes = (ROUNDS + 1) as f64 * PACE.bytes as f64 / 1e6;
    table.part(what, ["direct", "manager", "ratio"]);
    table.at_most(
        "time",
        &time(medians[0]),
        &time(medians[1]),
        medians[1] / medians[0],
        1.05,
    );
    table.at_most(
        "the manager's processor, ms a MB",
        "",
        &time(cpu),
        cpu * 1e3 / megabytes,
        1.1,
    );
    Ok(())
}

fn logs(endpoint: &str, id: &str) -> Result<()> {
    let path = format!("/v1.51/containers/{id}/logs?stdout=1&follow=1");
    let count = Client::connect(endpoint)?.drain(&path)?;
    ensure!(count == PACE.bytes, "{count} bytes came");
    Ok(())
}

fn attach(endpoint: &str, id: &str) -> Result<()> {
    let path = format!("/v1.51/containers/{id}/attach?stream=1&stdout=1");
    let count = Client::connect(endpoint)?.take_over(&path)?;
    ensure!(count == PACE.bytes, "{count} bytes came");
    Ok(())
}

fn upload(endpoint: &str, id: &str) -> Result<()> {
    let begun = Instant::now();
    let mut sent = 0;
    let path = format!("/v1.51/containers/{id}/archive?path=/");
    Client::connect(endpoint)?.upload(&path, || {
        if sent >= PACE.bytes {
            return None;
        }
        let due = Duration::from_secs_f64(sent as f64 / PACE.bytes_per_second as f64);
        sent += PIECE.len() as u64;
        let early = due.saturating_sub(begun.elapsed());
        // As the engines' timers do: a source is not even to the microsecond.
        if early >= TIMER {
            sleep(early);
        }
        Some(PIECE)
    })
}
