//! Nodes as people read them: one line each, and what `--filter` leaves.
//!
//! **Invariant**: the text follows from the nodes and the time alone.

use jiff::Timestamp;

use crate::api::{Generic, Node, Resources, State};
use crate::model::resources::{Kind, Memory};

/// A condition of `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    key: Key,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Status,
    Availability,
    Label,
}

impl Filter {
    /// Reads `KEY=VALUE`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` must be name=, status=, availability= or label= with a value, as in status=down"
            )
        };
        let (key, value) = text.split_once('=').ok_or_else(wrong)?;
        let key = match key {
            "name" => Key::Name,
            "status" => Key::Status,
            "availability" => Key::Availability,
            "label" => Key::Label,
            _ => return Err(wrong()),
        };
        Ok(Self {
            key,
            value: value.to_owned(),
        })
    }

    fn holds(&self, node: &Node) -> bool {
        match self.key {
            Key::Name => node.spec.name.as_deref() == Some(&self.value),
            Key::Status => word(node.status.state).eq_ignore_ascii_case(&self.value),
            Key::Availability => node.spec.availability.to_string() == self.value,
            Key::Label => has_label(node, &self.value),
        }
    }
}

/// Whether all filters hold; of several with one key one must, but for labels, as in Docker's lists.
pub(super) fn is_wanted(node: &Node, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| {
        let same = |other: &&Filter| other.key == filter.key && filter.key != Key::Label;
        filter.holds(node) || filters.iter().filter(same).any(|other| other.holds(node))
    })
}

/// A label of the node or of its engine: `KEY`, or `KEY=VALUE`.
fn has_label(node: &Node, wanted: &str) -> bool {
    let (key, value) = match wanted.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (wanted, None),
    };
    let engine = node.description.as_ref().map(|it| &it.engine.labels);
    let found = std::iter::once(&node.spec.labels)
        .chain(engine)
        .find_map(|labels| labels.get(key));
    found.is_some_and(|found| value.is_none_or(|value| value == found))
}

/// The table of `flotilla node ls`. What nodes have beside CPU and memory, and labels, are shown if any node has some.
pub(super) fn table(nodes: &[Node], now: Timestamp) -> String {
    let mut rows = vec![
        [
            "NAME",
            "STATUS",
            "AVAILABILITY",
            "CONTAINERS",
            "CPUS",
            "MEMORY",
            "RESOURCES",
            "ENGINE",
            "ENDPOINT",
            "LABELS",
        ]
        .map(str::to_owned),
    ];
    rows.extend(nodes.iter().map(|node| row(node, now)));
    let is_shown = |column: usize| match rows[0][column].as_str() {
        "RESOURCES" => nodes.iter().any(|node| !node.generic.is_empty()),
        "LABELS" => nodes.iter().any(|node| !node.spec.labels.is_empty()),
        _ => true,
    };
    let columns: Vec<usize> = (0..rows[0].len())
        .filter(|column| is_shown(*column))
        .collect();
    aligned(&rows, &columns)
}

fn row(node: &Node, now: Timestamp) -> [String; 10] {
    let endpoint = node.endpoint.clone();
    let (Some(name), Some(description)) = (&node.spec.name, &node.description) else {
        let nothing = || "-".to_owned();
        return [
            nothing(),
            status(node, now),
            nothing(),
            nothing(),
            nothing(),
            nothing(),
            nothing(),
            nothing(),
            endpoint,
            String::new(),
        ];
    };
    let has = description.allocatable.unwrap_or(description.resources);
    let labels = node.spec.labels.iter();
    let labels: Vec<_> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    [
        name.clone(),
        status(node, now),
        node.spec.availability.to_string(),
        format!("{} ({} running)", node.containers, node.running),
        cpus(node.reserved, has),
        format!(
            "{} / {}",
            Memory(node.reserved.memory_bytes),
            Memory(has.memory_bytes)
        ),
        generic(node),
        description.engine.engine_version.clone(),
        endpoint,
        labels.join(","),
    ]
}

/// `gpu 1 / 4`
fn generic(node: &Node) -> String {
    let all = node.generic.iter();
    let all: Vec<_> = all
        .map(|(name, Generic { reserved, total })| format!("{name} {reserved} / {total}"))
        .collect();
    match all.is_empty() {
        true => "-".to_owned(),
        false => all.join(", "),
    }
}

fn cpus(reserved: Resources, has: Resources) -> String {
    let cpus = |nanos| Kind::Cpu.amount(nanos);
    format!("{} / {}", cpus(reserved.cpu_nanos), cpus(has.cpu_nanos))
}

/// `Ready`, `Down 41s ago: connection refused`.
fn status(node: &Node, now: Timestamp) -> String {
    let word = word(node.status.state);
    let since = match (node.status.state, node.last_seen) {
        (State::Down, Some(seen)) => format!(" {} ago", age(now.duration_since(seen).as_secs())),
        _ => String::new(),
    };
    match node.status.message.as_str() {
        "" => format!("{word}{since}"),
        // What to do about it stands behind the colon: `inspect` and `docker info` have room for that.
        message => {
            let what = message.split(": ").next().unwrap_or(message);
            format!("{word}{since}: {what}")
        }
    }
}

const fn word(state: State) -> &'static str {
    match state {
        State::Ready => "Ready",
        State::Suspect => "Suspect",
        State::Down => "Down",
        State::Joining => "Joining",
    }
}

