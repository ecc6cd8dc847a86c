//! What came of a command.

use serde::{Deserialize, Serialize};

use crate::model::generic::Scarcity;
use crate::model::{
    Availability, ClusterId, ContainerId, NameKind, NetworkId, NodeId, NodeName, PublishedPort,
    RequestId, Shortfall, Verdict,
};

/// What a command changed. Repeating the command gives the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The cluster has begun.
    Founded(ClusterId),
    /// The node is as asked.
    Node(NodeId),
    /// The node is gone.
    NodeRemoved(NodeId),
    /// The placement is as asked.
    Placement(RequestId),
    /// The placement is gone.
    Removed {
        /// Its request.
        request: RequestId,
        /// Its container is still on a node that is down, and to be removed there.
        deferred: bool,
    },
    /// The network is as asked.
    Network(NetworkId),
    /// The network is gone.
    NetworkRemoved(NetworkId),
    /// The tag is as asked.
    Tag(String),
    /// The tag is forgotten.
    TagDropped(String),
    /// What is to be removed of an image when nodes are back is as asked.
    ImageRemoval(String),
    /// The volume is as asked, or as it was.
    Volume(String),
    /// The volume, or what there was of it, is gone.
    VolumeRemoved(String),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Something came before `Found`.
    #[error("the cluster has not been founded")]
    NotFounded,
    /// There is another cluster here.
    #[error("this is cluster {cluster} already")]
    FoundedBefore {
        /// The one that there is.
        cluster: ClusterId,
    },
    /// The node was removed, or never was.
    #[error("there is no node {node}")]
    NoSuchNode {
        /// The node asked for.
        node: NodeId,
    },
    /// Another node has the name.
    #[error("another node is called {name}")]
    NodeNameTaken {
        /// The name.
        name: NodeName,
    },
    /// Another node is that engine.
    #[error("{endpoint} is node {node} already")]
    EndpointTaken {
        /// The engine.
        endpoint: String,
        /// The node that it is.
        node: NodeName,
    },
    /// The node cannot go as long as it has placements.
    #[error(
        "node {node} has {placements} container{} of the cluster: remove {}, or force it (--force, force=1): what is on \
         its engine then stays there as it is and is no longer the cluster's, and names become free",
        if *placements == 1 { "" } else { "s" },
        if *placements == 1 { "it" } else { "them" }
    )]
    NodeInUse {
        /// The node.
        node: NodeName,
        /// How many placements it has.
        placements: u32,
    },
    /// The node was lost since the decision.
    #[error("node {node} is {verdict}")]
    NodeNotReady {
        /// The node.
        node: NodeName,
        /// What it is instead.
        verdict: Verdict,
    },
    /// The node takes no new work.
    #[error("node {node} takes no new containers: its availability is {availability}")]
    NodeNotActive {
        /// The node.
        node: NodeName,
        /// What an operator wants of it.
        availability: Availability,
    },
    /// The node filled up since the decision.
    #[error("node {node} lacks {} ({short})", short.kind)]
    NoRoom {
        /// The node.
        node: NodeName,
        /// What is missing.
        short: Shortfall,
    },
    /// The node has too little of a generic resource, or none.
    #[error("node {node} {scarcity}")]
    Scarce {
        /// The node.
        node: NodeName,
        /// What is missing.
        scarcity: Scarcity,
    },
    /// A port is held.
    #[error("port {port} on node {node} is held by container {holder}")]
    PortTaken {
        /// The port asked for.
        port: PublishedPort,
        /// Where its holder is; another node than asked for if we chose the number.
        node: NodeName,
        /// The holder's name.
        holder: String,
        /// The holder.
        request: RequestId,
    },
    /// A name is held.
    #[error("the {kind} name {name} is held by {holder}")]
    NameTaken {
        /// What the name names.
        kind: NameKind,
        /// The name.
        name: String,
        /// The holder in words, with its node.
        holder: String,
        /// The placement that holds it, for a container's name.
        request: Option<RequestId>,
        /// Its container, once bound.
        container: Option<ContainerId>,
    },
    /// A local volume is elsewhere.
    #[error("volume {volume} is on node {bound}, not on node {node}")]
    VolumeElsewhere {
        /// The volume.
        volume: String,
        /// Where it is.
        bound: String,
        /// Where it was wanted.
        node: NodeName,
    },
    /// Another driver has a volume of that name.
    #[error("driver '{driver}' already has volume '{volume}': volume name must be unique")]
    VolumeOfAnotherDriver {
        /// The volume.
        volume: String,
        /// The driver that has it.
        driver: String,
    },
    /// The volume cannot go as long as it is mounted.
    #[error("volume {volume} is mounted by {users} containers")]
    VolumeInUse {
        /// The volume.
        volume: String,
        /// How many placements mount it.
        users: u32,
    },
    /// A one-host network is elsewhere.
    #[error(
        "network {network} is on node {bound}, not on node {node}: a network of one host reaches no \
         other, and stays where it is as long as containers join it"
    )]
    NetworkElsewhere {
        /// The network's name.
        network: String,
        /// Where it is.
        bound: String,
        /// Where it was wanted.
        node: NodeName,
    },
    /// Nothing that joins the network is promised to that node.
    #[error("network {network} is not bound to node {node}")]
    NetworkNotThere {
        /// The network's name.
        network: String,
        /// The node in question.
        node: NodeName,
    },
    /// The network was removed, or never was.
    #[error("there is no network {network}")]
    NoSuchNetwork {
        /// The network asked for.
        network: NetworkId,
    },
    /// Two different networks came under one id.
    #[error("network {network} is called {name} already")]
    NetworkReused {
        /// The id.
        network: NetworkId,
        /// The name it has.
        name: String,
    },
    /// The network is going away.
    #[error("network {network} is being removed")]
    NetworkDeleting {
        /// The network's name.
        network: String,
    },
    /// The network cannot go as long as it is joined.
    #[error("network {network} has {users} container{}", if *users == 1 { "" } else { "s" })]
    NetworkInUse {
        /// The network's name.
        network: String,
        /// How many placements join it.
        users: u32,
    },
    /// The placement was removed, or never was.
    #[error("there is no placement of request {request}")]
    NoSuchPlacement {
        /// The request asked for.
        request: RequestId,
    },
    /// The request was given up, or its container removed: it cannot come back.
    #[error("request {request} for container {name} was given up on node {node}")]
    Tombstoned {
        /// The request.
        request: RequestId,
        /// The name it had.
        name: String,
        /// Where it was.
        node: String,
    },
    /// Two different things came under one request id.
    #[error("request {request} is container {name} on node {node} already")]
    RequestReused {
        /// The request.
        request: RequestId,
        /// The name it has.
        name: String,
        /// Where it is.
        node: String,
    },
    /// A reservation that a container came of is not given up but removed.
    #[error("request {request} is bound to container {container} on node {node}")]
    Bound {
        /// The request.
        request: RequestId,
        /// The container.
        container: ContainerId,
        /// Where it is.
        node: String,
    },
    /// The container belongs to another request.
    #[error("container {container} belongs to request {request}")]
    ContainerTaken {
        /// The container.
        container: ContainerId,
        /// The request it belongs to.
        request: RequestId,
    },
    /// One rename at a time.
    #[error("container {name} on node {node} is being renamed to {new_name}")]
    RenamePending {
        /// The name it has.
        name: String,
        /// The name it is being given.
        new_name: String,
        /// Where it is.
        node: String,
    },
    /// What was observed belongs to an earlier run.
    #[error("container {name} on node {node} was started again since")]
    Stale {
        /// The container's name.
        name: String,
        /// Where it is.
        node: String,
    },
}
