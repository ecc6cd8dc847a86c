//! `GET /containers/json`: which containers a query asks for.
//!
//! Source: moby 28.5.2 `daemon/list.go` and `getContainersJSON`. The query parameters `before` and `since` are read there
//! and used nowhere: only the filters count.
//!
//! **Invariant**: a query that was parsed has nothing left to complain about but names that do not exist.

use std::collections::BTreeSet;

use crate::container_item::{Head, Order};
use crate::container_status::ContainerStatus;
use crate::error::ApiError;
use crate::filters::{CONTAINERS, Filters, Patterns};
use crate::go_text;
use crate::query::Query;

/// A parsed query.
#[derive(Debug, Clone)]
pub struct ListQuery {
    all: bool,
    /// At most so many.
    pub limit: Option<usize>,
    /// Whether sizes are wanted, which only the engines know.
    pub size: bool,
    filters: Filters,
    names: Patterns,
    exited: Vec<i64>,
    is_task: Option<bool>,
    publish: Vec<PortRange>,
    expose: Vec<PortRange>,
}

/// What a query names and somebody else must look up.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// The ids of the images of [`ListQuery::ancestors`] and of their descendants.
    pub images: BTreeSet<String>,
    /// The place of [`ListQuery::before`]; an unknown container is the caller's 404.
    pub before: Option<Order<'static>>,
    /// The place of [`ListQuery::since`].
    pub since: Option<Order<'static>>,
}

/// What is known of a container beside its item.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts<'a> {
    /// The name of its node.
    pub node_name: &'a str,
    /// The id of its node.
    pub node_id: &'a str,
    /// When it was made, in nanoseconds since 1970; items have only seconds.
    pub created_nanos: i64,
    /// Whether it is the task of a service.
    pub is_task: bool,
    /// Its health if it is known better than its status tells.
    pub health: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PortRange {
    protocol: String,
    first: u16,
    last: u16,
}

const STATES: [&str; 7] = [
    "created",
    "running",
    "paused",
    "restarting",
    "removing",
    "exited",
    "dead",
];
const HEALTHS: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

impl ListQuery {
    /// Reads a query; the errors are the engine's, with 400 where it would say 500.
    pub fn parse(query: &Query) -> Result<Self, ApiError> {
        let filters = Filters::parse(query.text("filters"))?;
        let limit = query.int("limit")?.unwrap_or_default();
        filters.validate(CONTAINERS)?;
        let exited = filters
            .get("exited")
            .map(exit_code)
            .collect::<Result<_, _>>()?;
        one_of(&filters, "status", "state", &STATES)?;
        let is_task = filters.bool_or("is-task", false)?;
        one_of(&filters, "health", "health", &HEALTHS)?;
        Ok(Self {
            all: query.bool("all") || filters.get("status").next().is_some(),
            limit: usize::try_from(limit).ok().filter(|limit| *limit > 0),
            size: query.bool("size"),
            names: filters.patterns("name"),
            exited,
            is_task: filters.contains("is-task").then_some(is_task),
            publish: ports(&filters, "publish")?,
            expose: ports(&filters, "expose")?,
            filters,
        })
    }

    /// The query behind it, to ask an engine for sizes.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether containers that do not run are shown: with `all`, with a limit, or with a status filter.
    pub fn shows_stopped(&self) -> bool {
        self.all || self.limit.is_some()
    }

