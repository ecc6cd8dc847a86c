//! Every setting, read and checked before anything is opened.
//!
//! A flag, an environment variable and a key of the file share one name: `--node-timeout`,
//! `FLOTILLA_NODE_TIMEOUT`, `node-timeout = "3s"`. A flag wins over the environment, that over the
//! file, that over the default.
//!
//! **Invariant**: a [`Config`] that exists is sound in itself; nothing here opens a socket.

mod engines;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api_compat::version::ApiVersion;
use serde::Deserialize;

use crate::balance::Scope;
use crate::engine::{BadFile, Endpoint};
use crate::manager::{PlacingSettings, SurviveNodeLoss};
use crate::model::{NodeName, Resources};
use crate::scheduler::{NoStrategy, PullTo, Strategy};
use crate::state::RandomPorts;

pub use engines::Engine;

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

/// Where a manager listens for clients.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Listen {
    /// A unix socket at this path.
    Unix(PathBuf),
    /// TCP, in the clear: a loopback address.
    Tcp(SocketAddr),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
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

/// The settings as they were written: as flags, in the environment, or in the file. The texts here
/// are what `flotilla serve --help` prints.
#[derive(Debug, Clone, PartialEq, Eq, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Settings {
    /// Listen here for Docker clients; may be given more than once
    ///
    /// unix:///PATH or tcp://127.0.0.1:PORT. [default: unix:///run/flotilla.sock as root, else
    /// unix://$XDG_RUNTIME_DIR/flotilla.sock]
    #[arg(long, value_name = "ADDRESS")]
    #[serde(deserialize_with = "many")]
    pub listen: Vec<String>,

    /// Pool this Docker Engine; may be given more than once
    ///
    /// unix:///PATH, tcp://HOST:PORT (in the clear, or by TLS: --engine-tls; or tcp://HOST:PORT?tls=DIR),
    /// or ssh://USER@HOST:PORT (`ssh`, and `docker system dial-stdio` there, as the docker CLI does it; user and
    /// port may be left out),
    /// with the name that its node is to have in front if it is not to be the engine's hostname.
    /// [default: unix:///var/run/docker.sock, if the cluster has no nodes yet]
    #[arg(long, value_name = "[NAME=]ADDRESS")]
    #[serde(deserialize_with = "many")]
    pub engine: Vec<String>,

    /// Reach tcp:// engines by TLS, with the ca.pem, cert.pem and key.pem in DIR; may be given more than once
    ///
    /// For engines with dockerd --tlsverify; the files are those of DOCKER_CERT_PATH, and may be renewed
    /// while the manager runs. Without NAME it is for all tcp:// engines that have no files of their own;
    /// NAME=none takes one out.
    #[arg(long, value_name = "[NAME=]DIR")]
    #[serde(deserialize_with = "many")]
    pub engine_tls: Vec<String>,

    /// Show published ports of this engine with this IP address
    ///
    /// Clients on other machines need it for an engine that is reached by a unix socket. NAME is the
    /// name given with --engine; it may be left out if there is one engine only.
    #[arg(long, value_name = "[NAME=]IP")]
    #[serde(deserialize_with = "many")]
    pub address: Vec<String>,

    /// Keep state in this directory
    ///
    /// [default: /var/lib/flotilla as root, else $XDG_DATA_HOME/flotilla or
    /// ~/.local/share/flotilla]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,

    /// How replies name containers: `bare` (web) or `node` (host1/web) [default: bare]
    #[arg(long, value_name = "FORM")]
    pub names: Option<String>,

    /// How many nodes `docker pull` and `docker load` bring an image to: `all`, or a number
    ///
    /// The others get it when a container of theirs needs it. [default: all of up to 16 nodes, else
    /// 3]
    #[arg(long, value_name = "COUNT")]
    pub pull_to: Option<String>,

    /// Listen on published ports of containers, and pass connections on to their nodes: `all`, `services` or
    /// `off` [default: all]
    #[arg(long, value_name = "WHAT")]
    pub entry_point: Option<String>,

    /// Give host ports that may have any number (`-p 80`) one of these [default: 10000-29999]
    ///
    /// They are unique in the pool. Keep clear of what hosts take for outgoing connections
    /// (net.ipv4.ip_local_port_range).
    #[arg(long, value_name = "FIRST-LAST")]
    pub random_ports: Option<String>,
    /// Of a container that binds a path which its node lacks: `refuse` it, or have the engine `create` an
    /// empty folder as it does for itself; a pool of one node always does [default: refuse]
    #[arg(long, value_name = "DEED")]
    pub missing_bind: Option<String>,
    /// How to choose a node for a container, among those that have room: `spread`, `binpack` or `random` [default: spread]
    ///
    /// spread takes the node with most left of CPU or memory, whichever is scarcer there; binpack the one with least left.
    /// A container may ask for another with --label com.flotilla.strategy=WORD.
    #[arg(long, value_name = "WORD")]
    pub strategy: Option<String>,

    /// Put no more than this many containers on a node [default: no limit]
    ///
    /// The label com.flotilla.slots of a node (or of its engine) goes before it.
    #[arg(long, value_name = "COUNT")]
    #[serde(deserialize_with = "text")]
    pub slots: Option<String>,

    /// Keep so many CPUs of each node for its system [default: 0]
    #[arg(long, value_name = "NUMBER")]
    #[serde(deserialize_with = "text")]
    pub reserve_cpu: Option<String>,

    /// Keep so much memory of each node for its system [default: 0]
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "text")]
    pub reserve_memory: Option<String>,

    /// Promise so much more CPU and memory than nodes have: 0.05 is 5 % more [default: 0]
    #[arg(long, value_name = "SHARE")]
    #[serde(deserialize_with = "text")]
    pub overcommit: Option<String>,

    /// What a container claims that states no CPUs [default: 0]
    #[arg(long, value_name = "NUMBER")]
    #[serde(deserialize_with = "text")]
    pub default_cpu: Option<String>,

    /// What a container claims that states no memory [default: 0]
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "text")]
    pub default_memory: Option<String>,

    /// What to do about a container after which the pool could not lose each of its nodes: `off`, `warn` or `refuse`
    /// [default: off]
    ///
    /// Whether the CPU and memory that the containers of any one node claim would find room on the others. Containers with
    /// local volumes do not count: they cannot move.
    #[arg(long, value_name = "WORD")]
    pub survive_node_loss: Option<String>,

    /// The cluster's name, as `docker info` shows it [default: flotilla]
    #[arg(long, value_name = "NAME")]
    pub cluster_name: Option<String>,

    /// What to log: error, warn, info, debug, trace, or filters as in `info,flotilla::engine=debug`
    /// [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,

    /// How to log: `text` or `json` [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// When told to stop, give open requests this long to finish [default: 10s]
    #[arg(long, value_name = "TIME")]
    #[serde(deserialize_with = "text")]
    pub drain: Option<String>,

    /// Take a node for lost when it was silent for this long [default: 3s]
    #[arg(long, value_name = "TIME")]
    #[serde(deserialize_with = "text")]
    pub node_timeout: Option<String>,

    /// Refuse request bodies that must be read whole and are larger [default: 16MiB]
    #[arg(long, value_name = "SIZE")]
    #[serde(deserialize_with = "text")]
    pub max_body: Option<String>,

    /// Tell clients this API version instead of the newest that all nodes speak
    #[arg(long, value_name = "VERSION")]
    pub api_advertise: Option<String>,
}

