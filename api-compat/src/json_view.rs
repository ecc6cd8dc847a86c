//! Looking into JSON bytes without building a tree: values as spans of the text they came from.
//!
//! The text is checked once, whole; then a [`View`] walks it lazily and lends strings where they need no unescaping.
//!
//! **Invariant**: a view only exists over JSON that was found well-formed, and walking one never panics.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

/// The text is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(#[from] serde_json::Error);

/// One value inside a JSON text.
#[derive(Clone, Copy)]
pub struct View<'a> {
    text: &'a str,
    start: usize,
    end: usize,
}

/// One member of an object.
#[derive(Clone)]
pub struct Member<'a> {
    /// The name, unescaped.
    pub key: Cow<'a, str>,
    /// The value.
    pub value: View<'a>,
    /// Where name, colon and value stand in the text.
    pub span: Range<usize>,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_json())
    }
}

impl<'a> View<'a> {
    /// Checks that `bytes` hold one JSON value and nothing else but white space, and views it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let whole: &RawValue = serde_json::from_slice(bytes)?;
        let start = skip_space(bytes, 0);
        let end = start + whole.get().len();
        // serde has checked these bytes, so offsets into the caller's text are to be had.
        Ok(match std::str::from_utf8(&bytes[..end]) {
            Ok(text) => Self { text, start, end },
            Err(_) => Self {
                text: whole.get(),
                start: 0,
                end: whole.get().len(),
            },
        })
    }

    /// The value's place in the text it was parsed from.
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The value's own text.
    pub fn as_json(&self) -> &'a str {
        &self.text[self.start..self.end]
    }

    /// The text up to the end of the outermost value.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Whether the value is `null`.
    pub fn is_null(&self) -> bool {
        self.as_json() == "null"
    }

    /// Whether the value is an object.
    pub fn is_object(&self) -> bool {
        self.as_json().starts_with('{')
    }

    /// Whether the value is an array.
    pub fn is_array(&self) -> bool {
        self.as_json().starts_with('[')
    }

    /// The members of an object in order; none of any other value.
    pub fn members(&self) -> impl Iterator<Item = Member<'a>> + use<'a> {
        let (view, mut at) = (*self, self.first_item('{'));
        std::iter::from_fn(move || {
            let key = view.value_at(at?);
            let colon = skip_space(view.bytes(), key.end);
            let value = view.value_at(skip_space(view.bytes(), colon + 1));
            at = view.next_item(value.end);
            Some(Member {
                key: key.str().unwrap_or_default(),
                value,
                span: key.start..value.end,
            })
        })
    }

    /// The elements of an array in order; none of any other value.
    pub fn elements(&self) -> impl Iterator<Item = Self> + use<'a> {
        let (view, mut at) = (*self, self.first_item('['));
        std::iter::from_fn(move || {
            let value = view.value_at(at?);
            at = view.next_item(value.end);
            Some(value)
        })
    }

    /// The member called `key`, the first if there are several; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<Self> {
        self.members()
            .find(|member| member.key == key)
            .map(|member| member.value)
            .filter(|value| !value.is_null())
    }

    /// The member called `key` as Go's decoder finds the field of a struct: in any case of its letters. `null` counts as
    /// absent. The engine decodes request bodies so; see [`Self::repeated_field`] for several members of one name.
    pub fn get_folded(&self, key: &str) -> Option<Self> {
        self.member_folded(key)
            .map(|member| member.value)
            .filter(|value| !value.is_null())
    }

    /// The member found like [`Self::get_folded`], `null` or not.
    pub fn member_folded(&self, key: &str) -> Option<Member<'a>> {
        let wanted = fold(key);
        self.members().find(|member| fold(&member.key) == wanted)
    }

    /// A name that two members have but for its case. Go would take the last one, or melt both into one, and a reader
    /// of only one of them could be deceived.
    pub fn repeated_field(&self) -> Option<Cow<'a, str>> {
        let mut seen = std::collections::BTreeSet::new();
        self.members()
            .find(|member| !seen.insert(fold(&member.key)))
            .map(|member| member.key)
    }

    /// A name that two members have to the letter.
    pub fn repeated_key(&self) -> Option<Cow<'a, str>> {
        let mut seen = std::collections::BTreeSet::new();
        self.members()
            .find(|member| !seen.insert(member.key.clone()))
            .map(|member| member.key)
    }

    /// The value found by going from member to member along `path`.
    pub fn at(&self, path: &[&str]) -> Option<Self> {
        path.iter().try_fold(*self, |value, key| value.get(key))
    }

    /// A string.
    pub fn str(&self) -> Option<Cow<'a, str>> {
        let json = self.as_json();
        let inner = json.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            // A lone surrogate is well-formed JSON but no text: Go and we read it as the replacement character.
            return Some(
                serde_json::from_str(json)
                    .map_or_else(|_| Cow::Owned(unescape_lossy(inner)), Cow::Owned),
            );
        }
        Some(Cow::Borrowed(inner))
    }

    /// An integer.
    pub fn i64(&self) -> Option<i64> {
        self.as_json().parse().ok()
    }

    /// A truth value.
    pub fn bool(&self) -> Option<bool> {
        self.as_json().parse().ok()
    }

    /// The string called `key`, empty if there is none.
    pub fn text_of(&self, key: &str) -> Cow<'a, str> {
        self.get(key)
            .and_then(|value| value.str())
            .unwrap_or_default()
    }

    /// The integer called `key`, zero if there is none.
    pub fn int_of(&self, key: &str) -> i64 {
        self.get(key)
            .and_then(|value| value.i64())
            .unwrap_or_default()
    }

    /// The pairs of an object of strings; members of other kinds are left out.
    pub fn string_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a> {
        self.members()
            .filter_map(|member| Some((member.key, member.value.str()?)))
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// Where the first member or element begins.
    fn first_item(&self, open: char) -> Option<usize> {
        if !self.as_json().starts_with(open) {
            return None;
        }
        let at = skip_space(self.bytes(), self.start + 1);
        (!matches!(self.bytes().get(at), Some(b'}' | b']') | None)).then_some(at)
    }

    /// Where the item after the one ending at `end` begins.
    fn next_item(&self, end: usize) -> Option<usize> {
        let comma = skip_space(self.bytes(), end);
        (self.bytes().get(comma) == Some(&b',')).then(|| skip_space(self.bytes(), comma + 1))
    }

    fn value_at(&self, start: usize) -> Self {
        Self {
            text: self.text,
            start,
            end: end_of_value(self.bytes(), start),
        }
    }
}

