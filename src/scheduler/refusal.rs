//! Why a container goes nowhere, node by node, in words for whoever asked.

use std::collections::BTreeSet;
use std::fmt;

use api_compat::ApiVersion;

use crate::model::generic::Scarcity;
use crate::model::{NodeName, Platform, PublishedPort, Shortfall};

/// Why a container goes nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No node that can be reached has the image, and nothing else is in the way: whoever pulls it
    /// can try again.
    NoImage {
        /// The image, as the user wrote it.
        image: String,
    },
    /// Every node fails some filter; ordered by name.
    NoNodeFits(Vec<Unfit>),
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// The nodes that a port alone keeps off, as far as filters were asked, and by whom it is taken: nothing if there are none.
    pub fn ports_taken(&self) -> Option<String> {
        let Self::NoNodeFits(unfit) = self else {
            return None;
        };
        let is_port = |unfit: &&Unfit| matches!(unfit.reason, Reason::Port { .. });
        let unfit: Vec<_> = unfit.iter().filter(is_port).cloned().collect();
        (!unfit.is_empty()).then(|| Grouped(&unfit).to_string())
    }
}

/// A node and the first filter it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The node.
    pub node: NodeName,
    /// Why not.
    pub reason: Reason,
}

/// The filter that a node failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It was never reached.
    Joining,
    /// It was lost.
    Down {
        /// How that was noticed.
        reason: String,
    },
    /// It keeps what it has and takes nothing new.
    Paused,
    /// It gives away what it has.
    Drained,
    /// What its containers claim is not known yet.
    Uncounted,
    /// It is another platform.
    Platform {
        /// What was asked for.
        asked: Platform,
        /// What it is.
        has: Platform,
    },
    /// The user wants another kind of node.
    Constraint {
        /// The constraint as it was written.
        constraint: String,
        /// What it asks for.
        key: String,
        /// What the node has there; none where its name says it all.
        value: Option<String>,
    },
    /// The user wants to be with what is not there, or away from what is.
    Affinity {
        /// The affinity as it was written.
        affinity: String,
        /// Whether it asks to be away.
        negated: bool,
    },
    /// It takes no more containers.
    Slots {
        /// So many are its limit.
        slots: u32,
    },
    /// Its engine does not know a field of the request.
    Feature {
        /// The field.
        field: &'static str,
        /// The API version that it came with.
        since: ApiVersion,
        /// The newest that the engine speaks.
        speaks: ApiVersion,
    },
    /// Something that the container needs is elsewhere.
    Pinned {
        /// Ends the sentence `host3 excluded by …`.
        why: String,
    },
    /// A port is taken.
    Port {
        /// The port.
        port: PublishedPort,
        /// The name of the container that has it.
        by: String,
    },
    /// Too little is left.
    Lacks(Shortfall),
    /// Too little is left of something that nodes have a number of, or it has none.
    Scarce(Scarcity),
    /// It lacks the image.
    Image {
        /// The image.
        image: String,
    },
}

impl Reason {
    /// Whether both can be said in one sentence: the same filter, and the same but for the numbers
    /// and names that the sentence lists.
    fn joins(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Lacks(one), Self::Lacks(other)) => {
                (one.kind, one.need, one.of) == (other.kind, other.need, other.of)
            }
            (Self::Scarce(one), Self::Scarce(other)) => {
                let of = |scarcity: &Scarcity| scarcity.left.map(|left| left.of);
                (&one.name, one.need, of(one)) == (&other.name, other.need, of(other))
            }
            (Self::Port { port, .. }, Self::Port { port: other, .. }) => port == other,
            (
                Self::Constraint { constraint, .. },
                Self::Constraint {
                    constraint: other, ..
                },
            ) => constraint == other,
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unfit = match self {
            Self::NoImage { image } => return write!(f, "no such image: {image}"),
            Self::NoNodeFits(unfit) => unfit,
        };
        f.write_str("no node fits: ")?;
        if unfit.is_empty() {
            return f.write_str("the cluster has no nodes");
        }
        Grouped(unfit).fmt(f)
    }
}

/// Nodes and why each does not fit, those that share a reason in one sentence.
#[derive(Debug)]
pub struct Grouped<'a>(pub &'a [Unfit]);

impl Grouped<'_> {
    /// The sentences, in the order of their first nodes.
    pub fn sentences(&self) -> Vec<String> {
        self.groups()
            .iter()
            .map(|group| Sentence(group).to_string())
            .collect()
    }

    fn groups(&self) -> Vec<Vec<&Unfit>> {
        let mut groups: Vec<Vec<&Unfit>> = Vec::new();
        for unfit in self.0 {
            match groups
                .iter_mut()
                .find(|group| group[0].reason.joins(&unfit.reason))
            {
                Some(group) => group.push(unfit),
                None => groups.push(vec![unfit]),
            }
        }
        groups
    }
}

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentences().join("; "))
    }
}

