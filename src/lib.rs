//! Flotilla: a cluster of Docker hosts that answers as one Docker Engine.
//!
//! Core modules take values and return values; shell modules talk to the world. Core imports no shell.
//!
//! | module | | what it is |
//! | --- | --- | --- |
//! | [`model`] | core | the nouns: nodes, placements, ports, resources, ids |
//! | [`state`] | core | what the cluster has promised: a command in, a change or a refusal out |
//! | [`scheduler`] | core | which node a container goes to, and if to none, why not to each |
//! | [`api`] | core | our own API, `/flotilla/v1`, as types |
//! | [`engine`] | shell | talks to engines: requests, events, what was observed of them, whether they live |
//! | [`manager`] | shell | observes, decides, commits, acts; the only proposer of commands |
//! | [`proxy`] | shell | Docker's API over the cluster, one file for each kind of object |
//! | [`balance`] | shell | the entry point: published ports at the manager |
//! | [`cli`] | shell | what the binary can be told to do |
//! | [`data`] | shell | the data directory: whose it is, and the log of all that was promised |
//! | [`config`] | shell | every setting, read and checked before anything is opened |
//! | [`app`] | shell | wires the parts together, starts the tasks, drains them at the end |
//! | [`clock`] | shell | the only reader of time and randomness |
//! | [`seal`] | core | seals what must not lie on a disk in the clear |
//! | [`tasks`] | shell | the only spawner |
//! | [`sim`] | test | a seeded world of a manager, engines, clients, clock and disk, all in one thread |
//!
//! Beside this crate: `api-compat` (Docker's API as types and bytes; knows no cluster) and `raft-store` (a log for any
//! deterministic machine; knows no Docker). `docs/architecture.md` says how it all works together.

pub mod api;
pub mod app;
pub mod balance;
pub mod cli;
pub mod clock;
pub mod config;
pub mod data;
pub mod engine;
pub mod manager;
pub mod model;
pub mod proxy;
pub mod scheduler;
pub mod seal;
pub mod sim;
pub mod state;
pub mod tasks;
