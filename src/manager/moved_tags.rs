//! What a tag meant until it was moved loses it on the nodes that have it so still. Then it is there what it would be on one
//! engine: an image without a name, which a prune removes, and which no build takes for its base.
//!
//! No engine takes the last name from an image and keeps the image. So the name goes to an image of nothing, which is then
//! removed by its id; it has a label by which pictures of images leave it out (`engine::Images`).
//!
//! | step | if the manager crashes right after |
//! | --- | --- |
//! | commit what the tag means | nodes keep it for what it meant, until a container needs it there |
//! | the name goes to an image of nothing | nobody sees that: the tag is as good as gone there |
//! | the image of nothing is removed | nothing was promised |
//!
//! **Invariant**: only what the pool itself meant by a tag, and means no more, loses it. What somebody has just made, and what
//! drifted, is never touched; nor is a tag by which a container is being made on that node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api_compat::image_ref::ImageRef;
use api_compat::json_view::View;
use api_compat::labels;
use api_compat::query::Query;
use api_compat::route::Operation;
use bytes::Bytes;
use futures_util::future::join_all;
use http::HeaderValue;

use super::images::tag_name;
use super::under_way::{Mark, UnderWay};
use super::{Error, Manager};
use crate::engine::{EngineCall, Error as EngineError, Host, ListKind};
use crate::model::{Caller, NodeId, Realm, Tag};

/// An engine makes and removes an image of nothing within so long, or is taken for hung.
const PATIENCE: Duration = Duration::from_secs(30);
/// A tar archive of nothing.
const NOTHING: Bytes = Bytes::from_static(&[0; 1024]);

/// The tags that nodes have still for what they meant before.
#[derive(Debug, Default)]
pub(super) struct MovedTags {
    stale: Mutex<BTreeSet<Stale>>,
    /// Held while a tag of ours moves on a node: whoever comes second looks again.
    turns: Mutex<BTreeMap<NodeId, Arc<tokio::sync::Mutex<()>>>>,
    /// The tags by which containers are being made.
    making: UnderWay<(NodeId, String)>,
}

/// A tag that a node may have still for what it meant before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Stale {
    node: NodeId,
    tag: String,
    /// What it meant, by the id that the node has it under.
    former: String,
}

/// What becomes of a tag that was noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The node has it for something else by now.
    Forget,
    /// Not now, perhaps later.
    Keep,
    Untag,
}

/// `there` is what the node has under the tag, `meant` what the pool means by it.
fn step(former: &str, there: Option<&str>, meant: &[String], is_making: bool) -> Step {
    if there != Some(former) {
        return Step::Forget;
    }
    // Nothing is meant, or again what it meant before: the nodes that have the new one are down, or it was moved back.
    let is_meant = meant.is_empty() || meant.iter().any(|id| id == former);
    if is_meant || is_making {
        Step::Keep
    } else {
        Step::Untag
    }
}

impl MovedTags {
    fn stale(&self) -> MutexGuard<'_, BTreeSet<Stale>> {
        self.stale.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only one tag of ours moves on a node at a time.
    pub(super) fn turns(&self, node: NodeId) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(node).or_default())
    }

    /// A container is being made of `image` on a node until what is returned is dropped.
    pub(super) fn making(&self, node: NodeId, image: &str) -> Option<Mark<(NodeId, String)>> {
        tag_name(image).map(|tag| self.making.mark((node, tag)))
    }
}

impl Manager {
    /// [`Self::point_tag`] at what an engine has under it by now; what it meant before loses it everywhere.
    pub async fn move_tag(&self, tag: &str, image: &str, caller: &Caller) -> Result<(), Error> {
        let before = self.tag_before(tag);
        self.point_tag(tag, image, caller).await?;
        self.untag_former(tag, before).await;
        Ok(())
    }

    /// After a tag was moved, what it meant `before` loses it on all nodes; on those that are down once they are back.
    pub async fn untag_former(&self, tag: &str, before: Option<Arc<Tag>>) {
        let (Some(tag), Some(before)) = (tag_name(tag), before) else {
            return;
        };
        if self.fleet.only().is_some() {
            return;
        }
        let hosts = self.fleet.hosts();
        let mut having = Vec::new();
        for (node, host) in hosts.iter() {
            let images = host.images();
            let there = images.named(&tag).map(|image| &image.id);
            if let Some(former) = there.filter(|there| before.ids().any(|id| id == **there)) {
                let (node, tag, former) = (*node, tag.clone(), former.clone());
                having.push((host, Stale { node, tag, former }));
            }
        }
        {
            let mut stale = self.moved_tags.stale();
            stale.retain(|stale| hosts.contains_key(&stale.node));
            stale.extend(having.iter().map(|(_, stale)| stale.clone()));
        }
        join_all(having.iter().map(|(host, _)| self.untag_moved(host))).await;
    }

    /// [`Self::untag_moved`] on a node that is back.
    pub(super) async fn untag_moved_on(&self, node: NodeId) {
        if let Some(host) = self.fleet.host(&node) {
            self.untag_moved(&host).await;
        }
    }

