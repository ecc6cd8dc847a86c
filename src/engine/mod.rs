//! Talks to Docker engines: requests, events, what was observed, and whether they live.
//!
//! Only this module opens connections to engines. A [`Fleet`] holds the [`Host`]s; each has a verbatim
//! client (what passes through), a typed one (what only we read), a watcher that keeps the
//! [`Inventory`] true, and a probe.
//!
//! **Invariant**: nothing here decides where work goes.

mod call;
mod changes;
mod client;
mod container;
mod dial;
mod endpoint;
mod error;
mod facts;
mod fleet;
mod health;
mod host;
mod images;
mod inventory;
mod own_networks;
mod reads;
mod rereads;
mod ring;
mod typed;
mod watcher;

pub use call::{EngineCall, EngineReply};
pub use changes::Changes;
pub use client::{ApiWindow, Body, BoxError, NotWhole, OLDEST_ENGINE_API, empty, full, read_whole};
pub use container::{BadItem, Container, Details, HostTag, RunState, Unlisted};
pub use dial::{
    BadFile, Connection, Dial, Dialling, Dials, Stream, Transports, check_tls_files, keep_alive,
};
pub use endpoint::{BadEndpoint, Endpoint, SshTarget};
pub use error::Error;
pub use facts::Facts;
pub use fleet::{Absence, Fleet};
pub use health::Verdict;
pub use host::{Change, Creation, Health, Host, ListKind, another_engine};
pub use images::{Image, Images};
pub use inventory::{Ambiguous, Found, Inventory, NodeCounts, NodeTotals};
pub use own_networks::{OwnNetwork, OwnNetworks};
pub use ring::{Happened, Ring};
pub use watcher::Observation;
