//! Compares what clients were told with what is promised and what engines have, once nothing happens any more. Plain
//! values, so that a simulation and a test with real engines can use the same.
//!
//! **Invariant**: nothing here awaits, and an empty list is the only good answer.

use std::collections::{BTreeMap, BTreeSet};

/// One thing that a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// Its place in the order of all beginnings and ends.
    pub begun: u64,
    /// The place of its end in that order.
    pub ended: u64,
    /// What was asked.
    pub action: Action,
    /// What came of it, as far as the client knows.
    pub outcome: Outcome,
}

/// What a client asks for. Containers are named by their whole ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A new container.
    Create {
        /// The name that it is to have; the cluster chooses one if there is none.
        name: Option<String>,
        /// Whether it is removed when it ends.
        auto_remove: bool,
    },
    /// A removal.
    Remove {
        /// Of this container.
        container: String,
    },
    /// Another name.
    Rename {
        /// For this container.
        container: String,
        /// The name.
        new_name: String,
    },
    /// Anything that neither makes nor removes nor renames a container.
    Other,
}

/// What a client knows of what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; to this container, if it made one.
    Done {
        /// The whole id of the container that was made.
        container: Option<String>,
    },
    /// The answer was another one.
    Refused {
        /// The status.
        status: u16,
        /// The words.
        message: String,
    },
    /// No answer came: it may have been done, or be done later.
    Unknown,
}

impl Operation {
    fn made(&self) -> Option<&str> {
        match (&self.action, &self.outcome) {
            (Action::Create { .. }, Outcome::Done { container }) => container.as_deref(),
            _ => None,
        }
    }

    fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done { .. })
    }

    /// Whether it may have had an effect: a failure says nothing of what happened before it.
    fn may_be_done(&self) -> bool {
        match &self.outcome {
            Outcome::Done { .. } | Outcome::Unknown => true,
            Outcome::Refused { status, .. } => *status >= 500,
        }
    }
}

/// A placement of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its request id.
    pub request: String,
    /// The container's name.
    pub name: String,
    /// The node's name.
    pub node: String,
    /// The container's whole id, if it is bound to one.
    pub container: Option<String>,
}

/// A container of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Existing {
    /// Its whole id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its request id, if the cluster made it. Copies of our labels on a stranger's container are no request id.
    pub request: Option<String>,
}

/// What one engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The node's name.
    pub node: String,
    /// All its containers.
    pub containers: Vec<Existing>,
}

/// Lists what is wrong, in sentences; nothing if all is well.
pub fn check(history: &[Operation], placements: &[Placed], engines: &[Contents]) -> Vec<String> {
    let mut wrong = contents(engines);
    wrong.extend(promises(placements, engines));
    wrong.extend(acknowledged(history, placements, engines));
    wrong.extend(names_in_turn(history));
    wrong
}

/// What must hold of engines at every moment: no request has two containers.
pub fn contents(engines: &[Contents]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = BTreeMap::new();
    for (node, container) in containers(engines) {
        let Some(request) = &container.request else {
            continue;
        };
        if let Some(other) = seen.insert(request, node) {
            wrong.push(format!(
                "request {request} has a container on {other} and one on {node}"
            ));
        }
    }
    wrong
}

fn containers(engines: &[Contents]) -> impl Iterator<Item = (&String, &Existing)> {
    engines.iter().flat_map(|engine| {
        engine
            .containers
            .iter()
            .map(|container| (&engine.node, container))
    })
}

/// Each promise has its container, each container of ours its promise, and no two of ours share a name.
fn promises(placements: &[Placed], engines: &[Contents]) -> Vec<String> {
    let mut wrong = Vec::new();
    let by_request: BTreeMap<_, _> = placements.iter().map(|p| (&p.request, p)).collect();
    let mut names = BTreeMap::new();
    for (node, container) in containers(engines) {
        let Some(request) = &container.request else {
            continue;
        };
        let (id, name) = (short(&container.id), &container.name);
        if let Some(other) = names.insert(name, id) {
            wrong.push(format!("{other} and {id} are both called {name}"));
        }
        match by_request.get(request) {
            None => wrong.push(format!("{name} ({id}) on {node} was promised to nobody")),
            Some(placed) if placed.container.as_ref() != Some(&container.id) => {
                wrong.push(format!(
                    "the promise of {name} is not bound to {id} on {node}"
                ));
            }
            Some(placed) if placed.node != *node => {
                wrong.push(format!(
                    "{name} ({id}) is on {node} and promised on {}",
                    placed.node
                ));
            }
            Some(placed) if placed.name != *name => {
                wrong.push(format!(
                    "{id} is called {name} and promised as {}",
                    placed.name
                ));
            }
            Some(_) => {}
        }
    }
    let existing: BTreeSet<_> = containers(engines).map(|(_, c)| &c.id).collect();
    for placed in placements {
        match &placed.container {
            None => wrong.push(format!("{} is reserved, and nobody makes it", placed.name)),
            Some(id) if !existing.contains(id) => {
                let (name, id) = (&placed.name, short(id));
                wrong.push(format!("{name} is bound to {id}, which does not exist"));
            }
            Some(_) => {}
        }
    }
    wrong
}

