//! `lab`: real engines on this machine, for people.

#![expect(
    clippy::print_stdout,
    reason = "a command line tool talks on standard output"
)]

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use integration::install;
use integration::lab::{self, EngineVersion, HostSpec, Lab, Spec};
use tokio::signal::unix::{SignalKind, signal};

/// Real Docker engines on this machine, each in namespaces of its own.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Start hosts, show their endpoints, and end them at Ctrl-C.
    Up {
        /// How many hosts with the current engine.
        #[arg(long, default_value_t = 3)]
        hosts: usize,
        /// How many further hosts with the old engine (20.10).
        #[arg(long, default_value_t = 0)]
        old: usize,
        /// How many further hosts with the current engine and TLS.
        #[arg(long, default_value_t = 0)]
        tls: usize,
        /// How many further hosts with the current engine and sshd.
        #[arg(long, default_value_t = 0)]
        ssh: usize,
        /// Keep logs and data in the lab folder, under `kept`.
        #[arg(long)]
        keep: bool,
    },
    /// Remove what labs left whose owner was killed, and what was kept.
    Clean,
    /// Fetch engines, CLI and image now.
    Install,
    /// Say whether a lab is possible here, and why not.
    Doctor,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Task::Up {
            hosts,
            old,
            tls,
            ssh,
            keep,
        } => {
            let mut spec = Spec::hosts(hosts);
            spec.hosts.extend(vec![HostSpec::old(); old]);
            spec.hosts.extend(vec![HostSpec::default().tls(); tls]);
            spec.hosts.extend(vec![HostSpec::default().ssh(); ssh]);
            spec.keep = keep;
            up(&spec)
        }
        Task::Clean => clean(),
        Task::Install => prepare(),
        Task::Doctor => doctor(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn up(spec: &Spec) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    // Signals count from here on: one that comes while the hosts start ends them right after.
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        )
    };
    let lab = Lab::start(spec)?;
    for host in lab.hosts() {
        println!(
            "{:8} {:26} {}  docker {}",
            host.name(),
            host.tcp(),
            host.unix(),
            host.version()?
        );
    }
    if lab.hosts().iter().any(|host| host.spec().tls) {
        println!("\nfor TLS: --engine-tls {}", lab.tls().display());
    }
    if let Ok(ssh) = lab.ssh() {
        println!("\nfor ssh: export PATH={}:$PATH", ssh.path().display());
        for host in lab.hosts().iter().filter(|host| host.spec().ssh) {
            println!("{:8} {}", host.name(), host.ssh());
        }
    }
    println!("\nlogs and data: {}", lab.folder().display());
    if let Some(host) = lab.hosts().first() {
        let programs = install::engine(EngineVersion::Current)?.program("docker")?;
        println!(
            "try: export DOCKER_HOST={}; {} run --rm busybox hostname",
            host.tcp(),
            programs.display()
        );
    }
    println!("Ctrl-C ends the lab.");
    runtime.block_on(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    println!("ending the lab");
    lab.end()
}

fn clean() -> Result<()> {
    let swept = lab::sweep()?;
    let kept = install::folder().join("kept");
    if kept.exists() {
        std::fs::remove_dir_all(&kept)
            .with_context(|| format!("cannot remove {}", kept.display()))?;
    }
    println!("{swept} labs without an owner removed");
    Ok(())
}

fn prepare() -> Result<()> {
    for version in [EngineVersion::Current, EngineVersion::Old] {
        println!(
            "{version:?}: programs below {}",
            install::engine(version)?.root().display()
        );
    }
    println!("ssh: programs below {}", install::ssh()?.root().display());
    println!("image: {}", install::busybox()?.display());
    Ok(())
}

fn doctor() -> Result<()> {
    match lab::unavailable() {
        Some(reason) => Err(reason.into()),
        None => {
            println!(
                "a lab is possible here; `lab install` fetches what it needs to {}",
                install::folder().display()
            );
            Ok(())
        }
    }
}