    /// The image references whose containers are wanted; none asked for means all.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.filters.get("ancestor")
    }

    /// The container that all shown ones are older than.
    pub fn before(&self) -> Option<&str> {
        self.filters.get("before").last()
    }

    /// The container that all shown ones are newer than.
    pub fn since(&self) -> Option<&str> {
        self.filters.get("since").last()
    }

    /// The prefixes of ids asked for. The engine ignores one that is no prefix, or of several containers.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.filters.get("id")
    }

    /// The values of the `name` filter, regular expressions.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.filters.get("name")
    }

    /// The values of the `label` filter: `name` or `name=value`.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.filters.get("label")
    }

    /// Whether a container is shown, the limit apart.
    pub fn matches(&self, head: &Head<'_>, facts: &Facts<'_>, resolved: &Resolved) -> bool {
        let running = matches!(&*head.state, "running" | "paused" | "restarting");
        (running || self.shows_stopped())
            && self.matches_place(head, facts, resolved)
            && self.matches_name(head, facts)
            && self.matches_id(head)
            && self.is_task.is_none_or(|wanted| wanted == facts.is_task)
            && self.filters.match_labels("label", |name| match name {
                crate::labels::NODE => Some(facts.node_name),
                hidden if crate::labels::is_hidden(hidden) => None,
                name => head.label(name),
            })
            && (self.filters.exact_match("node", facts.node_name)
                || self.filters.exact_match("node", facts.node_id))
            && self.matches_status(head, running, facts)
            && self.matches_volume(head)
            && (!self.filters.contains("ancestor") || resolved.images.contains(&*head.image_id))
            && self.matches_network(head)
            && self.matches_port(head)
    }

    fn matches_place(&self, head: &Head<'_>, facts: &Facts<'_>, resolved: &Resolved) -> bool {
        let order = Order::of(facts.created_nanos, &head.id);
        resolved
            .before
            .as_ref()
            .is_none_or(|before| order > *before)
            && resolved.since.as_ref().is_none_or(|since| order < *since)
    }

    /// A name matches with and without its slash; with the node before it only where a pattern has a slash inside,
    /// else every pattern would match the names of nodes.
    fn matches_name(&self, head: &Head<'_>, facts: &Facts<'_>) -> bool {
        if self.names.is_empty() {
            return true;
        }
        let name = own_name(head, facts.node_name);
        let inside = |pattern: &str| pattern.trim_start_matches(['^', '/']).contains('/');
        self.names.is_match(&format!("/{name}"))
            || self.names.is_match(name)
            || (self.filters.get("name").any(inside)
                && self.names.is_match(&format!("/{}/{name}", facts.node_name)))
    }

    fn matches_id(&self, head: &Head<'_>) -> bool {
        !self.filters.contains("id")
            || self
                .filters
                .get("id")
                .any(|prefix| !prefix.is_empty() && head.id.starts_with(prefix))
            || self.filters.get("id").next().is_none()
    }

    fn matches_status(&self, head: &Head<'_>, running: bool, facts: &Facts<'_>) -> bool {
        let status = ContainerStatus::parse(&head.status);
        let exited = || match status.exit_code() {
            Some(code) if !running => self.exited.contains(&i64::from(code)),
            _ => false,
        };
        (self.exited.is_empty() || exited())
            && self.filters.exact_match("status", &head.state)
            && self
                .filters
                .exact_match("health", facts.health.unwrap_or(status.health()))
    }

    fn matches_volume(&self, head: &Head<'_>) -> bool {
        !self.filters.contains("volume")
            || self.filters.get("volume").any(|wanted| {
                head.mounts.iter().any(|mount| {
                    let name = if mount.name.is_empty() {
                        &mount.source
                    } else {
                        &mount.name
                    };
                    (!mount.destination.is_empty() && mount.destination == wanted) || name == wanted
                })
            })
    }

    fn matches_network(&self, head: &Head<'_>) -> bool {
        !self.filters.contains("network")
            || self.filters.get("network").any(|wanted| {
                head.networks
                    .iter()
                    .any(|network| network.name == wanted || network.id.starts_with(wanted))
            })
    }

    fn matches_port(&self, head: &Head<'_>) -> bool {
        if self.publish.is_empty() && self.expose.is_empty() {
            return true;
        }
        head.ports.iter().any(|port| {
            self.publish
                .iter()
                .any(|range| range.holds(port.public, &port.protocol))
                || self
                    .expose
                    .iter()
                    .any(|range| range.holds(port.private, &port.protocol))
        })
    }
}

impl PortRange {
    fn holds(&self, port: u16, protocol: &str) -> bool {
        (self.first..=self.last).contains(&port) && self.protocol == protocol
    }
}

/// The container's own name: links go by `/other/alias`, and the node may stand before all of them.
fn own_name<'a>(head: &'a Head<'_>, node: &str) -> &'a str {
    let bare = |name: &'a str| {
        let name = name.strip_prefix('/').unwrap_or(name);
        name.strip_prefix(node)
            .and_then(|rest| rest.strip_prefix('/'))
            .unwrap_or(name)
    };
    let mut names = head.names.iter().map(|name| bare(name));
    names.find(|name| !name.contains('/')).unwrap_or_default()
}

fn exit_code(value: &str) -> Result<i64, ApiError> {
    go_text::parse_int(value).map_err(|error| {
        ApiError::bad_parameter(format!(
            "invalid filter 'exited={value}': {}",
            error.with_function("strconv.Atoi")
        ))
    })
}

