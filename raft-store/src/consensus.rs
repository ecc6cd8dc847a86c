//! Raft: the only module that knows the `raft` crate, its message format and its logger.
//!
//! Raft reads the log behind the last snapshot from memory; what it wants on disk leaves here as
//! values of ours. It panics on input that no member should ever see, so strangers are kept out
//! before it hears of them, and whoever drives it catches a panic and ends.
//!
//! **Invariant**: raft hears of an entry as stored only after [`Consensus::persisted`].

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb;
use raft::{
    Config, GetEntriesContext, RaftState, RawNode, ReadOnlyOption, StateRole, Storage, StorageError,
};

use crate::log::{Entry, HardState, MemberId, Payload, Stored};

/// Ticks without a word from the leader before an election; doubled at random by raft.
const ELECTION_TICKS: usize = 10;
const HEARTBEAT_TICKS: usize = 2;
/// How much one message between members carries.
const MESSAGE_BYTES: u64 = 1 << 20;
/// How much is handed over to be applied at a time.
const APPLY_BYTES: u64 = 8 << 20;

/// What raft calls a member.
fn number(member: MemberId) -> u64 {
    let first = member.0.iter().take(8);
    first.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// What raft wants done, in the order of the fields.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// Messages that need not wait for the write.
    pub(crate) messages: Vec<(MemberId, Bytes)>,
    /// Entries that will never be undone.
    pub(crate) committed: Vec<Entry>,
    /// Reads that were confirmed: what they were asked with, and the index.
    pub(crate) reads: Vec<(u64, u64)>,
    /// What must be on disk before anything else happens.
    pub(crate) write: Option<Unwritten>,
}

/// What raft wants on disk, all of it at once.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) hard: HardState,
    pub(crate) entries: Vec<Entry>,
    /// For [`Consensus::persisted`].
    pub(crate) number: u64,
    /// Messages that may leave once it is on disk.
    pub(crate) messages: Vec<(MemberId, Bytes)>,
}

/// One member's raft.
pub(crate) struct Consensus {
    node: RawNode<Log>,
    /// Everybody who has a voice, this member among them.
    members: Vec<MemberId>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("members", &self.members)
            .field("term", &self.term())
            .finish_non_exhaustive()
    }
}

impl Consensus {
    /// The member `me`, alone, with what is on its disk.
    ///
    /// # Panics
    ///
    /// When what is stored contradicts itself.
    pub(crate) fn new(me: MemberId, stored: &Stored) -> Self {
        assert_ne!(number(me), 0, "a member id that begins with eight zeros");
        let start = stored
            .snapshot
            .as_ref()
            .map_or((0, 0), |snapshot| (snapshot.index, snapshot.term));
        let last = stored.entries.last().map_or(start.0, |entry| entry.index);
        for (entry, index) in stored.entries.iter().zip(start.0 + 1..) {
            assert_eq!(entry.index, index, "a gap in the log");
        }
        let commit = stored.hard.commit.clamp(start.0, last);
        let entries: VecDeque<_> = stored.entries.iter().map(raft_entry).collect();
        let log = Log {
            hard: raft_hard_state(HardState {
                commit,
                ..stored.hard
            }),
            members: eraftpb::ConfState {
                voters: vec![number(me)],
                ..Default::default()
            },
            start,
            bytes: entries.iter().map(|entry| entry.data.len() as u64).sum(),
            entries,
        };
        let config = Config {
            id: number(me),
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: start.0,
            max_size_per_msg: MESSAGE_BYTES,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            max_committed_size_per_ready: APPLY_BYTES,
            ..Default::default()
        };
        let logger = slog::Logger::root(ToTracing, slog::o!());
        let node = RawNode::new(&config, log, &logger).expect("a log that contradicts itself");
        Self {
            node,
            members: vec![me],
        }
    }

    pub(crate) fn tick(&mut self) {
        // The only member has nobody to wait for.
        if self.members.len() == 1 && self.node.raft.state == StateRole::Follower {
            self.node
                .campaign()
                .expect("the only member can be elected");
        }
        self.node.tick();
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Who leads, if it is another member that is known.
    pub(crate) fn leader(&self) -> Option<MemberId> {
        self.members
            .iter()
            .copied()
            .find(|member| number(*member) == self.node.raft.leader_id)
    }

    pub(crate) fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// How much log there is behind the last snapshot, in entries and bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        let log = self.node.store();
        (log.entries.len() as u64, log.bytes)
    }

