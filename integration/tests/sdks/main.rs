//! Programs that use Docker through an SDK, unmodified, over three real engines behind one manager, and over a fourth
//! engine alone: the same program, told nothing but the endpoint, must end well with both.
//!
//! docker-py, dockerode and testcontainers are of the major version that the programs were written for; bollard is what
//! the product itself is built with. The Go client is the stock CLI's and compose's own: `tests/cli` is its test. To add
//! a client, write its program so that it exits with 0 if all is well, and enter it in [`CLIENTS`].
//!
//! **Invariant**: no program knows which of the two it talks to.

mod bollard;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use integration::client::Docker;
use integration::harness::{self, case};
use integration::install;
use integration::lab::{Host, Lab, Spec};
use integration::pool::Pool;

/// A program takes half a minute on a calm machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A client: its name in sentences, and how its program is run against the endpoint of a CLI.
type Client = (&'static str, fn(&Docker) -> Result<()>);

const CLIENTS: [Client; 5] = [
    ("docker_py", docker_py),
    ("dockerode", dockerode),
    ("testcontainers_python", testcontainers_python),
    ("testcontainers_node", testcontainers_node),
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
    python(docker, &install::docker_py()?, "docker_py.py")
}

fn testcontainers_python(docker: &Docker) -> Result<()> {
    python(
        docker,
        &install::testcontainers_python()?,
        "testcontainers_python.py",
    )
}

fn dockerode(docker: &Docker) -> Result<()> {
    node(docker, &install::dockerode()?, "dockerode.mjs")
}

fn testcontainers_node(docker: &Docker) -> Result<()> {
    node(
        docker,
        &install::testcontainers_node()?,
        "testcontainers_node.mjs",
    )
}

fn python(docker: &Docker, python: &Path, name: &str) -> Result<()> {
    // Nothing is written beside the programs.
    finish(docker, Command::new(python).arg("-B").arg(program(name)))
}

fn node(docker: &Docker, folder: &Path, name: &str) -> Result<()> {
    let mut node = Command::new("node");
    finish(docker, node.arg(program(name)).current_dir(folder))
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sdks")
        .join(name)
}

/// Runs a program to its end, as a user of this endpoint would.
fn finish(docker: &Docker, program: &mut Command) -> Result<()> {
    docker.point(program)?;
    let docker = docker.clone().patience(PATIENCE);
    docker.finish(program, b"")?.ok().map(drop)
}
