//! Which volumes a list shows, and by what names: those that nodes list, and records that nothing on any node
//! belongs to.
//!
//! **Invariant**: no name is shown twice, and none that has a record is taken for another's of the same name.

use std::collections::{BTreeMap, BTreeSet};

/// Where the record of a name says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// On no node so far.
    Unbound,
    /// On this node, by its place among the nodes; on one that is not listed otherwise.
    On(Option<usize>),
    /// The same on every node.
    Shared,
    /// One on each node.
    PerNode,
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// What it is made of.
    pub(super) source: Source,
    /// What it is called.
    pub(super) shown_as: String,
}

/// What a line is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// What a node lists: its place in the list.
    Listed(usize),
    /// The record of that name.
    Record,
}

/// The lines of a list. `listed` are volumes as nodes list them, each with the place of its node in `nodes`; those of
/// healthy nodes come first. Those that are `due` are to be removed from their node. Where several nodes have an unrecorded one of a name, the node is put before it.
pub(super) fn rows(
    listed: &[(usize, &str)],
    due: &BTreeSet<(usize, &str)>,
    nodes: &[&str],
    records: &BTreeMap<&str, Place>,
) -> Vec<Row> {
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    let is_there = |volume: &&(usize, &str)| !due.contains(*volume);
    for (_, name) in listed.iter().filter(is_there) {
        *holders.entry(name).or_default() += 1;
    }
    let qualified = |node: usize, name: &str| match nodes.get(node) {
        Some(node) => format!("{node}/{name}"),
        None => name.to_owned(),
    };
    let mut shown = BTreeSet::new();
    let mut rows = Vec::new();
    for (at, volume) in listed.iter().enumerate() {
        if due.contains(volume) {
            continue;
        }
        let (node, name) = volume;
        let is_one_of_several = holders.get(name).is_some_and(|count| *count > 1);
        let is_the_record = match records.get(name) {
            Some(Place::On(home)) => *home == Some(*node),
            Some(Place::Shared) if shown.contains(name) => continue,
            Some(Place::Shared) => true,
            Some(Place::PerNode) => {
                shown.insert(*name);
                false
            }
            Some(Place::Unbound) | None => {
                shown.insert(*name);
                !is_one_of_several
            }
        };
        let shown_as = if is_the_record {
            shown.insert(*name);
            (*name).to_owned()
        } else {
            qualified(*node, name)
        };
        let source = Source::Listed(at);
        rows.push(Row { source, shown_as });
    }
    let missing = records.keys().filter(|name| !shown.contains(*name));
    rows.extend(missing.map(|name| Row {
        source: Source::Record,
        shown_as: (*name).to_owned(),
    }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [&str; 3] = ["n1", "n2", "n3"];

    /// `listed` are `node/name`, with an exclamation mark if due; what comes of a record ends with a star.
    #[track_caller]
    fn check(listed: &'static str, records: &[(&'static str, Place)], expected: &str) {
        let read = |text: &'static str| {
            let (node, name) = text.split_once('/').expect("node/name");
            let node = NODES.iter().position(|known| *known == node);
            (node.expect("a node"), name.trim_end_matches('!'))
        };
        let due = listed.split_whitespace().filter(|text| text.ends_with('!'));
        let due = due.map(read).collect();
        let listed: Vec<_> = listed.split_whitespace().map(read).collect();
        let records = records.iter().copied().collect();
        let shown: Vec<_> = rows(&listed, &due, &NODES, &records)
            .into_iter()
            .map(|row| match row.source {
                Source::Listed(_) => row.shown_as,
                Source::Record => format!("{}*", row.shown_as),
            })
            .collect();
        assert_eq!(shown.join(" "), expected);
    }

    #[test]
    fn each_volume_is_shown_once() {
        use Place::{On, PerNode, Shared, Unbound};
        check("n1/a n2/b", &[], "a b");
        check("n1/a n2/a n3/b", &[], "n1/a n2/a b");
        check("", &[("a", Unbound)], "a*");
        // Somebody made it on the engine itself: it is that one.
        check("n2/a", &[("a", Unbound)], "a");
        check("n1/a n2/a", &[("a", Unbound)], "n1/a n2/a");
        check("n1/a", &[("a", On(Some(0)))], "a");
        // A stranger's twin does not hide the one that is meant, nor take its name.
        check("n1/a n2/a", &[("a", On(Some(0)))], "a n2/a");
        check("n2/a", &[("a", On(Some(0)))], "n2/a a*");
        check("n2/a", &[("a", On(None))], "n2/a a*");
        check("", &[("a", On(Some(0)))], "a*");
        check("n2/a n3/a", &[("a", Shared)], "a");
        check("", &[("a", Shared), ("b", PerNode)], "a* b*");
        check("n2/b", &[("b", PerNode)], "n2/b");
        check("n1/b n3/b", &[("b", PerNode)], "n1/b n3/b");
        // Removed while its node was down: whatever has the name now is the only one.
        check("n1/a!", &[], "");
        check("n1/a! n2/a", &[], "a");
        check("n1/a!", &[("a", On(Some(1)))], "a*");
    }
}
