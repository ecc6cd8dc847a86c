//! A file that forgets, tears and flips what was written, the same way for the same seed.

use std::io;
use std::sync::{Mutex, PoisonError};

use crate::sealed::Bytewise;

/// What a disk writes as a whole.
const SECTOR: usize = 512;

/// Numbers that look random and depend on the seed alone.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// The next number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Default)]
struct State {
    /// What outlives a loss of power.
    platter: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// What was done since the last sync.
    unsynced: Vec<Change>,
    /// How many more writes there is room for, if it is short.
    room: Option<u64>,
    /// How many more operations there is power for, if it is going to be lost.
    power: Option<u64>,
    syncs: u64,
}

/// A file in memory that can lose its power.
#[derive(Debug, Default)]
pub struct SimulatedFile {
    state: Mutex<State>,
}

impl SimulatedFile {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file with these bytes, all of them synced.
    pub fn holding(bytes: Vec<u8>) -> Self {
        let state = State {
            platter: bytes.clone(),
            seen: bytes,
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// The file as it is found after a loss of power now: each sector written since the last sync
    /// has reached the platter or not.
    pub fn after_power_loss(&self, dice: &mut Dice) -> Self {
        // Some losses keep almost all, some almost nothing.
        let kept = dice.below(101);
        self.with(|state| {
            let mut platter = state.platter.clone();
            for change in &state.unsynced {
                match change {
                    Change::SetLen(len) => {
                        if dice.below(100) < kept {
                            resize(&mut platter, *len);
                        }
                    }
                    Change::Write(offset, bytes) => {
                        let mut offset = *offset;
                        let mut rest = &bytes[..];
                        while !rest.is_empty() {
                            let room = SECTOR - position(offset) % SECTOR;
                            let (sector, behind) = rest.split_at(room.min(rest.len()));
                            if dice.below(100) < kept {
                                put(&mut platter, offset, sector);
                            }
                            offset += sector.len() as u64;
                            rest = behind;
                        }
                    }
                }
            }
            Self::holding(platter)
        })
    }

    /// The file as a reader sees it now.
    pub fn bytes(&self) -> Vec<u8> {
        self.with(|state| state.seen.clone())
    }

    /// Lets this many writes succeed, and finds no room for any more; or has room again.
    pub fn set_room(&self, writes: Option<u64>) {
        self.with(|state| state.room = writes);
    }

    /// Loses power after this many more writes, syncs and changes of length: from then on everything
    /// fails.
    pub fn cut_power(&self, operations: u64) {
        self.with(|state| state.power = Some(operations));
    }

    /// Whether the power was lost.
    pub fn is_dead(&self) -> bool {
        self.with(|state| state.power == Some(0))
    }

    /// How often it was synced.
    pub fn syncs(&self) -> u64 {
        self.with(|state| state.syncs)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn use_power(&mut self) -> io::Result<()> {
        match &mut self.power {
            Some(0) => Err(io::Error::other("power lost")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn resize(bytes: &mut Vec<u8>, len: u64) {
    bytes.resize(position(len), 0);
}

fn put(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = position(offset);
    let end = start + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(data);
}

impl Bytewise for SimulatedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|state| state.seen.len() as u64))
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.with(|state| {
            let start = position(offset);
            let from = state.seen.get(start..start + into.len());
            into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            match &mut state.room {
                Some(0) => return Err(io::ErrorKind::StorageFull.into()),
                Some(room) => *room -= 1,
                None => {}
            }
            put(&mut state.seen, offset, bytes);
            state.unsynced.push(Change::Write(offset, bytes.to_vec()));
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            resize(&mut state.seen, len);
            state.unsynced.push(Change::SetLen(len));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state| {
            state.use_power()?;
            state.syncs += 1;
            for change in std::mem::take(&mut state.unsynced) {
                match change {
                    Change::SetLen(len) => resize(&mut state.platter, len),
                    Change::Write(offset, bytes) => put(&mut state.platter, offset, &bytes),
                }
            }
            Ok(())
        })
    }
}
