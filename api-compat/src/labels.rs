//! The labels that mark an object as ours, the one that clients see in their place, and those by which users say something of a
//! container.

use crate::error::ApiError;
use crate::filters::Filters;
use crate::generic;
use crate::json_view::View;

/// What all labels of ours begin with.
const OURS: &str = "com.flotilla.";

/// The request that made the container: taken out of what clients see.
pub const ID: &str = "com.flotilla.id";
/// The cluster that made the container: taken out of what clients see.
pub const CLUSTER: &str = "com.flotilla.cluster";
/// The cluster's id of a network, on the engine's network that it is made of: taken out of what clients see.
pub const NETWORK: &str = "com.flotilla.network";
/// Marks the image of nothing that takes a tag with it from another image: never shown.
pub const NOTHING: &str = "com.flotilla.nothing";
/// What containers, networks and volumes of one compose project have in common.
pub const GROUP: &str = "com.docker.compose.project";
/// The node of a container: shown in lists, never stored.
pub const NODE: &str = "com.flotilla.node";

/// Constraints of a container, with semicolons between.
pub const CONSTRAINT: &str = "com.flotilla.constraint";
/// Affinities of a container, with semicolons between.
pub const AFFINITY: &str = "com.flotilla.affinity";
/// Which strategy is to place a container.
pub const STRATEGY: &str = "com.flotilla.strategy";
/// Containers with the same value share the entry of a published port at the managers.
pub const ENTRY: &str = "com.flotilla.entry";
/// Marks a container that compose makes to take another one's place.
pub const COMPOSE_REPLACE: &str = "com.docker.compose.replace";
/// The service of a container, as compose writes it.
const COMPOSE_SERVICE: &str = "com.docker.compose.service";

/// With whom a container of these labels shares the entry of its published ports: all of one [`ENTRY`], or of one service of a
/// compose project.
pub fn entry_group(label: impl Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(entry) = label(ENTRY).filter(|entry| !entry.is_empty()) {
        return Some(format!("entry {entry}"));
    }
    Some(format!(
        "compose {}/{}",
        label(GROUP)?,
        label(COMPOSE_SERVICE)?
    ))
}

/// Whether clients must not see this label: they compare labels exactly.
pub fn is_hidden(name: &str) -> bool {
    name == ID || name == CLUSTER || name == NETWORK
}

/// What a label may be that says something of a container, beside those that say how much it claims.
const OF_CONTAINERS: [&str; 4] = [CONSTRAINT, AFFINITY, STRATEGY, ENTRY];
/// Labels of ours that say something of something else.
const OF_OTHERS: [(&str, &str); 3] = [
    ("com.flotilla.slots", "nodes"),
    ("com.flotilla.builder", "engines"),
    ("com.flotilla.volume", "volumes"),
];
/// How a person writes a label that says how much a container claims.
const RESOURCE: &str = "com.flotilla.resource.NAME";
/// So many letters off, a name is a slip for another.
const SLIP: usize = 3;

/// Refuses a label of ours that would have no effect on a container, such as `com.flotilla.constraints`. Those that clients
/// are shown may come back with a copy of a container.
pub fn check_of_container(label: &str) -> Result<(), ApiError> {
    if !label.starts_with(OURS)
        || OF_CONTAINERS.contains(&label)
        || label == NODE
        || is_hidden(label)
        || generic::resource(label).is_some()
    {
        return Ok(());
    }
    let refusal = |why: String| {
        let message = format!("the label {label} would have no effect on a container: {why}");
        Err(ApiError::bad_parameter(message))
    };
    if let Some((_, kind)) = OF_OTHERS.iter().find(|(other, _)| *other == label) {
        return refusal(format!("it is one for {kind}"));
    }
    let known = || OF_CONTAINERS.into_iter().chain([RESOURCE]);
    // Of `resource.NAME` the name is anybody's.
    let word = |label: &str| {
        label[OURS.len()..]
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    let near = known().map(|other| (distance(&word(label), &word(other)), other));
    match near.min().filter(|(letters, _)| *letters <= SLIP) {
        Some((_, near)) => refusal(format!("did you mean {near}?")),
        None => refusal(format!(
            "those of containers are {}",
            known().collect::<Vec<_>>().join(", ")
        )),
    }
}

/// How many letters have to be put in, taken out or changed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.bytes().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], line + 1);
        for (column, wanted) in other.bytes().enumerate() {
            let changed = corner + usize::from(letter != wanted);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Whether every value of the filter `key` (`name` or `name=value`) holds for an object of labels.
pub(crate) fn all_hold(filters: &Filters, key: &str, labels: Option<View<'_>>) -> bool {
    let label = |name: &str| {
        let mut pairs = labels?.string_pairs();
        pairs.find(|(key, _)| key == name).map(|(_, value)| value)
    };
    filters.get(key).all(|wanted| match wanted.split_once('=') {
        Some((name, value)) => label(name).is_some_and(|found| found == value),
        None => label(wanted).is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_of_ours_has_an_effect_or_is_refused() {
        for label in [
            "zone",
            "com.example.constraints",
            "com.flotillas.x",
            CONSTRAINT,
            AFFINITY,
            STRATEGY,
            ENTRY,
            "com.flotilla.resource.tpu",
            "com.flotilla.resource.a.b",
            // What lists and inspects of containers show, and images that were made of containers.
            NODE,
            ID,
            CLUSTER,
            NETWORK,
        ] {
            assert_eq!(check_of_container(label), Ok(()), "{label}");
        }
        let check = |label: &str, why: &str| {
            let said = check_of_container(label).map_err(|error| error.message);
            let expected = format!("the label {label} would have no effect on a container: {why}");
            assert_eq!(said, Err(expected));
        };
        let mean = |label: &str, near: &str| check(label, &format!("did you mean {near}?"));
        mean("com.flotilla.constraints", CONSTRAINT);
        mean("com.flotilla.constrain", CONSTRAINT);
        mean("com.flotilla.affinities", AFFINITY);
        mean("com.flotilla.Strategy", STRATEGY);
        mean("com.flotilla.entry.x", ENTRY);
        mean("com.flotilla.resource.", RESOURCE);
        mean("com.flotilla.resources.gpu", RESOURCE);
        check("com.flotilla.slots", "it is one for nodes");
        check("com.flotilla.volume", "it is one for volumes");
        let all = "those of containers are com.flotilla.constraint, com.flotilla.affinity, com.flotilla.strategy, \
                   com.flotilla.entry, com.flotilla.resource.NAME";
        check("com.flotilla.zone", all);
        check("com.flotilla.", all);
        check("com.flotilla.ü", all);
    }

    #[test]
    fn slips_are_counted_by_letters() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("constraints", "constraint", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
