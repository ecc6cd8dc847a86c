//! `POST /build?networkmode=…`: the steps of a classic build join what is on one node only, so that node builds.
//!
//! BuildKit knows no such modes; what it is asked for goes to its engine as it stands.
//!
//! **Invariant**: a network of the cluster that only a build joins stays on its node until the build is over.

use std::sync::Arc;

use api_compat::error::ApiError;
use api_compat::query::Query;

use super::Proxy;
use super::reply::from_manager;
use crate::engine::Host;
use crate::manager::Lent;
use crate::model::NetworkId;

/// What the steps of a build join.
pub(super) enum BuildNetwork {
    /// What each node has, or its engine refuses.
    Anywhere,
    /// What is on this node only, called this there.
    On(Arc<Host>, String),
    /// A network of the cluster that is on no node yet.
    Nowhere(NetworkId),
    /// A network of the cluster, on its node.
    Bound(Arc<Host>, NetworkId),
}

impl BuildNetwork {
    /// What the query of a build asks for; an error if it is on a node that is gone.
    pub(super) fn asked(proxy: &Proxy, query: &Query) -> Result<Self, ApiError> {
        let mode = query.text("networkmode");
        if query.text("version") == "2" || is_everywhere(mode) {
            return Ok(Self::Anywhere);
        }
        if let Some(reference) = mode.strip_prefix("container:") {
            let (host, container) = proxy.container(reference)?;
            return Ok(Self::On(host, format!("container:{}", container.id)));
        }
        if let Some(network) = proxy.manager.network(mode) {
            let Some(node) = proxy.manager.where_it_is(&network) else {
                return Ok(Self::Nowhere(network.id));
            };
            let gone = || {
                ApiError::unavailable(format!(
                    "the node of network {} is gone: try again",
                    network.name
                ))
            };
            let host = proxy.fleet.host(&node).ok_or_else(gone)?;
            return Ok(Self::Bound(host, network.id));
        }
        let mut hosts = proxy.fleet.by_name().into_iter();
        let host = hosts.find(|host| host.is_up() && host.has_network(mode));
        Ok(host.map_or(Self::Anywhere, |host| Self::On(host, mode.to_owned())))
    }

    /// The node that has to build.
    pub(super) fn node(&self) -> Option<&Arc<Host>> {
        match self {
            Self::On(host, _) | Self::Bound(host, _) => Some(host),
            Self::Anywhere | Self::Nowhere(_) => None,
        }
    }

    /// Has the node that builds have it, and says in the query what its engine calls it. What is returned keeps it there.
    pub(super) async fn bring(
        self,
        proxy: &Proxy,
        host: &Arc<Host>,
        query: &mut Query,
    ) -> Result<Option<Lent>, ApiError> {
        match self {
            Self::Anywhere => Ok(None),
            Self::On(_, mode) => {
                query.set("networkmode", &mode);
                Ok(None)
            }
            Self::Nowhere(network) | Self::Bound(_, network) => {
                let lent = proxy.manager.lend_network(network, host).await;
                let lent = lent.map_err(from_manager)?;
                query.set("networkmode", &lent.engine_id().to_string());
                Ok(Some(lent))
            }
        }
    }
}

/// Whether each node has a network of this kind for itself.
fn is_everywhere(mode: &str) -> bool {
    matches!(mode, "" | "default" | "bridge" | "host" | "none")
}
