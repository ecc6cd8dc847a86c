//! The cluster as the machine of the replicated log.

use bytes::Bytes;
use raft_store::{BlobId, Machine, RestoreError};

use super::Cluster;
use super::envelope::Envelope;
use super::refusal::{Change, Refusal};

/// What came of a command.
pub type Outcome = Result<Change, Refusal>;

impl Machine for Cluster {
    type View = Self;

    /// # Panics
    ///
    /// When the command cannot be understood: going on would make this manager differ from those
    /// that understand it.
    fn apply(&mut self, index: u64, command: &[u8]) -> Bytes {
        let outcome = match Envelope::decode(command) {
            Ok(envelope) => Self::apply(self, envelope),
            Err(error) => {
                let source = std::error::Error::source(&error);
                let source = source.map_or_else(String::new, |source| format!(": {source}"));
                panic!("entry {index} cannot be applied: {error}{source}")
            }
        };
        Bytes::from(serde_json::to_vec(&outcome).expect("an outcome is plain data"))
    }

    fn view(&self) -> Self {
        self.clone()
    }

    fn snapshot(view: &Self) -> Bytes {
        view.to_snapshot()
    }

    fn released(&mut self) -> Vec<BlobId> {
        let released = std::mem::take(&mut self.released);
        released.iter().map(|id| BlobId(*id.as_bytes())).collect()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        *self = Self::from_snapshot(snapshot)?;
        Ok(())
    }
}

/// Reads what the machine answered to a proposal.
pub fn read_outcome(bytes: &[u8]) -> Result<Outcome, serde_json::Error> {
    serde_json::from_slice(bytes)
}
