//! The disk of the simulated manager: each write and each sync is a step at which the manager can die.

use std::io;
use std::sync::Arc;

use raft_store::Bytewise;
use raft_store::sim::SimulatedFile;

use super::steps::{Life, Steps};

/// A file as one life of a manager has it open.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Arc<SimulatedFile>,
    pub(super) life: Arc<Life>,
    pub(super) steps: Arc<Steps>,
}

impl OpenFile {
    /// The dead write nothing; what was written when somebody dies is written.
    fn change(
        &self,
        what: &str,
        change: impl FnOnce(&SimulatedFile) -> io::Result<()>,
    ) -> io::Result<()> {
        self.is_alive()?;
        change(&self.file)?;
        self.steps.take(what);
        self.is_alive()
    }

    fn is_alive(&self) -> io::Result<()> {
        if self.life.is_over() {
            return Err(io::Error::other("the manager has died"));
        }
        Ok(())
    }
}

impl Bytewise for OpenFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, into)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let what = format!("disk: write {} at {offset}", bytes.len());
        self.change(&what, |file| file.write(offset, bytes))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let what = format!("disk: length {len}");
        self.change(&what, |file| file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.change("disk: sync", SimulatedFile::sync)
    }
}
