//! `flotilla node …`: the nodes of a running manager.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::asking::{Error, ask};
use super::client::Client;
use super::node_table::{Filter, is_wanted, table};
use crate::api::{self, AddNode, NODES, UpdateNode};
use crate::clock;
use crate::model::Availability;

/// What `flotilla node` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Node {
    /// The manager's address: unix:///PATH or tcp://HOST:PORT [env: FLOTILLA_HOST, else DOCKER_HOST] [default: where
    /// `flotilla serve` listens if it is not told where]
    #[arg(short = 'H', long, global = true, value_name = "ADDRESS")]
    host: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the nodes, and the engines that have not joined yet
    ///
    /// CPUS and MEMORY show what containers have reserved, and what the node has.
    #[command(visible_alias = "list")]
    Ls(Ls),
    /// Take an engine into the cluster
    ///
    /// Prints the name of the new node. Containers of this cluster that its engine has are found again under their names;
    /// so a node that was removed can be brought back. The engine must answer now.
    Add(Add),
    /// Take nodes out of the cluster
    ///
    /// Nothing is removed from their engines. The manager remembers it: an engine that its settings name (--engine) is not
    /// taken in again at the next start, but only by `flotilla node add`.
    #[command(visible_alias = "remove")]
    Rm(Rm),
    /// Change labels, availability or address of a node
    Update(Update),
    /// Show all that is known of nodes, as JSON
    Inspect(Inspect),
}

#[derive(Debug, Args)]
struct Ls {
    /// Print one JSON object a line instead of a table
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["table", "json"]))]
    format: Option<String>,

    /// Print names only; engines that have not joined have none
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,

    /// Show only nodes with this name=, status=, availability= or label=KEY[=VALUE]; may be given more than once
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = Filter::read)]
    filter: Vec<Filter>,
}

#[derive(Debug, Args)]
struct Add {
    /// Where the engine listens, seen from the manager: tcp://HOST:PORT, with ?tls=DIR behind it for TLS,
    /// ssh://USER@HOST, or unix:///PATH
    endpoint: String,

    /// Call the node so [default: as the manager's settings call it, else its hostname]
    #[arg(long)]
    name: Option<String>,

    /// Show its published ports with this IP address [default: the host of its endpoint]
    #[arg(long, value_name = "IP")]
    address: Option<String>,

    /// Give it a label; may be given more than once
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
}

#[derive(Debug, Args)]
struct Rm {
    /// The nodes, by name or id
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,

    /// Also if it has containers of the cluster: they stay on its engine as they are, and are no longer the cluster's;
    /// their names become free
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
struct Update {
    /// The node, by name or id
    node: String,

    /// Give it a label, or a label another value; may be given more than once
    #[arg(long = "label-add", group = "change", value_name = "KEY=VALUE")]
    add_labels: Vec<String>,

    /// Take a label from it; may be given more than once
    #[arg(long = "label-rm", group = "change", value_name = "KEY")]
    remove_labels: Vec<String>,

    /// Whether it takes new containers: active does; pause and drain do not, and keep what they have
    #[arg(long, group = "change", value_name = "WORD", value_parser = PossibleValuesParser::new(["active", "pause", "drain"]))]
    availability: Option<String>,

    /// Show its published ports with this IP address
    #[arg(long, group = "change", value_name = "IP")]
    address: Option<String>,
}

#[derive(Debug, Args)]
struct Inspect {
    /// The nodes, by name or id
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  See what the cluster consists of:
    flotilla node ls

  Take in an engine, with a label that containers can ask for:
    flotilla node add tcp://10.0.0.3:2375 --name gamma --label zone=b
    docker run -d -e constraint:zone==b nginx

  Take in engines by TLS, with the files of a folder at the manager, and by ssh:
    flotilla node add tcp://10.0.0.4:2376?tls=/etc/flotilla/tls
    flotilla node add ssh://ci@10.0.0.5

  Let a node take nothing new, and take it out once its containers are gone:
    flotilla node update gamma --availability drain
    flotilla node rm gamma

