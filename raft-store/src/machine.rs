//! What the log means.

use bytes::Bytes;

/// A deterministic machine: the same commands in the same order give the same outcomes everywhere.
pub trait Machine: Send + 'static {
    /// A picture of the machine that readers keep while it goes on; cheap to make.
    type View: Send + Sync + 'static;

    /// Applies the command at `index` and says what came of it.
    ///
    /// # Panics
    ///
    /// A machine that cannot go on without diverging from its twins panics: the store then ends and
    /// tells everybody who waits.
    fn apply(&mut self, index: u64, command: &[u8]) -> Bytes;

    /// The machine as it is now.
    fn view(&self) -> Self::View;
}
