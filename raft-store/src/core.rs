//! What is appended, persisted, committed and answered, and when: the decisions of the store.
//!
//! **Invariant**: nothing here awaits, reads a clock, or touches a disk. Whoever drives it feeds
//! [`Input`]s and carries out [`Output`]s in their order, so a simulator runs the same code.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::consensus::{Consensus, Ready};
use crate::log::{ClusterId, Entry, HardState, MemberId, Payload, Piece, Stored, Write};
use crate::machine::Blob;

/// Time since a moment of the driver's choosing; it never runs backwards.
pub type Now = Duration;

/// What a driver knows one waiting request by; never used twice.
pub type Ticket = u64;

/// How much of a snapshot is written at a time. Commands wait for no more than that.
const PIECE_BYTES: usize = 1 << 20;

/// How long a disk without room is left alone before the next try.
const RETRY: Duration = Duration::from_secs(1);

/// A message between members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The cluster that both believe to be in.
    pub cluster: ClusterId,
    /// Who sent it.
    pub from: MemberId,
    /// Whom it is for.
    pub to: MemberId,
    /// The content, known to the core alone.
    pub body: Bytes,
}

/// A command that somebody waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Who waits.
    pub ticket: Ticket,
    /// Who asked for it.
    pub request_id: [u8; 16],
    /// The command.
    pub command: Bytes,
    /// What is kept beside the log once the command is applied.
    pub blobs: Vec<Blob>,
    /// When nobody waits any more.
    pub deadline: Now,
}

/// What happens to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// Another member says something.
    Message(Message),
    /// Commands, in their order. What is proposed together is persisted together.
    Propose(Vec<Proposal>),
    /// The write of this sequence is on disk, and with it all before.
    Persisted(u64),
    /// There was no room for the write of this sequence. It will be asked for again, and may be
    /// written twice.
    NoRoom(u64),
    /// Somebody asks from which index on a view shows all that was committed before the question.
    Read(Ticket),
    /// The machine as it was at this index, after [`Output::Snapshot`].
    Snapshot {
        /// The index.
        index: u64,
        /// What the machine made of itself.
        data: Bytes,
    },
}

/// What a driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Put it on disk, then say [`Input::Persisted`]. There is one such write at a time.
    Persist(Write),
    /// Deliver it, or not: the network may lose it.
    Send(Message),
    /// Apply these to the machine and give the outcomes to those who wait.
    Apply(Vec<Committed>),
    /// Answer this ticket; it waits for nothing else.
    Reply(Ticket, Reply),
    /// Take a picture of the machine as it is now, at this index, and say [`Input::Snapshot`] when
    /// it is ready. There is one at a time.
    Snapshot(u64),
}

/// An entry that will never be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The entry.
    pub entry: Entry,
    /// Who waits for its outcome, if anybody still does.
    pub ticket: Option<Ticket>,
}

/// What a ticket is told, other than an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Ask that member, if it is known. The command takes no effect.
    NotLeader {
        /// The leader.
        hint: Option<MemberId>,
    },
    /// The deadline passed before anything was logged: the command takes no effect.
    Expired,
    /// The deadline passed with the command in the log: it may yet take effect.
    Unknown,
    /// The disk is full.
    NoRoom {
        /// Whether the command is in the log: then it may yet take effect.
        logged: bool,
    },
    /// A view of this index shows all that was committed before the question.
    ReadAt(u64),
}

/// When the log is replaced by a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// At this many entries behind the last snapshot,
    pub entries: u64,
    /// or at this many bytes of them, if the last snapshot is not larger still.
    pub bytes: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            entries: 20_000,
            bytes: 16 << 20,
        }
    }
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    /// The entry counts as the command only in this term.
    term: u64,
    deadline: Now,
}

/// The write under way; there is one at a time, so that what comes meanwhile shares the next.
#[derive(Debug)]
struct Writing {
    write: Write,
    /// What raft calls it, if it is more than a piece of a snapshot.
    number: Option<u64>,
    /// What may leave once it is on disk.
    messages: Vec<(MemberId, Bytes)>,
    /// When to try again, if there was no room.
    retry: Option<Now>,
}