fn one_of(filters: &Filters, key: &str, what: &str, known: &[&str]) -> Result<(), ApiError> {
    match filters.get(key).find(|value| !known.contains(value)) {
        None => Ok(()),
        Some(value) => Err(ApiError::bad_parameter(format!(
            "invalid filter '{key}={value}': invalid value for {what} ({value}): must be one of {}",
            known.join(", ")
        ))),
    }
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn ports(filters: &Filters, key: &str) -> Result<Vec<PortRange>, ApiError> {
    filters
        .get(key)
        .map(|value| port_range(key, value).map_err(ApiError::bad_parameter))
        .collect()
}

fn port_range(key: &str, value: &str) -> Result<PortRange, String> {
    if value.contains(':') {
        return Err(format!(
            "filter for '{key}' should not contain ':': {value}"
        ));
    }
    let problem = |text: String| format!("error while looking up for {key} {value}: {text}");
    let number = |text| {
        go_text::parse_port(text).map_err(|error| problem(error.with_function("strconv.ParseUint")))
    };
    let (port, protocol) = split_port(value);
    if port.is_empty() {
        return Err(problem("empty string specified for ports".to_owned()));
    }
    let mut bounds = port.split('-');
    let first = number(bounds.next().unwrap_or_default())?;
    let last = bounds.next().map_or(Ok(first), number)?;
    if last < first {
        return Err(problem(format!("invalid range specified for port: {port}")));
    }
    Ok(PortRange {
        protocol: protocol.to_owned(),
        first,
        last,
    })
}

/// `80/udp` as port and protocol, `tcp` if it names none.
pub(crate) fn split_port(text: &str) -> (&str, &str) {
    let mut parts = text.split('/');
    let port = parts.next().unwrap_or_default();
    let protocol = parts.next().unwrap_or_default();
    (port, if protocol.is_empty() { "tcp" } else { protocol })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Containers as `id name state status`, newest first, with what else the filters look at.
    const ITEMS: [&str; 4] = [
        r#"{"Id":"aa11","Names":["/web"],"ImageID":"sha256:1","Created":40,"State":"running","Status":"Up 3 minutes (healthy)",
            "Labels":{"a":"1","b":"x"},"Ports":[{"PrivatePort":80,"PublicPort":8080,"Type":"tcp"}]}"#,
        r#"{"Id":"ab22","Names":["/web-2","/web/alias"],"ImageID":"sha256:2","Created":30,"State":"paused",
            "Status":"Up 1 second (Paused)","Labels":{"a":"2"},"Ports":[{"PrivatePort":53,"Type":"udp"}],
            "Mounts":[{"Type":"volume","Name":"data","Source":"/var/x","Destination":"/data"}]}"#,
        r#"{"Id":"cc33","Names":["/db"],"ImageID":"sha256:1","Created":20,"State":"exited","Status":"Exited (137) 2 hours ago",
            "Mounts":[{"Type":"bind","Source":"/src","Destination":"/dst"}]}"#,
        r#"{"Id":"dd44","Names":["/new"],"ImageID":"sha256:3","Created":10,"State":"created","Status":"Created",
            "Labels":{"com.flotilla.id":"x"},
            "NetworkSettings":{"Networks":{"front":{"NetworkID":"f00d"},"bridge":{"NetworkID":"b1"}}}}"#,
    ];

    fn asked(query: &str, filters: &str) -> Result<String, ApiError> {
        let mut parsed = Query::parse(query)?;
        if !filters.is_empty() {
            parsed.set("filters", filters);
        }
        let query = ListQuery::parse(&parsed)?;
        let heads: Vec<_> = ITEMS
            .iter()
            .map(|item| Head::parse(item.as_bytes()).expect("an item"))
            .collect();
        let place = |name: Option<&str>| {
            heads
                .iter()
                .find(|h| Some(h.name()) == name)
                .map(|h| Order::of(h.created, &h.id).into_owned())
        };
        let resolved = Resolved {
            images: query
                .ancestors()
                .map(|image| format!("sha256:{image}"))
                .collect(),
            before: place(query.before()),
            since: place(query.since()),
        };
        let shown = heads.iter().enumerate().filter(|(index, head)| {
            let facts = Facts {
                node_name: "host1",
                node_id: "n1",
                created_nanos: head.created,
                is_task: *index == 0,
                health: None,
            };
            query.matches(head, &facts, &resolved)
        });
        let names: Vec<_> = shown
            .map(|(_, head)| head.name())
            .take(query.limit.unwrap_or(usize::MAX))
            .collect();
        Ok(names.join(" "))
    }

    #[track_caller]
    fn check(query: &str, filters: &str, expected: &str) {
        let said = asked(query, filters).unwrap_or_else(|error| error.to_string());
        assert_eq!(said, expected, "{query} {filters}");
    }

    #[test]
    fn stopped_containers_are_shown_when_asked_for() {
        check("", "", "web web-2");
        check("all=1", "", "web web-2 db new");
        check("limit=3", "", "web web-2 db");
        check("limit=-1", "", "web web-2");
        check("", r#"{"status":["exited"]}"#, "db");
    }

    #[test]
    fn a_name_is_known_with_and_without_its_node() {
        for (names, wanted) in [
            (r#"["/web"]"#, "web"),
            (r#"["/db/alias","/web"]"#, "web"),
            (r#"["/host1/db/alias","/host1/web"]"#, "web"),
            (r#"["/db/alias"]"#, ""),
        ] {
            let item = format!(r#"{{"Id":"aa","Names":{names}}}"#);
            let head = Head::parse(item.as_bytes()).expect("an item");
            assert_eq!(own_name(&head, "host1"), wanted, "{names}");
        }
    }

    #[test]
    fn each_filter_has_the_engines_rule() {
        let all = |filters, expected| check("all=true", filters, expected);
        all(r#"{"name":["web"]}"#, "web web-2");
        all(r#"{"name":["^/web$"]}"#, "web");
        all(r#"{"name":["^web$","db"]}"#, "web db");
        all(r#"{"name":["alias"]}"#, "");
        all(r#"{"name":["host1"]}"#, "");
        all(r#"{"name":["host1/db"]}"#, "db");
        all(r#"{"id":["aa","cc3"]}"#, "web db");
        all(r#"{"id":["a1"]}"#, "");
        all(r#"{"label":["a"]}"#, "web web-2");
        all(r#"{"label":["a=1","b"]}"#, "web");
        all(r#"{"label":["com.flotilla.id"]}"#, "");
        all(
            r#"{"label":["com.flotilla.node=host1"],"status":["created"]}"#,
            "new",
        );
        all(r#"{"node":["host1"]}"#, "web web-2 db new");
        all(r#"{"node":["host"]}"#, "");
        all(r#"{"node":["n1"]}"#, "web web-2 db new");
        all(r#"{"node":["host2"]}"#, "");
        all(r#"{"ancestor":["1"]}"#, "web db");
        all(r#"{"ancestor":[]}"#, "");
        all(r#"{"before":["web-2"]}"#, "db new");
        all(r#"{"since":["db"]}"#, "web web-2");
        all(r#"{"exited":["137"]}"#, "db");
        all(r#"{"exited":["0"]}"#, "");
        all(r#"{"health":["healthy"]}"#, "web");
        all(r#"{"health":["none"]}"#, "web-2 db new");
        all(r#"{"is-task":["true"]}"#, "web");
        all(r#"{"is-task":["0"]}"#, "web-2 db new");
        all(r#"{"isolation":["x"]}"#, "web web-2 db new");
        all(r#"{"volume":["data"]}"#, "web-2");
        all(r#"{"volume":["/dst"]}"#, "db");
        all(r#"{"volume":["/src"]}"#, "db");
        all(r#"{"volume":["/var/x"]}"#, "");
        all(r#"{"network":["front"]}"#, "new");
        all(r#"{"network":["f0"]}"#, "new");
        all(r#"{"publish":["8000-8100"]}"#, "web");
        all(r#"{"publish":["8080/udp"]}"#, "");
        all(r#"{"expose":["53/udp","80"]}"#, "web web-2");
    }

    #[test]
    fn bad_values_are_refused_in_the_engines_words() {
        check("limit=x", "", "strconv.Atoi: parsing \"x\": invalid syntax");
        check("", "{", "invalid filter");
        check("", r#"{"foo":["a"]}"#, "invalid filter 'foo'");
        check(
            "",
            r#"{"exited":["x"]}"#,
            "invalid filter 'exited=x': strconv.Atoi: parsing \"x\": invalid syntax",
        );
        check(
            "",
            r#"{"status":["foo"]}"#,
            "invalid filter 'status=foo': invalid value for state (foo): \
             must be one of created, running, paused, restarting, removing, exited, dead",
        );
        check(
            "",
            r#"{"health":["foo"]}"#,
            "invalid filter 'health=foo': invalid value for health (foo): \
             must be one of none, starting, healthy, unhealthy",
        );
        check("", r#"{"is-task":["x"]}"#, "invalid filter 'is-task=[x]'");
        check(
            "",
            r#"{"publish":["1:2"]}"#,
            "filter for 'publish' should not contain ':': 1:2",
        );
        check(
            "",
            r#"{"expose":["9-3"]}"#,
            "error while looking up for expose 9-3: invalid range specified for port: 9-3",
        );
        check(
            "",
            r#"{"expose":["x"]}"#,
            "error while looking up for expose x: strconv.ParseUint: parsing \"x\": invalid syntax",
        );
        check(
            "",
            r#"{"expose":[""]}"#,
            "error while looking up for expose : empty string specified for ports",
        );
    }

    proptest! {
        #[test]
        fn no_query_breaks_it(key in "(name|publish|expose|id|volume|before)", value in "\\PC{0,8}") {
            let _ = asked("all=1", &serde_json::json!({key: [value]}).to_string());
        }
    }
}
