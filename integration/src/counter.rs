//! Sees the requests that reach an engine: a listener in front of it that passes every byte on at once, counts, and
//! lets a test do something in the middle of one.
//!
//! **Invariant**: it understands only as much HTTP/1.1 as it takes to see where the next request begins, and changes
//! nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

/// What becomes of a request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It is here, and the engine has not got it.
    Arrived,
    /// The engine has got it.
    Passed,
    /// The answer is here, and who asked has not got it.
    Answered,
    /// Who asked has got the answer.
    Returned,
}

/// Told of each moment of each request (`POST /containers/create`); a connection whose watcher says no is cut there.
pub type Watcher = Arc<dyn Fn(Moment, &str) -> bool + Send + Sync>;

/// A listener in front of one engine.
#[derive(Debug)]
pub struct Counter {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Counter {
    /// Listens in front of `tcp://address:port`, until this program ends.
    pub fn before(engine: &str) -> Result<Self> {
        Self::watched(engine, Arc::new(|_, _| true))
    }

    /// Listens in front of `tcp://address:port`, and tells of each request while it is on its way.
    pub fn watched(engine: &str, watcher: Watcher) -> Result<Self> {
        let engine = engine
            .strip_prefix("tcp://")
            .with_context(|| format!("`{engine}` is not tcp://"))?
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").context("no port to count at")?;
        let address = listener.local_addr()?.to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let counted = Arc::clone(&seen);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (engine, counted) = (engine.clone(), Arc::clone(&counted));
                let watcher = Arc::clone(&watcher);
                thread::spawn(move || {
                    // A connection that breaks is for its two ends to judge.
                    drop(pass(client, &engine, &counted, &watcher));
                });
            }
        });
        Ok(Self { address, seen })
    }

    /// Where it listens: `tcp://127.0.0.1:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("tcp://{}", self.address)
    }

    /// The requests since the last call, as `GET /path`, without version and query; probes are not told.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *seen)
            .into_iter()
            .filter(|request| !request.ends_with(" /_ping"))
            .collect()
    }
}

fn pass(
    client: TcpStream,
    engine: &str,
    seen: &Mutex<Vec<String>>,
    watcher: &Watcher,
) -> Result<()> {
    let engine = TcpStream::connect(engine)?;
    client.set_nodelay(true)?;
    engine.set_nodelay(true)?;
    let asked: Arc<Mutex<Option<String>>> = Arc::default();
    let answering = {
        let (answers, back) = (engine.try_clone()?, client.try_clone()?);
        let (asked, watcher) = (Arc::clone(&asked), Arc::clone(watcher));
        thread::spawn(move || {
            // As above.
            drop(pass_back(answers, back, &asked, &watcher));
        })
    };
    let (mut client, mut engine) = (client, engine);
    let mut reader = Reader::default();
    let mut buffer = [0; 64 << 10];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let requests = reader.read(&buffer[..count])?;
        // First counted, then passed on: whoever has the answer finds its request counted.
        for request in &requests {
            lock(seen).push(request.clone());
            *lock(&asked) = Some(request.clone());
            if !watcher(Moment::Arrived, request) {
                cut(&client, &engine);
            }
        }
        engine.write_all(&buffer[..count])?;
        for request in &requests {
            if !watcher(Moment::Passed, request) {
                cut(&client, &engine);
            }
        }
    }
    engine.shutdown(Shutdown::Write)?;
    drop(answering.join());
    Ok(())
}

fn pass_back(
    mut answers: TcpStream,
    mut back: TcpStream,
    asked: &Mutex<Option<String>>,
    watcher: &Watcher,
) -> Result<()> {
    let mut buffer = [0; 64 << 10];
    while let Ok(count @ 1..) = answers.read(&mut buffer) {
        // What comes first belongs to the last request: one follows the other.
        let request = lock(asked).take();
        let tell = |moment| {
            request
                .as_ref()
                .is_none_or(|request| watcher(moment, request))
        };
        if !tell(Moment::Answered) {
            cut(&back, &answers);
        }
        back.write_all(&buffer[..count])?;
        if !tell(Moment::Returned) {
            cut(&back, &answers);
        }
    }
    back.shutdown(Shutdown::Write)?;
    Ok(())
}