/// One sentence about nodes that share a reason.
struct Sentence<'a>(&'a [&'a Unfit]);

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        say(f, self.0)
    }
}

fn say(f: &mut fmt::Formatter<'_>, group: &[&Unfit]) -> fmt::Result {
    let names: Vec<_> = group.iter().map(|unfit| unfit.node.as_str()).collect();
    f.write_str(&names.join(", "))?;
    let many = group.len() > 1;
    let are = if many { "are" } else { "is" };
    let lack = if many { "lack" } else { "lacks" };
    match &group[0].reason {
        Reason::Joining => write!(f, " {are} joining"),
        Reason::Down { reason } => write!(f, " {are} down ({reason})"),
        Reason::Paused => write!(f, " {are} paused"),
        Reason::Drained => write!(f, " {are} drained"),
        Reason::Uncounted => write!(f, " {are} still being counted"),
        Reason::Platform { asked, has } => write!(f, " {are} {has}, not {asked}"),
        Reason::Constraint {
            constraint, key, ..
        } => {
            write!(f, " excluded by constraint {constraint}")?;
            match values(group) {
                values if values.is_empty() => Ok(()),
                values => write!(f, " ({key} is {})", values.join(", ")),
            }
        }
        Reason::Affinity { affinity, negated } => {
            let (has, it) = match (negated, many) {
                (false, false) => ("has", "nothing of the kind"),
                (false, true) => ("have", "nothing of the kind"),
                (true, false) => ("has", "it"),
                (true, true) => ("have", "it"),
            };
            write!(f, " excluded by affinity {affinity} ({has} {it})")
        }
        Reason::Slots { slots } => {
            let (has, its) = if many {
                ("have", "their")
            } else {
                ("has", "its")
            };
            write!(f, " {has} all of {its} {slots} slots taken")
        }
        Reason::Feature {
            field,
            since,
            speaks,
        } => {
            let speak = if many { "speak" } else { "speaks" };
            write!(
                f,
                " {speak} API {speaks} at most, and {field} needs {since}"
            )
        }
        Reason::Pinned { why } => write!(f, " excluded by {why}"),
        Reason::Port { port, .. } => {
            let have = if many { "have" } else { "has" };
            write!(f, " {have} port {port} taken (by {})", holders(group))
        }
        Reason::Lacks(short) if many => {
            let Shortfall { kind, need, of, .. } = *short;
            let (need, of) = (kind.need(need), kind.amount(of));
            write!(
                f,
                " {lack} {kind} (need {need}; {} free of {of})",
                amounts(group)
            )
        }
        Reason::Lacks(short) => write!(f, " {lack} {} ({short})", short.kind),
        Reason::Scarce(scarcity) if many => {
            let Scarcity { name, need, left } = scarcity;
            match left {
                Some(left) => write!(
                    f,
                    " lack {name} (need {need}; {} free of {})",
                    amounts(group),
                    left.of
                ),
                None => write!(f, " have no {name}"),
            }
        }
        Reason::Scarce(scarcity) => write!(f, " {scarcity}"),
        Reason::Image { image } => write!(f, " {lack} image {image}"),
    }
}

/// What is left on each node, in the order of the nodes.
fn amounts(group: &[&Unfit]) -> String {
    let amount = |unfit: &&Unfit| {
        if let Reason::Scarce(scarcity) = &unfit.reason {
            return Some(scarcity.left?.free.to_string());
        }
        let Reason::Lacks(short) = unfit.reason else {
            return None;
        };
        Some(short.kind.amount(short.free))
    };
    group
        .iter()
        .filter_map(amount)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What each node has where a constraint asks, in the order of the nodes; once if all have the same.
fn values<'a>(group: &[&'a Unfit]) -> Vec<&'a str> {
    let value = |unfit: &&'a Unfit| {
        let Reason::Constraint { value, .. } = &unfit.reason else {
            return None;
        };
        value.as_deref()
    };
    let mut values: Vec<_> = group.iter().filter_map(value).collect();
    if values.iter().all(|value| *value == values[0]) {
        values.truncate(1);
    }
    values
}

/// The containers that hold a port, each once.
fn holders(group: &[&Unfit]) -> String {
    let mut names = BTreeSet::new();
    for unfit in group {
        if let Reason::Port { by, .. } = &unfit.reason {
            names.insert(by.as_str());
        }
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}
