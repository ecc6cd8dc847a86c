//! What a tag means: one image for the whole pool, whatever single engines have under it.
//!
//! Only tags that the cluster has handled are kept: a pull, load, build, commit, import or `tag` moves one, a removal
//! forgets it. All others follow from what is seen. What is removed while nodes are down is to go there when they are
//! back, unless its name is given anew before.
//!
//! **Invariant**: what a tag means changes only when it is moved, not when nodes come, go or drift; and from the same
//! arguments every manager finds the same.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{NodeId, Realm, Tag};

use super::Cluster;
use super::command::ImageRemoval;
use super::refusal::{Change, Refusal};

impl Cluster {
    pub(super) fn point_tag(&mut self, realm: Realm, name: String, image: String) -> Change {
        // What is asked for anew is not what was removed.
        if !self.images_due.is_empty() {
            for node in self.nodes.keys() {
                self.images_due.remove(&(*node, name.clone()));
            }
        }
        let key = (realm, name.clone());
        let means = |tag: &Arc<Tag>| tag.ids().any(|id| id == image);
        // Pointed at its own twin it means what it meant, and is shown as it was.
        if !self.tags.get(&key).is_some_and(means) {
            let tag = Tag {
                realm,
                name: name.clone(),
                image,
                twins: BTreeSet::new(),
                at: self.now,
            };
            self.tags.insert(key, Arc::new(tag));
        }
        Change::Tag(name)
    }

    pub(super) fn note_twin(
        &mut self,
        realm: Realm,
        name: String,
        image: &str,
        twin: String,
    ) -> Change {
        let key = (realm, name.clone());
        if twin != image
            && let Some(tag) = self.tags.get(&key).filter(|tag| tag.image == image)
        {
            let mut tag = tag.as_ref().clone();
            tag.twins.insert(twin);
            self.tags.insert(key, Arc::new(tag));
        }
        Change::Tag(name)
    }

    pub(super) fn drop_tag(&mut self, realm: Realm, name: String) -> Change {
        self.tags.remove(&(realm, name.clone()));
        Change::TagDropped(name)
    }

    pub(super) fn defer_image_removal(
        &mut self,
        image: String,
        nodes: &[NodeId],
        removal: ImageRemoval,
    ) -> Result<Change, Refusal> {
        for node in nodes {
            self.expect_node(*node)?;
        }
        for node in nodes {
            self.images_due.insert((*node, image.clone()), removal);
        }
        Ok(Change::ImageRemoval(image))
    }

    pub(super) fn settle_image(&mut self, image: String, node: NodeId) -> Change {
        self.images_due.remove(&(node, image.clone()));
        Change::ImageRemoval(image)
    }

    /// A node leaves the cluster with the images that it has.
    pub(super) fn forget_images_of(&mut self, node: NodeId) {
        let due: Vec<_> = self
            .images_due_on(node)
            .map(|(image, _)| image.to_owned())
            .collect();
        for image in due {
            self.images_due.remove(&(node, image));
        }
    }
}

/// What one node that is up has under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting<'a> {
    /// The image's id there.
    pub image: &'a str,
    /// When it was built, in seconds since 1970.
    pub created: i64,
}

/// The image that a name means, by its shown id; none if no node that is up has anything under it.
///
/// What the tag was last pointed at, as long as a node that is up has that image (`is_held`, asked with any of its
/// ids). Else the image that most nodes have under the name, then the newest, then the one with the smallest id.
pub fn meant<'a>(
    tag: Option<&'a Tag>,
    seen: &[Sighting<'a>],
    is_held: impl Fn(&str) -> bool,
) -> Option<&'a str> {
    // A name that no node has any more was removed, even if that was not recorded.
    if seen.is_empty() {
        return None;
    }
    if let Some(tag) = tag.filter(|tag| tag.ids().any(is_held)) {
        return Some(&tag.image);
    }
    let mut votes: BTreeMap<&str, (usize, i64)> = BTreeMap::new();
    for sighting in seen {
        let entry = votes.entry(sighting.image).or_default();
        *entry = (entry.0 + 1, sighting.created);
    }
    votes
        .into_iter()
        .max_by_key(|(image, (count, created))| (*count, *created, Reverse(*image)))
        .map(|(image, _)| image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;

    /// `a+x` is a tag that means `a`, with the twin `x`; nothing is no tag.
    fn tag(text: &str) -> Option<Tag> {
        let mut ids = text.split('+').filter(|id| !id.is_empty());
        Some(Tag {
            realm: Realm::DEFAULT,
            name: "it:1".to_owned(),
            image: ids.next()?.to_owned(),
            twins: ids.map(str::to_owned).collect(),
            at: Timestamp::UNIX_EPOCH,
        })
    }

    /// `seen` has one word for each node: the image it has under the name and when that was built.
    fn check(pointed: &str, seen: &str, held: &str, wanted: &str) {
        let pointed = tag(pointed);
        let seen: Vec<_> = seen
            .split_whitespace()
            .map(|word| {
                let (image, created) = word.split_once('@').expect("image@time");
                let created = created.parse().expect("a number");
                Sighting { image, created }
            })
            .collect();
        let is_held = |id: &str| held.split_whitespace().any(|held| held == id);
        let found = meant(pointed.as_ref(), &seen, is_held).unwrap_or_default();
        assert_eq!(found, wanted, "{pointed:?} {seen:?} {held}");
    }

    #[test]
    fn a_tag_means_one_image() {
        // Where the cluster has handled it, what it was pointed at.
        check("a", "b@9 b@9 a@1", "a b", "a");
        check("a", "b@9", "a b", "a");
        check("a+x", "x@1 b@9 b@9", "x b", "a");
        // Nobody that is up has that any more.
        check("a", "b@9", "b", "b");
        check("a+x", "b@9", "b", "b");
        // Never handled: most nodes, then the newest, then the smallest id.
        check("", "a@1 b@9 a@1", "a b", "a");
        check("", "a@1 b@9", "a b", "b");
        check("", "b@1 a@1", "a b", "a");
        // Nobody has the name: it was removed.
        check("a", "", "a", "");
        check("", "", "", "");
    }

    proptest! {
        /// The order of the nodes decides nothing, and a tag means what it was pointed at as long as a node has that.
        #[test]
        fn what_is_meant_does_not_depend_on_order(
            words in prop::collection::vec(("[abc]", 0i64..3), 0..6),
            pointed in prop::option::of("[abcd]"),
            turn in 0usize..6,
        ) {
            // One image has one age.
            let created = |id: &str| words.iter().find(|(image, _)| image == id).map_or(0, |(_, at)| *at);
            let mut seen: Vec<_> = words
                .iter()
                .map(|(image, _)| Sighting { image, created: created(image) })
                .collect();
            let pointed = pointed.and_then(|id| tag(&id));
            let is_held = |id: &str| words.iter().any(|(image, _)| image == id);
            let first = meant(pointed.as_ref(), &seen, is_held);
            let turn = turn.min(seen.len());
            seen.rotate_left(turn);
            prop_assert_eq!(meant(pointed.as_ref(), &seen, is_held), first);
            if let Some(pointed) = pointed.as_ref().filter(|pointed| is_held(&pointed.image)) {
                prop_assert_eq!(first, Some(pointed.image.as_str()));
            }
        }
    }
}
