//! A replicated log for any deterministic machine; it knows no Docker.
//!
//! [`Core`] decides, as a pure step machine around raft; [`Store`] drives it on a thread of its own, or
//! a [`Stepper`] does so step by step, with a [`Disk`] for what must last and a [`Machine`] for what the log means. [`DurableDisk`] is the
//! disk to trust. There is one member today; the shapes are those of several.
//!
//! **Invariant**: nothing is answered before it is persisted and applied; no queue is unbounded; no
//! waiter outlives the store.

mod consensus;
mod core;
mod disk;
mod driver;
mod durable;
mod log;
mod machine;
mod sealed;
pub mod sim;
mod stepper;
mod store;
pub mod watch;

pub use crate::core::{
    Committed, Compaction, Core, Input, Message, Now, Output, Proposal, Reply, Ticket,
};
pub use crate::disk::{Disk, MemoryDisk, Volatile};
pub use crate::durable::{DurableDisk, OpenError};
pub use crate::log::{
    BlobChange, ClusterId, Entry, HardState, Identity, MemberId, Payload, Piece, Snapshot, Stored,
    Write,
};
pub use crate::machine::{Blob, BlobId, Machine, RestoreError};
pub use crate::sealed::Bytewise;
pub use crate::stepper::Stepper;
pub use crate::store::{Applied, BlobError, Ended, Options, ProposeError, Store, WaitError};
