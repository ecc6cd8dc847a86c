//! The nouns of the cluster: values that every other module speaks in.
//!
//! **Invariant**: nothing here awaits, reads a clock, or draws a random number.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod generic;
pub mod resources;

mod caller;
mod ids;
mod name;
mod network;
mod node;
mod placement;
mod port;
mod seen;
mod tag;
mod volume;

pub use caller::{Caller, Realm};
pub use ids::{
    BadId, BlobId, ClusterId, ContainerId, ManagerId, NetworkId, NodeId, NodeName, RequestId,
    ServiceId,
};
pub use name::{Name, NameHolder, NameKind};
pub use network::{Network, Realised};
pub use node::{ApiRange, Availability, EngineFacts, Node, Platform, Verdict};
pub use placement::{Owner, Placement};
pub use port::{PortClaim, PortOrigin, Protocol, PublishedPort};
pub use resources::{Resources, Shortfall};
pub use seen::{Seen, Touched};
pub use tag::Tag;
pub use volume::{
    KIND_LABEL, LOCAL_DRIVER, Residence, Volume, VolumeKind, VolumeOrigin, VolumeSpec,
};
