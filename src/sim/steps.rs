//! What happens in a world, in order: each step has a number, at which a manager can die.
//!
//! **Invariant**: the same seed gives the same steps; once a life is over it has no effect on anything outside.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::clock;

/// How a manager ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Its process is killed: what it has written to its disk is there.
    Kill,
    /// Its machine loses power: what it has not synced may be there or not.
    PowerLoss,
}

impl Crash {
    /// As a sentence says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "is killed",
            Self::PowerLoss => "loses power",
        }
    }
}

/// One run of a manager, from its start to its end.
#[derive(Debug, Default)]
pub(super) struct Life {
    over: AtomicBool,
    ended: Notify,
}

impl Life {
    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends it. What is left of it runs into walls until it is swept up.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.ended.notify_one();
    }

    /// Waits for its end.
    pub(super) async fn until_over(&self) {
        while !self.is_over() {
            self.ended.notified().await;
        }
    }
}

/// When a manager is to die: at this step or the first one after it, or at the first with these words.
#[derive(Debug)]
enum When {
    Step(u64),
    Words(String),
}

/// All that has happened, and when the manager is to die.
#[derive(Debug)]
pub(super) struct Steps {
    state: Mutex<State>,
    began: Instant,
}

#[derive(Debug, Default)]
struct State {
    taken: u64,
    crash: Option<(When, Crash)>,
    died_at: Option<String>,
    life: Option<Arc<Life>>,
    trace: String,
    story: Vec<String>,
    broken: Vec<String>,
}

impl Steps {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::default(),
            began: clock::instant(),
        }
    }

    /// Something happened after which a manager can die; it dies if that was planned.
    pub(super) fn take(&self, what: impl AsRef<str>) {
        let mut state = self.lock();
        state.taken += 1;
        let taken = state.taken;
        self.write(&mut state, &format!("#{taken} {}", what.as_ref()));
        let due = match &state.crash {
            Some((When::Step(at), _)) => *at <= taken,
            Some((When::Words(words), _)) => what.as_ref().contains(words),
            None => false,
        };
        if due
            && let Some(life) = &state.life
            && !life.is_over()
        {
            life.end();
            state.died_at = Some(what.as_ref().to_owned());
        }
    }

    /// Something worth telling.
    pub(super) fn tell(&self, what: String) {
        let mut state = self.lock();
        self.write(&mut state, &what);
        state.story.push(what);
    }

    /// Something that only a replay shows.
    pub(super) fn note(&self, what: impl AsRef<str>) {
        self.write(&mut self.lock(), what.as_ref());
    }

    /// Something that must never be.
    pub(super) fn break_off(&self, what: String) {
        let mut state = self.lock();
        self.write(&mut state, &format!("BROKEN: {what}"));
        state.broken.push(what);
    }

    /// What must never be and was.
    pub(super) fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    /// How many steps there were.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Has the manager die at this step, or the next one that is taken while it lives.
    pub(super) fn crash_at(&self, step: u64, crash: Crash) {
        self.lock().crash = Some((When::Step(step), crash));
    }

    /// Has the manager die at the next step with these words.
    pub(super) fn crash_on(&self, words: String, crash: Crash) {
        self.lock().crash = Some((When::Words(words), crash));
    }

    /// The step at which a manager last died.
    pub(super) fn died_at(&self) -> Option<String> {
        self.lock().died_at.clone()
    }

    /// The crash that was planned, which is so no more.
    pub(super) fn crashed(&self) -> Option<Crash> {
        self.lock().crash.take().map(|(_, crash)| crash)
    }

    /// Whose life the crashes end.
    pub(super) fn live(&self, life: &Arc<Life>) {
        self.lock().life = Some(Arc::clone(life));
    }

    /// All that was told since this was last called.
    pub(super) fn story(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().story)
    }

    /// All that has happened, a line each.
    pub(super) fn trace(&self) -> String {
        self.lock().trace.clone()
    }

    fn write(&self, state: &mut State, what: &str) {
        let at = clock::instant().duration_since(self.began);
        // Writing to a string never fails.
        let _ = writeln!(state.trace, "{:>9.3}s {what}", at.as_secs_f64());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
