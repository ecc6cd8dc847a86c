//! Recipes: what a container is made of anew elsewhere when its node is lost, for a dead node cannot be asked.
//!
//! A recipe is the client's own create body, kept sealed and beside the log, for containers that may move.
//!
//! **Invariant**: no recipe is in memory but while it is written or asked for.

use api_compat::ApiVersion;
use api_compat::create::Create;
use api_compat::query::Query;
use bytes::Bytes;
use raft_store::Blob;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{COMMIT_TIMEOUT, CreateOrder, Manager};
use crate::clock;
use crate::model::{BlobId, RequestId};
use crate::seal::Unsealable;

/// Classic Swarm's label for what is to be made anew elsewhere: a list in JSON.
const RESCHEDULE: &str = "com.docker.swarm.reschedule-policies";
const ON_NODE_FAILURE: &str = "on-node-failure";
/// A larger body is no recipe: it would hold up what is written beside it.
const MOST_BYTES: usize = 4 << 20;

/// What a container is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The API version that the body is written in.
    pub version: ApiVersion,
    /// The query of the create, without the name: what the container is called may have changed since.
    pub query: Query,
    /// The body as the client sent it.
    pub body: Bytes,
}

/// Why there is no recipe where there should be one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk does not give it back.
    #[error(transparent)]
    Disk(#[from] raft_store::BlobError),
    /// It was sealed with another key, or is damaged.
    #[error("the recipe of request {request} cannot be opened: {why}")]
    Sealed {
        /// Whose it is.
        request: RequestId,
        /// Why not.
        why: Unsealable,
    },
    /// It is no recipe.
    #[error("the recipe of request {request} cannot be read: {why}")]
    Garbled {
        /// Whose it is.
        request: RequestId,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Written<'a> {
    version: String,
    query: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Recipe {
    fn encode(&self) -> Option<Vec<u8>> {
        let body = std::str::from_utf8(&self.body).ok()?;
        let written = Written {
            version: self.version.to_string(),
            query: self.query.encode(),
            body: serde_json::from_str(body).ok()?,
        };
        serde_json::to_vec(&written).ok()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let written: Written<'_> =
            serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        Ok(Self {
            version: ApiVersion::parse(&written.version).ok_or("it names no API version")?,
            query: Query::parse(&written.query).map_err(|error| error.message)?,
            body: Bytes::copy_from_slice(written.body.get().as_bytes()),
        })
    }
}

/// Whether a container is made anew elsewhere when its node is lost (`docs/architecture.md`, "A node's life").
pub(super) fn may_move(wanted: &Create<'_>) -> bool {
    let restarts = matches!(wanted.restart_policy.as_ref(), "always" | "unless-stopped");
    let asked = || {
        let policies = wanted.labels.iter().find(|(key, _)| key == RESCHEDULE);
        let policies =
            policies.and_then(|(_, list)| serde_json::from_str::<Vec<String>>(list).ok());
        policies.is_some_and(|list| list.iter().any(|policy| policy == ON_NODE_FAILURE))
    };
    restarts || asked()
}

impl Manager {
    /// The recipe of a container that may move, sealed for its request.
    pub(super) fn sealed_recipe(
        &self,
        order: &CreateOrder<'_>,
        request: RequestId,
    ) -> Option<Blob> {
        if !may_move(order.wanted) {
            return None;
        }
        let recipe = Recipe {
            version: order.version,
            query: order.query.clone(),
            body: Bytes::copy_from_slice(order.body),
        };
        let Some(plain) = recipe.encode().filter(|plain| plain.len() <= MOST_BYTES) else {
            tracing::warn!(%request, bytes = order.body.len(), "a container may move and is too large to be remembered: it will not");
            return None;
        };
        let nonce = clock::random_bytes();
        Some(Blob {
            id: raft_store::BlobId(clock::random_bytes()),
            bytes: Bytes::from(self.seal.seal(request.as_bytes(), nonce, &plain)),
        })
    }

    /// The recipe of a placement; `None` if it has none, because its container does not move.
    pub async fn recipe(&self, request: RequestId) -> Result<Option<Recipe>, Error> {
        let recipe = self.cluster().placement(request).and_then(|p| p.recipe);
        let Some(id) = recipe else {
            return Ok(None);
        };
        let deadline = clock::deadline(COMMIT_TIMEOUT);
        let id = raft_store::BlobId(*BlobId::as_bytes(&id));
        let Some(sealed) = self.store.blob(id, deadline).await? else {
            let why = "it is not on the disk of the log".to_owned();
            return Err(Error::Garbled { request, why });
        };
        let plain = self.seal.open(request.as_bytes(), &sealed);
        let plain = plain.map_err(|why| Error::Sealed { request, why })?;
        Recipe::decode(&plain)
            .map(Some)
            .map_err(|why| Error::Garbled { request, why })
    }
}

#[cfg(test)]
mod tests {
    use api_compat::create::Body;

    use super::*;

    #[test]
    fn what_restarts_or_asks_for_it_may_move() {
        let check = |body: &str, expected| {
            let body = Body::parse(body.as_bytes()).expect("a body");
            assert_eq!(may_move(&body.read().expect("reads")), expected);
        };
        let policy = |name: &str| {
            format!(r#"{{"Image":"x","HostConfig":{{"RestartPolicy":{{"Name":"{name}"}}}}}}"#)
        };
        check(r#"{"Image":"x"}"#, false);
        check(&policy("no"), false);
        check(&policy("on-failure"), false);
        check(&policy("always"), true);
        check(&policy("unless-stopped"), true);
        let label = |list: &str| {
            let list = serde_json::to_string(list).expect("a text");
            format!(r#"{{"Image":"x","Labels":{{"{RESCHEDULE}":{list}}}}}"#)
        };
        check(&label(r#"["on-node-failure"]"#), true);
        check(&label(r#"["off"]"#), false);
        check(&label("on-node-failure"), false);
    }

    #[test]
    fn a_recipe_reads_back_as_it_was_written() {
        let recipe = Recipe {
            version: ApiVersion::new(1, 44),
            query: Query::parse("platform=linux%2Famd64").expect("a query"),
            body: Bytes::from_static(br#"{"Image":"x", "Unheard":[1,2]}"#),
        };
        let plain = recipe.encode().expect("is written");
        assert_eq!(Recipe::decode(&plain), Ok(recipe));
    }
}
