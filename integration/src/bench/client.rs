//! A client that costs little beside what it measures: one connection, kept open, blocking.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// No answer may take longer.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is read at a time.
const BUFFER: usize = 256 << 10;

/// Both directions of a connection.
trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

/// One connection.
pub struct Client {
    stream: BufReader<Box<dyn Duplex>>,
    line: Vec<u8>,
    body: Vec<u8>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
enum Length {
    Known(u64),
    Chunked,
    UntilEnd,
}

impl Client {
    /// Connects to `unix://path` or `tcp://address:port`.
    pub fn connect(endpoint: &str) -> Result<Self> {
        let stream: Box<dyn Duplex> = if let Some(path) = endpoint.strip_prefix("unix://") {
            let stream = UnixStream::connect(path)
                .with_context(|| format!("cannot connect to {endpoint}"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        } else {
            let address = endpoint
                .strip_prefix("tcp://")
                .with_context(|| format!("`{endpoint}` is neither tcp:// nor unix://"))?;
            let stream = TcpStream::connect(address)
                .with_context(|| format!("cannot connect to {endpoint}"))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        };
        Ok(Self {
            stream: BufReader::with_capacity(BUFFER, stream),
            line: Vec::new(),
            body: Vec::new(),
        })
    }

    /// Sends `GET path` and reads the whole answer; any status but `expected` is an error.
    pub fn get(&mut self, path: &str, expected: u16) -> Result<&[u8]> {
        self.request("GET", path, b"", expected)
    }

    /// Sends a request with a JSON body (none if empty) and reads the whole answer.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        expected: u16,
    ) -> Result<&[u8]> {
        let kind = if body.is_empty() {
            String::new()
        } else {
            format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            )
        };
        let mut message =
            format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n{kind}\r\n").into_bytes();
        message.extend_from_slice(body);
        self.send(&message)?;
        let (status, length) = self.head(method)?;
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let read = self.read_body(length, &mut |bytes| body.extend_from_slice(bytes));
        self.body = body;
        read?;
        ensure!(
            status == expected,
            "{method} {path} answered {status}: {}",
            String::from_utf8_lossy(&self.body)
        );
        Ok(&self.body)
    }

    /// Sends `GET path` and counts the bytes of the body, which are not kept.
    pub fn drain(&mut self, path: &str) -> Result<u64> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n").as_bytes())?;
        let (status, length) = self.head("GET")?;
        let mut count = 0;
        self.read_body(length, &mut |bytes| count += bytes.len() as u64)?;
        ensure!(status == 200, "GET {path} answered {status}");
        Ok(count)
    }

    /// Takes the connection over with `POST path` and counts what comes until its end.
    pub fn take_over(mut self, path: &str) -> Result<u64> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        );
        self.send(request.as_bytes())?;
        let (status, _) = self.head("POST")?;
        ensure!(status == 101, "POST {path} answered {status}");
        let mut count = 0;
        self.read_body(Length::UntilEnd, &mut |bytes| count += bytes.len() as u64)?;
        Ok(count)
    }

    /// Sends `PUT path` with a chunked body: `next` returns one piece after another.
    pub fn upload(
        &mut self,
        path: &str,
        mut next: impl FnMut() -> Option<&'static [u8]>,
    ) -> Result<()> {
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        self.send(head.as_bytes())?;
        let mut message = Vec::new();
        while let Some(piece) = next() {
            message.clear();
            message.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            message.extend_from_slice(piece);
            message.extend_from_slice(b"\r\n");
            self.send(&message)?;
        }
        self.send(b"0\r\n\r\n")?;
        let (status, length) = self.head("PUT")?;
        self.read_body(length, &mut |_| {})?;
        ensure!(status == 200, "PUT {path} answered {status}");
        Ok(())
    }

    /// Sends `GET path` for a body that goes on: its lines are read one by one.
    pub fn follow(mut self, path: &str) -> Result<Stream> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: docker\r\n\r\n").as_bytes())?;
        let (status, length) = self.head("GET")?;
        ensure!(status == 200, "GET {path} answered {status}");
        ensure!(
            matches!(length, Length::Chunked),
            "GET {path} is no stream of chunks"
        );
        Ok(Stream {
            client: self,
            pending: Vec::new(),
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream
            .get_mut()
            .write_all(bytes)
            .context("the other end takes no more")
    }

    /// Reads up to the line feed, which is left out with what is in front of it.
    fn read_line(&mut self) -> Result<&[u8]> {
        self.line.clear();
        let count = self.stream.read_until(b'\n', &mut self.line)?;
        ensure!(count > 0, "the other end hung up");
        Ok(self.line.trim_ascii_end())
    }

    fn head(&mut self, method: &str) -> Result<(u16, Length)> {
        let first = self.read_line()?;
        let status = std::str::from_utf8(first)?
            .split(' ')
            .nth(1)
            .and_then(|word| word.parse().ok())
            .ok_or_else(|| anyhow!("no status line: {}", String::from_utf8_lossy(first)))?;
        let mut length = Length::UntilEnd;
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                break;
            }
            let line = std::str::from_utf8(line)?;
            let Some((name, value)) = line.split_once(':') else {
                bail!("no header: {line}")
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(value.trim().parse()?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                length = Length::Chunked;
            }
        }
        if method == "HEAD" || matches!(status, 204 | 304) {
            length = Length::Known(0);
        }
        Ok((status, length))
    }

    fn read_body(&mut self, length: Length, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        match length {
            Length::Known(bytes) => self.pass(bytes, take),
            Length::Chunked => {
                while let Some(size) = self.chunk_size()? {
                    self.pass(size, take)?;
                    self.read_line()?;
                }
                Ok(())
            }
            Length::UntilEnd => loop {
                let available = self.stream.fill_buf()?;
                if available.is_empty() {
                    return Ok(());
                }
                let count = available.len();
                take(available);
                self.stream.consume(count);
            },
        }
    }

    /// The size of the next chunk; none after the last.
    fn chunk_size(&mut self) -> Result<Option<u64>> {
        let line = self.read_line()?;
        let size = u64::from_str_radix(std::str::from_utf8(line)?, 16).context("no chunk size")?;
        if size == 0 {
            self.read_line()?;
            return Ok(None);
        }
        Ok(Some(size))
    }

    fn pass(&mut self, mut left: u64, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        while left > 0 {
            let available = self.stream.fill_buf()?;
            ensure!(!available.is_empty(), "the body broke off");
            let count = available
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&available[..count]);
            self.stream.consume(count);
            left -= count as u64;
        }
        Ok(())
    }
}

/// A body that goes on.
#[derive(Debug)]
pub struct Stream {
    client: Client,
    pending: Vec<u8>,
}

impl Stream {
    /// The next line, without its line feed.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return Ok(line);
            }
            let Some(size) = self.client.chunk_size()? else {
                bail!("the stream ended")
            };
            let mut pending = std::mem::take(&mut self.pending);
            let passed = self
                .client
                .pass(size, &mut |bytes| pending.extend_from_slice(bytes));
            self.pending = pending;
            passed?;
            self.client.read_line()?;
        }
    }
}