impl Settings {
    /// The settings that environment variables hold. In lists, a comma separates.
    fn from_env(variables: &BTreeMap<String, String>) -> Self {
        let one = |key: &str| {
            variables
                .get(&variable(key))
                .filter(|text| !text.is_empty())
                .cloned()
        };
        let many = |key: &str| {
            let text = one(key).unwrap_or_default();
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        Self {
            listen: many("listen"),
            engine: many("engine"),
            engine_tls: many("engine-tls"),
            address: many("address"),
            data: one("data"),
            names: one("names"),
            pull_to: one("pull-to"),
            entry_point: one("entry-point"),
            random_ports: one("random-ports"),
            missing_bind: one("missing-bind"),
            strategy: one("strategy"),
            slots: one("slots"),
            reserve_cpu: one("reserve-cpu"),
            reserve_memory: one("reserve-memory"),
            overcommit: one("overcommit"),
            default_cpu: one("default-cpu"),
            default_memory: one("default-memory"),
            survive_node_loss: one("survive-node-loss"),
            cluster_name: one("cluster-name"),
            log: one("log"),
            log_format: one("log-format"),
            drain: one("drain"),
            node_timeout: one("node-timeout"),
            max_body: one("max-body"),
            api_advertise: one("api-advertise"),
        }
    }

    fn from_file(path: &Path, content: &str) -> Result<Self, Error> {
        toml::from_str(content).map_err(|error| {
            let before = error.span().and_then(|span| content.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            Error::Toml {
                path: path.to_owned(),
                line,
                problem: error.message().to_owned(),
            }
        })
    }
}

/// The environment variable of a setting.
fn variable(key: &str) -> String {
    format!("FLOTILLA_{}", key.to_uppercase().replace('-', "_"))
}

/// A list, for which one text will do.
fn many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a list of texts")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    })
}

/// A text, for which a number will do.
fn text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a number")]
    enum TextOrNumber {
        Text(String),
        Number(u64),
    }
    Ok(Some(match TextOrNumber::deserialize(from)? {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Number(number) => number.to_string(),
    }))
}

