//! The disk to trust: log, hard state, snapshots and blobs in one database file.
//!
//! Every write is one two-phase commit, so what was acknowledged is never rolled back by a damaged
//! newest commit. Opening reads and checks everything: each page and the header have checksums, each
//! entry has its own, and the log must have no gaps.
//!
//! **Invariant**: a file that is not exactly what was written is refused and left as it is.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};

use crate::disk::Disk;
use crate::log::{
    BlobChange, ClusterId, Entry, HardState, Identity, MemberId, Payload, Piece, Snapshot, Stored,
    Write, take,
};
use crate::machine::BlobId;
use crate::sealed::{Bytewise, Sealed};

/// One row, [`Meta`].
const META: TableDefinition<'_, u8, &[u8]> = TableDefinition::new("meta");
/// By index: checksum, term, payload.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// By index of the snapshot and offset in it; the checksum of all is in the meta row.
const SNAPSHOT: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("snapshot");
/// By id: checksum, bytes.
const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");

/// What this version writes. It reads no other.
const FORMAT: u32 = 1;
/// A row and what the database puts around it fit in a page of a power of two.
const ROW_BYTES: usize = (64 << 10) - 512;
/// Memory for pages; the log is read once, and blobs seldom.
const CACHE_BYTES: usize = 16 << 20;
const FILE: &str = "log.redb";

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error("there is no log at `{file}`")]
    Missing {
        /// Where.
        file: String,
    },
    /// There is one already.
    #[error("there is a log at `{file}` already: it is never overwritten")]
    Exists {
        /// Where.
        file: String,
    },
    /// Somebody else has it open.
    #[error("the log `{file}` is in use by another process")]
    InUse {
        /// Where.
        file: String,
    },
    /// It is not what was written. It was left as it is.
    #[error(
        "the log `{file}` is damaged ({what}) and was left as it is: restore the file from a backup, \
         or, if other members of the cluster have its data, move it away and join them as a new member"
    )]
    Damaged {
        /// Where.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// It was written in a format that is not known here.
    #[error(
        "the log `{file}` has format {format} and this version knows format {FORMAT}: \
         run the version that wrote it, or a newer one"
    )]
    Newer {
        /// Where.
        file: String,
        /// Its format.
        format: u32,
    },
    /// It belongs to another cluster.
    #[error(
        "the log `{file}` belongs to cluster {found}, not to {expected}: \
         give this manager the data directory of its own cluster, or an empty one"
    )]
    OtherCluster {
        /// Where.
        file: String,
        /// Whose it is.
        found: ClusterId,
        /// Whose it should be.
        expected: ClusterId,
    },
    /// The operating system refused.
    #[error("cannot open the log `{file}`")]
    Io {
        /// Where.
        file: String,
        /// What it said.
        source: io::Error,
    },
}

/// What the meta row says: the rest must agree with it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Meta {
    identity: Identity,
    hard: HardState,
    /// The last entry of the log, or that of the snapshot if the log is empty.
    last: u64,
    /// Index, term, size and checksum of the snapshot; zeros if there is none.
    snapshot: (u64, u64, u64, u32),
    blobs: u64,
}

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = FORMAT.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.identity.cluster.0);
        bytes.extend_from_slice(&self.identity.member.0);
        let (index, term, size, checksum) = self.snapshot;
        let hard = self.hard;
        let numbers = [
            hard.term,
            hard.vote,
            hard.commit,
            self.last,
            self.blobs,
            index,
            term,
            size,
            u64::from(checksum),
        ];
        numbers
            .iter()
            .for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        sealed(&bytes)
    }

    /// `Err` with the format if that is not known, or with nothing if the row is damaged.
    fn decode(row: &[u8]) -> Result<Self, Option<u32>> {
        let mut bytes = Bytes::copy_from_slice(unsealed(row).ok_or(None)?);
        let format = u32::from_le_bytes(take(&mut bytes).ok_or(None)?);
        if format != FORMAT {
            return Err(Some(format));
        }
        let identity = Identity {
            cluster: ClusterId(take(&mut bytes).ok_or(None)?),
            member: MemberId(take(&mut bytes).ok_or(None)?),
        };
        let mut number = || take(&mut bytes).map(u64::from_le_bytes).ok_or(None);
        let hard = HardState {
            term: number()?,
            vote: number()?,
            commit: number()?,
        };
        Ok(Self {
            identity,
            hard,
            last: number()?,
            blobs: number()?,
            snapshot: (
                number()?,
                number()?,
                number()?,
                u32::try_from(number()?).map_err(|_| None)?,
            ),
        })
    }
}

