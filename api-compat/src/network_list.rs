//! Networks of several nodes as one list, and what a reference to one means.
//!
//! Source: moby 28.5.2 `daemon/network/filter.go` and `getNetwork`: a full id, then a name, then the beginning of an id.
//!
//! **Invariant**: a builtin network is listed once; a name that several networks have is listed with its nodes, but the
//! cluster's own network of that name, which the bare name means.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::filters::{self, Filters, Patterns};
use crate::json_edit::{Edit, quote};
use crate::json_view::{Malformed, View};
use crate::labels;
use crate::query::Query;

/// A network of one node.
#[derive(Debug, Clone)]
pub struct Network<'a> {
    /// `Id`
    pub id: Cow<'a, str>,
    /// `Name`
    pub name: Cow<'a, str>,
    /// `Scope`
    pub scope: Cow<'a, str>,
    /// Where its node stands in the caller's order; past its end if it is on none.
    pub node: usize,
    /// Whether it is the cluster's: the one that its name means.
    pub of_cluster: bool,
    view: View<'a>,
}

/// Whether every engine has a network of this name from its first start.
pub fn is_builtin(name: &str) -> bool {
    matches!(name, "bridge" | "host" | "none" | "default")
}

impl<'a> Network<'a> {
    /// Reads an element of the list of `node`.
    pub fn of(view: View<'a>, node: usize) -> Self {
        Self {
            id: view.text_of("Id"),
            name: view.text_of("Name"),
            scope: view.text_of("Scope"),
            node,
            of_cluster: false,
            view,
        }
    }

    /// Reads a network of the cluster, as clients are to see it.
    pub fn of_cluster(view: View<'a>, node: usize) -> Self {
        Self {
            of_cluster: true,
            ..Self::of(view, node)
        }
    }

    /// Its labels.
    pub fn labels(&self) -> Option<View<'a>> {
        self.view.get("Labels")
    }
}

/// What a client asks to be listed.
#[derive(Debug, Clone)]
pub struct NetworkQuery {
    filters: Filters,
    names: Patterns,
    ids: Patterns,
}

impl NetworkQuery {
    /// Reads the parameters; the errors are the engine's (its 500 for a bad type is our 400).
    pub fn parse(query: &Query) -> Result<Self, ApiError> {
        let filters = Filters::parse(query.text("filters"))?;
        filters.validate(filters::NETWORKS)?;
        let dangling: Vec<_> = filters.get("dangling").collect();
        match dangling.as_slice() {
            [] | ["0" | "false" | "1" | "true"] => {}
            [_] => {
                return Err(ApiError::bad_parameter(
                    "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")",
                ));
            }
            _ => {
                return Err(ApiError::bad_parameter(
                    "got more than one value for filter key \"dangling\"",
                ));
            }
        }
        if let Some(unknown) = filters
            .get("type")
            .find(|kind| !matches!(*kind, "builtin" | "custom"))
        {
            return Err(ApiError::bad_parameter(format!(
                "invalid filter: 'type'='{unknown}'"
            )));
        }
        Ok(Self {
            names: filters.patterns("name"),
            ids: filters.patterns("id"),
            filters,
        })
    }

    /// The filters as parsed.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether only the engines know the answer: who uses a network is not in their lists.
    pub fn asks_for_use(&self) -> bool {
        self.filters.get("dangling").next().is_some()
    }

    /// Whether those that nothing joins are wanted, or those that something joins; nothing if both are.
    pub fn dangling(&self) -> Option<bool> {
        let wanted = self.filters.get("dangling").next()?;
        Some(matches!(wanted, "1" | "true"))
    }

    /// Whether networks of whatever node, and of none, are shown.
    pub fn wants_any_node(&self) -> bool {
        !self.filters.contains("node")
    }

    /// Whether networks of this node are shown.
    pub fn wants_node(&self, name: &str, id: &str) -> bool {
        self.filters.exact_match("node", name) || self.filters.exact_match("node", id)
    }

    /// Whether the network is shown, use and node apart.
    pub fn matches(&self, network: &Network<'_>, shown_as: &str) -> bool {
        let builtin = is_builtin(&network.name);
        let mut kinds = self.filters.get("type").peekable();
        self.filters
            .exact_match("driver", &network.view.text_of("Driver"))
            && (self.names.is_match(&network.name) || self.names.is_match(shown_as))
            && self.ids.is_match(&network.id)
            && labels::all_hold(&self.filters, "label", network.view.get("Labels"))
            && self.filters.exact_match("scope", &network.scope)
            && (kinds.peek().is_none() || kinds.any(|kind| (kind == "builtin") == builtin))
    }
}

