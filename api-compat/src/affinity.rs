//! Affinities: which containers and images a container is to be with, or away from.
//!
//! Classic Swarm's `container==web`, `image==nginx`, `com.example.tier==front`: a node will do that has a container of that
//! name or id, an image of that name or id, a container with that label. `!=` asks for a node that has none, `~` before the
//! value makes it soft, and values may be globs (`web*`) or regular expressions (`/web[0-9]/`). `label==KEY` and
//! `label==KEY=VALUE` say the same of labels whose keys are no keys here.
//!
//! Source: Docker Swarm 1.2.9 `scheduler/filter/affinity.go`, `expr.go`. Stricter: what cannot be read is refused.
//!
//! **Invariant**: an [`Affinity`] says nothing of nodes; whoever knows what is where asks it of each name or value.

use std::fmt;

use crate::constraint::{self, Parts, Pattern};

/// A wish to be with something, or away from it.
#[derive(Debug, Clone)]
pub struct Affinity {
    text: String,
    subject: Subject,
    negated: bool,
    soft: bool,
    pattern: Pattern,
}

/// What it is to be with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A container, by name or id.
    Container,
    /// An image, by name, name without tag, or id.
    Image,
    /// A container that has this label, with a value that matches.
    Label(String),
    /// A container that has this label, whatever its value.
    HasLabel(String),
}

/// Why a text is no affinity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid affinity {}: {problem}", crate::go_text::quote(.text))]
pub struct BadAffinity {
    text: String,
    problem: String,
}

impl Affinity {
    /// Reads `container==NAME`, `image!=NAME`, `LABEL==~VALUE`.
    pub fn parse(text: &str) -> Result<Self, BadAffinity> {
        let text = text.trim();
        read(text).map_err(|problem| BadAffinity {
            text: text.to_owned(),
            problem,
        })
    }

    /// What it is to be with.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Whether it is to be away from that.
    pub fn is_negated(&self) -> bool {
        self.negated
    }

    /// Whether it gives way when nothing else fits.
    pub fn is_soft(&self) -> bool {
        self.soft
    }

    /// The one text that matches, if it is no pattern: what is known by it need not be searched.
    pub fn exact(&self) -> Option<&str> {
        match &self.pattern {
            Pattern::Text { text, .. } => Some(text),
            Pattern::Regex(_) | Pattern::Network { .. } | Pattern::OneOf(_) => None,
        }
    }

    /// Whether a name or value is meant. That it is to be away from it is not looked at.
    pub fn names(&self, value: &str) -> bool {
        self.pattern.is_match(value)
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What an affinity says follows from its text.
impl PartialEq for Affinity {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Affinity {}

fn read(text: &str) -> Result<Affinity, String> {
    let Parts {
        key,
        negated,
        soft,
        value,
    } = constraint::split(text).map_err(|problem| problem.replace("zone==b", "container==web"))?;
    constraint::check_key(key)?;
    let (subject, value) = match key {
        "container" => (Subject::Container, value),
        "image" => (Subject::Image, value),
        "label" => match value.split_once('=') {
            Some(("", _)) => {
                return Err("a label has a key, as in label==tier or label==tier=front".to_owned());
            }
            Some((_, "")) => {
                return Err(format!("a value must follow, as in label=={value}front"));
            }
            Some((label, value)) => (Subject::Label(label.to_owned()), value),
            None => (Subject::HasLabel(value.to_owned()), "*"),
        },
        "node" => {
            return Err(format!(
                "an affinity is to containers and images: what is said of nodes is a constraint, as in constraint:{text}"
            ));
        }
        label => (Subject::Label(label.to_owned()), value),
    };
    Ok(Affinity {
        text: text.to_owned(),
        subject,
        negated,
        soft,
        pattern: constraint::pattern(value, false)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, subject: Subject, flags: &str, exact: Option<&str>) {
        let read = Affinity::parse(text).expect(text);
        let mut said = String::new();
        if read.is_negated() {
            said.push('!');
        }
        if read.is_soft() {
            said.push('~');
        }
        assert_eq!((read.subject(), said.as_str()), (&subject, flags), "{text}");
        assert_eq!(read.exact(), exact, "{text}");
        assert_eq!(read.to_string(), text.trim());
    }

    #[test]
    fn what_it_is_to_be_with_is_read() {
        let label = |key: &str| Subject::Label(key.to_owned());
        check("container==web", Subject::Container, "", Some("web"));
        check("container!=web", Subject::Container, "!", Some("web"));
        check("container!=~web*", Subject::Container, "!~", None);
        check("image==nginx:1.25", Subject::Image, "", Some("nginx:1.25"));
        check("image==~/^redis/", Subject::Image, "~", None);
        check(
            "com.example.tier==front",
            label("com.example.tier"),
            "",
            Some("front"),
        );
        check(" tier == front ", label("tier"), "", Some("front"));
        check("label==1.tier=a=b", label("1.tier"), "", Some("a=b"));
        check(
            "label!=tier",
            Subject::HasLabel("tier".to_owned()),
            "!",
            None,
        );
    }

    #[track_caller]
    fn refuses(text: &str, expected: &str) {
        let said = Affinity::parse(text).expect_err(text).to_string();
        assert!(said.starts_with("invalid affinity \""), "{said}");
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn what_cannot_be_understood_says_what_would_be_right() {
        refuses(
            "container=web",
            "\"container=web\": it has neither == nor !=, as in container==web",
        );
        refuses("web", "as in container==web");
        refuses("container==!web", "written with !=, as in container!=web");
        refuses(
            "container==",
            "a value must follow the operator, as in container==b",
        );
        refuses("node==host1", "as in constraint:node==host1");
        refuses("container==/web[/", "/web[/ is no regular expression");
        refuses("==web", "\"\" is no key");
        refuses("label===x", "with no further =");
        refuses("label==x=", "a value must follow, as in label==x=front");
    }

    #[test]
    fn names_are_compared_whole_or_by_pattern() {
        let check = |text: &str, name: &str, expected: bool| {
            let read = Affinity::parse(text).expect(text);
            assert_eq!(read.names(name), expected, "{text} {name}");
        };
        check("container==web", "web", true);
        check("container==web", "web2", false);
        check("container==web", "Web", false);
        check("container==web*", "web2", true);
        check("container==/^web[0-9]$/", "web2", true);
        check("container!=/^web[0-9]$/", "web2", true);
        check("label==tier", "", true);
    }
}
