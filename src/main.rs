//! Arguments, logging, settings, runtime, exit code.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use flotilla::cli::{Cli, Command, version};
use flotilla::config::{Config, Log, LogFormat};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(flags) => flags.resolve().map_err(Into::into).and_then(serve),
        Command::Node(node) => node.run(&mut io::stdout().lock()).map_err(Into::into),
        Command::Explain(explain) => explain.run(&mut io::stdout().lock()).map_err(Into::into),
        Command::Plan(plan) => plan.run(&mut io::stdout().lock()).map_err(Into::into),
        Command::Version => writeln!(io::stdout(), "{}", version()).map_err(Into::into),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With nobody left to read it there is nobody to tell.
            let _ = writeln!(io::stderr(), "flotilla: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: Config) -> anyhow::Result<()> {
    log_to_stderr(&config.log)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| anyhow::anyhow!("cannot start the runtime: {error}"))?
        .block_on(flotilla::app::run(config))
        .map_err(Into::into)
}

fn log_to_stderr(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&log.filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    }
    .map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}