/// `41s`, `3m`, `7h`, `12d`: the largest unit is enough.
fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [(86_400, "d"), (3_600, "h"), (60, "m")];
    match units.iter().find(|(unit, _)| seconds >= 2 * unit) {
        Some((unit, letter)) => format!("{}{letter}", seconds / unit),
        None => format!("{seconds}s"),
    }
}

/// These columns, as wide as their widest cell, three blanks between them, none at the end of a line.
fn aligned<const N: usize>(rows: &[[String; N]], columns: &[usize]) -> String {
    let width = |column: &usize| {
        let cells = rows.iter().map(|row| row[*column].chars().count());
        (*column, cells.max().unwrap_or_default())
    };
    let widths: Vec<_> = columns.iter().map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, width) in &widths {
            line.push_str(&format!("{:<width$}   ", row[*column]));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Description, Engine, Spec, Status};
    use crate::model::Availability;
    use std::collections::BTreeMap;

    fn node(name: &str, state: State, message: &str) -> Node {
        Node {
            id: Some("1".repeat(32)),
            spec: Spec {
                name: Some(name.to_owned()),
                ..Spec::default()
            },
            description: Some(Description {
                resources: Resources {
                    cpu_nanos: 2_000_000_000,
                    memory_bytes: 8 << 30,
                },
                engine: Engine {
                    engine_version: "28.5.2".to_owned(),
                    labels: [("disk".to_owned(), "ssd".to_owned())].into(),
                },
                ..Description::default()
            }),
            status: Status {
                state,
                message: message.to_owned(),
                addr: None,
            },
            endpoint: format!("tcp://{name}:2375"),
            containers: 3,
            running: 2,
            reserved: Resources {
                cpu_nanos: 500_000_000,
                memory_bytes: 512 << 20,
            },
            generic: BTreeMap::new(),
            counted: true,
            last_seen: Some(Timestamp::UNIX_EPOCH),
        }
    }

    fn joining() -> Node {
        Node {
            id: None,
            spec: Spec::default(),
            description: None,
            ..node("late", State::Joining, "no route to host")
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    #[test]
    fn a_table_is_aligned_and_says_what_is_wrong() {
        let nodes = [
            node("alpha", State::Ready, ""),
            node("b", State::Down, "connection refused: does it run?"),
            joining(),
        ];
        let expected = "\
NAME    STATUS                             AVAILABILITY   CONTAINERS      CPUS      MEMORY          ENGINE   ENDPOINT
alpha   Ready                              active         3 (2 running)   0.5 / 2   512MiB / 8GiB   28.5.2   tcp://alpha:2375
b       Down 41s ago: connection refused   active         3 (2 running)   0.5 / 2   512MiB / 8GiB   28.5.2   tcp://b:2375
-       Joining: no route to host          -              -               -         -               -        tcp://late:2375
";
        assert_eq!(table(&nodes, at(41)), expected);
    }

    #[test]
    fn labels_are_shown_if_there_are_any() {
        let mut labelled = node("a", State::Ready, "");
        labelled.spec.labels = [("zone".to_owned(), "b".to_owned())].into();
        labelled.spec.availability = Availability::Drain;
        let text = table(&[labelled, node("b", State::Ready, "")], at(0));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].ends_with("ENDPOINT       LABELS"), "{text}");
        assert!(
            lines[1].contains(" drain ") && lines[1].ends_with("tcp://a:2375   zone=b"),
            "{text}"
        );
        assert!(lines[2].ends_with("tcp://b:2375"), "{text}");
    }

    #[test]
    fn gpus_are_shown_if_there_are_any() {
        let mut with_gpus = node("a", State::Ready, "");
        let generic = |reserved, total| Generic { reserved, total };
        with_gpus.generic = [("fpga", generic(0, 1)), ("gpu", generic(1, 4))]
            .map(|(name, generic)| (name.to_owned(), generic))
            .into();
        let text = table(&[with_gpus, node("b", State::Ready, "")], at(0));
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].contains("MEMORY          RESOURCES               ENGINE"),
            "{text}"
        );
        assert!(
            lines[1].contains("8GiB   fpga 0 / 1, gpu 1 / 4   28.5.2"),
            "{text}"
        );
        assert!(
            lines[2].contains("8GiB   -                       28.5.2"),
            "{text}"
        );
    }

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [
            (-3, "0s"),
            (41, "41s"),
            (119, "119s"),
            (120, "2m"),
            (7200, "2h"),
            (172_800, "2d"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn filters_leave_what_is_wanted() {
        let nodes = [
            node("alpha", State::Ready, ""),
            node("b", State::Down, "refused"),
            joining(),
        ];
        let left = |filters: &[&str]| {
            let filters: Vec<_> = filters
                .iter()
                .map(|text| Filter::read(text).expect(text))
                .collect();
            let left = nodes.iter().filter(|node| is_wanted(node, &filters));
            left.map(|node| node.endpoint[6..].replace(":2375", ""))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(left(&[]), "alpha b late");
        assert_eq!(left(&["name=b"]), "b");
        assert_eq!(left(&["status=down", "status=Joining"]), "b late");
        assert_eq!(left(&["status=down", "name=alpha"]), "");
        assert_eq!(left(&["label=disk"]), "alpha b");
        assert_eq!(left(&["label=disk=ssd", "label=disk=hdd"]), "");
        assert_eq!(left(&["availability=pause"]), "");
        for wrong in ["name", "state=down", "=x"] {
            let said = Filter::read(wrong).expect_err(wrong);
            assert!(said.ends_with("as in status=down"), "{said}");
        }
    }
}
