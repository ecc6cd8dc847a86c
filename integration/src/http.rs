//! The few requests tests send without a client library: one request, one connection, the whole answer.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Status line and headers, as sent.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }
}

/// Sends `GET path` to `tcp://address:port` or `unix://path`; connecting and each read may take `limit`.
pub fn get(endpoint: &str, path: &str, limit: Duration) -> Result<Reply> {
    request(endpoint, "GET", path, b"", limit)
}

/// Sends one request with a JSON body (none if empty). HTTP/1.0, so that the answer ends with the connection.
pub fn request(
    endpoint: &str,
    method: &str,
    path: &str,
    body: &[u8],
    limit: Duration,
) -> Result<Reply> {
    let mut stream =
        connect(endpoint, limit).with_context(|| format!("cannot reach {endpoint}"))?;
    let kind = if body.is_empty() {
        ""
    } else {
        "Content-Type: application/json\r\n"
    };
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\n{kind}Content-Length: {length}\r\n\r\n"
    );
    let mut bytes = Vec::new();
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body))
        .and_then(|()| stream.read_to_end(&mut bytes))
        .with_context(|| format!("no answer of {endpoint} to {method} {path}"))?;
    parse(&bytes).with_context(|| format!("{method} {path} at {endpoint}"))
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(endpoint: &str, limit: Duration) -> Result<Box<dyn Stream>> {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        return Ok(Box::new(stream));
    }
    let address = endpoint
        .strip_prefix("tcp://")
        .or_else(|| endpoint.strip_prefix("http://"));
    let Some(address) = address else {
        bail!("`{endpoint}` is neither tcp:// nor unix://")
    };
    let address = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| anyhow!("no address"))?;
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(Box::new(stream))
}

fn parse(bytes: &[u8]) -> Result<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        bail!("the connection ended before the headers did")
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    let Some(status) = status else {
        bail!("no status in `{head}`")
    };
    Ok(Reply {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_split_at_the_blank_line() {
        let reply = parse(b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{\"message\":\"x\"}")
            .expect("a whole answer");
        assert_eq!(reply.status, 404);
        assert_eq!(reply.json().expect("json")["message"], "x");
        assert!(parse(b"HTTP/1.0 200 OK\r\n").is_err());
    }
}
