//! What engines have of networks: made before a container joins them, removed when nothing needs them there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use api_compat::create::Joined;
use api_compat::labels;
use api_compat::network_create::{for_engine, subnets};
use bytes::Bytes;
use http::StatusCode;

use super::{Joins, PATIENCE, Turn, lock};
use crate::engine::{self, EngineCall, EngineReply, Host, ListKind, OwnNetwork};
use crate::manager::{Error, Manager};
use crate::model::{Network, NetworkId, NodeId, NodeName, Realised};
use crate::state::Command;
use crate::tasks::{Stopping, spawn_stream};

/// What an engine did not remove it is asked to remove again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(10);

impl Manager {
    /// Has the engine make the networks that a container joins, if it has not got them, and says what it knows them by.
    /// An error says whether another node may be asked to.
    pub(in crate::manager) async fn joined_on(
        &self,
        host: &Arc<Host>,
        joins: &Joins,
    ) -> Result<BTreeMap<String, Joined>, Error> {
        // One that is down already is not lost by what it is asked now.
        host.ready()?;
        let mut joined = BTreeMap::new();
        for (reference, id) in &joins.0 {
            let own = self.network_on(host, *id).await;
            let own = own.map_err(|error| match (error, self.cluster().network(*id)) {
                (Error::Engine(error), Some(network)) => lost(network, error),
                (error, _) => error,
            })?;
            let (name, id) = (own.name, own.engine_id.to_string());
            joined.insert(reference.clone(), Joined { name, id });
        }
        Ok(joined)
    }

    /// What the engine has of a network that is bound to its node; makes it if it has nothing.
    pub(super) async fn network_on(
        &self,
        host: &Arc<Host>,
        id: NetworkId,
    ) -> Result<OwnNetwork, Error> {
        let network = self.expect_network(id)?;
        if let Some(own) = host.tag.networks.of(id)
            && is_recorded(&network, host.tag.id, &own)
        {
            return Ok(own);
        }
        let turn = self.networks.turn(id).await;
        // It may have been made, or left over and removed, while others had their turn.
        let network = self.expect_network(id)?;
        let own = self.made_on(host, &network, &turn).await?;
        if !is_recorded(&network, host.tag.id, &own) {
            let realise = Command::RealiseNetwork {
                network: id,
                node: host.tag.id,
                engine_id: own.engine_id,
            };
            self.commit(realise).await?;
        }
        Ok(own)
    }

    pub(super) async fn made_on(
        &self,
        host: &Arc<Host>,
        network: &Network,
        _turn: &Turn,
    ) -> Result<OwnNetwork, Error> {
        if let Some(own) = host.tag.networks.of(network.id) {
            return Ok(own);
        }
        if self.make_network(host, network).await? != StatusCode::CONFLICT {
            return as_made(host, network).await;
        }
        // Somebody has the name there: it itself, made before a crash; an earlier one of ours; or a stranger.
        host.reread(ListKind::Networks).await;
        let mut all = host.tag.networks.here().into_iter();
        match all.find(|own| own.name == network.name) {
            Some(own) if own.id == network.id => return Ok(own),
            Some(earlier) => self.make_way(host, &earlier).await,
            None if host.has_network(&network.name) => return Err(strangers(network, host)),
            // It has gone since.
            None => {}
        }
        if self.make_network(host, network).await? == StatusCode::CONFLICT {
            return Err(Error::NetworkNotGone {
                network: network.name.clone(),
                node: host.tag.name.clone(),
            });
        }
        as_made(host, network).await
    }

    /// Has an engine remove an earlier network whose name is needed, once those have left it that are due to: the node may
    /// be back this moment, or what was put off there has failed.
    async fn make_way(&self, host: &Arc<Host>, earlier: &OwnNetwork) {
        let way = async {
            self.remove_what_is_known_to_be_due(host).await;
            // Not from others: that would wait for the turn that the caller has.
            self.cut_off_from(host.tag.id, |network| network == earlier.id)
                .await;
            self.remove_left_over(host, earlier).await;
        };
        if tokio::time::timeout(PATIENCE, way).await.is_err() {
            tracing::warn!(network = earlier.name, node = %host.tag.name, "an earlier network is not gone yet");
        }
    }

    /// Asks the engine to make the network; that it has one of that name is an answer.
    pub(super) async fn make_network(
        &self,
        host: &Host,
        network: &Network,
    ) -> Result<StatusCode, Error> {
        let (id, cluster) = (network.id.to_string(), self.settings.cluster.to_string());
        let own = [(labels::NETWORK, &*id), (labels::CLUSTER, &*cluster)];
        let body = for_engine(network.spec.as_bytes(), &network.name, &own)
            .map_err(|error| Error::Impossible(format!("network {}: {error}", network.name)))?;
        let call = EngineCall::post("/networks/create", Some(Bytes::from(body)));
        host.tag.networks.expect(&network.name, network.id);
        let answer = tokio::time::timeout(PATIENCE, host.call(call)).await;
        let answer = answer.unwrap_or_else(|_| Err(host.no_answer(PATIENCE)));
        match answer {
            Ok(reply) if reply.status.is_success() => {
                tracing::info!(network = network.name, node = %host.tag.name, "network made");
                Ok(reply.status)
            }
            Ok(reply) if reply.status == StatusCode::CONFLICT => {
                host.tag.networks.expect_no_more(&network.name);
                Ok(reply.status)
            }
            Ok(reply) => {
                host.tag.networks.expect_no_more(&network.name);
                Err(refused(&network.name, &host.tag.name, &reply))
            }
            Err(error) => {
                host.tag.networks.expect_no_more(&network.name);
                tracing::warn!(network = network.name, %error, "a node did not say whether it made a network");
                Err(error.into())
            }
        }
    }

