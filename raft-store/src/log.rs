//! What a log is made of, and what of it is written.

use std::fmt;

use bytes::Bytes;

use crate::machine::{Blob, BlobId};

/// A member, for ever: ids are random and never reused. Its first eight bytes, which the consensus
/// knows it by, are not all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 16]);

/// The cluster that a log belongs to, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub [u8; 16]);

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member of it.
    pub member: MemberId,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader begins its term with it.
    Empty,
    /// A command for the machine.
    Command {
        /// Who asked for it: a repeated request carries the same id.
        request_id: [u8; 16],
        /// The command, meaningless to the store.
        command: Bytes,
        /// What is kept beside the log once the command is applied.
        blobs: Vec<Blob>,
    },
}

/// One place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The place, from 1 and without gaps.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// What it carries.
    pub payload: Payload,
}

const EMPTY: u8 = 0;
const COMMAND: u8 = 1;

impl Payload {
    /// The payload as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self::Command {
            request_id,
            command,
            blobs,
        } = self
        else {
            return vec![EMPTY];
        };
        let size = blobs
            .iter()
            .map(|blob| 36 + blob.bytes.len())
            .sum::<usize>();
        let mut bytes = Vec::with_capacity(25 + command.len() + size);
        bytes.push(COMMAND);
        bytes.extend_from_slice(request_id);
        put_sized(&mut bytes, command);
        bytes.extend_from_slice(&length(blobs.len()).to_le_bytes());
        for blob in blobs {
            bytes.extend_from_slice(&blob.id.0);
            put_sized(&mut bytes, &blob.bytes);
        }
        bytes
    }

    /// What [`encode`](Self::encode) made; `None` for anything else.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        // The consensus appends entries of its own without any bytes.
        if bytes.is_empty() {
            return Some(Self::Empty);
        }
        let payload = match take::<1>(&mut bytes)?[0] {
            EMPTY => Self::Empty,
            COMMAND => {
                let request_id = take(&mut bytes)?;
                let command = take_sized(&mut bytes)?;
                let count = u32::from_le_bytes(take(&mut bytes)?);
                let blobs = (0..count).map(|_| {
                    let id = BlobId(take(&mut bytes)?);
                    let bytes = take_sized(&mut bytes)?;
                    Some(Blob { id, bytes })
                });
                Self::Command {
                    request_id,
                    command,
                    blobs: blobs.collect::<Option<_>>()?,
                }
            }
            _ => return None,
        };
        bytes.is_empty().then_some(payload)
    }
}

/// What is proposed is far below this, see `Options::command_bytes`.
fn length(length: usize) -> u32 {
    u32::try_from(length).expect("no part of an entry has 4 GiB")
}

fn put_sized(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(&length(bytes.len()).to_le_bytes());
    into.extend_from_slice(bytes);
}

pub(crate) fn take<const N: usize>(bytes: &mut Bytes) -> Option<[u8; N]> {
    (bytes.len() >= N).then(|| {
        let mut array = [0; N];
        array.copy_from_slice(&bytes.split_to(N));
        array
    })
}

fn take_sized(bytes: &mut Bytes) -> Option<Bytes> {
    let size = u32::from_le_bytes(take(bytes)?) as usize;
    (bytes.len() >= size).then(|| bytes.split_to(size))
}

/// What a member must never forget, besides its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: u64,
    /// Whom it voted for in that term, as the consensus knows it.
    pub vote: u64,
    /// Up to where it knows the log to be committed; it may be further.
    pub commit: u64,
}

/// The machine at one place of the log, which stands for all entries up to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The place.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// What the machine made of itself.
    pub data: Bytes,
}

/// A part of a snapshot on its way to the disk. Large ones are written in many writes, so that
/// commands need not wait for all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The place in the log that the snapshot is of.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// How many bytes of the snapshot come before.
    pub offset: u64,
    /// The bytes from there on.
    pub data: Bytes,
    /// Whether the snapshot is complete with this piece. From then on it counts, and the snapshot
    /// before it and the entries up to [`index`](Self::index) are no longer needed.
    pub last: bool,
}

/// A change of what is kept beside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobChange {
    /// Keep it.
    Put(Blob),
    /// Forget it.
    Delete(BlobId),
}

/// All that a member finds on its disk, but for its blobs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Whose disk it is, if the disk can tell.
    pub identity: Option<Identity>,
    /// What it must never forget.
    pub hard: HardState,
    /// The newest complete snapshot.
    pub snapshot: Option<Snapshot>,
    /// The log behind the snapshot.
    pub entries: Vec<Entry>,
}

/// One atomic write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Write {
    /// What [`Input::Persisted`](crate::Input::Persisted) names it by.
    pub sequence: u64,
    /// The new hard state, if it changed.
    pub hard: Option<HardState>,
    /// What the log continues with: they replace all that is stored from the first of them on.
    pub entries: Vec<Entry>,
    /// The next part of a snapshot. The first part of one supersedes all parts of an incomplete one.
    pub piece: Option<Piece>,
    /// What changes beside the log, in this order. Not decided by the core: it follows from what was
    /// applied.
    pub blobs: Vec<BlobChange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_what_its_bytes_say_and_nothing_else_is() {
        let blob = |byte: u8, size| Blob {
            id: BlobId([byte; 32]),
            bytes: Bytes::from(vec![byte; size]),
        };
        let command = |command: &'static str, blobs| Payload::Command {
            request_id: [7; 16],
            command: Bytes::from(command),
            blobs,
        };
        for payload in [
            Payload::Empty,
            command("", Vec::new()),
            command("run", vec![blob(1, 0), blob(2, 70_000)]),
        ] {
            let bytes = Bytes::from(payload.encode());
            assert_eq!(Payload::decode(bytes.clone()), Some(payload));
            for shorter in 1..bytes.len().min(100) {
                assert_eq!(Payload::decode(bytes.slice(..shorter)), None);
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Payload::decode(longer.into()), None);
        }
        assert_eq!(Payload::decode(Bytes::new()), Some(Payload::Empty));
        assert_eq!(Payload::decode(Bytes::from_static(&[9])), None);
    }
}
