//! Says which objects of one engine to read again, and when. Pure: the watcher performs it.
//!
//! An event says that an object changed; only the engine says how. So each event leads to one re-read of
//! that object, never two at once: what happens meanwhile makes one more re-read after it. A change that
//! we make ourselves *holds* its object: the events that it causes wait, and one re-read after the
//! engine's answer covers them all. That re-read begins only once the last event of the change has been
//! seen (or has failed to come), so that no event trails behind it and causes another.
//!
//! **Invariant**: a waiter wakes only after a re-read that began after its change was done.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How long the last event of our own change is awaited after the engine's answer. Engines publish
/// events before they answer, so it has nearly always come already.
pub(super) const EVENT_PATIENCE: Duration = Duration::from_millis(20);

/// Which objects are re-read, who waits for it, and what is held. `K` names an object, `W` a waiter.
#[derive(Debug)]
pub(super) struct Rereads<K, W> {
    objects: BTreeMap<K, Object<W>>,
    last_read: Read,
}

/// One re-read. A re-read that is no longer the object's own is not looked at when it comes back.
pub(super) type Read = u64;

#[derive(Debug)]
struct Object<W> {
    /// Our own changes under way.
    held: u32,
    /// The re-read under way.
    running: Option<Read>,
    /// Something happened that the re-read under way may not show.
    stale: bool,
    /// Actions seen while held.
    seen: VecDeque<String>,
    /// A change that is done, but for its last event.
    awaited: Option<Awaited>,
    /// Read again then, whatever happens.
    again_at: Option<Instant>,
    served: Vec<W>,
    next: Vec<W>,
}

#[derive(Debug)]
struct Awaited {
    action: &'static str,
    until: Instant,
}

/// More events than this during one change are not told apart.
const SEEN_MAX: usize = 16;

impl<W> Default for Object<W> {
    fn default() -> Self {
        Self {
            held: 0,
            running: None,
            stale: false,
            seen: VecDeque::new(),
            awaited: None,
            again_at: None,
            served: vec![],
            next: vec![],
        }
    }
}

impl<K, W> Default for Rereads<K, W> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            last_read: 0,
        }
    }
}

/// What the watcher has to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// Read the object again.
    Start(Read),
}

impl<K: Ord + Clone, W> Rereads<K, W> {
    /// The object changed, says an event.
    pub(super) fn event(&mut self, key: &K, action: &str) -> Step {
        let object = self.objects.entry(key.clone()).or_default();
        if object.held > 0 {
            if object.seen.len() == SEEN_MAX {
                object.seen.pop_front();
            }
            object.seen.push_back(action.to_owned());
            object.stale = true;
            return Step::Wait;
        }
        if object
            .awaited
            .as_ref()
            .is_some_and(|awaited| awaited.action != action)
        {
            return Step::Wait;
        }
        object.awaited = None;
        object.start(&mut self.last_read)
    }

    /// Reads the object again at `at`, too: what was just read may not be the last word.
    pub(super) fn again_at(&mut self, key: &K, at: Instant) {
        self.objects.entry(key.clone()).or_default().again_at = Some(at);
    }

    /// A change of ours to the object begins.
    pub(super) fn hold(&mut self, key: &K) {
        self.objects.entry(key.clone()).or_default().held += 1;
    }

    /// Whether a change of ours to the object is under way.
    pub(super) fn is_held(&self, key: &K) -> bool {
        let object = self.objects.get(key);
        object.is_some_and(|object| object.held > 0)
    }

    /// A change of ours is done, says the engine's answer; `last` is the event that ends it, if it has
    /// one and events flow. `waiter` wakes when the lists show the change.
    pub(super) fn settle(
        &mut self,
        key: &K,
        last: Option<&'static str>,
        waiter: Option<W>,
        now: Instant,
    ) -> Step {
        let object = self.objects.entry(key.clone()).or_default();
        object.held = object.held.saturating_sub(1);
        object.next.extend(waiter);
        let missing = last.filter(|last| !object.seen.iter().any(|seen| seen == last));
        if object.held == 0 {
            object.seen.clear();
        }
        match missing {
            Some(action) => {
                let until = now + EVENT_PATIENCE;
                object.awaited = Some(Awaited { action, until });
                Step::Wait
            }
            None => object.start(&mut self.last_read),
        }
    }

