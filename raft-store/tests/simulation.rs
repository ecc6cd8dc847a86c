//! Power losses, full disks and damaged files, on a simulated file under the real disk, with the
//! real core, all in one thread. A failing seed prints how to replay it.

mod journal;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use raft_store::sim::{Dice, SimulatedFile};
use raft_store::{
    BlobChange, Bytewise, ClusterId, Compaction, Core, Disk, DurableDisk, Identity, Input, Machine,
    MemberId, OpenError, Output, Payload, Proposal, Reply, Stored,
};

use journal::{Counts, Journal, KEPT, blob, command};

const IDENTITY: Identity = Identity {
    cluster: ClusterId([5; 16]),
    member: MemberId([6; 16]),
};

type File = DurableDisk<SimulatedFile>;

/// A core, a machine and a disk, driven by hand.
struct Rig {
    core: Core,
    journal: Journal,
    disk: File,
    file: Arc<SimulatedFile>,
    now: Duration,
    blobs: Vec<BlobChange>,
    next_ticket: u64,
    /// Who waits for which command.
    open: Vec<(u64, (u64, u64))>,
    acknowledged: BTreeSet<(u64, u64)>,
    refused: u64,
}

fn create() -> Arc<SimulatedFile> {
    let file = Arc::new(SimulatedFile::new());
    drop(File::create_on(Arc::clone(&file), "test".to_owned(), IDENTITY).expect("creates"));
    file
}

fn open(file: &Arc<SimulatedFile>) -> Result<(File, Stored), String> {
    let opened = File::open_on(Arc::clone(file), "test".to_owned());
    let mut disk = opened.map_err(|error| match error {
        OpenError::Io { file, source } => format!("{file}: {source}"),
        error => error.to_string(),
    })?;
    let stored = disk.load().map_err(|error| error.to_string())?;
    Ok((disk, stored))
}

impl Rig {
    fn open(file: Arc<SimulatedFile>) -> Self {
        let (disk, stored) = open(&file).expect("opens");
        Self::new(file, disk, &stored)
    }

    fn new(file: Arc<SimulatedFile>, disk: File, stored: &Stored) -> Self {
        let mut journal = Journal::default();
        if let Some(snapshot) = &stored.snapshot {
            journal.restore(&snapshot.data).expect("restores");
        }
        let compaction = Compaction {
            entries: 20,
            bytes: 1 << 30,
        };
        Self {
            core: Core::new(IDENTITY.member, stored, compaction),
            journal,
            disk,
            file,
            now: Duration::ZERO,
            blobs: Vec::new(),
            next_ticket: 0,
            open: Vec::new(),
            acknowledged: BTreeSet::new(),
            refused: 0,
        }
    }

