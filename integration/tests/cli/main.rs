//! The unmodified docker CLI against real engines behind one manager: everything a person does, and everything
//! that goes wrong.

#![expect(
    clippy::disallowed_methods,
    reason = "the lab runs real processes in real time"
)]

mod bad_input;
mod binds;
mod catalogue;
mod compose;
mod containers;
mod entry;
mod faults;
mod finding;
mod image_faults;
mod images;
mod lies;
mod midway;
mod network_faults;
mod networks;
mod nodes;
mod old_clients;
mod placing;
mod pool_of_one;
mod pooled;
mod scheduling;
mod streams;
mod volumes;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::harness;
use integration::images::noise;
use integration::lab::Spec;

/// What needs no time at all may take so long on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let cases = [
        containers::cases(),
        streams::cases(),
        finding::cases(),
        placing::cases(),
        scheduling::cases(),
        nodes::cases(),
        images::cases(),
        image_faults::cases(),
        catalogue::cases(),
        networks::cases(),
        network_faults::cases(),
        compose::cases(),
        pooled::cases(),
        pool_of_one::cases(),
        entry::cases(),
        faults::cases(),
        midway::cases(),
        lies::cases(),
        old_clients::cases(),
        bad_input::cases(),
        binds::cases(),
        volumes::cases(),
    ];
    harness::main(Spec::hosts(3), cases.into_iter().flatten().collect())
}

/// Fails unless the text has this in it.
fn contains(text: &str, wanted: &str) -> Result<()> {
    ensure!(text.contains(wanted), "{text:?} lacks {wanted:?}");
    Ok(())
}

/// Seconds since 1970, as the CLI takes them. Of a duration like `0s` it would tell the whole seconds only, and what happened
/// in this second would be left out.
fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}
