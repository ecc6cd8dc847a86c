//! The constraints of the user must hold for the node; soft ones give way when no node meets them.

use api_compat::constraint::{Constraint, Key};

use super::{Candidate, Reason, Request};

/// Fails with the first constraint that does not hold.
pub(super) fn check(request: &Request, candidate: &Candidate) -> Result<(), Reason> {
    let mut hard = request.constraints.iter().filter(|one| !one.is_soft());
    match hard.find(|constraint| !holds(constraint, candidate)) {
        None => Ok(()),
        Some(constraint) => Err(Reason::Constraint {
            constraint: constraint.to_string(),
            key: constraint.key().to_string(),
            value: shown(constraint.key(), candidate),
        }),
    }
}

/// How many soft constraints do not hold.
pub(super) fn broken(request: &Request, candidate: &Candidate) -> usize {
    let soft = request.constraints.iter().filter(|one| one.is_soft());
    soft.filter(|constraint| !holds(constraint, candidate))
        .count()
}

fn holds(constraint: &Constraint, candidate: &Candidate) -> bool {
    let values = values(constraint.key(), candidate);
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    constraint.allows(&values)
}

/// What the node says where the key asks; nothing if it says nothing there.
fn values(key: &Key, candidate: &Candidate) -> Vec<String> {
    let traits = &candidate.traits;
    let one = |value: Option<&String>| value.cloned().into_iter().collect();
    match key {
        Key::Node => vec![candidate.name.to_string(), candidate.node.to_string()],
        Key::NodeId => vec![candidate.node.to_string()],
        Key::Hostname => vec![traits.hostname.clone(), candidate.name.to_string()],
        Key::Address => one(traits.address.as_ref()),
        // Every engine is a worker; managers are no nodes.
        Key::Role => vec!["worker".to_owned()],
        Key::Os => platform(candidate).map(|(os, _)| os).unwrap_or_default(),
        Key::Arch => platform(candidate)
            .map(|(_, arch)| arch)
            .unwrap_or_default(),
        Key::NodeLabel(name) => one(traits.node_labels.get(name)),
        Key::EngineLabel(name) => one(traits.engine_labels.get(name)),
        Key::Bare(name) => bare(name, candidate),
    }
}

/// A label of the node, else of its engine, else what the engine says of itself under this name.
fn bare(name: &str, candidate: &Candidate) -> Vec<String> {
    let traits = &candidate.traits;
    let labels = [&traits.node_labels, &traits.engine_labels, &traits.says];
    if let Some(value) = labels.into_iter().find_map(|labels| labels.get(name)) {
        return vec![value.clone()];
    }
    match (name, platform(candidate)) {
        ("os", Some((os, _))) => os,
        ("arch" | "architecture", Some((_, arch))) => arch,
        _ => Vec::new(),
    }
}

/// Operating system and architecture, each by all of its names.
fn platform(candidate: &Candidate) -> Option<(Vec<String>, Vec<String>)> {
    let platform = candidate.platform.as_ref()?;
    let machine = match platform.arch.as_str() {
        "amd64" => Some("x86_64"),
        "arm64" => Some("aarch64"),
        "386" => Some("i686"),
        _ => None,
    };
    let arch = std::iter::once(platform.arch.as_str()).chain(machine);
    Some((vec![platform.os.clone()], arch.map(str::to_owned).collect()))
}

/// The value as a refusal shows it; none where the node is named anyway.
fn shown(key: &Key, candidate: &Candidate) -> Option<String> {
    if *key == Key::Node {
        return None;
    }
    let value = values(key, candidate).into_iter().next();
    Some(value.unwrap_or_else(|| "unset".to_owned()))
}
