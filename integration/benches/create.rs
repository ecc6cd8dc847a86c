//! How many containers are made and started in a second: through a manager, and by one engine alone.

#![expect(clippy::disallowed_methods, reason = "benches measure real time")]

use std::process::ExitCode;
use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use integration::bench::{self, Client, Managed, Probe, Table, interleaved};
use integration::fake_engine::{Fleet, Spec};

const ROUNDS: usize = 3;
/// Faster than any engine whose containers really run.
const ENGINE_TAKES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(20));
const BODY: &[u8] = br#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{}}"#;

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    for (engines, containers) in [(10, 100), (1000, 100)] {
        let spec = Spec {
            create_and_start: ENGINE_TAKES,
            ..Spec::sized(engines, containers)
        };
        let managed = Managed::start(&spec)?;
        let raw = Fleet::start(&Spec {
            create_and_start: ENGINE_TAKES,
            ..Spec::sized(1, 100)
        })?;
        let direct = raw.endpoints().first().context("no engine")?;
        let through = managed.manager.unix();
        table.part(
            &format!("create and start, {engines} nodes x {containers}"),
            ["raw engine", "manager", "ratio"],
        );
        for (clients, each) in [(1, 40), (16, 20)] {
            let mut asked = 0;
            let mut probes: [Probe<'_>; 2] = [
                Box::new(|| rate(direct, clients, each, || ())),
                Box::new(|| {
                    let before = managed.fleet.requests();
                    rate(&through, clients, each, || {
                        asked += managed.fleet.requests() - before;
                    })
                }),
            ];
            let medians = interleaved(ROUNDS, &mut probes)?;
            drop(probes);
            table.at_least(
                &format!("{clients} clients"),
                &format!("{:.0} /s", medians[0]),
                &format!("{:.0} /s", medians[1]),
                medians[1] / medians[0],
                0.333,
            );
            let made = (ROUNDS + 1) * clients * each;
            // The create, the start, and a re-read after each.
            table.at_most(
                "requests to engines for each",
                "",
                &format!("{made} made"),
                asked as f64 / made as f64,
                4.0,
            );
        }
    }
    Ok(())
}

/// Containers made and started in a second. They are removed after `made`, which does not count.
fn rate(endpoint: &str, clients: usize, each: usize, made: impl FnOnce()) -> Result<f64> {
    let mut connections = (0..clients)
        .map(|_| Client::connect(endpoint))
        .collect::<Result<Vec<_>>>()?;
    let begun = Instant::now();
    let ids = scope(|scope| {
        let threads: Vec<_> = connections
            .iter_mut()
            .map(|client| scope.spawn(move || make(client, each)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let rate = (clients * each) as f64 / begun.elapsed().as_secs_f64();
    made();
    for (client, ids) in connections.iter_mut().zip(ids) {
        for id in ids {
            client.request(
                "DELETE",
                &format!("/v1.51/containers/{id}?force=1"),
                b"",
                204,
            )?;
        }
    }
    Ok(rate)
}

fn make(client: &mut Client, count: usize) -> Result<Vec<String>> {
    (0..count)
        .map(|_| {
            let answer = client.request("POST", "/v1.51/containers/create", BODY, 201)?;
            let answer: serde_json::Value = serde_json::from_slice(answer)?;
            let id = answer["Id"].as_str().context("no id")?.to_owned();
            client.request("POST", &format!("/v1.51/containers/{id}/start"), b"", 204)?;
            Ok(id)
        })
        .collect()
}
