//! What any node can answer for all: it is asked of one, and of the next if that one cannot.
//!
//! **Invariant**: what an engine or a registry says, a refusal too, is the answer; only who says nothing, or fails, is
//! replaced.

use std::time::Duration;

use api_compat::error::ApiError;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::Proxy;
use super::exchange::Exchange;
use super::forward::{forward, with_query};
use super::nodes::{nobody, order_by_health, up};
use super::reply::Outcome;

/// A registry that can be reached answers by then.
const REGISTRY_PATIENCE: Duration = Duration::from_secs(15);
/// If a node has no answer of a registry by then, another one is asked too.
const REGISTRY_IS_SLOW: Duration = Duration::from_secs(3);
/// So many nodes are asked about a registry at most.
const REGISTRY_NODES: usize = 3;

/// Passes the request to one node that is up, and to the next if that one cannot be reached: for what any engine can
/// answer, such as a look into a registry.
pub(super) async fn any_node(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    let route = &exchange.route;
    let target = with_query(route.operation.target(&[&route.name]), exchange.raw_query());
    let body = exchange.read_body().await?;
    let mut last = None;
    for host in order_by_health(up(proxy)) {
        let again = exchange.again(body.clone());
        match forward(&host, &target, again).await {
            Ok(reply) => return Ok(reply),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| nobody(proxy)))
}

/// Passes a question about a registry to a node. One without a way out fails, or lets its client wait for minutes; another
/// may have one: it is asked too if the first one fails or takes its time. What a registry says is the answer, whatever
/// it is.
pub(super) async fn of_a_registry(proxy: &Proxy, mut exchange: Exchange) -> Outcome {
    if proxy.fleet.only().is_some() {
        return any_node(proxy, exchange).await;
    }
    let body = exchange.read_body().await?;
    let mut hosts = order_by_health(up(proxy));
    hosts.truncate(REGISTRY_NODES);
    let route = &exchange.route;
    let target = with_query(route.operation.target(&[&route.name]), exchange.raw_query());
    let questions: Vec<_> = hosts
        .into_iter()
        .map(|host| (host, exchange.again(body.clone()), target.clone()))
        .collect();
    drop(exchange);
    let questions = questions.into_iter();
    let answer =
        first_good(questions.map(|(host, question, target)| async move {
            forward(&host, &target, question).await
        }));
    match tokio::time::timeout(REGISTRY_PATIENCE, answer).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(nobody(proxy)),
        Err(_) => Err(ApiError::unavailable(format!(
            "the registry has not answered within {}s: check that the nodes can reach it",
            REGISTRY_PATIENCE.as_secs()
        ))),
    }
}

/// The first answer that is no failure of the node, else the first failure; none if nobody is asked.
async fn first_good<F: Future<Output = Outcome>>(
    mut questions: impl ExactSizeIterator<Item = F>,
) -> Option<Outcome> {
    let mut asked = FuturesUnordered::new();
    asked.extend(questions.next());
    let mut failed = None;
    loop {
        let answer = tokio::select! {
            biased;
            answer = asked.next() => answer,
            () = tokio::time::sleep(REGISTRY_IS_SLOW), if questions.len() > 0 => {
                asked.extend(questions.next());
                continue;
            }
        };
        match answer {
            Some(Ok(reply)) if !reply.status().is_server_error() => return Some(Ok(reply)),
            Some(failure) => {
                failed.get_or_insert(failure);
                asked.extend(questions.next());
            }
            None => return failed,
        }
    }
}
