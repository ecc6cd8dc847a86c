//! Says whether a container's name is free: promised to nobody, and held by no container that exists.
//!
//! What is promised is in the state; what is held is observed, and a holder may have gone a moment ago: so its
//! engine is asked before anybody is refused.

use std::time::Duration;

use http::StatusCode;

use super::create::CREATE_TIMEOUT;
use super::{Error, Manager};
use crate::engine::{Container, EngineCall};
use crate::model::{ContainerId, NodeId, Realm, RequestId};
use crate::state::Command;

/// An engine that does not say in time whether it has a container has it.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// What an engine says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has it.
    There,
    /// It has none of that id.
    Gone,
    /// It did not say.
    Unknown,
}

impl Manager {
    /// Fails if a container other than `except` has the name.
    pub(super) async fn name_is_free(
        &self,
        name: &str,
        except: Option<&Container>,
    ) -> Result<(), Error> {
        let in_use = |holder| Error::NameInUse {
            name: name.to_owned(),
            holder,
        };
        for holder in self.fleet.inventory.named(name) {
            let other = except.is_none_or(|except| except.id != holder.id);
            if other && self.still_exists(holder.host.id, holder.id).await {
                return Err(in_use(Some(holder.id)));
            }
        }
        loop {
            let cluster = self.cluster();
            let Some(placement) = cluster.placement_named(Realm::DEFAULT, name) else {
                return Ok(());
            };
            let request = placement.request;
            if except.and_then(|except| except.request) == Some(request) {
                return Ok(());
            }
            match placement.container {
                // Left by a create that was cut off: what became of it is seen when its node is back.
                None if !self.under_way.contains(&request) && !self.is_up(placement.node) => {
                    return Err(in_use(None));
                }
                None if self.is_bound_or_released_in_time(request).await => {}
                None => return Err(in_use(None)),
                Some(holder) if self.still_exists(placement.node, holder).await => {
                    return Err(in_use(Some(holder)));
                }
                Some(_) => {
                    self.commit(Command::Remove { request }).await?;
                }
            }
        }
    }

    /// Whether a container is still there. One whose engine does not say so is.
    pub(super) async fn still_exists(&self, node: NodeId, container: ContainerId) -> bool {
        self.presence(node, container).await != Presence::Gone
    }

    /// Asks a container's engine whether it is there, and ends its promise if it is not.
    pub(super) async fn presence(&self, node: NodeId, container: ContainerId) -> Presence {
        let Some(host) = self.fleet.host(&node) else {
            let known = self.cluster().node(node).is_some();
            return if known {
                Presence::Unknown
            } else {
                Presence::Gone
            };
        };
        let call = EngineCall::get(format!("/containers/{container}/json"));
        match tokio::time::timeout(ASK_PATIENCE, host.call(call)).await {
            Ok(Ok(reply)) if reply.status == StatusCode::NOT_FOUND => {
                self.forget(&container);
                let request = self.cluster().placement_of(container).map(|p| p.request);
                if let Some(request) = request.filter(|request| !self.under_way.contains(request)) {
                    self.log_failure(self.commit(Command::Remove { request }).await);
                }
                Presence::Gone
            }
            Ok(Ok(reply)) if reply.status.is_success() => Presence::There,
            _ => Presence::Unknown,
        }
    }

    /// Waits until a reservation has become a container or was given up: whoever comes second learns who
    /// has the name. At most for as long as a create may take.
    async fn is_bound_or_released_in_time(&self, request: RequestId) -> bool {
        let mut applied = self.store.watch();
        let is_reserved = || {
            let cluster = self.cluster();
            let placement = cluster.placement(request);
            placement.is_some_and(|placement| placement.container.is_none())
        };
        let settled = async {
            while is_reserved() {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(CREATE_TIMEOUT, settled).await.is_ok()
    }
}