/// One row for each network: the builtin ones of the first node that has them, one row for an id that several nodes know
/// (an overlay), and for a name that several networks have the names of their nodes before it. `nodes` are their names
/// in the order of [`Network::node`]. Each comes with the name it is shown by.
pub fn rows<'a>(networks: &[Network<'a>], nodes: &[&str]) -> Vec<(Network<'a>, String)> {
    let mut distinct: Vec<&Network<'a>> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for network in networks {
        let key = if is_builtin(&network.name) {
            &network.name
        } else {
            &network.id
        };
        if seen.insert(key.as_ref()) {
            distinct.push(network);
        }
    }
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for network in &distinct {
        *holders.entry(&network.name).or_default() += 1;
    }
    let shown_as =
        |network: &Network<'_>| match (holders.get(network.name.as_ref()), nodes.get(network.node))
        {
            (Some(2..), Some(node)) if !network.of_cluster => format!("{node}/{}", network.name),
            _ => network.name.clone().into_owned(),
        };
    distinct
        .iter()
        .map(|network| ((*network).clone(), shown_as(network)))
        .collect()
}

/// Appends a row.
pub fn render(out: &mut Vec<u8>, network: &Network<'_>, shown_as: &str) -> Result<(), Malformed> {
    if shown_as == network.name {
        out.extend_from_slice(network.view.as_json().as_bytes());
        return Ok(());
    }
    let mut edit = Edit::new(network.view.as_json().as_bytes())?;
    edit.set(&["Name"], &quote(shown_as));
    out.extend_from_slice(&edit.finish());
    Ok(())
}

/// What a reference to a network means.
#[derive(Debug, Clone)]
pub enum Found<'n, 'a> {
    /// Nothing of the kind.
    None,
    /// This network, on each of these nodes (several: a builtin one, or one id that several nodes know).
    One(Vec<&'n Network<'a>>),
    /// Several networks have that name.
    SameName(Vec<&'n Network<'a>>),
    /// So many ids begin so.
    SamePrefix(usize),
}

/// The network that `reference` means: a full id, a name, `node/name`, or the beginning of an id. `is_node` says whether
/// a text names the node at a place in the caller's order.
pub fn find<'n, 'a>(
    networks: &'n [Network<'a>],
    reference: &str,
    is_node: impl Fn(&str, usize) -> bool,
) -> Found<'n, 'a> {
    let all = |wanted: &dyn Fn(&Network<'a>) -> bool| -> Vec<&'n Network<'a>> {
        networks.iter().filter(|network| wanted(network)).collect()
    };
    let same_id = all(&|network| network.id == reference);
    if !same_id.is_empty() {
        return Found::One(same_id);
    }
    let same_name = all(&|network| network.name == reference);
    if let Some(ours) = same_name.iter().find(|network| network.of_cluster) {
        return Found::One(vec![*ours]);
    }
    if !same_name.is_empty() {
        let one = is_builtin(reference)
            || same_name
                .iter()
                .all(|network| network.id == same_name[0].id);
        return if one {
            Found::One(same_name)
        } else {
            Found::SameName(same_name)
        };
    }
    if let Some((node, rest)) = reference.split_once('/') {
        let there: Vec<_> = networks
            .iter()
            .filter(|network| is_node(node, network.node))
            .collect();
        let named: Vec<_> = there
            .iter()
            .copied()
            .filter(|network| network.name == rest)
            .collect();
        if !named.is_empty() {
            return Found::One(named);
        }
        return match prefixed(&there, rest) {
            Found::SamePrefix(_) => Found::None,
            found => found,
        };
    }
    prefixed(&networks.iter().collect::<Vec<_>>(), reference)
}

