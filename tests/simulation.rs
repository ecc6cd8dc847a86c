//! Seeds of the simulated world, and scenarios. `SEEDS=n` runs so many seeds, from `FIRST=k` on; `SEED=k` runs one and
//! prints all that happened in it. `UPDATE=1` rewrites what is expected of the scenarios.

use std::path::PathBuf;
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

/// Holds `text` against what `file` expects, or writes it there. Says what is wrong.
fn expect(file: &PathBuf, text: &str) -> Option<String> {
    let name = file.display();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, text).expect("the scenario is written");
    } else if std::fs::read_to_string(file).unwrap_or_default() != text {
        return Some(format!(
            "{name} expects another course. UPDATE=1 rewrites it; this is what happens:\n{text}"
        ));
    }
    let wrong = text.contains("WRONG");
    wrong.then(|| format!("{name} ends badly:\n{text}"))
}

fn scenarios() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

#[test]
fn scenarios_take_the_course_they_took() {
    let mut files: Vec<_> = std::fs::read_dir(scenarios())
        .expect("scenarios")
        .map(|file| file.expect("a file").path())
        .filter(|file| file.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() > 5);
    let wrong = files.iter().filter_map(|file| {
        let script = std::fs::read_to_string(file).expect("a script");
        match simulate(sim::play(&script)) {
            Ok(played) => expect(file, &played),
            Err(why) => Some(format!("{}: {why}", file.display())),
        }
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_create_is_cut_short_at_each_of_its_steps() {
    for (crash, file) in [
        (sim::Crash::Kill, "create_killed.steps"),
        (sim::Crash::PowerLoss, "create_without_power.steps"),
    ] {
        let text = simulate(sim::create_cut_short(crash));
        assert_eq!(expect(&scenarios().join(file), &text), None);
    }
}