/// What the machine and the user's session say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Whether the process is root.
    pub root: bool,
    /// The environment.
    pub variables: BTreeMap<String, String>,
}

impl Surroundings {
    /// Those of this process. Variables that are not text are no settings of ours.
    pub fn of_this_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        Self {
            root: rustix::process::geteuid().is_root(),
            variables: variables.collect(),
        }
    }
}

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In the environment.
    Variable(String),
    /// In the file.
    Key(&'static str, PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "--{key}"),
            Self::Variable(name) => f.write_str(name),
            Self::Key(key, path) => write!(f, "`{key}` in {}", path.display()),
        }
    }
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
        let listen = listeners(&sources, surroundings)?;
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
            placing: placing(&sources)?,
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

/// The three places that settings are written in, the one that wins first.
struct Sources {
    flags: Settings,
    variables: Settings,
    file: Option<(Settings, PathBuf)>,
}

impl Sources {
    fn in_order(&self, key: &'static str) -> impl Iterator<Item = (&Settings, Origin)> {
        let file = self.file.as_ref();
        [
            (&self.flags, Origin::Flag(key)),
            (&self.variables, Origin::Variable(variable(key))),
        ]
        .into_iter()
        .chain(file.map(|(settings, path)| (settings, Origin::Key(key, path.clone()))))
    }

