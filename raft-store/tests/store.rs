//! The store as its users see it: order, batches, deadlines, the end.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_store::{
    Applied, BlobId, Compaction, Disk, Ended, Entry, Machine, MemberId, MemoryDisk, Options,
    Payload, ProposeError, RestoreError, Stepper, Store, Stored, Volatile, WaitError, Write,
};

#[expect(clippy::disallowed_methods, reason = "these tests run in real time")]
fn now() -> Instant {
    Instant::now()
}

fn soon() -> Instant {
    now() + Duration::from_secs(20)
}

/// Remembers every command; panics on `panic`.
#[derive(Default)]
struct Journal(Vec<String>);

impl Machine for Journal {
    type View = Vec<String>;

    fn apply(&mut self, index: u64, command: &[u8]) -> Bytes {
        let text = String::from_utf8_lossy(command).into_owned();
        assert_ne!(text, "panic", "told to");
        self.0.push(text);
        Bytes::from(format!("{index}"))
    }

    fn view(&self) -> Vec<String> {
        self.0.clone()
    }

    fn snapshot(view: &Vec<String>) -> Bytes {
        assert!(!view.contains(&"no snapshot".to_owned()), "told to");
        Bytes::from(view.join("\n"))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        self.0 = str::from_utf8(snapshot)?
            .lines()
            .map(str::to_owned)
            .collect();
        Ok(())
    }
}

/// Counts its writes, and waits before each with entries until it is let go.
struct Gate {
    writes: Arc<AtomicUsize>,
    go: Arc<Mutex<Receiver<io::Result<()>>>>,
}

impl Disk for Gate {
    fn load(&mut self) -> io::Result<Stored> {
        Ok(Stored::default())
    }

    fn write(&mut self, write: &Write) -> io::Result<()> {
        let commands = |entry: &Entry| matches!(entry.payload, Payload::Command { .. });
        if !write.entries.iter().any(commands) {
            return Ok(());
        }
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.go
            .lock()
            .expect("not poisoned")
            .recv()
            .unwrap_or(Ok(()))
    }

