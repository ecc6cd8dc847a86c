//! A machine that remembers the commands `writer:number`, and keeps the blobs of the newest three
//! of each writer. Whether all that was acknowledged is there, once and in order, is easily seen.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test uses its own part of this"
)]

use std::collections::BTreeMap;

use bytes::Bytes;
use raft_store::{Blob, BlobId, Machine, RestoreError};

/// How many blobs of each writer are kept.
pub(crate) const KEPT: u64 = 3;

/// By writer, how many commands were applied; they carry the numbers from 0 on.
pub(crate) type Counts = BTreeMap<u64, u64>;

#[derive(Default)]
pub(crate) struct Journal {
    counts: Counts,
    released: Vec<BlobId>,
}

pub(crate) fn command(writer: u64, number: u64) -> Bytes {
    Bytes::from(format!("{writer}:{number}"))
}

/// The blob that goes with a command; some are large.
pub(crate) fn blob(writer: u64, number: u64) -> Blob {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&writer.to_le_bytes());
    id[8..16].copy_from_slice(&number.to_le_bytes());
    let size = if number.is_multiple_of(7) { 9000 } else { 40 };
    Blob {
        id: BlobId(id),
        bytes: vec![number.to_le_bytes()[0]; size].into(),
    }
}

impl Machine for Journal {
    type View = Counts;

    fn apply(&mut self, _: u64, command: &[u8]) -> Bytes {
        let text = str::from_utf8(command).expect("a text");
        let (writer, number) = text.split_once(':').expect("two numbers");
        let writer = writer.parse().expect("a number");
        let number: u64 = number.parse().expect("a number");
        let count = self.counts.entry(writer).or_default();
        assert_eq!(
            *count, number,
            "commands of {writer}: lost, repeated or out of order"
        );
        *count += 1;
        if let Some(old) = number.checked_sub(KEPT) {
            self.released.push(blob(writer, old).id);
        }
        Bytes::from(number.to_string())
    }

    fn view(&self) -> Counts {
        self.counts.clone()
    }

    fn snapshot(view: &Counts) -> Bytes {
        let lines = view
            .iter()
            .map(|(writer, count)| format!("{writer}:{count}\n"));
        let padding = std::iter::repeat_n('.', 200_000);
        lines
            .collect::<String>()
            .chars()
            .chain(padding)
            .collect::<String>()
            .into()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        for line in str::from_utf8(snapshot)?.lines() {
            let Some((writer, count)) = line.split_once(':') else {
                break;
            };
            self.counts.insert(writer.parse()?, count.parse()?);
        }
        Ok(())
    }

    fn released(&mut self) -> Vec<BlobId> {
        std::mem::take(&mut self.released)
    }
}
