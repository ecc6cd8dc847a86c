//! Every setting, read and checked before anything is opened.
//!
//! A flag, an environment variable and a key of the file share one name: `--node-timeout`,
//! `FLOTILLA_NODE_TIMEOUT`, `node-timeout = "3s"`. A flag wins over the environment, that over the
//! file, that over the default.
//!
//! **Invariant**: a [`Config`] that exists is sound in itself; nothing here opens a socket.

mod engines;
mod listen;
mod placing;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api_compat::version::ApiVersion;

use crate::balance::Scope;
use crate::engine::{BadFile, Endpoint};
use crate::manager::PlacingSettings;
use crate::model::NodeName;
use crate::scheduler::PullTo;
use crate::state::RandomPorts;

pub use engines::Engine;
pub use listen::{Listen, default_socket};
pub use settings::{Origin, Settings, Surroundings};
pub use values::{read_cpus, read_size};

use settings::Sources;
use values::{
    api_version, cluster_name, duration, entry_point, log_filter, log_format, missing_bind, names,
    node_timeout, pull_to, random_ports,
};

/// How a manager runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it listens for clients.
    pub listen: Vec<Listen>,
    /// The engines it pools.
    pub engines: Vec<Engine>,
    /// Where it keeps what must last.
    pub data: PathBuf,
    /// How replies name containers.
    pub names: Names,
    /// How many nodes a pull or a load brings an image to.
    pub pull_to: PullTo,
    /// Which published ports it listens on.
    pub entry_point: Scope,
    /// Where the numbers of host ports that may have any are taken from.
    pub random_ports: RandomPorts,
    /// What is done with a bind whose path its node lacks.
    pub missing_bind: MissingBind,
    /// How containers are placed.
    pub placing: PlacingSettings,
    /// The cluster's name.
    pub cluster_name: String,
    /// How it logs.
    pub log: Log,
    /// How long open requests may take to finish when it stops.
    pub drain: Duration,
    /// How long a node may be silent before it is lost.
    pub node_timeout: Duration,
    /// The largest request body that has to be read whole.
    pub max_body: usize,
    /// The API version that clients are told, if it is not to follow from the nodes.
    pub api_advertise: Option<ApiVersion>,
}

/// How replies name containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// `/web`, as one engine does it.
    #[default]
    Bare,
    /// `/host1/web`, as classic Swarm did it.
    Node,
}

/// What is done, in a pool of several nodes, with a bind whose path its node lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingBind {
    /// The container is refused: most likely the path is one of the client's own machine.
    #[default]
    Refuse,
    /// What its engine does by itself: for `-v` and compose an empty folder is made.
    Create,
}

/// How a manager logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or filters by module, as `tracing` reads them.
    pub filter: String,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of them.
    #[error("{origin}: {problem}")]
    Setting {
        /// Where it was written.
        origin: Origin,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The file cannot be read.
    #[error("cannot read the settings in {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}, line {line}: {problem}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// An engine cannot be reached with the files that were given for it.
    #[error(
        "engine {engine} is to be reached by TLS, which needs ca.pem, cert.pem and key.pem: {problem}"
    )]
    Tls {
        /// Where the engine listens.
        engine: String,
        /// Which file it is, and what is wrong with it.
        problem: BadFile,
    },
    /// There is no default.
    #[error("{0}")]
    Missing(&'static str),
}

impl Config {
    /// Reads the file, if one is named, and checks everything.
    pub fn load(
        flags: Settings,
        file: Option<PathBuf>,
        surroundings: &Surroundings,
    ) -> Result<Self, Error> {
        let named = || {
            surroundings
                .variables
                .get("FLOTILLA_CONFIG")
                .filter(|name| !name.is_empty())
        };
        let file = match file.or_else(|| named().map(PathBuf::from)) {
            Some(path) => match std::fs::read_to_string(&path) {
                Ok(content) => Some((path, content)),
                Err(source) => return Err(Error::File { path, source }),
            },
            None => None,
        };
        let config = Self::resolve(flags, file, surroundings)?;
        engines::check_files(&config.engines)?;
        Ok(config)
    }

