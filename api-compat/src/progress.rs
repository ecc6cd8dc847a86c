//! Progress of one pull or load on several nodes, told as one: of a pull, what is said of a layer is what its slowest
//! node says; of a load, what one node says stands for all, as long as it does not fail. A node that waits for its turn to
//! pull has a line of its own instead, or layers would begin anew with each.
//!
//! Source: moby 28.5.2 `distribution/pull_v2.go` (the states of a layer), `image/tarexport/load.go` and
//! `pkg/streamformatter`.
//!
//! **Invariant**: a layer never seems further than it is on any node of the first turn that still works on it; every line is one that an
//! engine wrote, or names a node.

use std::collections::BTreeMap;

use crate::json_edit::quote;
use crate::json_view::View;

/// Several nodes at work on one pull or load.
#[derive(Debug)]
pub struct Merger {
    work: Work,
    nodes: Vec<Node>,
    layers: BTreeMap<String, Layer>,
    /// Lines that are no layer's, already told.
    told: Vec<String>,
    digests: Vec<String>,
    statuses: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Pull,
    Load,
}

#[derive(Debug)]
struct Node {
    name: String,
    /// It does not begin with the first ones.
    waits: bool,
    outcome: Option<Result<(), String>>,
}

#[derive(Debug, Default)]
struct Layer {
    /// What each node that has spoken of it said last, and how far that is.
    said: BTreeMap<usize, (Step, String)>,
    told: String,
}

/// How far a layer is; bytes only count within one state.
type Step = (u8, i64);

/// More other lines than this are told as they come, however often.
const TOLD_MAX: usize = 256;

impl Merger {
    /// These nodes are to pull: so many of them begin, the others wait for their turn.
    pub fn pull(nodes: impl IntoIterator<Item = String>, at_once: usize) -> Self {
        let mut merger = Self::new(Work::Pull, nodes);
        let waiting = merger.nodes.iter_mut().skip(at_once);
        waiting.for_each(|node| node.waits = true);
        merger
    }

    /// These nodes begin to load.
    pub fn load(nodes: impl IntoIterator<Item = String>) -> Self {
        Self::new(Work::Load, nodes)
    }

    fn new(work: Work, nodes: impl IntoIterator<Item = String>) -> Self {
        let nodes = nodes
            .into_iter()
            .map(|name| Node {
                name,
                waits: false,
                outcome: None,
            })
            .collect();
        Self {
            work,
            nodes,
            layers: BTreeMap::new(),
            told: Vec::new(),
            digests: Vec::new(),
            statuses: Vec::new(),
        }
    }

    /// What a client is told first: a line for each node that waits for its turn.
    pub fn begin(&self) -> Vec<String> {
        let waiting = self.nodes.iter().filter(|node| node.waits);
        waiting
            .map(|node| node.is_at("Waiting for other nodes"))
            .collect()
    }

    /// A node's engine has begun: what a client is told then.
    pub fn began(&mut self, node: usize) -> Option<String> {
        let node = self.nodes.get(node).filter(|node| node.waits)?;
        Some(node.is_at("Pulling"))
    }

    /// A node wrote a line: what a client is told then.
    pub fn line(&mut self, node: usize, line: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(line).trim().to_owned();
        let Ok(view) = View::parse(text.as_bytes()) else {
            return Vec::new();
        };
        match view.get("error").and_then(|error| error.str()) {
            Some(error) => self.ended(node, Err(error.into_owned())),
            None => self.said(node, view, &text).into_iter().collect(),
        }
    }

    fn said(&mut self, node: usize, view: View<'_>, text: &str) -> Option<String> {
        if self.work == Work::Load && view.get("stream").is_none() {
            return self.stands_for_all(node).then(|| text.to_owned());
        }
        let status = view.text_of("status");
        let id = view.text_of("id");
        match rank(&status) {
            Some(_) if !id.is_empty() && self.waits(node) => None,
            Some(rank) if !id.is_empty() => {
                let current = view
                    .at(&["progressDetail", "current"])
                    .and_then(|current| current.i64());
                let step = (rank, current.unwrap_or_default());
                self.layers
                    .entry(id.to_string())
                    .or_default()
                    .said
                    .insert(node, (step, text.to_owned()));
                self.slowest(&id)
            }
            _ if status.starts_with("Digest: ") => remember(&mut self.digests, text.to_owned()),
            _ if status.starts_with("Status: ") => remember(&mut self.statuses, text.to_owned()),
            _ if self.told.iter().any(|told| told == text) => None,
            _ => {
                if self.told.len() < TOLD_MAX {
                    self.told.push(text.to_owned());
                }
                Some(text.to_owned())
            }
        }
    }

