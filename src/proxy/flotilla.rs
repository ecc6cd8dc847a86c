//! `/flotilla/v1/…`: our own API beside Docker's, on the same listeners, for `flotilla node` and whoever likes JSON.
//!
//! It is looked at before Docker's routes, which know no cluster.
//!
//! **Invariant**: an answer to a change shows the change; what cannot be read is a 400 that says what would be right.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api_compat::ApiVersion;
use api_compat::create::{self, check_content_type};
use api_compat::error::ApiError;
use api_compat::features;
use api_compat::policies::Policies;
use api_compat::query::Query;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;

use super::Proxy;
use super::exchange::read_body;
use super::reply::{self, Outcome, Reply, from_manager};
use crate::api::{self, AddNode, AskPlan, Node, State, UpdateNode};
use crate::engine::{self, Body, Endpoint, Host, Verdict};
use crate::manager::{self, CreateOrder, Member, NodeChange};
use crate::model::{self, NodeId, NodeName};
use crate::scheduler::{SLOTS_LABELS, slots};
use crate::tasks::to_its_end;

/// The most containers that a plan is asked of at once.
const PLAN_MAX: u32 = 10_000;

/// Whether a path is one of ours.
pub(super) fn is_ours(path: &str) -> bool {
    path.starts_with("/flotilla/")
}

/// What can be asked.
#[derive(Debug, PartialEq, Eq)]
enum Operation {
    List,
    Add,
    Inspect(String),
    Update(String),
    Remove(String),
    Explain(String),
    Plan,
}

/// The one table of paths.
fn lookup(method: &Method, path: &str) -> Option<Operation> {
    let name = |text: &str| percent_decode_str(text).decode_utf8().ok().map(Into::into);
    if let Some(container) = path.strip_prefix(api::DECISIONS) {
        let container = container
            .strip_prefix('/')
            .filter(|text| !text.is_empty())?;
        let asked = method == Method::GET;
        return name(container).filter(|_| asked).map(Operation::Explain);
    }
    if path == api::PLAN {
        return (method == Method::POST).then_some(Operation::Plan);
    }
    let rest = path.strip_prefix(api::NODES)?;
    let parts: Vec<&str> = rest.split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", [""]) => Some(Operation::List),
        ("POST", [""]) => Some(Operation::Add),
        ("GET", ["", node]) if !node.is_empty() => name(node).map(Operation::Inspect),
        ("DELETE", ["", node]) if !node.is_empty() => name(node).map(Operation::Remove),
        ("POST", ["", node, "update"]) => name(node).map(Operation::Update),
        _ => None,
    }
}

/// Answers one request.
pub(super) async fn answer(proxy: &Arc<Proxy>, mut request: Request<Body>) -> Reply {
    let uri = request.uri();
    let Some(operation) = lookup(request.method(), uri.path()) else {
        return reply::error(&ApiError::page_not_found());
    };
    tracing::debug!(?operation, "asked");
    let query = Query::parse(uri.query().unwrap_or_default());
    let content_type = request.headers().get(CONTENT_TYPE).cloned();
    let content_type = content_type.as_ref().and_then(|value| value.to_str().ok());
    let read = async {
        let body = read_body(request.body_mut(), proxy.settings.max_body).await?;
        if request.method() == Method::POST {
            check_content_type(content_type, !body.is_empty())?;
        }
        Ok::<_, ApiError>((query?, body))
    };
    let outcome = match read.await {
        Ok((query, body)) => {
            // A change is finished when its client has left.
            let proxy = Arc::clone(proxy);
            let work = async move { perform(&proxy, operation, &query, &body).await };
            let broken = || Err(ApiError::internal("the manager failed: its log says why"));
            to_its_end(work).await.unwrap_or_else(broken)
        }
        Err(error) => Err(error),
    };
    outcome.unwrap_or_else(|error| reply::error(&error))
}