fn prefixed<'n, 'a>(networks: &[&'n Network<'a>], prefix: &str) -> Found<'n, 'a> {
    if prefix.is_empty() {
        return Found::None;
    }
    let hits: Vec<_> = networks
        .iter()
        .copied()
        .filter(|network| network.id.starts_with(prefix))
        .collect();
    let ids: std::collections::BTreeSet<_> =
        hits.iter().map(|network| network.id.as_ref()).collect();
    match ids.len() {
        0 => Found::None,
        1 => Found::One(hits),
        several => Found::SamePrefix(several),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: [&str; 2] = [
        r#"[{"Name":"bridge","Id":"b1","Scope":"local","Driver":"bridge","Labels":{}},
            {"Name":"front","Id":"f1","Scope":"local","Driver":"bridge","Labels":{"a":"1"}},
            {"Name":"back","Id":"aa1","Scope":"local","Driver":"macvlan"}]"#,
        r#"[{"Name":"bridge","Id":"b2","Scope":"local","Driver":"bridge"},
            {"Name":"front","Id":"f2","Scope":"local","Driver":"bridge"},
            {"Name":"mesh","Id":"aa2","Scope":"swarm","Driver":"overlay"}]"#,
    ];
    const OURS: &str = r#"[{"Name":"front","Id":"c1","Scope":"local","Driver":"bridge"},
        {"Name":"late","Id":"c2","Scope":"local","Driver":"bridge"}]"#;

    fn networks() -> Vec<Network<'static>> {
        let list = |node: usize| {
            let views: Vec<_> = View::parse(LISTS[node].as_bytes())
                .expect("a list")
                .elements()
                .collect();
            views.into_iter().map(move |view| Network::of(view, node))
        };
        list(0).chain(list(1)).collect()
    }

    #[track_caller]
    fn check(filters: &str, expected: &str) {
        let mut query = Query::default();
        query.set("filters", filters);
        let said = NetworkQuery::parse(&query).map_or_else(
            |error| error.to_string(),
            |query| {
                let all = networks();
                let rows = rows(&all, &["n1", "n2"]);
                let shown = rows
                    .iter()
                    .filter(|(network, name)| query.matches(network, name));
                shown
                    .map(|(_, name)| name.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            },
        );
        assert_eq!(said, expected, "{filters}");
    }

    #[test]
    fn each_filter_has_the_engines_rule() {
        check("", "bridge n1/front back n2/front mesh");
        check(r#"{"driver":["macvlan","overlay"]}"#, "back mesh");
        check(r#"{"name":["^front$"]}"#, "n1/front n2/front");
        check(r#"{"name":["n1/"]}"#, "n1/front");
        check(r#"{"id":["aa"]}"#, "back mesh");
        check(r#"{"label":["a"]}"#, "n1/front");
        check(r#"{"label":["a=2"]}"#, "");
        check(r#"{"scope":["swarm"]}"#, "mesh");
        check(r#"{"type":["builtin"]}"#, "bridge");
        check(r#"{"type":["custom"]}"#, "n1/front back n2/front mesh");
        check(r#"{"type":["x"]}"#, "invalid filter: 'type'='x'");
        check(r#"{"x":["x"]}"#, "invalid filter 'x'");
        check(
            r#"{"dangling":["1","0"]}"#,
            "got more than one value for filter key \"dangling\"",
        );
    }

    #[test]
    fn a_reference_is_an_id_a_name_or_a_beginning() {
        let all = networks();
        for (reference, expected) in [
            ("f1", "f1"),
            ("bridge", "b1 b2"),
            ("back", "aa1"),
            ("front", "several: f1 f2"),
            ("n2/front", "f2"),
            ("n2/aa", "aa2"),
            ("n2/back", "none"),
            ("aa", "2 begin so"),
            ("aa2", "aa2"),
            ("", "none"),
            ("zz", "none"),
        ] {
            let ids = |found: &[&Network<'_>]| {
                found
                    .iter()
                    .map(|n| n.id.to_string())
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let said = match find(&all, reference, |node, at| node == ["n1", "n2"][at]) {
                Found::None => "none".to_owned(),
                Found::One(found) => ids(&found),
                Found::SameName(found) => format!("several: {}", ids(&found)),
                Found::SamePrefix(count) => format!("{count} begin so"),
            };
            assert_eq!(said, expected, "{reference}");
        }
    }

    #[test]
    fn the_bare_name_means_the_clusters_network() {
        let mut all = networks();
        let ours: Vec<_> = View::parse(OURS.as_bytes())
            .expect("a list")
            .elements()
            .collect();
        all.push(Network::of_cluster(ours[0], 1));
        all.push(Network::of_cluster(ours[1], usize::MAX));
        let rows = rows(&all, &["n1", "n2"]);
        let shown: Vec<_> = rows.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(
            shown.join(" "),
            "bridge n1/front back n2/front mesh front late"
        );
        let nodes = ["n1", "n2"];
        let found = |reference: &str| {
            let is_node = |node: &str, at: usize| nodes.get(at).is_some_and(|name| *name == node);
            match find(&all, reference, is_node) {
                Found::One(found) => found.iter().map(|n| n.id.to_string()).collect(),
                Found::None | Found::SameName(_) | Found::SamePrefix(_) => Vec::new(),
            }
        };
        assert_eq!(found("front"), ["c1"]);
        assert_eq!(found("n1/front"), ["f1"]);
        assert_eq!(found("late"), ["c2"]);
        assert_eq!(found("c2"), ["c2"]);
        assert!(found("n1/late").is_empty());
    }

    #[test]
    fn only_a_shown_name_is_changed() {
        let all = networks();
        let mut out = Vec::new();
        render(&mut out, &all[2], "n1/back").expect("well-formed");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            r#"{"Name":"n1/back","Id":"aa1","Scope":"local","Driver":"macvlan"}"#
        );
    }
}