/// `bytes` behind their checksum.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    [&crc32fast::hash(bytes).to_le_bytes(), bytes].concat()
}

/// What was [`sealed`]; `None` if it has changed.
fn unsealed(row: &[u8]) -> Option<&[u8]> {
    let (checksum, bytes) = row.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*checksum) == crc32fast::hash(bytes)).then_some(bytes)
}

/// The parts of an incomplete snapshot that are on disk.
#[derive(Debug, Clone)]
struct Partial {
    index: u64,
    size: u64,
    checksum: crc32fast::Hasher,
}

/// A log in a file. Whoever opens it has it alone.
#[derive(Debug)]
pub struct DurableDisk<F = File> {
    file: Sealed<F>,
    /// What errors call it.
    name: String,
    /// Closed between a write that failed and the next.
    database: Option<Database>,
    meta: Meta,
    partial: Option<Partial>,
}

impl DurableDisk {
    /// Founds the log of this member in `directory`, which exists. Either all of it is there
    /// afterwards or nothing.
    pub fn create(directory: &Path, identity: Identity) -> Result<Self, OpenError> {
        let path = directory.join(FILE);
        let name = path.display().to_string();
        if path.exists() {
            return Err(OpenError::Exists { file: name });
        }
        let named = |source| OpenError::Io {
            file: name.clone(),
            source,
        };
        let draft = directory.join(format!("{FILE}.new"));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = lock(options.open(&draft).map_err(named)?, &name)?;
        file.set_len(0).map_err(named)?;
        let disk = Self::create_on(Arc::new(file), name.clone(), identity)?;
        std::fs::rename(&draft, &path).map_err(named)?;
        sync_directory(directory).map_err(named)?;
        Ok(disk)
    }

    /// Opens the log in `directory`, and checks all of it.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(FILE);
        let name = path.display().to_string();
        match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Self::open_on(Arc::new(lock(file, &name)?), name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(OpenError::Missing { file: name })
            }
            Err(source) => Err(OpenError::Io { file: name, source }),
        }
    }

    /// Whether there is a log in `directory`, sound or not.
    pub fn exists(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Where the log of `directory` is.
    pub fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }
}

