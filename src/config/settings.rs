//! The settings as they are written, and in what order their sources count.
//!
//! **Invariant**: nothing here says what a text means.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;

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
    #[serde(deserialize_with = "text")]
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
    /// spread takes the node with most left of CPU or memory, whichever is scarcer there; binpack the one with least left of
    /// both together. A container may ask for another with --label com.flotilla.strategy=WORD.
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
    /// Whether what the containers of any one node claim (CPU, memory, GPUs) would find room on the others. Containers with
    /// local volumes, named or not, do not count: they cannot move.
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
    pub(super) fn from_env(variables: &BTreeMap<String, String>) -> Self {
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

    pub(super) fn from_file(path: &Path, content: &str) -> Result<Self, Error> {
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
pub(super) fn variable(key: &str) -> String {
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
        Whole(i64),
        Decimal(f64),
    }
    Ok(Some(match TextOrNumber::deserialize(from)? {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Whole(number) => number.to_string(),
        // In the fewest digits that mean it: 0.1 stays 0.1.
        TextOrNumber::Decimal(number) => number.to_string(),
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

/// The three places that settings are written in, the one that wins first.
pub(super) struct Sources {
    pub(super) flags: Settings,
    pub(super) variables: Settings,
    pub(super) file: Option<(Settings, PathBuf)>,
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

    pub(super) fn one<T>(
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
    pub(super) fn many(
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
