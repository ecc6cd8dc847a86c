//! Creating a container: choose a node, commit the reservation, make the container, bind it.
//!
//! | step | if we crash right after |
//! | --- | --- |
//! | decide | nothing happened |
//! | commit the reservation | nothing was made: it is given up when its node is listed again |
//! | the node is asked for the paths that it binds (`paths`) | the same |
//! | the node gets the image, if it lacks it (`images`) | the same; the image stays |
//! | the engine gets the networks that it joins | the same; see `networks` |
//! | the engine makes what it mounts | `volumes` has that |
//! | the engine makes it, with our labels | it is found by its labels and adopted |
//! | reply; the binding is committed behind it | the same |

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api_compat::ApiVersion;
use api_compat::create::{Body, Create};
use api_compat::features::Feature;
use api_compat::labels;
use api_compat::policies::Policies;
use api_compat::query::Query;
use bytes::Bytes;
use http::StatusCode;

use super::affinities::{Arrival, Newcomer};
use super::paths::has_paths;
use super::placing::Choice;
use super::{Error, Manager, names};
use crate::clock;
use crate::engine::{self, Details, EngineCall, EngineReply, Host};
use crate::model::{
    BlobId, Caller, ContainerId, NodeId, NodeName, Owner, PortClaim, PortOrigin, PublishedPort,
    Realm, RequestId,
};
use crate::scheduler::Strategy;
use crate::state::{Command, Promise, Refusal};
use crate::tasks::spawn_stream;

/// A create may take so long: engines answer within seconds, unless a disk is very slow.
pub(super) const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a create waits for nodes that have just joined to be counted.
const COUNTING_PATIENCE: Duration = Duration::from_secs(10);
/// How many nodes are tried when engines fail.
const ATTEMPTS: usize = 3;
/// How often a decision is made anew because another was committed first. They are made one after the
/// other, so only what engines report can come between.
const RACES_LOST: usize = 10;

/// A container that is to be created.
#[derive(Debug)]
pub struct CreateOrder<'a> {
    /// Its name; one is made up if there is none.
    pub name: Option<String>,
    /// What placing needs to know of the body.
    pub wanted: &'a Create<'a>,
    /// What it says of the node it is to be on.
    pub policies: &'a Policies,
    /// The strategy that is to choose the node, if it is not to be the cluster's.
    pub strategy: Option<Strategy>,
    /// What it asks for that not every engine knows.
    pub features: Vec<Feature>,
    /// The body for the engine, but for what the manager itself adds.
    pub body: &'a [u8],
    /// Whether the paths that it binds must be on its node.
    pub paths_must_exist: bool,
    /// The query without the name.
    pub query: Query,
    /// The client's API version.
    pub version: ApiVersion,
    /// Who asks.
    pub caller: Caller,
}

/// What came of it.
#[derive(Debug)]
pub struct Created {
    /// The node.
    pub node: NodeName,
    /// The host ports it holds there.
    pub ports: Vec<PortClaim>,
    /// The engine's reply.
    pub reply: EngineReply,
    /// What is to be warned of.
    pub warning: Option<String>,
}

/// A place that was promised.
struct Reserved {
    choice: Choice,
    /// Counts as there until it is.
    _arrival: Arrival,
    warning: Option<String>,
}