/// The lock is given up with the file.
fn lock(file: File, name: &str) -> Result<File, OpenError> {
    let name = name.to_owned();
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { file: name }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { file: name, source }),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl<F: Bytewise> DurableDisk<F> {
    /// Founds the log of this member in an empty file, which errors call `name`.
    pub fn create_on(file: Arc<F>, name: String, identity: Identity) -> Result<Self, OpenError> {
        let mut disk = Self {
            database: None,
            meta: Meta {
                identity,
                hard: HardState::default(),
                last: 0,
                snapshot: (0, 0, 0, 0),
                blobs: 0,
            },
            partial: None,
            file: Sealed::new(file),
            name,
        };
        let created = builder(false).create_with_backend(disk.file.clone());
        disk.database = Some(created.map_err(|error| disk.refusal(error))?);
        disk.write(&Write::default())
            .map_err(|source| OpenError::Io {
                file: disk.name.clone(),
                source,
            })?;
        Ok(disk)
    }

    /// Opens the log in this file, which errors call `name`, and checks all of it.
    pub fn open_on(file: Arc<F>, name: String) -> Result<Self, OpenError> {
        let damaged = |what: &str| OpenError::Damaged {
            file: name.clone(),
            what: what.to_owned(),
        };
        let file = Sealed::new(file);
        let intact = file.is_intact().map_err(|source| OpenError::Io {
            file: name.clone(),
            source,
        })?;
        if !intact {
            return Err(damaged("its header is not what was written"));
        }
        // Until all was read.
        file.hold();
        let mut disk = Self {
            file,
            database: None,
            meta: Meta {
                identity: Identity {
                    cluster: ClusterId([0; 16]),
                    member: MemberId([0; 16]),
                },
                hard: HardState::default(),
                last: 0,
                snapshot: (0, 0, 0, 0),
                blobs: 0,
            },
            partial: None,
            name: name.clone(),
        };
        let backend = disk.file.clone();
        let opened = AssertUnwindSafe(|| builder(true).create_with_backend(backend));
        let opened = catch_unwind(opened).map_err(|_| damaged("it cannot be read"))?;
        disk.database = Some(opened.map_err(|error| disk.refusal(error))?);
        let row = disk.meta_row().map_err(|error| disk.refusal(error))?;
        let row = row.ok_or_else(|| damaged("it does not say whose it is"))?;
        disk.meta = Meta::decode(&row).map_err(|format| match format {
            Some(format) => OpenError::Newer {
                file: name.clone(),
                format,
            },
            None => damaged("what it says of itself has changed"),
        })?;
        Ok(disk)
    }

    /// Whose log it is.
    pub fn identity(&self) -> Identity {
        self.meta.identity
    }

    /// This log, if it is one of `cluster`.
    pub fn of_cluster(self, cluster: ClusterId) -> Result<Self, OpenError> {
        let found = self.meta.identity.cluster;
        if found == cluster {
            return Ok(self);
        }
        Err(OpenError::OtherCluster {
            file: self.name,
            found,
            expected: cluster,
        })
    }

    fn refusal(&self, error: impl Into<redb::Error>) -> OpenError {
        let file = self.name.clone();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse { file },
            redb::Error::Io(source)
                if !matches!(
                    source.kind(),
                    // The file ends too early, or is none of the database's.
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
                ) =>
            {
                OpenError::Io { file, source }
            }
            error => OpenError::Damaged {
                file,
                what: error.to_string(),
            },
        }
    }

    fn meta_row(&self) -> Result<Option<Vec<u8>>, redb::Error> {
        let Some(database) = &self.database else {
            return Ok(None);
        };
        let table = database.begin_read()?.open_table(META)?;
        Ok(table.get(0)?.map(|row| row.value().to_vec()))
    }

    /// What is stored; `Ok(Err)` says what is wrong with it.
    fn read_all(&self) -> Result<Result<Stored, String>, redb::Error> {
        let Some(database) = &self.database else {
            return Ok(Err("it is closed".to_owned()));
        };
        let transaction = database.begin_read()?;
        let (index, term, size, checksum) = self.meta.snapshot;
        let mut snapshot = None;
        if index != 0 {
            let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
            let table = transaction.open_table(SNAPSHOT)?;
            for row in table.range((index, 0)..=(index, u64::MAX))? {
                let (key, bytes) = row?;
                if key.value().1 != data.len() as u64 {
                    return Ok(Err(format!("the snapshot at entry {index} has a hole")));
                }
                data.extend_from_slice(bytes.value());
            }
            if data.len() as u64 != size || crc32fast::hash(&data) != checksum {
                return Ok(Err(format!("the snapshot at entry {index} has changed")));
            }
            let data = Bytes::from(data);
            snapshot = Some(Snapshot { index, term, data });
        }
        let mut entries = Vec::new();
        for row in transaction.open_table(LOG)?.range(0..)? {
            let (key, bytes) = row?;
            let expected = index + 1 + entries.len() as u64;
            if key.value() != expected {
                return Ok(Err(format!("entry {expected} is missing")));
            }
            let Some(entry) = decode_entry(expected, bytes.value()) else {
                return Ok(Err(format!("entry {expected} has changed")));
            };
            entries.push(entry);
        }
        let last = index + entries.len() as u64;
        if last != self.meta.last {
            let missing = last + 1;
            return Ok(Err(format!("entry {missing} is missing")));
        }
        let blobs = transaction.open_table(BLOBS)?.len()?;
        if blobs != self.meta.blobs {
            return Ok(Err(format!(
                "{} blobs are kept, not {blobs}",
                self.meta.blobs
            )));
        }
        Ok(Ok(Stored {
            identity: Some(self.meta.identity),
            hard: self.meta.hard,
            snapshot,
            entries,
        }))
    }

    /// The new meta and partial snapshot, once `write` is on disk.
    fn commit(&self, write: &Write) -> Result<(Meta, Option<Partial>), redb::Error> {
        let Some(database) = &self.database else {
            return Err(redb::Error::DatabaseClosed);
        };
        let mut meta = self.meta.clone();
        let mut partial = self.partial.clone();
        let mut transaction = database.begin_write()?;
        transaction.set_two_phase_commit(true);
        {
            let mut log = transaction.open_table(LOG)?;
            if let Some(first) = write.entries.first() {
                if first.index <= meta.last {
                    log.retain_in(first.index.., |_, _| false)?;
                }
                for entry in &write.entries {
                    log.insert(entry.index, encode_entry(entry).as_slice())?;
                    meta.last = entry.index;
                }
            }
            let mut snapshots = transaction.open_table(SNAPSHOT)?;
            if let Some(piece) = &write.piece {
                if piece.offset == 0 {
                    let kept = meta.snapshot.0;
                    snapshots.retain(|(index, _), _| index == kept)?;
                    partial = None;
                }
                partial = Some(put_piece(&mut snapshots, partial, piece)?);
                if piece.last {
                    snapshots.retain(|(index, _), _| index == piece.index)?;
                    log.retain_in(..=piece.index, |_, _| false)?;
                    let partial = partial.take();
                    let size = partial.as_ref().map_or(0, |partial| partial.size);
                    let checksum = partial.map_or(0, |partial| partial.checksum.finalize());
                    meta.snapshot = (piece.index, piece.term, size, checksum);
                }
            }
            let mut blobs = transaction.open_table(BLOBS)?;
            for change in &write.blobs {
                match change {
                    BlobChange::Put(blob) => {
                        blobs.insert(&blob.id.0, sealed(&blob.bytes).as_slice())?;
                    }
                    BlobChange::Delete(id) => {
                        blobs.remove(&id.0)?;
                    }
                }
            }
            meta.blobs = blobs.len()?;
            meta.hard = write.hard.unwrap_or(meta.hard);
            let mut table = transaction.open_table(META)?;
            table.insert(0, meta.encode().as_slice())?;
        }
        transaction.commit()?;
        Ok((meta, partial))
    }

    /// Opens the file again after a write that failed; what was written before is there.
    fn reopen(&mut self) -> io::Result<()> {
        if self.database.is_none() {
            let opened = builder(false).create_with_backend(self.file.clone());
            self.database = Some(opened.map_err(io_error)?);
        }
        Ok(())
    }
}

