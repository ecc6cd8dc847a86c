//! What the benches share: a table with bounds, medians of interleaved rounds, and managers over fake engines.
//!
//! Machines are noisy and differ, so nothing here judges a time: a row compares two things measured in the same run.
//!
//! **Invariant**: a bench ends by itself, and everything it starts ends with it.

mod client;
mod manager;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

pub use client::{Client, Stream};
pub use manager::{Managed, Usage};

/// Runs a bench under `cargo bench`, and does nothing when tests are run.
#[must_use]
pub fn main(bench: impl FnOnce(&mut Table) -> Result<()>) -> ExitCode {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("run by `cargo bench -p integration`, not as a test");
        return ExitCode::SUCCESS;
    }
    let mut table = Table::default();
    if let Err(error) = bench(&mut table) {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    table.finish()
}

/// The rows measured so far, and whether one of them is over its bound.
#[derive(Debug, Default)]
pub struct Table {
    over: Vec<String>,
}

impl Table {
    /// Begins a part with its column heads.
    pub fn part(&mut self, title: &str, columns: [&str; 3]) {
        println!(
            "\n{title:<44} {:>14} {:>14} {:>10}",
            columns[0], columns[1], columns[2]
        );
    }

    /// A row without a bound.
    pub fn row(&mut self, what: &str, one: &str, other: &str, result: &str) {
        println!("{what:<44} {one:>14} {other:>14} {result:>10}");
    }

    /// A row whose value must not be over the bound.
    pub fn at_most(&mut self, what: &str, one: &str, other: &str, value: f64, bound: f64) {
        self.judged(what, [one, other], value, bound, value <= bound, "<=");
    }

    /// A row whose value must not be under the bound.
    pub fn at_least(&mut self, what: &str, one: &str, other: &str, value: f64, bound: f64) {
        self.judged(what, [one, other], value, bound, value >= bound, ">=");
    }

    fn judged(
        &mut self,
        what: &str,
        shown: [&str; 2],
        value: f64,
        bound: f64,
        holds: bool,
        sign: &str,
    ) {
        let verdict = if holds { "" } else { "  <-- NOT HELD" };
        println!(
            "{what:<44} {:>14} {:>14} {value:>10.3}  {sign} {bound}{verdict}",
            shown[0], shown[1]
        );
        if !holds {
            self.over
                .push(format!("{what}: {value:.3}, wanted {sign} {bound}"));
        }
    }

    fn finish(self) -> ExitCode {
        if self.over.is_empty() {
            return ExitCode::SUCCESS;
        }
        eprintln!("\nnot held:");
        for line in self.over {
            eprintln!("  {line}");
        }
        ExitCode::FAILURE
    }
}

/// One thing that is measured; it returns what it measured.
pub type Probe<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Measures all probes in turn, `rounds` times over, and returns the median of each. One round before these warms up.
pub fn interleaved(rounds: usize, probes: &mut [Probe<'_>]) -> Result<Vec<f64>> {
    let mut measured = vec![Vec::with_capacity(rounds); probes.len()];
    for round in 0..=rounds {
        for (probe, values) in probes.iter_mut().zip(&mut measured) {
            let value = probe()?;
            if round > 0 {
                values.push(value);
            }
        }
    }
    Ok(measured
        .iter_mut()
        .map(|values| quantile(values, 0.5))
        .collect())
}

/// The value that the share `at` of all values does not exceed; sorts them.
pub fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values
        .get((last as f64 * at).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

/// Seconds that one of `count` repetitions takes.
pub fn seconds_each(count: usize, mut repetition: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    for index in 0..count {
        repetition(index)?;
    }
    Ok(begun.elapsed().as_secs_f64() / count.max(1) as f64)
}

/// `12.3 µs`, `4.56 ms`, `1.23 s`.
#[must_use]
pub fn time(seconds: f64) -> String {
    match seconds {
        ..1e-6 => format!("{:.0} ns", seconds * 1e9),
        1e-6..1e-3 => format!("{:.1} µs", seconds * 1e6),
        1e-3..1.0 => format!("{:.2} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{interleaved, quantile, time};

    #[test]
    fn a_quantile_is_one_of_the_values() {
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.99), 3.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }

    #[test]
    fn the_first_round_does_not_count() {
        let mut values = [9.0, 1.0, 1.0].into_iter();
        let medians = interleaved(2, &mut [Box::new(|| Ok(values.next().unwrap_or(9.0)))]);
        assert_eq!(medians.expect("no error"), [1.0]);
    }

    #[test]
    fn times_read_well() {
        assert_eq!(time(1.5e-5), "15.0 µs");
        assert_eq!(time(2.0), "2.00 s");
    }
}
