//! A replicated log for any deterministic machine; it knows no Docker.
//!
//! [`Core`] decides, as a pure step machine; [`Store`] drives it on a thread of its own, with a
//! [`Disk`] for what must last and a [`Machine`] for what the log means. There is one member today;
//! the shapes are those of several.
//!
//! **Invariant**: nothing is answered before it is persisted and applied; no queue is unbounded; no
//! waiter outlives the store.

mod core;
mod disk;
mod driver;
mod machine;
mod store;

pub use crate::core::{
    Committed, Core, Entry, HardState, Input, MemberId, Message, Now, Output, Proposal, Reply,
    Stored, Ticket, Write,
};
pub use crate::disk::{Disk, MemoryDisk, Volatile};
pub use crate::machine::Machine;
pub use crate::store::{Applied, Ended, Options, ProposeError, Store, WaitError};
