//! Who asks, and in which realm.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A space of names of its own. There is one today; tenants get theirs without a new format.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Realm(u32);

impl Realm {
    /// The realm of everybody who was given no other.
    pub const DEFAULT: Self = Self(0);
}

/// Who asks: every handler and every command has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The subject of a client certificate, `local` for a socket of this host, or a manager.
    pub identity: String,
    /// Where the names that this caller uses are looked up.
    pub realm: Realm,
}

impl Caller {
    /// Somebody who may open this manager's socket.
    pub fn local() -> Self {
        Self {
            identity: "local".to_owned(),
            realm: Realm::DEFAULT,
        }
    }

    /// A manager, acting by itself.
    pub fn manager(id: super::ManagerId) -> Self {
        Self {
            identity: format!("manager {id}"),
            realm: Realm::DEFAULT,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.identity)
    }
}
