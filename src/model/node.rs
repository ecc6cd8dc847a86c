//! A node: one engine as a member of the cluster.

use std::collections::BTreeMap;
use std::fmt;

use api_compat::version::ApiVersion;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::generic::Counts;
use super::{NodeId, NodeName, Resources};

/// What the cluster knows and has decided about one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The node's id, ours.
    pub id: NodeId,
    /// The node's name, unique in the cluster.
    pub name: NodeName,
    /// How managers reach the engine: `unix://…`, `tcp://host:port`.
    pub endpoint: String,
    /// Labels an operator gave the node.
    pub labels: BTreeMap<String, String>,
    /// What an operator wants of the node.
    pub availability: Availability,
    /// What the leader last decided about it.
    pub verdict: Verdict,
    /// When the verdict was given.
    pub since: Timestamp,
    /// What published ports are shown with; none if clients cannot reach the node by itself.
    pub address: Option<String>,
    /// What the engine last said of itself; none before it was reached for the first time.
    pub engine: Option<EngineFacts>,
}

impl Node {
    /// What may be promised of the node, nothing as long as it is unknown.
    pub fn capacity(&self) -> Resources {
        self.engine.as_ref().map_or(Resources::ZERO, |engine| {
            engine.allocatable.unwrap_or(engine.capacity)
        })
    }

    /// What it has beside CPU and memory: as its operator says by labels, else as its engine says.
    pub fn generic(&self) -> Counts {
        let engine = self.engine.as_ref();
        let mut has = engine
            .map(|engine| engine.generic.clone())
            .unwrap_or_default();
        for (name, count) in api_compat::generic::stated(&self.labels) {
            has.set(name, count.into());
        }
        has
    }

    /// Whether the leader counts on the node.
    pub fn is_ready(&self) -> bool {
        self.verdict == Verdict::Ready
    }

    /// Whether its operator lets it take new work.
    pub fn takes_new_work(&self) -> bool {
        self.availability == Availability::Active
    }

    /// Whether the node was lost.
    pub fn is_down(&self) -> bool {
        matches!(self.verdict, Verdict::Down { .. })
    }
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    /// The engine's own id. Cloned machines share one, so it tells nodes apart only with the rest.
    pub engine_id: String,
    /// CPUs and memory of the host.
    pub capacity: Resources,
    /// What of it may be promised, if the settings say so: less what is kept for the system, more where it may be
    /// overcommitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable: Option<Resources>,
    /// What it says that the host has beside those.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub generic: Counts,
    /// What runs there.
    pub platform: Platform,
    /// The engine's version, as it prints it.
    pub engine_version: String,
    /// The API versions it speaks.
    pub api: ApiRange,
}

/// What an operator wants of a node, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Takes new work.
    #[default]
    Active,
    /// Keeps what it has and takes nothing new.
    Pause,
    /// Takes nothing new and gives away what can move.
    Drain,
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Pause => "pause",
            Self::Drain => "drain",
        })
    }
}

/// What the leader decided about a node. A node that only looks bad (suspect) is no decision yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Never reached so far.
    Joining,
    /// Reached, and may take work.
    Ready,
    /// Lost.
    Down {
        /// Why, in words for an operator.
        reason: String,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joining => f.write_str("joining"),
            Self::Ready => f.write_str("ready"),
            Self::Down { reason } => write!(f, "down: {reason}"),
        }
    }
}

/// An operating system and an architecture, in Docker's words (`linux`, `amd64`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub arch: String,
}

impl Platform {
    /// Whether a machine of this platform runs what is made for `other`: its own, and what came before it.
    pub fn runs(&self, other: &Self) -> bool {
        let older = |pair: (&str, &str)| matches!(pair, ("amd64", "386") | ("arm64", "arm"));
        self == other || self.os == other.os && older((self.arch.as_str(), other.arch.as_str()))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)
    }
}

/// The API versions an engine speaks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiRange {
    /// The oldest.
    #[serde(with = "version_text")]
    pub min: ApiVersion,
    /// The newest.
    #[serde(with = "version_text")]
    pub max: ApiVersion,
}

/// Versions are kept as people write them.
mod version_text {
    use api_compat::version::ApiVersion;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(version: &ApiVersion, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(version)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ApiVersion, D::Error> {
        let text = String::deserialize(from)?;
        ApiVersion::parse(&text).ok_or_else(|| D::Error::custom("not an API version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_range_reads_back_as_it_was_written() {
        let range = ApiRange {
            min: ApiVersion::new(1, 24),
            max: ApiVersion::new(1, 51),
        };
        let text = serde_json::to_string(&range).expect("writes");
        assert_eq!(text, r#"{"min":"1.24","max":"1.51"}"#);
        assert_eq!(
            serde_json::from_str::<ApiRange>(&text).expect("reads"),
            range
        );
    }
}