/// Nothing passes any more; an end that has gone by itself is cut already.
fn cut(one: &TcpStream, other: &TcpStream) {
    drop(one.shutdown(Shutdown::Both));
    drop(other.shutdown(Shutdown::Both));
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Finds the requests in what a client sends.
#[derive(Debug, Default)]
struct Reader {
    pending: Vec<u8>,
    inside: Inside,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Inside {
    #[default]
    Head,
    /// A body, and how much of it is to come.
    Body(usize),
    /// The line that says how long the next chunk is.
    ChunkSize,
    /// A chunk with the line's end after it.
    Chunk(usize),
    /// What follows the last chunk, up to an empty line.
    Trailer,
    /// No HTTP any more.
    Stream,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) -> Result<Vec<String>> {
        self.pending.extend_from_slice(bytes);
        let mut requests = Vec::new();
        while !self.pending.is_empty() {
            match self.inside {
                Inside::Head => {
                    let Some(head) = self.up_to(b"\r\n\r\n") else {
                        break;
                    };
                    requests.push(target(&head)?);
                    self.inside = after(&head)?;
                }
                Inside::Body(left) => {
                    let left = self.skip(left);
                    self.inside = if left == 0 {
                        Inside::Head
                    } else {
                        Inside::Body(left)
                    };
                }
                Inside::ChunkSize => {
                    let Some(line) = self.up_to(b"\r\n") else {
                        break;
                    };
                    let size = usize::from_str_radix(line.trim(), 16)
                        .with_context(|| format!("`{line}` is no chunk size"))?;
                    self.inside = if size == 0 {
                        Inside::Trailer
                    } else {
                        Inside::Chunk(size + 2)
                    };
                }
                Inside::Chunk(left) => {
                    let left = self.skip(left);
                    self.inside = if left == 0 {
                        Inside::ChunkSize
                    } else {
                        Inside::Chunk(left)
                    };
                }
                Inside::Trailer => {
                    let Some(line) = self.up_to(b"\r\n") else {
                        break;
                    };
                    if line.trim().is_empty() {
                        self.inside = Inside::Head;
                    }
                }
                Inside::Stream => self.pending.clear(),
            }
        }
        Ok(requests)
    }

    fn up_to(&mut self, end: &[u8]) -> Option<String> {
        let at = self
            .pending
            .windows(end.len())
            .position(|window| window == end)?;
        let bytes: Vec<u8> = self.pending.drain(..at + end.len()).collect();
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Skips so many bytes as far as they are there; returns how many are still to come.
    fn skip(&mut self, count: usize) -> usize {
        let there = count.min(self.pending.len());
        self.pending.drain(..there);
        count - there
    }
}

/// `POST /v1.51/containers/X/start?t=1` → `POST /containers/X/start`.
fn target(head: &str) -> Result<String> {
    let mut words = head.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        bail!("no request: {head}")
    };
    let path = target.split('?').next().unwrap_or_default();
    let versioned = path
        .strip_prefix("/v")
        .filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
    let path = versioned
        .and_then(|rest| rest.find('/').map(|at| &rest[at..]))
        .unwrap_or(path);
    Ok(format!("{method} {path}"))
}

fn after(head: &str) -> Result<Inside> {
    let mut inside = Inside::Head;
    for line in head.lines().skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        match (name.to_lowercase().as_str(), value.trim()) {
            ("upgrade", _) => return Ok(Inside::Stream),
            ("content-length", length) => {
                let length = length.parse().context("a length that is no number")?;
                inside = if length == 0 {
                    Inside::Head
                } else {
                    Inside::Body(length)
                };
            }
            ("transfer-encoding", coding) => {
                ensure!(coding == "chunked", "unknown coding `{coding}`");
                inside = Inside::ChunkSize;
            }
            _ => {}
        }
    }
    Ok(inside)
}

#[cfg(test)]
mod tests {
    use super::Reader;

    #[test]
    fn requests_are_found_however_the_bytes_come() {
        let bytes = b"POST /v1.51/containers/create?name=x HTTP/1.1\r\nContent-Length: 3\r\n\r\nGETPUT /a HTTP/1.1\r\n\
            Transfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\nGET /volumes/x HTTP/1.1\r\n\r\nPOST /v1.51/exec/1/start \
            HTTP/1.1\r\nUpgrade: tcp\r\n\r\nGET /no HTTP/1.1\r\n\r\n";
        let wanted = [
            "POST /containers/create",
            "PUT /a",
            "GET /volumes/x",
            "POST /exec/1/start",
        ];
        for size in [1, 2, 7, 1000] {
            let mut reader = Reader::default();
            let parts = bytes.chunks(size).map(|part| reader.read(part));
            let found: Vec<String> = parts.flat_map(|part| part.expect("requests")).collect();
            assert_eq!(found, wanted, "in parts of {size}");
        }
    }
}
