//! Changing a few values of a JSON text and leaving every other byte as it came.
//!
//! An engine's reply holds fields we do not know, numbers and orders of members that a re-encoding would change; so an
//! edit replaces, drops and adds spans.
//!
//! **Invariant**: the bytes outside the edited members are those of the original, in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::json_view::{Malformed, View};

/// A text with the changes wanted in it. Every change is told in terms of the text as it was.
pub struct Edit<'a> {
    root: View<'a>,
    tail: &'a [u8],
    replaced: Vec<Patch>,
    containers: BTreeMap<usize, Container<'a>>,
}

struct Patch {
    span: Range<usize>,
    text: String,
}

/// An object or array that loses or gains items.
struct Container<'a> {
    view: View<'a>,
    dropped: BTreeSet<usize>,
    added: Vec<String>,
}

/// What becomes of one member or element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is.
    Keep,
    /// It goes, with its comma.
    Drop,
    /// Its value becomes this JSON.
    Replace(String),
}

impl<'a> Edit<'a> {
    /// Begins an edit of a whole JSON text.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let root = View::parse(bytes)?;
        let tail = bytes.get(root.span().end..).unwrap_or_default();
        Ok(Self {
            root,
            tail,
            replaced: Vec::new(),
            containers: BTreeMap::new(),
        })
    }

    /// The text as it was.
    pub fn root(&self) -> View<'a> {
        self.root
    }

    /// Puts `json` in the place of a value. Changes inside that value are lost.
    pub fn replace(&mut self, value: View<'a>, json: impl Into<String>) {
        self.replaced.push(Patch {
            span: value.span(),
            text: json.into(),
        });
    }

    /// Adds a member at the end of an object, whether or not it has one of that name.
    pub fn add(&mut self, object: View<'a>, key: &str, json: &str) {
        self.container(object).added.push(member(key, json));
    }

    /// Replaces the member `path`, or adds it, together with the objects on the way that are missing or `null`.
    ///
    /// Two calls that must make the same missing object make it twice: give the object whole instead.
    pub fn set(&mut self, path: &[&str], json: &str) {
        let mut object = self.root;
        for (index, key) in path.iter().enumerate() {
            let found = object
                .members()
                .find(|member| member.key == *key)
                .map(|member| member.value);
            match found {
                Some(value) if index + 1 == path.len() => return self.replace(value, json),
                Some(value) if value.is_object() => object = value,
                Some(value) => return self.replace(value, nested(&path[index + 1..], json)),
                None => return self.add(object, key, &nested(&path[index + 1..], json)),
            }
        }
    }

    /// Drops the member `path`; says whether there was one.
    pub fn remove(&mut self, path: &[&str]) -> bool {
        let Some((last, way)) = path.split_last() else {
            return false;
        };
        let Some(object) = self.root.at(way) else {
            return false;
        };
        let found = object.members().find(|member| member.key == *last);
        if let Some(member) = &found {
            self.container(object).dropped.insert(member.span.start);
        }
        found.is_some()
    }

    /// Decides on every member of an object.
    pub fn members(&mut self, object: View<'a>, mut decide: impl FnMut(&str, View<'a>) -> Change) {
        for member in object.members() {
            let change = decide(&member.key, member.value);
            self.change(object, member.span.start, member.value, change);
        }
    }

    /// Decides on every element of an array.
    pub fn elements(&mut self, array: View<'a>, mut decide: impl FnMut(View<'a>) -> Change) {
        for element in array.elements() {
            let change = decide(element);
            self.change(array, element.span().start, element, change);
        }
    }

    /// The changed text.
    pub fn finish(self) -> Vec<u8> {
        let mut patches = self.replaced;
        for container in self.containers.values() {
            container.patches(&mut patches);
        }
        patches.sort_by_key(|patch| (patch.span.start, std::cmp::Reverse(patch.span.end)));
        let text = self.root.text();
        let mut out = Vec::with_capacity(
            text.len() + patches.iter().map(|patch| patch.text.len()).sum::<usize>(),
        );
        let mut done = 0;
        for patch in patches.iter().filter(|patch| patch.span.end <= text.len()) {
            if patch.span.start < done {
                continue;
            }
            out.extend_from_slice(&text.as_bytes()[done..patch.span.start]);
            out.extend_from_slice(patch.text.as_bytes());
            done = patch.span.end;
        }
        out.extend_from_slice(&text.as_bytes()[done..]);
        out.extend_from_slice(self.tail);
        out
    }

    fn change(&mut self, container: View<'a>, item: usize, value: View<'a>, change: Change) {
        match change {
            Change::Keep => {}
            Change::Drop => {
                self.container(container).dropped.insert(item);
            }
            Change::Replace(json) => self.replace(value, json),
        }
    }

    fn container(&mut self, view: View<'a>) -> &mut Container<'a> {
        let empty = || Container {
            view,
            dropped: BTreeSet::new(),
            added: Vec::new(),
        };
        self.containers
            .entry(view.span().start)
            .or_insert_with(empty)
    }
}