impl Manager {
    /// Creates a container on the node that suits it best. When this returns, every list of this
    /// manager shows it.
    pub async fn create(self: &Arc<Self>, order: CreateOrder<'_>) -> Result<Created, Error> {
        self.until_a_node_is_counted().await;
        let mut not_on = BTreeSet::new();
        let mut earlier = None;
        loop {
            let name = match &order.name {
                Some(name) => {
                    self.name_is_free(name, None).await?;
                    name.clone()
                }
                None => self.free_name(),
            };
            let request = RequestId::from_bytes(clock::random_bytes());
            let _mark = self.under_way.mark(request);
            let reserved = match self.reserve(&order, &name, request, &not_on).await {
                Ok(reserved) => reserved,
                // Nobody asked for this name: another will do.
                Err(Error::NameInUse { .. }) if order.name.is_none() => continue,
                Err(error) => return Err(error),
            };
            let choice = &reserved.choice;
            let host = &choice.host;
            let made = self.prepare_and_make(&order, &name, request, choice).await;
            let made = made.map_err(|error| error.after(earlier.take()));
            if !made.as_ref().is_ok_and(is_created) {
                self.release(request, &order.caller).await;
            }
            not_on.insert(host.tag.id);
            // Engines refuse at once what they have no addresses for, so it does not count how many do.
            let is_worth_it = not_on.len() < ATTEMPTS || lacks_addresses(&made);
            // The engine is at fault, not the request: another node may do better.
            if is_of_its_node(&made) && is_worth_it && self.place(&order, &not_on, None).is_ok() {
                tracing::warn!(node = %host.tag.name, "an engine failed to create a container");
                earlier = made.err();
                continue;
            }
            return made.map(|reply| Created {
                node: host.tag.name.clone(),
                ports: choice.ports.clone(),
                reply,
                warning: reserved.warning.clone(),
            });
        }
    }

