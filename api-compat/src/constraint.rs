//! Constraints: where a container may go, in the words of its user.
//!
//! One language for two habits. Classic Swarm's `zone==b`, `zone!=b`, `zone==~b` (soft), `zone==b*`, `node==/host[12]/`,
//! where a bare key is a label; and swarm mode's `node.labels.zone == b`, `node.hostname != x`. Values are compared whole;
//! those of swarm mode's keys without regard to case, as swarm mode does.
//!
//! Source: Docker Swarm 1.2.9 `scheduler/filter/expr.go`; swarmkit `manager/constraint`. More than theirs: patterns work
//! for every key, a bad pattern is refused rather than never matched, keys may hold slashes and
//! begin with a digit, as labels of nodes do.
//!
//! **Invariant**: a [`Constraint`] that exists can be met by some value or be broken by some; what cannot be understood
//! is refused, with what would be right.

use std::fmt;
use std::net::IpAddr;

use regex::bytes::{Regex, RegexBuilder};

/// A condition on a node.
#[derive(Debug, Clone)]
pub struct Constraint {
    text: String,
    key: Key,
    negated: bool,
    soft: bool,
    pattern: Pattern,
}

/// What of a node is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// `node`: its name or its id.
    Node,
    /// `node.id`
    NodeId,
    /// `node.hostname`: that of its machine, or its name.
    Hostname,
    /// `node.ip`, compared with an address or a network.
    Address,
    /// `node.role`
    Role,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`
    Arch,
    /// `node.labels.NAME`
    NodeLabel(String),
    /// `engine.labels.NAME`
    EngineLabel(String),
    /// `NAME` alone: a label of the node or its engine, or what the engine says of itself.
    Bare(String),
}

/// What a value is compared with.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    Text { text: String, any_case: bool },
    Regex(Regex),
    Network { address: IpAddr, prefix: u8 },
    OneOf(Vec<Self>),
}

/// Why a text is no constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid constraint {}: {problem}", crate::go_text::quote(.text))]
pub struct BadConstraint {
    text: String,
    problem: String,
}

/// A pattern that takes more than this to hold is nobody's.
const PATTERN_MAX_BYTES: usize = 1 << 18;

impl Constraint {
    /// Reads `KEY==VALUE` or `KEY!=VALUE`. A `~` before the value makes it soft.
    pub fn parse(text: &str) -> Result<Self, BadConstraint> {
        let text = text.trim();
        read(text).map_err(|problem| BadConstraint {
            text: text.to_owned(),
            problem,
        })
    }

    /// Reads a whitelist of classic Swarm, `node==host1|host2`: a constraint on the node's name.
    pub fn parse_whitelist(text: &str) -> Result<Self, BadConstraint> {
        if begun(text).key == "node" {
            return Self::parse(text);
        }
        Err(BadConstraint {
            problem: "a whitelist names nodes, as in node==host1|host2".to_owned(),
            text: text.trim().to_owned(),
        })
    }

    /// What is compared.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Whether it gives way when nothing else fits.
    pub fn is_soft(&self) -> bool {
        self.soft
    }

    /// Whether a node may be used that has these values for the key: several where it goes by several names, none where
    /// it lacks it, which is as good as an empty one.
    pub fn allows(&self, values: &[&str]) -> bool {
        let values = if values.is_empty() { &[""] } else { values };
        values.iter().any(|value| self.pattern.is_match(value)) != self.negated
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a constraint says follows from its text.
impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Constraint {}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::NodeId => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
            Self::Address => f.write_str("node.ip"),
            Self::Role => f.write_str("node.role"),
            Self::Os => f.write_str("node.platform.os"),
            Self::Arch => f.write_str("node.platform.arch"),
            Self::NodeLabel(name) => write!(f, "node.labels.{name}"),
            Self::EngineLabel(name) => write!(f, "engine.labels.{name}"),
            Self::Bare(name) => f.write_str(name),
        }
    }
}

fn read(text: &str) -> Result<Constraint, String> {
    let parts = split(text)?;
    let key = read_key(parts.key)?;
    let pattern = read_pattern(&key, parts.value)?;
    Ok(Constraint {
        text: text.to_owned(),
        key,
        negated: parts.negated,
        soft: parts.soft,
        pattern,
    })
}

/// The parts of `KEY==VALUE`, before anything is known of the key.
pub(crate) struct Parts<'a> {
    pub(crate) key: &'a str,
    pub(crate) negated: bool,
    pub(crate) soft: bool,
    pub(crate) value: &'a str,
}

/// What stands in an expression around its first operator, whatever that is.
struct Begun<'a> {
    key: &'a str,
    operator: &'a str,
    value: &'a str,
}

fn begun(text: &str) -> Begun<'_> {
    let in_operator = |c: char| "=!~<>".contains(c);
    let (key, rest) = text.split_at(text.find(in_operator).unwrap_or(text.len()));
    let value = rest.trim_start_matches(in_operator);
    Begun {
        key: key.trim(),
        operator: &rest[..rest.len() - value.len()],
        value: value.trim(),
    }
}

impl Begun<'_> {
    /// What is likely to be meant by an operator that is none of ours.
    fn meant(&self) -> String {
        let Self {
            key,
            operator,
            value,
        } = *self;
        if key.is_empty() || value.is_empty() {
            return "zone==b".to_owned();
        }
        let equals = if operator.contains('!') { "!=" } else { "==" };
        let soft = operator.starts_with('=') && operator.ends_with('~');
        format!("{key}{equals}{}{value}", if soft { "~" } else { "" })
    }
}

/// Takes an expression apart; fails with what would be right.
pub(crate) fn split(text: &str) -> Result<Parts<'_>, String> {
    let operators = [text.find("=="), text.find("!=")];
    let at = operators.into_iter().flatten().min();
    let at =
        at.ok_or_else(|| format!("it has neither == nor !=, as in {}", begun(text).meant()))?;
    let (key, rest) = text.split_at(at);
    let (operator, value) = rest.split_at(2);
    let key = key.trim_end();
    let value = value.trim_start();
    let (soft, value) = match value.strip_prefix('~') {
        Some(value) => (true, value.trim_start()),
        None => (false, value),
    };
    if value.is_empty() {
        return Err(format!(
            "a value must follow the operator, as in {key}{operator}b"
        ));
    }
    if value.starts_with('=') {
        return Err(format!(
            "the operator is {operator}, with no further = behind it"
        ));
    }
    // No value begins so, and what was meant is the opposite.
    if let Some(rest) = value.strip_prefix('!') {
        return Err(format!(
            "what is not to be is written with !=, as in {key}!={rest}"
        ));
    }
    if value.contains(char::is_control) {
        return Err("the value holds a control character".to_owned());
    }
    Ok(Parts {
        key,
        negated: operator == "!=",
        soft,
        value,
    })
}

/// Refuses what is no key at all.
pub(crate) fn check_key(text: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let rest = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !first || !text.chars().all(rest) {
        return Err(format!(
            "{} is no key: it begins with a letter, a digit or _, and goes on with letters, digits, -, _, . and /",
            crate::go_text::quote(text)
        ));
    }
    Ok(())
}

fn read_key(text: &str) -> Result<Key, String> {
    check_key(text)?;
    if text == "node" {
        return Ok(Key::Node);
    }
    if let Some(name) = behind(text, "node.labels.") {
        return Ok(Key::NodeLabel(name));
    }
    if let Some(name) = behind(text, "engine.labels.") {
        return Ok(Key::EngineLabel(name));
    }
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "node.id" => Ok(Key::NodeId),
        "node.hostname" => Ok(Key::Hostname),
        "node.ip" => Ok(Key::Address),
        "node.role" => Ok(Key::Role),
        "node.platform.os" => Ok(Key::Os),
        "node.platform.arch" => Ok(Key::Arch),
        // A slip here must not become a condition that no node meets, or every.
        _ if lower.starts_with("node.") || lower.starts_with("engine.") => Err(format!(
            "{text} is none of node.id, node.hostname, node.ip, node.role, node.platform.os, node.platform.arch, \
             node.labels.NAME, engine.labels.NAME; a label of that name is engine.labels.{text}"
        )),
        _ => Ok(Key::Bare(text.to_owned())),
    }
}

/// What follows the prefix, in whatever case that is written, if anything does.
fn behind(text: &str, prefix: &str) -> Option<String> {
    let (front, name) = text.split_at_checked(prefix.len())?;
    (front.eq_ignore_ascii_case(prefix) && !name.is_empty()).then(|| name.to_owned())
}

fn read_pattern(key: &Key, value: &str) -> Result<Pattern, String> {
    if *key == Key::Address {
        return read_network(value);
    }
    if *key == Key::Node {
        return read_names(value);
    }
    pattern(value, !matches!(key, Key::Bare(_)))
}

/// A pattern for names of nodes, or several with `|` or commas between, which no name has.
fn read_names(value: &str) -> Result<Pattern, String> {
    let is_regex = value.len() > 1 && value.starts_with('/') && value.ends_with('/');
    if is_regex || !value.contains(['|', ',']) {
        return pattern(value, false);
    }
    let names = value.split(['|', ',']).map(str::trim);
    let names = names.map(|name| match name {
        "" => Err("between the bars stands a name, as in node==host1|host2".to_owned()),
        name => pattern(name, false),
    });
    names.collect::<Result<_, _>>().map(Pattern::OneOf)
}

/// A text, a glob or a regular expression.
pub(crate) fn pattern(value: &str, any_case: bool) -> Result<Pattern, String> {
    let inside = value
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix('/'));
    if let Some(regex) = inside.filter(|regex| !regex.is_empty()) {
        return compile(regex, any_case)
            .map(Pattern::Regex)
            .map_err(|_| format!("{value} is no regular expression, as in /host[0-9]+/"));
    }
    if value.contains('*') {
        let parts: Vec<_> = value.split('*').map(regex::escape).collect();
        let glob = format!("^{}$", parts.join("(?s:.*)"));
        return compile(&glob, any_case)
            .map(Pattern::Regex)
            .map_err(|_| "the pattern is too long".to_owned());
    }
    Ok(Pattern::Text {
        text: value.to_owned(),
        any_case,
    })
}

/// Classes such as `\w` are ASCII, as in Go.
fn compile(pattern: &str, any_case: bool) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(any_case)
        .size_limit(PATTERN_MAX_BYTES)
        .build()
}

fn read_network(value: &str) -> Result<Pattern, String> {
    let wrong =
        || format!("{value} is neither an IP address nor a network, as in 10.0.0.5 or 10.0.0.0/24");
    let (address, prefix) = match value.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (value, None),
    };
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(prefix) => prefix
            .parse()
            .ok()
            .filter(|prefix| *prefix <= bits)
            .ok_or_else(wrong)?,
    };
    Ok(Pattern::Network { address, prefix })
}

impl Pattern {
    pub(crate) fn is_match(&self, value: &str) -> bool {
        match self {
            Self::Text { text, any_case } if *any_case => text.eq_ignore_ascii_case(value),
            Self::Text { text, .. } => text == value,
            Self::Regex(regex) => regex.is_match(value.as_bytes()),
            Self::Network { address, prefix } => value
                .parse()
                .is_ok_and(|value| is_within(value, *address, *prefix)),
            Self::OneOf(patterns) => patterns.iter().any(|pattern| pattern.is_match(value)),
        }
    }
}

/// Whether the first `prefix` bits of both are the same.
fn is_within(value: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let (value, network, bits) = match (value, network) {
        (IpAddr::V4(value), IpAddr::V4(network)) => (
            u128::from(value.to_bits()),
            u128::from(network.to_bits()),
            32,
        ),
        (IpAddr::V6(value), IpAddr::V6(network)) => (value.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    let host_bits = u32::from(bits - prefix);
    (value ^ network).checked_shr(host_bits).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, key: &str, soft: bool) {
        let read = Constraint::parse(text).expect(text);
        assert_eq!(
            (read.key().to_string().as_str(), read.is_soft()),
            (key, soft)
        );
        assert_eq!(read.to_string(), text.trim());
    }

    #[test]
    fn both_habits_are_read() {
        check("zone==b", "zone", false);
        check("node!=host1", "node", false);
        check("storage==~ssd", "storage", true);
        check("zone!=~b", "zone", true);
        check("1zone==b", "1zone", false);
        check(" node.labels.zone == b ", "node.labels.zone", false);
        check("Node.Hostname!=x", "node.hostname", false);
        check("node.platform.arch==~arm64", "node.platform.arch", true);
        check(
            "engine.labels.example.com/a==b",
            "engine.labels.example.com/a",
            false,
        );
        check("node.ip==10.0.0.0/8", "node.ip", false);
        check("node.id==a", "node.id", false);
        check("node.role==worker", "node.role", false);
        check("node.platform.os==linux", "node.platform.os", false);
    }

    #[track_caller]
    fn allows(text: &str, values: &[&str], expected: bool) {
        let read = Constraint::parse(text).expect(text);
        assert_eq!(read.allows(values), expected, "{text} {values:?}");
    }

    #[test]
    fn values_are_compared_whole() {
        allows("zone==b", &["b"], true);
        allows("zone==b", &["bb"], false);
        allows("zone==b", &["B"], false);
        allows("zone==b", &[], false);
        allows("zone!=b", &["a"], true);
        allows("zone!=b", &["b"], false);
        allows("zone!=b", &[], true);
        allows("node.labels.zone==B", &["b"], true);
        allows("node.labels.zone!=B", &["b"], false);
        allows("node==host1", &["host1", "0a1b"], true);
        allows("node!=host1", &["host1", "0a1b"], false);
        allows("node.platform.arch==x86_64", &["amd64", "x86_64"], true);
    }

    #[test]
    fn patterns_are_globs_and_regular_expressions() {
        allows("zone==b*", &["b"], true);
        allows("zone==b*", &["berlin"], true);
        allows("zone==b*", &["ab"], false);
        allows("zone==*", &[], true);
        allows("kernelversion==6.1*", &["6x1.0"], false);
        allows("zone==*east*", &["us-east-1"], true);
        allows("zone!=*east*", &["us-east-1"], false);
        allows("node==/host[12]/", &["host2"], true);
        allows("node==/host[12]/", &["host3"], false);
        // As classic Swarm: a regular expression is not tied to the ends unless it says so.
        allows("node==/^ost/", &["host1"], false);
        allows("node==/ost/", &["host1"], true);
        allows("node!=~/ost/", &["host1"], false);
        allows("node==/host1|host2/", &["host2"], true);
        allows("node==host1|host2", &["host2", "0a"], true);
        allows("node==host1, h*2", &["host2", "0a"], true);
        allows("node==host1|host2", &["host3", "0a"], false);
        allows("node!=host1|host2", &["host2", "0a"], false);
        allows("node!=host1|host2", &["host3", "0a"], true);
        // Elsewhere they are letters as any.
        allows("zone==a|b", &["b"], false);
        allows("zone==a|b", &["a|b"], true);
        allows("node.labels.zone==/^B$/", &["b"], true);
        allows("zone==/", &["/"], true);
        allows("zone==/^\\w+$/", &["b_1"], true);
        allows("zone==m*", &["münchen"], true);
        allows("zone==mü*", &["münchen"], true);
        allows("node.ip==10.0.0.0/24", &["10.0.0.9"], true);
        allows("node.ip==10.0.0.0/24", &["10.0.1.9"], false);
        allows("node.ip!=10.0.0.9", &["10.0.0.9"], false);
        allows("node.ip==0.0.0.0/0", &["10.0.0.9"], true);
        allows("node.ip==::/0", &["fd00::1"], true);
        allows("node.ip==fd00::/8", &["10.0.0.9"], false);
        allows("node.ip==10.0.0.9", &["host1"], false);
    }

    #[track_caller]
    fn refuses(text: &str, expected: &str) {
        let said = Constraint::parse(text).expect_err(text).to_string();
        assert!(said.starts_with("invalid constraint \""), "{said}");
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn what_cannot_be_understood_says_what_would_be_right() {
        refuses(
            "zone=b",
            "\"zone=b\": it has neither == nor !=, as in zone==b",
        );
        refuses("zone", "as in zone==b");
        refuses("", "as in zone==b");
        // What is meant is guessed from what is there.
        for (text, meant) in [
            ("zone~=b", "zone==b"),
            ("zone>=b", "zone==b"),
            ("zone<=b", "zone==b"),
            ("zone~b", "zone==b"),
            ("zone =~ b", "zone==~b"),
            ("zone!~b", "zone!=b"),
            ("zone!b", "zone!=b"),
            ("zone =!~ b", "zone!=~b"),
            ("zone=", "zone==b"),
            ("~=b", "zone==b"),
        ] {
            let said = Constraint::parse(text).expect_err(text).to_string();
            let advice = format!("it has neither == nor !=, as in {meant}");
            assert!(said.ends_with(&advice), "{said}");
        }
        refuses(
            "==b",
            "\"\" is no key: it begins with a letter, a digit or _",
        );
        refuses("-zone==b", "\"-zone\" is no key");
        refuses("zo ne==b", "\"zo ne\" is no key");
        refuses("zone==", "a value must follow the operator, as in zone==b");
        refuses("zone!=~", "a value must follow the operator, as in zone!=b");
        refuses("zone===b", "the operator is ==, with no further =");
        refuses("zone==a\nb", "control character");
        refuses("zone==!b", "written with !=, as in zone!=b");
        refuses("zone==~!b", "written with !=, as in zone!=b");
        refuses("zone=!b", "neither == nor !=, as in zone!=b");
        refuses("node==host1||host2", "between the bars stands a name");
        refuses("node.lables.zone==b", "is none of node.id, node.hostname");
        refuses("node.labels.==b", "is none of node.id");
        refuses(
            "engine.version==1",
            "a label of that name is engine.labels.engine.version",
        );
        refuses("node==/host[/", "/host[/ is no regular expression");
        refuses(
            "node.ip==10.0.0.0/33",
            "neither an IP address nor a network",
        );
        refuses("node.ip==host1", "neither an IP address nor a network");
    }

    #[test]
    fn a_whitelist_names_nodes() {
        let read =
            |text: &str| Constraint::parse_whitelist(text).map_err(|error| error.to_string());
        let whitelist = read("node==host1|host2").expect("a whitelist");
        assert!(whitelist.allows(&["host2", "0a"]) && !whitelist.allows(&["host3", "0b"]));
        assert_eq!(
            read("zone==b"),
            Err(
                "invalid constraint \"zone==b\": a whitelist names nodes, as in node==host1|host2"
                    .to_owned()
            )
        );
        for other in [
            "host1",
            "host1|host2",
            "",
            "zone=b",
            "=host1",
            "nodes==host1",
        ] {
            let said = read(other).expect_err(other);
            assert!(
                said.ends_with(": a whitelist names nodes, as in node==host1|host2"),
                "{said}"
            );
        }
        for (slip, advice) in [
            ("node=host1", "as in node==host1"),
            ("node!~host1", "as in node!=host1"),
        ] {
            let said = read(slip).expect_err(slip);
            assert!(said.ends_with(advice), "{said}");
        }
        assert!(read("node!=host1").is_ok_and(|read| !read.allows(&["host1"])));
    }

    /// Those of its documentation, `docs/scheduler/filter`.
    #[test]
    fn the_examples_of_classic_swarm_mean_what_they_meant() {
        allows("storage==ssd", &["ssd"], true);
        allows("region==us-east", &["us-east"], true);
        allows("region==us*", &["us-east"], true);
        allows("region==us-east*", &["us-west"], false);
        allows("region!=us-east", &["us-west"], true);
        allows("node==node-1", &["node-1", "a"], true);
        allows("node==/node-[12]/", &["node-2", "b"], true);
        allows("node==/node-\\d/", &["node-2", "b"], true);
        allows("node!=/foo\\[bar\\]/", &["foo[bar]", "b"], false);
        allows("node==/(?i)node1/", &["NODE1", "b"], true);
        allows("region==~us-east", &["eu"], false);
        check("region==~us-east", "region", true);
        check("region!=~us*", "region", true);
        allows("kernelversion==4.4.0*", &["4.4.0-21-generic"], true);
        allows("operatingsystem==*Ubuntu*", &["Ubuntu 14.04"], true);
        allows("storagedriver==aufs", &["overlay2"], false);
        allows("com.example.environment!=production", &["test"], true);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "(node|zone|node\\.labels\\.a|node\\.ip)?[=!~]{0,3}[a-z/*\\[\\\\.0-9é ]{0,8}", value in ".{0,6}") {
            if let Ok(read) = Constraint::parse(&text) {
                let with = read.allows(&[&value]);
                prop_assert_eq!(Constraint::parse(&read.to_string()).map(|again| again.allows(&[&value])), Ok(with));
            }
        }
    }
}