    fn blob(&mut self, _: BlobId) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

fn gate() -> (Gate, Arc<AtomicUsize>, SyncSender<io::Result<()>>) {
    let (let_go, go) = sync_channel(1024);
    let writes = Arc::new(AtomicUsize::new(0));
    let go = Arc::new(Mutex::new(go));
    (
        Gate {
            writes: Arc::clone(&writes),
            go,
        },
        writes,
        let_go,
    )
}

fn open(disk: impl Disk) -> Store<Journal> {
    let options = Options::new(now);
    Store::open(MemberId([7; 16]), Journal::default(), disk, options).expect("opens")
}

type Proposed = tokio::task::JoinHandle<Result<Applied, ProposeError>>;

#[expect(
    clippy::disallowed_methods,
    reason = "these tests join what they spawn"
)]
fn propose(store: &Store<Journal>, text: &str, deadline: Instant) -> Proposed {
    let (store, text) = (store.clone(), text.to_owned());
    tokio::spawn(async move { store.propose([0; 16], text.into(), deadline).await })
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = soon();
    while !condition() {
        assert!(now() < deadline, "never came true");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn commands_are_applied_in_order_and_shown_before_the_answer() {
    let store = open(Volatile);
    for number in 1..=100u64 {
        let applied = store
            .propose([0; 16], number.to_string().into(), soon())
            .await;
        // The first entry is the leader's own.
        let index = number + 1;
        let outcome = Bytes::from(index.to_string());
        assert_eq!(applied, Ok(Applied { index, outcome }));
        assert_eq!(store.view().len() as u64, number);
        assert_eq!(store.applied(), index);
    }
    assert_eq!(store.read_index(soon()).await, Ok(101));
}

#[tokio::test]
async fn proposals_that_wait_together_share_a_write() {
    let (disk, writes, let_go) = gate();
    let store = open(disk);
    let first = propose(&store, "first", soon());
    until(|| writes.load(Ordering::SeqCst) == 1).await;
    let rest: Vec<_> = (0..50)
        .map(|n| propose(&store, &n.to_string(), soon()))
        .collect();
    // All fifty are queued once their tasks have run; this test's runtime has one thread.
    for _ in 0..60 {
        tokio::task::yield_now().await;
    }
    let_go.send(Ok(())).expect("alive");
    let_go.send(Ok(())).expect("alive");
    assert_eq!(first.await.expect("joins").expect("applied").index, 2);
    for proposed in rest {
        proposed.await.expect("joins").expect("applied");
    }
    assert_eq!(writes.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait_no_longer_than_their_deadline() {
    let (disk, writes, let_go) = gate();
    let options = Options {
        queue: NonZeroUsize::MIN,
        ..Options::new(now)
    };
    let store = Store::open(MemberId([7; 16]), Journal::default(), disk, options).expect("opens");
    let first = propose(&store, "1", soon());
    until(|| writes.load(Ordering::SeqCst) == 1).await;
    let second = propose(&store, "2", soon());
    tokio::task::yield_now().await;
    let brief = now() + Duration::from_millis(20);
    assert_eq!(
        propose(&store, "3", brief).await.expect("joins"),
        Err(ProposeError::Expired)
    );
    drop(let_go);
    first.await.expect("joins").expect("applied");
    second.await.expect("joins").expect("applied");
    assert_eq!(*store.view(), ["1", "2"]);
}

#[tokio::test]
async fn a_deadline_during_the_write_leaves_the_outcome_unknown() {
    let (disk, writes, let_go) = gate();
    let store = open(disk);
    let brief = now() + Duration::from_millis(20);
    let proposed = propose(&store, "slow", brief).await.expect("joins");
    assert_eq!(proposed, Err(ProposeError::Unknown));
    assert_eq!(writes.load(Ordering::SeqCst), 1);
    let late = store.at_least(2, now() + Duration::from_millis(5)).await;
    assert_eq!(late.expect_err("late"), WaitError::Late { index: 2 });
    let_go.send(Ok(())).expect("alive");
    assert_eq!(*store.at_least(2, soon()).await.expect("applied"), ["slow"]);
}

#[tokio::test]
async fn a_panic_of_the_machine_is_told_to_all() {
    let store = open(Volatile);
    let waiting = store.clone();
    let at_least = async move { waiting.at_least(9, soon()).await };
    let (proposed, waited) = tokio::join!(
        store.propose([0; 16], Bytes::from("panic"), soon()),
        at_least
    );
    let ended = store.ended().await;
    let text = ended.to_string();
    assert!(
        text.contains("panicked on entry 2") && text.contains("told to"),
        "{text}"
    );
    assert_eq!(proposed, Err(ProposeError::Stopped(ended.clone())));
    assert_eq!(
        waited.expect_err("ended"),
        WaitError::Stopped(ended.clone())
    );
    let later = store.propose([0; 16], Bytes::from("later"), soon()).await;
    assert_eq!(later, Err(ProposeError::Stopped(ended.clone())));
    assert_eq!(store.shutdown().await, ended);
}

#[tokio::test]
async fn a_failing_disk_ends_the_store() {
    let (disk, _, let_go) = gate();
    let store = open(disk);
    let_go
        .send(Err(io::Error::other("no space left")))
        .expect("alive");
    let proposed = store.propose([0; 16], Bytes::from("x"), soon()).await;
    let error = proposed.expect_err("not written").to_string();
    assert_eq!(
        error,
        "the store has ended: cannot write the log: no space left"
    );
    assert!(
        store.view().is_empty(),
        "nothing is applied that is not on disk"
    );
}

#[tokio::test]
async fn a_shutdown_finishes_what_was_proposed_and_refuses_the_rest() {
    let (disk, writes, let_go) = gate();
    let store = open(disk);
    let before = propose(&store, "before", soon());
    until(|| writes.load(Ordering::SeqCst) == 1).await;
    let also = propose(&store, "also before", soon());
    tokio::task::yield_now().await;
    drop(let_go);
    assert_eq!(store.shutdown().await, Ended::Shutdown);
    before.await.expect("joins").expect("applied");
    also.await.expect("joins").expect("applied");
    let later = store.propose([0; 16], Bytes::from("later"), soon()).await;
    assert_eq!(later, Err(ProposeError::Stopped(Ended::Shutdown)));
    assert_eq!(store.shutdown().await, Ended::Shutdown, "twice is harmless");
}

#[tokio::test]
async fn a_store_goes_on_where_the_last_one_ended() {
    let disk = MemoryDisk::new();
    let store = open(disk.clone());
    for text in ["a", "b"] {
        store
            .propose([0; 16], Bytes::from(text), soon())
            .await
            .expect("applied");
    }
    store.shutdown().await;
    let store = open(disk);
    assert_eq!(*store.view(), ["a", "b"]);
    // Two commands, and an entry of the leader's own each time.
    assert_eq!(store.applied(), 4);
    let applied = store
        .propose([0; 16], Bytes::from("c"), soon())
        .await
        .expect("applied");
    assert_eq!(applied.index, 5);
}

#[tokio::test]
async fn a_watcher_sees_the_index_grow() {
    let store = open(Volatile);
    let mut watch = store.watch();
    store
        .propose([0; 16], Bytes::from("x"), soon())
        .await
        .expect("applied");
    assert_eq!(
        *watch.wait_for(|index| *index == 2).await.expect("alive"),
        2
    );
}

fn short_log() -> Options {
    Options {
        compaction: Compaction {
            entries: 4,
            bytes: 1 << 20,
        },
        ..Options::new(now)
    }
}

#[tokio::test]
async fn a_snapshot_stands_for_the_log_before_it() {
    let mut disk = MemoryDisk::new();
    let open = |disk: &MemoryDisk| {
        let journal = Journal::default();
        Store::open(MemberId([7; 16]), journal, disk.clone(), short_log()).expect("opens")
    };
    let store = open(&disk);
    let mut texts = Vec::new();
    // Snapshots are made meanwhile, and written as time passes.
    until_async(async || {
        let text = texts.len().to_string();
        store
            .propose([0; 16], text.clone().into(), soon())
            .await
            .expect("applied");
        texts.push(text);
        disk.load().expect("loads").snapshot.is_some()
    })
    .await;
    store.shutdown().await;
    let stored = disk.load().expect("loads");
    let snapshot = stored.snapshot.expect("made").index;
    let first = stored.entries.first().map(|entry| entry.index);
    assert!(first.is_none_or(|first| first == snapshot + 1));
    let store = open(&disk);
    assert_eq!(*store.view(), texts);
}

async fn until_async(mut condition: impl AsyncFnMut() -> bool) {
    let deadline = soon();
    while !condition().await {
        assert!(now() < deadline, "never came true");
    }
}

#[tokio::test]
async fn a_panic_while_a_snapshot_is_made_is_told_to_all() {
    let journal = Journal::default();
    let store = Store::open(MemberId([7; 16]), journal, Volatile, short_log()).expect("opens");
    for _ in 0..4 {
        let text = Bytes::from("no snapshot");
        let _ = store.propose([0; 16], text, soon()).await;
    }
    let ended = store.ended().await.to_string();
    assert!(
        ended.contains("panicked when its snapshot at entry"),
        "{ended}"
    );
}

#[tokio::test]
async fn a_command_that_is_too_large_is_refused() {
    let store = open(Volatile);
    let command = Bytes::from(vec![b'x'; (8 << 20) + 1]);
    let refused = store.propose([0; 16], command, soon()).await;
    let error = refused.expect_err("too large").to_string();
    assert_eq!(
        error,
        "a command of 8388609 bytes is too large: at most 8388608 are taken"
    );
    assert!(store.view().is_empty());
}

/// A disk that panics: on its second write, or by what it says is stored.
struct Broken(Option<Stored>);

impl Disk for Broken {
    fn load(&mut self) -> io::Result<Stored> {
        Ok(self.0.clone().unwrap_or_default())
    }

    fn write(&mut self, write: &Write) -> io::Result<()> {
        assert!(write.sequence < 2, "a disk that does not work");
        Ok(())
    }

    fn blob(&mut self, _: BlobId) -> io::Result<Option<Bytes>> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_panic_of_the_store_itself_is_told_to_all() {
    let store = open(Broken(None));
    let waiting = store.clone();
    let (proposed, waited) = tokio::join!(
        store.propose([0; 16], Bytes::from("x"), soon()),
        waiting.at_least(9, soon())
    );
    let ended = store.ended().await;
    assert_eq!(
        ended.to_string(),
        "the store panicked: a disk that does not work"
    );
    assert_eq!(proposed, Err(ProposeError::Stopped(ended.clone())));
    assert_eq!(waited.expect_err("ended"), WaitError::Stopped(ended));
}

#[test]
fn a_log_that_contradicts_itself_is_not_opened() {
    let entry = Entry {
        index: 5,
        term: 1,
        payload: Payload::Empty,
    };
    let stored = Stored {
        entries: vec![entry],
        ..Stored::default()
    };
    let disk = Broken(Some(stored));
    let journal = Journal::default();
    let opened = Store::open(MemberId([7; 16]), journal, disk, Options::new(now));
    let error = opened.expect_err("refused").to_string();
    assert!(error.contains("a gap in the log"), "{error}");
}

/// Drives the stepper to its end.
async fn drive<D: Disk>(mut stepper: Stepper<Journal, D>) -> Ended {
    loop {
        stepper.until_due().await;
        stepper = match stepper.turn() {
            Ok(stepper) => stepper,
            Err(ended) => return ended,
        };
    }
}

#[tokio::test]
async fn a_store_that_is_stepped_does_nothing_between_two_steps() {
    let disk = MemoryDisk::new();
    let member = MemberId([7; 16]);
    let mut options = Options::new(now);
    options.compaction.entries = 2;
    let open =
        || Store::open_stepped(member, Journal::default(), disk.clone(), options).expect("opens");
    let (store, mut stepper) = open();
    let first = propose(&store, "first", soon());
    stepper.until_due().await;
    tokio::task::yield_now().await;
    assert!(store.view().is_empty());
    stepper = stepper.turn().expect("goes on");
    assert_eq!(*store.view(), ["first"]);
    first.await.expect("joined").expect("committed");
    let second = propose(&store, "second", soon());
    stepper.until_due().await;
    drop(stepper);
    let second = second.await.expect("joined");
    assert!(matches!(second, Err(ProposeError::Stopped(_))));

    // What was not written when the stepper was dropped never was; snapshots come on the way.
    let (store, stepper) = open();
    assert_eq!(*store.view(), ["first"]);
    let (ended, ()) = tokio::join!(drive(stepper), async {
        for number in 0..8 {
            let command = format!("command {number}");
            let applied = store.propose([0; 16], command.into(), soon()).await;
            applied.expect("committed");
        }
        assert_eq!(store.shutdown().await, Ended::Shutdown);
    });
    assert_eq!(ended, Ended::Shutdown);
    assert!(disk.clone().load().expect("loads").snapshot.is_some());
    let (store, stepper) = open();
    assert_eq!(store.view().len(), 9);
    // Without handles there is nobody to serve.
    let (ended, ()) = tokio::join!(drive(stepper), async { drop(store) });
    assert_eq!(ended, Ended::Shutdown);
}
