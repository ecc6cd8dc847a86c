//! What the log means.

use std::fmt;

use bytes::Bytes;

/// Why a machine cannot be restored.
pub type RestoreError = Box<dyn std::error::Error + Send + Sync>;

/// Names bytes that are kept on disk beside the log, such as the hash of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 32]);

impl fmt::Debug for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes that travel with a command and are kept on disk beside the log, outside memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub id: BlobId,
    /// What is kept.
    pub bytes: Bytes,
}

/// A deterministic machine: the same commands in the same order give the same outcomes everywhere.
pub trait Machine: Send + 'static {
    /// A picture of the machine that readers keep while it goes on; cheap to make.
    type View: Send + Sync + 'static;

    /// Applies the command at `index` and says what came of it. Indices grow, with gaps: some
    /// entries are the store's own.
    ///
    /// # Panics
    ///
    /// A machine that cannot go on without diverging from its twins panics: the store then ends and
    /// tells everybody who waits.
    fn apply(&mut self, index: u64, command: &[u8]) -> Bytes;

    /// The machine as it is now.
    fn view(&self) -> Self::View;

    /// All of a view, as bytes that [`restore`](Self::restore) understands. Called on a thread of
    /// its own while the machine goes on.
    fn snapshot(view: &Self::View) -> Bytes;

    /// Becomes the machine that the snapshot was taken of. `self` has applied nothing.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError>;

    /// The blobs that nothing needs since the last call, also those of commands that were refused.
    /// Asked after each command; they are deleted.
    fn released(&mut self) -> Vec<BlobId> {
        Vec::new()
    }
}
