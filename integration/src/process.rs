//! Other processes: running them with a deadline, and looking them up in `/proc`.
//!
//! **Invariant**: a signal goes to a process only after its start time was compared, so never to a recycled number.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) took: Duration,
}

/// Runs a command in a process group of its own; kills the whole group when `limit` is over.
pub(crate) fn run(command: &mut Command, stdin: &[u8], limit: Duration) -> Result<Finished> {
    let name = format!("`{}`", describe(command));
    let begun = Instant::now();
    let mut child = command
        .stdin(if stdin.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let pid = child.id();
    let feeder = child.stdin.take().map(|mut pipe| {
        let bytes = stdin.to_vec();
        // A command may end without reading all of its input; its exit code says whether that was right.
        thread::spawn(move || drop(pipe.write_all(&bytes)))
    });
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .with_context(|| format!("cannot wait for {name}"))?
        {
            break Some(status);
        }
        if begun.elapsed() >= limit {
            signal_group(pid, Signal::KILL);
            child
                .wait()
                .with_context(|| format!("cannot wait for {name}"))?;
            break None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    let took = begun.elapsed();
    let (stdout, stderr) = (gather(stdout), gather(stderr));
    if let Some(feeder) = feeder {
        drop(feeder.join());
    }
    let Some(status) = status else {
        bail!(
            "{name} was still running after {limit:?}; it said: {}{}",
            text(&stdout),
            text(&stderr)
        );
    };
    Ok(Finished {
        status,
        stdout,
        stderr,
        took,
    })
}

/// Runs a command that must succeed and returns what it wrote to standard output.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> Result<String> {
    let finished = run(command, b"", limit)?;
    if !finished.status.success() {
        let said = text(&finished.stderr) + &text(&finished.stdout);
        bail!(
            "`{}` failed ({}): {}",
            describe(command),
            finished.status,
            said.trim()
        );
    }
    Ok(text(&finished.stdout))
}

/// Program and arguments on one line; what is long (a script) is cut.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let end = line.char_indices().nth(160).map(|(at, _)| at);
    end.map_or_else(|| line.clone(), |end| format!("{}…", &line[..end]))
        .replace('\n', " ")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A read error ends the text early; the exit code is judged by the caller.
        drop(pipe.read_to_end(&mut bytes));
        bytes
    })
}

fn gather(reader: Option<JoinHandle<Vec<u8>>>) -> Vec<u8> {
    reader
        .and_then(|reader| reader.join().ok())
        .unwrap_or_default()
}

/// Sends a signal to the group of a child that was not waited for yet.
pub(crate) fn signal_group(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good.
        let _gone = kill_process_group(pid, signal);
    }
}

/// One process, recognised by its number and the moment it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    started: u64,
}

impl Process {
    /// The process with this number, if there is one.
    pub(crate) fn find(pid: i32) -> Option<Self> {
        stat(pid).filter(|stat| stat.state != 'Z').map(|stat| Self {
            pid,
            started: stat.started,
        })
    }

    /// This very process.
    pub(crate) fn current() -> Result<Self> {
        let pid = i32::try_from(std::process::id()).context("process number out of range")?;
        Self::find(pid).context("/proc does not show this process; mount /proc")
    }

    /// Reads what [`Self::line`] wrote.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (pid, started) = line.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    /// One line for a state file.
    pub(crate) fn line(self) -> String {
        format!("{} {}\n", self.pid, self.started)
    }

    /// Whether it still runs; a zombie does not.
    pub(crate) fn is_alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Whether nothing is left of it, not even a thread that still holds its sockets.
    pub(crate) fn is_gone(self) -> bool {
        self.state().is_none()
    }

    /// Sends a signal, if it is still the same process.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.pid).filter(|_| self.is_alive());
        let Some(pid) = pid else {
            bail!("process {} has ended", self.pid)
        };
        kill_process(pid, signal)
            .with_context(|| format!("cannot send {signal:?} to process {}", self.pid))
    }

    /// Its program and arguments, each ended by a zero; empty if it has ended.
    pub(crate) fn line_of_command(self) -> String {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        text(&line)
    }

    /// The state letter the kernel shows: `T` for a stopped process.
    pub(crate) fn state(self) -> Option<char> {
        stat(self.pid)
            .filter(|stat| stat.started == self.started)
            .map(|stat| stat.state)
    }
}

/// The processes whose parent is `parent`.
pub(crate) fn children(parent: i32) -> Vec<(Process, String)> {
    all()
        .into_iter()
        .filter(|(_, stat)| stat.parent == parent && stat.state != 'Z')
        .map(|(pid, stat)| {
            (
                Process {
                    pid,
                    started: stat.started,
                },
                stat.name,
            )
        })
        .collect()
}

/// How many children of `parent` have ended and were not waited for.
pub(crate) fn zombies(parent: i32) -> usize {
    let all = all();
    let dead = all
        .iter()
        .filter(|(_, stat)| stat.parent == parent && stat.state == 'Z');
    dead.count()
}

/// The processes whose environment of files names `path`: their mounts, working directory or arguments.
pub(crate) fn mentioning(path: &str) -> Vec<i32> {
    let mentions = |pid: i32, file: &str| {
        fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| text(&bytes).contains(path))
    };
    let pids = all().into_iter().map(|(pid, _)| pid);
    pids.filter(|&pid| mentions(pid, "cmdline") || mentions(pid, "mountinfo"))
        .collect()
}

struct Stat {
    name: String,
    state: char,
    parent: i32,
    started: u64,
}

fn all() -> Vec<(i32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name stands in parentheses and may hold anything, so the fields count from the last one.
fn parse_stat(line: &str) -> Option<Stat> {
    let (front, back) = line.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = back.split_whitespace().collect();
    Some(Stat {
        name,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Process, parse_stat, run, text};
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn a_name_may_hold_parentheses() {
        let line = "7 (a) b)) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let stat = parse_stat(line).expect("a stat line");
        assert_eq!(
            (stat.name.as_str(), stat.state, stat.parent, stat.started),
            ("a) b)", 'S', 3, 4242)
        );
    }

    #[test]
    fn a_process_survives_its_state_file() {
        let me = Process::current().expect("this process");
        assert_eq!(Process::parse(&me.line()), Some(me));
        assert!(me.is_alive());
    }

    #[test]
    fn a_late_command_is_killed_and_named() {
        let error = run(
            Command::new("sleep").arg("60"),
            b"",
            Duration::from_millis(50),
        )
        .expect_err("too slow");
        assert!(
            error.to_string().contains("`sleep 60` was still running"),
            "{error}"
        );
    }

    #[test]
    fn input_reaches_a_command() {
        let finished =
            run(&mut Command::new("cat"), b"hello", Duration::from_secs(10)).expect("cat runs");
        assert_eq!(text(&finished.stdout), "hello");
    }
}
