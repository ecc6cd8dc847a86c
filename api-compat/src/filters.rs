//! The `filters` parameter: both JSON forms, the keys each list accepts, and what matches.
//!
//! Source: moby 28.5.2 `api/types/filters/parse.go`; the accepted keys from the lists and prunes of `daemon`, `volume`,
//! `plugin`, `registry`, `builder` and `daemon/cluster`.
//!
//! **Invariant**: an unknown key is refused, never ignored: a prune with a misread filter would delete too much.

use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};

use crate::error::ApiError;

/// Parsed filters: for each key the values asked for.
///
/// The map form of the JSON gives each value a truth value. Nobody sends `false`; the engine keeps it and so do we: an
/// exact match fails on it, a pattern does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, BTreeMap<String, bool>>,
}

/// Keys of `GET /containers/json`, with our `node`.
pub const CONTAINERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "node",
];
/// Keys of `GET /images/json`, with our `node`. `label!` only works with the containerd image store.
pub const IMAGES: &[&str] = &[
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
    "node",
];
/// Keys of `GET /images/search`.
pub const IMAGE_SEARCH: &[&str] = &["is-automated", "is-official", "stars"];
/// Keys of `GET /networks`, with our `node`.
pub const NETWORKS: &[&str] = &[
    "dangling", "driver", "id", "label", "name", "scope", "type", "node",
];
/// Keys of `GET /volumes`, with our `node`.
pub const VOLUMES: &[&str] = &["dangling", "driver", "label", "name", "node"];
/// Keys of `GET /plugins`, with our `node`.
pub const PLUGINS: &[&str] = &["capability", "enabled", "node"];
/// Keys of `POST /containers/prune`, with our `node`.
pub const CONTAINER_PRUNE: &[&str] = &["label", "label!", "until", "node"];
/// Keys of `POST /networks/prune`, with our `node`.
pub const NETWORK_PRUNE: &[&str] = &["label", "label!", "until", "node"];
/// Keys of `POST /images/prune`, with our `node`.
pub const IMAGE_PRUNE: &[&str] = &["dangling", "label", "label!", "until", "node"];
/// Keys of `POST /volumes/prune`, with our `node`.
pub const VOLUME_PRUNE: &[&str] = &["all", "label", "label!", "node"];
/// Keys of `POST /build/prune`, with our `node`.
pub const BUILD_PRUNE: &[&str] = &[
    "description",
    "id",
    "inuse",
    "label",
    "label!",
    "parent",
    "private",
    "shared",
    "type",
    "until",
    "unused-for",
    "node",
];
/// Keys of `GET /services`.
pub const SERVICES: &[&str] = &["id", "label", "mode", "name", "runtime"];
/// Keys of `GET /tasks`.
pub const TASKS: &[&str] = &[
    "_up-to-date",
    "desired-state",
    "id",
    "label",
    "name",
    "node",
    "runtime",
    "service",
];
/// Keys of `GET /nodes`.
pub const NODES: &[&str] = &["id", "label", "membership", "name", "node.label", "role"];
/// Keys of `GET /secrets`.
pub const SECRETS: &[&str] = &["id", "label", "name", "names"];
/// Keys of `GET /configs`.
pub const CONFIGS: &[&str] = &["id", "label", "name"];

