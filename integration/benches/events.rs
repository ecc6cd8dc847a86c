//! How much later an event arrives through a manager, and how soon its lists show what the event was about.

#![expect(clippy::disallowed_methods, reason = "benches measure real time")]

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use integration::bench::{self, Managed, Stream, Table, quantile, time};
use integration::fake_engine::{Engine, Spec};

/// Between two events: a hundred a second.
const APART: Duration = Duration::from_millis(10);
const EVENTS: usize = 500;
const CHANGES: usize = 300;
/// An event that has not come by then never will.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    for engines in [1, 10, 200] {
        let managed = Managed::start(&Spec::sized(engines, 20))?;
        table.part(
            &format!("{engines} nodes, 100 events a second"),
            ["direct", "manager", ""],
        );
        delay(table, &managed)?;
        shown(table, &managed)?;
    }
    Ok(())
}

/// The same event from its engine and from the manager, read by two threads of this process.
fn delay(table: &mut Table, managed: &Managed) -> Result<()> {
    let engine = &managed.fleet.engines()[0];
    let id = engine.ids().remove(0);
    let (mut direct, mut merged) = (Vec::new(), Vec::new());
    let streams = [
        managed.direct()?.follow("/v1.51/events")?,
        managed.client()?.follow("/v1.51/events")?,
    ];
    scope(|scope| {
        let [from_engine, from_manager] = streams.map(|stream| {
            let (sender, receiver) = sync_channel(EVENTS);
            scope.spawn(move || arrivals(stream, &sender));
            receiver
        });
        // Whoever follows from now on is there.
        sleep(Duration::from_millis(200));
        for number in 0..EVENTS {
            let told = Instant::now();
            engine.tell(&id, "exec_detach", ("bench", &number.to_string()));
            let at = |receiver: &Receiver<(usize, Instant)>| loop {
                let (which, at) = receiver
                    .recv_timeout(PATIENCE)
                    .context("an event did not come")?;
                if which == number {
                    return Ok::<_, anyhow::Error>((at - told).as_secs_f64());
                }
            };
            direct.push(at(&from_engine)?);
            merged.push(at(&from_manager)?);
            sleep(APART.saturating_sub(told.elapsed()));
        }
        // Both readers end with the last event.
        Ok::<_, anyhow::Error>(())
    })?;
    let mut added: Vec<f64> = direct.iter().zip(&merged).map(|(d, m)| m - d).collect();
    let added = quantile(&mut added, 0.5);
    table.at_most(
        "an event arrives later by (median, ms)",
        &time(quantile(&mut direct, 0.5)),
        &time(quantile(&mut merged, 0.5)),
        added * 1e3,
        1.0,
    );
    Ok(())
}

fn arrivals(mut stream: Stream, sender: &std::sync::mpsc::SyncSender<(usize, Instant)>) {
    while let Ok(line) = stream.line() {
        let at = Instant::now();
        let number = std::str::from_utf8(&line)
            .ok()
            .and_then(|line| line.split_once("\"bench\":\"")?.1.split_once('"'))
            .and_then(|(number, _)| number.parse().ok());
        let Some(number) = number else { continue };
        if sender.send((number, at)).is_err() || number + 1 == EVENTS {
            return;
        }
    }
}

/// Changes on other containers go on at a hundred a second; one container is changed and watched.
fn shown(table: &mut Table, managed: &Managed) -> Result<()> {
    let engines = managed.fleet.engines();
    let watched = engines[0].ids().remove(0);
    let done = AtomicBool::new(false);
    let mut delays = scope(|scope| {
        scope.spawn(|| load(engines, &watched, &done));
        let delays = changes(managed, &engines[0], &watched);
        done.store(true, Ordering::Release);
        delays
    })?;
    let median = quantile(&mut delays, 0.5);
    table.at_most(
        "a change is listed after (99 %, ms)",
        "",
        &time(median),
        quantile(&mut delays, 0.99) * 1e3,
        200.0,
    );
    Ok(())
}

fn load(engines: &[std::sync::Arc<Engine>], watched: &str, done: &AtomicBool) {
    let others: Vec<Vec<String>> = engines.iter().map(|engine| engine.ids()).collect();
    let mut round = 0;
    while !done.load(Ordering::Acquire) {
        let (engine, ids) = (
            &engines[round % engines.len()],
            &others[round % engines.len()],
        );
        let id = &ids[round / engines.len() % ids.len()];
        if id != watched {
            engine.set_paused(id, (round / engines.len() / ids.len()).is_multiple_of(2));
        }
        round += 1;
        sleep(APART);
    }
}

fn changes(managed: &Managed, engine: &Engine, id: &str) -> Result<Vec<f64>> {
    let mut client = managed.client()?;
    let path = format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D");
    let mut delays = Vec::with_capacity(CHANGES);
    for round in 0..CHANGES {
        let paused = round % 2 == 0;
        let wanted = if paused {
            "\"State\":\"paused\""
        } else {
            "\"State\":\"running\""
        };
        let begun = Instant::now();
        engine.set_paused(id, paused);
        loop {
            let listed = client.get(&path, 200)?;
            if std::str::from_utf8(listed)?.contains(wanted) {
                break;
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "a change is not listed");
            sleep(Duration::from_micros(200));
        }
        delays.push(begun.elapsed().as_secs_f64());
        sleep(Duration::from_millis(3));
    }
    Ok(delays)
}