    /// A node is done, or failed: what a client is told then.
    pub fn ended(&mut self, node: usize, outcome: Result<(), String>) -> Vec<String> {
        let Some(entry) = self
            .nodes
            .get_mut(node)
            .filter(|entry| entry.outcome.is_none())
        else {
            return Vec::new();
        };
        let done = match (&outcome, self.work) {
            (Ok(()), Work::Pull) => Some(entry.is_at("Pull complete")),
            // Its line must not say for ever that it waits.
            (Err(_), Work::Pull) if entry.waits => Some(entry.is_at("Pull failed")),
            (Ok(()) | Err(_), _) => None,
        };
        entry.outcome = Some(outcome);
        // Where the slowest one failed the others are no longer held back.
        let ids: Vec<_> = self.layers.keys().cloned().collect();
        ids.iter()
            .filter_map(|id| self.slowest(id))
            .chain(done)
            .collect()
    }

    /// The last lines: digest and status if any node has the image now, and what went wrong on the others.
    pub fn finish(self) -> (Vec<String>, Option<String>) {
        let failed: Vec<_> = self
            .nodes
            .iter()
            .filter_map(|node| match &node.outcome {
                Some(Ok(())) => None,
                Some(Err(why)) => Some((node.name.as_str(), why.as_str())),
                None => Some((node.name.as_str(), "the engine's answer broke off")),
            })
            .collect();
        let newer = self
            .statuses
            .iter()
            .position(|status| status.contains("Downloaded newer"));
        let status = self.statuses.get(newer.unwrap_or_default()).cloned();
        let last = if failed.len() < self.nodes.len() {
            self.digests.into_iter().chain(status).collect()
        } else {
            Vec::new()
        };
        (last, failure(&failed, self.nodes.len()))
    }

    fn waits(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.waits)
    }

    /// Whether this is the first node that has not failed.
    fn stands_for_all(&self, node: usize) -> bool {
        let first = self
            .nodes
            .iter()
            .position(|node| !matches!(node.outcome, Some(Err(_))));
        first == Some(node)
    }

    /// What the slowest node that is still at work says of a layer, if that is news.
    fn slowest(&mut self, id: &str) -> Option<String> {
        let nodes = &self.nodes;
        let layer = self.layers.get_mut(id)?;
        let at_work = |node: &usize| {
            nodes
                .get(*node)
                .is_some_and(|node| !matches!(node.outcome, Some(Err(_))))
        };
        let (_, (_, line)) = layer
            .said
            .iter()
            .filter(|(node, _)| at_work(node))
            .min_by_key(|(_, (step, _))| *step)?;
        if *line == layer.told {
            return None;
        }
        layer.told.clone_from(line);
        Some(line.clone())
    }
}

impl Node {
    /// A line of progress of the node's own.
    fn is_at(&self, status: &str) -> String {
        format!("{{\"status\":\"{status}\",\"id\":{}}}", quote(&self.name))
    }
}

/// Whether a line says how far a layer is, or that something went wrong; other lines are about the image as a whole.
pub fn is_of_a_layer_or_an_error(line: &[u8]) -> bool {
    let Ok(view) = View::parse(line.trim_ascii()) else {
        return false;
    };
    let is_of_a_layer =
        || !view.text_of("id").is_empty() && rank(&view.text_of("status")).is_some();
    view.get("error").is_some() || is_of_a_layer()
}

/// What failed where, in one sentence; nothing if nothing did.
pub fn failure(failed: &[(&str, &str)], of: usize) -> Option<String> {
    let (_, first) = failed.first()?;
    if failed.len() == of && failed.iter().all(|(_, why)| why == first) {
        return Some((*first).to_owned());
    }
    let each: Vec<_> = failed
        .iter()
        .map(|(node, why)| format!("{node}: {why}"))
        .collect();
    Some(format!(
        "{} of {of} nodes failed: {}",
        failed.len(),
        each.join("; ")
    ))
}

fn remember(kept: &mut Vec<String>, text: String) -> Option<String> {
    if !kept.contains(&text) && kept.len() < TOLD_MAX {
        kept.push(text);
    }
    None
}

