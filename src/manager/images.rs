//! What the name of an image means in the pool, and that a node has it before a container is made of it.
//!
//! The meaning follows from the state (tags that the cluster has handled) and from what the nodes that are up have
//! (`state::meant`). Before a container is made, its node is made to agree: the image is brought to it if need be
//! (`bringing`), and a tag that points elsewhere there is moved.
//!
//! | step | if the manager crashes right after |
//! | --- | --- |
//! | the reservation | it is given up at the next start: nothing came of it |
//! | commit what the tag means | the next create goes on from there |
//! | the node pulls or loads the image | its engine drops what came in part, or has the image without a name |
//! | the tag is moved there | the node agrees; nothing else was promised |
//!
//! **Invariant**: a node whose tag agrees is asked nothing, and no create waits for an image that its node has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api_compat::image_ref::{ImageRef, Named};
use api_compat::json_view::View;
use api_compat::query::Query;
use api_compat::route::Operation;
use http::StatusCode;

use super::{Error, Manager};
use crate::clock;
use crate::engine::{EngineCall, Host, Images, ListKind, Verdict};
use crate::model::{Caller, NodeId, Realm, RequestId, Tag};
use crate::state::{Change, Cluster, Command, ImageRemoval, Sighting, meant};

/// An engine moves a tag within so long, or is taken for hung.
const TAG_PATIENCE: Duration = Duration::from_secs(30);
/// An engine says so soon what an image is, or is not waited for.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// Removing large images takes engines a while.
const REMOVE_PATIENCE: Duration = Duration::from_secs(120);

/// The image that a reference means in the pool.
#[derive(Debug, Clone)]
pub struct Image {
    /// The id that is shown.
    pub id: String,
    /// All its ids: engines with another kind of image store have it under another one.
    pub ids: Vec<String>,
    /// The tag that the reference is, if it is one: `busybox:latest`.
    pub tag: Option<String>,
    /// The nodes that are up and have it; those that have it under the shown id and where the reference means it come
    /// first. Never empty.
    pub holders: Vec<Arc<Host>>,
    /// When it was built, in seconds since 1970.
    pub created: i64,
}

impl Image {
    /// The id that `host` has it under.
    pub fn id_on(&self, host: &Host) -> Option<String> {
        let images = host.images();
        let has = |id: &&String| images.with_id(id).is_some();
        self.ids.iter().find(has).cloned()
    }

    /// Whether the engine of `host` takes the reference for this image.
    pub fn is_meant_on(&self, host: &Host, reference: &str) -> bool {
        let images = host.images();
        let found = images.find(reference);
        found.is_some_and(|image| self.ids.contains(&image.id))
    }
}

/// What references were found to mean, for as long as nothing changes that they follow from. So what a create costs does
/// not grow with the pool.
#[derive(Debug, Default)]
pub(super) struct Meanings(Mutex<BTreeMap<String, Meaning>>);

#[derive(Debug, Clone)]
struct Meaning {
    /// What was handled of the tag,
    tag: Option<Arc<Tag>>,
    /// and how often images of nodes had changed, when it was found.
    changes: u64,
    image: Option<Arc<Image>>,
}

/// So many meanings are kept: what is asked for by id is asked for once.
const MEANINGS: usize = 256;

impl Meanings {
    fn get(&self, reference: &str) -> Option<Meaning> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(reference).cloned()
    }

    fn keep(&self, reference: &str, meaning: Meaning) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MEANINGS {
            known.clear();
        }
        known.insert(reference.to_owned(), meaning);
    }
}

impl Manager {
    /// The image that `reference` means; nothing if no node that is up has it.
    pub fn image(&self, reference: &str) -> Option<Arc<Image>> {
        // Before the images are looked at: a change meanwhile makes what is found old.
        let changes = self.fleet.inventory.changes().images();
        let cluster = self.cluster();
        let tag = tag_name(reference).and_then(|tag| cluster.tag(Realm::DEFAULT, &tag).cloned());
        let known = self.meanings.get(reference);
        if let Some(known) = known.filter(|known| known.changes == changes && known.tag == tag) {
            return known.image;
        }
        let hosts = self.fleet.hosts();
        let mut up: Vec<_> = hosts.values().filter(|host| host.is_up()).collect();
        up.sort_by_cached_key(|host| host.health().verdict != Verdict::Ready);
        let image = self.image_among(&cluster, &up, reference).map(Arc::new);
        let meaning = Meaning {
            tag,
            changes,
            image: image.clone(),
        };
        self.meanings.keep(reference, meaning);
        image
    }