    /// A change of ours came to nothing. What happened meanwhile is looked at now.
    pub(super) fn abandon(&mut self, key: &K) -> Step {
        let Some(object) = self.objects.get_mut(key) else {
            return Step::Wait;
        };
        object.held = object.held.saturating_sub(1);
        if object.held > 0 {
            return Step::Wait;
        }
        object.seen.clear();
        if std::mem::take(&mut object.stale) {
            return object.start(&mut self.last_read);
        }
        self.tidy(key);
        Step::Wait
    }

    /// Whether this re-read is the object's own still.
    pub(super) fn is_current(&self, key: &K, read: Read) -> bool {
        let object = self.objects.get(key);
        object.is_some_and(|object| object.running == Some(read))
    }

    /// The re-read is done: who is served, and whether to go on.
    pub(super) fn finished(&mut self, key: &K) -> (Vec<W>, Step) {
        let Some(object) = self.objects.get_mut(key) else {
            return (vec![], Step::Wait);
        };
        object.running = None;
        let served = std::mem::take(&mut object.served);
        let unseen = !object.next.is_empty() || (object.stale && object.held == 0);
        let step = if unseen && object.awaited.is_none() {
            object.start(&mut self.last_read)
        } else {
            Step::Wait
        };
        self.tidy(key);
        (served, step)
    }

    /// The re-read failed: those it was for are served by the next one, which begins at `again`.
    pub(super) fn failed(&mut self, key: &K, again: Instant) {
        let object = self.objects.entry(key.clone()).or_default();
        object.running = None;
        let mut waiting = std::mem::take(&mut object.served);
        waiting.append(&mut object.next);
        object.next = waiting;
        object.again_at = Some(again);
    }

    /// The object is gone: all who wait for it are served, and nothing of it is kept. A re-read under way
    /// is no longer its own.
    pub(super) fn gone(&mut self, key: &K) -> Vec<W> {
        let Some(mut object) = self.objects.remove(key) else {
            return vec![];
        };
        let mut served = std::mem::take(&mut object.served);
        served.append(&mut object.next);
        served
    }

    /// Forgets all objects; returns all who wait.
    pub(super) fn clear(&mut self) -> Vec<W> {
        let objects = std::mem::take(&mut self.objects);
        let waiters = objects.into_values();
        waiters
            .flat_map(|object| object.served.into_iter().chain(object.next))
            .collect()
    }

    /// The objects whose awaited event has not come by `now`, and those that are to be read again by now.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<(K, Read)> {
        let mut due = vec![];
        for (key, object) in &mut self.objects {
            let awaited = object.awaited.as_ref().is_some_and(|a| a.until <= now);
            let again = object.again_at.is_some_and(|at| at <= now);
            if awaited {
                object.awaited = None;
            }
            if again {
                object.again_at = None;
            }
            if (awaited || again)
                && let Step::Start(read) = object.start(&mut self.last_read)
            {
                due.push((key.clone(), read));
            }
        }
        due
    }

    /// When [`Self::overdue`] has something to say next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = |object: &Object<W>| {
            let awaited = object.awaited.as_ref().map(|awaited| awaited.until);
            [awaited, object.again_at]
        };
        self.objects.values().flat_map(deadlines).flatten().min()
    }

    fn tidy(&mut self, key: &K) {
        let idle = self.objects.get(key).is_some_and(|o| {
            o.held == 0
                && o.running.is_none()
                && !o.stale
                && o.awaited.is_none()
                && o.again_at.is_none()
                && o.next.is_empty()
                && o.served.is_empty()
        });
        if idle {
            self.objects.remove(key);
        }
    }
}

