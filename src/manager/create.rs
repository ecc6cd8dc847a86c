//! Creating a container: choose a node, commit the reservation, make the container, bind it.
//!
//! | step | if we crash right after |
//! | --- | --- |
//! | decide | nothing happened |
//! | commit the reservation | nothing was made: it ends with the manager's memory |
//! | the engine makes it, with our labels | it is found by its labels and adopted |
//! | reply; the binding is committed behind it | the same |

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api_compat::ApiVersion;
use api_compat::create::{Body, Create};
use api_compat::labels;
use api_compat::query::Query;
use bytes::Bytes;
use http::StatusCode;

use super::placing::claim;
use super::{Error, Manager, names};
use crate::clock;
use crate::engine::{self, Details, EngineCall, EngineReply, Host};
use crate::model::{Caller, ContainerId, Node, NodeId, NodeName, Owner, Realm, RequestId, Verdict};
use crate::state::{Command, Promise, Refusal};

/// A create may take so long: engines answer within seconds, unless a disk is very slow.
pub(super) const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a create waits for nodes that have just joined to be counted.
const COUNTING_PATIENCE: Duration = Duration::from_secs(10);
/// How many nodes are tried when engines fail, and how often a lost race is run again.
const ATTEMPTS: usize = 3;

/// A container that is to be created.
#[derive(Debug)]
pub struct CreateOrder<'a> {
    /// Its name; one is made up if there is none.
    pub name: Option<String>,
    /// What placing needs to know of the body.
    pub wanted: &'a Create<'a>,
    /// The body as the client sent it.
    pub body: &'a [u8],
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
    /// The engine's reply.
    pub reply: EngineReply,
}