    /// The node on which the command may end the need for a network.
    pub(in crate::manager) fn networks_are_left_on(&self, command: &Command) -> Option<NodeId> {
        let (Command::Remove { request }
        | Command::Release { request }
        | Command::LeaveNetwork { request, .. }) = command
        else {
            return None;
        };
        let cluster = self.cluster();
        let placement = cluster.placement(*request);
        placement
            .filter(|placement| !placement.networks.is_empty())
            .map(|placement| placement.node)
    }

    /// Removes what nodes have of networks and nothing needs there, until the manager stops.
    pub(in crate::manager) async fn keep_networks_tidy(self: Arc<Self>, mut stopping: Stopping) {
        loop {
            let has_failed = !lock(&self.networks.failed).is_empty();
            let mut untidy = BTreeSet::new();
            tokio::select! {
                () = stopping.wait() => return,
                () = self.networks.wake.notified() => {}
                () = tokio::time::sleep(TRY_AGAIN), if has_failed => {
                    untidy.append(&mut lock(&self.networks.failed));
                }
            }
            untidy.append(&mut lock(&self.networks.untidy));
            for node in untidy {
                // Engines may take long: the other nodes do not wait for that.
                let manager = Arc::clone(&self);
                spawn_stream(tracing::info_span!("networks"), async move {
                    manager.tidy(node).await;
                });
            }
        }
    }

    pub(super) async fn tidy(&self, node: NodeId) {
        let host = self.fleet.host(&node).filter(|host| host.is_up());
        let Some(host) = host else { return };
        for own in host.tag.networks.here() {
            if self.is_left_over(&host, &own) {
                self.remove_left_over(&host, &own).await;
            }
        }
    }

    pub(super) async fn remove_left_over(&self, host: &Arc<Host>, own: &OwnNetwork) {
        let _turn = self.networks.turn(own.id).await;
        let still_there = host.tag.networks.of(own.id).as_ref() == Some(own);
        if still_there && host.is_up() && self.is_left_over(host, own) {
            self.delete_network(host, own).await;
        }
    }

    pub(super) fn is_left_over(&self, host: &Host, own: &OwnNetwork) -> bool {
        let node = host.tag.id;
        let cluster = self.cluster();
        let network = cluster.network(own.id);
        let bound = network.and_then(|network| network.node());
        // What does not run joins a network that is gone for ever.
        let joined = self.fleet.inventory.joined(&node, own.id);
        let joined = joined
            .iter()
            .any(|container| network.is_some() || container.state.is_up());
        // Before all containers are listed nobody knows who joins; and those that are to be removed join still.
        let is_settled = host.is_synced() && cluster.removals_due_on(node).next().is_none();
        is_settled && is_left_over(bound, node, joined)
    }

    pub(super) async fn delete_network(&self, host: &Arc<Host>, own: &OwnNetwork) {
        let call = EngineCall::delete(format!("/networks/{}", own.engine_id));
        let answer = tokio::time::timeout(PATIENCE, host.call(call)).await;
        match answer.unwrap_or_else(|_| Err(host.no_answer(PATIENCE))) {
            Ok(reply) if reply.status.is_success() || reply.status == StatusCode::NOT_FOUND => {
                tracing::info!(network = own.name, node = %host.tag.name, "network removed");
                host.reread(ListKind::Networks).await;
                return;
            }
            Ok(reply) => {
                tracing::warn!(network = own.name, node = %host.tag.name, message = reply.message(), "a network could not be removed");
            }
            Err(error) => {
                tracing::warn!(network = own.name, %error, "a network could not be removed");
            }
        }
        lock(&self.networks.failed).insert(host.tag.id);
        self.networks.wake.notify_one();
    }
}

/// What an engine has made.
async fn as_made(host: &Host, network: &Network) -> Result<OwnNetwork, Error> {
    host.reread(ListKind::Networks).await;
    host.tag.networks.of(network.id).ok_or_else(|| {
        Error::Impossible(format!(
            "network {} was made on node {} and is gone again: try again",
            network.name, host.tag.name
        ))
    })
}

/// That an engine has a network of that name which is none of ours.
fn strangers(network: &Network, host: &Host) -> Error {
    Error::Impossible(format!(
        "network {} cannot be made on node {}: its engine has another one of that name, which was not made by the cluster; \
         remove or rename one of them",
        network.name, host.tag.name
    ))
}