    /// Steps the core and does what it says; an error is the end of the store.
    fn step(&mut self, input: Input) -> io::Result<()> {
        let mut outputs: std::collections::VecDeque<_> = self.core.step(self.now, input).into();
        while let Some(output) = outputs.pop_front() {
            let input = match output {
                Output::Persist(mut write) => {
                    write.blobs = std::mem::take(&mut self.blobs);
                    match self.disk.write(&write) {
                        Ok(()) => Input::Persisted(write.sequence),
                        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                            self.blobs = write.blobs;
                            Input::NoRoom(write.sequence)
                        }
                        Err(error) => return Err(error),
                    }
                }
                Output::Apply(committed) => {
                    for committed in committed {
                        let Payload::Command { command, blobs, .. } = committed.entry.payload
                        else {
                            continue;
                        };
                        self.journal.apply(committed.entry.index, &command);
                        self.blobs.extend(blobs.into_iter().map(BlobChange::Put));
                        let released = self.journal.released().into_iter();
                        self.blobs.extend(released.map(BlobChange::Delete));
                        if let Some(ticket) = committed.ticket {
                            let command = self.answered(ticket);
                            self.acknowledged.insert(command);
                        }
                    }
                    continue;
                }
                Output::Reply(ticket, Reply::NoRoom { .. }) => {
                    self.answered(ticket);
                    self.refused += 1;
                    continue;
                }
                Output::Snapshot(index) => Input::Snapshot {
                    index,
                    data: Journal::snapshot(&self.journal.view()),
                },
                output => panic!("{output:?}"),
            };
            outputs.extend(self.core.step(self.now, input));
        }
        Ok(())
    }

    fn answered(&mut self, ticket: u64) -> (u64, u64) {
        let place = self.open.iter().position(|(open, _)| *open == ticket);
        self.open.swap_remove(place.expect("answered once")).1
    }

    fn tick(&mut self) -> io::Result<()> {
        self.now += Duration::from_millis(300);
        self.step(Input::Tick)
    }

    /// Proposes the next commands of some writers at once.
    fn propose(&mut self, next: &mut Counts, dice: &mut Dice) -> io::Result<()> {
        let count = 1 + dice.below(5);
        let proposals = (0..count).map(|_| {
            let writer = dice.below(3);
            let number = next.entry(writer).or_default();
            self.next_ticket += 1;
            self.open.push((self.next_ticket, (writer, *number)));
            *number += 1;
            Proposal {
                ticket: self.next_ticket,
                request_id: [0; 16],
                command: command(writer, *number - 1),
                blobs: vec![blob(writer, *number - 1)],
                deadline: Duration::MAX,
            }
        });
        let proposals = proposals.collect();
        self.step(Input::Propose(proposals))
    }

    /// All that was acknowledged was applied, and the newest blobs are there, the older gone.
    fn check(&mut self, acknowledged: &BTreeSet<(u64, u64)>) -> io::Result<()> {
        let counts = self.journal.view();
        for (writer, number) in acknowledged {
            let count = counts.get(writer).copied().unwrap_or_default();
            assert!(
                *number < count,
                "{writer}:{number} was acknowledged and is lost"
            );
        }
        let unwritten = self.blobs.clone();
        for (writer, count) in counts {
            for number in 0..count {
                let expected = blob(writer, number);
                let change = unwritten.iter().rev().find_map(|change| match change {
                    BlobChange::Put(blob) => {
                        (blob.id == expected.id).then(|| Some(blob.bytes.clone()))
                    }
                    BlobChange::Delete(id) => (*id == expected.id).then_some(None),
                });
                let found = match change {
                    Some(found) => found,
                    None => self.disk.blob(expected.id)?,
                };
                let kept = number + KEPT >= count;
                assert_eq!(
                    found,
                    kept.then_some(expected.bytes),
                    "blob of {writer}:{number}"
                );
            }
        }
        Ok(())
    }
}

