//! The command line: what `flotilla` can be told to do.
//!
//! **Invariant**: one file per command says what it takes. `serve` is done by [`crate::app`]; all others are clients of a
//! running manager.

mod asking;
mod client;
mod explain;
mod node;
mod node_table;
mod plan;
mod serve;

use clap::{Parser, Subcommand};

pub use asking::Error;
pub use client::{Address, Error as ClientError};
pub use explain::Explain;
pub use node::Node;
pub use plan::Plan;
pub use serve::Serve;

/// A cluster of Docker hosts that answers as one Docker Engine
///
/// Point it at some engines and your Docker client at it: `docker run`, `docker compose` and every
/// SDK then work on all of them as if they were one.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `flotilla` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pool engines and serve Docker clients until told to stop
    ///
    /// Without settings it pools the engine of this machine. Each flag is also an environment
    /// variable (--node-timeout: FLOTILLA_NODE_TIMEOUT; lists are separated by commas) and a key of
    /// the file given with --config (node-timeout = "3s"). A flag wins over a variable, a variable
    /// over the file.
    Serve(Box<Serve>),
    /// List, add, remove and change the nodes of a running manager
    Node(Node),
    /// Show why a container is where it is, or why it fits nowhere
    Explain(Explain),
    /// Show what would be: whether containers would fit, and what could no longer run without a node
    ///
    /// Nothing is made or promised. All that runs on a lost node counts, or was created and has not run yet, whether or not it
    /// would be restarted elsewhere by itself.
    Plan(Plan),
    /// Print the version
    Version,
}

const EXAMPLES: &str = "\
Examples:
  Pool two hosts, and list the containers of both:
    flotilla serve --engine tcp://10.0.0.1:2375 --engine tcp://10.0.0.2:2375
    DOCKER_HOST=unix:///run/flotilla.sock docker ps

  See its nodes, and take in one more:
    flotilla node ls
    flotilla node add tcp://10.0.0.3:2375

  See what can be set:
    flotilla serve --help";

/// What `flotilla version` prints.
pub fn version() -> String {
    format!("flotilla {}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_settings_and_a_file() {
        let line = ["flotilla", "serve", "--config", "/f.toml", "--drain", "3"];
        let cli = Cli::try_parse_from(line).expect("valid");
        let Command::Serve(serve) = cli.command else {
            panic!("not serve")
        };
        assert_eq!(
            serve.config.as_deref(),
            Some(std::path::Path::new("/f.toml"))
        );
        assert_eq!(serve.settings.drain.as_deref(), Some("3"));
    }

    #[test]
    fn node_commands_take_the_managers_address_anywhere() {
        for line in [
            "-H unix:///x node ls",
            "node -H unix:///x ls",
            "node ls -H unix:///x",
        ] {
            let words = std::iter::once("flotilla").chain(line.split(' '));
            let read = Cli::try_parse_from(words);
            assert_eq!(read.is_ok(), !line.starts_with('-'), "{line}");
        }
        for wrong in [
            "node update a",
            "node update a --availability paused",
            "node rm",
            "node add",
            "node ls --format yaml",
            "node ls --filter state=down",
        ] {
            let words = std::iter::once("flotilla").chain(wrong.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{wrong}");
        }
    }

    #[test]
    fn help_shows_how_to_begin() {
        let serve = Cli::command()
            .find_subcommand("serve")
            .expect("there")
            .clone();
        for help in [Cli::command().render_help(), { serve }.render_long_help()] {
            assert!(help.to_string().contains("DOCKER_HOST="), "{help}");
        }
        let mut serve = Cli::command()
            .find_subcommand("serve")
            .expect("there")
            .clone();
        assert!(
            serve
                .render_long_help()
                .to_string()
                .contains("FLOTILLA_NODE_TIMEOUT")
        );
    }
}
