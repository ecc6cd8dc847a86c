//! What is appended, persisted, committed and answered, and when: the decisions of the store.
//!
//! **Invariant**: nothing here awaits, reads a clock, or touches a disk. Whoever drives it feeds
//! [`Input`]s and carries out [`Output`]s in their order, so a simulator runs the same code.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// Time since a moment of the driver's choosing; it never runs backwards.
pub type Now = Duration;

/// What a driver knows one waiting request by; never used twice.
pub type Ticket = u64;

/// A member, for ever: ids are random and never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub [u8; 16]);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One command at its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The place, from 1 and without gaps.
    pub index: u64,
    /// The term of the leader that appended it.
    pub term: u64,
    /// Who asked for it: a repeated request carries the same id.
    pub request_id: [u8; 16],
    /// The command, meaningless to the store.
    pub command: Bytes,
}

/// What a member must never forget, besides its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardState {
    /// The newest term it has seen.
    pub term: u64,
    /// Whom it voted for in that term.
    pub vote: Option<MemberId>,
}

/// All that a member finds on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// What it must never forget.
    pub hard: HardState,
    /// Its log.
    pub entries: Vec<Entry>,
}

/// One atomic write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What [`Input::Persisted`] names it by.
    pub sequence: u64,
    /// The new hard state, if it changed.
    pub hard: Option<HardState>,
    /// What the log grows by.
    pub entries: Vec<Entry>,
}

/// A message between members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
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
    /// Somebody asks from which index on a view shows all that was committed before the question.
    Read(Ticket),
}

/// What a driver has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Put it on disk, then say [`Input::Persisted`].
    Persist(Write),
    /// Deliver it, or not: the network may lose it.
    Send(Message),
    /// Apply these to the machine and give the outcomes to those who wait.
    Apply(Vec<Committed>),
    /// Answer this ticket; it waits for nothing else.
    Reply(Ticket, Reply),
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
    /// Ask that member, if it is known.
    NotLeader {
        /// The leader.
        hint: Option<MemberId>,
    },
    /// The deadline passed before anything was logged: the command takes no effect.
    Expired,
    /// The deadline passed with the command in the log: it may yet take effect.
    Unknown,
    /// A view of this index shows all that was committed before the question.
    ReadAt(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Has not been elected since it was opened.
    Follower,
    /// The write that makes it the leader is under way.
    Candidate,
    Leader,
}

/// One member of the log.
#[derive(Debug)]
pub struct Core {
    member: MemberId,
    role: Role,
    hard: HardState,
    /// The last place given out.
    last: u64,
    /// All up to here is committed.
    committed: u64,
    /// The write under way; there is one at a time, so that what comes meanwhile shares the next.
    writing: Option<u64>,
    next_sequence: u64,
    /// Appended but not part of a write so far.
    unwritten: Vec<Entry>,
    /// On disk or on its way there, and not applied.
    uncommitted: Vec<Entry>,
    /// Who waits for which place.
    waiting: BTreeMap<u64, (Ticket, Now)>,
}

impl Core {
    /// A member that finds this on its disk. It is no leader before its first [`Input::Tick`].
    pub fn new(member: MemberId, stored: Stored) -> Self {
        Self {
            member,
            role: Role::Follower,
            hard: stored.hard,
            last: stored.entries.last().map_or(0, |entry| entry.index),
            committed: 0,
            writing: None,
            next_sequence: 1,
            unwritten: Vec::new(),
            uncommitted: stored.entries,
            waiting: BTreeMap::new(),
        }
    }

