//! Our own API, `/flotilla/v1`, as types: what the proxy answers and `flotilla node` reads.
//!
//! Its form is Docker's: errors, names of fields, and as much of Docker's `Node` object as fits.
//!
//! **Invariant**: a request with a field that is not known is refused, for it would be ignored; an answer may have more
//! fields than its reader knows.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Availability;
use crate::scheduler::Strategy;

/// Where decisions are asked for: `/flotilla/v1/decisions/{container}`.
pub const DECISIONS: &str = "/flotilla/v1/decisions";
/// Where it is asked what would be.
pub const PLAN: &str = "/flotilla/v1/plan";
/// Where nodes are.
pub const NODES: &str = "/flotilla/v1/nodes";

/// One node, or an engine that has not joined yet: that has an endpoint and a status only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Node {
    /// Its id; none before it has joined.
    #[serde(rename = "ID", default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What an operator says of it.
    pub spec: Spec,
    /// What its engine says of itself; none before it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<Description>,
    /// What is thought of it.
    pub status: Status,
    /// How managers reach its engine.
    pub endpoint: String,
    /// How many containers it has.
    pub containers: usize,
    /// How many of them run, paused ones included.
    pub running: usize,
    /// What its containers claim.
    pub reserved: Resources,
    /// What it has beside CPU and memory, and what of that its containers claim.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generic: BTreeMap<String, Generic>,
    /// Whether that is known: only then it takes work.
    pub counted: bool,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
}

/// What an operator says of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Spec {
    /// Its name; none before it has joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is wanted of it.
    pub availability: Availability,
}

/// What an engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Description {
    /// The name of its machine; empty if it was not reached since the manager began.
    pub hostname: String,
    /// What runs there.
    pub platform: Platform,
    /// What it has.
    pub resources: Resources,
    /// What of it may be promised, if the settings say that it is not just that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocatable: Option<Resources>,
    /// The engine itself.
    pub engine: Engine,
}

/// An operating system and an architecture.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`
    #[serde(rename = "Architecture")]
    pub arch: String,
    /// `linux`
    #[serde(rename = "OS")]
    pub os: String,
}

/// An amount of CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Billionths of a CPU.
    #[serde(rename = "NanoCPUs")]
    pub cpu_nanos: u64,
    /// Bytes.
    #[serde(rename = "MemoryBytes")]
    pub memory_bytes: u64,
}

/// A number of something that a node has beside CPU and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Generic {
    /// What containers claim.
    pub reserved: u64,
    /// What there is.
    pub total: u64,
}

/// An engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Engine {
    /// Its version.
    pub engine_version: String,
    /// The labels that it was started with.
    pub labels: BTreeMap<String, String>,
}

/// What is thought of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Status {
    /// In a word.
    pub state: State,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What its published ports are shown with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<String>,
}

/// What is thought of a node, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answers and takes work.
    Ready,
    /// It missed a probe.
    Suspect,
    /// It was lost.
    Down,
    /// It was not reached yet, or its containers are not all counted.
    Joining,
}

/// The body of `POST /flotilla/v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct AddNode {
    /// How managers reach the engine.
    pub endpoint: String,
    /// What it is to be called; else as the settings call it, else by its hostname.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What its published ports are to be shown with; else the host of its endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The body of `POST /flotilla/v1/nodes/{node}/update`; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct UpdateNode {
    /// Labels that it gets, or that get new values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add_labels: BTreeMap<String, String>,
    /// Labels that it loses; each must be there.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub remove_labels: BTreeSet<String>,
    /// What is wanted of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<Availability>,
    /// What its published ports are to be shown with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// Why a container is where it is, or nowhere: the answer to `GET /flotilla/v1/decisions/{container}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Decision {
    /// The container's name then.
    pub container: String,
    /// When it was decided.
    pub at: Timestamp,
    /// The node that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Where its host ports are taken, if that is all nodes that would do: it was placed as if it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_taken: Option<String>,
    /// Where others have what it exposes on its host's network, if that is all nodes that would do. Those ports are hints: it
    /// runs there all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposed_taken: Option<String>,
    /// How a node was chosen among those that fit.
    pub strategy: Strategy,
    /// What the container claims.
    pub claim: Resources,
    /// What it claims beside that: numbers by name, or `all`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generic: BTreeMap<String, String>,
    /// Its constraints.
    pub constraints: Vec<String>,
    /// Its affinities.
    pub affinities: Vec<String>,
    /// How many nodes there were.
    pub nodes: usize,
    /// How many of them fit.
    pub fit: usize,
    /// The best of those, best first; not all of many.
    pub best: Vec<Standing>,
    /// Why the others do not, a sentence for each reason.
    pub unfit: Vec<String>,
}

