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

/// Adds up. `unmade` are volumes that no node had when it was asked for, as a node would list them. A single answer keeps every
/// byte but those of its containers, and of its volumes if there are others.
pub fn merge(usages: &[Usage<'_>], unmade: &[View<'_>]) -> Result<Vec<u8>, Malformed> {
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
    if !rest.is_empty() || !unmade.is_empty() {
        set_list(
            &mut edit,
            "Volumes",
            concatenated(usages, "Volumes", "Name", unmade)?,
        );
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
    for (list, key) in [("Images", ""), ("BuildCache", "ID")] {
        set_list(&mut edit, list, concatenated(usages, list, key, &[])?);
    }
    Ok(edit.finish())
}

fn set_list(edit: &mut Edit<'_>, list: &str, items: Option<String>) {
    if let Some(items) = items {
        edit.set(&[list], &items);
    }
}

/// All elements of the member `list`; those that agree in `key` with one of another node get theirs before it. Then those
/// `besides` that agree with none.
fn concatenated(
    usages: &[Usage<'_>],
    list: &str,
    key: &str,
    besides: &[View<'_>],
) -> Result<Option<String>, Malformed> {
    let mut known = !besides.is_empty();
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
    let besides = besides.iter();
    let besides = besides.filter(|item| !holders.contains_key(&item.text_of(key)));
    shown.extend(besides.map(|item| item.as_json().to_owned()));
    Ok(known.then(|| format!("[{}]", shown.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bodies: &[(&str, Option<&str>)], expected: &str) {
        check_with(bodies, &[], expected);
    }

    #[track_caller]
    fn check_with(bodies: &[(&str, Option<&str>)], unmade: &[&str], expected: &str) {
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
        let unmade = unmade.iter().map(|item| View::parse(item.as_bytes()));
        let unmade: Vec<_> = unmade.map(|item| item.expect("a volume")).collect();
        let merged = merge(&usages, &unmade).expect("well-formed");
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
    #[test]
    fn volumes_that_are_on_no_node_yet_are_listed_too() {
        let one = r#"{"LayersSize":5, "Images":[{"Id": "a"}],"Volumes":[{"Name":"v"}]}"#;
        let new = r#"{"Name":"new"}"#;
        check_with(
            &[(one, None)],
            &[new],
            r#"{"LayersSize":5, "Images":[{"Id": "a"}],"Volumes":[{"Name":"v"},{"Name":"new"}]}"#,
        );
        // Made between the one question and the other.
        check_with(
            &[(one, None)],
            &[r#"{"Name":"v"}"#],
            r#"{"LayersSize":5, "Images":[{"Id": "a"}],"Volumes":[{"Name":"v"}]}"#,
        );
        check_with(
            &[
                (r#"{"Volumes":null}"#, None),
                (r#"{"Volumes":[{"Name":"v"}]}"#, None),
            ],
            &[new],
            r#"{"Volumes":[{"Name":"v"},{"Name":"new"}]}"#,
        );
    }
}