    /// Takes one input; the outputs are to be carried out in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Tick => self.tick(now, &mut outputs),
            // A log of one member has nobody to hear from.
            Input::Message(_) => {}
            Input::Propose(proposals) => self.propose(now, proposals, &mut outputs),
            Input::Persisted(sequence) => self.persisted(sequence, &mut outputs),
            Input::Read(ticket) => outputs.push(Output::Reply(
                ticket,
                if self.role == Role::Leader {
                    Reply::ReadAt(self.committed)
                } else {
                    Reply::NotLeader { hint: None }
                },
            )),
        }
        outputs
    }

    fn tick(&mut self, now: Now, outputs: &mut Vec<Output>) {
        if self.role == Role::Follower {
            // The only member elects itself, and remembers its vote before it acts on it.
            self.role = Role::Candidate;
            self.hard = HardState {
                term: self.hard.term + 1,
                vote: Some(self.member),
            };
            self.write(Some(self.hard), outputs);
        }
        self.waiting.retain(|_, (ticket, deadline)| {
            let late = *deadline <= now;
            if late {
                outputs.push(Output::Reply(*ticket, Reply::Unknown));
            }
            !late
        });
    }

    fn propose(&mut self, now: Now, proposals: Vec<Proposal>, outputs: &mut Vec<Output>) {
        for Proposal {
            ticket,
            request_id,
            command,
            deadline,
        } in proposals
        {
            if self.role != Role::Leader {
                outputs.push(Output::Reply(ticket, Reply::NotLeader { hint: None }));
            } else if deadline <= now {
                outputs.push(Output::Reply(ticket, Reply::Expired));
            } else {
                self.last += 1;
                let term = self.hard.term;
                self.unwritten.push(Entry {
                    index: self.last,
                    term,
                    request_id,
                    command,
                });
                self.waiting.insert(self.last, (ticket, deadline));
            }
        }
        if self.writing.is_none() && !self.unwritten.is_empty() {
            self.write(None, outputs);
        }
    }

    fn persisted(&mut self, sequence: u64, outputs: &mut Vec<Output>) {
        if self.writing.is_none_or(|writing| sequence < writing) {
            return;
        }
        self.writing = None;
        if self.role == Role::Candidate {
            self.role = Role::Leader;
        }
        // What the only member has on disk, the majority has.
        let committed: Vec<_> = std::mem::take(&mut self.uncommitted)
            .into_iter()
            .map(|entry| {
                let ticket = self.waiting.remove(&entry.index).map(|(ticket, _)| ticket);
                Committed { entry, ticket }
            })
            .collect();
        if let Some(last) = committed.last() {
            self.committed = last.entry.index;
            outputs.push(Output::Apply(committed));
        }
        if !self.unwritten.is_empty() {
            self.write(None, outputs);
        }
    }

    fn write(&mut self, hard: Option<HardState>, outputs: &mut Vec<Output>) {
        let entries = std::mem::take(&mut self.unwritten);
        self.uncommitted.extend(entries.iter().cloned());
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.writing = Some(sequence);
        outputs.push(Output::Persist(Write {
            sequence,
            hard,
            entries,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEMBER: MemberId = MemberId([1; 16]);

    fn at(millis: u64) -> Now {
        Duration::from_millis(millis)
    }

    fn proposal(ticket: Ticket, deadline: u64) -> Proposal {
        Proposal {
            ticket,
            request_id: [0; 16],
            command: Bytes::from(ticket.to_string()),
            deadline: at(deadline),
        }
    }

    fn leader() -> Core {
        let mut core = Core::new(MEMBER, Stored::default());
        core.step(at(0), Input::Tick);
        core.step(at(0), Input::Persisted(1));
        core
    }

    /// Outputs as short text: `persist 2: 1 2`, `apply 1=7`, `reply 7 Unknown`.
    fn say(outputs: Vec<Output>) -> Vec<String> {
        let one =
            |output| match output {
                Output::Persist(write) => write
                    .entries
                    .iter()
                    .fold(format!("persist {}:", write.sequence), |text, entry| {
                        format!("{text} {}", entry.index)
                    }),
                Output::Apply(committed) => committed.iter().fold(
                    "apply".to_owned(),
                    |text, Committed { entry, ticket }| match ticket {
                        Some(ticket) => format!("{text} {}={ticket}", entry.index),
                        None => format!("{text} {}", entry.index),
                    },
                ),
                Output::Reply(ticket, reply) => format!("reply {ticket} {reply:?}"),
                Output::Send(message) => format!("send {}", message.to),
            };
        outputs.into_iter().map(one).collect()
    }

    #[test]
    fn nobody_is_served_before_the_election_is_on_disk() {
        let mut core = Core::new(MEMBER, Stored::default());
        let not_leader = "reply 7 NotLeader { hint: None }";
        assert_eq!(
            say(core.step(at(0), Input::Propose(vec![proposal(7, 9)]))),
            [not_leader]
        );
        assert_eq!(say(core.step(at(0), Input::Tick)), ["persist 1:"]);
        assert_eq!(say(core.step(at(0), Input::Read(7))), [not_leader]);
        assert!(core.step(at(0), Input::Persisted(1)).is_empty());
        assert_eq!(say(core.step(at(0), Input::Read(7))), ["reply 7 ReadAt(0)"]);
    }

    #[test]
    fn what_comes_during_a_write_shares_the_next() {
        let mut core = leader();
        let mut propose = |ticket| core.step(at(1), Input::Propose(vec![proposal(ticket, 99)]));
        assert_eq!(say(propose(5)), ["persist 2: 1"]);
        assert!(propose(6).is_empty());
        assert!(propose(7).is_empty());
        let outputs = core.step(at(2), Input::Persisted(2));
        assert_eq!(say(outputs), ["apply 1=5", "persist 3: 2 3"]);
        assert_eq!(
            say(core.step(at(3), Input::Persisted(3))),
            ["apply 2=6 3=7"]
        );
        assert_eq!(say(core.step(at(3), Input::Read(8))), ["reply 8 ReadAt(3)"]);
    }

    #[test]
    fn a_deadline_before_the_log_is_certain_and_after_it_is_not() {
        let mut core = leader();
        let outputs = core.step(
            at(10),
            Input::Propose(vec![proposal(5, 10), proposal(6, 20)]),
        );
        assert_eq!(say(outputs), ["reply 5 Expired", "persist 2: 1"]);
        assert_eq!(say(core.step(at(20), Input::Tick)), ["reply 6 Unknown"]);
        assert_eq!(say(core.step(at(21), Input::Persisted(2))), ["apply 1"]);
    }

    #[test]
    fn a_log_found_on_disk_is_applied_after_the_election() {
        let entry = |index| Entry {
            index,
            term: 4,
            request_id: [0; 16],
            command: Bytes::new(),
        };
        let hard = HardState {
            term: 4,
            vote: Some(MEMBER),
        };
        let mut core = Core::new(
            MEMBER,
            Stored {
                hard,
                entries: vec![entry(1), entry(2)],
            },
        );
        let outputs = core.step(at(0), Input::Tick);
        let hard = HardState {
            term: 5,
            vote: Some(MEMBER),
        };
        let write = Write {
            sequence: 1,
            hard: Some(hard),
            entries: Vec::new(),
        };
        assert_eq!(outputs, [Output::Persist(write)]);
        assert_eq!(say(core.step(at(0), Input::Persisted(1))), ["apply 1 2"]);
        let outputs = core.step(at(0), Input::Propose(vec![proposal(1, 9)]));
        assert_eq!(say(outputs), ["persist 2: 3"]);
    }

    proptest! {
        /// Whatever happens in whatever order: places have no gaps, nothing is applied before it
        /// was persisted, and every ticket is answered once.
        #[test]
        fn every_ticket_is_answered_once(steps in prop::collection::vec((0u8..3, 0u64..30), 1..60)) {
            let mut core = leader();
            let (mut now, mut ticket, mut on_disk, mut applied) = (0, 0, 0, 0);
            let mut writes = Vec::new();
            let mut open = std::collections::BTreeSet::new();
            let finish = [(2, 0), (0, 99)].repeat(3);
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
                    _ => {
                        let Some(write) = writes.pop() else { continue };
                        let Write { sequence, entries, .. } = write;
                        for entry in &entries {
                            on_disk += 1;
                            prop_assert_eq!(entry.index, on_disk);
                        }
                        Input::Persisted(sequence)
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
                    }
                }
            }
            prop_assert!(open.is_empty(), "{:?} wait for ever", open);
        }
    }
}