async fn perform(proxy: &Proxy, operation: Operation, query: &Query, body: &Bytes) -> Outcome {
    match operation {
        Operation::List => reply::ok_json(&list(proxy)),
        Operation::Inspect(node) => reply::ok_json(&node_of(proxy, find(proxy, &node)?)?),
        Operation::Add => add(proxy, body).await,
        Operation::Update(node) => update(proxy, &node, body).await,
        Operation::Explain(container) => explain(proxy, &container),
        Operation::Plan => plan(proxy, query, body).await,
        Operation::Remove(node) => {
            let node = find(proxy, &node)?;
            let force = query.bool("force");
            let removed = proxy.manager.remove_node(node, force).await;
            removed.map_err(from_manager)?;
            Ok(reply::status(StatusCode::NO_CONTENT))
        }
    }
}

fn explain(proxy: &Proxy, container: &str) -> Outcome {
    if let Some(decision) = proxy.manager.explain(container) {
        return reply::ok_json(&decision);
    }
    let of_newest = "the newest 256 are, since the manager began";
    Err(ApiError::not_found(match proxy.container(container) {
        Ok((host, found)) if found.request.is_none() => format!(
            "nothing was decided about {container}: it was made on node {} itself",
            host.tag.name
        ),
        Ok((host, _)) => format!(
            "{container} is on node {}, and the decision is not remembered: {of_newest}",
            host.tag.name
        ),
        Err(_) => format!("no decision about {container} is remembered: {of_newest}"),
    }))
}

async fn plan(proxy: &Proxy, query: &Query, body: &Bytes) -> Outcome {
    let asked: AskPlan = read_json(body)?;
    let lose = asked
        .lose
        .as_deref()
        .map(|node| find(proxy, node))
        .transpose()?;
    let count = asked.count.unwrap_or(1);
    if !(1..=PLAN_MAX).contains(&count) {
        return Err(ApiError::bad_parameter(format!(
            "Count must be a number from 1 to {PLAN_MAX}, and is {count}"
        )));
    }
    let losing = match lose {
        Some(node) => Some(proxy.manager.losing(node).await),
        None => None,
    };
    let Some(create) = asked.create else {
        if lose.is_none() || asked.count.is_some() {
            return Err(ApiError::bad_parameter(
                "a plan needs Create, the body of a container create, or Lose, the name of a node; Count goes with Create",
            ));
        }
        let plan = proxy.manager.plan(None, losing.as_ref());
        return reply::ok_json(&plan.map_err(from_manager)?);
    };
    let create = with_command(create).to_string();
    let plan = order(proxy, create.as_bytes(), query.clone(), |order| {
        proxy.manager.plan(Some((order, count)), losing.as_ref())
    });
    reply::ok_json(&plan?)
}

/// Every create needs something to run, and what that is makes no difference to where it would go: a plan need not say it.
fn with_command(mut create: serde_json::Value) -> serde_json::Value {
    if let Some(fields) = create.as_object_mut() {
        fields.retain(|field, _| !field.eq_ignore_ascii_case("Cmd"));
        fields.insert("Cmd".to_owned(), serde_json::json!(["true"]));
    }
    create
}