    fn one<T>(
        &self,
        key: &'static str,
        get: impl Fn(&Settings) -> &Option<String>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Error> {
        match self
            .in_order(key)
            .find_map(|(from, origin)| Some((get(from).as_ref()?, origin)))
        {
            Some((text, origin)) => {
                let value = parse(text).map_err(|problem| Error::Setting { origin, problem })?;
                Ok(Some(value))
            }
            None => Ok(None),
        }
    }

    /// The list of the first source that has one: sources are not mixed.
    fn many(
        &self,
        key: &'static str,
        get: impl Fn(&Settings) -> &Vec<String>,
    ) -> (&[String], Origin) {
        self.in_order(key)
            .map(|(from, origin)| (get(from).as_slice(), origin))
            .find(|(texts, _)| !texts.is_empty())
            .unwrap_or((&[], Origin::Flag(key)))
    }
}

fn listeners(sources: &Sources, surroundings: &Surroundings) -> Result<Vec<Listen>, Error> {
    let (texts, origin) = sources.many("listen", |from| &from.listen);
    let mut listeners = Vec::new();
    for text in texts {
        let problem = match listener(text) {
            Ok(listener) if listeners.contains(&listener) => {
                format!("{listener} is given twice")
            }
            Ok(listener) => {
                listeners.push(listener);
                continue;
            }
            Err(problem) => problem,
        };
        return Err(Error::Setting { origin, problem });
    }
    if listeners.is_empty() {
        listeners.push(Listen::Unix(default_socket(surroundings)?));
    }
    Ok(listeners)
}

/// The socket that a manager listens on if it is not told where.
pub fn default_socket(surroundings: &Surroundings) -> Result<PathBuf, Error> {
    if surroundings.root {
        return Ok("/run/flotilla.sock".into());
    }
    directory(surroundings, "XDG_RUNTIME_DIR")
        .map(|dir| dir.join("flotilla.sock"))
        .ok_or(Error::Missing(
            "XDG_RUNTIME_DIR does not say where to make a socket: give one with \
             --listen unix:///PATH",
        ))
}

fn listener(text: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        if path.starts_with('/') && !path.ends_with('/') {
            return Ok(Listen::Unix(path.into()));
        }
        return Err(format!(
            "{text} is no path of a socket: it must be absolute, as in unix:///run/flotilla.sock"
        ));
    }
    let Some(address) = text.strip_prefix("tcp://") else {
        return Err(format!("{text} must begin with unix:// or tcp://"));
    };
    let address = match address.strip_prefix("localhost:") {
        Some(port) => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        None => address.to_owned(),
    };
    let address: SocketAddr = address.parse().map_err(|_| {
        format!("{text} must be an IP address and a port, as in tcp://127.0.0.1:2375")
    })?;
    if address.ip().is_loopback() {
        return Ok(Listen::Tcp(address));
    }
    let port = address.port();
    Err(format!(
        "{text} can be reached from other machines, and whoever reaches it is root on every node; \
         TLS, which could tell friend from foe, is not there yet: listen on tcp://127.0.0.1:{port} \
         and let clients come in by ssh, as in `ssh -L {port}:127.0.0.1:{port} HOST`"
    ))
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

fn names(text: &str) -> Result<Names, String> {
    match text {
        "bare" => Ok(Names::Bare),
        "node" => Ok(Names::Node),
        _ => Err(format!("`{text}` must be `bare` or `node`")),
    }
}

fn pull_to(text: &str) -> Result<PullTo, String> {
    match text.parse() {
        Ok(0) | Err(_) if text != "all" => Err(format!(
            "`{text}` must be `all` or the number of nodes, 1 or more"
        )),
        Ok(count) => Ok(PullTo::Nodes(count)),
        Err(_) => Ok(PullTo::All),
    }
}

fn entry_point(text: &str) -> Result<Scope, String> {
    match text {
        "off" => Ok(Scope::Off),
        "services" => Ok(Scope::Services),
        "all" => Ok(Scope::All),
        _ => Err(format!("`{text}` must be `all`, `services` or `off`")),
    }
}

fn random_ports(text: &str) -> Result<RandomPorts, String> {
    let range = text.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first > 0 && first <= last).then_some(RandomPorts { first, last })
    });
    range.ok_or_else(|| format!("`{text}` is no range of ports such as 10000-29999"))
}

fn missing_bind(text: &str) -> Result<MissingBind, String> {
    match text {
        "refuse" => Ok(MissingBind::Refuse),
        "create" => Ok(MissingBind::Create),
        _ => Err(format!("`{text}` must be `refuse` or `create`")),
    }
}

fn placing(sources: &Sources) -> Result<PlacingSettings, Error> {
    let cpu = |text: &str| read_cpus(text);
    let bytes = |text: &str| match text {
        "0" => Ok(0),
        text => read_size(text).map(|bytes| bytes as u64),
    };
    Ok(PlacingSettings {
        strategy: sources
            .one("strategy", |from| &from.strategy, strategy)?
            .unwrap_or_default(),
        slots: sources.one("slots", |from| &from.slots, slots)?,
        reserve: Resources {
            cpu_nanos: sources
                .one("reserve-cpu", |from| &from.reserve_cpu, cpu)?
                .unwrap_or_default(),
            memory_bytes: sources
                .one("reserve-memory", |from| &from.reserve_memory, bytes)?
                .unwrap_or_default(),
        },
        survive_node_loss: sources
            .one("survive-node-loss", |from| &from.survive_node_loss, survive)?
            .unwrap_or_default(),
        overcommit_per_mille: sources
            .one("overcommit", |from| &from.overcommit, overcommit)?
            .unwrap_or_default(),
        default_claim: Resources {
            cpu_nanos: sources
                .one("default-cpu", |from| &from.default_cpu, cpu)?
                .unwrap_or_default(),
            memory_bytes: sources
                .one("default-memory", |from| &from.default_memory, bytes)?
                .unwrap_or_default(),
        },
    })
}

/// Reads a number of CPUs, `0.5`, as billionths.
pub fn read_cpus(text: &str) -> Result<u64, String> {
    decimal(text, 9).ok_or_else(|| format!("`{text}` is no number of CPUs such as 2 or 0.5"))
}

