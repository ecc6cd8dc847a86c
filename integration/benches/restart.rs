//! How soon a manager is back that promised a hundred thousand placements.

#![expect(
    clippy::disallowed_methods,
    reason = "a bench reads the clock and joins what it spawns"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flotilla::data::Data;
use flotilla::model::generic::Counts;
use flotilla::model::{
    ApiRange, Caller, ContainerId, EngineFacts, ManagerId, NodeId, Owner, Platform, RequestId,
    Resources,
};
use flotilla::state::{Cluster, Command, Envelope, Promise, RandomPorts, Settings};
use integration::bench::{self, Table};
use integration::flotilla::Flotilla;
use jiff::Timestamp;
use raft_store::Store;

const PLACEMENTS: u64 = 100_000;
const NODES: u64 = 100;
const CALLERS: u64 = 256;
/// Seconds.
const BOUND: f64 = 2.0;

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir()?;
    let empty = tempfile::tempdir()?;
    runtime.block_on(fill(folder.path(), 0))?;
    runtime.block_on(fill(empty.path(), 1))?;
    table.part(
        "until the promises are read",
        ["none", "100,000", "seconds"],
    );
    let few = runtime.block_on(open(empty.path(), 0))?;
    let many = runtime.block_on(open(folder.path(), PLACEMENTS))?;
    table.at_most(
        "open the data directory (s)",
        &seconds(few),
        &seconds(many),
        many.as_secs_f64(),
        BOUND,
    );
    // No engine answers there, which is known at once.
    let (few, many) = (serve(empty.path())?, serve(folder.path())?);
    table.at_most(
        "serve the first request (s)",
        &seconds(few),
        &seconds(many),
        many.as_secs_f64(),
        BOUND,
    );
    Ok(())
}

fn seconds(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

async fn open(path: &Path, expected: u64) -> Result<Duration> {
    let begun = Instant::now();
    let data = Data::open(path)?;
    let took = begun.elapsed();
    let found = data.store.view().placements().count() as u64;
    ensure!(found >= expected, "{found} placements of {expected}");
    data.store.shutdown().await;
    Ok(took)
}

/// From the start of the process to its first answer.
fn serve(path: &Path) -> Result<Duration> {
    let nobody = ["tcp://127.0.0.1:1".to_owned()];
    let mut manager = Flotilla::start(&nobody, &[])?;
    manager.stop()?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let copy = manager.data().join(entry.file_name());
        std::fs::copy(entry.path(), &copy)?;
        // What the copy left to be written is not the manager's to wait for.
        std::fs::File::open(copy)?.sync_all()?;
    }
    let begun = Instant::now();
    manager.start_again()?;
    let took = begun.elapsed();
    manager.stop()?;
    Ok(took)
}

/// Promises all placements; with `part` 1 none of them.
async fn fill(path: &Path, part: u64) -> Result<()> {
    let data = Data::open(path)?;
    let (store, me) = (data.store.clone(), data.member);
    let found = Command::Found {
        cluster: data.cluster,
        settings: Settings {
            name: "bench".to_owned(),
            random_ports: RandomPorts::default(),
        },
    };
    commit(&store, RequestId::from_bytes([1; 16]), found).await?;
    for number in 0..if part == 0 { NODES } else { 1 } {
        for command in node(number) {
            commit(&store, RequestId::from_bytes([1; 16]), command).await?;
        }
    }
    let callers: Vec<_> = (0..if part == 0 { CALLERS } else { 0 })
        .map(|caller| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in (caller..PLACEMENTS).step_by(usize::try_from(CALLERS)?) {
                    let request = request(number);
                    commit(&store, request, Command::Reserve(promise(number, me))).await?;
                    let container = ContainerId::from_bytes(wide(number));
                    commit(&store, request, Command::Bind { request, container }).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    store.shutdown().await;
    Ok(())
}

async fn commit(store: &Store<Cluster>, request: RequestId, command: Command) -> Result<()> {
    let envelope = Envelope::new(request, Caller::local(), Timestamp::UNIX_EPOCH, command);
    let deadline = Instant::now() + Duration::from_secs(60);
    let applied = store
        .propose(*request.as_bytes(), envelope.encode(), deadline)
        .await?;
    flotilla::state::read_outcome(&applied.outcome)?.context("refused")?;
    Ok(())
}

fn wide<const N: usize>(number: u64) -> [u8; N] {
    let mut bytes = [7; N];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

fn request(number: u64) -> RequestId {
    RequestId::from_bytes(wide(number + 1))
}

fn node(number: u64) -> [Command; 3] {
    let node = NodeId::from_bytes(wide(number));
    let add = Command::AddNode {
        node,
        name: format!("host{number}").parse().expect("a name"),
        endpoint: format!("tcp://127.0.0.1:{}", number + 1),
        address: None,
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
    };
    let engine = EngineFacts {
        engine_id: format!("engine{number}"),
        capacity: Resources::new(u64::MAX / 4, u64::MAX / 4),
        allocatable: None,
        generic: Counts::default(),
        platform: Platform {
            os: "linux".to_owned(),
            arch: "amd64".to_owned(),
        },
        engine_version: "28.5.2".to_owned(),
        api: ApiRange {
            min: api_version(41),
            max: api_version(51),
        },
    };
    [
        add,
        Command::ReportNode { node, engine },
        Command::JudgeReady { node },
    ]
}

fn api_version(minor: u32) -> api_compat::version::ApiVersion {
    api_compat::version::ApiVersion::new(1, minor)
}

fn promise(number: u64, acting: ManagerId) -> Promise {
    Promise {
        request: request(number),
        name: format!("project{}-service-{number}", number / 5),
        node: NodeId::from_bytes(wide(number % NODES)),
        owner: Owner::Plain,
        claim: Resources::new(100_000_000, 64 << 20),
        generic: Counts::default(),
        ports: Vec::new(),
        networks: Vec::new(),
        volumes: vec![format!("data-{number}")],
        new_volumes: Vec::new(),
        replaces: None,
        acting,
        recipe: None,
    }
}
