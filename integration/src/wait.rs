//! Waiting for a condition, with a deadline and a name for what did not happen.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(25);

/// Asks until `probe` finds something. An error of the probe means "not yet" and is told when time is up.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match probe() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            match last {
                Some(error) => {
                    return Err(error.context(format!("waited {limit:?} in vain for {what}")));
                }
                None => bail!("waited {limit:?} in vain for {what}"),
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Asks until `probe` says yes.
pub fn until_true(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, limit, || Ok(probe()?.then_some(())))
}
