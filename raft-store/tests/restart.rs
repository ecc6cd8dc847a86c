//! A log in a directory, over restarts in order and by SIGKILL.

mod journal;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use raft_store::sim::{Dice, SimulatedFile};
use raft_store::{
    Bytewise as _, ClusterId, Compaction, DurableDisk, Ended, Identity, MemberId, OpenError,
    Options, ProposeError, Store,
};

use journal::{Journal, KEPT, blob, command};

const IDENTITY: Identity = Identity {
    cluster: ClusterId([5; 16]),
    member: MemberId([6; 16]),
};

#[expect(clippy::disallowed_methods, reason = "these tests run in real time")]
fn now() -> Instant {
    Instant::now()
}

fn soon() -> Instant {
    now() + Duration::from_secs(20)
}

fn options() -> Options {
    Options {
        compaction: Compaction {
            entries: 60,
            bytes: 1 << 30,
        },
        ..Options::new(now)
    }
}

fn open(directory: &Path) -> Store<Journal> {
    let disk = if DurableDisk::exists(directory) {
        DurableDisk::open(directory)
    } else {
        DurableDisk::create(directory, IDENTITY)
    };
    let disk = disk.expect("opens");
    let member = disk.identity().member;
    Store::open(member, Journal::default(), disk, options()).expect("opens")
}

async fn propose(store: &Store<Journal>, writer: u64, number: u64) {
    let blobs = vec![blob(writer, number)];
    let proposed = store.propose_with([0; 16], command(writer, number), blobs, soon());
    let applied = proposed.await.expect("applied");
    assert_eq!(applied.outcome, Bytes::from(number.to_string()));
}

async fn check_blobs(store: &Store<Journal>) {
    for (writer, count) in store.view().iter() {
        for number in 0..*count {
            let expected = blob(*writer, number);
            let found = store.blob(expected.id, soon()).await.expect("reads");
            let kept = number + KEPT >= *count;
            assert_eq!(found, kept.then_some(expected.bytes));
        }
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_run_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut last = 0;
    for run in 0..5u64 {
        let store = open(directory.path());
        assert_eq!(store.view().get(&0).copied(), (run > 0).then_some(run * 50));
        assert!(store.applied() >= last);
        for number in run * 50..run * 50 + 50 {
            propose(&store, 0, number).await;
        }
        check_blobs(&store).await;
        last = store.applied();
        // Each end is orderly, or the handle is just dropped.
        if run % 2 == 0 {
            assert_eq!(store.shutdown().await, Ended::Shutdown);
        } else {
            let ended = store.ended();
            drop(store);
            ended.await;
        }
    }
}

#[tokio::test]
async fn a_log_is_open_once_founded_once_and_belongs_to_its_member() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let missing = DurableDisk::open(path).expect_err("nothing there");
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    let disk = DurableDisk::create(path, IDENTITY).expect("creates");
    let second = DurableDisk::open(path).expect_err("in use");
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    let again = DurableDisk::create(path, IDENTITY).expect_err("exists");
    assert!(matches!(again, OpenError::Exists { .. }), "{again}");
    let other = Store::open(MemberId([9; 16]), Journal::default(), disk, options());
    let error = other.expect_err("another's").to_string();
    assert!(error.contains("the log of member 0606"), "{error}");
    let disk = DurableDisk::open(path).expect("free again");
    assert_eq!(disk.identity(), IDENTITY);
}

const CHILD: &str = "RAFT_STORE_TEST_DIRECTORY";
const WRITERS: u64 = 8;

