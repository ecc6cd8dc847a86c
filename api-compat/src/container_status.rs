//! The `Status` of a list item: `Up 3 minutes (healthy)`, taken apart so that it can be told again later.
//!
//! Source: moby 28.5.2 `container/state.go`, `State.String`.
//!
//! **Invariant**: a status that does not age is rendered as the text it was read from.

use std::fmt;

use crate::duration_text::HumanDuration;

/// A status without its age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerStatus {
    /// `Up 3 minutes`, with what follows in brackets.
    Up(Suffix),
    /// `Restarting (1) 5 seconds ago`.
    Restarting(i32),
    /// `Exited (137) 2 hours ago`.
    Exited(i32),
    /// `Created`, `Dead`, `Removal In Progress`, nothing at all, or words we do not know.
    Fixed(Box<str>),
}

/// What stands in brackets behind the age of a running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Suffix {
    /// Nothing: no health check.
    None,
    /// `(Paused)`.
    Paused,
    /// `(healthy)`.
    Healthy,
    /// `(unhealthy)`.
    Unhealthy,
    /// `(health: starting)`.
    Starting,
    /// Something newer.
    Other(Box<str>),
}

/// The moment from which the age of a status counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// `State.StartedAt`.
    Started,
    /// `State.FinishedAt`.
    Finished,
    /// It has no age.
    Never,
}

impl ContainerStatus {
    /// Takes a status apart.
    pub fn parse(text: &str) -> Self {
        Self::up(text)
            .or_else(|| Some(Self::Restarting(ended(text, "Restarting (")?)))
            .or_else(|| Some(Self::Exited(ended(text, "Exited (")?)))
            .unwrap_or_else(|| Self::Fixed(text.into()))
    }

    fn up(text: &str) -> Option<Self> {
        let age = text.strip_prefix("Up ")?;
        let Some((_, suffix)) = age.strip_suffix(')').and_then(|age| age.split_once(" (")) else {
            return (!age.contains('(')).then_some(Self::Up(Suffix::None));
        };
        Some(Self::Up(match suffix {
            "Paused" => Suffix::Paused,
            "healthy" => Suffix::Healthy,
            "unhealthy" => Suffix::Unhealthy,
            "health: starting" => Suffix::Starting,
            other => Suffix::Other(other.into()),
        }))
    }

    /// Which moment the age given to [`Self::render`] counts from.
    pub fn since(&self) -> Since {
        match self {
            Self::Up(_) => Since::Started,
            Self::Restarting(_) | Self::Exited(_) => Since::Finished,
            Self::Fixed(_) => Since::Never,
        }
    }

    /// The status at an age of so many seconds.
    pub fn render(&self, age_seconds: i64) -> Rendered<'_> {
        Rendered {
            status: self,
            age: HumanDuration(age_seconds),
        }
    }

    /// The exit code the status shows.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Exited(code) | Self::Restarting(code) => Some(*code),
            Self::Up(_) | Self::Fixed(_) => None,
        }
    }

    /// The health the status shows, in the words of the `health` filter. A paused container hides its own.
    pub fn health(&self) -> &str {
        match self {
            Self::Up(Suffix::Healthy) => "healthy",
            Self::Up(Suffix::Unhealthy) => "unhealthy",
            Self::Up(Suffix::Starting) => "starting",
            Self::Up(_) | Self::Restarting(_) | Self::Exited(_) | Self::Fixed(_) => "none",
        }
    }
}

/// The exit code in a text such as `Exited (137) 2 hours ago`.
fn ended(text: &str, prefix: &str) -> Option<i32> {
    let (code, age) = text.strip_prefix(prefix)?.split_once(") ")?;
    let code: i32 = code.parse().ok()?;
    (age.ends_with(" ago") && format!("{prefix}{code}) {age}") == text).then_some(code)
}

/// A status with its age; print it.
#[derive(Debug, Clone, Copy)]
pub struct Rendered<'a> {
    status: &'a ContainerStatus,
    age: HumanDuration,
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let age = self.age;
        match self.status {
            ContainerStatus::Up(suffix) => match suffix {
                Suffix::None => write!(f, "Up {age}"),
                Suffix::Paused => write!(f, "Up {age} (Paused)"),
                Suffix::Healthy => write!(f, "Up {age} (healthy)"),
                Suffix::Unhealthy => write!(f, "Up {age} (unhealthy)"),
                Suffix::Starting => write!(f, "Up {age} (health: starting)"),
                Suffix::Other(text) => write!(f, "Up {age} ({text})"),
            },
            ContainerStatus::Restarting(code) => write!(f, "Restarting ({code}) {age} ago"),
            ContainerStatus::Exited(code) => write!(f, "Exited ({code}) {age} ago"),
            ContainerStatus::Fixed(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `text` is a status at that age; it must be the same when told again.
    #[track_caller]
    fn check(text: &str, age: i64, since: Since, exit_code: Option<i32>, health: &str) {
        let status = ContainerStatus::parse(text);
        assert_eq!(status.render(age).to_string(), text);
        assert_eq!(
            (status.since(), status.exit_code(), status.health()),
            (since, exit_code, health),
            "{text}"
        );
    }

    #[test]
    fn a_status_is_told_again_as_it_was() {
        check("Up 3 minutes", 180, Since::Started, None, "none");
        check(
            "Up About a minute (healthy)",
            60,
            Since::Started,
            None,
            "healthy",
        );
        check(
            "Up Less than a second (health: starting)",
            0,
            Since::Started,
            None,
            "starting",
        );
        check(
            "Up 2 seconds (unhealthy)",
            2,
            Since::Started,
            None,
            "unhealthy",
        );
        check("Up 2 seconds (Paused)", 2, Since::Started, None, "none");
        check("Up 2 seconds (sleepy)", 2, Since::Started, None, "none");
        check(
            "Restarting (1) 5 seconds ago",
            5,
            Since::Finished,
            Some(1),
            "none",
        );
        check(
            "Exited (137) 2 hours ago",
            7200,
            Since::Finished,
            Some(137),
            "none",
        );
        check(
            "Exited (-1) 1 second ago",
            1,
            Since::Finished,
            Some(-1),
            "none",
        );
        for fixed in [
            "Created",
            "Dead",
            "Removal In Progress",
            "",
            "Host Down (last seen 3m)",
            "Exited (x) ago",
            "Up (a",
        ] {
            check(fixed, 9, Since::Never, None, "none");
        }
    }

    proptest! {
        #[test]
        fn any_text_at_a_fresh_age_is_stable(text in "(Up |Exited \\(|Restarting \\(|)[0-9a-z() ]{0,20}( ago|\\)|)") {
            let once = ContainerStatus::parse(&text);
            let told = once.render(90).to_string();
            let again = ContainerStatus::parse(&told);
            prop_assert_eq!(again.render(90).to_string(), told);
        }
    }
}
