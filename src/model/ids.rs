//! Names of things: each kind of id is a type of its own, so that none is taken for another.
//!
//! **Invariant**: an id that exists is well-formed; parsing is the only way in from text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Text that is not the id it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct BadId {
    text: String,
    expected: &'static str,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The id made of these bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The bytes of the id, most significant first: byte order is the order of the text.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                parse_hex(text)
                    .map(Self)
                    .ok_or_else(|| BadId { text: text.to_owned(), expected: $expected })
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

hex_id!(
    /// A container's id as its engine gave it: 64 hexadecimal digits.
    ContainerId, 32, "a container id of 64 hexadecimal digits"
);
hex_id!(
    /// A network's id, ours or an engine's: 64 hexadecimal digits.
    NetworkId, 32, "a network id of 64 hexadecimal digits"
);
hex_id!(
    /// What one create is known by before its container has an id, and for ever after: the value of
    /// the label `com.flotilla.id`.
    RequestId, 16, "a request id of 32 hexadecimal digits"
);
hex_id!(
    /// The cluster, from its first start on: the value of the label `com.flotilla.cluster`.
    ClusterId, 16, "a cluster id of 32 hexadecimal digits"
);
hex_id!(
    /// A node, from the day it joins until it is removed; never reused.
    NodeId, 16, "a node id of 32 hexadecimal digits"
);
hex_id!(
    /// A manager; random and never reused.
    ManagerId, 16, "a manager id of 32 hexadecimal digits"
);

hex_id!(
    /// A sealed body kept on disk, outside memory: the hash of its bytes.
    BlobId, 32, "a blob id of 64 hexadecimal digits"
);

fn parse_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

/// Lower case only: engines print ids so and compare them as text.
const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// A service's id as clients see it: 25 digits and lower-case letters, as swarm mode makes them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceId(Arc<str>);

impl FromStr for ServiceId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let known = |c: u8| c.is_ascii_digit() || c.is_ascii_lowercase();
        if text.len() == 25 && text.bytes().all(known) {
            Ok(Self(text.into()))
        } else {
            Err(BadId {
                text: text.to_owned(),
                expected: "a service id of 25 digits and lower-case letters",
            })
        }
    }
}

impl TryFrom<String> for ServiceId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<ServiceId> for String {
    fn from(id: ServiceId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node's name, unique in the cluster: what `docker info` shows and `node/container` uses.
/// Cheap to copy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let rest = text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        if first && rest && text.len() <= 253 {
            Ok(Self(text.into()))
        } else {
            Err(BadId {
                text: text.to_owned(),
                expected: "a node name (letters, digits, `_`, `.`, `-`)",
            })
        }
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_printed() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(
            text.parse::<ContainerId>().expect("valid").to_string(),
            text
        );
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in ["", "abc", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
        for text in ["", "-a", "a/b", "a b", "é"] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
    }
}