/// Reads the body of a create, for a container that nobody makes.
fn order<T>(
    proxy: &Proxy,
    body: &[u8],
    query: Query,
    with: impl FnOnce(&CreateOrder<'_>) -> Result<T, manager::Error>,
) -> Result<T, ApiError> {
    let mut body = create::Body::parse(body)?;
    let wanted = body.read()?;
    let policies = Policies::take(&mut body)?;
    let order = CreateOrder {
        name: None,
        wanted: &wanted,
        strategy: super::containers::strategy(&policies)?,
        policies: &policies,
        features: features::needed(body.edit().root(), ApiVersion::MAX),
        body: &[],
        // Only a node itself could say whether they are there, and it is not asked.
        paths_must_exist: false,
        query,
        version: ApiVersion::MAX,
        caller: proxy.manager.as_caller(),
    };
    with(&order).map_err(from_manager)
}

async fn add(proxy: &Proxy, body: &Bytes) -> Outcome {
    let asked: AddNode = read_json(body)?;
    let bad = |error: &dyn std::error::Error| ApiError::bad_parameter(error.to_string());
    let endpoint: Endpoint = asked.endpoint.parse().map_err(|error| bad(&error))?;
    let name = asked.name.as_deref().map(str::parse::<NodeName>);
    let member = Member {
        endpoint,
        name: name.transpose().map_err(|error| bad(&error))?,
        address: asked.address.as_deref().map(address).transpose()?,
    };
    check_labels(&asked.labels)?;
    let added = proxy.manager.add_node(&member, asked.labels).await;
    let node = added.map_err(|error| not_added(&member.endpoint, error))?;
    let body = serde_json::to_vec(&node_of(proxy, node)?)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(reply::json(StatusCode::CREATED, body))
}

/// The engine is no node yet, so errors name its endpoint.
fn not_added(endpoint: &Endpoint, error: manager::Error) -> ApiError {
    let endpoint = endpoint.shown();
    match error {
        manager::Error::Engine(engine::Error::Unreachable { source, .. }) => ApiError::unavailable(
            format!("the engine at {endpoint} cannot be reached: {source}"),
        ),
        manager::Error::Engine(engine::Error::Unfit { why, .. }) => {
            ApiError::conflict(format!("the engine at {endpoint} cannot join: {why}"))
        }
        manager::Error::Engine(engine::Error::Garbled { why, .. }) => ApiError::conflict(format!(
            "what listens at {endpoint} is no Docker Engine, or none that can be understood: {why}"
        )),
        manager::Error::Impossible(why) => {
            ApiError::conflict(format!("the engine at {endpoint} cannot join: {why}"))
        }
        error => from_manager(error),
    }
}

async fn update(proxy: &Proxy, node: &str, body: &Bytes) -> Outcome {
    let asked: UpdateNode = read_json(body)?;
    check_labels(&asked.add_labels)?;
    let both = |key: &&String| asked.add_labels.contains_key(*key);
    if let Some(key) = asked.remove_labels.iter().find(both) {
        return Err(ApiError::bad_parameter(format!(
            "label {key} is both to be added and to be removed"
        )));
    }
    let change = NodeChange {
        address: asked.address.as_deref().map(address).transpose()?,
        availability: asked.availability,
        add_labels: asked.add_labels,
        remove_labels: asked.remove_labels,
    };
    let node = find(proxy, node)?;
    let updated = proxy.manager.update_node(node, change).await;
    updated.map_err(from_manager)?;
    reply::ok_json(&node_of(proxy, node)?)
}

fn read_json<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_parameter(format!("invalid JSON: {error}")))
}

fn address(text: &str) -> Result<String, ApiError> {
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => Ok(address.to_string()),
        _ => Err(ApiError::bad_parameter(format!(
            "`{text}` is not an IP address that clients could reach, as in 10.0.0.5"
        ))),
    }
}

/// Keys are such that constraints can name them, and that `KEY=VALUE` says it all.
fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for (key, value) in labels {
        let in_key = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let begins = key.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if !begins || !key.chars().all(in_key) {
            return Err(ApiError::bad_parameter(format!(
                "`{key}` is not a label: it begins with a letter, a digit or _, and goes on with letters, digits, -, _, . \
                 and /"
            )));
        }
        api_compat::generic::check_stated(key, value)?;
        if SLOTS_LABELS.contains(&key.as_str()) && slots(value).is_none() {
            return Err(ApiError::bad_parameter(format!(
                "label {key} says how many containers a node takes at most, and {value:?} is no number"
            )));
        }
        if value.contains(char::is_control) {
            return Err(ApiError::bad_parameter(format!(
                "the value of label {key} holds a control character"
            )));
        }
    }
    Ok(())
}

