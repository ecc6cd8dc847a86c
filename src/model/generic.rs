//! Generic resources: what nodes have a number of beside CPU and memory, such as GPUs, and what is taken of it.
//!
//! Only numbers are known, not which of several is whose: engines give the same device to any number of containers.
//!
//! **Invariant**: what is taken and given back again leaves no trace; what does not fit is said in the words of a person.

use std::collections::BTreeMap;
use std::fmt;

pub use api_compat::generic::{Amount, Wishes, resource};
use serde::{Deserialize, Serialize};

/// Numbers by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// The number of this name; nothing if there is none, which is less than a zero: nobody has said it.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Puts a number in the place of the one of that name.
    pub fn set(&mut self, name: &str, count: u64) {
        self.0.insert(name.to_owned(), count);
    }

    /// Names and numbers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// Whether nothing has a number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What these are more than others.
    pub fn beyond(&self, others: &Self) -> Self {
        let more = self.iter().map(|(name, count)| {
            let other = others.get(name).unwrap_or(0);
            (name, count.saturating_sub(other))
        });
        more.filter(|(_, count)| *count > 0).collect()
    }

    fn add(&mut self, name: &str, count: u64) {
        let sum = self.get(name).unwrap_or(0).saturating_add(count);
        self.set(name, sum);
    }

    /// Takes away; what comes to nothing is gone.
    fn sub(&mut self, name: &str, count: u64) {
        match self.get(name).unwrap_or(0).saturating_sub(count) {
            0 => drop(self.0.remove(name)),
            left => self.set(name, left),
        }
    }
}

impl<N: Into<String>> FromIterator<(N, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (N, u64)>>(all: I) -> Self {
        let all = all.into_iter();
        Self(all.map(|(name, count)| (name.into(), count)).collect())
    }
}

impl From<&Counts> for Wishes {
    fn from(counts: &Counts) -> Self {
        let mut wishes = Self::default();
        for (name, count) in counts.iter() {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            wishes.add(name, Amount::Count(count));
        }
        wishes
    }
}

/// What containers take, added up without knowing what their node has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    counted: Counts,
    /// How many take all that there is.
    whole: Counts,
}

impl Taken {
    /// What is taken by number alone.
    pub fn counted(counted: Counts) -> Self {
        Self {
            counted,
            whole: Counts::default(),
        }
    }

    /// One more container.
    pub fn add(&mut self, wishes: &Wishes) {
        for (name, amount) in wishes.iter() {
            match amount {
                Amount::Count(count) => self.counted.add(name, count.into()),
                Amount::All => self.whole.add(name, 1),
            }
        }
    }

    /// One container less.
    pub fn remove(&mut self, wishes: &Wishes) {
        for (name, amount) in wishes.iter() {
            match amount {
                Amount::Count(count) => self.counted.sub(name, count.into()),
                Amount::All => self.whole.sub(name, 1),
            }
        }
    }

    /// What is taken of so many.
    fn of(&self, name: &str, has: u64) -> u64 {
        match self.whole.get(name) {
            Some(_) => has,
            None => self.counted.get(name).unwrap_or(0),
        }
    }
}

/// What a node has, and what is taken of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stock {
    has: Counts,
    taken: Taken,
}

/// How much of something is left of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// What is left.
    pub free: u64,
    /// What there is in all.
    pub of: u64,
}

impl Stock {
    /// A node that has this, of which that is taken.
    pub fn new(has: Counts, taken: Taken) -> Self {
        Self { has, taken }
    }

    /// Whether the node states nothing.
    pub fn is_empty(&self) -> bool {
        self.has.is_empty()
    }

    /// The same, and that is taken too.
    #[must_use]
    pub fn less(mut self, taken: &Taken) -> Self {
        for (name, count) in taken.counted.iter() {
            self.taken.counted.add(name, count);
        }
        for (name, count) in taken.whole.iter() {
            self.taken.whole.add(name, count);
        }
        self
    }

    /// What is left of one resource; nothing if the node states none of it.
    pub fn left(&self, name: &str) -> Option<Left> {
        let of = self.has.get(name)?;
        let free = of.saturating_sub(self.taken.of(name, of));
        Some(Left { free, of })
    }

    /// Whether more of something is taken than there is.
    pub fn is_overdrawn(&self) -> bool {
        let mut names = self.has.iter();
        names.any(|(name, of)| self.taken.of(name, of) > of)
    }

    /// What is left of all that the node states, by name.
    pub fn all_left(&self) -> impl Iterator<Item = (&str, Left)> {
        let names = self.has.iter();
        names.filter_map(|(name, _)| Some((name, self.left(name)?)))
    }

    /// One more container.
    pub fn take(&mut self, wishes: &Wishes) {
        self.taken.add(wishes);
    }

    /// One container less.
    pub fn give_back(&mut self, wishes: &Wishes) {
        self.taken.remove(wishes);
    }