fn survive(text: &str) -> Result<SurviveNodeLoss, String> {
    match text {
        "off" => Ok(SurviveNodeLoss::Off),
        "warn" => Ok(SurviveNodeLoss::Warn),
        "refuse" => Ok(SurviveNodeLoss::Refuse),
        _ => Err(format!("`{text}` must be `off`, `warn` or `refuse`")),
    }
}

fn overcommit(text: &str) -> Result<u64, String> {
    let read = decimal(text, 3).filter(|share| *share <= 100_000);
    read.ok_or_else(|| format!("`{text}` must be a share from 0 to 100, as in 0.05 for 5 % more"))
}

/// A decimal number, in units of its last allowed place.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let given = !(whole.is_empty() && part.is_empty());
    let good = given && digits(whole) && digits(part) && part.len() <= places;
    good.then(|| format!("{whole}{part:0<places$}").parse().ok())?
}

fn strategy(text: &str) -> Result<Strategy, String> {
    text.parse().map_err(|error: NoStrategy| error.to_string())
}

fn slots(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{text}` must be a number of containers, 1 or more"))
}

fn cluster_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 253 || text.chars().any(char::is_control) {
        return Err("the name must have 1 to 253 characters, all printable".to_owned());
    }
    Ok(text.to_owned())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("`{text}` must be `text` or `json`")),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "`{text}` is neither a level (error, warn, info, debug, trace) nor a filter: {error}"
        )),
    }
}

/// `10` seconds, `1500ms`, `1m 30s`.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("`{text}` is no time such as 10, 500ms or 1m 30s"))
}

/// Probes go out each second: less than two of them is no ground for a verdict.
fn node_timeout(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(2);
    match duration(text)? {
        timeout if timeout < LEAST => Err(format!(
            "{text} is too short: nodes are asked once a second; give 2s or more"
        )),
        timeout => Ok(timeout),
    }
}

/// `16MiB`, `16m`, `4096`: each unit is 1024 of the one before, as Docker has it.
/// Reads an amount of bytes: `512m`, `16MiB`.
pub fn read_size(text: &str) -> Result<usize, String> {
    let wrong = || format!("`{text}` is no size such as 16MiB, 512k or 4096");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(wrong()),
    };
    let number: usize = number.parse().map_err(|_| wrong())?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(wrong)
}

fn api_version(text: &str) -> Result<ApiVersion, String> {
    let (min, max) = (ApiVersion::MIN, ApiVersion::MAX);
    ApiVersion::parse(text)
        .filter(|version| (min..=max).contains(version))
        .ok_or_else(|| format!("`{text}` is not an API version from {min} to {max}"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, Command, FromArgMatches as _};

    fn flags(line: &str) -> Settings {
        let command = Settings::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command
            .try_get_matches_from(line.split_whitespace())
            .expect("known flags");
        Settings::from_arg_matches(&matches).expect("settings")
    }

    fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Surroundings {
            root: true,
            variables: variables.iter().map(pair).collect(),
        }
    }

    fn config(line: &str) -> Config {
        Config::resolve(flags(line), None, &surroundings(&[])).expect("sound")
    }

    fn refused(line: &str) -> String {
        Config::resolve(flags(line), None, &surroundings(&[]))
            .expect_err(line)
            .to_string()
    }

    fn from_file(content: &str) -> Result<Config, Error> {
        let file = Some((PathBuf::from("f.toml"), content.to_owned()));
        Config::resolve(Settings::default(), file, &surroundings(&[]))
    }

    #[test]
    fn without_settings_it_pools_the_local_engine() {
        let root = config("");
        assert_eq!(root.listen, [Listen::Unix("/run/flotilla.sock".into())]);
        assert_eq!(root.engines.len(), 1);
        assert_eq!(
            root.engines[0].endpoint.to_string(),
            "unix:///var/run/docker.sock"
        );
        assert_eq!(root.data, Path::new("/var/lib/flotilla"));
        assert_eq!(
            (root.drain, root.node_timeout),
            (duration_of(10), duration_of(3))
        );
        assert_eq!((root.max_body, root.names), (16 << 20, Names::Bare));
        assert_eq!(
            root.log,
            Log {
                format: LogFormat::Text,
                filter: "info".to_owned()
            }
        );

        let user = |variables| {
            let surroundings = Surroundings {
                root: false,
                ..surroundings(variables)
            };
            Config::resolve(Settings::default(), None, &surroundings)
        };
        let session = user(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/x")]);
        let session = session.expect("sound");
        assert_eq!(
            session.listen,
            [Listen::Unix("/run/user/7/flotilla.sock".into())]
        );
        assert_eq!(session.data, Path::new("/home/x/.local/share/flotilla"));
        let bare = user(&[]).expect_err("no place").to_string();
        assert!(bare.ends_with("--listen unix:///PATH"), "{bare}");
        let no_home = user(&[("XDG_RUNTIME_DIR", "/run/user/7")]).expect_err("no place");
        assert!(no_home.to_string().ends_with("--data DIR"), "{no_home}");
    }

    fn duration_of(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn flags_win_over_the_environment_over_the_file() {
        let file = "drain = 1\nnode-timeout = \"4s\"\nlog = \"warn\"\nlisten = \"unix:///f.sock\"";
        let variables = [
            ("FLOTILLA_DRAIN", "2"),
            ("FLOTILLA_NODE_TIMEOUT", "5s"),
            (
                "FLOTILLA_ENGINE",
                "a=tcp://10.0.0.1:2375, tcp://10.0.0.2:2375",
            ),
        ];
        let config = Config::resolve(
            flags("--drain 3"),
            Some((PathBuf::from("f.toml"), file.to_owned())),
            &surroundings(&variables),
        );
        let config = config.expect("sound");
        assert_eq!(
            (config.drain, config.node_timeout),
            (duration_of(3), duration_of(5))
        );
        assert_eq!(config.log.filter, "warn");
        assert_eq!(config.listen, [Listen::Unix("/f.sock".into())]);
        let engines: Vec<_> = config
            .engines
            .iter()
            .map(|engine| engine.endpoint.to_string())
            .collect();
        assert_eq!(engines, ["tcp://10.0.0.1:2375", "tcp://10.0.0.2:2375"]);
        let given = config.given_names();
        let given: Vec<_> = given.values().map(NodeName::as_str).collect();
        assert_eq!(given, ["a"]);
    }

    #[test]
    fn every_flag_is_a_variable_and_a_key() {
        let command = Settings::augment_args(Command::new("serve"));
        for arg in command.get_arguments() {
            let key = arg.get_long().expect("all flags are long");
            let value = match key {
                "listen" => "unix:///x.sock",
                "engine" => "tcp://x:1",
                "engine-tls" => "/x",
                "address" => "10.0.0.1",
                "data" => "/x",
                "names" => "node",
                "entry-point" => "off",
                "random-ports" => "4000-5000",
                "missing-bind" => "create",
                "pull-to" | "slots" => "2",
                "strategy" => "binpack",
                "survive-node-loss" => "warn",
                "reserve-cpu" | "overcommit" | "default-cpu" => "0.5",
                "reserve-memory" | "default-memory" => "64m",
                "log-format" => "json",
                "log" => "debug",
                "drain" | "node-timeout" => "7s",
                "max-body" => "1m",
                "api-advertise" => "1.44",
                _ => "x",
            };
            // What is for tcp:// engines only changes nothing without one.
            let base = match key {
                "engine-tls" => "--engine=tcp://x:1",
                _ => "",
            };
            let default = config(base);
            let flag = config(&format!("{base} --{key}={value}"));
            assert_ne!(flag, default, "--{key} changes nothing");
            let file = (PathBuf::from("f.toml"), format!("{key} = \"{value}\""));
            let file = Config::resolve(flags(base), Some(file), &surroundings(&[]));
            assert_eq!(file.expect(key), flag);
            let surroundings = surroundings(&[(&variable(key), value)]);
            let variable = Config::resolve(flags(base), None, &surroundings);
            assert_eq!(variable.expect(key), flag);
        }
    }

    #[test]
    fn a_file_is_told_what_is_wrong_with_it() {
        let problem = |content| from_file(content).expect_err(content).to_string();
        let unknown = problem("drain = 1\nlisen = \"unix:///x\"");
        assert!(
            unknown.starts_with("f.toml, line 2: unknown field `lisen`"),
            "{unknown}"
        );
        let kind = problem("drain = true");
        assert_eq!(kind, "f.toml, line 1: expected a text or a number");
        let count = problem("pull-to = \"0\"");
        assert_eq!(
            count,
            "`pull-to` in f.toml: `0` must be `all` or the number of nodes, 1 or more"
        );
        let strategy = problem("strategy = \"most\"");
        assert!(
            strategy.contains("it is spread, binpack or random"),
            "{strategy}"
        );
        let overcommit = problem("overcommit = \"5%\"");
        assert!(
            overcommit.ends_with("as in 0.05 for 5 % more"),
            "{overcommit}"
        );
        let cpus = problem("reserve-cpu = \"-1\"");
        assert!(
            cpus.ends_with("`-1` is no number of CPUs such as 2 or 0.5"),
            "{cpus}"
        );
        let slots = problem("slots = 0");
        assert!(
            slots.ends_with("`0` must be a number of containers, 1 or more"),
            "{slots}"
        );
        let value = problem("names = \"long\"");
        assert_eq!(value, "`names` in f.toml: `long` must be `bare` or `node`");
        let load = |path: &str| {
            let file = Some(PathBuf::from(path));
            Config::load(Settings::default(), file, &surroundings(&[]))
        };
        let missing = load("/nowhere/f.toml").expect_err("missing").to_string();
        assert!(
            missing.starts_with("cannot read the settings in /nowhere/f.toml: No such"),
            "{missing}"
        );
    }

    #[test]
    fn tcp_beyond_loopback_is_refused_with_a_way_out() {
        let loopback = config("--listen tcp://localhost:2375 --listen tcp://[::1]:2375");
        let shown: Vec<_> = loopback.listen.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["tcp://127.0.0.1:2375", "tcp://[::1]:2375"]);
        for open in [
            "tcp://0.0.0.0:2375",
            "tcp://[::]:2375",
            "tcp://10.0.0.5:2375",
        ] {
            let text = refused(&format!("--listen {open}"));
            assert!(
                text.starts_with(&format!("--listen: {open} can be reached")),
                "{text}"
            );
            assert!(
                text.ends_with("`ssh -L 2375:127.0.0.1:2375 HOST`"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_explained() {
        let check = |line: &str, expected: &str| assert_eq!(refused(line), expected);
        check(
            "--listen /x.sock",
            "--listen: /x.sock must begin with unix:// or tcp://",
        );
        check(
            "--listen unix://x.sock",
            "--listen: unix://x.sock is no path of a socket: it must be absolute, as in \
             unix:///run/flotilla.sock",
        );
        check(
            "--listen tcp://127.0.0.1",
            "--listen: tcp://127.0.0.1 must be an IP address and a port, as in \
             tcp://127.0.0.1:2375",
        );
        check(
            "--listen unix:///x --listen unix:///x",
            "--listen: unix:///x is given twice",
        );
        check(
            "--engine tcp://h:1 --engine a=tcp://h:1",
            "--engine: tcp://h:1 is given twice",
        );
        check(
            "--engine tcp://h:1 --engine tcp://h:1?tls=/x",
            "--engine: tcp://h:1 is given twice",
        );
        check(
            "--engine ssh://-h",
            "--engine: `ssh://-h` is not an engine's address: the host must begin with a letter or \
             digit and go on with these and ._-",
        );
        check(
            "--engine a=tcp://h:1 --engine a=tcp://i:1",
            "--engine: two engines are called a",
        );
        check(
            "--listen unix:///var/run/docker.sock",
            "--engine: unix:///var/run/docker.sock is where flotilla itself would listen: let one \
             of them be elsewhere",
        );
        check(
            "--listen tcp://127.0.0.1:1 --engine tcp://localhost:1",
            "--engine: tcp://localhost:1 is where flotilla itself would listen: let one of them be \
             elsewhere",
        );
        check("--data x", "--data: x must be an absolute path");
        check(
            "--node-timeout 1s",
            "--node-timeout: 1s is too short: nodes are asked once a second; give 2s or more",
        );
        check(
            "--drain soon",
            "--drain: `soon` is no time such as 10, 500ms or 1m 30s",
        );
        check(
            "--max-body 1x",
            "--max-body: `1x` is no size such as 16MiB, 512k or 4096",
        );
        check(
            "--max-body 0",
            "--max-body: `0` is no size such as 16MiB, 512k or 4096",
        );
        check(
            "--api-advertise 1.99",
            "--api-advertise: `1.99` is not an API version from 1.24 to 1.51",
        );
        assert!(refused("--log x=y=z").starts_with("--log: `x=y=z` is neither a level"));
        assert!(refused("--engine docker").starts_with("--engine: `docker` is not an engine's"));
        assert!(
            refused("--engine a/b=tcp://h:1").starts_with("--engine: `a/b` is not a node name")
        );
    }

    #[test]
    fn an_address_belongs_to_one_engine() {
        let only = config("--address 10.0.0.5");
        assert_eq!(only.engines[0].address.as_deref(), Some("10.0.0.5"));
        let two = "--engine a=tcp://h:1 --engine unix:///x=y.sock";
        let given = config(&format!("{two} --address a=fd00::1"));
        assert_eq!(given.engines[0].address.as_deref(), Some("fd00::1"));
        assert_eq!(given.engines[1].name, None);
        let check = |rest: &str, expected: &str| {
            assert_eq!(
                refused(&format!("{two} {rest}")),
                format!("--address: {expected}")
            );
        };
        check(
            "--address 10.0.0.5",
            "10.0.0.5 does not say which engine it is of: give NAME=10.0.0.5",
        );
        check(
            "--address b=10.0.0.5",
            "no engine was given the name b: use --engine b=ADDRESS",
        );
        check(
            "--address a=h",
            "`h` is not an IP address, as in host1=10.0.0.5",
        );
        check(
            "--address a=0.0.0.0",
            "0.0.0.0 is no address that a client could reach",
        );
        check(
            "--address a=10.0.0.5 --address a=10.0.0.6",
            "tcp://h:1 has two addresses",
        );
    }

    #[test]
    fn tls_is_for_the_engines_it_was_given_for() {
        let four = "--engine a=tcp://a:1 --engine b=tcp://b:1?tls=/own --engine c=tcp://c:1 \
                    --engine s=ssh://s --engine unix:///u.sock";
        let endpoints = |rest: &str| {
            let engines = config(&format!("{four} {rest}")).engines;
            let texts = engines.iter().map(|engine| engine.endpoint.to_string());
            texts.take(3).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(endpoints(""), "tcp://a:1 tcp://b:1?tls=/own tcp://c:1");
        assert_eq!(
            endpoints("--engine-tls /all --engine-tls c=none"),
            "tcp://a:1?tls=/all tcp://b:1?tls=/own tcp://c:1"
        );
        assert_eq!(
            endpoints("--engine-tls a=/x=y --engine-tls /al=l"),
            "tcp://a:1?tls=/x=y tcp://b:1?tls=/own tcp://c:1?tls=/al=l"
        );
        let check = |rest: &str, expected: &str| {
            let text = refused(&format!("{four} {rest}"));
            assert_eq!(text, format!("--engine-tls: {expected}"));
        };
        check(
            "--engine-tls d=/x",
            "no engine was given the name d: use --engine d=ADDRESS",
        );
        check("--engine-tls s=/x", "s is ssh://s: TLS is for tcp:// only");
        check(
            "--engine-tls /x --engine-tls /y",
            "there are two folders for all engines",
        );
        check("--engine-tls a=/x --engine-tls a=none", "a is given twice");
        check(
            "--engine-tls x",
            "`x` must be the absolute path of a folder, as in /etc/flotilla/tls, or host1=none",
        );
        check(
            "--engine-tls none",
            "`none` must be the absolute path of a folder, as in /etc/flotilla/tls, or host1=none",
        );
    }

    #[test]
    fn missing_tls_files_are_named_at_the_start() {
        let given = flags("--engine tcp://h:2376 --engine-tls /nowhere");
        let error = Config::load(given, None, &surroundings(&[])).expect_err("no files");
        assert_eq!(
            error.to_string(),
            "engine tcp://h:2376 is to be reached by TLS, which needs ca.pem, cert.pem and key.pem: \
             /nowhere/ca.pem: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn sizes_and_times_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64m", 64 << 20),
            ("16MiB", 16 << 20),
            ("1 gb", 1 << 30),
        ] {
            assert_eq!(read_size(text), Ok(bytes), "{text}");
        }
        assert_eq!(duration("90"), Ok(duration_of(90)));
        assert_eq!(duration("1m 30s"), Ok(duration_of(90)));
    }
}
