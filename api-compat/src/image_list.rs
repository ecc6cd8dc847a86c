//! `GET /images/json` over several nodes: which images are shown, with which names, and how.
//!
//! Source: moby 28.5.2 `daemon/images/image_list.go` and the version gates of `getImagesJSON`. What follows from them: a
//! `reference` filter also hides the names that do not match; `before` and `until` of several values mean the oldest,
//! `since` the newest; an image without any name is shown unless names are asked for.
//!
//! **Invariant**: an image is one row, on however many nodes it is; a tag is shown on one row only.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::error::ApiError;
use crate::filters::{self, Filters};
use crate::glob::Glob;
use crate::json_edit::{Edit, quote};
use crate::json_view::{Malformed, View};
use crate::labels;
use crate::query::Query;
use crate::timestamp;
use crate::version::ApiVersion;

/// What a client asks to be listed.
#[derive(Debug, Clone)]
pub struct ImageQuery {
    filters: Filters,
    dangling: Option<bool>,
    references: Vec<Glob>,
    until: Option<Built>,
    live: bool,
}

/// When an image was built: in Unix seconds, and the nanoseconds beyond, which no list tells.
pub type Built = (i64, i32);

/// What the filters `before`, `until` and `since` come to: see [`ImageQuery::resolved`].
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    /// Only what was built before this is shown.
    before: Option<Built>,
    /// Only what was built after this is shown.
    since: Option<Built>,
}

impl Resolved {
    /// Whether an image that was built in this second is shown depends on its [`Row::nanos`].
    pub fn depends_on_nanos(&self, created: i64) -> bool {
        let mut all = self.before.iter().chain(&self.since);
        all.any(|(seconds, _)| *seconds == created)
    }
}

/// One image of the pool.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// `sha256:…`
    pub id: Cow<'a, str>,
    /// When it was built, in Unix seconds.
    pub created: i64,
    /// The nanoseconds beyond that, where somebody looked.
    pub nanos: i32,
    /// The names of the nodes that have it.
    pub nodes: Vec<&'a str>,
    base: View<'a>,
    /// Each with the number of healthy nodes where it names this image.
    tags: BTreeMap<String, usize>,
    digests: BTreeSet<String>,
    /// How many containers were made from it; -1 if that was not counted.
    pub containers: i64,
    size: i64,
    shared_size: i64,
    /// How many of the nodes are healthy.
    healthy: usize,
}

