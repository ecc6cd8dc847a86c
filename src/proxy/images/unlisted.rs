//! Images that engines have and do not list: the intermediate ones of the classic builder, which are known by id.

use std::time::Duration;

use api_compat::image_ref::is_id_prefix;
use api_compat::json_view::View;
use api_compat::route::Operation;
use jiff::Timestamp;

use super::super::fan_out::{self, Part};
use super::super::{Proxy, nodes};
use crate::engine::EngineCall;

/// Engines say at once what they have.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the engines for an image that none of them lists, if the reference may be an id. Those that have it are its nodes from
/// then on.
pub(in crate::proxy) async fn look_for(proxy: &Proxy, reference: &str) {
    if !is_id_prefix(reference) || proxy.manager.image(reference).is_some() {
        return;
    }
    let call = EngineCall::get(Operation::ImageInspect.target(&[reference]));
    let parts = fan_out::ask(nodes::up(proxy), &call, PATIENCE).await;
    for Part { host, answer } in parts.0 {
        let answer = answer.ok().filter(|answer| answer.status.is_success());
        if let Some((id, created)) = answer.and_then(|answer| identity(&answer.body)) {
            host.note_unlisted(id, created);
        }
    }
}

/// The id of an inspected image, and when it was built, in seconds since 1970.
fn identity(inspected: &[u8]) -> Option<(String, i64)> {
    let view = View::parse(inspected).ok()?;
    let id = view.text_of("Id").into_owned();
    let created: Option<Timestamp> = view.text_of("Created").parse().ok();
    let created = created.map(Timestamp::as_second).unwrap_or_default();
    id.starts_with("sha256:").then_some((id, created))
}
