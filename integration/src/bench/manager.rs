//! A manager over fake engines: started, waited for, and its use of the machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::client::Client;
use crate::fake_engine::{Fleet, Spec};
use crate::flotilla::Flotilla;
use crate::wait;

/// All containers must be listed and counted by then.
const READY: Duration = Duration::from_secs(300);
/// The unit of processor times in `/proc`, which Linux fixes for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the manager's process uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Memory that is resident now.
    pub resident_bytes: u64,
    /// The most that ever was.
    pub peak_bytes: u64,
    /// Processor time since its start, in seconds.
    pub cpu_seconds: f64,
}

/// Fake engines and a manager of theirs.
#[derive(Debug)]
pub struct Managed {
    /// The manager; it ends before its engines.
    pub manager: Flotilla,
    /// The engines.
    pub fleet: Fleet,
}

impl Managed {
    /// Starts both, and waits until the manager has listed and counted every container.
    pub fn start(spec: &Spec) -> Result<Self> {
        let fleet = Fleet::start(spec)?;
        let engines: Vec<String> = fleet
            .engines()
            .iter()
            .zip(fleet.endpoints())
            .map(|(engine, endpoint)| format!("{}={endpoint}", engine.name()))
            .collect();
        // A busy machine must not make it look as if engines were lost.
        let calm = ["--log", "warn", "--node-timeout", "60s"];
        let manager = Flotilla::start(&engines, &calm)?;
        let managed = Self { manager, fleet };
        let all = (spec.engines * spec.containers) as u64;
        let mut client = managed.client()?;
        wait::until_true("a manager that knows its containers", READY, || {
            let info: serde_json::Value = serde_json::from_slice(client.get("/info", 200)?)?;
            let listed = info["Containers"].as_u64() == Some(all);
            Ok(listed && managed.fleet.inspects() >= all)
        })?;
        ensure!(
            managed.fleet.engines().len() == spec.engines,
            "engines are missing"
        );
        Ok(managed)
    }

    /// A new connection to the manager.
    pub fn client(&self) -> Result<Client> {
        Client::connect(&self.manager.unix())
    }

    /// A new connection to the first engine.
    pub fn direct(&self) -> Result<Client> {
        let endpoint = self.fleet.endpoints().first().context("no engine")?;
        Client::connect(endpoint)
    }

    /// What the manager uses of this machine.
    pub fn usage(&self) -> Result<Usage> {
        let pid = self.manager.pid().context("the manager does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let kilobytes = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
                .with_context(|| format!("/proc shows no {name}"))
        };
        // The name stands in parentheses and may hold anything, so fields count from the last one.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, back)| back.split_whitespace().collect())
            .unwrap_or_default();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        let (user, system) = ticks(11).zip(ticks(12)).context("/proc shows no times")?;
        Ok(Usage {
            resident_bytes: kilobytes("VmRSS")? * 1024,
            peak_bytes: kilobytes("VmHWM")? * 1024,
            cpu_seconds: (user + system) / TICKS_PER_SECOND,
        })
    }
}