impl ImageQuery {
    /// Reads the parameters; the errors are the engine's.
    pub fn parse(query: &Query, version: ApiVersion, now: Timestamp) -> Result<Self, ApiError> {
        let mut filters = Filters::parse(query.text("filters"))?;
        if version < ApiVersion::new(1, 41) && !query.text("filter").is_empty() {
            filters.add("reference", query.text("filter"));
        }
        filters.validate(filters::IMAGES)?;
        let dangling = filters
            .contains("dangling")
            .then(|| filters.bool_or("dangling", false))
            .transpose()?;
        let mut until: Option<Built> = None;
        for value in filters.get("until") {
            let time = timestamp::parse(value, now)?;
            let time = time.map(|time| (time.as_second(), time.subsec_nanosecond()));
            until = [until, time].into_iter().flatten().min();
        }
        let references = filters
            .get("reference")
            .map(|pattern| {
                Glob::new(pattern).map_err(|error| ApiError::bad_parameter(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        let live = query.bool("all")
            || (version >= ApiVersion::new(1, 42) && query.bool("shared-size"))
            || (version >= ApiVersion::new(1, 47) && query.bool("manifests"));
        Ok(Self {
            dangling,
            references,
            until,
            live,
            filters,
        })
    }

    /// The filters as parsed.
    pub fn filters(&self) -> &Filters {
        &self.filters
    }

    /// Whether what is asked for is in no list that was read before: intermediate images, shared sizes, manifests.
    pub fn asks_for_more(&self) -> bool {
        self.live
    }

    /// The values of `before`.
    pub fn before(&self) -> impl Iterator<Item = &str> {
        self.filters.get("before")
    }

    /// The values of `since`.
    pub fn since(&self) -> impl Iterator<Item = &str> {
        self.filters.get("since")
    }

    /// Of the images that [`before`](Self::before) and [`since`](Self::since) name, it is looked up when they were built.
    pub fn resolved(
        &self,
        before: impl IntoIterator<Item = Built>,
        since: impl IntoIterator<Item = Built>,
    ) -> Resolved {
        Resolved {
            before: before.into_iter().chain(self.until).min(),
            since: since.into_iter().max(),
        }
    }

    /// Whether images of this node are shown.
    pub fn wants_node(&self, name: &str, id: &str) -> bool {
        self.filters.exact_match("node", name) || self.filters.exact_match("node", id)
    }

    /// Whether the image is shown. Takes those of its names away that are not.
    pub fn select(&self, row: &mut Row<'_>, resolved: &Resolved) -> bool {
        let built = (row.created, row.nanos);
        if resolved.before.is_some_and(|before| built >= before)
            || resolved.since.is_some_and(|since| built <= since)
        {
            return false;
        }
        let labels = row.base.get("Labels");
        if !labels::all_hold(&self.filters, "label", labels)
            || (self.filters.contains("label!")
                && labels::all_hold(&self.filters, "label!", labels))
        {
            return false;
        }
        if self.filters.contains("reference") {
            row.tags.retain(|name, _| self.matches_reference(name));
            row.digests.retain(|name| self.matches_reference(name));
        }
        if row.tags.is_empty() && row.digests.is_empty() {
            return self.dangling != Some(false) && !self.filters.contains("reference");
        }
        self.dangling != Some(true) || row.tags.is_empty()
    }

    fn matches_reference(&self, name: &str) -> bool {
        self.references
            .iter()
            .any(|glob| glob.is_match(name) || glob.is_match(repository(name)))
    }
}

/// A familiar reference without its tag and digest.
fn repository(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

/// One node's list.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Whether it answers: the images of one that does not are listed, but do not decide what a tag means.
    pub healthy: bool,
    /// The elements of its list.
    pub images: Vec<View<'a>>,
}

/// What is known of tags and ids beside the lists.
#[derive(Debug, Clone, Default)]
pub struct Known<'a> {
    /// The images that tags were pointed at.
    pub tags: BTreeMap<&'a str, &'a str>,
    /// Ids that another kind of image store gives an image, each with the one that is shown.
    pub twins: BTreeMap<&'a str, &'a str>,
}

/// One row for each image. A tag is on the one that it was pointed at, if a healthy node has that; else on the one that
/// most healthy nodes hold under it, then the newest, then the one with the smallest id: the one that a container made
/// now would get. Newest first.
pub fn merge<'a>(sources: &[Source<'a>], known: &Known<'a>) -> Vec<Row<'a>> {
    let mut rows: BTreeMap<Cow<'a, str>, Row<'a>> = BTreeMap::new();
    for source in sources {
        for image in &source.images {
            let mut row = Row::of(*image, source.node, source.healthy);
            if let Some(shown) = known.twins.get(&*row.id) {
                row.id = Cow::Borrowed(shown);
            }
            match rows.entry(row.id.clone()) {
                std::collections::btree_map::Entry::Vacant(place) => drop(place.insert(row)),
                std::collections::btree_map::Entry::Occupied(mut place) => {
                    place.get_mut().join(row)
                }
            }
        }
    }
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by_key(|row| Reverse(row.created));
    part_tags(&mut rows, known);
    rows
}

/// Leaves each tag on one row.
fn part_tags(rows: &mut [Row<'_>], known: &Known<'_>) {
    let mut holders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        for tag in row.tags.keys() {
            holders.entry(tag.clone()).or_default().push(index);
        }
    }
    for (tag, rivals) in holders {
        let pointed = known.tags.get(&*tag).and_then(|id| {
            let meant = |row: &Row<'_>| row.id == *id && row.healthy > 0;
            rows.iter().position(meant)
        });
        let is_seen = rivals
            .iter()
            .any(|index| rows[*index].tags.get(&tag) > Some(&0));
        if let Some(pointed) = pointed.filter(|_| is_seen) {
            for index in rivals.into_iter().filter(|index| *index != pointed) {
                rows[index].tags.remove(&tag);
            }
            rows[pointed].tags.entry(tag).or_default();
            continue;
        }
        // Rows are sorted by age, and by id among those of one age, so of equals the first is meant.
        let votes = |index: usize| rows[index].tags.get(&tag).copied().unwrap_or_default();
        let chosen = rivals
            .iter()
            .copied()
            .max_by_key(|index| (votes(*index), Reverse(*index)));
        for index in rivals.into_iter().filter(|index| Some(*index) != chosen) {
            rows[index].tags.remove(&tag);
        }
    }
}

impl<'a> Row<'a> {
    fn of(image: View<'a>, node: &'a str, healthy: bool) -> Self {
        let names = |key: &str| -> Vec<String> {
            let all = image
                .get(key)
                .into_iter()
                .flat_map(|names| names.elements());
            all.filter_map(|name| name.str())
                .filter(|name| !name.starts_with("<none>"))
                .map(Cow::into_owned)
                .collect()
        };
        let number = |key: &str| image.get(key).and_then(|value| value.i64()).unwrap_or(-1);
        let votes = usize::from(healthy);
        Self {
            id: image.text_of("Id"),
            created: image.int_of("Created"),
            nanos: 0,
            nodes: vec![node],
            base: image,
            tags: names("RepoTags")
                .into_iter()
                .map(|tag| (tag, votes))
                .collect(),
            digests: names("RepoDigests").into_iter().collect(),
            size: image.int_of("Size"),
            shared_size: number("SharedSize"),
            containers: number("Containers"),
            healthy: votes,
        }
    }

    fn join(&mut self, other: Self) {
        // What a healthy node says is newer.
        if self.healthy == 0 && other.healthy > 0 {
            self.base = other.base;
        }
        self.healthy += other.healthy;
        self.nodes.extend(other.nodes);
        for (tag, votes) in other.tags {
            *self.tags.entry(tag).or_default() += votes;
        }
        self.digests.extend(other.digests);
        self.size = self.size.max(other.size);
        self.shared_size = self.shared_size.max(other.shared_size);
        self.containers = match (self.containers, other.containers) {
            (-1, known) | (known, -1) => known,
            (one, two) => one.saturating_add(two),
        };
    }

    /// Appends the row for a client of that version; `name_nodes`: with the member `Nodes`.
    pub fn render(
        &self,
        out: &mut Vec<u8>,
        version: ApiVersion,
        name_nodes: bool,
    ) -> Result<(), Malformed> {
        let mut edit = Edit::new(self.base.as_json().as_bytes())?;
        let nameless = self.tags.is_empty() && self.digests.is_empty();
        let (tags, digests) = if version < ApiVersion::new(1, 43) && nameless {
            (
                r#"["<none>:<none>"]"#.to_owned(),
                r#"["<none>@<none>"]"#.to_owned(),
            )
        } else {
            (array(self.tags.keys()), array(&self.digests))
        };
        if self.base.text_of("Id") != self.id {
            edit.set(&["Id"], &quote(&self.id));
        }
        edit.set(&["RepoTags"], &tags);
        edit.set(&["RepoDigests"], &digests);
        edit.set(&["Size"], &self.size.to_string());
        edit.set(&["SharedSize"], &self.shared_size.to_string());
        let counted = version >= ApiVersion::new(1, 51);
        edit.set(
            &["Containers"],
            &if counted { self.containers } else { -1 }.to_string(),
        );
        if version < ApiVersion::new(1, 44) {
            edit.set(&["VirtualSize"], &self.size.to_string());
        } else {
            edit.remove(&["VirtualSize"]);
        }
        if version < ApiVersion::new(1, 48) {
            edit.remove(&["Descriptor"]);
        }
        if name_nodes {
            edit.set(&["Nodes"], &array(&self.nodes));
        }
        out.extend_from_slice(&edit.finish());
        Ok(())
    }
}

fn array(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<_> = texts.into_iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"[
        {"Id":"sha256:aa","Created":30,"RepoTags":["web:1","web:latest"],"RepoDigests":["web@sha256:11"],"Size":5,
         "SharedSize":-1,"Containers":2,"Labels":{"a":"1"},"New":{"x":1}},
        {"Id":"sha256:bb","Created":20,"RepoTags":["db:1"],"RepoDigests":[],"Size":7,"SharedSize":-1,"Containers":0},
        {"Id":"sha256:cc","Created":10,"RepoTags":[],"RepoDigests":[],"Size":1,"SharedSize":-1,"Containers":-1}]"#;
    const TWO: &str = r#"[
        {"Id":"sha256:aa","Created":30,"RepoTags":["web:1"],"RepoDigests":["other/web@sha256:11"],"Size":6,
         "SharedSize":-1,"Containers":1,"Labels":{"a":"1"}},
        {"Id":"sha256:dd","Created":25,"RepoTags":["web:latest","host:5000/x:1"],"RepoDigests":[],"Size":6,"SharedSize":-1,"Containers":1}]"#;

