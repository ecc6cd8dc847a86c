//! Which engines are pooled, and how each is reached.
//!
//! **Invariant**: no two engines have one name or one place, and none is where the manager itself would listen.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{Error, Listen, Origin, Sources};
use crate::engine::{Endpoint, check_tls_files};
use crate::model::NodeName;

/// One engine to pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The name its node gets; otherwise the engine's hostname.
    pub name: Option<NodeName>,
    /// Where it listens.
    pub endpoint: Endpoint,
    /// What its published ports are shown with; otherwise the endpoint's host, if it has one.
    pub address: Option<String>,
    /// Nobody gave any, so the machine's own is taken; but a cluster that has nodes needs none.
    pub assumed: bool,
}

impl Engine {
    fn is_called(&self, name: &str) -> bool {
        self.name.as_ref().is_some_and(|own| own.as_str() == name)
    }
}

pub(super) fn engines(sources: &Sources, listen: &[Listen]) -> Result<Vec<Engine>, Error> {
    let (texts, origin) = sources.many("engine", |from| &from.engine);
    let mut engines = Vec::new();
    let wrong = |problem| setting(&origin, problem);
    for text in texts {
        let engine = engine(text).map_err(&wrong)?;
        check_engine(&engine, &engines, listen).map_err(&wrong)?;
        engines.push(engine);
    }
    if engines.is_empty() {
        let endpoint = Endpoint::Unix("/var/run/docker.sock".into());
        let local = Engine {
            name: None,
            endpoint,
            address: None,
            assumed: true,
        };
        check_engine(&local, &engines, listen).map_err(&wrong)?;
        engines.push(local);
    }
    let (texts, origin) = sources.many("address", |from| &from.address);
    for text in texts {
        give_address(text, &mut engines).map_err(|problem| setting(&origin, problem))?;
    }
    let (texts, origin) = sources.many("engine-tls", |from| &from.engine_tls);
    give_tls(texts, &mut engines).map_err(|problem| setting(&origin, problem))?;
    Ok(engines)
}

fn setting(origin: &Origin, problem: String) -> Error {
    Error::Setting {
        origin: origin.clone(),
        problem,
    }
}

/// `[NAME=]ADDRESS`: an equals sign after the scheme belongs to the address.
fn engine(text: &str) -> Result<Engine, String> {
    let scheme = text.find("://").unwrap_or(text.len());
    let (name, endpoint) = match text.get(..scheme).and_then(|before| before.split_once('=')) {
        Some((name, _)) => {
            let rest = text.get(name.len() + 1..).unwrap_or_default();
            (
                Some(
                    name.parse::<NodeName>()
                        .map_err(|error| error.to_string())?,
                ),
                rest,
            )
        }
        None => (None, text),
    };
    let endpoint = endpoint
        .parse::<Endpoint>()
        .map_err(|error| error.to_string())?;
    Ok(Engine {
        name,
        endpoint,
        address: None,
        assumed: false,
    })
}

fn check_engine(engine: &Engine, before: &[Engine], listen: &[Listen]) -> Result<(), String> {
    let Engine { name, endpoint, .. } = engine;
    let shown = endpoint.shown();
    if before.iter().any(|other| other.endpoint.shown() == shown) {
        return Err(format!("{shown} is given twice"));
    }
    if let Some(name) = name
        && before.iter().any(|other| other.name.as_ref() == Some(name))
    {
        return Err(format!("two engines are called {name}"));
    }
    let itself = match endpoint {
        Endpoint::Unix(path) => listen.contains(&Listen::Unix(path.clone())),
        Endpoint::Ssh(_) => false,
        Endpoint::Tcp { host, port, .. } => listen.iter().any(|listen| match listen {
            Listen::Unix(_) => false,
            Listen::Tcp(address) => {
                let host = if host == "localhost" {
                    "127.0.0.1"
                } else {
                    host
                };
                *port == address.port() && host.parse() == Ok(address.ip())
            }
        }),
    };
    if itself {
        return Err(format!(
            "{shown} is where flotilla itself would listen: let one of them be elsewhere"
        ));
    }
    Ok(())
}