/// What was made and not removed is there, what was removed is not.
fn acknowledged(history: &[Operation], placements: &[Placed], engines: &[Contents]) -> Vec<String> {
    let mut wrong = Vec::new();
    let found = |id: &str| {
        containers(engines)
            .filter(|(_, container)| container.id == id)
            .map(|(_, container)| container)
            .collect::<Vec<_>>()
    };
    let removals = |id: &str| {
        let of = |operation: &&Operation| matches!(&operation.action, Action::Remove { container } if container == id);
        history.iter().filter(of).collect::<Vec<_>>()
    };
    for create in history {
        let Some(id) = create.made() else { continue };
        let Action::Create { name, auto_remove } = &create.action else {
            continue;
        };
        let (found, removals) = (found(id), removals(id));
        let shown = name.as_deref().unwrap_or("a container without a name");
        if removals.iter().any(|removal| removal.is_done()) {
            if !found.is_empty()
                || placements
                    .iter()
                    .any(|p| p.container.as_deref() == Some(id))
            {
                wrong.push(format!("{shown} ({}) was removed and is there", short(id)));
            }
            continue;
        }
        let may_be_gone = *auto_remove || removals.iter().any(|removal| removal.may_be_done());
        match found.as_slice() {
            [] if may_be_gone => {}
            [] => wrong.push(format!("{shown} ({}) was made and is not there", short(id))),
            [container] => {
                let renamed = history.iter().filter(|operation| operation.may_be_done());
                let renamed = renamed.filter_map(|operation| match &operation.action {
                    Action::Rename {
                        container,
                        new_name,
                    } if container == id => Some(new_name),
                    _ => None,
                });
                let known: BTreeSet<_> = name.iter().chain(renamed).collect();
                if name.is_some() && !known.contains(&container.name) {
                    wrong.push(format!(
                        "{shown} ({}) is called {}",
                        short(id),
                        container.name
                    ));
                }
            }
            _ => wrong.push(format!(
                "{shown} ({}) is there {} times",
                short(id),
                found.len()
            )),
        }
    }
    wrong
}