/// Go's case folding of field names: ASCII letters, and the two other characters that fold to one.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// JSON without the white space between its tokens.
pub fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (bytes, mut at) = (json.as_bytes(), 0);
    while at < bytes.len() {
        let next = match bytes[at] {
            b'"' => end_of_string(bytes, at),
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            _ => {
                let plain = bytes[at..]
                    .iter()
                    .position(|b| matches!(b, b'"' | b' ' | b'\t' | b'\r' | b'\n'));
                plain.map_or(bytes.len(), |length| at + length)
            }
        };
        out.push_str(&json[at..next]);
        at = next;
    }
    out
}

fn skip_space(bytes: &[u8], from: usize) -> usize {
    let space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    from + bytes
        .get(from..)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| space(byte))
        .count()
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(step) = bytes
        .get(at..)
        .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
    {
        at += step;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// The end of the well-formed value that begins at `start`.
fn end_of_value(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start) {
        Some(b'"') => end_of_string(bytes, start),
        Some(b'{' | b'[') => {
            let (mut depth, mut at) = (0_usize, start);
            while let Some(byte) = bytes.get(at) {
                match byte {
                    b'"' => {
                        at = end_of_string(bytes, at);
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => depth -= 1,
                    _ => {}
                }
                at += 1;
                if depth == 0 {
                    return at;
                }
            }
            bytes.len()
        }
        Some(_) => {
            let rest = &bytes[start..];
            let ends =
                |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            rest.iter()
                .position(ends)
                .map_or(bytes.len(), |length| start + length)
        }
        None => bytes.len(),
    }
}

/// Unescapes the inside of a string that holds a lone surrogate.
fn unescape_lossy(inner: &str) -> String {
    let units = inner.replace("\\\\", "\\u005c");
    let mut out = String::new();
    let mut rest = units.as_str();
    while let Some(at) = rest.find("\\u") {
        out.push_str(&rest[..at]);
        let mut wide = Vec::new();
        rest = &rest[at..];
        while let Some(unit) = rest
            .strip_prefix("\\u")
            .and_then(|r| u16::from_str_radix(r.get(..4)?, 16).ok())
        {
            wide.push(unit);
            rest = &rest[6..];
        }
        if wide.is_empty() {
            break;
        }
        for c in String::from_utf16_lossy(&wide).chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => out.push(c),
            }
        }
    }
    out.push_str(rest);
    serde_json::from_str(&format!("\"{out}\"")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Rebuilds a tree from a view, so that it can be compared with what serde reads.
    fn tree(view: View<'_>) -> Value {
        if view.is_object() {
            view.members()
                .map(|member| (member.key.into_owned(), tree(member.value)))
                .collect()
        } else if view.is_array() {
            view.elements().map(tree).collect()
        } else if let Some(text) = view.str() {
            Value::String(text.into_owned())
        } else {
            serde_json::from_str(view.as_json()).expect("a number or a word")
        }
    }

    #[track_caller]
    fn check(json: &str) {
        let expected: Value = serde_json::from_str(json).expect("the example is JSON");
        assert_eq!(
            tree(View::parse(json.as_bytes()).expect("well-formed")),
            expected,
            "{json}"
        );
    }

    #[test]
    fn a_view_reads_what_serde_reads() {
        check(r#" { "a" : [ 1 , -2.5e3,{} , [] ] , "b\n\"" : "x\\" , "ü\u00fc":null,"":true } "#);
        check("[]");
        check("\n\"}\" ");
        check("-0.5");
        assert!(View::parse(b"{\"a\":1}}").is_err());
        assert!(View::parse(b"").is_err());
        assert!(View::parse(b"\"\xff\"").is_err());
        let lone = View::parse(br#""a\ud800\n\\\"\u00e9""#)
            .expect("well-formed")
            .str();
        assert_eq!(lone.as_deref(), Some("a\u{fffd}\n\\\"é"));
    }

    #[test]
    fn values_are_found_by_path() {
        let json = br#" {"a":{"b":"x","n":7,"z":null},"l":["p"]}"#;
        let view = View::parse(json).expect("well-formed");
        let b = view.at(&["a", "b"]).expect("there");
        assert_eq!(
            (b.str().as_deref(), &json[b.span()]),
            (Some("x"), &b"\"x\""[..])
        );
        assert_eq!(view.get("a").map(|a| a.int_of("n")), Some(7));
        assert!(view.at(&["a", "z"]).is_none() && view.at(&["l", "p"]).is_none());
    }

    #[test]
    fn fields_are_found_in_any_case() {
        let view = View::parse(
            "{\"image\":\"a\",\"HOSTCONFIG\":{},\"net\":1,\"lin\u{212a}s\":2}".as_bytes(),
        )
        .expect("JSON");
        assert_eq!(
            view.get_folded("Image")
                .and_then(|image| image.str())
                .as_deref(),
            Some("a")
        );
        assert!(view.get_folded("HostConfig").is_some() && view.get_folded("Links").is_some());
        assert_eq!(view.repeated_field(), None);
        let twice = View::parse(b"{\"Image\":1,\"x\":2,\"image\":3}").expect("JSON");
        assert_eq!(twice.repeated_field().as_deref(), Some("image"));
    }

    #[test]
    fn white_space_goes_only_between_tokens() {
        assert_eq!(
            compact(" { \"a b\" : [ 1 , \"\\\" \" ] }\n"),
            r#"{"a b":[1,"\" "]}"#
        );
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(view) = View::parse(&bytes) { tree(view); }
        }

        #[test]
        fn near_json_does_not_break_it(text in r#"[\[\]{}:,"\\u0d8a1e \-.tfnr]{0,40}"#) {
            let _ = compact(&text);
            if let Ok(view) = View::parse(text.as_bytes()) { let _ = view.members().count(); let _ = view.str(); }
        }
    }
}