    fn sources(healthy: bool) -> Vec<Source<'static>> {
        let list = |text: &'static str| {
            View::parse(text.as_bytes())
                .expect("a list")
                .elements()
                .collect()
        };
        vec![
            Source {
                node: "n1",
                healthy,
                images: list(ONE),
            },
            Source {
                node: "n2",
                healthy: true,
                images: list(TWO),
            },
        ]
    }

    fn asked(query: &str, filters: &str) -> Result<String, ApiError> {
        let mut parsed = Query::parse(query)?;
        if !filters.is_empty() {
            parsed.set("filters", filters);
        }
        let query = ImageQuery::parse(&parsed, ApiVersion::MAX, Timestamp::UNIX_EPOCH)?;
        let number = |texts: Vec<&str>| {
            texts
                .iter()
                .filter_map(|text| Some((text.parse().ok()?, 0)))
                .collect::<Vec<Built>>()
        };
        let resolved = query.resolved(
            number(query.before().collect()),
            number(query.since().collect()),
        );
        let mut shown = Vec::new();
        for mut row in merge(&sources(true), &Known::default()) {
            if query.select(&mut row, &resolved) {
                let tags: Vec<_> = row.tags.keys().map(String::as_str).collect();
                shown.push(format!(
                    "{}[{}]{}",
                    &row.id[7..],
                    tags.join(","),
                    row.nodes.join("+")
                ));
            }
        }
        Ok(shown.join(" "))
    }

    #[track_caller]
    fn check(filters: &str, expected: &str) {
        let said = asked("", filters).unwrap_or_else(|error| error.to_string());
        assert_eq!(said, expected, "{filters}");
    }

    #[test]
    fn within_a_second_nanoseconds_decide() {
        let check = |until: &str, before: Option<Built>, since: Option<Built>, wanted: &[i32]| {
            let mut query = Query::default();
            if !until.is_empty() {
                query.set("filters", &format!("{{\"until\":[\"{until}\"]}}"));
            }
            let query = ImageQuery::parse(&query, ApiVersion::MAX, Timestamp::UNIX_EPOCH);
            let query = query.expect("a time");
            let resolved = query.resolved(before, since);
            let rows = merge(&sources(true), &Known::default());
            let row = rows.iter().find(|row| row.created == 20).expect("a row");
            let shown = [1, 2, 3].into_iter().filter(|nanos| {
                let mut row = row.clone();
                row.nanos = *nanos;
                query.select(&mut row, &resolved)
            });
            assert_eq!(
                shown.collect::<Vec<_>>(),
                wanted,
                "{until} {before:?} {since:?}"
            );
            assert!(resolved.depends_on_nanos(20) && !resolved.depends_on_nanos(19));
        };
        check("", Some((20, 2)), None, &[1]);
        check("", None, Some((20, 2)), &[3]);
        check("", Some((21, 0)), Some((20, 1)), &[2, 3]);
        check("", Some((20, 3)), Some((20, 1)), &[2]);
        check("20.000000002", None, None, &[1]);
        check("1970-01-01T00:00:20.000000003Z", None, None, &[1, 2]);
        check("20.000000003", Some((20, 2)), None, &[1]);
    }

    #[test]
    fn an_image_is_one_row_and_a_tag_is_on_one() {
        check(
            "",
            "aa[web:1,web:latest]n1+n2 dd[host:5000/x:1]n2 bb[db:1]n1 cc[]n1",
        );
        let down = merge(&sources(false), &Known::default());
        assert!(
            down[1].tags.contains_key("web:latest"),
            "only healthy nodes decide"
        );
    }

    #[test]
    fn a_tag_is_on_the_image_that_it_was_pointed_at() {
        let check = |tags: &[(&'static str, &'static str)],
                     twins: &[(&'static str, &'static str)],
                     expected: &str| {
            let known = Known {
                tags: tags.iter().copied().collect(),
                twins: twins.iter().copied().collect(),
            };
            let rows = merge(&sources(true), &known);
            let shown: Vec<_> = rows
                .iter()
                .map(|row| {
                    let tags: Vec<_> = row.tags.keys().map(String::as_str).collect();
                    format!(
                        "{}[{}]{}",
                        &row.id[7..],
                        tags.join(","),
                        row.nodes.join("+")
                    )
                })
                .collect();
            assert_eq!(shown.join(" "), expected, "{tags:?} {twins:?}");
        };
        check(
            &[("web:latest", "sha256:dd")],
            &[],
            "aa[web:1]n1+n2 dd[host:5000/x:1,web:latest]n2 bb[db:1]n1 cc[]n1",
        );
        // An image that nobody has decides nothing, and neither does a name that nobody has.
        check(
            &[("web:latest", "sha256:ee"), ("gone:1", "sha256:aa")],
            &[],
            "aa[web:1,web:latest]n1+n2 dd[host:5000/x:1]n2 bb[db:1]n1 cc[]n1",
        );
        check(
            &[],
            &[("sha256:dd", "sha256:bb")],
            "aa[web:1,web:latest]n1+n2 bb[db:1,host:5000/x:1]n1+n2 cc[]n1",
        );
    }

    #[test]
    fn each_filter_has_the_engines_rule() {
        check(r#"{"dangling":["true"]}"#, "cc[]n1");
        check(
            r#"{"dangling":["0"]}"#,
            "aa[web:1,web:latest]n1+n2 dd[host:5000/x:1]n2 bb[db:1]n1",
        );
        check(r#"{"label":["a=1"]}"#, "aa[web:1,web:latest]n1+n2");
        check(r#"{"label":["a=2"]}"#, "");
        check(r#"{"before":["25"]}"#, "bb[db:1]n1 cc[]n1");
        check(
            r#"{"since":["20","10"]}"#,
            "aa[web:1,web:latest]n1+n2 dd[host:5000/x:1]n2",
        );
        check(r#"{"until":["20"]}"#, "cc[]n1");
        check(r#"{"reference":["web:1"]}"#, "aa[web:1]n1+n2");
        check(
            r#"{"reference":["w*","*/x"]}"#,
            "aa[web:1,web:latest]n1+n2 dd[host:5000/x:1]n2",
        );
        check(r#"{"reference":["["]}"#, "syntax error in pattern");
        check(r#"{"x":["y"]}"#, "invalid filter 'x'");
    }

    #[test]
    fn a_row_keeps_what_it_does_not_merge() {
        let rows = merge(&sources(true), &Known::default());
        let shown = |index: usize, version| {
            let mut out = Vec::new();
            let row: &Row<'_> = &rows[index];
            row.render(&mut out, version, true).expect("well-formed");
            String::from_utf8(out)
                .expect("text")
                .replace("\n         ", "")
        };
        assert_eq!(
            shown(0, ApiVersion::MAX),
            r#"{"Id":"sha256:aa","Created":30,"RepoTags":["web:1","web:latest"],"RepoDigests":["other/web@sha256:11","web@sha256:11"],"Size":6,"SharedSize":-1,"Containers":3,"Labels":{"a":"1"},"New":{"x":1},"Nodes":["n1","n2"]}"#,
        );
        assert_eq!(
            shown(3, ApiVersion::new(1, 41)),
            r#"{"Id":"sha256:cc","Created":10,"RepoTags":["<none>:<none>"],"RepoDigests":["<none>@<none>"],"Size":1,"SharedSize":-1,"Containers":-1,"VirtualSize":1,"Nodes":["n1"]}"#,
        );
    }
}
