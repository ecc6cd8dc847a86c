//! Seeds of the simulated world. `SEEDS=n` runs so many, `SEED=k` runs one and prints all that happened in it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla::sim;

/// Runs `world` in one thread, by a clock that jumps to whatever comes next.
fn simulate<T>(world: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(world)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn nothing_is_lost_doubled_or_stuck_whatever_fails() {
    if let Some(seed) = number("SEED") {
        let report = simulate(sim::run(seed));
        println!("{}", report.trace);
        assert!(report.broken.is_empty(), "{:#?}", report.broken);
        return;
    }
    let seeds = number("SEEDS").unwrap_or(200);
    let first = number("FIRST").unwrap_or(0);
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let (crashes, refusals) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = first + next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            let report = simulate(sim::run(seed));
            crashes.fetch_add(report.crashes, Ordering::Relaxed);
            refusals.fetch_add(u64::from(report.refused.is_some()), Ordering::Relaxed);
            if !report.broken.is_empty() {
                let replay =
                    format!("replay: SEED={seed} cargo test -p flotilla --test simulation");
                failed
                    .lock()
                    .expect("not poisoned")
                    .push(format!("{replay}\n    {}", report.broken.join("\n    ")));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    println!("{seeds} seeds, {crashes:?} crashes, {refusals:?} logs refused");
    let failed = failed.into_inner().expect("not poisoned");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_says_all() {
    for seed in 0..5 {
        let (first, second) = (simulate(sim::run(seed)), simulate(sim::run(seed)));
        let differs = first
            .trace
            .lines()
            .zip(second.trace.lines())
            .find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.steps, second.steps);
    }
}