/// A snapshot on its way.
#[derive(Debug)]
enum Snapshotting {
    /// The machine is asked for it.
    Asked { index: u64 },
    /// It is being written, up to this offset so far.
    Writing {
        index: u64,
        term: u64,
        data: Bytes,
        offset: usize,
    },
}

/// One member of the log.
#[derive(Debug)]
pub struct Core {
    cluster: ClusterId,
    member: MemberId,
    consensus: Consensus,
    /// What is on disk or on its way there.
    hard: HardState,
    next_sequence: u64,
    writing: Option<Writing>,
    /// The last entry that was given out to be applied.
    applied: u64,
    /// Who waits for which place.
    waiting: BTreeMap<u64, Waiting>,
    /// Reads before the leader's first entry is committed.
    early_reads: Vec<Ticket>,
    /// Reads that raft is confirming.
    reads: Vec<Ticket>,
    compaction: Compaction,
    snapshotting: Option<Snapshotting>,
    /// The size of the last snapshot.
    snapshot_bytes: u64,
}

impl Core {
    /// A member that finds this on its disk, its machine restored from the snapshot. It is no leader
    /// before its first [`Input::Tick`].
    ///
    /// # Panics
    ///
    /// When it is another member's disk, or contradicts itself.
    pub fn new(member: MemberId, stored: &Stored, compaction: Compaction) -> Self {
        let cluster = stored.identity.map_or(ClusterId([0; 16]), |identity| {
            assert_eq!(identity.member, member, "the disk of another member");
            identity.cluster
        });
        let snapshot = stored.snapshot.as_ref();
        Self {
            cluster,
            member,
            consensus: Consensus::new(member, stored),
            hard: stored.hard,
            next_sequence: 1,
            writing: None,
            applied: snapshot.map_or(0, |snapshot| snapshot.index),
            waiting: BTreeMap::new(),
            early_reads: Vec::new(),
            reads: Vec::new(),
            compaction,
            snapshotting: None,
            snapshot_bytes: snapshot.map_or(0, |snapshot| snapshot.data.len() as u64),
        }
    }