fn builder(check: bool) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder.set_check_integrity_on_open(check);
    builder
}

fn put_piece(
    snapshots: &mut redb::Table<'_, (u64, u64), &'static [u8]>,
    partial: Option<Partial>,
    piece: &Piece,
) -> Result<Partial, redb::Error> {
    let mut partial = partial.unwrap_or_else(|| Partial {
        index: piece.index,
        size: 0,
        checksum: crc32fast::Hasher::new(),
    });
    assert_eq!(
        (partial.index, partial.size),
        (piece.index, piece.offset),
        "a snapshot with a hole"
    );
    for row in piece.data.chunks(ROW_BYTES) {
        snapshots.insert((piece.index, partial.size), row)?;
        partial.size += row.len() as u64;
        partial.checksum.update(row);
    }
    Ok(partial)
}

fn encode_entry(entry: &Entry) -> Vec<u8> {
    let payload = entry.payload.encode();
    let mut row = vec![0; 4];
    row.extend_from_slice(&entry.term.to_le_bytes());
    row.extend_from_slice(&payload);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&entry.index.to_le_bytes());
    checksum.update(&row[4..]);
    row[..4].copy_from_slice(&checksum.finalize().to_le_bytes());
    row
}

fn decode_entry(index: u64, row: &[u8]) -> Option<Entry> {
    let (checksum, bytes) = row.split_first_chunk::<4>()?;
    let mut expected = crc32fast::Hasher::new();
    expected.update(&index.to_le_bytes());
    expected.update(bytes);
    if u32::from_le_bytes(*checksum) != expected.finalize() {
        return None;
    }
    let (term, payload) = bytes.split_first_chunk::<8>()?;
    Some(Entry {
        index,
        term: u64::from_le_bytes(*term),
        payload: Payload::decode(Bytes::copy_from_slice(payload))?,
    })
}