impl Manager {
    /// Creates a container on the node that suits it best. When this returns, every list of this
    /// manager shows it.
    pub async fn create(&self, order: CreateOrder<'_>) -> Result<Created, Error> {
        self.until_counted().await;
        let name = match &order.name {
            Some(name) => {
                self.name_is_free(name, None).await?;
                name.clone()
            }
            None => self.free_name(),
        };
        let mut failed_on = BTreeSet::new();
        loop {
            let attempt = self.attempt(&order, &name, &failed_on).await;
            match attempt {
                // The engine is at fault, not the request: another node may do better.
                Ok((host, created))
                    if created.reply.status.is_server_error() && failed_on.len() + 1 < ATTEMPTS =>
                {
                    tracing::warn!(node = %host.tag.name, message = created.reply.message(), "engine failed to create");
                    failed_on.insert(host.tag.id);
                    if self.place(&order, &failed_on).is_err() {
                        return Ok(created);
                    }
                }
                Ok((_, created)) => return Ok(created),
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(
        &self,
        order: &CreateOrder<'_>,
        name: &str,
        failed_on: &BTreeSet<NodeId>,
    ) -> Result<(Arc<Host>, Created), Error> {
        let request = RequestId::from_bytes(clock::random_bytes());
        let _mark = self.under_way.mark(request);
        let node = self.reserve(order, name, request, failed_on).await?;
        let made = match self.fleet.host(&node) {
            Some(host) => self
                .make(order, name, request, &host)
                .await
                .map(|reply| (host, reply)),
            None => Err(Error::Impossible(
                "the chosen node has just left the cluster: try again".to_owned(),
            )),
        };
        match made {
            Ok((host, reply)) if reply.status == StatusCode::CREATED => Ok((
                Arc::clone(&host),
                Created {
                    node: host.tag.name.clone(),
                    reply,
                },
            )),
            Ok((host, reply)) => {
                self.release(request, &order.caller).await;
                Ok((
                    Arc::clone(&host),
                    Created {
                        node: host.tag.name.clone(),
                        reply,
                    },
                ))
            }
            Err(error) => {
                self.release(request, &order.caller).await;
                Err(error)
            }
        }
    }

    /// Chooses a node and commits the promise; decides anew if the commit loses a race.
    async fn reserve(
        &self,
        order: &CreateOrder<'_>,
        name: &str,
        request: RequestId,
        failed_on: &BTreeSet<NodeId>,
    ) -> Result<NodeId, Error> {
        let mut lost = 0;
        loop {
            let placing = self.placing.lock().await;
            let choice = self.place(order, failed_on)?;
            let promise = Promise {
                request,
                name: name.to_owned(),
                node: choice.node,
                owner: Owner::Plain,
                claim: claim(order.wanted),
                ports: choice.ports,
                networks: Vec::new(),
                volumes: order
                    .wanted
                    .volumes
                    .iter()
                    .map(|volume| volume.name.to_string())
                    .collect(),
                acting: self.me,
                recipe: None,
            };
            let reserved = self
                .commit_for(request, order.caller.clone(), Command::Reserve(promise))
                .await;
            drop(placing);
            match reserved {
                Ok(_) => return Ok(choice.node),
                Err(Error::Refused(Refusal::NameTaken { .. })) => {
                    self.name_is_free(name, None).await?
                }
                Err(Error::Refused(
                    Refusal::NoRoom { .. }
                    | Refusal::PortTaken { .. }
                    | Refusal::VolumeElsewhere { .. }
                    | Refusal::NodeNotReady { .. }
                    | Refusal::NodeNotActive { .. },
                )) if lost < 100 => lost += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks the engine; on success the lists show the container before this returns.
    async fn make(
        &self,
        order: &CreateOrder<'_>,
        name: &str,
        request: RequestId,
        host: &Arc<Host>,
    ) -> Result<EngineReply, Error> {
        let mut body = Body::parse(order.body).map_err(|error| Error::Impossible(error.message))?;
        let (request_label, cluster_label) =
            (request.to_string(), self.settings.cluster.to_string());
        body.add_labels(&[
            (labels::ID, &request_label),
            (labels::CLUSTER, &cluster_label),
        ]);
        let mut query = order.query.clone();
        query.set("name", name);
        let target = format!("/containers/create?{}", query.encode());
        let call = EngineCall::post(target, Some(Bytes::from(body.finish()))).at(order.version);
        let creation = host.creation(request).await;
        let reply = tokio::time::timeout(CREATE_TIMEOUT, host.call(call))
            .await
            .unwrap_or_else(|_| {
                Err(engine::Error::Unreachable {
                    node: host.tag.name.clone(),
                    source: std::io::Error::new(
                        std::io::ErrorKind::TimedOut,
                        "no answer to the create",
                    ),
                })
            })?;
        if reply.status != StatusCode::CREATED {
            return Ok(reply);
        }
        let container = created_id(&reply.body).ok_or_else(|| engine::Error::Garbled {
            node: host.tag.name.clone(),
            why: "its answer to the create names no container".to_owned(),
        })?;
        creation
            .settle(
                container,
                Details {
                    claim: claim(order.wanted),
                },
            )
            .await;
        self.bind_behind(request, container, order.caller.clone());
        Ok(reply)
    }

    /// Commits the binding without keeping the client waiting.
    fn bind_behind(&self, request: RequestId, container: ContainerId, caller: Caller) {
        let store = self.store.clone();
        let mark = self.under_way.mark(request);
        crate::tasks::spawn_stream(tracing::debug_span!("bind", %container), async move {
            let _mark = mark;
            let envelope = crate::state::Envelope::new(
                request,
                caller,
                clock::now(),
                Command::Bind { request, container },
            );
            let deadline = clock::deadline(super::COMMIT_TIMEOUT);
            if let Err(error) = store
                .propose(*request.as_bytes(), envelope.encode(), deadline)
                .await
            {
                tracing::warn!(%error, "a container could not be bound; its next change does it");
            }
        });
    }

    async fn release(&self, request: RequestId, caller: &Caller) {
        self.log_failure(
            self.commit_for(request, caller.clone(), Command::Release { request })
                .await,
        );
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

    /// Waits until nodes that have just joined are counted, or for as long as that is worth: a manager
    /// that has just started knows of no room anywhere.
    async fn until_counted(&self) {
        let mut applied = self.store.watch();
        let all = async {
            while self.cluster().nodes().any(|node| has_just_joined(node)) {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(COUNTING_PATIENCE, all).await;
    }
}

fn has_just_joined(node: &Node) -> bool {
    let age = clock::now().duration_since(node.since);
    node.verdict == Verdict::Joining && age.unsigned_abs() < COUNTING_PATIENCE
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
