//! Says whether an engine is ready, suspect or down, from what its probes brought. Pure: the probe loop
//! feeds it.
//!
//! A node is *suspect* after one missed probe, and *down* after `timeout` without an answer or after two
//! refusals at least 500 ms apart: a refusal is an answer of the machine, so it counts for more than
//! silence, but an engine that restarts refuses for a moment too.

use std::time::{Duration, Instant};

/// What one probe brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// The engine answered.
    Answered,
    /// Nothing came in time.
    Missed,
    /// The machine refused the connection, or reset it.
    Refused,
}

/// What is thought of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answers.
    Ready,
    /// It missed a probe: new work goes elsewhere if it can.
    Suspect,
    /// It is taken for lost: nobody waits for it.
    Down,
}

/// Two refusals must lie this far apart to be a loss.
pub(super) const REFUSALS_APART: Duration = Duration::from_millis(500);

/// One engine's record.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    verdict: Verdict,
    last_answer: Instant,
    first_refusal: Option<Instant>,
    timeout: Duration,
}

impl Monitor {
    /// An engine that answered just now.
    pub(super) const fn new(now: Instant, timeout: Duration) -> Self {
        Self {
            verdict: Verdict::Ready,
            last_answer: now,
            first_refusal: None,
            timeout,
        }
    }

    /// An engine that has not answered yet.
    pub(super) const fn lost(now: Instant, timeout: Duration) -> Self {
        Self {
            verdict: Verdict::Down,
            ..Self::new(now, timeout)
        }
    }

    /// What is thought of the engine.
    pub(super) const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes one probe's result; returns the new verdict if it changed.
    pub(super) fn observe(&mut self, signal: Signal, now: Instant) -> Option<Verdict> {
        let verdict = match signal {
            Signal::Answered => {
                self.last_answer = now;
                self.first_refusal = None;
                Verdict::Ready
            }
            Signal::Missed => self.silent(now),
            Signal::Refused => {
                let first = *self.first_refusal.get_or_insert(now);
                if now.duration_since(first) >= REFUSALS_APART {
                    Verdict::Down
                } else {
                    self.silent(now)
                }
            }
        };
        let changed = verdict != self.verdict;
        self.verdict = verdict;
        changed.then_some(verdict)
    }

    fn silent(&self, now: Instant) -> Verdict {
        let silence = now.duration_since(self.last_answer);
        if self.verdict == Verdict::Down || silence >= self.timeout {
            Verdict::Down
        } else {
            Verdict::Suspect
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `script` is `signal@milliseconds`; `expected` the verdict after each.
    fn check(script: &str, expected: &str) {
        let start = crate::clock::instant();
        let mut monitor = Monitor::new(start, Duration::from_secs(3));
        let verdicts: Vec<_> = script
            .split(' ')
            .map(|step| {
                let (signal, at) = step.split_once('@').expect("signal@ms");
                let signal = match signal {
                    "ok" => Signal::Answered,
                    "miss" => Signal::Missed,
                    "refuse" => Signal::Refused,
                    other => panic!("no such signal: {other}"),
                };
                monitor.observe(
                    signal,
                    start + Duration::from_millis(at.parse().expect("ms")),
                );
                format!("{:?}", monitor.verdict()).to_lowercase()
            })
            .collect();
        assert_eq!(verdicts.join(" "), expected, "{script}");
    }

    #[test]
    fn silence_makes_suspect_then_down() {
        check(
            "ok@1000 miss@2000 miss@3000 miss@4000",
            "ready suspect suspect down",
        );
        check("miss@2999 ok@3100 miss@4100", "suspect ready suspect");
    }

    #[test]
    fn two_refusals_apart_are_a_loss_and_a_quick_restart_is_not() {
        check("refuse@100 refuse@599 refuse@600", "suspect suspect down");
        check("refuse@100 ok@400 refuse@700", "suspect ready suspect");
    }

    #[test]
    fn a_lost_engine_stays_lost_until_it_answers() {
        check(
            "refuse@0 refuse@500 miss@600 refuse@700 ok@800",
            "suspect down down down ready",
        );
    }
}
