//! Accounts for every container: what clients were told, what is promised, and what the engines have must agree.
//!
//! **Invariant**: pure; an answer that never came allows both outcomes, and nothing else does.

use std::collections::{BTreeMap, BTreeSet};

/// What a client asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A container of this name.
    Create {
        /// Its name.
        name: String,
    },
    /// The removal of this container.
    Remove {
        /// Its id.
        id: String,
    },
    /// Another name for this container.
    Rename {
        /// Its id.
        id: String,
        /// The name it is to get.
        name: String,
    },
    /// Its start.
    Start {
        /// Its id.
        id: String,
    },
}

/// What the client was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is done; the container's id.
    Done(String),
    /// It was refused.
    Refused {
        /// The status.
        status: u16,
        /// The words.
        message: String,
    },
    /// Nothing: the connection broke.
    Nothing,
}

/// One request of a client. The requests for one container come from one client, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deed {
    /// What it asked for.
    pub asked: Asked,
    /// What it was told.
    pub told: Told,
}

/// A container on an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct There {
    /// Its node.
    pub node: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The request in its label.
    pub request: String,
}

/// A promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Promised {
    /// Its node.
    pub node: String,
    /// Its container, once bound.
    pub id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its request.
    pub request: String,
}

/// What may have become of a container that a client knows.
#[derive(Debug, Default)]
struct Fate {
    names: BTreeSet<String>,
    removed: bool,
    may_be_removed: bool,
}

/// All that does not add up, a sentence each.
pub(crate) fn discrepancies(deeds: &[Deed], promised: &[Promised], there: &[There]) -> Vec<String> {
    let mut wrong = Vec::new();
    let by_id: BTreeMap<&str, &There> = there.iter().map(|c| (c.id.as_str(), c)).collect();
    twice(
        there.iter().map(|c| c.name.as_str()),
        "containers are called",
        &mut wrong,
    );
    twice(
        there.iter().map(|c| c.request.as_str()),
        "containers were made for request",
        &mut wrong,
    );
    twice(
        promised.iter().map(|p| p.name.as_str()),
        "promises hold the name",
        &mut wrong,
    );
    for promise in promised {
        let held = promise.id.as_deref().and_then(|id| by_id.get(id));
        match (&promise.id, held) {
            (None, _) => wrong.push(format!(
                "the name {} is stuck: promised, and no container",
                promise.name
            )),
            (Some(id), None) => wrong.push(format!(
                "{} is promised as {id}, which is nowhere",
                promise.name
            )),
            (Some(_), Some(there)) => {
                let agrees = there.node == promise.node
                    && there.name == promise.name
                    && there.request == promise.request;
                if !agrees {
                    wrong.push(format!("promised {promise:?}, and there is {there:?}"));
                }
            }
        }
    }
    let bound: BTreeSet<&str> = promised.iter().filter_map(|p| p.id.as_deref()).collect();
    for container in there.iter().filter(|c| !bound.contains(c.id.as_str())) {
        wrong.push(format!("nobody promised {container:?}"));
    }
    for (id, fate) in fates(deeds) {
        match by_id.get(id) {
            Some(_) if fate.removed => wrong.push(format!("{id} was removed and is there")),
            Some(there) if !fate.names.contains(&there.name) => wrong.push(format!(
                "{id} is called {}, and should be one of {:?}",
                there.name, fate.names
            )),
            None if !fate.may_be_removed => wrong.push(format!("{id} is lost: nobody removed it")),
            _ => {}
        }
    }
    wrong
}

fn twice<'a>(all: impl Iterator<Item = &'a str>, what: &str, wrong: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for one in all {
        if !seen.insert(one) {
            wrong.push(format!("two {what} {one}"));
        }
    }
}

