//! Flotilla: a cluster of Docker hosts that answers as one Docker Engine.

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod manager;
pub mod model;
pub mod proxy;
pub mod scheduler;
pub mod state;
pub mod tasks;