    /// Takes the tags from a node's images that were moved elsewhere meanwhile.
    pub async fn untag_moved(&self, host: &Host) {
        let node = host.tag.id;
        let all: Vec<_> = {
            let stale = self.moved_tags.stale();
            stale
                .iter()
                .filter(|stale| stale.node == node)
                .cloned()
                .collect()
        };
        if all.is_empty() || !host.is_up() {
            return;
        }
        let turns = self.moved_tags.turns(node);
        let _turn = turns.lock().await;
        host.reread(ListKind::Images).await;
        for stale in all {
            if self.is_settled(&stale, host).await {
                self.moved_tags.stale().remove(&stale);
            }
        }
    }

    /// Whether there is nothing more to do about it.
    async fn is_settled(&self, stale: &Stale, host: &Host) -> bool {
        let Stale { node, tag, former } = stale;
        let there = host.images().named(tag).map(|image| image.id.clone());
        // In this order: who begins to make a container after that goes by what the tag means now.
        let meant = self.image(tag);
        let meant = meant.as_ref().map_or(&[][..], |image| &image.ids);
        let is_making = self.moved_tags.making.contains(&(*node, tag.clone()));
        match step(former, there.as_deref(), meant, is_making) {
            Step::Forget => return true,
            Step::Keep => return false,
            Step::Untag => {}
        }
        let untagged = tokio::time::timeout(PATIENCE, untag(host, tag)).await;
        let untagged = untagged.unwrap_or_else(|_| Err(host.no_answer(PATIENCE)));
        host.reread(ListKind::Images).await;
        if let Err(error) = untagged {
            tracing::warn!(node = %host.tag.name, tag, %error, "a tag that was moved could not be taken from what it meant");
            return false;
        }
        tracing::info!(node = %host.tag.name, tag, image = former, "what a tag meant has lost it");
        // It was moved back meanwhile, and its engine was told before it lost it.
        let cluster = self.cluster();
        let tag_now = cluster.tag(Realm::DEFAULT, tag);
        if tag_now.is_some_and(|now| now.ids().any(|id| id == former)) {
            self.log_failure(self.tag_in_turn(host, former, tag).await);
        }
        true
    }
}

/// Takes a tag from the image that has it; the image stays.
async fn untag(host: &Host, tag: &str) -> Result<(), EngineError> {
    let mut query = Query::default();
    query.set("fromSrc", "-");
    if let Ok(name) = ImageRef::parse(tag) {
        query.set("repo", &name.familiar_name());
        query.set("tag", name.tag.as_deref().unwrap_or("latest"));
    }
    query.set("changes", &format!("LABEL {}=1", labels::NOTHING));
    let target = format!("{}?{}", Operation::ImageCreate.target(&[]), query.encode());
    let call = EngineCall {
        content_type: Some(HeaderValue::from_static("application/x-tar")),
        ..EngineCall::post(target, Some(NOTHING))
    };
    let imported = host.ask(call).await?;
    let id = imported_id(&imported.body).ok_or_else(|| EngineError::Garbled {
        node: host.tag.name.clone(),
        why: String::from_utf8_lossy(&imported.body).into_owned(),
    })?;
    // By its id: whatever somebody has given the tag to meanwhile keeps it.
    let removed = host.ask(EngineCall::delete(Operation::ImageRemove.target(&[&id])));
    removed.await.map(drop)
}

/// The id that an engine tells at the end of an import.
fn imported_id(told: &[u8]) -> Option<String> {
    let lines = told.rsplit(|byte| *byte == b'\n');
    let mut ids = lines.filter_map(|line| {
        let view = View::parse(line.trim_ascii()).ok()?;
        let status = view.text_of("status").into_owned();
        status.starts_with("sha256:").then_some(status)
    });
    ids.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_no_more_loses_its_tag() {
        let check = |there: &str, meant: &str, is_making: bool, wanted: Step| {
            let there = Some(there).filter(|there| !there.is_empty());
            let meant: Vec<_> = meant.split_whitespace().map(str::to_owned).collect();
            let step = step("old", there, &meant, is_making);
            assert_eq!(step, wanted, "{there:?} {meant:?} {is_making}");
        };
        check("old", "new", false, Step::Untag);
        check("old", "new twin", false, Step::Untag);
        // A container is being made by that name there.
        check("old", "new", true, Step::Keep);
        // It was moved back, or no node that has the new one is up.
        check("old", "old", false, Step::Keep);
        check("old", "shown old", false, Step::Keep);
        check("old", "", false, Step::Keep);
        // The node has the new one, one that somebody has just made there, or none.
        check("new", "new", false, Step::Forget);
        check("just-made", "new", false, Step::Forget);
        check("", "new", false, Step::Forget);
    }

    #[test]
    fn an_import_tells_the_id() {
        let check = |told: &str, wanted: Option<&str>| {
            assert_eq!(imported_id(told.as_bytes()).as_deref(), wanted, "{told}");
        };
        check(
            "{\"status\":\"Importing\"}\r\n{\"status\":\"sha256:ab\"}\r\n",
            Some("sha256:ab"),
        );
        check(
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n",
            None,
        );
        check("", None);
    }
}
