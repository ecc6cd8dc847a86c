//! The constraints of the user must hold for the node; soft ones give way when no node meets them.

use std::borrow::Cow;

use api_compat::constraint::{Constraint, Key};

use super::{Candidate, Reason, Request};

pub(super) fn passes(request: &Request, candidate: &Candidate) -> bool {
    unmet(request, candidate).is_none()
}

pub(super) fn reason(request: &Request, candidate: &Candidate) -> Option<Reason> {
    let constraint = unmet(request, candidate)?;
    Some(Reason::Constraint {
        constraint: constraint.to_string(),
        key: constraint.key().to_string(),
        value: shown(constraint.key(), candidate),
    })
}

/// The first constraint that does not hold.
fn unmet<'a>(request: &'a Request, candidate: &Candidate) -> Option<&'a Constraint> {
    let mut hard = request.constraints.iter().filter(|one| !one.is_soft());
    hard.find(|constraint| !holds(constraint, candidate))
}

/// How many soft constraints do not hold.
pub(super) fn broken(request: &Request, candidate: &Candidate) -> usize {
    let soft = request.constraints.iter().filter(|one| one.is_soft());
    soft.filter(|constraint| !holds(constraint, candidate))
        .count()
}

fn holds(constraint: &Constraint, candidate: &Candidate) -> bool {
    let traits = &candidate.traits;
    // Labels are what nearly all ask for: they are compared where they are.
    let label = match constraint.key() {
        Key::NodeLabel(name) => traits.node_labels.get(name),
        Key::EngineLabel(name) => traits.engine_labels.get(name),
        Key::Bare(name) => labelled(name, candidate),
        Key::Node
        | Key::NodeId
        | Key::Hostname
        | Key::Address
        | Key::Role
        | Key::Os
        | Key::Arch => None,
    };
    if let Some(label) = label {
        return constraint.allows(&[label]);
    }
    let values = values(constraint.key(), candidate);
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    constraint.allows(&values)
}

/// A label of the node, else of its engine, else what the engine says of itself under this name.
fn labelled<'a>(name: &str, candidate: &'a Candidate) -> Option<&'a String> {
    let traits = &candidate.traits;
    let labels = [&traits.node_labels, &traits.engine_labels, &traits.says];
    labels.into_iter().find_map(|labels| labels.get(name))
}

/// What the node says where the key asks; nothing if it says nothing there.
fn values<'a>(key: &Key, candidate: &'a Candidate) -> Vec<Cow<'a, str>> {
    let traits = &candidate.traits;
    let one = |value: Option<&'a String>| {
        value
            .map(|value| value.as_str().into())
            .into_iter()
            .collect()
    };
    let id = || Cow::from(candidate.node.to_string());
    match key {
        Key::Node => vec![candidate.name.as_str().into(), id()],
        Key::NodeId => vec![id()],
        Key::Hostname => vec![
            traits.hostname.as_str().into(),
            candidate.name.as_str().into(),
        ],
        Key::Address => one(traits.address.as_ref()),
        // Every engine is a worker; managers are no nodes.
        Key::Role => vec!["worker".into()],
        Key::Os => one(candidate.platform.as_ref().map(|platform| &platform.os)),
        Key::Arch => arch(candidate),
        Key::NodeLabel(name) => one(traits.node_labels.get(name)),
        Key::EngineLabel(name) => one(traits.engine_labels.get(name)),
        Key::Bare(name) => bare(name, candidate),
    }
}

/// What [`labelled`] says, else the node's platform.
fn bare<'a>(name: &str, candidate: &'a Candidate) -> Vec<Cow<'a, str>> {
    if let Some(value) = labelled(name, candidate) {
        return vec![value.as_str().into()];
    }
    match name {
        "os" => candidate
            .platform
            .iter()
            .map(|platform| platform.os.as_str().into())
            .collect(),
        "arch" | "architecture" => arch(candidate),
        _ => Vec::new(),
    }
}

/// The architecture, by all of its names.
fn arch(candidate: &Candidate) -> Vec<Cow<'_, str>> {
    let Some(platform) = &candidate.platform else {
        return Vec::new();
    };
    let machine = match platform.arch.as_str() {
        "amd64" => Some("x86_64"),
        "arm64" => Some("aarch64"),
        "386" => Some("i686"),
        _ => None,
    };
    let arch = std::iter::once(platform.arch.as_str()).chain(machine);
    arch.map(Cow::from).collect()
}

/// The value as a refusal shows it; none where the node is named anyway.
fn shown(key: &Key, candidate: &Candidate) -> Option<String> {
    if *key == Key::Node {
        return None;
    }
    let value = values(key, candidate).into_iter().next();
    Some(value.map_or_else(|| "unset".to_owned(), Cow::into_owned))
}