/// Runs in a process of its own, until it is killed: appends, and says what was acknowledged.
#[tokio::test]
async fn child_appends_until_it_is_killed() {
    let Ok(directory) = std::env::var(CHILD) else {
        return;
    };
    let store = open(Path::new(&directory));
    let writer = |writer: u64| {
        let store = store.clone();
        async move {
            let mut number = store.view().get(&writer).copied().unwrap_or_default();
            loop {
                propose(&store, writer, number).await;
                let mut out = std::io::stdout().lock();
                writeln!(out, "\nack {writer} {number}").expect("somebody reads");
                out.flush().expect("somebody reads");
                number += 1;
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| Box::pin(writer(number)))
        .collect();
    futures(writers).await;
}

/// Drives them all in this task.
async fn futures<F: Future<Output = ()> + Unpin>(mut futures: Vec<F>) {
    std::future::poll_fn(|context| {
        for future in &mut futures {
            let _ = std::pin::Pin::new(future).poll(context);
        }
        std::task::Poll::<()>::Pending
    })
    .await;
}

/// Fifty times, or as often as `KILLS` says.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let setting = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let seed = setting("SEED").unwrap_or(1);
    let mut dice = Dice::new(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let acknowledged = Arc::new(Mutex::new(BTreeMap::<u64, u64>::new()));
    let program = std::env::current_exe().expect("this program");
    for kill in 0..setting("KILLS").unwrap_or(50) {
        let mut child = Command::new(&program)
            .args(["--exact", "child_appends_until_it_is_killed", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let noted = Arc::clone(&acknowledged);
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let mut words = line.split(' ');
                if words.next() != Some("ack") {
                    continue;
                }
                let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
                // The last line may be cut off.
                if let (Some(writer), Some(number)) = (number(), number()) {
                    let mut noted = noted.lock().expect("not poisoned");
                    let count = noted.entry(writer).or_default();
                    *count = (*count).max(number + 1);
                }
            }
        });
        std::thread::sleep(Duration::from_millis(dice.below(120)));
        child.kill().expect("SIGKILL");
        child.wait().expect("reaped");
        reader.join().expect("read all");

        // The machine itself panics on what is lost, repeated or out of order.
        let store = open(directory.path());
        let noted = acknowledged.lock().expect("not poisoned").clone();
        for (writer, count) in noted {
            let found = store.view().get(&writer).copied().unwrap_or_default();
            assert!(
                found >= count,
                "kill {kill} of seed {seed}: {count} of writer {writer} were acknowledged, {found} found"
            );
        }
        if kill % 10 == 9 {
            check_blobs(&store).await;
        }
        store.shutdown().await;
    }
    let total: u64 = acknowledged.lock().expect("not poisoned").values().sum();
    println!("{total} commands were acknowledged and all are there");
}

/// On a disk of a few megabytes that `SMALL_DISK` names: what simulated files claim is so.
#[tokio::test]
async fn a_real_disk_that_is_full_refuses_and_loses_nothing() {
    let Ok(small) = std::env::var("SMALL_DISK") else {
        return;
    };
    let directory = tempfile::tempdir_in(small).expect("a directory");
    let store = open(directory.path());
    let mut number = 0;
    for _ in 0..100 {
        propose(&store, 0, number).await;
        number += 1;
    }
    let filler = directory.path().join("filler");
    let mut file = std::fs::File::create(&filler).expect("room");
    while file.write_all(&[1; 4096]).is_ok() {}
    let error = loop {
        let blobs = vec![blob(0, number)];
        let deadline = now() + Duration::from_millis(500);
        match store
            .propose_with([0; 16], command(0, number), blobs, deadline)
            .await
        {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, ProposeError::NoRoom { logged: true });
    let refused = store.propose([0; 16], Bytes::from("0:0"), soon()).await;
    assert_eq!(refused, Err(ProposeError::NoRoom { logged: false }));
    drop(file);
    std::fs::remove_file(filler).expect("removed");
    // The refused command is in the log, and takes effect now.
    let index = store.applied() + 1;
    store.at_least(index, soon()).await.expect("room again");
    number += 1;
    for _ in 0..100 {
        propose(&store, 0, number).await;
        number += 1;
    }
    store.shutdown().await;
    let store = open(directory.path());
    assert_eq!(store.view().get(&0), Some(&number));
    check_blobs(&store).await;
}

/// Two syncs are what one two-phase commit takes; whoever waits for a promise waits for no more, but for the moment in
/// which the file grows.
#[tokio::test]
async fn a_proposal_waits_for_two_syncs() {
    let file = Arc::new(SimulatedFile::new());
    let disk = DurableDisk::create_on(Arc::clone(&file), "test".to_owned(), IDENTITY);
    let disk = disk.expect("creates");
    let store = Store::open(IDENTITY.member, Journal::default(), disk, options()).expect("opens");
    for number in 0..40 {
        let (before, length) = (file.syncs(), file.len().expect("known"));
        propose(&store, 1, number).await;
        let grew = file.len().expect("known") > length;
        assert_eq!(
            file.syncs() - before,
            2 + u64::from(grew),
            "proposal {number}"
        );
    }
    store.shutdown().await;
}