fn fates(deeds: &[Deed]) -> BTreeMap<&str, Fate> {
    let mut fates: BTreeMap<&str, Fate> = BTreeMap::new();
    for deed in deeds {
        match (&deed.asked, &deed.told) {
            (Asked::Create { name }, Told::Done(id)) => {
                let fate = fates.entry(id).or_default();
                fate.names.insert(name.clone());
            }
            (Asked::Remove { id }, told) => {
                let fate = fates.entry(id).or_default();
                fate.removed |= matches!(told, Told::Done(_));
                // A 404 does not count: only this client removes it.
                fate.may_be_removed |= !matches!(told, Told::Refused { .. });
            }
            (Asked::Rename { id, name }, told) => {
                let fate = fates.entry(id).or_default();
                match told {
                    Told::Done(_) => fate.names = BTreeSet::from([name.clone()]),
                    Told::Nothing => drop(fate.names.insert(name.clone())),
                    Told::Refused { .. } => {}
                }
            }
            (Asked::Create { .. } | Asked::Start { .. }, _) => {}
        }
    }
    fates
}

/// Tries every rule on a case that breaks it, and on one that does not.
pub(crate) fn prove() -> anyhow::Result<()> {
    let deed = |asked, told| Deed { asked, told };
    let create = |name: &str, id: &str| {
        deed(
            Asked::Create {
                name: name.to_owned(),
            },
            Told::Done(id.to_owned()),
        )
    };
    let remove = |id: &str, told| deed(Asked::Remove { id: id.to_owned() }, told);
    let rename = |id: &str, name: &str, told| {
        deed(
            Asked::Rename {
                id: id.to_owned(),
                name: name.to_owned(),
            },
            told,
        )
    };
    let there = |id: &str, name: &str| There {
        node: "n".to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
        request: format!("r{id}"),
    };
    let promised = |id: Option<&str>, name: &str| Promised {
        node: "n".to_owned(),
        id: id.map(str::to_owned),
        name: name.to_owned(),
        request: format!("r{}", id.unwrap_or("?")),
    };
    let done = || Told::Done(String::new());
    let check =
        |what: &str, deeds: &[Deed], promised: &[Promised], there: &[There], part: Option<&str>| {
            let wrong = discrepancies(deeds, promised, there);
            let as_expected = match part {
                None => wrong.is_empty(),
                Some(part) => wrong.iter().any(|text| text.contains(part)),
            };
            anyhow::ensure!(as_expected, "{what}: {wrong:?}");
            Ok(())
        };
    let (a, kept) = (vec![create("a", "1")], vec![promised(Some("1"), "a")]);
    check("kept", &a, &kept, &[there("1", "a")], None)?;
    check("lost", &a, &[], &[], Some("lost"))?;
    check(
        "unpromised",
        &a,
        &[],
        &[there("1", "a")],
        Some("nobody promised"),
    )?;
    check("nowhere", &a, &kept, &[], Some("nowhere"))?;
    check("stuck", &[], &[promised(None, "a")], &[], Some("stuck"))?;
    let twins = [there("1", "a"), there("2", "a")];
    check(
        "doubled",
        &a,
        &kept,
        &twins,
        Some("two containers are called a"),
    )?;
    let removed = [create("a", "1"), remove("1", done())];
    check("removed", &removed, &[], &[], None)?;
    check(
        "back",
        &removed,
        &kept,
        &[there("1", "a")],
        Some("was removed"),
    )?;
    let unknown = [create("a", "1"), remove("1", Told::Nothing)];
    check("unknown and gone", &unknown, &[], &[], None)?;
    check(
        "unknown and there",
        &unknown,
        &kept,
        &[there("1", "a")],
        None,
    )?;
    let renamed = [create("a", "1"), rename("1", "b", done())];
    let b = [promised(Some("1"), "b")];
    check("renamed", &renamed, &b, &[there("1", "b")], None)?;
    check(
        "not renamed",
        &renamed,
        &kept,
        &[there("1", "a")],
        Some("should be one of"),
    )?;
    let maybe = [create("a", "1"), rename("1", "b", Told::Nothing)];
    check("maybe renamed", &maybe, &b, &[there("1", "b")], None)?;
    check("maybe not", &maybe, &kept, &[there("1", "a")], None)
}