impl Filters {
    /// Reads the parameter; empty and `null` are no filters. Anything else that is not JSON of one of the two forms is
    /// the engine's 400 `invalid filter`.
    pub fn parse(json: &str) -> Result<Self, ApiError> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        type Keys<T> = Option<BTreeMap<String, Option<T>>>;
        if let Ok(keys) = serde_json::from_str::<Keys<BTreeMap<String, Option<bool>>>>(json) {
            return Ok(Self::collect(keys, |values| {
                values
                    .into_iter()
                    .map(|(value, on)| (value, on.unwrap_or(false)))
                    .collect()
            }));
        }
        let keys = serde_json::from_str::<Keys<Vec<Option<String>>>>(json)
            .map_err(|_| ApiError::bad_parameter("invalid filter"))?;
        Ok(Self::collect(keys, |values| {
            values
                .into_iter()
                .map(|value| (value.unwrap_or_default(), true))
                .collect()
        }))
    }

    fn collect<T>(
        keys: Option<BTreeMap<String, Option<T>>>,
        values: impl Fn(T) -> BTreeMap<String, bool>,
    ) -> Self {
        let fields = keys.unwrap_or_default().into_iter();
        Self {
            fields: fields
                .map(|(key, value)| (key, value.map(&values).unwrap_or_default()))
                .collect(),
        }
    }

    /// Refuses keys that are not `accepted`: `invalid filter 'x'`.
    pub fn validate(&self, accepted: &[&str]) -> Result<(), ApiError> {
        match self
            .fields
            .keys()
            .find(|key| !accepted.contains(&key.as_str()))
        {
            Some(key) => Err(ApiError::bad_parameter(format!("invalid filter '{key}'"))),
            None => Ok(()),
        }
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether `key` occurs, even without values.
    pub fn contains(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// The values of `key`, sorted.
    pub fn get<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.fields
            .get(key)
            .into_iter()
            .flatten()
            .map(|(value, _)| value.as_str())
    }

    /// Adds a value.
    pub fn add(&mut self, key: &str, value: &str) {
        self.fields
            .entry(key.to_owned())
            .or_default()
            .insert(value.to_owned(), true);
    }

    /// Takes a key and its values out: for keys of ours that an engine would refuse.
    pub fn remove(&mut self, key: &str) {
        self.fields.remove(key);
    }

    /// The parameter for an engine, in the form every version understands; empty if nothing is filtered.
    pub fn to_json(&self) -> String {
        if self.is_empty() {
            String::new()
        } else {
            serde_json::json!(self.fields).to_string()
        }
    }

    /// True if `key` has no values or `source` is one of them.
    pub fn exact_match(&self, key: &str, source: &str) -> bool {
        match self.values(key) {
            Some(values) => values.get(source).copied().unwrap_or(false),
            None => true,
        }
    }

    /// True if `key` has no values or `source` begins with one of them.
    pub fn fuzzy_match(&self, key: &str, source: &str) -> bool {
        self.exact_match(key, source) || self.get(key).any(|prefix| source.starts_with(prefix))
    }

    /// True if `key` has no values or one of them equals `source` or, as a regular expression, occurs in it.
    ///
    /// Compiles the patterns: for many sources take [`Self::patterns`].
    pub fn pattern_match(&self, key: &str, source: &str) -> bool {
        self.patterns(key).is_match(source)
    }

    /// The values of `key` as compiled patterns.
    pub fn patterns(&self, key: &str) -> Patterns {
        Patterns {
            exact: self.values(key).cloned(),
            inside: self.get(key).filter_map(Pattern::new).collect(),
        }
    }

    /// True if every value of `key` (`name` or `name=value`) holds for the labels that `label` looks up.
    pub fn match_labels<'l>(&self, key: &str, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.get(key).all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => label(name) == Some(value),
            None => label(wanted).is_some(),
        })
    }

    /// The prunes' rule: all of `label` hold, and not all of `label!`.
    pub fn match_labels_and_not<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.match_labels("label", &label)
            && !(self.contains("label!") && self.match_labels("label!", &label))
    }

    /// The switch `key`: exactly one of true (`1`, `true`) and false (`0`, `false`), or `absent` if there is no such
    /// key. The error is the engine's `invalid filter 'dangling=[x]'`.
    pub fn bool_or(&self, key: &str, absent: bool) -> Result<bool, ApiError> {
        let Some(values) = self.fields.get(key) else {
            return Ok(absent);
        };
        if values.is_empty() {
            return Err(ApiError::bad_parameter(format!("invalid filter '{key}'")));
        }
        let has = |value: &str| values.get(value).copied().unwrap_or(false);
        match (has("0") || has("false"), has("1") || has("true")) {
            (false, true) => Ok(true),
            (true, false) => Ok(false),
            _ => {
                let all = self.get(key).collect::<Vec<_>>().join(" ");
                Err(ApiError::bad_parameter(format!(
                    "invalid filter '{key}=[{all}]'"
                )))
            }
        }
    }

    /// The values of a key that has any.
    fn values(&self, key: &str) -> Option<&BTreeMap<String, bool>> {
        self.fields.get(key).filter(|values| !values.is_empty())
    }
}

/// The values of one key, compiled: equal to the source, or a regular expression found in it.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    exact: Option<BTreeMap<String, bool>>,
    inside: Vec<Pattern>,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// A value without any special character.
    Literal(String),
    Regex(Regex),
}

impl Patterns {
    /// Whether every source matches, there being no values.
    pub fn is_empty(&self) -> bool {
        self.exact.is_none()
    }

    /// Whether `source` matches.
    pub fn is_match(&self, source: &str) -> bool {
        let Some(exact) = &self.exact else {
            return true;
        };
        exact.get(source).copied().unwrap_or(false)
            || self.inside.iter().any(|pattern| match pattern {
                Pattern::Literal(text) => source.contains(text.as_str()),
                Pattern::Regex(regex) => regex.is_match(source.as_bytes()),
            })
    }
}

