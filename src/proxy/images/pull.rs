//! What a tag means in its registry at the beginning of a pull, so that nodes which pull at different moments get the
//! same.
//!
//! **Invariant**: nothing here is needed for a pull to go on: without an answer each node resolves the tag for itself.

use std::time::Duration;

use api_compat::image_ref::ImageRef;
use api_compat::json_view::View;
use api_compat::query::Query;
use api_compat::route::Operation;
use api_compat::version::ApiVersion;
use http::header::HeaderName;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt as _, Limited};

use super::super::forward::with_query;
use super::super::{Proxy, nodes};
use super::meant;
use super::tag::TAG_PATIENCE;
use crate::engine::{EngineCall, Host, empty};
use crate::model::Platform;

/// A registry that can be reached answers by then; a pull is not held up for longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// No answer of a registry about one image is longer.
const ANSWER_MAX_BYTES: usize = 1 << 20;
/// Who asks, as the registry knows them.
pub(super) const REGISTRY_AUTH: HeaderName = HeaderName::from_static("x-registry-auth");

/// What the registry says of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InRegistry {
    name: ImageRef,
    digest: String,
    /// What the image is made for; empty if that is not said.
    pub(super) platforms: Vec<Platform>,
}

/// What a node does after it has pulled the digest that another one's tag means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Follow {
    repository: String,
    tag: String,
    digest: String,
}

/// Asks one node what the tag that is pulled means in its registry. None if it is no tag, or there is no answer soon.
pub(super) async fn in_registry(
    proxy: &Proxy,
    query: &Query,
    version: ApiVersion,
    auth: Option<HeaderValue>,
) -> Option<InRegistry> {
    let name = meant::joined(query.text("fromImage"), query.text("tag"));
    // Without a tag all tags are pulled.
    let name = ImageRef::parse(&name)
        .ok()
        .filter(|name| name.tag.is_some() && name.digest.is_none())?;
    let host = nodes::order_by_health(nodes::up(proxy))
        .into_iter()
        .next()?;
    let target = Operation::DistributionInspect.target(&[&name.familiar()]);
    let mut request = Request::new(empty());
    *request.method_mut() = Method::GET;
    if let Some(auth) = auth {
        request.headers_mut().insert(REGISTRY_AUTH, auth);
    }
    let answer = async {
        let reply = host.send(version, &target, request).await.ok()?;
        let body = reply.status().is_success().then(|| reply.into_body())?;
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await.ok()?;
        InRegistry::read(name, &body.to_bytes())
    };
    tokio::time::timeout(PATIENCE, answer).await.ok()?
}

impl InRegistry {
    fn read(name: ImageRef, body: &[u8]) -> Option<Self> {
        let view = View::parse(body).ok()?;
        let digest = view.get("Descriptor")?.text_of("digest").into_owned();
        let platforms = view.get("Platforms");
        let platforms = platforms.into_iter().flat_map(|all| all.elements());
        let platform = |platform: View<'_>| Platform {
            os: platform.text_of("os").into_owned(),
            arch: platform.text_of("architecture").into_owned(),
        };
        Some(Self {
            name,
            digest,
            platforms: platforms
                .map(platform)
                .filter(|platform| !platform.os.is_empty() && !platform.arch.is_empty())
                .collect(),
        })
    }

    /// What the nodes that follow are asked instead of `query`, and what they do then.
    pub(super) fn follow(self, query: &Query) -> Option<(String, Follow)> {
        let follow = Follow {
            repository: self.name.familiar_name(),
            tag: self.name.tag?,
            digest: self.digest,
        };
        let mut query = query.clone();
        query.set("fromImage", &follow.repository);
        query.set("tag", &follow.digest);
        let target = with_query(Operation::ImageCreate.target(&[]), &query.encode());
        Some((target, follow))
    }
}

impl Follow {
    /// Gives what was pulled by digest its tag.
    pub(super) async fn tag_on(&self, host: &Host) -> Result<(), String> {
        let mut query = Query::default();
        query.set("repo", &self.repository);
        query.set("tag", &self.tag);
        let name = meant::joined(&self.repository, &self.digest);
        let target = with_query(Operation::ImageTag.target(&[&name]), &query.encode());
        let tagged = host.ask(EngineCall::post(target, None));
        let tagged = tokio::time::timeout(TAG_PATIENCE, tagged).await;
        tagged
            .unwrap_or_else(|_| Err(host.no_answer(TAG_PATIENCE)))
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ImageRef {
        ImageRef::parse(text).expect(text)
    }

    #[test]
    fn the_others_pull_the_digest_and_what_else_was_asked_stays() {
        let body = r#"{"Descriptor":{"mediaType":"m","digest":"sha256:aa","size":1},
            "Platforms":[{"architecture":"amd64","os":"linux"},{"architecture":"arm64","os":"linux","variant":"v8"},{}]}"#;
        let found = InRegistry::read(name("host:5000/some/it:1"), body.as_bytes()).expect("reads");
        let platforms: Vec<_> = found.platforms.iter().map(ToString::to_string).collect();
        assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
        let query =
            Query::parse("fromImage=host%3A5000%2Fsome%2Fit&tag=1&platform=linux").expect("reads");
        let (target, follow) = found.follow(&query).expect("a tag");
        assert_eq!(
            target,
            "/images/create?fromImage=host%3A5000%2Fsome%2Fit&tag=sha256%3Aaa&platform=linux"
        );
        assert_eq!(
            follow,
            Follow {
                repository: "host:5000/some/it".to_owned(),
                tag: "1".to_owned(),
                digest: "sha256:aa".to_owned(),
            }
        );
    }

    #[test]
    fn an_answer_that_names_no_digest_is_none() {
        for body in ["", "{}", r#"{"message":"no"}"#, "[]"] {
            assert_eq!(
                InRegistry::read(name("it:1"), body.as_bytes()),
                None,
                "{body}"
            );
        }
    }
}