fn io_error(error: impl Into<redb::Error>) -> io::Error {
    match error.into() {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

impl<F: Bytewise> Disk for DurableDisk<F> {
    fn load(&mut self) -> io::Result<Stored> {
        let damaged = |what| {
            io::Error::other(OpenError::Damaged {
                file: self.name.clone(),
                what,
            })
        };
        match self.read_all() {
            Ok(Ok(stored)) => {
                self.file.release()?;
                Ok(stored)
            }
            Ok(Err(what)) => Err(damaged(what)),
            Err(error) => Err(io::Error::other(self.refusal(error))),
        }
    }

    /// # Panics
    ///
    /// Before [`load`](Self::load), which completes the checks.
    fn write(&mut self, write: &Write) -> io::Result<()> {
        assert!(
            !self.file.is_held(),
            "a log that is written before it was read"
        );
        self.reopen()?;
        match self.commit(write) {
            Ok((meta, partial)) => {
                self.meta = meta;
                self.partial = partial;
                Ok(())
            }
            Err(error) => {
                // The database takes nothing more after a failure, until it is opened again.
                self.database = None;
                Err(io_error(error))
            }
        }
    }

    fn blob(&mut self, id: BlobId) -> io::Result<Option<Bytes>> {
        self.reopen()?;
        let read = |database: &Database| -> Result<_, redb::Error> {
            let table = database.begin_read()?.open_table(BLOBS)?;
            Ok(table.get(&id.0)?.map(|row| row.value().to_vec()))
        };
        let Some(database) = &self.database else {
            return Ok(None);
        };
        let Some(row) = read(database).map_err(io_error)? else {
            return Ok(None);
        };
        let bytes = unsealed(&row).map(Bytes::copy_from_slice);
        bytes.map(Some).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("blob {id:?} has changed"),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimulatedFile;

    const IDENTITY: Identity = Identity {
        cluster: ClusterId([5; 16]),
        member: MemberId([6; 16]),
    };

    fn create() -> DurableDisk<SimulatedFile> {
        let file = Arc::new(SimulatedFile::new());
        DurableDisk::create_on(file, "log".to_owned(), IDENTITY).expect("creates")
    }

    /// What opening a file says whose meta row became this.
    fn opened_with(row: &[u8]) -> String {
        let disk = create();
        let file = Arc::clone(disk.file.file());
        let database = disk.database.as_ref().expect("open");
        let transaction = database.begin_write().expect("begins");
        let mut table = transaction.open_table(META).expect("opens");
        table.insert(0, row).expect("inserts");
        drop(table);
        transaction.commit().expect("commits");
        drop(disk);
        let opened = DurableDisk::open_on(file, "log".to_owned());
        opened.expect_err("refused").to_string()
    }

    #[test]
    fn a_format_that_is_not_known_is_not_guessed_at() {
        assert_eq!(
            opened_with(&sealed(&7u32.to_le_bytes())),
            "the log `log` has format 7 and this version knows format 1: run the version that \
             wrote it, or a newer one"
        );
        for row in [&b""[..], b"abc", &sealed(&FORMAT.to_le_bytes())] {
            let error = opened_with(row);
            assert!(
                error.contains("what it says of itself has changed"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_log_of_another_cluster_is_refused() {
        let disk = create().of_cluster(IDENTITY.cluster).expect("its own");
        let error = disk.of_cluster(ClusterId([9; 16])).expect_err("another's");
        let text = error.to_string();
        assert!(
            text.starts_with("the log `log` belongs to cluster 0505") && text.contains("to 0909"),
            "{text}"
        );
    }
}