impl Container<'_> {
    /// Says what to cut and insert so that commas stay between items and nowhere else.
    fn patches(&self, patches: &mut Vec<Patch>) {
        let items: Vec<Range<usize>> = match self.view.is_object() {
            true => self.view.members().map(|member| member.span).collect(),
            false => self.view.elements().map(|element| element.span()).collect(),
        };
        // The end of the last item that stays, and the items to be cut behind it.
        let mut kept: Option<usize> = None;
        let mut cut: Option<Range<usize>> = None;
        for item in items {
            if self.dropped.contains(&item.start) {
                let from = cut.map_or(kept.unwrap_or(item.start), |cut| cut.start);
                cut = Some(from..item.end);
                continue;
            }
            if let Some(cut) = cut.take() {
                let until = if kept.is_some() { cut.end } else { item.start };
                patches.push(Patch {
                    span: cut.start..until,
                    text: String::new(),
                });
            }
            kept = Some(item.end);
        }
        let comma = if kept.is_some() && !self.added.is_empty() {
            ","
        } else {
            ""
        };
        let at = kept.unwrap_or(self.view.span().start + 1);
        let span = cut.unwrap_or(at..at);
        if !span.is_empty() || !self.added.is_empty() {
            patches.push(Patch {
                span,
                text: format!("{comma}{}", self.added.join(",")),
            });
        }
    }
}

/// A string as JSON.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn member(key: &str, json: &str) -> String {
    format!("{}:{json}", quote(key))
}