    /// The first resource that the node has too little of; nothing if all wishes can be met.
    pub fn scarcity(&self, wishes: &Wishes) -> Option<Scarcity> {
        wishes.iter().find_map(|(name, need)| {
            let left = self.left(name).filter(|left| left.of > 0);
            let enough = left.is_some_and(|Left { free, of }| match need {
                Amount::Count(count) => u64::from(count) <= free,
                Amount::All => free == of,
            });
            (!enough).then(|| Scarcity {
                name: name.to_owned(),
                need,
                left,
            })
        })
    }
}

/// The numbers that wishes come to on a node that has this: all of something that it has none of is nothing.
pub fn on_node(wishes: &Wishes, has: &Counts) -> Counts {
    let count = |name: &str, amount| match amount {
        Amount::Count(count) => count.into(),
        Amount::All => has.get(name).unwrap_or(0),
    };
    let counts = wishes
        .iter()
        .map(|(name, amount)| (name, count(name, amount)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// What a node has too little of: prints as `lacks gpu (need 2, 1 free of 4)` or `has no gpu`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scarcity {
    /// The resource.
    pub name: String,
    /// What was asked for.
    pub need: Amount,
    /// What is left of how much; none if the node has none at all.
    pub left: Option<Left>,
}

impl fmt::Display for Scarcity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, need, left } = self;
        match left {
            Some(Left { free, of }) => write!(f, "lacks {name} (need {need}, {free} free of {of})"),
            None => write!(f, "has no {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gpu 2, fpga all`
    fn wishes(text: &str) -> Wishes {
        let mut wishes = Wishes::default();
        for part in text.split(", ").filter(|part| !part.is_empty()) {
            let (name, amount) = part.split_once(' ').expect("a name and an amount");
            let count = || Amount::Count(amount.parse().expect("a number"));
            let amount = if amount == "all" {
                Amount::All
            } else {
                count()
            };
            wishes.add(name, amount);
        }
        wishes
    }

    fn taken(all: &[&str]) -> Taken {
        let mut taken = Taken::default();
        for one in all {
            taken.add(&wishes(one));
        }
        taken
    }

    fn node() -> Counts {
        [("gpu", 4), ("fpga", 1), ("ssd", 0)].into_iter().collect()
    }

    #[test]
    fn what_is_short_is_said_with_numbers() {
        let check = |used: &[&str], asked: &str, expected: &str| {
            let stock = Stock::new(node(), taken(used));
            let said = stock.scarcity(&wishes(asked));
            let said = said.map_or_else(String::new, |short| short.to_string());
            assert_eq!(said, expected, "{used:?} {asked}");
        };
        check(&[], "", "");
        check(&[], "gpu 4", "");
        check(&[], "gpu all, fpga 1", "");
        check(&["gpu 2", "gpu 1"], "gpu 1", "");
        check(
            &["gpu 2", "gpu 1"],
            "gpu 2",
            "lacks gpu (need 2, 1 free of 4)",
        );
        check(&["gpu 1"], "gpu all", "lacks gpu (need all, 3 free of 4)");
        check(&["gpu all"], "gpu 1", "lacks gpu (need 1, 0 free of 4)");
        // More may be in use than a node is said to have.
        check(&["gpu 9"], "gpu 1", "lacks gpu (need 1, 0 free of 4)");
        check(&[], "ssd 1", "has no ssd");
        check(&[], "ssd all", "has no ssd");
        check(&[], "tpu 1", "has no tpu");
        check(&[], "gpu 5, fpga 2", "lacks fpga (need 2, 1 free of 1)");
    }

    #[test]
    fn what_is_given_back_leaves_no_trace() {
        let mut stock = Stock::new(node(), taken(&["gpu 1"]));
        let before = stock.clone();
        for asked in ["gpu 2, fpga 1", "gpu all", "tpu 3"] {
            stock.take(&wishes(asked));
            assert_ne!(stock, before);
            stock.give_back(&wishes(asked));
            assert_eq!(stock, before, "{asked}");
        }
        assert!(!stock.is_overdrawn());
        stock.take(&wishes("gpu 4"));
        assert!(stock.is_overdrawn());
        stock.give_back(&wishes("gpu 4"));
        let left: Vec<_> = stock
            .all_left()
            .map(|(name, left)| (name, left.free))
            .collect();
        assert_eq!(left, [("fpga", 1), ("gpu", 3), ("ssd", 0)]);
    }

    #[test]
    fn all_of_something_is_what_the_node_has() {
        let counts = |asked| {
            on_node(&wishes(asked), &node())
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        assert_eq!(counts("gpu all, tpu 2"), "gpu 4, tpu 2");
        assert_eq!(counts("tpu all, ssd all"), "");
        let used = Taken::counted(on_node(&wishes("gpu 2"), &node()));
        let stock = Stock::new(node(), used).less(&taken(&["gpu 1", "fpga all"]));
        assert_eq!(stock, Stock::new(node(), taken(&["gpu 3", "fpga all"])));
    }
}
