//! Query strings as Go's `url.ParseQuery` reads them: ordered pairs, repeated keys kept, nothing lost on the way through.
//!
//! Source: Go `net/url`; moby 28.5.2 `httputils.ParseForm`, which turns the first malformed pair into a 400, and
//! `httputils/form.go` for booleans.
//!
//! **Invariant**: a pair that nobody changed is sent on with the bytes it came with.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use crate::error::ApiError;
use crate::go_text;

/// A parsed query string.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<Pair>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    key: String,
    value: String,
    /// The pair as it came, which may hold bytes that are no text.
    raw: String,
}

impl Query {
    /// Reads the text behind the `?`. A bad escape or a semicolon is the engine's 400 (`invalid URL escape "%zz"`).
    pub fn parse(raw: &str) -> Result<Self, ApiError> {
        match Self::read(raw) {
            (query, None) => Ok(query),
            (_, Some(problem)) => Err(ApiError::bad_parameter(problem)),
        }
    }

    /// Reads what can be read and drops malformed pairs: how handlers that read single values without parsing the form
    /// first see a query.
    pub fn parse_lossy(raw: &str) -> Self {
        Self::read(raw).0
    }

    fn read(raw: &str) -> (Self, Option<String>) {
        let mut problem = None;
        let mut pairs = Vec::new();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            if part.contains(';') {
                problem.get_or_insert("invalid semicolon separator in query".to_owned());
                continue;
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match (unescape(key), unescape(value)) {
                (Ok(key), Ok(value)) => pairs.push(Pair {
                    key,
                    value,
                    raw: part.to_owned(),
                }),
                (Err(bad), _) | (_, Err(bad)) => {
                    problem.get_or_insert(format!("invalid URL escape {}", go_text::quote(&bad)));
                }
            }
        }
        (Self { pairs }, problem)
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// The first value of `key`, empty if there is none: Go's `Form.Get`.
    pub fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    /// All values of `key` in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |pair| pair.key == key)
            .map(|pair| pair.value.as_str())
    }

    /// Whether `key` occurs, with or without a value.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The pairs in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|pair| (pair.key.as_str(), pair.value.as_str()))
    }

    /// A switch as the engine reads it: false if absent, empty, `0`, `no`, `false` or `none` in any case; else true.
    pub fn bool(&self, key: &str) -> bool {
        go_text::is_true(self.text(key))
    }

    /// Like [`Self::bool`], with another answer for an absent key.
    pub fn bool_or(&self, key: &str, absent: bool) -> bool {
        self.get(key).map_or(absent, go_text::is_true)
    }

    /// A number; none if absent or empty. The words of the error are Go's, the status is ours (an engine sends 500).
    pub fn int(&self, key: &str) -> Result<Option<i64>, ApiError> {
        match self.text(key) {
            "" => Ok(None),
            text => go_text::parse_int(text)
                .map(Some)
                .map_err(|error| ApiError::bad_parameter(error.with_function("strconv.Atoi"))),
        }
    }

    /// Makes `value` the only value of `key`, in the place of the first one or at the end.
    pub fn set(&mut self, key: &str, value: &str) {
        let pair = Pair {
            key: key.to_owned(),
            value: value.to_owned(),
            raw: format!("{}={}", escape(key), escape(value)),
        };
        match self.pairs.iter().position(|pair| pair.key == key) {
            Some(first) => {
                self.pairs[first] = pair;
                let mut index = 0;
                self.pairs.retain(|pair| {
                    index += 1;
                    index <= first + 1 || pair.key != key
                });
            }
            None => self.pairs.push(pair),
        }
    }

    /// Adds one more value of `key` at the end.
    pub fn add(&mut self, key: &str, value: &str) {
        self.pairs.push(Pair {
            key: key.to_owned(),
            value: value.to_owned(),
            raw: format!("{}={}", escape(key), escape(value)),
        });
    }

    /// Takes every value of `key` out.
    pub fn remove(&mut self, key: &str) {
        self.pairs.retain(|pair| pair.key != key);
    }

    /// The query string again, without a `?`; empty if there are no pairs.
    pub fn encode(&self) -> String {
        self.pairs
            .iter()
            .map(|pair| pair.raw.as_str())
            .collect::<Vec<_>>()
            .join("&")
    }
}

/// What Go's `QueryEscape` leaves as it is, beside letters and digits.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

fn escape(text: &str) -> String {
    utf8_percent_encode(text, IN_QUERY).to_string()
}

/// Decodes `%xx` and `+`; the error is the piece that is no escape, at most three bytes long.
fn unescape(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            let end = bytes.len().min(at + 3);
            return Err(String::from_utf8_lossy(&bytes[at..end]).into_owned());
        }
    }
    let spaced = text.replace('+', " ");
    Ok(percent_decode(spaced.as_bytes())
        .decode_utf8_lossy()
        .into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let said = match Query::parse(raw) {
            Ok(query) => format!("{:?}", query.pairs().collect::<Vec<_>>()),
            Err(error) => error.to_string(),
        };
        assert_eq!(said, expected, "{raw}");
    }

    #[test]
    fn pairs_keep_order_and_repetition() {
        check("t=a&t=b&x", r#"[("t", "a"), ("t", "b"), ("x", "")]"#);
        check("a=1+2%2B3&&b==", r#"[("a", "1 2+3"), ("b", "=")]"#);
        check("", "[]");
        check("a=%zz", r#"invalid URL escape "%zz""#);
        check("a=1&b%2=%", r#"invalid URL escape "%2""#);
        check("a=1;b=2", "invalid semicolon separator in query");
    }

    #[test]
    fn switches_are_off_by_five_words() {
        let query = Query::parse_lossy("a&b=0&c=No&d=FALSE&e=none&f=1&g=True&h=off&i=%20&bad=%zz");
        for off in ["a", "b", "c", "d", "e", "i", "absent", "bad"] {
            assert!(!query.bool(off), "{off}");
        }
        for on in ["f", "g", "h"] {
            assert!(query.bool(on), "{on}");
        }
        assert!(query.bool_or("absent", true) && !query.bool_or("a", true));
    }

    #[test]
    fn numbers_fail_in_gos_words() {
        let query = Query::parse_lossy("a=-1&b=x&c=99999999999999999999&d=");
        assert_eq!(query.int("a"), Ok(Some(-1)));
        assert_eq!(query.int("d"), Ok(None));
        let words = |key| query.int(key).map_err(|error| error.message);
        assert_eq!(
            words("b"),
            Err("strconv.Atoi: parsing \"x\": invalid syntax".to_owned())
        );
        assert_eq!(
            words("c"),
            Err("strconv.Atoi: parsing \"99999999999999999999\": value out of range".to_owned())
        );
    }

    #[test]
    fn only_what_was_changed_is_written_anew() {
        let mut query = Query::parse_lossy("path=%ff+x&t=a&name=old&t=b&name=older");
        assert_eq!(query.encode(), "path=%ff+x&t=a&name=old&t=b&name=older");
        query.set("name", "n/ü");
        query.set("new", "");
        query.remove("t");
        assert_eq!(query.encode(), "path=%ff+x&name=n%2F%C3%BC&new=");
    }

    proptest! {
        #[test]
        fn no_query_breaks_it(raw in "[&=;%+a-f0-9\\PC]{0,40}") {
            let query = Query::parse_lossy(&raw);
            prop_assert_eq!(Query::parse_lossy(&query.encode()), query);
        }
    }
}
