//! What an engine says of itself: read at each connect, and again now and then.

use api_compat::generic;
use api_compat::json_view::View;
use api_compat::version::ApiVersion;
use bytes::Bytes;
use jiff::Timestamp;

use super::call::EngineCall;
use super::client::{ApiWindow, Client, OLDEST_ENGINE_API};
use super::dial::advice_for_refusal;
use super::error::Error;
use super::typed::{from_bollard, typed};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::generic::Counts;
use crate::model::{EngineFacts, Resources};

/// What an engine says of itself.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The engine's own id: two endpoints with one id are one engine.
    pub engine_id: String,
    /// Its machine's name.
    pub hostname: String,
    /// The engine's version: `28.5.2`.
    pub version: String,
    /// The API versions it accepts.
    pub window: ApiWindow,
    /// `linux`.
    pub os: String,
    /// As in image manifests: `amd64`, not `x86_64`.
    pub arch: String,
    /// What the machine has.
    pub capacity: Resources,
    /// What it says that the machine has beside that.
    pub generic: Counts,
    /// The engine's labels.
    pub labels: BTreeMap<String, String>,
    /// More of what it says of itself, by the names that classic Swarm gave it as labels.
    pub says: BTreeMap<String, String>,
    /// Whether its experimental features are on.
    pub experimental: bool,
    /// The engine's clock when it answered.
    pub system_time: Timestamp,
    /// `GET /info`, the engine's bytes.
    pub info: Bytes,
}

impl Facts {
    /// What is known of an engine that has not been reached since the manager began: what the cluster
    /// remembers of it.
    pub fn remembered(engine: Option<&EngineFacts>) -> Self {
        let window = engine.map_or(
            ApiWindow {
                min: ApiVersion::MIN,
                max: OLDEST_ENGINE_API,
            },
            |engine| ApiWindow {
                min: engine.api.min,
                max: engine.api.max,
            },
        );
        let text = |of: fn(&EngineFacts) -> &String| engine.map(of).cloned().unwrap_or_default();
        Self {
            engine_id: text(|engine| &engine.engine_id),
            hostname: String::new(),
            version: text(|engine| &engine.engine_version),
            window,
            os: text(|engine| &engine.platform.os),
            arch: text(|engine| &engine.platform.arch),
            capacity: engine.map_or(Resources::ZERO, |engine| engine.capacity),
            generic: engine
                .map(|engine| engine.generic.clone())
                .unwrap_or_default(),
            labels: BTreeMap::new(),
            says: BTreeMap::new(),
            experimental: false,
            system_time: crate::clock::now(),
            info: Bytes::new(),
        }
    }
}

/// Asks the engine who it is. Sets the client's version window. Fails with [`Error::Unfit`] when the
/// engine is too old or too new to be pooled.
pub(super) async fn read_facts(client: &Arc<Client>) -> Result<Facts, Error> {
    let docker = typed(client)?;
    let version = docker
        .version()
        .await
        .map_err(|error| plain_where_tls_is_due(from_bollard(client, error)))?;
    let window = window(
        client,
        version.api_version.as_deref(),
        version.min_api_version.as_deref(),
    )?;
    client.set_window(window);
    let info = client.ask(EngineCall::get("/info")).await?.body;
    let parsed: bollard::models::SystemInfo = serde_json::from_slice(&info)
        .map_err(|error| client.garbled(format_args!("/info: {error}")))?;
    let says = says(&info);
    let offered = View::parse(&info).map(generic::offered).unwrap_or_default();
    let cpus = u64::try_from(parsed.ncpu.unwrap_or(0)).unwrap_or(0);
    Ok(Facts {
        engine_id: parsed.id.unwrap_or_default(),
        hostname: parsed.name.unwrap_or_default(),
        version: version.version.unwrap_or_default(),
        window,
        os: version.os.unwrap_or_default(),
        arch: version.arch.unwrap_or_default(),
        capacity: Resources {
            cpu_nanos: cpus.saturating_mul(1_000_000_000),
            memory_bytes: u64::try_from(parsed.mem_total.unwrap_or(0)).unwrap_or(0),
        },
        generic: offered
            .into_iter()
            .map(|(name, count)| (name, count.into()))
            .collect(),
        labels: parsed
            .labels
            .unwrap_or_default()
            .iter()
            .map(|label| {
                label
                    .split_once('=')
                    .map_or((label.clone(), String::new()), |(k, v)| {
                        (k.into(), v.into())
                    })
            })
            .collect(),
        says,
        experimental: parsed.experimental_build.unwrap_or(false),
        system_time: parsed
            .system_time
            .and_then(|t| t.parse().ok())
            .unwrap_or_else(crate::clock::now),
        info,
    })
}

impl Facts {
    /// Whether images are kept in containerd's store, which knows them by other ids than the engine's own store does.
    pub fn keeps_images_in_containerd(&self) -> bool {
        let Ok(info) = View::parse(&self.info) else {
            return false;
        };
        let status = info.get("DriverStatus");
        let mut rows = status.into_iter().flat_map(|status| status.elements());
        rows.any(|row| {
            let mut cells = row.elements().filter_map(|cell| cell.str());
            cells.next().is_some_and(|name| name == "driver-type")
                && cells
                    .next()
                    .is_some_and(|kind| kind.starts_with("io.containerd"))
        })
    }
}

/// What classic Swarm made labels of.
fn says(info: &[u8]) -> BTreeMap<String, String> {
    const NAMES: [(&str, &str); 5] = [
        ("storagedriver", "Driver"),
        ("executiondriver", "ExecutionDriver"),
        ("kernelversion", "KernelVersion"),
        ("operatingsystem", "OperatingSystem"),
        ("ostype", "OSType"),
    ];
    let Ok(info) = View::parse(info) else {
        return BTreeMap::new();
    };
    let said = NAMES.map(|(name, field)| (name.to_owned(), info.text_of(field).into_owned()));
    said.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

/// An engine that is reached in the clear at its port for TLS says so as a refusal of any request.
fn plain_where_tls_is_due(error: Error) -> Error {
    match error {
        Error::Refused { node, message, .. } if let Some(why) = advice_for_refusal(&message) => {
            Error::Unfit {
                node,
                why: why.to_owned(),
            }
        }
        other => other,
    }
}

fn window(client: &Client, max: Option<&str>, min: Option<&str>) -> Result<ApiWindow, Error> {
    let read = |text: Option<&str>| text.and_then(ApiVersion::parse);
    let unfit = |why: String| Error::Unfit {
        node: client.node().clone(),
        why,
    };
    let max = read(max).ok_or_else(|| {
        unfit("its /version names no ApiVersion: is this a Docker Engine?".to_owned())
    })?;
    let window = ApiWindow {
        min: read(min).unwrap_or(ApiVersion::MIN),
        max,
    };
    if window.max < OLDEST_ENGINE_API {
        return Err(unfit(format!(
            "it speaks API {max} at most, and a pool needs {OLDEST_ENGINE_API} (Docker Engine 20.10): upgrade it"
        )));
    }
    if window.min > ApiVersion::MAX {
        return Err(unfit(format!(
            "it speaks API {} at least, and this manager {} at most: upgrade the manager",
            window.min,
            ApiVersion::MAX
        )));
    }
    Ok(window)
}
