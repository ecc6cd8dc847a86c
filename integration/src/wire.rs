//! HTTP/1.1 as bytes: requests that no client library would send, answers as they came.
//!
//! **Invariant**: nothing here waits for ever; each read has a deadline, and what is missing is an error.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// An answer may take so long unless told otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// One connection to `tcp://address:port`.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// What arrived and was not consumed.
    ahead: Vec<u8>,
}

/// An answer: everything but its framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The status line's last part: `OK`, `UPGRADED`.
    pub reason: String,
    /// Names in lower case, and values, as they came.
    pub headers: Vec<(String, String)>,
    /// The body without its chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{} and not JSON: {}", self.status, self.text()))
    }

    /// The `message` of an error.
    pub fn message(&self) -> Result<String> {
        let body = self.json()?;
        let message = body["message"].as_str();
        message
            .map(str::to_owned)
            .with_context(|| format!("{} without a message: {body}", self.status))
    }
}

/// Sends one request on a connection of its own; a body that is not empty is JSON.
pub fn ask(endpoint: &str, method: &str, path: &str, body: &[u8]) -> Result<Answer> {
    let kind: &[(&str, &str)] = if body.is_empty() {
        &[]
    } else {
        &[("Content-Type", "application/json")]
    };
    ask_with(endpoint, method, path, kind, body)
}

/// Sends one request with these headers on a connection of its own.
pub fn ask_with(
    endpoint: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let mut wire = Wire::open(endpoint)?;
    wire.request(method, path, headers, body)?;
    wire.answer(method == "HEAD")
        .with_context(|| format!("{method} {path} at {endpoint}"))
}

impl Wire {
    /// Connects.
    pub fn open(endpoint: &str) -> Result<Self> {
        let address = endpoint
            .strip_prefix("tcp://")
            .with_context(|| format!("`{endpoint}` is not tcp://"))?;
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        let mut wire = Self {
            stream,
            ahead: Vec::new(),
        };
        wire.patience(PATIENCE)?;
        Ok(wire)
    }

    /// From now on each read may take this long.
    pub fn patience(&mut self, limit: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        self.stream
            .set_write_timeout(Some(limit))
            .context("no deadline can be set")
    }

    /// Sends these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    /// Sends a request with a length.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: docker\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.send(head.as_bytes())?;
        self.send(body)
    }

    /// Says that nothing more will be sent; what the other side sends still arrives.
    pub fn end(&self) -> Result<()> {
        self.stream
            .shutdown(Shutdown::Write)
            .context("cannot close the sending side")
    }

    /// Reads status line and headers.
    pub fn head(&mut self) -> Result<Answer> {
        let end = self.find(b"\r\n\r\n")?;
        let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
        let head = String::from_utf8_lossy(&head[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let mut words = status_line.splitn(3, ' ');
        ensure!(
            words.next().is_some_and(|word| word.starts_with("HTTP/1.")),
            "not an answer: {head}"
        );
        let status = words
            .next()
            .and_then(|word| word.parse().ok())
            .with_context(|| format!("no status in `{status_line}`"))?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        Ok(Answer {
            status,
            reason: words.next().unwrap_or_default().to_owned(),
            headers: headers
                .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        })
    }

    /// Reads a whole answer; one to `HEAD` has no body.
    pub fn answer(&mut self, to_head: bool) -> Result<Answer> {
        let mut answer = self.head()?;
        if to_head || answer.status < 200 || matches!(answer.status, 204 | 304) {
            return Ok(answer);
        }
        answer.body = self.body(&answer)?;
        Ok(answer)
    }

    /// Reads what follows a head, as that frames it: up to the end of the connection if it says nothing.
    pub fn body(&mut self, head: &Answer) -> Result<Vec<u8>> {
        if let Some(length) = head.header("content-length") {
            self.exactly(length.parse().context("a length that is no number")?)
        } else if head.header("transfer-encoding") == Some("chunked") {
            self.chunks()
        } else {
            self.rest()
        }
    }

    /// Reads until these bytes were seen and returns all up to and with them.
    pub fn until(&mut self, wanted: &[u8]) -> Result<Vec<u8>> {
        let at = self.find(wanted)?;
        Ok(self.ahead.drain(..at + wanted.len()).collect())
    }

    /// Reads to the end of the connection.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        while self.more()? {}
        Ok(std::mem::take(&mut self.ahead))
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.ahead.len() < length {
            ensure!(
                self.more()?,
                "the connection ended after {} of {length} bytes",
                self.ahead.len()
            );
        }
        Ok(self.ahead.drain(..length).collect())
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n")?;
            let size = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(size.trim(), 16)
                .with_context(|| format!("`{size}` is no chunk size"))?;
            body.extend(self.exactly(size)?);
            ensure!(self.exactly(2)? == b"\r\n", "a chunk without its end");
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn find(&mut self, wanted: &[u8]) -> Result<usize> {
        loop {
            let mut windows = self.ahead.windows(wanted.len());
            if let Some(at) = windows.position(|window| window == wanted) {
                return Ok(at);
            }
            if !self.more()? {
                bail!(
                    "the connection ended without {:?} after {:?}",
                    String::from_utf8_lossy(wanted),
                    String::from_utf8_lossy(&self.ahead)
                );
            }
        }
    }

    /// Reads once; false at the end.
    fn more(&mut self) -> Result<bool> {
        let mut buffer = [0; 64 << 10];
        let count = self.stream.read(&mut buffer).with_context(|| {
            let came = String::from_utf8_lossy(&self.ahead);
            format!("nothing more came after {came:?}")
        })?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count > 0)
    }
}

/// Takes the frames of a multiplexed stream apart: the number of the stream, and what was written to it.
pub fn frames(mut bytes: &[u8]) -> Result<Vec<(u8, String)>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        ensure!(bytes.len() >= 8, "half a frame's head: {bytes:?}");
        let (head, rest) = bytes.split_at(8);
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        ensure!(rest.len() >= length, "half a frame: {rest:?}");
        frames.push((
            head[0],
            String::from_utf8_lossy(&rest[..length]).into_owned(),
        ));
        bytes = &rest[length..];
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::{Wire, frames};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn an_answer_is_read_whatever_frames_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("tcp://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut asked = [0; 512];
            assert!(stream.read(&mut asked).expect("a request") > 0);
            let answers: [&[u8]; 3] = [
                b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nhi",
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n1\r\n!\r\n0\r\n\r\n",
                b"HTTP/1.1 404 Not Found\r\n\r\nall the rest",
            ];
            for answer in answers {
                stream.write_all(answer).expect("a client that listens");
            }
        });
        let mut wire = Wire::open(&endpoint).expect("a connection");
        wire.request("GET", "/", &[], b"").expect("sent");
        let first = wire.answer(false).expect("the first");
        assert_eq!(
            (first.text().as_str(), first.header("a")),
            ("hi", Some("b"))
        );
        assert_eq!(wire.answer(false).expect("the second").text(), "hi!");
        let third = wire.answer(false).expect("the third");
        assert_eq!((third.status, third.text().as_str()), (404, "all the rest"));
        server.join().expect("the server ends");
    }

    #[test]
    fn frames_come_apart() {
        let bytes = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01!";
        let parts = frames(bytes).expect("whole frames");
        assert_eq!(parts, [(1, "hi".to_owned()), (2, "!".to_owned())]);
        assert!(frames(&bytes[..9]).is_err());
    }
}