/// The node of this name or id.
fn find(proxy: &Proxy, reference: &str) -> Result<NodeId, ApiError> {
    let cluster = proxy.manager.cluster();
    let by_id = || {
        let id = reference.parse().ok()?;
        cluster.node(id)
    };
    let by_name = || cluster.node_named(&reference.parse().ok()?);
    if let Some(node) = by_id().or_else(by_name) {
        return Ok(node.id);
    }
    let joining = proxy.fleet.joining();
    let joins = joining
        .iter()
        .find(|(endpoint, _)| endpoint.shown() == reference);
    Err(ApiError::not_found(match joins {
        Some((endpoint, reason)) => format!(
            "the engine at {} is no node yet ({reason}): to give it up, take it out of the manager's settings",
            endpoint.shown()
        ),
        None => format!("No such node: {reference}"),
    }))
}

/// All nodes, by name, and behind them the engines that have not joined yet.
fn list(proxy: &Proxy) -> Vec<Node> {
    let cluster = proxy.manager.cluster();
    let mut nodes: Vec<_> = cluster.nodes().collect();
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let nodes = nodes.into_iter().map(|node| shown(proxy, &cluster, node));
    let joining = proxy.fleet.joining();
    let joining = joining.into_iter();
    let joining = joining.map(|(endpoint, reason)| joining_engine(&endpoint, reason));
    nodes.chain(joining).collect()
}

fn node_of(proxy: &Proxy, id: NodeId) -> Result<Node, ApiError> {
    let cluster = proxy.manager.cluster();
    let node = cluster.node(id);
    let node = node.ok_or_else(|| ApiError::not_found(format!("No such node: {id}")))?;
    Ok(shown(proxy, &cluster, node))
}

fn joining_engine(endpoint: &Endpoint, reason: String) -> Node {
    Node {
        id: None,
        spec: api::Spec::default(),
        description: None,
        status: api::Status {
            state: State::Joining,
            message: reason,
            addr: None,
        },
        endpoint: endpoint.shown(),
        containers: 0,
        running: 0,
        reserved: api::Resources::default(),
        generic: BTreeMap::new(),
        counted: false,
        last_seen: None,
    }
}

/// A node as it is promised and observed right now.
fn shown(proxy: &Proxy, cluster: &crate::state::Cluster, node: &model::Node) -> Node {
    let host = proxy.fleet.host(&node.id);
    let host = host.as_deref();
    let counts = proxy.fleet.inventory.counts(&node.id);
    let promised = cluster.totals(node.id);
    let (state, message) = status(node, host);
    let counted = host.is_some_and(Host::is_counted);
    Node {
        id: Some(node.id.to_string()),
        spec: api::Spec {
            name: Some(node.name.to_string()),
            labels: node.labels.clone(),
            availability: node.availability,
        },
        description: Some(description(node, host)),
        status: api::Status {
            state,
            message,
            addr: node.address.clone(),
        },
        endpoint: Endpoint::text_as_shown(&node.endpoint),
        // What was promised counts where nothing was seen since the manager began.
        containers: counts
            .containers
            .max(usize::try_from(promised.placements).unwrap_or(usize::MAX)),
        running: counts.running,
        reserved: amount(promised.claimed.saturating_add(counts.unmanaged_claims)),
        generic: generic(proxy, node.id),
        counted,
        last_seen: host.map(|host| host.health().last_seen),
    }
}

fn generic(proxy: &Proxy, node: NodeId) -> BTreeMap<String, api::Generic> {
    let stock = proxy.manager.stock_of(node);
    let all = stock.all_left().map(|(name, left)| {
        let generic = api::Generic {
            reserved: left.of.saturating_sub(left.free),
            total: left.of,
        };
        (name.to_owned(), generic)
    });
    all.collect()
}