  A manager elsewhere:
    flotilla node ls --host tcp://127.0.0.1:2375";

impl Node {
    /// Does it, and prints to `out`.
    pub fn run(self, out: &mut impl Write) -> Result<(), Error> {
        ask(self.host.as_deref(), async |client| match self.command {
            Command::Ls(ls) => ls.run(client, out).await,
            Command::Add(add) => add.run(client, out).await,
            Command::Rm(rm) => rm.run(client, out).await,
            Command::Update(update) => update.run(client, out).await,
            Command::Inspect(inspect) => inspect.run(client, out).await,
        })
    }
}

impl Ls {
    async fn run(self, client: &Client, out: &mut impl Write) -> Result<(), Error> {
        let mut nodes: Vec<api::Node> = client.get(NODES).await?;
        nodes.retain(|node| is_wanted(node, &self.filter));
        if self.quiet {
            for name in nodes.iter().filter_map(|node| node.spec.name.as_ref()) {
                writeln!(out, "{name}")?;
            }
        } else if self.format.as_deref() == Some("json") {
            for node in &nodes {
                writeln!(
                    out,
                    "{}",
                    serde_json::to_string(node).map_err(io::Error::from)?
                )?;
            }
        } else {
            write!(out, "{}", table(&nodes, clock::now()))?;
        }
        Ok(())
    }
}

impl Add {
    async fn run(self, client: &Client, out: &mut impl Write) -> Result<(), Error> {
        let asked = AddNode {
            endpoint: self.endpoint,
            name: self.name,
            address: self.address,
            labels: labels(&self.labels)?,
        };
        let added: api::Node = client.post(NODES, &asked).await?;
        writeln!(out, "{}", added.spec.name.unwrap_or_default())?;
        Ok(())
    }
}

impl Rm {
    async fn run(self, client: &Client, out: &mut impl Write) -> Result<(), Error> {
        let force = if self.force { "?force=1" } else { "" };
        let mut failed = Vec::new();
        for node in &self.nodes {
            match client.delete(&format!("{}{force}", path(node))).await {
                Ok(()) => writeln!(out, "{node}")?,
                Err(error) => failed.push(error),
            }
        }
        match failed.len() {
            0 => Ok(()),
            _ => Err(Error::Some(failed)),
        }
    }
}

impl Update {
    async fn run(self, client: &Client, out: &mut impl Write) -> Result<(), Error> {
        let availability = self.availability.map(|word| match word.as_str() {
            "pause" => Availability::Pause,
            "drain" => Availability::Drain,
            _ => Availability::Active,
        });
        let asked = UpdateNode {
            add_labels: labels(&self.add_labels)?,
            remove_labels: self.remove_labels.into_iter().collect(),
            availability,
            address: self.address,
        };
        let path = format!("{}/update", path(&self.node));
        let _: api::Node = client.post(&path, &asked).await?;
        writeln!(out, "{}", self.node)?;
        Ok(())
    }
}

impl Inspect {
    async fn run(self, client: &Client, out: &mut impl Write) -> Result<(), Error> {
        let mut found: Vec<api::Node> = Vec::new();
        let mut failed = Vec::new();
        for node in &self.nodes {
            match client.get(&path(node)).await {
                Ok(node) => found.push(node),
                Err(error) => failed.push(error),
            }
        }
        let text = serde_json::to_string_pretty(&found).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
        match failed.len() {
            0 => Ok(()),
            _ => Err(Error::Some(failed)),
        }
    }
}

fn path(node: &str) -> String {
    format!("{NODES}/{}", utf8_percent_encode(node, NON_ALPHANUMERIC))
}

/// `KEY=VALUE`; `KEY` alone has an empty value, as Docker has it.
fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let read = |text: &String| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if key.is_empty() {
            return Err(Error::Label(text.clone()));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_keys_and_values() {
        let read = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            labels(&texts).map(|labels| format!("{labels:?}"))
        };
        let all = read(&["zone=b", "expr=a==b", "bare"]).expect("labels");
        assert_eq!(all, r#"{"bare": "", "expr": "a==b", "zone": "b"}"#);
        let said = read(&["=b"]).expect_err("no key").to_string();
        assert_eq!(said, "`=b` is no label: give KEY=VALUE");
    }

    #[test]
    fn any_name_is_one_segment_of_a_path() {
        assert_eq!(path("host1"), "/flotilla/v1/nodes/host1");
        assert_eq!(path("a/../b?c"), "/flotilla/v1/nodes/a%2F%2E%2E%2Fb%3Fc");
    }
}
