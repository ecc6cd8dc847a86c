//! The command line: what `flotilla` can be told to do.
//!
//! **Invariant**: nothing here does it; one file per command says what it takes.

mod serve;

use clap::{Parser, Subcommand};

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
    /// Print the version
    Version,
}

const EXAMPLES: &str = "\
Examples:
  Pool two hosts, and list the containers of both:
    flotilla serve --engine tcp://10.0.0.1:2375 --engine tcp://10.0.0.2:2375
    DOCKER_HOST=unix:///run/flotilla.sock docker ps

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
