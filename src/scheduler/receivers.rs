//! Which nodes a pull or a load brings an image to.
//!
//! **Invariant**: the same name goes to the same nodes as long as those are there, and images spread over the pool.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::model::{Availability, NodeId, Platform};

/// Beyond so many nodes not each gets an image that may never be needed there.
const ALL_UP_TO: usize = 16;
/// So many get it then: the pool can lose two and has it still.
const ELSE: usize = 3;

/// How many nodes an image is brought to before a container there needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullTo {
    /// All of a small pool, a few of a large one.
    #[default]
    Auto,
    /// All, however many.
    All,
    /// This many.
    Nodes(usize),
}

/// A node that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// The node.
    pub node: NodeId,
    /// What an operator wants of it.
    pub availability: Availability,
    /// What it runs on.
    pub platform: Option<Platform>,
}

/// The nodes of `all` that get the image called `name`, in the order of `all`. `platforms` are those that the image is
/// made for, if that is known. Nodes that take no work get none, unless there are no others; likewise those of another
/// platform, so that an engine says what is wrong.
pub fn receivers(
    pull_to: PullTo,
    name: &str,
    platforms: &[Platform],
    all: &[Receiver],
) -> Vec<NodeId> {
    let runs_it = |receiver: &&Receiver| {
        let runs = |platform| platforms.contains(platform);
        platforms.is_empty() || receiver.platform.as_ref().is_none_or(runs)
    };
    let is_active = |receiver: &&Receiver| receiver.availability == Availability::Active;
    let mut fit: Vec<&Receiver> = all.iter().collect();
    for wish in [&runs_it as &dyn Fn(&&Receiver) -> bool, &is_active] {
        if fit.iter().any(wish) {
            fit.retain(wish);
        }
    }
    let count = match pull_to {
        PullTo::Auto if fit.len() > ALL_UP_TO => ELSE,
        PullTo::Auto | PullTo::All => fit.len(),
        PullTo::Nodes(count) => count,
    };
    let mut ranked: Vec<NodeId> = fit.iter().map(|receiver| receiver.node).collect();
    ranked.sort_by_cached_key(|node| {
        let mut hasher = DefaultHasher::new();
        (name, node).hash(&mut hasher);
        hasher.finish()
    });
    ranked.truncate(count.max(1));
    let chosen = all.iter().map(|receiver| receiver.node);
    chosen.filter(|node| ranked.contains(node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word for each node: it is active unless marked `p` (paused), and amd64 unless marked `r` (arm64).
    fn nodes(marks: &str) -> Vec<Receiver> {
        let read = |(number, marks): (usize, &str)| Receiver {
            node: NodeId::from_bytes([u8::try_from(number).expect("few"); 16]),
            availability: if marks.contains('p') {
                Availability::Pause
            } else {
                Availability::Active
            },
            platform: Some(platform(if marks.contains('r') {
                "arm64"
            } else {
                "amd64"
            })),
        };
        marks.split_whitespace().enumerate().map(read).collect()
    }

    fn platform(arch: &str) -> Platform {
        Platform {
            os: "linux".to_owned(),
            arch: arch.to_owned(),
        }
    }

    fn chosen(pull_to: PullTo, platforms: &[&str], all: &[Receiver]) -> Vec<u8> {
        let platforms: Vec<_> = platforms.iter().map(|arch| platform(arch)).collect();
        let nodes = receivers(pull_to, "it:1", &platforms, all);
        nodes.iter().map(|node| node.as_bytes()[0]).collect()
    }

    #[test]
    fn those_that_can_use_an_image_get_it() {
        let check = |marks: &str, platforms: &[&str], expected: &[u8]| {
            let found = chosen(PullTo::Auto, platforms, &nodes(marks));
            assert_eq!(found, expected, "{marks} {platforms:?}");
        };
        check("x x x", &[], &[0, 1, 2]);
        check("x p x", &[], &[0, 2]);
        check("p p", &[], &[0, 1]);
        check("x r p", &["amd64"], &[0]);
        check("x r", &["amd64", "arm64"], &[0, 1]);
        // No node can use it: all are asked, and say so.
        check("x x", &["arm64"], &[0, 1]);
        check("", &[], &[]);
    }

    #[test]
    fn a_large_pool_gets_an_image_a_few_times() {
        let sixteen = nodes(&"x ".repeat(16));
        let seventeen = nodes(&"x ".repeat(17));
        let check = |pull_to, all: &[Receiver], count: usize| {
            assert_eq!(chosen(pull_to, &[], all).len(), count, "{pull_to:?}");
        };
        check(PullTo::Auto, &sixteen, 16);
        check(PullTo::Auto, &seventeen, 3);
        check(PullTo::All, &seventeen, 17);
        check(PullTo::Nodes(5), &seventeen, 5);
        check(PullTo::Nodes(5), &nodes("x x"), 2);
        // The same ones again, as long as they are there.
        let few = chosen(PullTo::Auto, &[], &seventeen);
        let without: Vec<_> = seventeen
            .iter()
            .filter(|receiver| !few.contains(&receiver.node.as_bytes()[0]))
            .take(10)
            .chain(
                seventeen
                    .iter()
                    .filter(|r| few.contains(&r.node.as_bytes()[0])),
            )
            .cloned()
            .collect();
        let mut again = chosen(PullTo::Nodes(3), &[], &without);
        again.sort_unstable();
        assert_eq!(again, few);
    }
}
