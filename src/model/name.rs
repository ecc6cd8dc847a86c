//! Names: each is unique in its realm and among its kind.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{NetworkId, Realm, RequestId};

/// What a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameKind {
    /// A container.
    Container,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
        })
    }
}

/// The key of a name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// Whose name it is.
    pub realm: Realm,
    /// What it names.
    pub kind: NameKind,
    /// The name, without a leading slash.
    pub name: String,
}

impl Name {
    /// A container's name.
    pub fn container(realm: Realm, name: &str) -> Self {
        Self {
            realm,
            kind: NameKind::Container,
            name: name.to_owned(),
        }
    }

    /// A network's name.
    pub fn network(realm: Realm, name: &str) -> Self {
        Self {
            realm,
            kind: NameKind::Network,
            name: name.to_owned(),
        }
    }

    /// A volume's name.
    pub fn volume(realm: Realm, name: &str) -> Self {
        Self {
            realm,
            kind: NameKind::Volume,
            name: name.to_owned(),
        }
    }
}

/// Who has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameHolder {
    /// A placement.
    Placement(RequestId),
    /// A network.
    Network(NetworkId),
}