/// A name goes to a second container only after the first one may have let go of it.
fn names_in_turn(history: &[Operation]) -> Vec<String> {
    let mut wrong = Vec::new();
    let lets_go = |id: &str, before: u64| {
        history.iter().any(|operation| {
            let of = match &operation.action {
                Action::Remove { container } | Action::Rename { container, .. } => container == id,
                Action::Create { .. } | Action::Other => false,
            };
            of && operation.may_be_done() && operation.begun < before
        })
    };
    let made = |operation: &Operation| match (&operation.action, operation.made()) {
        (
            Action::Create {
                name: Some(name),
                auto_remove,
            },
            Some(id),
        ) => Some((name.clone(), *auto_remove, id.to_owned())),
        _ => None,
    };
    for first in history {
        let Some((name, auto_remove, id)) = made(first) else {
            continue;
        };
        if auto_remove {
            continue;
        }
        for second in history.iter().filter(|second| second.begun > first.ended) {
            let Some((again, _, other)) = made(second) else {
                continue;
            };
            if again == name && other != id && !lets_go(&id, second.ended) {
                let (id, other) = (short(&id), short(&other));
                wrong.push(format!("{name} was given to {other} while {id} had it"));
            }
        }
    }
    wrong
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `history`: `create web=1`, `remove 1`, `rename 1 site`, each followed by `!` if refused, `?` if unknown or `5` for a
    /// server's error; `placements` and `engines`: `web=1@n1`, with `web=-@n1` for a reservation.
    fn verdict(history: &str, placements: &str, engines: &str) -> String {
        let mut order = 0;
        let operations: Vec<_> = history
            .split(", ")
            .filter(|text| !text.is_empty())
            .map(|text| {
                order += 2;
                operation(text, order)
            })
            .collect();
        let placed = |text: &str| {
            let (name, rest) = text.split_once('=').expect("name=");
            let (id, node) = rest.split_once('@').expect("@node");
            Placed {
                request: format!("r{}", if id == "-" { name } else { id }),
                name: name.to_owned(),
                node: node.to_owned(),
                container: (id != "-").then(|| id.to_owned()),
            }
        };
        let placements: Vec<_> = placements.split_whitespace().map(placed).collect();
        let mut contents = BTreeMap::<String, Vec<Existing>>::new();
        for found in engines.split_whitespace().map(placed) {
            contents.entry(found.node).or_default().push(Existing {
                id: found.container.expect("an id"),
                name: found.name,
                request: Some(found.request),
            });
        }
        let engines: Vec<_> = contents
            .into_iter()
            .map(|(node, containers)| Contents { node, containers })
            .collect();
        check(&operations, &placements, &engines).join("; ")
    }

    fn operation(text: &str, begun: u64) -> Operation {
        let (text, outcome) = match text.strip_suffix(['!', '?', '5']) {
            Some(rest) if text.ends_with('?') => (rest, Some(Outcome::Unknown)),
            Some(rest) => {
                let status = if text.ends_with('5') { 503 } else { 409 };
                let message = String::new();
                (rest, Some(Outcome::Refused { status, message }))
            }
            None => (text, None),
        };
        let words: Vec<_> = text.split(' ').collect();
        let (action, container) = match words.as_slice() {
            ["create", made] | ["run", made] => {
                let (name, id) = made.split_once('=').expect("name=id");
                let action = Action::Create {
                    name: Some(name.to_owned()),
                    auto_remove: words[0] == "run",
                };
                (action, Some(id.to_owned()))
            }
            ["remove", id] => {
                let container = (*id).to_owned();
                (Action::Remove { container }, None)
            }
            ["rename", id, new_name] => {
                let (container, new_name) = ((*id).to_owned(), (*new_name).to_owned());
                (
                    Action::Rename {
                        container,
                        new_name,
                    },
                    None,
                )
            }
            other => panic!("no such operation: {other:?}"),
        };
        Operation {
            begun,
            ended: begun + 1,
            action,
            outcome: outcome.unwrap_or(Outcome::Done { container }),
        }
    }

    fn check_that(history: &str, placements: &str, engines: &str, expected: &str) {
        assert_eq!(verdict(history, placements, engines), expected, "{history}");
    }

    #[test]
    fn what_was_made_is_there_until_it_may_have_been_removed() {
        check_that("create web=1", "web=1@n1", "web=1@n1", "");
        check_that("create web=1", "", "", "web (1) was made and is not there");
        check_that("create web=1?", "", "", "");
        check_that("create web=1, remove 1", "", "", "");
        check_that("create web=1, remove 1?", "", "", "");
        check_that("create web=1, remove 15", "", "", "");
        check_that(
            "create web=1, remove 1!",
            "",
            "",
            "web (1) was made and is not there",
        );
        check_that("run web=1", "", "", "");
        check_that(
            "create web=1, remove 1",
            "web=1@n1",
            "web=1@n1",
            "web (1) was removed and is there",
        );
        check_that("create web=1, rename 1 site", "site=1@n1", "site=1@n1", "");
        check_that(
            "create web=1, rename 1 site!",
            "site=1@n1",
            "site=1@n1",
            "web (1) is called site",
        );
    }

    #[test]
    fn promises_and_containers_belong_together() {
        check_that("", "web=-@n1", "", "web is reserved, and nobody makes it");
        check_that(
            "",
            "web=1@n1",
            "",
            "web is bound to 1, which does not exist",
        );
        check_that("", "", "web=1@n1", "web (1) on n1 was promised to nobody");
        check_that(
            "",
            "web=1@n2",
            "web=1@n1",
            "web (1) is on n1 and promised on n2",
        );
        check_that(
            "",
            "site=1@n1",
            "web=1@n1",
            "1 is called web and promised as site",
        );
        check_that(
            "",
            "web=1@n1 web=2@n2",
            "web=1@n1 web=2@n2",
            "1 and 2 are both called web",
        );
        check_that(
            "",
            "web=1@n1",
            "web=1@n1 site=1@n2",
            "request r1 has a container on n1 and one on n2; site (1) is on n2 and promised on n1",
        );
    }

    #[test]
    fn a_name_has_one_holder_at_a_time() {
        let both = ("web=2@n1", "web=2@n1");
        check_that("create web=1, remove 1, create web=2", both.0, both.1, "");
        check_that("create web=1, remove 1?, create web=2", both.0, both.1, "");
        check_that("run web=1, create web=2", both.0, both.1, "");
        check_that(
            "create web=1, create web=2, remove 1",
            both.0,
            both.1,
            "web was given to 2 while 1 had it",
        );
    }
}
