//! How a container leaves a network: later, if its node is down; and what follows from where it is seen.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::PATIENCE;
use crate::engine::{self, Container, EngineCall, Host, OwnNetwork};
use crate::manager::{Error, Manager};
use crate::model::{Caller, ContainerId, NetworkId, NodeId, Placement, RequestId};
use crate::state::{Cluster, Command};

impl Manager {
    /// Cuts a container off from a network while its node is down: it joins it no more from now on, and its engine is told
    /// when it is back.
    pub async fn leave_network_later(
        self: &Arc<Self>,
        id: NetworkId,
        placement: &Placement,
        caller: &Caller,
    ) -> Result<(), Error> {
        let (request, node) = (placement.request, placement.node);
        let later = Command::LeaveNetworkLater {
            request,
            network: id,
        };
        self.commit_for(request, caller.clone(), later).await?;
        if let Some(container) = placement.container {
            self.fleet.inventory.leave_network(&container, id);
        }
        if let Some(host) = self.fleet.host(&node) {
            self.settle_if_up(&host).await;
        }
        Ok(())
    }

    /// Has the engine of a node that is back cut off what was cut off while it was down. Whether nothing is left to do.
    pub(in crate::manager) async fn cut_off_what_is_due(&self, node: NodeId) -> bool {
        self.cut_off_from(node, |_| true).await
    }

    /// The same for some networks.
    pub(super) async fn cut_off_from(
        &self,
        node: NodeId,
        is_meant: impl Fn(NetworkId) -> bool,
    ) -> bool {
        let Some(host) = self.fleet.host(&node) else {
            return true;
        };
        let cluster = self.cluster();
        let mut due = Vec::new();
        for placement in cluster.placements_on(node) {
            let leaving = placement
                .leaving
                .iter()
                .filter(|network| is_meant(**network));
            due.extend(leaving.map(|network| (placement.request, *network)));
        }
        let mut all = true;
        for (request, network) in due {
            if let Err(error) = self.cut_off(&host, request, network).await {
                tracing::warn!(%error, node = %host.tag.name, "a container could not be cut off from a network yet");
                all = false;
            }
        }
        all
    }

    /// Has the engine cut a container off from a network, if that is due.
    pub(super) async fn cut_off(
        &self,
        host: &Host,
        request: RequestId,
        network: NetworkId,
    ) -> Result<(), Error> {
        let is_due = |placement: &&Arc<Placement>| placement.leaving.contains(&network);
        if self.cluster().placement(request).filter(is_due).is_none() {
            return Ok(());
        }
        let _turn = self.networks.turn(network).await;
        // It may have been done while others had their turn.
        let cluster = self.cluster();
        let Some(placement) = cluster.placement(request).filter(is_due) else {
            return Ok(());
        };
        // Without either there is nothing to be cut.
        if let Some(container) = placement.container
            && let Some(own) = host.tag.networks.of(network)
        {
            disconnect(host, container, &own).await?;
        }
        let settle = Command::SettleLeave { request, network };
        self.commit(settle).await.map(drop)
    }
}

/// Has an engine cut a container off; that it is not connected, or gone, is as good. Returns when our lists show it.
async fn disconnect(
    host: &Host,
    container: ContainerId,
    own: &OwnNetwork,
) -> Result<(), engine::Error> {
    let body = format!("{{\"Container\":\"{container}\",\"Force\":true}}");
    let target = format!("/networks/{}/disconnect", own.engine_id);
    let change = host.change(container).await;
    let asked = host.ask(EngineCall::post(target, Some(Bytes::from(body))));
    let answer = tokio::time::timeout(PATIENCE, asked).await;
    match answer.unwrap_or_else(|_| Err(host.no_answer(PATIENCE))) {
        Ok(_) => {}
        Err(engine::Error::Refused {
            status, message, ..
        }) if status == StatusCode::NOT_FOUND || message.contains("is not connected to") => {}
        Err(error) => return Err(error),
    }
    // Of one that does not run no event tells; it costs a moment to wait for it.
    change.settle(Some("disconnect")).await;
    tracing::info!(%container, network = own.name, node = %host.tag.name, "container cut off from a network");
    Ok(())
}

/// What follows for the networks that a container of ours is promised to join from those that it is seen in.
pub(in crate::manager) fn joining(
    container: &Container,
    placement: &Placement,
    cluster: &Cluster,
) -> Option<Command> {
    let request = placement.request;
    let may_join = |id: &NetworkId| {
        let network = cluster.network(*id).filter(|network| !network.deleting);
        network.is_some_and(|n| n.node().is_none_or(|bound| bound == placement.node))
    };
    let mut seen = container.networks.iter();
    let is_known = |id| placement.networks.contains(id) || placement.leaving.contains(id);
    let joined = seen.find(|id| !is_known(id) && may_join(id));
    if let Some(network) = joined.copied() {
        return Some(Command::JoinNetwork { request, network });
    }
    let mut promised = placement.networks.iter();
    let left = promised.find(|id| !container.networks.contains(id));
    left.map(|network| Command::LeaveNetwork {
        request,
        network: *network,
    })
}

/// The networks that an adopted container can be promised to join.
pub(in crate::manager) fn adopted(container: &Container, cluster: &Cluster) -> Vec<NetworkId> {
    let node = container.host.id;
    let fits = |id: &&NetworkId| {
        let network = cluster.network(**id).filter(|network| !network.deleting);
        network.is_some_and(|network| network.node().is_none_or(|bound| bound == node))
    };
    container.networks.iter().filter(fits).copied().collect()
}