/// How a node that fits stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Standing {
    /// The node.
    pub node: String,
    /// Whether its last probe went unanswered.
    pub suspect: bool,
    /// How many soft constraints and affinities it does not meet.
    pub soft_unmet: usize,
    /// What would be left of it after placing, in thousandths: of CPU or memory, whichever is scarcer there.
    pub left_per_mille: u64,
    /// What was left of it before.
    pub free: Resources,
    /// What was left before of what the container claims beside that.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub generic: BTreeMap<String, u64>,
    /// How many containers it had.
    pub containers: u32,
    /// Whether it had the image.
    pub has_image: bool,
}

/// The body of `POST /flotilla/v1/plan`: what would be if. At least one of both is asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct AskPlan {
    /// The body of a `POST /containers/create`, which nobody makes; without `Image` every node counts as having it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<serde_json::Value>,
    /// So many of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// A node that is then lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lose: Option<String>,
}

/// What would be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Plan {
    /// The nodes of the containers that would be made, in that order.
    pub placed: Vec<String>,
    /// The decision about the last of them, which may be that it fits nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What the create of the last that fits would be warned of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// What would become of the containers of the node that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<Loss>,
}

/// What would become of the containers of a node that is lost.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Loss {
    /// The node.
    pub node: String,
    /// Those that would find room elsewhere.
    pub movable: Vec<Moved>,
    /// Those that could no longer run.
    pub stranded: Vec<Stranded>,
}

/// A container that would find room elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Moved {
    /// Its name.
    pub container: String,
    /// The node that has room for it.
    pub node: String,
}

/// A container that could no longer run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Stranded {
    /// Its name.
    pub container: String,
    /// Why not.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_request_is_named() {
        let check = |body: &str, expected: &str| {
            let error = serde_json::from_str::<UpdateNode>(body).expect_err(body);
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(
            r#"{"AddLables":{}}"#,
            "unknown field `AddLables`, expected one of `AddLabels`",
        );
        check(
            r#"{"Availability":"paused"}"#,
            "unknown variant `paused`, expected one of `active`, `pause`, `drain`",
        );
        check(
            r#"{"AddLabels":{"a":1}}"#,
            "invalid type: integer `1`, expected a string",
        );
        let error = serde_json::from_str::<AddNode>("{}").expect_err("no endpoint");
        assert!(
            error.to_string().contains("missing field `Endpoint`"),
            "{error}"
        );
    }

    #[test]
    fn an_engine_that_has_not_joined_has_a_status_only() {
        let node = Node {
            id: None,
            spec: Spec::default(),
            description: None,
            status: Status {
                state: State::Joining,
                message: "refused".to_owned(),
                addr: None,
            },
            endpoint: "tcp://h:1".to_owned(),
            containers: 0,
            running: 0,
            reserved: Resources::default(),
            generic: BTreeMap::new(),
            counted: false,
            last_seen: None,
        };
        let text = serde_json::to_string(&node).expect("writes");
        assert_eq!(
            text,
            r#"{"Spec":{"Labels":{},"Availability":"active"},"Status":{"State":"joining","Message":"refused"},"Endpoint":"tcp://h:1","Containers":0,"Running":0,"Reserved":{"NanoCPUs":0,"MemoryBytes":0},"Counted":false}"#
        );
        // A newer manager may say more.
        let more = text.replace("\"Counted\"", "\"New\":1,\"Counted\"");
        assert_eq!(serde_json::from_str::<Node>(&more).expect("reads"), node);
    }
}