    /// The ports that an image exposes, such as `80/tcp`, as one of its nodes says; nothing if none does in time.
    pub async fn exposed_by(&self, reference: &str) -> Vec<String> {
        let Some(image) = self.image(reference) else {
            return Vec::new();
        };
        let mut holders = image.holders.iter();
        let Some((host, id)) = holders.find_map(|host| Some((host, image.id_on(host)?))) else {
            return Vec::new();
        };
        let call = EngineCall::get(format!("/images/{id}/json"));
        let Ok(Ok(reply)) = tokio::time::timeout(LOOK_PATIENCE, host.call(call)).await else {
            return Vec::new();
        };
        let Ok(inspected) = View::parse(&reply.body) else {
            return Vec::new();
        };
        let exposed = inspected
            .get("Config")
            .and_then(|config| config.get("ExposedPorts"));
        let members = exposed.into_iter().flat_map(|ports| ports.members());
        members.map(|port| port.key.into_owned()).collect()
    }

    /// The image that `reference` means on these nodes, which are up.
    fn image_among(
        &self,
        cluster: &Cluster,
        hosts: &[&Arc<Host>],
        reference: &str,
    ) -> Option<Image> {
        let tag = tag_name(reference).filter(|tag| {
            let mut all = hosts.iter();
            all.any(|host| host.images().named(tag).is_some())
        });
        let pictures: Vec<_> = hosts.iter().map(|host| (*host, host.images())).collect();
        let seen: Vec<_> = pictures
            .iter()
            .filter_map(|(_, images)| match &tag {
                Some(tag) => images.named(tag),
                None => images.find(reference),
            })
            .map(|image| Sighting {
                image: &image.id,
                created: image.created,
            })
            .collect();
        // With one engine its own word counts.
        let is_pool = self.fleet.only().is_none();
        let pointed = tag
            .as_ref()
            .filter(|_| is_pool)
            .and_then(|tag| cluster.tag(Realm::DEFAULT, tag))
            .map(Arc::as_ref);
        let is_held = |id: &str| {
            let mut all = pictures.iter();
            all.any(|(_, images)| images.with_id(id).is_some())
        };
        let id = meant(pointed, &seen, is_held)?.to_owned();
        let ids: Vec<String> = match pointed.filter(|tag| tag.image == id) {
            Some(tag) => tag.ids().map(str::to_owned).collect(),
            None => vec![id.clone()],
        };
        let mut created = 0;
        let mut holders = Vec::new();
        for (host, images) in &pictures {
            if let Some(image) = ids.iter().find_map(|id| images.with_id(id)) {
                created = image.created;
                holders.push(Arc::clone(host));
            }
        }
        let image = Image {
            id,
            ids,
            tag,
            holders: Vec::new(),
            created,
        };
        // A stable sort: among equals those in better health stay first.
        holders.sort_by_cached_key(|host| {
            let shown = host.images().with_id(&image.id).is_some();
            (!shown, !image.is_meant_on(host, reference))
        });
        Some(Image { holders, ..image })
    }

    /// Says what a tag means from now on. `tag` may be any name that a client wrote; one that is no tag is passed over.
    pub async fn point_tag(&self, tag: &str, image: &str, caller: &Caller) -> Result<(), Error> {
        let Some(tag) = tag_name(tag) else {
            return Ok(());
        };
        let cluster = self.cluster();
        let known = cluster.tag(Realm::DEFAULT, &tag);
        if known.is_some_and(|known| known.ids().any(|id| id == image)) {
            return Ok(());
        }
        let image = image.to_owned();
        self.commit_tag(Command::PointTag { tag, image }, caller)
            .await
            .map(drop)
    }

    /// [`Self::point_tag`] at an image of which more is known than one id.
    pub async fn point_tag_at(
        &self,
        tag: &str,
        image: &Image,
        caller: &Caller,
    ) -> Result<(), Error> {
        self.point_tag(tag, &image.id, caller).await?;
        let Some(tag) = tag_name(tag) else {
            return Ok(());
        };
        for twin in image.ids.iter().filter(|id| **id != image.id) {
            let noted = Command::NoteTwin {
                tag: tag.clone(),
                image: image.id.clone(),
                twin: twin.clone(),
            };
            self.commit_tag(noted, caller).await?;
        }
        Ok(())
    }

    /// What a tag means before it is moved, for [`Self::restore_tag`].
    pub fn tag_before(&self, tag: &str) -> Option<Arc<Tag>> {
        let cluster = self.cluster();
        cluster.tag(Realm::DEFAULT, &tag_name(tag)?).cloned()
    }

