//! Why the manager did not do what was asked.

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
}
