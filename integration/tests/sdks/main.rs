//! Programs that use Docker through an SDK, unmodified, over three real engines behind one manager, and over a fourth
//! engine alone: the same program, told nothing but the endpoint, must end well with both.
//!
//! docker-py and dockerode are of the major version that the programs were written for; bollard is what the product itself is built with. The
//! Go client is the stock CLI's and compose's own: `tests/cli` is its test. To add a client, write its program so that it
//! exits with 0 if all is well, and enter it in [`CLIENTS`].
//!
//! **Invariant**: no program knows which of the two it talks to.

mod bollard;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context, Result, anyhow};
use integration::client::Docker;
use integration::harness::{self, case};
use integration::install;
use integration::lab::{Host, Lab, Spec};
use integration::pool::Pool;

/// A client: its name in sentences, and how its program is run against the endpoint of a CLI.
type Client = (&'static str, fn(&Docker) -> Result<()>);

const CLIENTS: [Client; 3] = [
    ("docker_py", docker_py),
    ("dockerode", dockerode),
    ("bollard", bollard::run),
];

fn main() -> ExitCode {
    let cases = CLIENTS.into_iter().map(|(name, run)| {
        case(&format!("{name}_works_with_a_pool_as_with_an_engine"), {
            move |lab| with_both(lab, run)
        })
    });
    harness::main(Spec::hosts(4), cases.collect())
}

/// Runs a program against the last host of the lab, and at the same time against a pool of the others.
fn with_both(lab: &Lab, run: fn(&Docker) -> Result<()>) -> Result<()> {
    let (engine, pooled) = lab.hosts().split_last().context("a lab without hosts")?;
    let endpoints: Vec<String> = pooled.iter().map(Host::tcp).collect();
    let pool = Pool::of(&endpoints, &[])?;
    let (alone, together) = thread::scope(|scope| {
        let alone = scope.spawn(|| run(engine.client()));
        let together = run(pool.docker());
        (alone.join(), together)
    });
    alone
        .unwrap_or_else(|_| Err(anyhow!("it panicked")))
        .context("with an engine")?;
    together.context("with a pool")
}

fn docker_py(docker: &Docker) -> Result<()> {
    let mut python = Command::new(install::docker_py()?);
    python.arg(program("docker_py.py"));
    finish(docker, &mut python)
}

fn dockerode(docker: &Docker) -> Result<()> {
    let mut node = Command::new("node");
    node.arg(program("dockerode.mjs"))
        .current_dir(install::dockerode()?);
    finish(docker, &mut node)
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sdks")
        .join(name)
}

/// Runs a program with the endpoint in its environment, as a user would, and nothing else of Docker's.
fn finish(docker: &Docker, program: &mut Command) -> Result<()> {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOCKER_") {
            program.env_remove(&name);
        }
    }
    program.env("DOCKER_HOST", docker.endpoint());
    docker.finish(program, b"")?.ok().map(drop)
}