    /// Appends to the leader's log and says where, if raft takes it. That is no commit yet.
    pub(crate) fn propose(&mut self, payload: &Payload) -> Option<u64> {
        self.node.propose(Vec::new(), payload.encode()).ok()?;
        Some(self.node.raft.raft_log.last_index())
    }

    /// Whether reads can be confirmed: a leader learns what is committed with its first entry.
    pub(crate) fn can_read(&self) -> bool {
        self.is_leader() && self.node.raft.commit_to_current_term()
    }

    /// Asks the majority whether this is still the leader; the answer comes with [`Self::ready`].
    pub(crate) fn read(&mut self, context: u64) {
        self.node.read_index(context.to_be_bytes().to_vec());
    }

    /// Hears a message; `false` if it is none, or not from a member.
    pub(crate) fn hear(&mut self, from: MemberId, body: &[u8]) -> bool {
        let message = eraftpb::Message::parse_from_bytes(body);
        let known = self.members.contains(&from);
        match message {
            Ok(message)
                if known
                    && message.from == number(from)
                    && message.from != self.node.raft.id
                    && message.to == self.node.raft.id =>
            {
                self.node.step(message).is_ok()
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// The next things to do; `None` if there is nothing. After one with a write, first
    /// [`Self::persisted`].
    pub(crate) fn ready(&mut self) -> Option<Ready> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let mut todo = Ready {
            messages: self.outgoing(ready.take_messages()),
            committed: our_entries(ready.take_committed_entries()),
            reads: ready
                .take_read_states()
                .iter()
                .filter_map(our_read)
                .collect(),
            write: None,
        };
        if ready.must_sync() {
            let entries = ready.take_entries();
            let number = ready.number();
            let messages = self.outgoing(ready.take_persisted_messages());
            self.node.mut_store().append(&entries);
            self.node.advance_append_async(ready);
            todo.write = Some(Unwritten {
                hard: self.hard_state(),
                entries: our_entries(entries),
                number,
                messages,
            });
        } else {
            // A commit index alone is worth no write: it is found again.
            todo.messages
                .extend(self.outgoing(ready.take_persisted_messages()));
            let mut more = self.node.advance_append(ready);
            todo.messages.extend(self.outgoing(more.take_messages()));
            todo.committed
                .extend(our_entries(more.take_committed_entries()));
        }
        self.node.advance_apply();
        Some(todo)
    }

    /// The write of this number is on disk.
    pub(crate) fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    pub(crate) fn hard_state(&self) -> HardState {
        let hard = self.node.raft.hard_state();
        HardState {
            term: hard.term,
            vote: hard.vote,
            commit: hard.commit,
        }
    }

    /// The term of an entry that is still in the log.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        self.node.raft.raft_log.term(index).ok()
    }

    /// Forgets the entries that a snapshot on disk stands for.
    pub(crate) fn compact(&mut self, index: u64, term: u64) {
        self.node.mut_store().compact(index, term);
    }

    fn outgoing(&self, messages: Vec<eraftpb::Message>) -> Vec<(MemberId, Bytes)> {
        let addressed = messages.into_iter().filter_map(|message| {
            let to = self
                .members
                .iter()
                .find(|member| number(**member) == message.to)?;
            Some((*to, Bytes::from(message.write_to_bytes().ok()?)))
        });
        addressed.collect()
    }
}

fn raft_hard_state(hard: HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: hard.term,
        vote: hard.vote,
        commit: hard.commit,
        ..Default::default()
    }
}

fn raft_entry(entry: &Entry) -> eraftpb::Entry {
    let data = match &entry.payload {
        Payload::Empty => Bytes::new(),
        payload @ Payload::Command { .. } => payload.encode().into(),
    };
    eraftpb::Entry {
        index: entry.index,
        term: entry.term,
        data,
        ..Default::default()
    }
}

