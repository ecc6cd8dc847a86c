//! `cargo demo`: three throw-away engines, a manager over them, and a short tour with the stock Docker CLI.

#![expect(
    clippy::print_stdout,
    reason = "a command line tool talks on standard output"
)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use integration::client::Docker;
use integration::flotilla::Flotilla;
use integration::install;
use integration::lab::{EngineVersion, Host, Lab, Spec};
use integration::wait;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Three throw-away Docker engines pooled by Flotilla, and a short tour with the stock CLI.
#[derive(Debug, Parser)]
#[command(name = "cargo demo")]
struct Arguments {
    /// End after the tour instead of staying up.
    #[arg(long)]
    once: bool,
}

/// An engine that is killed is noticed within two seconds; a busy machine may take longer.
const NOTICED: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    // The alias puts a `--` in front, and many users write another.
    let arguments = std::env::args().filter(|argument| argument != "--");
    let arguments = Arguments::parse_from(arguments);
    match run(arguments.once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(once: bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    // Signals count from here on: one that comes during the tour ends the demo right after.
    let (interrupt, terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    println!("Starting three Docker engines, each a host of its own …");
    let lab = Lab::start(&Spec::hosts(3))?;
    for host in lab.hosts() {
        println!(
            "  {}  {}  docker {}",
            host.name(),
            host.tcp(),
            host.version()?
        );
    }
    println!("Starting a manager that pools them …");
    let mut flotilla = Flotilla::start(&lab.endpoints(), &[])?;
    let toured = tour(&lab, &flotilla);
    if toured.is_ok() && !once {
        stay(&flotilla)?;
        runtime.block_on(until_told(interrupt, terminate));
        println!("\nEnding the demo.");
    }
    let stopped = flotilla.stop();
    lab.end()?;
    toured.and(stopped)
}

fn tour(lab: &Lab, flotilla: &Flotilla) -> Result<()> {
    let docker = flotilla.docker()?;
    heading("One endpoint, three hosts");
    shown(
        &docker,
        &[
            "version",
            "--format",
            "{{.Server.Platform.Name}}, engine {{.Server.Version}}",
        ],
    )?;
    node_table(&docker)?;
    heading("Containers spread over the hosts");
    for name in ["one", "two", "three"] {
        shown(
            &docker,
            &["run", "-d", "--name", name, "busybox", "sleep", "3600"],
        )?;
    }
    let table = "table {{.Names}}\t{{.Status}}\t{{.Label \"com.flotilla.node\"}}";
    let listed = shown(&docker, &["ps", "--format", table])?;
    for host in lab.hosts() {
        if !listed.contains(host.name()) {
            bail!("nothing runs on {}", host.name());
        }
    }
    heading("Each is found wherever it runs");
    shown(
        &docker,
        &["exec", "two", "echo", "hello from container two"],
    )?;
    shown(
        &docker,
        &[
            "inspect",
            "--format",
            "{{.Name}} is on {{.Node.Name}} at {{.Node.IP}}",
            "three",
        ],
    )?;
    shown(
        &docker,
        &[
            "run",
            "--rm",
            "busybox",
            "echo",
            "one that leaves by itself",
        ],
    )?;
    heading("What fits nowhere says why, host by host");
    refused(
        &docker,
        &["run", "-d", "--memory", "999g", "busybox", "true"],
    )?;
    heading("A host dies");
    let lost = lab.host(2);
    println!("(the engine of {} is killed)", lost.name());
    lost.kill_engine()?;
    wait_until_lost(&docker, lost)?;
    shown(&docker, &["ps", "-a", "--format", table])?;
    shown(
        &docker,
        &["run", "--rm", "busybox", "echo", "new work goes elsewhere"],
    )?;
    println!("(it is started again)");
    lost.start_engine()?;
    wait::until_true("the host in the list again", NOTICED, || {
        Ok(!docker.run(&["ps", "-a"])?.ok()?.contains("Host Down"))
    })?;
    shown(&docker, &["ps", "-a", "--format", table])?;
    shown(&docker, &["rm", "-f", "one", "two", "three"]).map(drop)
}

fn wait_until_lost(docker: &Docker, host: &Host) -> Result<()> {
    let what = format!("the loss of {}", host.name());
    wait::until_true(&what, NOTICED, || {
        Ok(docker.run(&["ps", "-a"])?.ok()?.contains("Host Down"))
    })
}

fn heading(text: &str) {
    println!("\n── {text} ──");
}

/// Runs the stock CLI and shows what was typed and what came of it.
fn shown(docker: &Docker, arguments: &[&str]) -> Result<String> {
    println!("$ docker {}", typed(arguments));
    let output = docker.run(arguments)?.ok()?;
    println!("{output}");
    Ok(output)
}

/// Of `docker info`, the part that only a pool has.
fn node_table(docker: &Docker) -> Result<()> {
    println!("$ docker info");
    let info = docker.run(&["info"])?.ok()?;
    let table = info
        .lines()
        .skip_while(|line| !line.starts_with(" Nodes:"))
        .take_while(|line| !line.starts_with(" Logging Driver:"));
    for line in table {
        println!("{line}");
    }
    println!(" …");
    Ok(())
}

/// Shows a command that must be refused.
fn refused(docker: &Docker, arguments: &[&str]) -> Result<()> {
    println!("$ docker {}", typed(arguments));
    let refusal = docker.run(arguments)?.refusal()?;
    println!("{}", refusal.lines().next().unwrap_or_default());
    Ok(())
}

/// The arguments as one would type them.
fn typed(arguments: &[&str]) -> String {
    let quoted = |argument: &&str| match argument.contains([' ', '{', '\t']) {
        true => format!("'{}'", argument.replace('\t', "\\t")),
        false => (*argument).to_owned(),
    };
    arguments.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// What to type in another terminal.
fn stay(flotilla: &Flotilla) -> Result<()> {
    let programs = install::engine(EngineVersion::Current)?;
    println!("\n── Your turn, in another terminal ──");
    println!("export DOCKER_HOST={}", flotilla.tcp());
    println!("docker run --rm busybox hostname");
    println!(
        "(if there is no docker there: {}; Ctrl-C here ends everything)",
        programs.program("docker")?.display()
    );
    Ok(())
}

async fn until_told(mut interrupt: Signal, mut terminate: Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
