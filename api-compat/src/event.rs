//! One event of an engine: read, filtered, and told again with the node it came from.
//!
//! Source: moby 28.5.2 `daemon/events/filter.go` and `getEvents`, which hides `create` events of images from clients below
//! API 1.46.
//!
//! **Invariant**: an event is told with the bytes of its engine but for the attributes added and hidden.

use std::borrow::Cow;

use crate::filters::Filters;
use crate::image_ref::ImageRef;
use crate::json_edit::{Change, Edit, quote};
use crate::json_view::{Malformed, View};
use crate::labels;
use crate::version::ApiVersion;

/// A line of an event stream.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    line: &'a [u8],
    /// `Type`: container, image, network, …
    pub kind: Cow<'a, str>,
    /// `Action`, such as `start` or `exec_create: sh`.
    pub action: Cow<'a, str>,
    /// `Actor.ID`
    pub actor: Cow<'a, str>,
    /// `Actor.Attributes`, without the labels that clients must not see.
    pub attributes: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// `scope`: local or swarm.
    pub scope: Cow<'a, str>,
    /// `time` in Unix seconds.
    pub time: i64,
    /// `timeNano` in Unix nanoseconds.
    pub time_nanos: i64,
}

/// The node an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// Attribute `node.name`.
    pub name: &'a str,
    /// Attribute `node.id`.
    pub id: &'a str,
    /// Attribute `node.addr`: address and port.
    pub addr: &'a str,
    /// Attribute `node.ip`.
    pub ip: &'a str,
}

impl<'a> Event<'a> {
    /// Reads a line, with or without its line feed.
    pub fn parse(line: &'a [u8]) -> Result<Self, Malformed> {
        let root = View::parse(line)?;
        let actor = root.get("Actor");
        let attributes = actor.and_then(|actor| actor.get("Attributes"));
        let pairs = attributes
            .iter()
            .flat_map(View::string_pairs)
            .filter(|(name, _)| !labels::is_hidden(name));
        Ok(Self {
            line,
            kind: root.text_of("Type"),
            action: root.text_of("Action"),
            actor: actor.map(|actor| actor.text_of("ID")).unwrap_or_default(),
            attributes: pairs.collect(),
            scope: root.text_of("scope"),
            time: root.int_of("time"),
            time_nanos: root.int_of("timeNano"),
        })
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }

    /// The request that made the event's container, if a cluster did: a label that clients must not see.
    pub fn request(&self) -> Option<Cow<'a, str>> {
        View::parse(self.line)
            .ok()?
            .at(&["Actor", "Attributes", labels::ID])?
            .str()
    }

    /// Whether a client of that version knows such events.
    pub fn is_known_to(&self, version: ApiVersion) -> bool {
        version >= ApiVersion::new(1, 46) || self.kind != "image" || self.action != "create"
    }

    /// Whether the filters let it through. An object's filter looks at every event, whatever its type: `container=x`
    /// hides the events of images unless they begin with `x`, as the engine's does.
    pub fn is_wanted(&self, filters: &Filters, origin: &Origin<'_>) -> bool {
        const OBJECTS: [&str; 8] = [
            "daemon",
            "container",
            "plugin",
            "volume",
            "network",
            "service",
            "secret",
            "config",
        ];
        self.matches_action(filters)
            && filters.exact_match("type", &self.kind)
            && filters.exact_match("scope", &self.scope)
            && OBJECTS
                .iter()
                .all(|object| self.matches_object(filters, object))
            && self.matches_image(filters)
            && (self.matches_object(filters, "node")
                || filters.exact_match("node", origin.name)
                || filters.exact_match("node", origin.id))
            && filters.match_labels("label", |name| self.attribute_shown(name, origin))
    }

    fn attribute_shown<'s>(&'s self, name: &str, origin: &'s Origin<'_>) -> Option<&'s str> {
        match name {
            "node.name" => Some(origin.name),
            "node.id" => Some(origin.id),
            "node.addr" => Some(origin.addr),
            "node.ip" => Some(origin.ip),
            name => self.attribute(name),
        }
    }

    /// An action is matched whole, but by its beginning if the filter asks for one of those that carry more words.
    fn matches_action(&self, filters: &Filters) -> bool {
        let by_prefix = filters
            .get("event")
            .any(|e| matches!(e, "health_status" | "exec_create" | "exec_start"));
        match by_prefix {
            true => filters.fuzzy_match("event", &self.action),
            false => filters.exact_match("event", &self.action),
        }
    }

    fn matches_object(&self, filters: &Filters, object: &str) -> bool {
        !filters.contains(object)
            || filters.fuzzy_match(object, &self.actor)
            || filters.fuzzy_match(object, self.attribute("name").unwrap_or_default())
    }

    fn matches_image(&self, filters: &Filters) -> bool {
        if !filters.contains("image") {
            return true;
        }
        let name = if self.kind == "image" {
            "name"
        } else {
            "image"
        };
        let name = self.attribute(name).unwrap_or_default();
        [&self.actor, name].into_iter().any(|image| {
            filters.exact_match("image", image)
                || match ImageRef::parse(image) {
                    Ok(parsed) => filters.exact_match("image", &parsed.familiar_name()),
                    Err(_) => false,
                }
        })
    }

    /// The line for clients, ended by a line feed: our labels out, the node in, and `actor` in the place of the id that
    /// only its engine knows, if one is given (also in `id`, which repeats it for old clients).
    pub fn render(&self, origin: &Origin<'_>, actor: Option<&str>) -> Result<Vec<u8>, Malformed> {
        let mut edit = Edit::new(self.line)?;
        let root = edit.root();
        let added = [
            ("node.name", origin.name),
            ("node.id", origin.id),
            ("node.addr", origin.addr),
            ("node.ip", origin.ip),
        ];
        match root.at(&["Actor", "Attributes"]).filter(View::is_object) {
            Some(attributes) => {
                let taken = |name: &str| {
                    labels::is_hidden(name) || added.iter().any(|(added, _)| *added == name)
                };
                edit.members(attributes, |name, _| {
                    if taken(name) {
                        Change::Drop
                    } else {
                        Change::Keep
                    }
                });
                for (name, value) in added {
                    edit.add(attributes, name, &quote(value));
                }
            }
            None => {
                let pairs: Vec<_> = added
                    .iter()
                    .map(|(name, value)| format!("{}:{}", quote(name), quote(value)))
                    .collect();
                edit.set(
                    &["Actor", "Attributes"],
                    &format!("{{{}}}", pairs.join(",")),
                );
            }
        }
        if let Some(actor) = actor {
            let ids = [
                root.at(&["Actor", "ID"]),
                root.get("id")
                    .filter(|id| id.str().as_ref() == Some(&self.actor)),
            ];
            for id in ids.into_iter().flatten() {
                edit.replace(id, quote(actor));
            }
        }
        let mut line = edit.finish();
        while line.last().is_some_and(u8::is_ascii_whitespace) {
            line.pop();
        }
        line.push(b'\n');
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: &str = concat!(
        r#"{"status":"start","id":"8dfa","from":"busybox:1","Type":"container","Action":"start","#,
        r#""Actor":{"ID":"8dfa","Attributes":{"com.flotilla.id":"i","image":"busybox:1","name":"web","tier":"a"}},"#,
        r#""scope":"local","time":1731000000,"timeNano":1731000000123456789}"#,
        "\n"
    );
    const PULL: &str = r#"{"Type":"image","Action":"pull","Actor":{"ID":"reg/a/b:2","Attributes":{"name":"reg/a/b"}},"scope":"local"}"#;
    const EXEC: &str = r#"{"Type":"container","Action":"exec_create: sh","Actor":{"ID":"8dfa"}}"#;
    const ORIGIN: Origin<'static> = Origin {
        name: "host1",
        id: "n1",
        addr: "192.0.2.7:2375",
        ip: "192.0.2.7",
    };

    #[track_caller]
    fn check(line: &str, filters: &str, expected: bool) {
        let event = Event::parse(line.as_bytes()).expect("an event");
        let filters = Filters::parse(filters).expect("filters");
        assert_eq!(
            event.is_wanted(&filters, &ORIGIN),
            expected,
            "{} {}",
            event.action,
            filters.to_json()
        );
    }

    #[test]
    fn filters_have_the_engines_rules() {
        check(START, "", true);
        check(
            START,
            r#"{"type":["container"],"event":["start","stop"]}"#,
            true,
        );
        check(START, r#"{"event":["sta"]}"#, false);
        check(EXEC, r#"{"event":["exec_create"]}"#, true);
        check(EXEC, r#"{"event":["exec_create: sh"]}"#, true);
        check(START, r#"{"event":["exec_start","sta"]}"#, true);
        check(START, r#"{"container":["we"]}"#, true);
        check(START, r#"{"container":["8d"]}"#, true);
        check(START, r#"{"container":["db"]}"#, false);
        check(PULL, r#"{"container":["db"]}"#, false);
        check(START, r#"{"image":["busybox"]}"#, true);
        check(START, r#"{"image":["busybox:1"]}"#, true);
        check(START, r#"{"image":["busy"]}"#, false);
        check(PULL, r#"{"image":["reg/a/b"]}"#, true);
        check(START, r#"{"label":["tier=a"]}"#, true);
        check(START, r#"{"label":["com.flotilla.id"]}"#, false);
        check(START, r#"{"label":["node.name=host1"]}"#, true);
        check(START, r#"{"scope":["swarm"]}"#, false);
        check(START, r#"{"node":["host1"]}"#, true);
        check(START, r#"{"node":["host2"]}"#, false);
        check(START, r#"{"network":["x"]}"#, false);
    }

    #[test]
    fn an_event_is_told_again_with_its_node() {
        let event = Event::parse(START.as_bytes()).expect("an event");
        let told =
            |actor| String::from_utf8(event.render(&ORIGIN, actor).expect("JSON")).expect("text");
        let expected = START.replace("\"com.flotilla.id\":\"i\",", "").replace(
            r#""tier":"a"}"#,
            r#""tier":"a","node.name":"host1","node.id":"n1","node.addr":"192.0.2.7:2375","node.ip":"192.0.2.7"}"#,
        );
        assert_eq!(told(None), expected);
        assert_eq!(told(Some("ours")), expected.replace("8dfa", "ours"));
        assert_eq!(event.time_nanos, 1_731_000_000_123_456_789);
        let bare = Event::parse(EXEC.as_bytes())
            .and_then(|event| event.render(&ORIGIN, None))
            .expect("JSON");
        assert!(
            bare.ends_with(b"\"node.ip\":\"192.0.2.7\"}}}\n"),
            "{}",
            String::from_utf8_lossy(&bare)
        );
    }

    #[test]
    fn old_clients_do_not_know_that_images_are_created() {
        let created = PULL.replace("pull", "create");
        let event = Event::parse(created.as_bytes()).expect("an event");
        assert!(
            event.is_known_to(ApiVersion::new(1, 46)) && !event.is_known_to(ApiVersion::new(1, 45))
        );
        assert!(
            Event::parse(PULL.as_bytes()).is_ok_and(|event| event.is_known_to(ApiVersion::MIN))
        );
    }

    proptest! {
        #[test]
        fn no_line_breaks_it(cut in 0..START.len(), put in "[\\[\\]{}\",:0a]{0,3}") {
            let mut line = START.to_owned();
            line.replace_range(cut..(cut + put.len()).min(START.len()), &put);
            if let Ok(event) = Event::parse(line.as_bytes()) {
                let told = event.render(&ORIGIN, Some("x")).expect("well-formed");
                prop_assert!(View::parse(&told).is_ok());
            }
        }
    }
}