    /// Checks everything but what other files hold. `file` is the file's path and content.
    pub fn resolve(
        flags: Settings,
        file: Option<(PathBuf, String)>,
        surroundings: &Surroundings,
    ) -> Result<Self, Error> {
        let file = match file {
            Some((path, content)) => Some((Settings::from_file(&path, &content)?, path)),
            None => None,
        };
        let sources = Sources {
            flags,
            variables: Settings::from_env(&surroundings.variables),
            file,
        };
        let listen = listen::listeners(&sources, surroundings)?;
        let engines = engines::engines(&sources, &listen)?;
        Ok(Self {
            listen,
            engines,
            data: data(&sources, surroundings)?,
            names: sources
                .one("names", |from| &from.names, names)?
                .unwrap_or_default(),
            pull_to: sources
                .one("pull-to", |from| &from.pull_to, pull_to)?
                .unwrap_or_default(),
            entry_point: sources
                .one("entry-point", |from| &from.entry_point, entry_point)?
                .unwrap_or_default(),
            random_ports: sources
                .one("random-ports", |from| &from.random_ports, random_ports)?
                .unwrap_or_default(),
            missing_bind: sources
                .one("missing-bind", |from| &from.missing_bind, missing_bind)?
                .unwrap_or_default(),
            placing: placing::placing(&sources)?,
            cluster_name: sources
                .one("cluster-name", |from| &from.cluster_name, cluster_name)?
                .unwrap_or_else(|| "flotilla".to_owned()),
            log: Log {
                format: sources
                    .one("log-format", |from| &from.log_format, log_format)?
                    .unwrap_or_default(),
                filter: sources
                    .one("log", |from| &from.log, log_filter)?
                    .unwrap_or_else(|| "info".to_owned()),
            },
            drain: sources
                .one("drain", |from| &from.drain, duration)?
                .unwrap_or(Duration::from_secs(10)),
            node_timeout: sources
                .one("node-timeout", |from| &from.node_timeout, node_timeout)?
                .unwrap_or(Duration::from_secs(3)),
            max_body: sources
                .one("max-body", |from| &from.max_body, read_size)?
                .unwrap_or(16 << 20),
            api_advertise: sources.one("api-advertise", |from| &from.api_advertise, api_version)?,
        })
    }
}

impl Config {
    /// The names that engines were given: hostnames must keep clear of them, also before those
    /// engines have joined.
    pub fn given_names(&self) -> BTreeMap<Endpoint, NodeName> {
        self.engines
            .iter()
            .filter_map(|engine| Some((engine.endpoint.clone(), engine.name.clone()?)))
            .collect()
    }
}

fn data(sources: &Sources, surroundings: &Surroundings) -> Result<PathBuf, Error> {
    let given = sources.one(
        "data",
        |from| &from.data,
        |text| match Path::new(text) {
            path if path.is_absolute() => Ok(path.to_owned()),
            _ => Err(format!("{text} must be an absolute path")),
        },
    )?;
    if let Some(given) = given {
        return Ok(given);
    }
    if surroundings.root {
        return Ok("/var/lib/flotilla".into());
    }
    let home = || directory(surroundings, "HOME").map(|home| home.join(".local/share"));
    directory(surroundings, "XDG_DATA_HOME")
        .or_else(home)
        .map(|dir| dir.join("flotilla"))
        .ok_or(Error::Missing(
            "HOME does not say where to keep state: give --data DIR",
        ))
}

/// A directory that a variable names; by the rules of XDG a relative one counts for nothing.
fn directory(surroundings: &Surroundings, variable: &str) -> Option<PathBuf> {
    surroundings
        .variables
        .get(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
