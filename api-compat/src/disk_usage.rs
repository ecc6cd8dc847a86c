//! `GET /system/df` of several nodes, added up.
//!
//! What a node occupies is its own: an image on two nodes is two entries, since it takes the space twice. Names that
//! would mean two things get the node before them.
//!
//! **Invariant**: a kind that no engine was asked for stays `null`.

use std::collections::BTreeMap;

use crate::json_edit::{Edit, quote};
use crate::json_view::{Malformed, View};

/// The values of the query parameter `type`.
pub const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

/// One node's answer.
#[derive(Debug, Clone)]
pub struct Usage<'a> {
    /// The node's name.
    pub node: &'a str,
    /// What it said.
    pub body: View<'a>,
    /// Its containers as clients see them; none if it was not asked for containers.
    pub containers: Option<Vec<String>>,
}

/// Adds up. A single answer keeps every byte but those of its containers.
pub fn merge(usages: &[Usage<'_>]) -> Result<Vec<u8>, Malformed> {
    let [first, rest @ ..] = usages else {
        return Ok(b"{}".to_vec());
    };
    let text = first.body.as_json().as_bytes();
    let mut edit = Edit::new(text)?;
    let containers: Vec<&str> = usages
        .iter()
        .flat_map(|usage| usage.containers.iter().flatten())
        .map(String::as_str)
        .collect();
    if usages.iter().any(|usage| usage.containers.is_some()) {
        edit.set(&["Containers"], &format!("[{}]", containers.join(",")));
    }
    if rest.is_empty() {
        return Ok(edit.finish());
    }
    for sum in ["LayersSize", "BuilderSize"] {
        let total = usages.iter().fold(0, |total: i64, usage| {
            total.saturating_add(usage.body.int_of(sum))
        });
        if total != 0 || first.body.get(sum).is_some() {
            edit.set(&[sum], &total.to_string());
        }
    }
    for (list, key) in [("Images", ""), ("Volumes", "Name"), ("BuildCache", "ID")] {
        if let Some(items) = concatenated(usages, list, key)? {
            edit.set(&[list], &items);
        }
    }
    Ok(edit.finish())
}

/// All elements of the member `list`; those that agree in `key` with one of another node get theirs before it.
fn concatenated(usages: &[Usage<'_>], list: &str, key: &str) -> Result<Option<String>, Malformed> {
    let mut known = false;
    let mut items: Vec<(&str, View<'_>)> = Vec::new();
    for usage in usages {
        let Some(array) = usage.body.get(list) else {
            continue;
        };
        known = true;
        items.extend(array.elements().map(|item| (usage.node, item)));
    }
    let mut holders: BTreeMap<_, usize> = BTreeMap::new();
    for (_, item) in items.iter().filter(|_| !key.is_empty()) {
        *holders.entry(item.text_of(key)).or_default() += 1;
    }
    let mut shown = Vec::with_capacity(items.len());
    for (node, item) in items {
        let json = item.as_json();
        let name = item.text_of(key);
        if holders.get(&name).is_none_or(|count| *count < 2) {
            shown.push(json.to_owned());
            continue;
        }
        let mut edit = Edit::new(json.as_bytes())?;
        edit.set(&[key], &quote(&format!("{node}/{name}")));
        shown.push(String::from_utf8_lossy(&edit.finish()).into_owned());
    }
    Ok(known.then(|| format!("[{}]", shown.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bodies: &[(&str, Option<&str>)], expected: &str) {
        let names = ["n1", "n2", "n3"];
        let usages: Vec<_> = bodies
            .iter()
            .zip(names)
            .map(|((body, containers), node)| Usage {
                node,
                body: View::parse(body.as_bytes()).expect("an answer"),
                containers: containers.map(|item| vec![item.to_owned()]),
            })
            .collect();
        let merged = merge(&usages).expect("well-formed");
        assert_eq!(String::from_utf8(merged).expect("text"), expected);
    }

    #[test]
    fn sizes_add_up_and_names_stay_apart() {
        check(
            &[
                (
                    r#"{"LayersSize":5,"Images":[{"Id":"a"}],"Containers":[{"Id":"x"}],"Volumes":[{"Name":"v"},{"Name":"w"}],"BuildCache":[{"ID":"c"}]}"#,
                    Some("{1}"),
                ),
                (
                    r#"{"LayersSize":7,"Images":[{"Id":"a"}],"Containers":[],"Volumes":[{"Name":"v"}],"BuildCache":[{"ID":"d"}]}"#,
                    Some("{2}"),
                ),
            ],
            r#"{"LayersSize":12,"Images":[{"Id":"a"},{"Id":"a"}],"Containers":[{1},{2}],"Volumes":[{"Name":"n1/v"},{"Name":"w"},{"Name":"n2/v"}],"BuildCache":[{"ID":"c"},{"ID":"d"}]}"#,
        );
    }

    #[test]
    fn one_answer_and_what_was_not_asked_for_stay() {
        let one = r#"{"LayersSize":5, "Images":null,"Containers":null}"#;
        check(&[(one, None)], one);
        check(
            &[(one, None), (one, None)],
            r#"{"LayersSize":10, "Images":null,"Containers":null}"#,
        );
        check(&[], "{}");
    }
}
