//! Volumes of several nodes as one list.
//!
//! Source: moby 28.5.2 `volume/service/convert.go` (filters) and `volume/service/errors.go`.
//!
//! **Invariant**: a volume of one node is never taken for one of the same name on another.

use std::borrow::Cow;

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

    /// Whether only unused volumes are wanted, or only used ones; nothing if that does not matter. Who uses a volume is
    /// not in the engines' lists.
    pub fn dangling(&self) -> Option<bool> {
        let wanted = || self.filters.bool_or("dangling", false).ok();
        self.filters.contains("dangling").then(wanted).flatten()
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
                let names = ["n1/data", "own", "n2/data", "far"].map(str::to_owned);
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
}
