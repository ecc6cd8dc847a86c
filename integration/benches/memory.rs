//! What a manager keeps in memory for each container and each engine it watches.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use integration::bench::{self, Managed, Table, Usage};
use integration::fake_engine::Spec;

/// Connections that were needed to get there are closed by then.
const SETTLE: Duration = Duration::from_secs(25);
const MEGA: f64 = 1e6;

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    table.part("memory of a manager", ["1,000", "100,000", "a container"]);
    let few = usage(&Spec::sized(10, 100))?;
    let many = usage(&Spec::sized(10, 10_000))?;
    table.at_most(
        "10 nodes, plain containers (kB)",
        &mega(few.resident_bytes),
        &mega(many.resident_bytes),
        each(few, many),
        1.8,
    );
    let labelled = |containers| Spec {
        labelled: true,
        ..Spec::sized(10, containers)
    };
    let (few_labelled, many_labelled) = (usage(&labelled(100))?, usage(&labelled(10_000))?);
    table.row(
        "10 nodes, with two labels (kB)",
        &mega(few_labelled.resident_bytes),
        &mega(many_labelled.resident_bytes),
        &format!("{:.3}", each(few_labelled, many_labelled)),
    );
    let wide = usage(&Spec::sized(1000, 100))?;
    table.part(
        "1,000 nodes of 100 plain containers",
        ["10 nodes", "1,000 nodes", ""],
    );
    table.at_most(
        "resident (MB)",
        &mega(few.resident_bytes),
        &mega(wide.resident_bytes),
        wide.resident_bytes as f64 / MEGA,
        300.0,
    );
    table.at_most(
        "peak (MB)",
        &mega(few.peak_bytes),
        &mega(wide.peak_bytes),
        wide.peak_bytes as f64 / MEGA,
        450.0,
    );
    Ok(())
}

fn usage(spec: &Spec) -> Result<Usage> {
    let managed = Managed::start(spec)?;
    sleep(SETTLE);
    managed.usage()
}

/// Kilobytes for each of 99,000 containers.
fn each(few: Usage, many: Usage) -> f64 {
    (many.resident_bytes as f64 - few.resident_bytes as f64) / 99_000.0 / 1000.0
}

fn mega(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / MEGA)
}