    /// Chooses a node and commits the promise; decides anew if the commit loses a race.
    async fn reserve(
        &self,
        order: &CreateOrder<'_>,
        name: &str,
        request: RequestId,
        not_on: &BTreeSet<NodeId>,
    ) -> Result<Reserved, Error> {
        let mut lost = 0;
        let mut refused = false;
        loop {
            let placing = self.placing.lock().await;
            let placed = self.place_surviving(order, not_on, (request, name));
            let (choice, warning) = match placed {
                Ok(placed) => placed,
                Err(why) if refused => return Err(why),
                Err(why) => {
                    drop(placing);
                    refused = true;
                    // What made room for it may be seen and not committed yet.
                    if self.taken_in().await {
                        continue;
                    }
                    return Err(why);
                }
            };
            let newcomer = Newcomer::new(order.wanted, name, choice.host.tag.id);
            let arrival = self.newcomers.expect(request, newcomer);
            let recipe = self.sealed_recipe(order, request);
            let promise = Promise {
                request,
                name: name.to_owned(),
                node: choice.host.tag.id,
                owner: Owner::Plain,
                claim: self.claim(order.wanted),
                generic: self.generic_claim(
                    &order.wanted.generic,
                    choice.host.tag.id,
                    &self.cluster(),
                ),
                ports: choice.ports.clone(),
                networks: choice.joins.ids().into_iter().collect(),
                volumes: order
                    .wanted
                    .volumes
                    .iter()
                    .map(|volume| volume.name.to_string())
                    .collect(),
                new_volumes: self.new_volumes(order.wanted, &self.cluster(), &choice.host),
                replaces: self.replaced(order).map(|replaced| replaced.request),
                acting: self.me,
                recipe: recipe.as_ref().map(|blob| BlobId::from_bytes(blob.id.0)),
            };
            let reserved = self
                .commit_with(
                    request,
                    order.caller.clone(),
                    Command::Reserve(promise),
                    recipe.into_iter().collect(),
                )
                .await;
            drop(placing);
            match reserved {
                Ok(_) => {
                    return Ok(Reserved {
                        choice,
                        _arrival: arrival,
                        warning,
                    });
                }
                Err(Error::Refused(Refusal::NameTaken { .. })) => {
                    self.name_is_free(name, None).await?
                }
                Err(Error::Refused(
                    Refusal::NoRoom { .. }
                    | Refusal::Scarce { .. }
                    | Refusal::PortTaken { .. }
                    | Refusal::VolumeElsewhere { .. }
                    | Refusal::NetworkElsewhere { .. }
                    | Refusal::NoSuchNetwork { .. }
                    | Refusal::NodeNotReady { .. }
                    | Refusal::NodeNotActive { .. },
                )) if lost < RACES_LOST => lost += 1,
                Err(error) => {
                    // It may have been committed all the same.
                    if matches!(error, Error::Commit(_)) {
                        self.release(request, &order.caller).await;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Sees to it that the node has what the container needs, then makes it there.
    async fn prepare_and_make(
        self: &Arc<Self>,
        order: &CreateOrder<'_>,
        name: &str,
        request: RequestId,
        choice: &Choice,
    ) -> Result<EngineReply, Error> {
        let host = &choice.host;
        if order.paths_must_exist {
            has_paths(host, &order.wanted.host_paths).await?;
        }
        let mut known = BTreeMap::new();
        let mut making = Vec::new();
        let mounted = order.wanted.mounted_images.iter();
        for image in std::iter::once(&order.wanted.image).chain(mounted) {
            making.push(self.moved_tags.making(host.tag.id, image));
            if let Some(there) = self.have_image(image, host, &order.caller).await? {
                known.insert(&**image, there);
            }
        }
        self.make(order, name, &known, request, choice).await
    }

    /// Asks the engine; on success the lists show the container before this returns. `images` are what the engine
    /// knows images by of which it does not know the client's own word.
    async fn make(
        self: &Arc<Self>,
        order: &CreateOrder<'_>,
        name: &str,
        images: &BTreeMap<&str, String>,
        request: RequestId,
        choice: &Choice,
    ) -> Result<EngineReply, Error> {
        let host = &choice.host;
        let networks = self.joined_on(host, &choice.joins).await?;
        let with_needs;
        let mut body = parsed(order.body)?;
        let is_renamed = Cell::new(false);
        body.set_needs(|reference| {
            let known = self.known_there(host, reference)?;
            is_renamed.set(true);
            Some(known.to_owned())
        });
        if is_renamed.get() {
            // What follows may move an endpoint, links and all.
            with_needs = body.finish();
            body = parsed(&with_needs)?;
        }
        let (request_label, cluster_label) =
            (request.to_string(), self.settings.cluster.to_string());
        body.add_labels(&[
            (labels::ID, &request_label),
            (labels::CLUSTER, &cluster_label),
        ]);
        if let Some(image) = images.get(&*order.wanted.image) {
            body.set_image(image);
        }
        body.set_mounted_images(|named| images.get(named).cloned());
        let mut besides = Vec::new();
        for port in &choice.numbers {
            match port.index {
                Some(index) => body.set_host_port(&port.key, index, port.number),
                None => besides.push((&*port.key, port.number)),
            }
        }
        body.bind_ports(&besides);
        body.set_networks(|reference| {
            let ours = networks.get(reference).cloned();
            ours.or_else(|| self.joined_of_node(host, reference))
        });
        let mut query = order.query.clone();
        query.set("name", name);
        let target = format!("/containers/create?{}", query.encode());
        let call = EngineCall::post(target, Some(Bytes::from(body.finish()))).at(order.version);
        let (_turn, refused) = self.make_volumes(order.wanted, host).await?;
        if let Some(refused) = refused {
            return Ok(refused);
        }
        let creation = host.creation(request).await;
        let reply = tokio::time::timeout(CREATE_TIMEOUT, host.call(call)).await;
        // Not an engine that failed: it may make the container yet, so it is not made elsewhere.
        let late = |_| Err(self.garbled(host, "it did not answer the create in time"));
        let reply = reply.unwrap_or_else(late)?;
        if reply.status != StatusCode::CREATED {
            return Ok(reply);
        }
        let container = created_id(&reply.body)
            .ok_or_else(|| self.garbled(host, "its answer to the create names no container"))?;
        creation
            .settle(
                container,
                Details {
                    claim: self.claim(order.wanted),
                    generic: order.wanted.generic.clone(),
                    exposed: exposed(&choice.ports),
                    needs: order.wanted.needed().collect(),
                    outdated: false,
                },
                order.wanted.linked().collect(),
            )
            .await;
        self.bind_behind(request, container, order.caller.clone());
        Ok(reply)
    }

    /// Commits the binding without keeping the client waiting, then looks at what became of the container
    /// meanwhile.
    fn bind_behind(self: &Arc<Self>, request: RequestId, container: ContainerId, caller: Caller) {
        let manager = Arc::clone(self);
        let mark = self.under_way.mark(request);
        spawn_stream(tracing::debug_span!("bind", %container), async move {
            let bind = Command::Bind { request, container };
            manager.log_failure(manager.commit_for(request, caller, bind).await);
            drop(mark);
            manager.catch_up(container).await;
        });
    }

    /// Gives up a reservation. A name must not stay taken by nothing, so one more try is worth it.
    async fn release(&self, request: RequestId, caller: &Caller) {
        for _ in 0..ATTEMPTS {
            let release = Command::Release { request };
            match self.commit_for(request, caller.clone(), release).await {
                Err(error @ Error::Commit(_)) => {
                    tracing::warn!(%error, "a reservation could not be given up yet");
                }
                _ => return,
            }
        }
    }

    fn garbled(&self, host: &Host, why: &str) -> engine::Error {
        engine::Error::Garbled {
            node: host.tag.name.clone(),
            why: why.to_owned(),
        }
    }

    /// A name that nobody has.
    fn free_name(&self) -> String {
        let cluster = self.cluster();
        let mut attempt = 0;
        loop {
            let name = names::name(clock::random_bytes(), attempt);
            let taken = cluster.placement_named(Realm::DEFAULT, &name).is_some()
                || !self.fleet.inventory.named(&name).is_empty();
            if !taken {
                return name;
            }
            attempt += 1;
        }
    }

    /// A manager that has just started knows of no room anywhere: waits until one node is counted, for as
    /// long as some have just joined.
    async fn until_a_node_is_counted(&self) {
        let mut applied = self.store.watch();
        let counted = async {
            while self.is_just_starting() {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(COUNTING_PATIENCE, counted).await;
    }

    fn is_just_starting(&self) -> bool {
        let hosts = self.fleet.hosts();
        let mut up = hosts.values().filter(|host| host.is_up()).peekable();
        clock::instant().duration_since(self.began) < COUNTING_PATIENCE
            && up.peek().is_some()
            && !up.any(|host| self.takes_work(host))
    }

    /// Whether all that the node has was listed and counted, and what was put off there was tried: before that it takes no
    /// work, though it answers.
    pub fn takes_work(&self, host: &Host) -> bool {
        let cluster = self.cluster();
        let node = cluster.node(host.tag.id);
        host.is_counted() && node.is_some_and(|node| node.is_ready())
    }
}

fn parsed(body: &[u8]) -> Result<Body<'_>, Error> {
    Body::parse(body).map_err(|error| Error::Impossible(error.message))
}

/// The ports that it may listen on in its host's network.
fn exposed(ports: &[PortClaim]) -> Box<[PublishedPort]> {
    let claims = ports.iter();
    let exposed = claims.filter(|claim| claim.origin == PortOrigin::Exposed);
    exposed.map(|claim| claim.port).collect()
}

/// Whether a create failed for what is so on its node, and may not be so on another.
fn is_of_its_node(made: &Result<EngineReply, Error>) -> bool {
    match made {
        Ok(reply) => reply.status.is_server_error(),
        Err(Error::Engine(error)) => error.is_transient(),
        Err(Error::NetworkNotMade { status, .. }) => {
            status.is_server_error() || lacks_addresses(made)
        }
        // What one node lacks another may have; what is left over on one is not on another.
        Err(Error::NotBrought { .. } | Error::NoSuchPath { .. } | Error::NetworkNotGone { .. }) => {
            true
        }
        // Not a node that fell silent while it made a network with a subnet: that might silence the next too.
        Err(_) => false,
    }
}

fn lacks_addresses(made: &Result<EngineReply, Error>) -> bool {
    matches!(
        made,
        Err(Error::NetworkNotMade {
            lacks_addresses: true,
            ..
        })
    )
}

fn is_created(reply: &EngineReply) -> bool {
    reply.status == StatusCode::CREATED
}

fn created_id(body: &[u8]) -> Option<ContainerId> {
    #[derive(serde::Deserialize)]
    struct Created {
        #[serde(rename = "Id")]
        id: String,
    }
    serde_json::from_slice::<Created>(body)
        .ok()?
        .id
        .parse()
        .ok()
}