    /// Takes a move back that came to nothing.
    pub async fn restore_tag(
        &self,
        tag: &str,
        before: Option<Arc<Tag>>,
        caller: &Caller,
    ) -> Result<(), Error> {
        match (before, tag_name(tag)) {
            (Some(before), _) => self.point_tag(tag, &before.image, caller).await,
            (None, Some(tag)) => {
                let dropped = self.commit_tag(Command::DropTag { tag }, caller).await;
                dropped.map(drop)
            }
            (None, None) => Ok(()),
        }
    }

    /// Forgets tags that were removed, unless a node that is up has them still.
    pub async fn drop_tags(&self, tags: Vec<String>, caller: &Caller) -> Result<(), Error> {
        let hosts = self.fleet.hosts();
        for tag in tags {
            let is_left = |host: &Arc<Host>| host.is_up() && host.images().named(&tag).is_some();
            let is_known = self.cluster().tag(Realm::DEFAULT, &tag).is_some();
            if is_known && !hosts.values().any(is_left) {
                self.commit_tag(Command::DropTag { tag }, caller).await?;
            }
        }
        Ok(())
    }

    /// Has an image, or a name of it, removed from nodes when they are back.
    pub async fn defer_image_removal(
        &self,
        image: String,
        nodes: Vec<NodeId>,
        removal: ImageRemoval,
        caller: &Caller,
    ) -> Result<(), Error> {
        let deferred = Command::DeferImageRemoval {
            image: image.clone(),
            nodes: nodes.clone(),
            removal,
        };
        self.commit_tag(deferred, caller).await?;
        let hosts = nodes.iter().filter_map(|node| self.fleet.host(node));
        hosts.for_each(|host| host.forget_image(&image));
        Ok(())
    }

    /// Whether what the node has under this name is to be removed there.
    pub fn image_is_due(&self, host: &Host, name: &str) -> bool {
        let cluster = self.cluster();
        let mut due = cluster.images_due_on(host.tag.id);
        due.any(|(image, _)| image == name)
    }

    /// What was removed while its node was down is removed there now.
    pub(super) async fn remove_images_due(&self, node: NodeId) {
        let Some(host) = self.fleet.host(&node) else {
            return;
        };
        let cluster = self.cluster();
        let due: Vec<_> = cluster.images_due_on(node).collect();
        if due.is_empty() {
            return;
        }
        for (image, removal) in due {
            // It has come to the pool again meanwhile.
            let is_again = image.starts_with("sha256:")
                && self.fleet.hosts().values().any(|other| {
                    other.tag.id != node && other.is_up() && other.images().with_id(image).is_some()
                });
            if is_again || is_removed_for_good(&host, image, removal).await {
                let image = image.to_owned();
                self.log_failure(self.commit(Command::SettleImage { image, node }).await);
            }
        }
        host.reread(ListKind::Images).await;
    }

    pub(super) async fn commit_tag(
        &self,
        command: Command,
        caller: &Caller,
    ) -> Result<Change, Error> {
        let request = RequestId::from_bytes(clock::random_bytes());
        self.commit_for(request, caller.clone(), command).await
    }

    /// Makes sure that `host` has what `reference` means. Returns what its engine knows that by, where the reference
    /// itself will not do: a digest whose image did not come from a registry there, or an id that is not unique.
    pub async fn have_image(
        self: &Arc<Self>,
        reference: &str,
        host: &Arc<Host>,
        caller: &Caller,
    ) -> Result<Option<String>, Error> {
        // What nobody has is refused by the engine, in its words.
        let Some(image) = self.image(reference) else {
            return Ok(None);
        };
        if image.is_meant_on(host, reference) {
            return Ok(None);
        }
        if let Some(tag) = &image.tag {
            self.point_tag(tag, &image.id, caller).await?;
        }
        let id = match image.id_on(host) {
            Some(id) => id,
            None => self.bring(&image, reference, host).await?,
        };
        if let Some(tag) = &image.tag {
            self.tag_on(host, &id, tag).await?;
        }
        let images = host.images();
        let is_known = images.find(reference).is_some_and(|image| image.id == id);
        Ok((!is_known).then_some(id))
    }

    /// Points a tag at an image that the node has.
    async fn tag_on(&self, host: &Host, id: &str, tag: &str) -> Result<(), Error> {
        let turns = self.moved_tags.turns(host.tag.id);
        let _turn = turns.lock().await;
        self.tag_in_turn(host, id, tag).await
    }