fn status(node: &model::Node, host: Option<&Host>) -> (State, String) {
    let Some(host) = host else {
        let why = "its endpoint cannot be used: the manager's log says why";
        return (State::Down, why.to_owned());
    };
    let health = host.health();
    match health.verdict {
        Verdict::Down => (State::Down, health.reason),
        Verdict::Suspect => (State::Suspect, health.reason),
        Verdict::Ready if node.is_ready() && host.is_counted() => (State::Ready, String::new()),
        Verdict::Ready => {
            let why = "its containers are being counted";
            (State::Joining, why.to_owned())
        }
    }
}

fn description(node: &model::Node, host: Option<&Host>) -> api::Description {
    let facts = host.map(Host::facts);
    let engine = node.engine.as_ref();
    let platform = engine.map(|engine| &engine.platform);
    let version = engine.map(|engine| &engine.engine_version);
    api::Description {
        hostname: facts
            .as_ref()
            .map(|facts| facts.hostname.clone())
            .unwrap_or_default(),
        platform: api::Platform {
            arch: platform
                .map(|platform| platform.arch.clone())
                .unwrap_or_default(),
            os: platform
                .map(|platform| platform.os.clone())
                .unwrap_or_default(),
        },
        resources: amount(engine.map_or(model::Resources::ZERO, |engine| engine.capacity)),
        allocatable: engine.and_then(|engine| engine.allocatable).map(amount),
        engine: api::Engine {
            engine_version: version.cloned().unwrap_or_default(),
            labels: facts.map(|facts| facts.labels.clone()).unwrap_or_default(),
        },
    }
}

fn amount(resources: model::Resources) -> api::Resources {
    api::Resources {
        cpu_nanos: resources.cpu_nanos,
        memory_bytes: resources.memory_bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_one_meaning() {
        let check = |method: Method, path: &str, expected: Option<Operation>| {
            assert_eq!(lookup(&method, path), expected, "{method} {path}");
        };
        let name = || "host1".to_owned();
        check(Method::GET, "/flotilla/v1/nodes", Some(Operation::List));
        check(Method::POST, "/flotilla/v1/nodes", Some(Operation::Add));
        check(
            Method::GET,
            "/flotilla/v1/nodes/host1",
            Some(Operation::Inspect(name())),
        );
        check(
            Method::GET,
            "/flotilla/v1/nodes/host%31",
            Some(Operation::Inspect(name())),
        );
        check(
            Method::DELETE,
            "/flotilla/v1/nodes/host1",
            Some(Operation::Remove(name())),
        );
        check(
            Method::POST,
            "/flotilla/v1/nodes/host1/update",
            Some(Operation::Update(name())),
        );
        check(
            Method::GET,
            "/flotilla/v1/decisions/host1%2Fweb",
            Some(Operation::Explain("host1/web".to_owned())),
        );
        check(Method::POST, "/flotilla/v1/plan", Some(Operation::Plan));
        check(Method::GET, "/flotilla/v1/plan", None);
        check(Method::POST, "/flotilla/v1/decisions/web", None);
        for path in [
            "/flotilla/v1/decisions",
            "/flotilla/v1/decisions/",
            "/flotilla/v1/nodes/",
            "/flotilla/v1/nodesx",
            "/flotilla/v2/nodes",
            "/flotilla/",
            "/flotilla/v1/nodes/%ff",
        ] {
            check(Method::GET, path, None);
        }
        check(Method::DELETE, "/flotilla/v1/nodes", None);
        check(Method::POST, "/flotilla/v1/nodes/host1", None);
    }

    #[test]
    fn labels_are_such_that_constraints_can_name_them() {
        let check = |key: &str, value: &str, good: bool| {
            let labels = [(key.to_owned(), value.to_owned())].into();
            assert_eq!(check_labels(&labels).is_ok(), good, "{key}={value}");
        };
        check("zone", "b", true);
        check("example.com/rack-1", "a b, c", true);
        check("zone", "", true);
        check("", "b", false);
        check("a=b", "c", false);
        check("a b", "c", false);
        check("-a", "c", false);
        check("zone", "a\nb", false);
    }
}
