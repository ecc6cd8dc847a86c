//! Docker's Engine API as types and bytes: routes, versions, queries, bodies, errors and stream framing.
//!
//! What one engine would say or accept, and nothing about a cluster: every function takes values and returns values.
//! The reference is Engine 28.5 (API 1.51); where a rule was read in its source the item says so.
//!
//! **Invariant**: nothing here awaits, reads a clock, draws a random number, or panics on what a client sent.

pub mod affinity;
pub mod claim;
pub mod constraint;
pub mod container_item;
pub mod container_status;
pub mod create;
pub mod disk_usage;
pub mod distribution;
pub mod duration_text;
pub mod error;
pub mod event;
pub mod features;
pub mod filters;
pub mod generic;
pub mod glob;
mod go_text;
pub mod headers;
pub mod image_list;
pub mod image_ref;
pub mod info;
pub mod inspect;
pub mod json_edit;
pub mod json_view;
pub mod labels;
pub mod list_filter;
pub mod network_create;
pub mod network_list;
pub mod network_members;
mod network_options;
pub mod platform;
pub mod policies;
pub mod progress;
pub mod published;
pub mod query;
pub mod route;
pub mod stream;
pub mod timestamp;
pub mod version;
pub mod volume_create;
pub mod volume_list;

pub use error::ApiError;
pub use version::ApiVersion;
