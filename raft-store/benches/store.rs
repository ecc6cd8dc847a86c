//! How fast one member promises on a real disk, and how soon it is back:
//! `cargo bench -p raft-store`, with `TMPDIR` on the disk in question.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_store::{
    Blob, BlobId, Bytewise, ClusterId, DurableDisk, Identity, Machine, MemberId, Options,
    RestoreError, Store,
};

const IDENTITY: Identity = Identity {
    cluster: ClusterId([5; 16]),
    member: MemberId([6; 16]),
};
const CALLERS: u64 = 64;

#[expect(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn later() -> Instant {
    now() + Duration::from_secs(600)
}

/// Keeps the newest value of each key.
#[derive(Default)]
struct Table {
    rows: Arc<BTreeMap<u64, Bytes>>,
}

impl Machine for Table {
    type View = Arc<BTreeMap<u64, Bytes>>;

    fn apply(&mut self, _: u64, command: &[u8]) -> Bytes {
        let (key, value) = command.split_first_chunk::<8>().expect("a key");
        let value = Bytes::copy_from_slice(value);
        if let Some(rows) = Arc::get_mut(&mut self.rows) {
            rows.insert(u64::from_le_bytes(*key), value);
        }
        Bytes::new()
    }

    fn view(&self) -> Self::View {
        Arc::default()
    }

    fn snapshot(_: &Self::View) -> Bytes {
        // As large as a hundred thousand placements.
        let row = [7; 400];
        (0..100_000).flat_map(|_| row).collect::<Vec<u8>>().into()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let rows = snapshot.chunks(400).map(Bytes::copy_from_slice);
        self.rows = Arc::new((0..).zip(rows).collect());
        Ok(())
    }
}

/// Counts the syncs of a file.
#[derive(Debug)]
struct Counting {
    file: File,
    syncs: AtomicU64,
}

impl Bytewise for Counting {
    fn len(&self) -> io::Result<u64> {
        Bytewise::len(&self.file)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, into)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Bytewise::set_len(&self.file, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync()
    }
}

fn file(path: &Path) -> io::Result<Arc<Counting>> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false);
    Ok(Arc::new(Counting {
        file: file.open(path)?,
        syncs: AtomicU64::new(0),
    }))
}

async fn fill(
    store: &Store<Table>,
    count: u64,
    callers: u64,
    size: usize,
    blob: usize,
) -> Vec<Duration> {
    let tasks: Vec<_> = (0..callers)
        .map(|caller| {
            let store = store.clone();
            let run = async move {
                let mut times = Vec::new();
                for number in 0..count / callers {
                    let key = caller * count + number;
                    let mut command = key.to_le_bytes().to_vec();
                    command.resize(size, 7);
                    let mut id = [0; 32];
                    id[..8].copy_from_slice(&key.to_le_bytes());
                    let bytes = Bytes::from(vec![7; blob]);
                    let blobs = (blob > 0).then(|| Blob {
                        id: BlobId(id),
                        bytes,
                    });
                    let blobs = blobs.into_iter().collect();
                    let begun = now();
                    let proposed = store.propose_with([0; 16], command.into(), blobs, later());
                    proposed.await.expect("applied");
                    times.push(begun.elapsed());
                }
                times
            };
            #[expect(clippy::disallowed_methods, reason = "a bench joins what it spawns")]
            tokio::spawn(run)
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("joins"));
    }
    times.sort_unstable();
    times
}

async fn measure(name: &str, count: u64, callers: u64, size: usize, blob: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let file = file(&path).expect("a file");
    let disk = DurableDisk::create_on(Arc::clone(&file), "bench".to_owned(), IDENTITY);
    let disk = disk.expect("creates");
    let options = Options::new(now);
    let store = Store::open(IDENTITY.member, Table::default(), disk, options).expect("opens");
    let before = file.syncs.load(Ordering::Relaxed);
    let begun = now();
    let times = fill(&store, count, callers, size, blob).await;
    let took = begun.elapsed();
    let syncs = file.syncs.load(Ordering::Relaxed) - before;
    let percentile = |part: usize| times[(times.len() - 1) * part / 100];
    println!(
        "{name}: {:.0}/s, p50 {:.2?}, p99 {:.2?}, max {:.2?}; {:.3} syncs a proposal; file {} MB",
        times.len() as f64 / took.as_secs_f64(),
        percentile(50),
        percentile(99),
        percentile(100),
        syncs as f64 / times.len() as f64,
        Bytewise::len(&*file).expect("known") >> 20,
    );
    store.shutdown().await;
}

/// A state of a hundred thousand placements, and as long a log as there ever is.
async fn restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let disk = DurableDisk::create(path, IDENTITY).expect("creates");
    let options = Options::new(now);
    let store = Store::open(IDENTITY.member, Table::default(), disk, options).expect("opens");
    // The first snapshot is taken at 20,000 entries; then 19,000 more, with blobs.
    fill(&store, 20_032, CALLERS, 200, 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    fill(&store, 18_944, CALLERS, 200, 2000).await;
    store.shutdown().await;
    for how in ["closed", "crashed"] {
        let crashed = tempfile::tempdir().expect("a directory");
        let begun = now();
        let disk = DurableDisk::open(path).expect("opens");
        let checked = begun.elapsed();
        let store = Store::open(IDENTITY.member, Table::default(), disk, options).expect("opens");
        let entries = store.applied();
        println!(
            "restart, {how}: {:.2?} ({checked:.2?} of it to check {} MB), entry {entries}",
            begun.elapsed(),
            std::fs::metadata(DurableDisk::path(path))
                .expect("there")
                .len()
                >> 20,
        );
        // What is copied while it is open looks as after a crash.
        let copy = DurableDisk::path(crashed.path());
        std::fs::copy(DurableDisk::path(path), copy).expect("copies");
        store.shutdown().await;
        std::fs::copy(DurableDisk::path(crashed.path()), DurableDisk::path(path)).expect("copies");
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        measure("1 caller, 1 kB", 2_000, 1, 1000, 0).await;
        measure("64 callers, 1 kB", 64_000, CALLERS, 1000, 0).await;
        measure(
            "64 callers, 1 kB and a blob of 2 kB",
            16_000,
            CALLERS,
            1000,
            2000,
        )
        .await;
        restart().await;
    });
}