/// What it means that an engine refused to make a network.
fn refused(network: &str, node: &NodeName, reply: &EngineReply) -> Error {
    let message = reply.message();
    Error::NetworkNotMade {
        network: network.to_owned(),
        // To a client that creates a container, 404 means that the image is missing.
        status: match reply.status {
            StatusCode::NOT_FOUND => StatusCode::BAD_REQUEST,
            status => status,
        },
        lacks_addresses: lacks_addresses(&message),
        why: format!("node {node}: {message}"),
    }
}

/// Whether an engine's words for a network that it cannot make say that the addresses are given away there. The last is
/// that of Engine 20.10.
fn lacks_addresses(message: &str) -> bool {
    let words = [
        "all predefined address pools have been fully subnetted",
        "Pool overlaps with other one on this address space",
        "could not find an available, non-overlapping",
    ];
    words.iter().any(|words| message.contains(words))
}

/// What it means for a create that a node was lost when it was to make a network. What the subnet of the network may be the
/// cause of would happen to the next node too; any other loss is that node's own.
fn lost(network: &Network, error: engine::Error) -> Error {
    let subnets = subnets(network.spec.as_bytes());
    if subnets.is_empty() || !is_silence(&error) {
        return error.into();
    }
    Error::LostMakingNetwork {
        network: network.name.clone(),
        subnets: subnets.join(", "),
        source: error,
    }
}

/// Whether nothing comes from a node any more: a machine whose engine has ended says so.
fn is_silence(error: &engine::Error) -> bool {
    match error {
        engine::Error::Down { .. } => true,
        engine::Error::Unreachable { source, .. } => matches!(
            source.kind(),
            io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
        ),
        engine::Error::Refused { .. }
        | engine::Error::Garbled { .. }
        | engine::Error::Unfit { .. } => false,
    }
}

/// Whether the state knows what the engine has.
fn is_recorded(network: &Network, node: NodeId, own: &OwnNetwork) -> bool {
    network.realised
        == Realised::On {
            node,
            engine_id: Some(own.engine_id),
        }
}

/// Whether what a node has of a network is needed there no more: the network is bound elsewhere, nowhere or gone, and no
/// container of the node joins it.
pub(super) fn is_left_over(bound: Option<NodeId>, node: NodeId, joined: bool) -> bool {
    bound != Some(node) && !joined
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::Realm;

    #[test]
    fn another_node_may_have_the_addresses() {
        for (message, expected) in [
            (
                "all predefined address pools have been fully subnetted",
                true,
            ),
            (
                "invalid pool request: Pool overlaps with other one on this address space",
                true,
            ),
            (
                "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
                true,
            ),
            ("bridge driver doesn't support multiple subnets", false),
        ] {
            assert_eq!(lacks_addresses(message), expected, "{message}");
        }
    }

    #[test]
    fn only_a_subnet_can_have_silenced_a_node() {
        let node: NodeName = "host1".parse().expect("a name");
        let unreachable = |kind: io::ErrorKind| engine::Error::Unreachable {
            node: node.clone(),
            source: kind.into(),
        };
        let down = || engine::Error::Down {
            node: node.clone(),
            last_seen: "last seen 3s ago".to_owned(),
        };
        let lost = |spec: &str, error| {
            let network = Network {
                id: NetworkId::from_bytes([1; 32]),
                realm: Realm::DEFAULT,
                name: "front".to_owned(),
                spec: spec.to_owned(),
                created: Timestamp::UNIX_EPOCH,
                group: None,
                pinned: false,
                realised: Realised::Unbound,
                deleting: false,
            };
            lost(&network, error)
        };
        let with_subnet = r#"{"IPAM":{"Config":[{"Subnet":"10.0.0.0/8"}]}}"#;
        let check = |error: engine::Error, expected: bool| {
            let said = error.to_string();
            let error = lost(with_subnet, error);
            let is_the_networks = matches!(error, Error::LostMakingNetwork { .. });
            assert_eq!(is_the_networks, expected, "{said}");
        };
        check(down(), true);
        check(unreachable(io::ErrorKind::TimedOut), true);
        check(unreachable(io::ErrorKind::HostUnreachable), true);
        check(unreachable(io::ErrorKind::ConnectionRefused), false);
        check(unreachable(io::ErrorKind::ConnectionReset), false);
        check(unreachable(io::ErrorKind::NotFound), false);
        check(unreachable(io::ErrorKind::Other), false);
        let not_reachable = "node host1 is not reachable (last seen 3s ago)";
        assert_eq!(lost("{}", down()).to_string(), not_reachable);
        let why = "; it was to make network front, and no other node is asked to, because subnet 10.0.0.0/8 may hold an \
                   address that nodes need: if so choose another subnet, else try again";
        assert_eq!(
            lost(with_subnet, down()).to_string(),
            format!("{not_reachable}{why}")
        );
    }
}
