//! Where the log is kept.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::log::{BlobChange, Piece, Snapshot, Stored, Write};
use crate::machine::BlobId;

/// Keeps the log. Used from one thread, and allowed to block it.
pub trait Disk: Send + 'static {
    /// What was written before, all of it and in order.
    fn load(&mut self) -> io::Result<Stored>;

    /// Writes all or nothing; what it has written outlives a loss of power once it returns.
    ///
    /// With [`io::ErrorKind::StorageFull`] or [`io::ErrorKind::QuotaExceeded`] nothing that was
    /// written before is lost, and the same write comes again later, in case there is room then.
    /// After any other error the store ends.
    fn write(&mut self, write: &Write) -> io::Result<()>;

    /// The blob of this name, if it is kept.
    fn blob(&mut self, id: BlobId) -> io::Result<Option<Bytes>>;
}

/// Keeps nothing: the log and the blobs end with the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Volatile;

impl Disk for Volatile {
    fn load(&mut self) -> io::Result<Stored> {
        Ok(Stored::default())
    }

    fn write(&mut self, _: &Write) -> io::Result<()> {
        Ok(())
    }

    fn blob(&mut self, _: BlobId) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

/// Keeps everything in memory that its clones share: a store opened on a clone goes on where the
/// last one ended. For tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    stored: Stored,
    pieces: Vec<Piece>,
    blobs: BTreeMap<BlobId, Bytes>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> T {
        act(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Disk for MemoryDisk {
    fn load(&mut self) -> io::Result<Stored> {
        Ok(self.with(|kept| {
            kept.pieces.clear();
            kept.stored.clone()
        }))
    }

    fn write(&mut self, write: &Write) -> io::Result<()> {
        self.with(|kept| {
            if let Some(hard) = write.hard {
                kept.stored.hard = hard;
            }
            if let Some(first) = write.entries.first() {
                kept.stored
                    .entries
                    .retain(|entry| entry.index < first.index);
                kept.stored.entries.extend(write.entries.iter().cloned());
            }
            if let Some(piece) = &write.piece {
                if piece.offset == 0 {
                    kept.pieces.clear();
                }
                kept.pieces.push(piece.clone());
                if piece.last {
                    let pieces = std::mem::take(&mut kept.pieces);
                    let data: Vec<_> = pieces.iter().map(|piece| &piece.data[..]).collect();
                    kept.stored.snapshot = Some(Snapshot {
                        index: piece.index,
                        term: piece.term,
                        data: data.concat().into(),
                    });
                    kept.stored
                        .entries
                        .retain(|entry| entry.index > piece.index);
                }
            }
            for change in &write.blobs {
                match change {
                    BlobChange::Put(blob) => drop(kept.blobs.insert(blob.id, blob.bytes.clone())),
                    BlobChange::Delete(id) => drop(kept.blobs.remove(id)),
                }
            }
        });
        Ok(())
    }

    fn blob(&mut self, id: BlobId) -> io::Result<Option<Bytes>> {
        Ok(self.with(|kept| kept.blobs.get(&id).cloned()))
    }
}