/// # Panics
///
/// When an entry cannot be understood: going on without it would make this member differ from
/// those that understand it.
fn our_entries(entries: Vec<eraftpb::Entry>) -> Vec<Entry> {
    let one = |entry: eraftpb::Entry| {
        let index = entry.index;
        let payload = Payload::decode(entry.data);
        let payload = payload.unwrap_or_else(|| panic!("entry {index} cannot be understood"));
        Entry {
            index,
            term: entry.term,
            payload,
        }
    };
    entries.into_iter().map(one).collect()
}

fn our_read(state: &raft::ReadState) -> Option<(u64, u64)> {
    let context = state.request_ctx.as_slice().try_into().ok()?;
    Some((u64::from_be_bytes(context), state.index))
}

/// The log behind the last snapshot, as raft reads it.
struct Log {
    hard: eraftpb::HardState,
    members: eraftpb::ConfState,
    /// Index and term of the last snapshot; zeros before the first.
    start: (u64, u64),
    entries: VecDeque<eraftpb::Entry>,
    /// How many bytes the entries carry.
    bytes: u64,
}

impl Log {
    fn last(&self) -> u64 {
        self.start.0 + self.entries.len() as u64
    }

    fn append(&mut self, entries: &[eraftpb::Entry]) {
        let Some(first) = entries.first() else { return };
        let kept = first.index - self.start.0 - 1;
        while self.entries.len() as u64 > kept {
            let dropped = self.entries.pop_back();
            self.bytes -= dropped.map_or(0, |entry| entry.data.len() as u64);
        }
        assert_eq!(self.last() + 1, first.index, "a gap in the log");
        self.bytes += entries
            .iter()
            .map(|entry| entry.data.len() as u64)
            .sum::<u64>();
        self.entries.extend(entries.iter().cloned());
    }

    fn compact(&mut self, index: u64, term: u64) {
        while self.start.0 < index {
            let dropped = self
                .entries
                .pop_front()
                .expect("a snapshot is of what is in the log");
            self.bytes -= dropped.data.len() as u64;
            self.start = (dropped.index, dropped.term);
        }
        assert_eq!(self.start, (index, term), "a snapshot of another log");
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low <= self.start.0 {
            return Err(StorageError::Compacted.into());
        }
        assert!(high <= self.last() + 1, "raft reads beyond its log");
        let offset = |index: u64| usize::try_from(index - self.start.0 - 1).unwrap_or(usize::MAX);
        let mut room = max_size.into().unwrap_or(u64::MAX);
        let mut first = true;
        let fits = |entry: &&eraftpb::Entry| {
            let size = entry.data.len() as u64;
            let fits = first || size <= room;
            first = false;
            room = room.saturating_sub(size);
            fits
        };
        let range = self.entries.range(offset(low)..offset(high));
        Ok(range.take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.start.0 {
            return Ok(self.start.1);
        }
        if index < self.start.0 {
            return Err(StorageError::Compacted.into());
        }
        let offset = usize::try_from(index - self.start.0 - 1).unwrap_or(usize::MAX);
        match self.entries.get(offset) {
            Some(entry) => Ok(entry.term),
            None => Err(StorageError::Unavailable.into()),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _: u64, _: u64) -> raft::Result<eraftpb::Snapshot> {
        // Nobody is to be caught up while there is one member.
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}

/// Lets raft's log records into `tracing`, under the target `raft`.
struct ToTracing;

impl slog::Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        let text = || {
            let mut text = Text(record.msg().to_string());
            // Writing into a text cannot fail.
            let _ = slog::KV::serialize(&record.kv(), record, &mut text);
            text.0
        };
        match record.level() {
            slog::Level::Critical | slog::Level::Error => {
                tracing::error!(target: "raft", detail = text(), "raft")
            }
            slog::Level::Warning => tracing::warn!(target: "raft", detail = text(), "raft"),
            // Elections are told by the store; raft's own words are for whoever looks for a fault.
            slog::Level::Info | slog::Level::Debug => {
                tracing::debug!(target: "raft", detail = text(), "raft")
            }
            slog::Level::Trace => tracing::trace!(target: "raft", detail = text(), "raft"),
        }
        Ok(())
    }
}

struct Text(String);

impl slog::Serializer for Text {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}
