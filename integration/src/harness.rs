//! A test binary whose cases share one lab.
//!
//! The lab starts when the first case needs it and ends with the last. After each case its faults are undone and
//! what it left is removed. Where a lab is impossible every case is ignored, with the reason;
//! `FLOTILLA_LAB=required` makes that a failure, `FLOTILLA_LAB=off` asks for it.
//!
//! **Invariant**: listing cases starts nothing.

use std::cmp::Reverse;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::flotilla;
use crate::lab::{Lab, Spec, Unavailable, tail};

/// So many of the slowest cases are named at the end.
const SLOWEST: usize = 20;

type Work = Box<dyn FnOnce(&Lab) -> Result<()> + Send>;

/// A named check of something on a lab.
pub struct Case {
    name: String,
    work: Work,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Case").field(&self.name).finish()
    }
}

/// A case; its name is a sentence.
pub fn case(name: &str, work: impl FnOnce(&Lab) -> Result<()> + Send + 'static) -> Case {
    Case {
        name: name.to_owned(),
        work: Box::new(work),
    }
}

/// The number in an environment variable, such as how often something is tried.
pub fn number(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .with_context(|| format!("{variable}={text} is no number")),
        Err(_) => Ok(default),
    }
}

/// Runs the cases as libtest would: the usual arguments, one case at a time unless told otherwise.
#[must_use]
pub fn main(spec: Spec, cases: Vec<Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(1));
    let alone = arguments.test_threads == Some(1);
    let shared = Arc::new(Shared {
        spec,
        lab: Mutex::new(None),
        took: Mutex::default(),
    });
    let trials = cases.into_iter().map(|case| {
        let shared = Arc::clone(&shared);
        let Case { name, work } = case;
        Trial::ignorable_test(name.clone(), move || {
            let begun = Instant::now();
            let outcome = shared.run(work, alone);
            shared.note(name, begun.elapsed());
            outcome
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    shared.end();
    shared.tell_slowest();
    conclusion.exit_code()
}

type Started = Result<Arc<Lab>, Trouble>;

/// Why no case can run.
#[derive(Clone)]
enum Trouble {
    Unavailable(Unavailable),
    Broken(String),
}

struct Shared {
    spec: Spec,
    lab: Mutex<Option<Started>>,
    /// How long each case took.
    took: Mutex<Vec<(Duration, String)>>,
}

impl Shared {
    fn run(&self, work: Work, alone: bool) -> Result<Completion, Failed> {
        let lab = match self.lab() {
            Ok(lab) => lab,
            Err(Trouble::Broken(message)) => return Err(message.into()),
            Err(Trouble::Unavailable(reason)) if is_required() => {
                return Err(format!("FLOTILLA_LAB=required, but {reason}").into());
            }
            Err(Trouble::Unavailable(reason)) => return Ok(Completion::ignored_with(reason)),
        };
        drop(flotilla::take_logs());
        let before: Vec<usize> = lab.hosts().iter().map(|host| host.log().len()).collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&lab)));
        let outcome = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(format!("{error:#}")),
            Err(panic) => Some(message(panic.as_ref())),
        };
        let evidence = outcome.map(|message| message + &evidence(&lab, &before));
        // Cases that run side by side share the hosts, so nobody may tidy up.
        let recovered = if alone { lab.recover() } else { Ok(()) };
        match (evidence, recovered) {
            (Some(message), _) => Err(message.into()),
            (None, Err(error)) => {
                Err(format!("the lab does not recover from this case: {error:#}").into())
            }
            (None, Ok(())) => Ok(Completion::Completed),
        }
    }

    fn note(&self, name: String, took: Duration) {
        let mut all = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((took, name));
    }

    /// A suite that gets too long is shortened where most is to be had.
    fn tell_slowest(&self) {
        let mut all = self.took.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= SLOWEST {
            return;
        }
        all.sort_unstable_by_key(|(took, _)| Reverse(*took));
        println!("slowest:");
        for (took, name) in all.iter().take(SLOWEST) {
            println!("{:6.1} s  {name}", took.as_secs_f64());
        }
    }

    fn lab(&self) -> Started {
        let mut lab = self.lab.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || match Lab::start(&self.spec) {
            Ok(lab) => Ok(Arc::new(lab)),
            Err(error) => Err(match error.downcast_ref::<Unavailable>() {
                Some(reason) => Trouble::Unavailable(reason.clone()),
                None => Trouble::Broken(format!("the lab does not start: {error:#}")),
            }),
        };
        lab.get_or_insert_with(start).clone()
    }

    fn end(&self) {
        if let Some(Ok(lab)) = self
            .lab
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            && let Err(error) = lab.end()
        {
            eprintln!("lab: {error:#}");
        }
    }
}

fn is_required() -> bool {
    std::env::var_os("FLOTILLA_LAB").is_some_and(|value| value == "required")
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// What the logs of the product and of the engines gained; an engine's log was `before` long.
fn evidence(lab: &Lab, before: &[usize]) -> String {
    let product = flotilla::take_logs()
        .into_iter()
        .map(|log| ("flotilla".to_owned(), log));
    let engines = lab.hosts().iter().zip(before).map(|(host, &before)| {
        (
            host.name().to_owned(),
            host.log().get(before..).unwrap_or_default().to_owned(),
        )
    });
    let logs = product.chain(engines).filter(|(_, log)| !log.is_empty());
    logs.map(|(name, log)| format!("\n--- log of {name} ---\n{}", tail(&log)))
        .collect()
}
