//! Whether a node has the paths that a container binds.
//!
//! For a bind of a path that is not there an engine makes an empty folder. With one engine on one's own machine that is
//! seen at once; in a pool the path is most likely one of the client's machine, and the container would run with nothing
//! in it. No operation tells what paths a host has. But of a create an engine checks the mounts first, those of the
//! strict kind must be there, and then it looks for the image: so a create with these mounts, of an image that cannot
//! be, is answered in one of two ways.
//!
//! **Invariant**: what is asked for here never comes to be: no engine has an image whose id is all zeros.

use std::borrow::Cow;
use std::time::Duration;

use api_compat::ApiVersion;
use bytes::Bytes;
use http::StatusCode;

use super::Error;
use crate::engine::{EngineCall, Host};

/// An engine looks at a few paths within so long, or is taken for hung.
const PATIENCE: Duration = Duration::from_secs(30);
/// What an engine says of a path that is not there.
const MISSING: &str = "bind source path does not exist";

/// Fails if the node lacks one of these paths.
pub(super) async fn has_paths(host: &Host, paths: &[Cow<'_, str>]) -> Result<(), Error> {
    if paths.is_empty() {
        return Ok(());
    }
    let body = Bytes::from(question(paths));
    let call = EngineCall::post("/containers/create", Some(body)).at(ApiVersion::MAX);
    let answer = tokio::time::timeout(PATIENCE, host.call(call)).await;
    let answer = answer.unwrap_or_else(|_| Err(host.no_answer(PATIENCE)))?;
    let message = answer.message();
    // Whatever else the engine minds it says again of the container itself.
    if answer.status == StatusCode::BAD_REQUEST && message.contains(MISSING) {
        return Err(Error::NoSuchPath {
            message,
            node: host.tag.name.clone(),
        });
    }
    Ok(())
}

/// The create that cannot be done.
fn question(paths: &[Cow<'_, str>]) -> Vec<u8> {
    let mounts: Vec<_> = paths
        .iter()
        .enumerate()
        .map(|(number, path)| {
            serde_json::json!({"Type": "bind", "Source": path, "Target": format!("/{number}"), "ReadOnly": true})
        })
        .collect();
    let body = serde_json::json!({
        "Image": format!("sha256:{}", "0".repeat(64)),
        "Cmd": ["true"],
        "HostConfig": {"Mounts": mounts},
    });
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_compat::create::Body;

    #[test]
    fn every_path_is_asked_for_once_and_strictly() {
        let asked = question(&["/a \"b\"".into(), "/c".into()]);
        let body = Body::parse(&asked).expect("a body");
        let read = body.read().expect("reads");
        assert_eq!(read.host_paths, ["/a \"b\"", "/c"]);
        assert_eq!(read.image, format!("sha256:{}", "0".repeat(64)));
        assert!(!String::from_utf8_lossy(&asked).contains("CreateMountpoint"));
    }
}
