//! What can be asked of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::generic::Counts;
use crate::model::{
    Availability, BlobId, ClusterId, ContainerId, EngineFacts, ManagerId, NetworkId, NodeId,
    NodeName, Owner, PortClaim, RequestId, Resources, VolumeSpec,
};

/// A change that the leader has decided on. All times and new ids are in it or in its envelope.
/// Each is safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Begins the cluster; everything else is refused before.
    Found {
        /// The cluster's id, for ever.
        cluster: ClusterId,
        /// Its settings.
        settings: Settings,
    },
    /// Makes an engine a node, which is then `joining`.
    AddNode {
        /// The new node's id.
        node: NodeId,
        /// Its name.
        name: NodeName,
        /// How managers reach its engine.
        endpoint: String,
        /// What published ports are shown with.
        address: Option<String>,
        /// Its labels.
        labels: BTreeMap<String, String>,
    },
    /// Changes what an operator says of a node; what is left out stays.
    UpdateNode {
        /// The node.
        node: NodeId,
        /// Its new name.
        name: Option<NodeName>,
        /// What published ports are to be shown with.
        #[serde(default)]
        address: Option<String>,
        /// What is wanted of it.
        availability: Option<Availability>,
        /// All its labels.
        labels: Option<BTreeMap<String, String>>,
    },
    /// Forgets a node. Refused as long as it has placements, unless they are given up with it.
    RemoveNode {
        /// The node.
        node: NodeId,
        /// Give up its placements too.
        force: bool,
    },
    /// Notes what an engine says of itself.
    ReportNode {
        /// The node.
        node: NodeId,
        /// What its engine says.
        engine: EngineFacts,
    },
    /// The leader takes a node for reached.
    JudgeReady {
        /// The node.
        node: NodeId,
    },
    /// The leader takes a node for lost.
    JudgeDown {
        /// The node.
        node: NodeId,
        /// Why, in words for an operator.
        reason: String,
    },
    /// Promises that a container will live on a node.
    Reserve(Promise),
    /// Notes the container that came of a reservation.
    Bind {
        /// The reservation.
        request: RequestId,
        /// The container.
        container: ContainerId,
    },
    /// Gives up a reservation that no container came of.
    Release {
        /// The reservation.
        request: RequestId,
    },
    /// Takes over a container that was found on a node by its label and name.
    Adopt {
        /// What its create must have promised.
        promise: Promise,
        /// The container.
        container: ContainerId,
        /// Whether it runs or never ran; one that has exited claims nothing.
        claiming: bool,
    },
    /// Holds a second name for a container while its engine renames it.
    BeginRename {
        /// The placement.
        request: RequestId,
        /// The name it is to have.
        new_name: String,
    },
    /// Lets go of one of the two names.
    EndRename {
        /// The placement.
        request: RequestId,
        /// Which name it has now.
        keep: Keep,
    },
    /// What a container that does not claim now needs beside CPU and memory, once it does: of one that is to have all of
    /// something its node may have another number by now.
    SetGeneric {
        /// The placement.
        request: RequestId,
        /// The numbers.
        generic: Counts,
    },
    /// Changes what a container claims. Refused when what grows does not fit.
    SetClaim {
        /// The placement.
        request: RequestId,
        /// The new claim.
        claim: Resources,
        /// Its engine gives it that already: too little room is no reason to refuse.
        #[serde(default)]
        observed: bool,
    },
    /// A container has exited: its claim and the ports its user asked for are free.
    Exited {
        /// The placement.
        request: RequestId,
        /// The run that ended, as `Placement::run` said when it was observed.
        run: u32,
    },
    /// A container is started again: it claims anew, on its node.
    Reclaim {
        /// The placement.
        request: RequestId,
        /// It runs already (its engine restarted it): too little room is no reason to refuse.
        running: bool,
    },
    /// A container was removed, or is to be once its node is back.
    Remove {
        /// The placement.
        request: RequestId,
    },
    /// What waited for a node to come back is done.
    Settle {
        /// The request whose container is gone now.
        request: RequestId,
    },
    /// Makes a network of the cluster. It is nowhere before a container joins it, unless a node is given.
    AddNetwork {
        /// Its id, ours.
        network: NetworkId,
        /// Its name.
        name: String,
        /// The body of the create request as it was sent.
        spec: String,
        /// What it belongs to: networks of one group share a node if they can.
        #[serde(default)]
        group: Option<String>,
        /// The node that it is to be on for as long as it exists.
        #[serde(default)]
        node: Option<NodeId>,
    },
    /// Notes that a node's engine has made the network.
    RealiseNetwork {
        /// The network.
        network: NetworkId,
        /// The node.
        node: NodeId,
        /// The id that the engine gave it.
        engine_id: NetworkId,
    },
    /// A container is to join a network, or was seen to: the network is bound to its node.
    JoinNetwork {
        /// The container's placement.
        request: RequestId,
        /// The network.
        network: NetworkId,
    },
    /// A container has left a network.
    LeaveNetwork {
        /// The container's placement.
        request: RequestId,
        /// The network.
        network: NetworkId,
    },
    /// A container is cut off from a network while its node is down: it joins it no more, and its engine is told when it is
    /// back.
    LeaveNetworkLater {
        /// The container's placement.
        request: RequestId,
        /// The network.
        network: NetworkId,
    },
    /// What waited for a node to come back is done: its engine has cut the container off.
    SettleLeave {
        /// The container's placement.
        request: RequestId,
        /// The network.
        network: NetworkId,
    },
    /// Lets nothing join a network any more. Refused as long as placements do.
    BeginRemoveNetwork {
        /// The network.
        network: NetworkId,
    },
    /// Forgets a network. Refused as long as other placements join it than those of these containers, which do not run.
    RemoveNetwork {
        /// The network.
        network: NetworkId,
        /// Placements of containers that do not run: they join it no more.
        #[serde(default)]
        at_rest: BTreeSet<RequestId>,
    },
    /// Says what a tag means from now on, in the whole pool.
    PointTag {
        /// `busybox:latest`
        tag: String,
        /// The image's id.
        image: String,
    },
    /// Notes under which id another kind of image store has the image of a tag.
    NoteTwin {
        /// The tag.
        tag: String,
        /// What it meant when that was found; if it has been moved since, nothing is noted.
        image: String,
        /// The other id.
        twin: String,
    },
    /// Forgets what a tag means.
    DropTag {
        /// The tag.
        tag: String,
    },
    /// An image, or a name of it, was removed while these nodes could not be reached: it goes there when they are back.
    DeferImageRemoval {
        /// What it was called: a tag, or an id.
        image: String,
        /// The nodes.
        nodes: Vec<NodeId>,
        /// How it is to be removed.
        removal: ImageRemoval,
    },
    /// What waited for a node to come back is done: the image is gone there, or stays.
    SettleImage {
        /// What it was called.
        image: String,
        /// The node.
        node: NodeId,
    },
    /// Makes a record of a volume, or leaves the one that there is as it is.
    AddVolume {
        /// What engines are to make.
        spec: VolumeSpec,
        /// The node that it is to be on, or is.
        on: Option<NodeId>,
        /// Whether it is known to be there.
        made: bool,
    },
    /// Forgets a volume, or what one node has of it. Refused as long as placements there mount it.
    RemoveVolume {
        /// Its name.
        name: String,
        /// The only node that it is removed from.
        on: Option<NodeId>,
        /// Nodes that cannot be reached now: it is removed there when they are back.
        due: Vec<NodeId>,
    },
    /// What waited for a node to come back is done: the volume is gone there, or stays.
    SettleVolume {
        /// Its name.
        name: String,
        /// The node.
        node: NodeId,
    },
}