/// Runs each seed, or the one that is asked for.
fn seeds(test: &str, count: u64, run: impl Fn(u64)) {
    let asked = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("SEEDS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(count);
    for seed in asked.map_or(0..count, |seed| seed..seed + 1) {
        let run = std::panic::AssertUnwindSafe(|| run(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("replay: SEED={seed} cargo test -p raft-store --test simulation {test}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_every_loss_of_power() {
    seeds("what_was_acknowledged_survives", 60, |seed| {
        let mut dice = Dice::new(seed);
        let mut file = create();
        let mut acknowledged = BTreeSet::new();
        for _ in 0..6 {
            if dice.below(10) > 0 {
                file.cut_power(dice.below(200));
            }
            let (disk, stored) = match open(&file) {
                Ok(opened) => opened,
                Err(error) => {
                    assert!(file.is_dead(), "{error}");
                    file = Arc::new(file.after_power_loss(&mut dice));
                    continue;
                }
            };
            let mut rig = Rig::new(Arc::clone(&file), disk, &stored);
            let mut live = || -> io::Result<()> {
                rig.tick()?;
                rig.check(&acknowledged)?;
                let mut next = rig.journal.view();
                for _ in 0..dice.below(60) {
                    if dice.below(4) == 0 {
                        rig.tick()?;
                    } else {
                        rig.propose(&mut next, &mut dice)?;
                    }
                }
                Ok(())
            };
            if let Err(error) = live() {
                assert!(file.is_dead(), "{error}");
            }
            acknowledged.append(&mut rig.acknowledged);
            // Power is lost at some time, or when nothing happens, or when it is closed, or never.
            let idle = file.after_power_loss(&mut dice);
            drop(rig);
            let closed = file.after_power_loss(&mut dice);
            file = Arc::new(match dice.below(3) {
                0 => idle,
                1 => closed,
                _ if file.is_dead() => closed,
                _ => SimulatedFile::holding(file.bytes()),
            });
        }
        let mut rig = Rig::open(file);
        rig.tick().expect("elected");
        rig.check(&acknowledged).expect("reads");
    });
}

#[test]
fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    seeds("a_full_disk", 60, |seed| {
        let mut dice = Dice::new(seed);
        let file = create();
        let mut rig = Rig::open(Arc::clone(&file));
        rig.tick().expect("elected");
        for _ in 0..3 {
            let mut next = rig.journal.view();
            for _ in 0..dice.below(30) {
                rig.propose(&mut next, &mut dice).expect("room");
            }
            rig.file.set_room(Some(dice.below(30)));
            let refused = rig.refused;
            while rig.refused == refused {
                rig.propose(&mut next, &mut dice).expect("goes on");
            }
            let before = rig.acknowledged.len();
            for _ in 0..6 {
                rig.propose(&mut Counts::new(), &mut dice).expect("goes on");
                rig.tick().expect("goes on");
            }
            assert_eq!(rig.acknowledged.len(), before, "there is no room");
            // A crash now loses nothing that was acknowledged.
            let after = Arc::new(file.after_power_loss(&mut dice));
            let mut crashed = Rig::open(after);
            crashed.tick().expect("elected");
            crashed.check(&rig.acknowledged).expect("reads");
            rig.file.set_room(None);
            for _ in 0..5 {
                rig.tick().expect("room");
            }
            let mut next = rig.journal.view();
            rig.propose(&mut next, &mut dice).expect("room");
            assert!(rig.acknowledged.len() > before, "there is room again");
            assert!(rig.open.is_empty());
        }
        let acknowledged = std::mem::take(&mut rig.acknowledged);
        rig.check(&acknowledged).expect("reads");
        drop(rig);
        let mut rig = Rig::open(file);
        rig.tick().expect("elected");
        rig.check(&acknowledged).expect("reads");
    });
}

/// A file with a snapshot, a log behind it and blobs.
struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
    stored: Stored,
    /// Where the newest write made a difference.
    newest: Vec<usize>,
}

/// One closed in order, and one as a crash leaves it.
fn samples() -> [Sample; 2] {
    let mut dice = Dice::new(1);
    let file = create();
    let mut rig = Rig::open(Arc::clone(&file));
    rig.tick().expect("elected");
    let mut next = Counts::new();
    while rig.acknowledged.len() < 130 {
        rig.propose(&mut next, &mut dice).expect("works");
        rig.tick().expect("works");
    }
    let before = file.bytes();
    rig.propose(&mut next, &mut dice).expect("works");
    let crashed = file.bytes();
    drop(rig);
    let closed = file.bytes();
    let sample = |name, before: &[u8], bytes: Vec<u8>| {
        let file = Arc::new(SimulatedFile::holding(bytes.clone()));
        let stored = open(&file).expect("opens").1;
        assert!(stored.snapshot.is_some() && !stored.entries.is_empty());
        let differs = |place: &usize| before.get(*place) != bytes.get(*place);
        let newest = (512..bytes.len()).filter(differs).collect();
        Sample {
            name,
            bytes,
            stored,
            newest,
        }
    };
    let closed = sample("closed", &crashed, closed);
    [closed, sample("crashed", &before, crashed)]
}

/// Opens what became of a file: whether it was refused, having lost nothing silently.
fn is_refused(bytes: Vec<u8>, expected: &Stored, what: &str) -> bool {
    let file = Arc::new(SimulatedFile::holding(bytes.clone()));
    match open(&file) {
        Err(error) => {
            let clear = ["damaged", "newer"].iter().any(|word| error.contains(word));
            assert!(clear, "{what}: {error}");
            assert!(file.bytes() == bytes, "{what}: it was not left as it is");
            true
        }
        Ok((mut disk, stored)) => {
            assert!(stored == *expected, "{what}: silent loss");
            for writer in 0..3 {
                for number in 0..200 {
                    let expected = blob(writer, number);
                    if let Some(bytes) = disk.blob(expected.id).expect("reads") {
                        assert_eq!(bytes, expected.bytes, "{what}");
                    }
                }
            }
            false
        }
    }
}

#[test]
fn a_flipped_bit_is_refused_or_harms_nothing() {
    for sample in samples() {
        let Sample {
            name,
            bytes,
            stored: expected,
            newest,
        } = sample;
        let mut dice = Dice::new(2);
        let used: Vec<_> = (512..bytes.len())
            .filter(|place| bytes[*place] != 0)
            .collect();
        // All of the database's header, then whatever is not empty, then anything.
        let header = (0..320u64 * 8).step_by(3).map(|bit| (bit / 8, bit % 8));
        let header = header.chain((9 * 8..10 * 8).map(|bit| (bit / 8, bit % 8)));
        let mut among = |places: &[usize], count| -> Vec<_> {
            let one = |_| {
                let place = dice.below(places.len() as u64);
                let place = places[usize::try_from(place).expect("fits")];
                (place as u64, dice.below(8))
            };
            (0..count).map(one).collect()
        };
        let newest = among(&newest, 150);
        let used = among(&used, 150);
        let all: Vec<_> = (0..bytes.len()).collect();
        let any = among(&all, 100);
        for (part, flips) in [
            ("header", header.collect::<Vec<_>>()),
            ("newest write", newest),
            ("used", used),
            ("any", any),
        ] {
            let count = flips.len();
            let mut refused = 0;
            for (place, bit) in flips {
                let mut bytes = bytes.clone();
                bytes[usize::try_from(place).expect("fits")] ^= 1 << bit;
                let what = format!("{name}, bit {bit} of byte {place}");
                refused += usize::from(is_refused(bytes, &expected, &what));
            }
            println!("{name} file, {part}: {refused} of {count} flips refused, the rest harmless");
            assert!(part != "header" || refused == count, "the header is sealed");
        }
    }
}

#[test]
fn a_file_of_another_length_is_refused_or_lost_nothing() {
    for sample in samples() {
        let (name, bytes, expected) = (sample.name, sample.bytes, sample.stored);
        let mut dice = Dice::new(3);
        let len = bytes.len() as u64;
        let fixed = [
            0,
            1,
            9,
            10,
            319,
            320,
            504,
            511,
            512,
            4095,
            4096,
            8192,
            len - 1,
        ];
        let random = (0..60).map(|_| dice.below(len));
        let pages = (0..40).map(|_| Dice::new(len).below(len / 4096) * 4096);
        let mut refused = 0;
        let lengths: Vec<_> = fixed.into_iter().chain(random.chain(pages)).collect();
        for length in &lengths {
            let mut bytes = bytes.clone();
            bytes.truncate(usize::try_from(*length).expect("fits"));
            let what = format!("{name}, cut to {length}");
            refused += usize::from(is_refused(bytes, &expected, &what));
        }
        let count = lengths.len();
        println!("{name} file: {refused} of {count} cuts refused, the rest lost nothing");
        for more in [1, 4096, 1 << 20] {
            let mut bytes = bytes.clone();
            bytes.resize(bytes.len() + more, 0);
            is_refused(bytes, &expected, &format!("{name}, {more} longer"));
        }
    }
}

#[test]
fn what_is_no_log_is_refused() {
    let opened = |bytes: &[u8]| {
        let file = Arc::new(SimulatedFile::holding(bytes.to_vec()));
        open(&file).expect_err("refused")
    };
    for bytes in [&b""[..], &[0; 100_000], &[b'x'; 100_000]] {
        assert!(opened(bytes).contains("damaged"));
    }
    assert_eq!(create().len().expect("has one") % 512, 0);
}