    /// Takes one input; the outputs are to be carried out in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        // A snapshot goes with the writes there are, and else at the pace of the ticks: commands
        // that come meanwhile find the disk free.
        let piece_alone = input == Input::Tick;
        match input {
            Input::Tick => self.tick(now, &mut outputs),
            Input::Message(message) => self.hear(&message),
            Input::Propose(proposals) => self.propose(now, proposals, &mut outputs),
            Input::Persisted(sequence) => self.persisted(sequence, &mut outputs),
            Input::NoRoom(sequence) => self.no_room(now, sequence, &mut outputs),
            Input::Read(ticket) => self.read(ticket, &mut outputs),
            Input::Snapshot { index, data } => self.snapshot(index, data),
        }
        self.advance(piece_alone, &mut outputs);
        outputs
    }

    fn tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        self.consensus.tick();
        self.waiting.retain(|_, waiting| {
            let late = waiting.deadline <= now;
            if late {
                outputs.push(Output::Reply(waiting.ticket, Reply::Unknown));
            }
            !late
        });
        if let Some(writing) = &mut self.writing
            && writing.retry.is_some_and(|at| at <= now)
        {
            writing.retry = Some(now + RETRY);
            outputs.push(Output::Persist(writing.write.clone()));
        }
    }

    fn hear(&mut self, message: &Message) {
        let ours = message.cluster == self.cluster && message.to == self.member;
        if !ours || !self.consensus.hear(message.from, &message.body) {
            tracing::debug!(from = %message.from, cluster = %message.cluster, "a message of no use: dropped");
        }
    }

    fn propose(&mut self, now: Now, proposals: Vec<Proposal>, outputs: &mut Vec<Output>) {
        for Proposal {
            ticket,
            request_id,
            command,
            blobs,
            deadline,
        } in proposals
        {
            let stalled = self
                .writing
                .as_ref()
                .is_some_and(|writing| writing.retry.is_some());
            let refusal = if !self.consensus.is_leader() {
                self.not_leader()
            } else if stalled {
                Reply::NoRoom { logged: false }
            } else if deadline <= now {
                Reply::Expired
            } else {
                let payload = Payload::Command {
                    request_id,
                    command,
                    blobs,
                };
                if let Some(index) = self.consensus.propose(&payload) {
                    let term = self.consensus.term();
                    let waiting = Waiting {
                        ticket,
                        term,
                        deadline,
                    };
                    self.waiting.insert(index, waiting);
                    continue;
                }
                self.not_leader()
            };
            outputs.push(Output::Reply(ticket, refusal));
        }
    }

    fn not_leader(&self) -> Reply {
        let hint = self
            .consensus
            .leader()
            .filter(|leader| *leader != self.member);
        Reply::NotLeader { hint }
    }

    fn persisted(&mut self, sequence: u64, outputs: &mut Vec<Output>) {
        let Some(writing) = self
            .writing
            .take_if(|writing| sequence >= writing.write.sequence)
        else {
            return;
        };
        if let Some(number) = writing.number {
            self.consensus.persisted(number);
            self.send(writing.messages, outputs);
        }
        if let Some(piece) = writing.write.piece
            && piece.last
        {
            self.consensus.compact(piece.index, piece.term);
            self.snapshot_bytes = piece.offset + piece.data.len() as u64;
            self.snapshotting = None;
        }
    }

    /// Whoever waits is told at once; the log keeps what it has and goes on when there is room.
    fn no_room(&mut self, now: Now, sequence: u64, outputs: &mut Vec<Output>) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        if writing.write.sequence != sequence {
            return;
        }
        writing.retry = Some(now + RETRY);
        for waiting in std::mem::take(&mut self.waiting).into_values() {
            let reply = Reply::NoRoom { logged: true };
            outputs.push(Output::Reply(waiting.ticket, reply));
        }
    }

    fn read(&mut self, ticket: Ticket, outputs: &mut Vec<Output>) {
        if self.consensus.is_leader() {
            self.early_reads.push(ticket);
        } else {
            outputs.push(Output::Reply(ticket, self.not_leader()));
        }
    }

    fn snapshot(&mut self, at: u64, data: Bytes) {
        if let Some(Snapshotting::Asked { index }) = self.snapshotting
            && index == at
        {
            let term = self.consensus.term_at(index);
            self.snapshotting = Some(Snapshotting::Writing {
                index,
                term: term.expect("the log is there until its snapshot is"),
                data,
                offset: 0,
            });
        }
    }

    /// Does what can be done now, up to the next write.
    fn advance(&mut self, piece_alone: bool, outputs: &mut Vec<Output>) {
        if self.consensus.can_read() {
            for ticket in std::mem::take(&mut self.early_reads) {
                self.reads.push(ticket);
                self.consensus.read(ticket);
            }
        }
        while self.writing.is_none() {
            let ready = self.consensus.ready();
            let writes = ready.as_ref().is_some_and(|ready| ready.write.is_some());
            let piece = (writes || piece_alone).then(|| self.next_piece()).flatten();
            if ready.is_none() && piece.is_none() {
                break;
            }
            let Ready {
                messages,
                committed,
                reads,
                write,
            } = ready.unwrap_or_default();
            self.send(messages, outputs);
            self.apply(committed, outputs);
            for (ticket, index) in reads {
                if let Some(place) = self.reads.iter().position(|read| *read == ticket) {
                    self.reads.swap_remove(place);
                    outputs.push(Output::Reply(ticket, Reply::ReadAt(index)));
                }
            }
            if write.is_none() && piece.is_none() {
                continue;
            }
            let hard = write
                .as_ref()
                .map_or_else(|| self.consensus.hard_state(), |write| write.hard);
            let changed = hard != std::mem::replace(&mut self.hard, hard);
            let (entries, number, messages) = match write {
                Some(write) => (write.entries, Some(write.number), write.messages),
                None => (Vec::new(), None, Vec::new()),
            };
            let write = Write {
                sequence: self.next_sequence,
                hard: changed.then_some(hard),
                entries,
                piece,
                blobs: Vec::new(),
            };
            self.next_sequence += 1;
            outputs.push(Output::Persist(write.clone()));
            self.writing = Some(Writing {
                write,
                number,
                messages,
                retry: None,
            });
        }
        if !self.consensus.is_leader() {
            let reply = self.not_leader();
            let lost = self.early_reads.drain(..).chain(self.reads.drain(..));
            outputs.extend(lost.map(|ticket| Output::Reply(ticket, reply)));
        }
    }

    fn apply(&mut self, entries: Vec<Entry>, outputs: &mut Vec<Output>) {
        let Some(last) = entries.last() else { return };
        self.applied = last.index;
        let not_leader = self.not_leader();
        let mut lost = Vec::new();
        let one = |entry: Entry| {
            let waiting = self.waiting.remove(&entry.index);
            let (ours, others) = match waiting {
                Some(waiting) if waiting.term == entry.term => (Some(waiting.ticket), None),
                // Another leader put something else in its place.
                Some(waiting) => (None, Some(waiting.ticket)),
                None => (None, None),
            };
            lost.extend(others);
            Committed {
                entry,
                ticket: ours,
            }
        };
        let committed = entries.into_iter().map(one).collect();
        outputs.push(Output::Apply(committed));
        outputs.extend(
            lost.into_iter()
                .map(|ticket| Output::Reply(ticket, not_leader)),
        );
        if self.snapshotting.is_none() && self.is_long() {
            let index = self.applied;
            self.snapshotting = Some(Snapshotting::Asked { index });
            outputs.push(Output::Snapshot(index));
        }
    }

    fn is_long(&self) -> bool {
        let (entries, bytes) = self.consensus.size();
        entries >= self.compaction.entries
            || bytes >= self.compaction.bytes.max(self.snapshot_bytes)
    }

    fn next_piece(&mut self) -> Option<Piece> {
        let Some(Snapshotting::Writing {
            index,
            term,
            data,
            offset,
        }) = &mut self.snapshotting
        else {
            return None;
        };
        let end = data.len().min(*offset + PIECE_BYTES);
        let piece = Piece {
            index: *index,
            term: *term,
            offset: *offset as u64,
            data: data.slice(*offset..end),
            last: end == data.len(),
        };
        *offset = end;
        Some(piece)
    }

    fn send(&self, messages: Vec<(MemberId, Bytes)>, outputs: &mut Vec<Output>) {
        outputs.extend(messages.into_iter().map(|(to, body)| {
            Output::Send(Message {
                cluster: self.cluster,
                from: self.member,
                to,
                body,
            })
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Identity;
    use proptest::prelude::*;

    const MEMBER: MemberId = MemberId([1; 16]);
    const CLUSTER: ClusterId = ClusterId([2; 16]);

    fn at(millis: u64) -> Now {
        Duration::from_millis(millis)
    }

    fn proposal(ticket: Ticket, deadline: u64) -> Proposal {
        Proposal {
            ticket,
            request_id: [0; 16],
            command: Bytes::from(ticket.to_string()),
            blobs: Vec::new(),
            deadline: at(deadline),
        }
    }

    fn new(stored: &Stored) -> Core {
        let compaction = Compaction {
            entries: 5,
            bytes: 1000,
        };
        Core::new(MEMBER, stored, compaction)
    }

    /// A leader whose first entry is committed.
    fn leader() -> Core {
        let mut core = new(&Stored::default());
        core.step(at(0), Input::Tick);
        core.step(at(0), Input::Persisted(1));
        core
    }

    fn entries(entries: &[Entry]) -> String {
        let one = |entry: &Entry| match &entry.payload {
            Payload::Empty => format!(" ({})", entry.index),
            Payload::Command { .. } => format!(" {}", entry.index),
        };
        entries.iter().map(one).collect()
    }

    /// Outputs as short text: `persist 2: 2 3`, `apply (1) 2=7`, `reply 7 Unknown`. An entry of the
    /// leader's own stands in brackets.
    fn say(outputs: Vec<Output>) -> Vec<String> {
        let one = |output| match output {
            Output::Persist(write) => {
                let piece = write.piece.map_or_else(String::new, |piece| {
                    let last = if piece.last { ", last" } else { "" };
                    format!(" snapshot@{}+{}{last}", piece.index, piece.offset)
                });
                format!(
                    "persist {}:{}{piece}",
                    write.sequence,
                    entries(&write.entries)
                )
            }
            Output::Apply(committed) => {
                let one = |committed: Committed| {
                    let ticket = committed.ticket.map(|ticket| format!("={ticket}"));
                    entries(&[committed.entry]) + &ticket.unwrap_or_default()
                };
                format!(
                    "apply{}",
                    committed.into_iter().map(one).collect::<String>()
                )
            }
            Output::Reply(ticket, reply) => format!("reply {ticket} {reply:?}"),
            Output::Send(message) => format!("send {}", message.to),
            Output::Snapshot(index) => format!("snapshot {index}"),
        };
        outputs.into_iter().map(one).collect()
    }

    fn propose(core: &mut Core, ticket: Ticket) -> Vec<String> {
        say(core.step(at(1), Input::Propose(vec![proposal(ticket, 9_999)])))
    }

    #[test]
    fn nobody_is_served_before_the_election_is_on_disk() {
        let mut core = new(&Stored::default());
        let not_leader = "reply 7 NotLeader { hint: None }";
        assert_eq!(propose(&mut core, 7), [not_leader]);
        assert_eq!(say(core.step(at(0), Input::Read(7))), [not_leader]);
        assert_eq!(say(core.step(at(0), Input::Tick)), ["persist 1: (1)"]);
        assert!(core.step(at(0), Input::Read(7)).is_empty());
        assert!(propose(&mut core, 8).is_empty());
        let outputs = core.step(at(0), Input::Persisted(1));
        let read = "reply 7 ReadAt(1)";
        assert_eq!(say(outputs), ["apply (1)", read, "persist 2: 2"]);
        let outputs = core.step(at(0), Input::Persisted(2));
        assert_eq!(say(outputs), ["apply 2=8"]);
    }

    #[test]
    fn what_comes_during_a_write_shares_the_next() {
        let mut core = leader();
        assert_eq!(propose(&mut core, 5), ["persist 2: 2"]);
        assert!(propose(&mut core, 6).is_empty());
        assert!(propose(&mut core, 7).is_empty());
        let outputs = core.step(at(2), Input::Persisted(2));
        assert_eq!(say(outputs), ["apply 2=5", "persist 3: 3 4"]);
        let outputs = core.step(at(3), Input::Persisted(3));
        assert_eq!(say(outputs), ["apply 3=6 4=7"]);
        assert_eq!(say(core.step(at(3), Input::Read(8))), ["reply 8 ReadAt(4)"]);
    }

    #[test]
    fn a_deadline_before_the_log_is_certain_and_after_it_is_not() {
        let mut core = leader();
        let proposals = vec![proposal(5, 10), proposal(6, 20)];
        let outputs = core.step(at(10), Input::Propose(proposals));
        assert_eq!(say(outputs), ["reply 5 Expired", "persist 2: 2"]);
        assert_eq!(say(core.step(at(20), Input::Tick)), ["reply 6 Unknown"]);
        assert_eq!(say(core.step(at(21), Input::Persisted(2))), ["apply 2"]);
    }

    fn stored() -> Stored {
        let entry = |index| Entry {
            index,
            term: 4,
            payload: Payload::Empty,
        };
        Stored {
            identity: Some(Identity {
                cluster: CLUSTER,
                member: MEMBER,
            }),
            hard: HardState {
                term: 4,
                ..HardState::default()
            },
            snapshot: None,
            entries: vec![entry(1), entry(2)],
        }
    }

    #[test]
    fn a_log_found_on_disk_is_applied_after_the_election() {
        let mut core = new(&stored());
        let outputs = core.step(at(0), Input::Tick);
        assert_eq!(say(outputs.clone()), ["persist 1: (3)"]);
        let Some(Output::Persist(write)) = outputs.first() else {
            panic!("nothing to persist");
        };
        let hard = write.hard.expect("the vote is persisted with the entry");
        assert_eq!((hard.term, hard.vote), (5, u64::from_be_bytes([1; 8])));
        let outputs = core.step(at(0), Input::Persisted(1));
        assert_eq!(say(outputs), ["apply (1) (2) (3)"]);
        assert_eq!(propose(&mut core, 1), ["persist 2: 4"]);
    }

    #[test]
    fn a_write_without_room_is_tried_again_and_nothing_else_is_taken() {
        let mut core = leader();
        assert_eq!(propose(&mut core, 5), ["persist 2: 2"]);
        assert!(propose(&mut core, 6).is_empty());
        let told = "NoRoom { logged: true }";
        assert_eq!(
            say(core.step(at(3), Input::NoRoom(2))),
            [format!("reply 5 {told}"), format!("reply 6 {told}")]
        );
        assert_eq!(propose(&mut core, 7), ["reply 7 NoRoom { logged: false }"]);
        assert!(core.step(at(500), Input::Tick).is_empty(), "too early");
        assert_eq!(say(core.step(at(1003), Input::Tick)), ["persist 2: 2"]);
        assert!(core.step(at(1004), Input::NoRoom(2)).is_empty());
        assert_eq!(say(core.step(at(2004), Input::Tick)), ["persist 2: 2"]);
        let outputs = core.step(at(2005), Input::Persisted(2));
        assert_eq!(say(outputs), ["apply 2", "persist 3: 3"]);
        assert!(propose(&mut core, 8).is_empty());
        let outputs = core.step(at(2006), Input::Persisted(3));
        assert_eq!(say(outputs), ["apply 3", "persist 4: 4"]);
    }

    #[test]
    fn a_long_log_gives_way_to_a_snapshot_piece_by_piece() {
        let mut core = leader();
        for ticket in 2..=4 {
            assert_eq!(
                propose(&mut core, ticket),
                [format!("persist {ticket}: {ticket}")]
            );
            let outputs = core.step(at(1), Input::Persisted(ticket));
            assert_eq!(say(outputs), [format!("apply {ticket}={ticket}")]);
        }
        assert_eq!(propose(&mut core, 5), ["persist 5: 5"]);
        let outputs = core.step(at(1), Input::Persisted(5));
        assert_eq!(say(outputs), ["apply 5=5", "snapshot 5"]);
        assert_eq!(propose(&mut core, 6), ["persist 6: 6"]);
        let data = Bytes::from(vec![0; PIECE_BYTES * 2 + 1]);
        assert!(
            core.step(at(2), Input::Snapshot { index: 5, data })
                .is_empty()
        );
        // The pieces go with the writes there are, else with the ticks.
        assert_eq!(say(core.step(at(2), Input::Persisted(6))), ["apply 6=6"]);
        assert_eq!(propose(&mut core, 7), ["persist 7: 7 snapshot@5+0"]);
        assert_eq!(say(core.step(at(2), Input::Persisted(7))), ["apply 7=7"]);
        let outputs = core.step(at(3), Input::Tick);
        assert_eq!(say(outputs), ["persist 8: snapshot@5+1048576"]);
        assert!(core.step(at(3), Input::Persisted(8)).is_empty());
        let outputs = core.step(at(4), Input::Tick);
        assert_eq!(say(outputs), ["persist 9: snapshot@5+2097152, last"]);
        assert_eq!(core.consensus.size().0, 7);
        assert!(core.step(at(4), Input::Persisted(9)).is_empty());
        assert_eq!(core.consensus.size().0, 2, "6 and 7 are left");
        assert_eq!(propose(&mut core, 8), ["persist 10: 8"]);
    }

    #[test]
    fn the_only_member_stays_the_leader() {
        let mut core = leader();
        for tick in 1..500 {
            assert!(core.step(at(tick * 30), Input::Tick).is_empty());
        }
        let outputs = core.step(at(15_000), Input::Read(1));
        assert_eq!(say(outputs), ["reply 1 ReadAt(1)"]);
    }

    #[test]
    fn strangers_are_not_heard() {
        let mut core = new(&stored());
        core.step(at(0), Input::Tick);
        core.step(at(0), Input::Persisted(1));
        let stranger = MemberId([3; 16]);
        for (cluster, from, to) in [
            (ClusterId([9; 16]), stranger, MEMBER),
            (CLUSTER, stranger, MemberId([4; 16])),
            (CLUSTER, stranger, MEMBER),
            (CLUSTER, MEMBER, MEMBER),
        ] {
            for body in [&b"\xff\xff"[..], b""] {
                let body = Bytes::from_static(body);
                let message = Message {
                    cluster,
                    from,
                    to,
                    body,
                };
                assert!(core.step(at(0), Input::Message(message)).is_empty());
            }
        }
    }

    #[test]
    #[should_panic = "the disk of another member"]
    fn the_disk_of_another_member_is_not_used() {
        Core::new(MemberId([3; 16]), &stored(), Compaction::default());
    }

    proptest! {
        /// Whatever happens in whatever order: places have no gaps, nothing is applied before it
        /// was persisted, every ticket is answered once, and what a restart finds continues the log.
        #[test]
        fn every_ticket_is_answered_once(steps in prop::collection::vec((0u8..7, 0u64..30), 1..80)) {
            let mut core = leader();
            let (mut now, mut ticket, mut on_disk, mut applied) = (0, 0, 1, 1);
            let mut writes = Vec::new();
            let mut snapshots = Vec::new();
            let mut open = std::collections::BTreeSet::new();
            let finish = [(2, 0), (0, 9_999)].repeat(8);
            for (kind, amount) in steps.into_iter().chain(finish) {
                now += amount;
                let input = match kind {
                    0 => Input::Tick,
                    1 => {
                        let proposals = (0..amount % 4).map(|_| {
                            ticket += 1;
                            open.insert(ticket);
                            proposal(ticket, now + amount)
                        });
                        Input::Propose(proposals.collect())
                    }
                    2 | 3 => {
                        let Some(write) = writes.pop() else { continue };
                        let Write { sequence, entries, .. } = write;
                        for entry in &entries {
                            on_disk += 1;
                            prop_assert_eq!(entry.index, on_disk);
                        }
                        Input::Persisted(sequence)
                    }
                    4 => {
                        let Some(write) = writes.pop() else { continue };
                        Input::NoRoom(write.sequence)
                    }
                    5 => {
                        let Some(index) = snapshots.pop() else { continue };
                        Input::Snapshot { index, data: Bytes::from_static(b"all") }
                    }
                    _ => {
                        ticket += 1;
                        open.insert(ticket);
                        Input::Read(ticket)
                    }
                };
                for output in core.step(at(now), input) {
                    match output {
                        Output::Persist(write) => {
                            prop_assert!(writes.is_empty());
                            writes.push(write);
                        }
                        Output::Apply(committed) => for Committed { entry, ticket } in committed {
                            applied += 1;
                            prop_assert_eq!(entry.index, applied);
                            prop_assert!(applied <= on_disk);
                            if let Some(ticket) = ticket {
                                prop_assert!(open.remove(&ticket));
                            }
                        },
                        Output::Reply(ticket, _) => prop_assert!(open.remove(&ticket)),
                        Output::Send(_) => prop_assert!(false, "there is nobody to send to"),
                        Output::Snapshot(index) => {
                            prop_assert_eq!(index, applied);
                            snapshots.push(index);
                        }
                    }
                }
            }
            prop_assert!(open.is_empty(), "{:?} wait for ever", open);
        }
    }
}
