//! Flotilla: a cluster of Docker hosts that answers as one Docker Engine.

pub mod clock;
pub mod model;
pub mod scheduler;
pub mod state;
pub mod tasks;