impl Pattern {
    /// None for what is no regular expression; Go skips it. Classes such as `\w` are ASCII, as in Go.
    fn new(value: &str) -> Option<Self> {
        if !value.contains(|c: char| "\\.+*?()|[]{}^$".contains(c)) {
            return Some(Self::Literal(value.to_owned()));
        }
        RegexBuilder::new(value)
            .unicode(false)
            .size_limit(1 << 20)
            .build()
            .ok()
            .map(Self::Regex)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filters(json: &str) -> Filters {
        Filters::parse(json).expect("filters")
    }

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let said = Filters::parse(json)
            .map_or_else(|error| error.to_string(), |filters| filters.to_json());
        assert_eq!(said, expected, "{json}");
    }

    #[test]
    fn both_forms_are_read() {
        check("", "");
        check("null", "");
        check("{}", "");
        check(
            r#"{"label":{"a=b":true,"c":true}}"#,
            r#"{"label":{"a=b":true,"c":true}}"#,
        );
        check(
            r#"{"label":["a=b","c"],"name":[]}"#,
            r#"{"label":{"a=b":true,"c":true},"name":{}}"#,
        );
        check(
            r#"{"label":{"a":false,"b":null},"x":null}"#,
            r#"{"label":{"a":false,"b":false},"x":{}}"#,
        );
        for bad in [
            "x",
            "[]",
            r#"{"a":"b"}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":["b"],"c":{"d":true}}"#,
            "{}{}",
        ] {
            check(bad, "invalid filter");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        let refused = filters(r#"{"name":["a"],"foo":["b"]}"#).validate(CONTAINERS);
        assert_eq!(
            refused.map_err(|error| error.message),
            Err("invalid filter 'foo'".to_owned())
        );
        assert_eq!(filters(r#"{"name":["a"]}"#).validate(CONTAINERS), Ok(()));
    }

    #[test]
    fn values_match_exactly_by_prefix_or_by_pattern() {
        let some = filters(r#"{"n":["web.1","^/x$","(","b+"],"none":[]}"#);
        assert!(some.exact_match("n", "web.1") && !some.exact_match("n", "web"));
        assert!(some.exact_match("absent", "x") && some.exact_match("none", "x"));
        assert!(some.fuzzy_match("n", "web.12") && !some.fuzzy_match("n", "a web.1"));
        for found in ["my-web-1", "/x", "abba", "("] {
            assert!(some.pattern_match("n", found), "{found}");
        }
        for lost in ["we", "/xx", "x"] {
            assert!(!some.pattern_match("n", lost), "{lost}");
        }
        let off = filters(r#"{"off":{"a":false}}"#);
        assert!(!off.exact_match("off", "a") && off.pattern_match("off", "a"));
    }

    #[test]
    fn all_labels_must_hold() {
        let labels = |name: &str| match name {
            "a" => Some("1"),
            "b" => Some("x=y"),
            _ => None,
        };
        for (json, expected) in [
            ("{}", true),
            (r#"{"label":["a","b=x=y"]}"#, true),
            (r#"{"label":["a=2"]}"#, false),
            (r#"{"label":["a","c"]}"#, false),
            (r#"{"label":["a"],"label!":["b"]}"#, false),
            (r#"{"label!":["b","c"]}"#, true),
        ] {
            assert_eq!(
                filters(json).match_labels_and_not(labels),
                expected,
                "{json}"
            );
        }
    }

    #[test]
    fn a_switch_is_one_of_four_words() {
        let switch = |json| {
            filters(json)
                .bool_or("d", true)
                .map_err(|error| error.message)
        };
        assert_eq!(switch("{}"), Ok(true));
        assert_eq!(switch(r#"{"d":["0"]}"#), Ok(false));
        assert_eq!(switch(r#"{"d":["true","1"]}"#), Ok(true));
        assert_eq!(
            switch(r#"{"d":["x","0","1"]}"#),
            Err("invalid filter 'd=[0 1 x]'".to_owned())
        );
        assert_eq!(
            switch(r#"{"d":["yes"]}"#),
            Err("invalid filter 'd=[yes]'".to_owned())
        );
        assert_eq!(switch(r#"{"d":[]}"#), Err("invalid filter 'd'".to_owned()));
    }

    proptest! {
        #[test]
        fn no_filter_breaks_it(json in r#"[\[\]{}:,"a()*\\|true]{0,30}"#, source in ".{0,8}") {
            if let Ok(filters) = Filters::parse(&json) {
                let _ = filters.pattern_match("a", &source);
                let _ = filters.bool_or("a", false);
                prop_assert_eq!(Filters::parse(&filters.to_json()), Ok(filters));
            }
        }
    }
}
