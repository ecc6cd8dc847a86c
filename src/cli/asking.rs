//! What all commands share that ask a running manager: they find it, wait for it, and stop when nobody reads on.
//!
//! **Invariant**: nothing is printed here but by the command itself.

use std::io;

use super::client::{self, Address, Client};
use crate::config::Surroundings;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manager.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Some of several.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Some(Vec<client::Error>),
    /// The text of a label is none.
    #[error("`{0}` is no label: give KEY=VALUE")]
    Label(String),
    /// Nothing can be printed, or nothing awaited.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Does `work` with the manager that `host` names, else what surrounds this process.
pub(super) fn ask(
    host: Option<&str>,
    work: impl AsyncFnOnce(&Client) -> Result<(), Error>,
) -> Result<(), Error> {
    let surroundings = Surroundings::of_this_process();
    let client = Client::new(Address::find(host, &surroundings)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match runtime.block_on(work(&client)) {
        // Whoever reads has read enough.
        Err(Error::System(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
