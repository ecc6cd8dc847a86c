//! Real engines on one machine, and the clients that talk to them.
//!
//! * [`lab`]: Docker hosts made of namespaces, each with its own unmodified engine, and their faults
//! * [`harness`]: a test binary whose cases share one lab
//! * [`client`]: the stock docker CLI, with deadlines, with or without a terminal
//! * [`flotilla`]: the product binary, built, started and stopped
//! * [`pool`]: engines behind one manager, and the CLI for it in lines of shell
//! * [`counter`]: counts the requests that reach an engine
//! * [`liar`]: in front of an engine, changes what it says
//! * [`fake_engine`]: fleets of engines that only pretend, for sizes no machine has
//! * [`mod@bench`]: tables with bounds, and managers over such fleets
//! * [`mod@images`]: images made for a test
//! * [`registry`]: a real registry beside a lab
//! * [`http`]: the few requests tests send without a client library
//! * [`wire`]: HTTP as bytes, for what no client library would send
//! * [`wait`]: waiting for conditions, never for time
//! * [`install`]: where the engines, the CLI and the image come from
//!
//! **Invariant**: nothing outlives the process that started it. Every process of a lab hangs on a pipe held by its
//! owner, and lives in namespaces that end with it.

#![expect(
    clippy::disallowed_methods,
    reason = "the lab runs real processes in real time; the product's clock is not involved"
)]

pub mod bench;
pub mod client;
pub mod compose;
pub mod counter;
pub mod fake_engine;
pub mod flotilla;
pub mod harness;
pub mod http;
pub mod images;
pub mod install;
pub mod lab;
pub mod liar;
pub mod pool;
mod process;
pub mod registry;
pub mod wait;
pub mod wire;