/// The order of a layer's states.
fn rank(status: &str) -> Option<u8> {
    Some(match status {
        "Pulling fs layer" => 0,
        "Waiting" => 1,
        "Downloading" => 2,
        "Verifying Checksum" => 3,
        "Download complete" => 4,
        "Extracting" => 5,
        "Pull complete" => 6,
        "Already exists" => 7,
        retrying if retrying.starts_with("Retrying in ") => 1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `node> status id [bytes]` a line; `node+` begins, `node. ` ends one well, `node! why` badly. Both begin at once.
    #[track_caller]
    fn check(script: &str, expected: &str) {
        check_turns(2, script, expected);
    }

    /// So many of the two begin at once.
    #[track_caller]
    fn check_turns(at_once: usize, script: &str, expected: &str) {
        let mut merger = Merger::pull(["n1".to_owned(), "n2".to_owned()], at_once);
        let mut told = merger.begin();
        for step in script.split(';').map(str::trim) {
            let (head, rest) = step.split_at(3);
            let node = if head.starts_with("n1") { 0 } else { 1 };
            match &head[2..] {
                ">" => {
                    let mut words = rest.trim().split('/');
                    let status = words.next().unwrap_or_default();
                    let id = words
                        .next()
                        .map_or(String::new(), |id| format!(",\"id\":\"{id}\""));
                    let bytes = words.next().map_or(String::new(), |n| {
                        format!(",\"progressDetail\":{{\"current\":{n}}}")
                    });
                    let line = format!("{{\"status\":\"{status}\"{id}{bytes}}}\r\n");
                    told.extend(merger.line(node, line.as_bytes()));
                }
                "+" => told.extend(merger.began(node)),
                "." => told.extend(merger.ended(node, Ok(()))),
                _ => told.extend(merger.ended(node, Err(rest.trim().to_owned()))),
            }
        }
        let (last, error) = merger.finish();
        told.extend(last);
        let mut shown: Vec<String> = told
            .iter()
            .map(|line| {
                let view = View::parse(line.as_bytes()).expect("JSON");
                let current = view
                    .at(&["progressDetail", "current"])
                    .map_or(String::new(), |n| format!("/{}", n.as_json()));
                format!("{}/{}{current}", view.text_of("status"), view.text_of("id"))
                    .trim_end_matches('/')
                    .to_owned()
            })
            .collect();
        shown.extend(error.map(|error| format!("error: {error}")));
        assert_eq!(shown.join("; "), expected, "{script}");
    }

    #[test]
    fn a_layer_is_as_far_as_on_its_slowest_node() {
        check(
            "n1> Pulling from x/latest; n2> Pulling from x/latest; n1> Downloading/l/5; n2> Downloading/l/2; n1> Pull complete/l; \
             n2> Downloading/l/4; n2> Pull complete/l; n1> Digest: d; n1> Status: s; n1.; n2> Digest: d; n2> Status: s; n2.",
            "Pulling from x/latest; Downloading/l/5; Downloading/l/2; Downloading/l/4; Pull complete/l; \
             Pull complete/n1; Pull complete/n2; Digest: d; Status: s",
        );
    }

    #[test]
    fn a_node_that_fails_holds_nobody_back() {
        check(
            "n1> Downloading/l/1; n2> Pull complete/l; n1! no space left; n2> Status: s; n2.",
            "Downloading/l/1; Pull complete/l; Pull complete/n2; Status: s; error: 1 of 2 nodes failed: n1: no space left",
        );
        check("n1! denied; n2! denied", "error: denied");
        check(
            "n1> Status: s; n1! a; n2! b",
            "error: 2 of 2 nodes failed: n1: a; n2: b",
        );
        check(
            "n1.",
            "Pull complete/n1; error: 1 of 2 nodes failed: n2: the engine's answer broke off",
        );
    }

    #[test]
    fn a_node_that_waits_for_its_turn_has_a_line_of_its_own() {
        check(
            "n1+; n2+; n1> Downloading/l/5",
            "Downloading/l/5; error: the engine's answer broke off",
        );
        check_turns(
            1,
            "n1+; n1> Pulling from x/latest; n1> Downloading/l/5; n1> Pull complete/l; n1> Status: s; n1.; n2+; \
             n2> Pulling from x/latest; n2> Downloading/l/2; n2> Pull complete/l; n2.",
            "Waiting for other nodes/n2; Pulling from x/latest; Downloading/l/5; Pull complete/l; Pull complete/n1; Pulling/n2; \
             Pull complete/n2; Status: s",
        );
        check_turns(
            1,
            "n1+; n1> Status: s; n1.; n2! denied",
            "Waiting for other nodes/n2; Pull complete/n1; Pull failed/n2; Status: s; error: 1 of 2 nodes failed: n2: denied",
        );
    }

    #[test]
    fn of_a_load_one_node_speaks_for_all() {
        let mut merger = Merger::load(["n1".to_owned(), "n2".to_owned()]);
        let mut told = Vec::new();
        for (node, line) in [
            (1, r#"{"status":"Loading layer","id":"l"}"#),
            (0, r#"{"status":"Loading layer","id":"l"}"#),
            (1, r#"{"stream":"Loaded image: x:1\n"}"#),
            (0, r#"{"errorDetail":{"message":"full"},"error":"full"}"#),
            (1, r#"{"status":"Loading layer","id":"m"}"#),
            (1, r#"{"stream":"Loaded image: x:1\n"}"#),
        ] {
            told.extend(merger.line(node, line.as_bytes()));
        }
        told.extend(merger.ended(1, Ok(())));
        let (last, error) = merger.finish();
        assert_eq!(
            told,
            [
                r#"{"status":"Loading layer","id":"l"}"#,
                r#"{"stream":"Loaded image: x:1\n"}"#,
                r#"{"status":"Loading layer","id":"m"}"#,
            ]
        );
        assert_eq!(
            (last, error.as_deref()),
            (Vec::new(), Some("1 of 2 nodes failed: n1: full"))
        );
    }
}