impl<W> Object<W> {
    fn start(&mut self, last_read: &mut Read) -> Step {
        if self.running.is_some() {
            self.stale = true;
            return Step::Wait;
        }
        *last_read += 1;
        self.running = Some(*last_read);
        self.stale = false;
        self.served.append(&mut self.next);
        Step::Start(*last_read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a script of one object and returns what the watcher would do: `start`, `wake:N`.
    fn check(script: &str, expected: &str) {
        let start = crate::clock::instant();
        let mut rereads = Rereads::<(), u32>::default();
        let mut done = vec![];
        let note = |step: Step, done: &mut Vec<String>| {
            if matches!(step, Step::Start(_)) {
                done.push("start".to_owned());
            }
        };
        for word in script.split(' ') {
            let (verb, argument) = word.split_once(':').unwrap_or((word, ""));
            match verb {
                "event" => note(rereads.event(&(), argument), &mut done),
                "hold" => rereads.hold(&()),
                "settle" => {
                    let last = (!argument.is_empty()).then_some("start");
                    note(rereads.settle(&(), last, Some(1), start), &mut done);
                }
                "abandon" => note(rereads.abandon(&()), &mut done),
                "finished" => {
                    let (served, step) = rereads.finished(&());
                    done.extend(served.iter().map(|w| format!("wake:{w}")));
                    note(step, &mut done);
                }
                "late" => done.extend(
                    rereads
                        .overdue(start + EVENT_PATIENCE)
                        .iter()
                        .map(|_| "start".to_owned()),
                ),
                "failed" => rereads.failed(&(), start + EVENT_PATIENCE),
                "gone" => done.extend(rereads.gone(&()).iter().map(|w| format!("wake:{w}"))),
                other => panic!("no such step: {other}"),
            }
        }
        assert_eq!(done.join(" "), expected, "{script}");
    }

    #[test]
    fn an_event_is_one_reread() {
        check("event:start finished", "start");
    }

    #[test]
    fn events_during_a_reread_make_one_more() {
        check(
            "event:start event:die event:oom finished finished",
            "start start",
        );
    }

    #[test]
    fn our_own_change_is_one_reread_however_many_events_it_causes() {
        check(
            "hold event:connect event:start settle:start finished",
            "start wake:1",
        );
    }

    #[test]
    fn a_reread_waits_for_the_last_event_of_our_change() {
        check(
            "hold settle:start event:connect event:start finished",
            "start wake:1",
        );
        check("hold settle:start late finished", "start wake:1");
    }

    #[test]
    fn a_waiter_is_not_served_by_a_reread_that_began_before_its_change_was_done() {
        check(
            "event:die hold settle finished finished",
            "start start wake:1",
        );
    }

    #[test]
    fn a_change_that_failed_leaves_nothing_behind() {
        check("hold abandon", "");
        check("hold event:die abandon finished", "start");
    }

    #[test]
    fn who_waits_for_a_reread_that_failed_is_served_by_the_next() {
        check("hold settle failed late finished", "start start wake:1");
        check("event:die failed late finished", "start start");
    }

    #[test]
    fn who_waits_for_an_object_that_vanished_is_served() {
        check("hold settle:start gone", "wake:1");
    }

    #[test]
    fn a_waiter_does_not_wait_for_somebody_elses_long_change() {
        check("hold hold settle finished", "start wake:1");
        check(
            "hold hold settle hold settle finished finished",
            "start wake:1 start wake:1",
        );
    }

    #[test]
    fn a_read_of_an_object_that_went_meanwhile_is_not_its_own() {
        let mut rereads = Rereads::<u8, u32>::default();
        let Step::Start(read) = rereads.event(&1, "start") else {
            panic!("an event is a read");
        };
        assert!(rereads.is_current(&1, read));
        assert!(rereads.gone(&1).is_empty());
        assert!(!rereads.is_current(&1, read));
        let _ = rereads.event(&1, "die");
        assert!(!rereads.is_current(&1, read));
    }

    #[test]
    fn an_object_is_read_again_when_it_was_asked_for() {
        let mut rereads = Rereads::<u8, u32>::default();
        let now = crate::clock::instant();
        rereads.again_at(&1, now + EVENT_PATIENCE);
        assert_eq!(rereads.next_deadline(), Some(now + EVENT_PATIENCE));
        assert!(rereads.overdue(now).is_empty());
        assert_eq!(rereads.overdue(now + EVENT_PATIENCE).len(), 1);
        assert_eq!(rereads.next_deadline(), None);
    }

    #[test]
    fn an_object_that_nobody_asks_about_is_forgotten() {
        let mut rereads = Rereads::<u8, ()>::default();
        let _ = rereads.event(&1, "start");
        let _ = rereads.finished(&1);
        assert!(rereads.objects.is_empty());
    }
}
