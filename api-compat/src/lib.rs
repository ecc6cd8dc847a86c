//! Docker Engine API.