fn give_address(text: &str, engines: &mut [Engine]) -> Result<(), String> {
    let (name, address) = match text.split_once('=') {
        Some((name, address)) => (Some(name), address),
        None => (None, text),
    };
    let address: IpAddr = address
        .parse()
        .map_err(|_| format!("`{address}` is not an IP address, as in host1=10.0.0.5"))?;
    if address.is_unspecified() {
        return Err(format!("{address} is no address that a client could reach"));
    }
    let engine = match (name, &mut *engines) {
        (None, [only]) => only,
        (None, _) => {
            return Err(format!(
                "{text} does not say which engine it is of: give NAME={text}"
            ));
        }
        (Some(name), engines) => engines
            .iter_mut()
            .find(|engine| engine.is_called(name))
            .ok_or_else(|| nobody_is_called(name))?,
    };
    if engine.address.is_some() {
        return Err(format!("{} has two addresses", engine.endpoint.shown()));
    }
    engine.address = Some(address.to_string());
    Ok(())
}

/// `[NAME=]DIR` or `NAME=none`. What an endpoint says itself counts most, then what was given for its name.
fn give_tls(texts: &[String], engines: &mut [Engine]) -> Result<(), String> {
    let given = texts
        .iter()
        .map(|text| tls(text))
        .collect::<Result<Vec<_>, _>>()?;
    for (at, tls) in given.iter().enumerate() {
        if given[..at].iter().any(|before| before.name == tls.name) {
            return Err(match &tls.name {
                Some(name) => format!("{name} is given twice"),
                None => "there are two folders for all engines".to_owned(),
            });
        }
        let Some(name) = tls.name else { continue };
        let engine = engines.iter().find(|engine| engine.is_called(name));
        let engine = engine.ok_or_else(|| nobody_is_called(name))?;
        if !matches!(engine.endpoint, Endpoint::Tcp { .. }) {
            let place = engine.endpoint.shown();
            return Err(format!("{name} is {place}: TLS is for tcp:// only"));
        }
    }
    for engine in engines {
        let own = |tls: &&Tls<'_>| tls.name.is_some_and(|name| engine.is_called(name));
        let all = |tls: &&Tls<'_>| tls.name.is_none();
        let given = given.iter().find(own).or_else(|| given.iter().find(all));
        if let Endpoint::Tcp { tls, .. } = &mut engine.endpoint
            && tls.is_none()
        {
            *tls = given.and_then(|given| given.dir.clone());
        }
    }
    Ok(())
}

/// Which files are for whom.
struct Tls<'a> {
    /// One engine; none for all.
    name: Option<&'a str>,
    /// None takes the engine out.
    dir: Option<PathBuf>,
}

fn tls(text: &str) -> Result<Tls<'_>, String> {
    let (name, dir) = match text.split_once('=') {
        // An equals sign in a path belongs to the path.
        Some((name, dir)) if !name.contains('/') => (Some(name), dir),
        _ => (None, text),
    };
    if name.is_some() && dir == "none" {
        return Ok(Tls { name, dir: None });
    }
    if !dir.starts_with('/') {
        return Err(format!(
            "`{dir}` must be the absolute path of a folder, as in /etc/flotilla/tls, or host1=none"
        ));
    }
    let dir = Some(PathBuf::from(dir));
    Ok(Tls { name, dir })
}

fn nobody_is_called(name: &str) -> String {
    format!("no engine was given the name {name}: use --engine {name}=ADDRESS")
}

/// Whether each engine that is reached by TLS can be, as far as this machine's files go.
pub(super) fn check_files(engines: &[Engine]) -> Result<(), Error> {
    for engine in engines {
        if let Endpoint::Tcp { tls: Some(dir), .. } = &engine.endpoint {
            check_tls_files(dir).map_err(|problem| Error::Tls {
                engine: engine.endpoint.shown(),
                problem,
            })?;
        }
    }
    Ok(())
}
