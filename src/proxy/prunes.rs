//! What all prunes have in common: which nodes are asked, what, and for how long.
//!
//! **Invariant**: no engine is told a filter that is ours alone.

use std::sync::Arc;
use std::time::Duration;

use api_compat::filters::Filters;
use api_compat::query::Query;
use api_compat::version::ApiVersion;

use super::Proxy;
use super::forward::{engines_query, with_query};
use crate::engine::{EngineCall, Host};

/// How long they may take to remove what is not used.
pub(super) const PRUNE_PATIENCE: Duration = Duration::from_secs(300);

/// The nodes that are to prune, and what to ask them.
pub(super) fn asked(
    proxy: &Proxy,
    path: &str,
    query: &Query,
    filters: &Filters,
    version: ApiVersion,
) -> (Vec<Arc<Host>>, EngineCall) {
    let wanted = |host: &Arc<Host>| {
        filters.exact_match("node", host.tag.name.as_str())
            || filters.exact_match("node", &host.tag.id.to_string())
    };
    let hosts = proxy.fleet.by_name().into_iter().filter(wanted).collect();
    let target = with_query(path.to_owned(), &engines_query(query, filters));
    (hosts, EngineCall::post(target, None).at(version))
}
