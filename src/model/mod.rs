//! The nouns of the cluster: values that every other module speaks in.
//!
//! **Invariant**: nothing here awaits, reads a clock, or draws a random number.

mod ids;

pub use ids::{BadId, ClusterId, ContainerId, ManagerId, NetworkId, NodeId, NodeName, RequestId};