fn nested(path: &[&str], json: &str) -> String {
    path.iter().rev().fold(json.to_owned(), |inner, key| {
        format!("{{{}}}", member(key, &inner))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(json: &str, edit: impl FnOnce(&mut Edit<'_>), expected: &str) {
        let mut changed = Edit::new(json.as_bytes()).expect("well-formed");
        edit(&mut changed);
        assert_eq!(String::from_utf8(changed.finish()).expect("text"), expected);
    }

    #[test]
    fn all_other_bytes_stay() {
        let json = "\n{ \"a\" : 1.50,\t\"b\":{\"c\" : [1, 2] , \"d\":\"\\u00fc\" } }\r\n";
        check(json, |_| {}, json);
        check(
            json,
            |e| e.set(&["b", "c"], "0"),
            "\n{ \"a\" : 1.50,\t\"b\":{\"c\" : 0 , \"d\":\"\\u00fc\" } }\r\n",
        );
        check(
            json,
            |e| assert!(e.remove(&["b", "d"])),
            "\n{ \"a\" : 1.50,\t\"b\":{\"c\" : [1, 2] } }\r\n",
        );
        check(
            json,
            |e| assert!(e.remove(&["a"])),
            "\n{ \"b\":{\"c\" : [1, 2] , \"d\":\"\\u00fc\" } }\r\n",
        );
        check(json, |e| assert!(!e.remove(&["x", "y"])), json);
    }

    #[test]
    fn commas_stand_between_items_only() {
        let drop_all = |e: &mut Edit<'_>| e.members(e.root(), |_, _| Change::Drop);
        check(r#"{"a":1, "b":2}"#, drop_all, "{}");
        check(
            r#"{"a":1,"b":2,"c":3}"#,
            |e| {
                e.remove(&["a"]);
                e.remove(&["b"]);
            },
            r#"{"c":3}"#,
        );
        check(
            r#"{"a":1,"b":2,"c":3}"#,
            |e| {
                e.remove(&["b"]);
                e.remove(&["c"]);
            },
            r#"{"a":1}"#,
        );
        check(
            r#"{"a":1,"b":2,"c":3}"#,
            |e| {
                e.remove(&["a"]);
                e.remove(&["c"]);
            },
            r#"{"b":2}"#,
        );
        check(
            r#"{"a":1}"#,
            |e| {
                e.remove(&["a"]);
                e.set(&["b"], "2");
                e.set(&["c"], "3");
            },
            r#"{"b":2,"c":3}"#,
        );
        check(
            r#"{"a":1,"b":2}"#,
            |e| {
                e.remove(&["b"]);
                e.set(&["c"], "3");
            },
            r#"{"a":1,"c":3}"#,
        );
        check(
            "[1, 2, 3, 4]",
            |e| {
                e.elements(e.root(), |v| match v.i64() {
                    Some(1 | 3) => Change::Drop,
                    Some(2) => Change::Replace("\"two\"".to_owned()),
                    _ => Change::Keep,
                })
            },
            r#"["two", 4]"#,
        );
    }

    #[test]
    fn missing_objects_are_made() {
        check(
            "{}",
            |e| e.set(&["a", "b", "c\""], "1"),
            r#"{"a":{"b":{"c\"":1}}}"#,
        );
        check(
            r#"{"a":null}"#,
            |e| e.set(&["a", "b"], "1"),
            r#"{"a":{"b":1}}"#,
        );
        check(
            r#"{"a":{"x":0}}"#,
            |e| e.set(&["a", "b"], "1"),
            r#"{"a":{"x":0,"b":1}}"#,
        );
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c\"\\\\\\n ü]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c\"]{1,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Value> {
        proptest::collection::btree_map("[a-c\"]{1,2}", tree(), 0..5)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn edits_equal_those_on_a_tree(
            before in object(), pretty: bool, gone in "[a-c]{1,2}", key in "[a-c]{1,2}", value in tree(),
        ) {
            let text = if pretty { format!("{before:#}") } else { before.to_string() };
            let mut edit = Edit::new(text.as_bytes()).expect("well-formed");
            let was_there = edit.remove(&[&gone]);
            let mut expected = before.clone();
            let members = expected.as_object_mut().expect("an object");
            prop_assert_eq!(members.remove(&gone).is_some(), was_there);
            if key != gone {
                edit.set(&[&key], &value.to_string());
                members.insert(key.clone(), value);
            }
            let edited = edit.finish();
            let after: Value = serde_json::from_slice(&edited).expect("still JSON");
            prop_assert_eq!(&after, &expected);
            let view = View::parse(&edited).expect("well-formed");
            for member in View::parse(text.as_bytes()).expect("well-formed").members() {
                if member.key != gone && member.key != key {
                    let kept = view.members().find(|m| m.key == member.key).expect("kept");
                    prop_assert_eq!(&edited[kept.span], &text.as_bytes()[member.span.clone()]);
                }
            }
        }

        #[test]
        fn dropping_any_elements_leaves_an_array(items in proptest::collection::vec(tree(), 0..6), mask: u8) {
            let text = json!(items).to_string();
            let mut edit = Edit::new(text.as_bytes()).expect("well-formed");
            let mut index = 0;
            edit.elements(edit.root(), |_| {
                index += 1;
                if mask >> (index - 1) & 1 == 1 { Change::Drop } else { Change::Keep }
            });
            let kept: Vec<_> = (0..items.len()).filter(|i| mask >> i & 1 == 0).map(|i| items[i].clone()).collect();
            let after: Value = serde_json::from_slice(&edit.finish()).expect("still JSON");
            prop_assert_eq!(after, Value::from(kept));
        }
    }
}
