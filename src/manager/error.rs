//! Why the manager did not do what was asked.

use http::StatusCode;

use crate::engine;
use crate::model::{ContainerId, NodeName, Shortfall};
use crate::scheduler;
use crate::state::Refusal;

/// Why the manager did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is in use, by this container if it has been made.
    #[error("the container name {name} is in use")]
    NameInUse {
        /// The name.
        name: String,
        /// Its holder.
        holder: Option<ContainerId>,
    },
    /// Containers join the network.
    #[error("network {network} is in use")]
    NetworkInUse {
        /// Its name.
        network: String,
        /// Their names and ids.
        holders: Vec<(String, ContainerId)>,
    },
    /// No node has the image.
    #[error("no node has the image {image}")]
    NoImage {
        /// As the client wrote it.
        image: String,
    },
    /// The node lacks the image, and nobody could bring it there.
    #[error("image {image} could not be brought to node {node}: {why}")]
    NotBrought {
        /// As the client wrote it.
        image: String,
        /// The node.
        node: NodeName,
        /// One reason for each source that was tried.
        why: String,
    },
    /// What the container depends on could be several containers.
    #[error(transparent)]
    Ambiguous(#[from] engine::Ambiguous),
    /// The container binds a path that its node lacks.
    #[error(
        "{message} (looked for on node {node}, not on the machine of the client: use a named volume or `docker cp`, in compose \
         `configs:` or `develop.watch`, or make the path on every node; with `--missing-bind=create` the manager has engines \
         make an empty folder)"
    )]
    NoSuchPath {
        /// What the engine said.
        message: String,
        /// The node.
        node: NodeName,
    },
    /// Engines refused to make a network that a container is to join.
    #[error("network {network} cannot be made on {why}")]
    NetworkNotMade {
        /// Its name.
        network: String,
        /// What the last of them answered.
        status: StatusCode,
        /// Each node with what its engine said.
        why: String,
        /// Whether the last node has no addresses for it: another node may have them.
        lacks_addresses: bool,
    },
    /// An earlier network of the same name is on the node still.
    #[error(
        "network {network} cannot be made on node {node} yet: an earlier network of that name is still there and is removed as \
         soon as no container runs in it: try again"
    )]
    NetworkNotGone {
        /// Its name.
        network: String,
        /// The node.
        node: NodeName,
    },
    /// A node fell silent while it made a network with a subnet of its own.
    #[error(
        "{source}; it was to make network {network}, and no other node is asked to, because subnet {subnets} may hold an address \
         that nodes need: if so choose another subnet, else try again"
    )]
    LostMakingNetwork {
        /// The name of the network.
        network: String,
        /// The subnets.
        subnets: String,
        /// What became of the node.
        source: engine::Error,
    },
    /// No node can take the container, and why for each.
    #[error(transparent)]
    NoNode(#[from] scheduler::Refusal),
    /// The container is to claim more than its node can give it.
    #[error(
        "node {node} lacks {} for container {container} to claim {} ({})",
        .short.kind, .short.kind.need(*.claim), growth(*.claim, .short)
    )]
    NoRoomToGrow {
        /// Its name.
        container: String,
        /// The node.
        node: NodeName,
        /// All that it would claim of what is short.
        claim: u64,
        /// What is missing of what it claims more.
        short: Shortfall,
    },
    /// The cluster refused a command.
    #[error(transparent)]
    Refused(Refusal),
    /// An engine failed or refused.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The request makes no sense in this cluster.
    #[error("{0}")]
    Impossible(String),
    /// The command may or may not have been committed.
    #[error("the cluster did not commit the change: {0}")]
    Commit(#[source] raft_store::ProposeError),
    /// The store answered with bytes that are no outcome.
    #[error("the outcome of a command cannot be read")]
    Outcome(#[source] serde_json::Error),
}

fn growth(claim: u64, short: &Shortfall) -> String {
    let Shortfall {
        kind,
        need,
        free,
        of,
    } = *short;
    let more = if need < claim { " more" } else { "" };
    format!(
        "need {}{more}, {} free of {}",
        kind.need(need),
        kind.amount(free),
        kind.amount(of)
    )
}

impl Error {
    /// This error after another node failed with `earlier`: that a network could not be made says why for each node.
    pub(super) fn after(mut self, earlier: Option<Self>) -> Self {
        if let Self::NetworkNotMade { network, why, .. } = &mut self
            && let Some(Self::NetworkNotMade {
                network: before,
                why: reasons,
                ..
            }) = earlier
            && before == *network
        {
            *why = format!("{reasons}; on {why}");
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::resources::Kind;

    #[test]
    fn what_is_too_much_is_said_with_all_numbers() {
        let said = |need: u64| {
            let short = Shortfall {
                kind: Kind::Memory,
                need: need << 20,
                free: 20 << 20,
                of: 300 << 20,
            };
            let (container, node) = ("a1".to_owned(), "host2".parse().expect("a name"));
            let claim = 170 << 20;
            let error = Error::NoRoomToGrow {
                container,
                node,
                claim,
                short,
            };
            error.to_string()
        };
        let start = "node host2 lacks memory for container a1 to claim 170MiB (need";
        assert_eq!(
            said(30),
            format!("{start} 30MiB more, 20MiB free of 300MiB)")
        );
        assert_eq!(said(170), format!("{start} 170MiB, 20MiB free of 300MiB)"));
    }

    #[test]
    fn each_node_that_could_not_make_a_network_says_why() {
        let unmade = |network: &str, why: &str| Error::NetworkNotMade {
            network: network.to_owned(),
            status: StatusCode::BAD_REQUEST,
            why: why.to_owned(),
            lacks_addresses: true,
        };
        let check = |error: Error, earlier: Option<Error>, expected: &str| {
            assert_eq!(error.after(earlier).to_string(), expected);
        };
        let said = "network n cannot be made on node a: full";
        check(unmade("n", "node a: full"), None, said);
        check(
            unmade("n", "node b: taken"),
            Some(unmade("n", "node a: full")),
            "network n cannot be made on node a: full; on node b: taken",
        );
        check(
            unmade("n", "node a: full"),
            Some(unmade("m", "node b: taken")),
            said,
        );
        check(
            Error::Impossible("no".to_owned()),
            Some(unmade("m", "node b: taken")),
            "no",
        );
    }
}
