//! The file under the database, with a seal on its header.
//!
//! The database checks all it keeps but the first bytes of its header, and one flipped bit there
//! makes it serve the commit before the last. So what is written at the start of the file gets a
//! checksum in the same sector, and a header that does not match it is not shown to the database.
//!
//! Opening a database writes, even to a file that is then found to be damaged. So what is written
//! before everything was checked is held back, and thrown away if the file is refused.
//!
//! **Invariant**: header and seal reach the file in one write of one sector.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

/// The bytes of a file, as an operating system gives them, or a test.
pub trait Bytewise: fmt::Debug + Send + Sync + 'static {
    /// How many there are.
    fn len(&self) -> io::Result<u64>;

    /// Whether there are none.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads all of `into`, or fails.
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes`, or fails.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the end off, or appends zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Returns once everything outlives a loss of power.
    fn sync(&self) -> io::Result<()>;
}

impl Bytewise for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Header and seal.
const SECTOR: usize = 512;
/// Where the seal is: the length of the header and its checksum.
const SEAL: usize = SECTOR - 8;

/// A file whose header is sealed. Clones are the same file.
#[derive(Debug)]
pub(crate) struct Sealed<F> {
    file: Arc<F>,
    /// What is held back, as long as it is.
    held: Arc<Mutex<Option<Vec<Change>>>>,
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl<F> Clone for Sealed<F> {
    fn clone(&self) -> Self {
        Self {
            file: Arc::clone(&self.file),
            held: Arc::clone(&self.held),
        }
    }
}

impl<F: Bytewise> Sealed<F> {
    pub(crate) fn new(file: Arc<F>) -> Self {
        Self {
            file,
            held: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn file(&self) -> &Arc<F> {
        &self.file
    }

    /// Whether the header is what was last written there.
    pub(crate) fn is_intact(&self) -> io::Result<bool> {
        let mut sector = [0; SECTOR];
        if self.file.len()? < SECTOR as u64 {
            return Ok(false);
        }
        self.file.read(0, &mut sector)?;
        let (header, seal) = sector.split_at(SEAL);
        Ok(header.iter().any(|byte| *byte != 0) && seal == seal_of(header))
    }

    /// Holds back what is written from now on.
    pub(crate) fn hold(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// Writes what was held back, and all that comes from now on.
    pub(crate) fn release(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        for change in held.take().into_iter().flatten() {
            match change {
                Change::Write(offset, bytes) => self.file.write(offset, &bytes)?,
                Change::SetLen(len) => self.file.set_len(len)?,
                Change::Sync => self.file.sync()?,
            }
        }
        Ok(())
    }

    /// Holds it back, or does it.
    fn change(&self, change: Change) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = &mut *held {
            held.push(change);
            return Ok(());
        }
        drop(held);
        match change {
            Change::Write(offset, bytes) => self.file.write(offset, &bytes),
            Change::SetLen(len) => self.file.set_len(len),
            Change::Sync => self.file.sync(),
        }
    }

    /// Whether changes are held back.
    pub(crate) fn is_held(&self) -> bool {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.is_some()
    }

    fn held_len(&self, held: &[Change]) -> io::Result<u64> {
        held.iter().try_fold(self.file.len()?, |len, change| {
            Ok(match change {
                Change::Write(offset, bytes) => len.max(offset + bytes.len() as u64),
                Change::SetLen(len) => *len,
                Change::Sync => len,
            })
        })
    }

    /// The file as it would be with what is held back.
    fn read_held(&self, held: &[Change], offset: u64, out: &mut [u8]) -> io::Result<()> {
        let end = offset + out.len() as u64;
        if end > self.held_len(held)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // How much of `out` comes before this place of the file.
        let size = out.len();
        let before = move |place: u64| {
            let part = place.saturating_sub(offset);
            usize::try_from(part).unwrap_or(usize::MAX).min(size)
        };
        let (old, new) = out.split_at_mut(before(self.file.len()?));
        if !old.is_empty() {
            self.file.read(offset, old)?;
        }
        new.fill(0);
        for change in held {
            match change {
                Change::Write(at, bytes) => {
                    let (from, to) = (before(*at), before(at + bytes.len() as u64));
                    let skipped = usize::try_from(offset.saturating_sub(*at)).unwrap_or(usize::MAX);
                    if from < to {
                        out[from..to].copy_from_slice(&bytes[skipped..skipped + (to - from)]);
                    }
                }
                Change::SetLen(len) => out[before(*len)..].fill(0),
                Change::Sync => {}
            }
        }
        Ok(())
    }
}

/// `header` with the zeros behind it.
fn seal_of(header: &[u8]) -> [u8; 8] {
    let mut seal = *b"seal\0\0\0\0";
    seal[4..].copy_from_slice(&crc32fast::hash(header).to_le_bytes());
    seal
}

impl<F: Bytewise> redb::StorageBackend for Sealed<F> {
    fn len(&self) -> io::Result<u64> {
        match &*self.held.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(held) => self.held_len(held),
            None => self.file.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(held) = &*self.held.lock().unwrap_or_else(PoisonError::into_inner) {
            return self.read_held(held, offset, out);
        }
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::SetLen(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(Change::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset >= SECTOR as u64 {
            // The usual case copies nothing.
            return if self.is_held() {
                self.change(Change::Write(offset, data.to_vec()))
            } else {
                self.file.write(offset, data)
            };
        }
        if offset != 0 || data.len() > SEAL {
            return Err(io::Error::other("a header of a form that cannot be sealed"));
        }
        let mut sector = vec![0; SECTOR];
        sector[..data.len()].copy_from_slice(data);
        let seal = seal_of(&sector[..SEAL]);
        sector[SEAL..].copy_from_slice(&seal);
        self.change(Change::Write(0, sector))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::SimulatedFile;
    use redb::StorageBackend as _;

    #[test]
    fn what_is_held_back_is_read_but_not_written() {
        let file = Arc::new(SimulatedFile::holding(b"x".repeat(1000)));
        let sealed = Sealed::new(Arc::clone(&file));
        sealed.hold();
        sealed.write(600, b"abc").expect("held");
        sealed.set_len(602).expect("held");
        sealed.set_len(2000).expect("held");
        sealed.write(1500, b"def").expect("held");
        sealed.sync_data().expect("held");
        let read = |offset, len| {
            let mut bytes = vec![b'?'; len];
            sealed
                .read(offset, &mut bytes)
                .map(|()| String::from_utf8(bytes).expect("a text"))
        };
        let check = || {
            assert_eq!(sealed.len().expect("known"), 2000);
            assert_eq!(read(598, 5).expect("there"), "xxab\0");
            assert_eq!(read(601, 2).expect("there"), "b\0");
            assert_eq!(read(999, 2).expect("there"), "\0\0");
            assert_eq!(read(1501, 4).expect("there"), "ef\0\0");
            assert_eq!(read(1499, 2).expect("there"), "\0d");
            assert!(read(1999, 2).is_err());
        };
        check();
        assert_eq!(file.bytes(), b"x".repeat(1000));
        sealed.release().expect("written");
        check();
        assert_eq!(file.bytes().len(), 2000);
        assert_eq!(file.syncs(), 1);
    }

    #[test]
    fn a_header_is_sealed_with_all_its_bits() {
        let file = Arc::new(SimulatedFile::new());
        let sealed = Sealed::new(Arc::clone(&file));
        assert!(!sealed.is_intact().expect("reads"), "an empty file");
        sealed.write(0, b"header").expect("written");
        assert!(sealed.is_intact().expect("reads"));
        let bytes = file.bytes();
        assert_eq!(bytes.len(), SECTOR);
        for bit in 0..SECTOR * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = Sealed::new(Arc::new(SimulatedFile::holding(bytes)));
            assert!(!flipped.is_intact().expect("reads"), "bit {bit}");
        }
    }
}
