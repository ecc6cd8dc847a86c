//! `flotilla serve`.

use std::path::PathBuf;

use clap::Args;

use crate::config::{Config, Error, Settings, Surroundings};

/// What `flotilla serve` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Serve {
    /// Read settings from this TOML file [env: FLOTILLA_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The settings themselves.
    #[command(flatten)]
    pub settings: Settings,
}

impl Serve {
    /// Reads and checks all settings.
    pub fn resolve(self) -> Result<Config, Error> {
        Config::load(self.settings, self.config, &Surroundings::of_this_process())
    }
}

const EXAMPLES: &str = "\
Examples:
  Try it on this machine alone:
    flotilla serve
    DOCKER_HOST=unix:///run/flotilla.sock docker run --rm hello-world

  Pool this machine and another one, under names of your choice:
    flotilla serve --engine here=unix:///var/run/docker.sock \\
                   --engine there=tcp://10.0.0.2:2375 --address here=10.0.0.1

  Reach engines by TLS, with the ca.pem, cert.pem and key.pem in a folder, and by ssh:
    flotilla serve --engine-tls /etc/flotilla/tls --engine tcp://10.0.0.2:2376 \\
                   --engine build=ssh://ci@10.0.0.3

  Listen on TCP too:
    flotilla serve --listen unix:///run/flotilla.sock --listen tcp://127.0.0.1:2375

  The same from a file, `flotilla serve --config /etc/flotilla.toml`:
    listen = [\"unix:///run/flotilla.sock\", \"tcp://127.0.0.1:2375\"]
    engine = [\"here=unix:///var/run/docker.sock\", \"there=tcp://10.0.0.2:2375\"]
    address = \"here=10.0.0.1\"";
