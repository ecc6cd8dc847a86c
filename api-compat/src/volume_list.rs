//! Volumes of several nodes as one list.
//!
//! Source: moby 28.5.2 `volume/service/convert.go` (filters) and `volume/service/errors.go`.
//!
//! **Invariant**: a volume of one node is never taken for one of the same name on another.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::error::ApiError;
use crate::filters::{self, Filters, Patterns};
use crate::json_edit::{Edit, quote};
use crate::json_view::{Malformed, View};
use crate::labels;
use crate::query::Query;

/// A volume of one node.
#[derive(Debug, Clone)]
pub struct Volume<'a> {
    /// `Name`
    pub name: Cow<'a, str>,
    /// Where its node stands in the caller's order.
    pub node: usize,
    view: View<'a>,
}

impl<'a> Volume<'a> {
    /// Reads an element of the list of `node`.
    pub fn of(view: View<'a>, node: usize) -> Self {
        Self {
            name: view.text_of("Name"),
            node,
            view,
        }
    }

    /// Appends it, shown by this name.
    pub fn render(&self, out: &mut Vec<u8>, shown_as: &str) -> Result<(), Malformed> {
        if shown_as == self.name {
            out.extend_from_slice(self.view.as_json().as_bytes());
            return Ok(());
        }
        let mut edit = Edit::new(self.view.as_json().as_bytes())?;
        edit.set(&["Name"], &quote(shown_as));
        out.extend_from_slice(&edit.finish());
        Ok(())
    }
}

/// What a client asks to be listed.
#[derive(Debug, Clone)]
pub struct VolumeQuery {
    filters: Filters,
    names: Patterns,
}

impl VolumeQuery {
    /// Reads the parameters; the errors are the engine's.
    pub fn parse(query: &Query) -> Result<Self, ApiError> {
        let filters = Filters::parse(query.text("filters")).map_err(|error| ApiError {
            message: format!("error reading volume filters: {}", error.message),
            ..error
        })?;
        filters.validate(filters::VOLUMES)?;
        filters.bool_or("dangling", false)?;
        Ok(Self {
            names: filters.patterns("name"),
            filters,
        })
    }

    /// The filters as parsed.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether only the engines know the answer: who uses a volume is not in their lists.
    pub fn asks_for_use(&self) -> bool {
        self.filters.contains("dangling")
    }

    /// Whether volumes of this node are shown.
    pub fn wants_node(&self, name: &str, id: &str) -> bool {
        self.filters.exact_match("node", name) || self.filters.exact_match("node", id)
    }

    /// Whether the volume is shown, use and node apart.
    pub fn matches(&self, volume: &Volume<'_>, shown_as: &str) -> bool {
        self.filters
            .exact_match("driver", &volume.view.text_of("Driver"))
            && (self.names.is_match(&volume.name) || self.names.is_match(shown_as))
            && labels::all_hold(&self.filters, "label", volume.view.get("Labels"))
    }
}

/// The names that the volumes are shown by: their own, with the node before it where several nodes have one of a name.
/// `nodes` are the names of the nodes in the order of [`Volume::node`].
pub fn shown_names(volumes: &[Volume<'_>], nodes: &[&str]) -> Vec<String> {
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    for volume in volumes {
        *holders.entry(&volume.name).or_default() += 1;
    }
    let shown =
        |volume: &Volume<'_>| match (holders.get(volume.name.as_ref()), nodes.get(volume.node)) {
            (Some(2..), Some(node)) => format!("{node}/{}", volume.name),
            _ => volume.name.clone().into_owned(),
        };
    volumes.iter().map(shown).collect()
}

/// Which volumes a reference means: those of this name, or the one of `node/name`. The engine has no short forms here.
pub fn find<'v, 'a>(
    volumes: &'v [Volume<'a>],
    reference: &str,
    is_node: impl Fn(&str, usize) -> bool,
) -> Vec<&'v Volume<'a>> {
    let named: Vec<_> = volumes
        .iter()
        .filter(|volume| volume.name == reference)
        .collect();
    match reference.split_once('/') {
        Some((node, name)) if named.is_empty() => volumes
            .iter()
            .filter(|volume| volume.name == name && is_node(node, volume.node))
            .collect(),
        _ => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTS: [&str; 2] = [
        r#"[{"Name":"data","Driver":"local","Labels":{"a":"1"}},{"Name":"own","Driver":"local","Labels":null}]"#,
        r#"[{"Name":"data","Driver":"local"},{"Name":"far","Driver":"nfs"}]"#,
    ];

    fn volumes() -> Vec<Volume<'static>> {
        let list = |node: usize| {
            let views: Vec<_> = View::parse(LISTS[node].as_bytes())
                .expect("a list")
                .elements()
                .collect();
            views.into_iter().map(move |view| Volume::of(view, node))
        };
        list(0).chain(list(1)).collect()
    }

    #[track_caller]
    fn check(filters: &str, expected: &str) {
        let mut query = Query::default();
        query.set("filters", filters);
        let said = VolumeQuery::parse(&query).map_or_else(
            |error| error.to_string(),
            |query| {
                let all = volumes();
                let names = shown_names(&all, &["n1", "n2"]);
                let shown = all
                    .iter()
                    .zip(&names)
                    .filter(|(volume, name)| query.matches(volume, name));
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
        check("", "n1/data own n2/data far");
        check(r#"{"name":["ow","fa"]}"#, "own far");
        check(r#"{"driver":["nfs"]}"#, "far");
        check(r#"{"label":["a=1"]}"#, "n1/data");
        check(r#"{"dangling":["x"]}"#, "invalid filter 'dangling=[x]'");
        check(r#"{"x":["y"]}"#, "invalid filter 'x'");
        check("{", "error reading volume filters: invalid filter");
    }

    #[test]
    fn a_reference_is_a_name_with_or_without_its_node() {
        let all = volumes();
        for (reference, expected) in [
            ("data", vec![0, 1]),
            ("own", vec![0]),
            ("n2/data", vec![1]),
            ("n2/own", vec![]),
            ("da", vec![]),
        ] {
            let nodes: Vec<_> = find(&all, reference, |node, at| node == ["n1", "n2"][at])
                .iter()
                .map(|volume| volume.node)
                .collect();
            assert_eq!(nodes, expected, "{reference}");
        }
    }
}
