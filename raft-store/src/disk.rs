//! Where the log is kept.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::core::{Stored, Write};

/// Keeps the log. Used from one thread, and allowed to block it.
pub trait Disk: Send + 'static {
    /// What was written before, all of it and in order.
    fn load(&mut self) -> io::Result<Stored>;

    /// Writes all or nothing; what it has written outlives a loss of power once it returns.
    fn write(&mut self, write: &Write) -> io::Result<()>;
}

/// Keeps nothing: the log ends with the process, and takes no memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Volatile;

impl Disk for Volatile {
    fn load(&mut self) -> io::Result<Stored> {
        Ok(Stored::default())
    }

    fn write(&mut self, _: &Write) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps everything in memory that its clones share: a store opened on a clone goes on where the
/// last one ended. For tests; it only grows.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    stored: Arc<Mutex<Stored>>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Disk for MemoryDisk {
    fn load(&mut self) -> io::Result<Stored> {
        Ok(self
            .stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone())
    }

    fn write(&mut self, write: &Write) -> io::Result<()> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hard) = write.hard {
            stored.hard = hard;
        }
        stored.entries.extend(write.entries.iter().cloned());
        Ok(())
    }
}
