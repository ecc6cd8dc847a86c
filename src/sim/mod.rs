//! A seeded world: the real manager, its log and its proxy over simulated engines, a simulated disk and simulated
//! clients, all in one thread and by one clock. Only the bottom is replaced: what an engine, a disk, the clock and the
//! dice are.
//!
//! Needs a runtime of one thread whose clock is paused. What a world does depends on its seed alone.
//!
//! **Invariant**: nothing here reads the system's clock or dice, opens a socket or a file, or starts a thread.

pub mod checker;
mod client;
mod disk;
pub mod engine;
mod history;
mod host;
mod network;
mod scenario;
mod seed;
mod steps;
mod watching;
mod world;

pub use host::{Fault, Rates};
pub use scenario::{create_cut_short, play};
pub use seed::{Report, run};
pub use steps::Crash;