/// What a reservation promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// What the container will be known by, for ever.
    pub request: RequestId,
    /// Its name.
    pub name: String,
    /// Where it will live.
    pub node: NodeId,
    /// What it belongs to.
    #[serde(default)]
    pub owner: Owner,
    /// CPU and memory it needs.
    pub claim: Resources,
    /// What it needs beside those.
    #[serde(default, skip_serializing_if = "Counts::is_empty")]
    pub generic: Counts,
    /// Ports it publishes, all with numbers.
    pub ports: Vec<PortClaim>,
    /// Networks of the cluster it joins.
    pub networks: Vec<NetworkId>,
    /// Named volumes it mounts: each that is on one node is bound to this one by it.
    pub volumes: Vec<String>,
    /// What is known of those that had no record when this was decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub new_volumes: Vec<NewVolume>,
    /// The placement whose place it takes: as long as that one claims on the same node, this one does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<RequestId>,
    /// The manager that makes the container.
    pub acting: ManagerId,
    /// The sealed create body, for what may move.
    pub recipe: Option<BlobId>,
}

/// A volume that a container of ours mounts for the first time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewVolume {
    /// What it is, or is to be.
    pub spec: VolumeSpec,
    /// Whether the node has it already.
    pub made: bool,
}

/// How an image is to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRemoval {
    /// Also if containers that do not run were made from it.
    pub force: bool,
    /// Its untagged parents stay.
    pub noprune: bool,
}

/// Which name a container has after a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The engine refused.
    Old,
    /// The engine renamed it.
    New,
}

/// What holds for the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The cluster's name.
    pub name: String,
    /// Where random host ports are taken from.
    #[serde(default)]
    pub random_ports: RandomPorts,
}

/// The host ports that are ours to choose, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RandomPorts {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Default for RandomPorts {
    /// Clear of what engines (from 32768) and outgoing connections take.
    fn default() -> Self {
        Self {
            first: 10_000,
            last: 29_999,
        }
    }
}