    /// [`Self::tag_on`] for who has the node's turn.
    pub(super) async fn tag_in_turn(&self, host: &Host, id: &str, tag: &str) -> Result<(), Error> {
        if host.images().named(tag).is_some_and(|image| image.id == id) {
            return Ok(());
        }
        let mut query = Query::default();
        if let Ok(name) = ImageRef::parse(tag) {
            query.set("repo", &name.familiar_name());
            query.set("tag", name.tag.as_deref().unwrap_or("latest"));
        }
        let target = format!("{}?{}", Operation::ImageTag.target(&[id]), query.encode());
        let tagged = host.ask(EngineCall::post(target, None));
        tokio::time::timeout(TAG_PATIENCE, tagged)
            .await
            .unwrap_or_else(|_| Err(host.no_answer(TAG_PATIENCE)))?;
        tracing::info!(node = %host.tag.name, tag, image = id, "a tag was moved to what it means in the pool");
        host.reread(ListKind::Images).await;
        Ok(())
    }
}

/// Whether the engine will not have it, or not give it up: either way there is nothing more to wait for.
async fn is_removed_for_good(host: &Host, image: &str, removal: ImageRemoval) -> bool {
    let ImageRemoval { force, noprune } = removal;
    let target = Operation::ImageRemove.target(&[image]);
    let call = EngineCall::delete(format!("{target}?force={force}&noprune={noprune}"));
    let removed = tokio::time::timeout(REMOVE_PATIENCE, host.call(call)).await;
    match removed.unwrap_or_else(|_| Err(host.no_answer(REMOVE_PATIENCE))) {
        Ok(reply) if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND => true,
        Ok(reply) => {
            let message = reply.message();
            tracing::warn!(image, node = %host.tag.name, message, "an image that was removed stays");
            reply.status.is_client_error()
        }
        Err(error) => {
            tracing::warn!(image, %error, "an image could not be removed yet");
            false
        }
    }
}

/// The tag that a reference is, as clients see it: `busybox` is `busybox:latest`. None for a digest, or for what can only
/// be an id.
pub fn tag_name(reference: &str) -> Option<String> {
    let Ok(Named::Reference(name)) = Named::parse(reference) else {
        return None;
    };
    name.digest.is_none().then(|| name.looked_up())
}

/// What has moved between two pictures of one engine's images: each tag with its image now.
pub fn moved(before: &Images, now: &Images) -> BTreeMap<String, String> {
    let tags = now.all().iter().flat_map(|image| {
        let named = image.tags.iter();
        named.map(|tag| (tag, &image.id))
    });
    tags.filter(|(tag, id)| before.named(tag).is_none_or(|image| image.id != **id))
        .map(|(tag, id)| (tag.clone(), id.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Images;

    #[test]
    fn a_reference_is_a_tag_or_is_not() {
        let check = |reference: &str, tag: Option<&str>| {
            assert_eq!(tag_name(reference).as_deref(), tag, "{reference}");
        };
        let digest = "a".repeat(64);
        check("busybox", Some("busybox:latest"));
        check("docker.io/library/busybox:1", Some("busybox:1"));
        check("10.0.0.1:5000/some/it:1", Some("10.0.0.1:5000/some/it:1"));
        check(&format!("busybox@sha256:{digest}"), None);
        check(&format!("busybox:1@sha256:{digest}"), None);
        check(&digest, None);
        check(&format!("sha256:{digest}"), None);
        check("Busybox", None);
    }

    #[test]
    fn only_what_moved_has_moved() {
        let images = |text: &str| {
            let items: Vec<_> = text
                .split_whitespace()
                .map(|item| {
                    let (tag, id) = item.split_once('=').expect("tag=id");
                    serde_json::json!({"Id": format!("sha256:{id}"), "RepoTags": [tag], "Created": 1})
                })
                .collect();
            Images::read(&serde_json::to_vec(&items).expect("JSON")).expect("reads")
        };
        let check = |before: &str, now: &str, expected: &str| {
            let moved = moved(&images(before), &images(now));
            let told: Vec<_> = moved
                .iter()
                .map(|(tag, id)| format!("{tag}={}", id.trim_start_matches("sha256:")))
                .collect();
            assert_eq!(told.join(" "), expected);
        };
        check("a:1=aa b:1=bb", "a:1=aa b:1=cc", "b:1=cc");
        check("a:1=aa", "a:1=aa b:1=bb", "b:1=bb");
        check("a:1=aa b:1=bb", "a:1=aa", "");
    }
}
