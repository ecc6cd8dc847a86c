//! Requests that are wrong in every way: each is answered, none hangs, and the next one works.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use integration::client::Docker;
use integration::harness::{Case, case};
use integration::images::noise;
use integration::lab::Lab;
use integration::pool::{Pool, words};
use integration::wire::{self, Wire};

use crate::SOON;

/// More than all buffers on the way together.
const UPLOAD_BYTES: usize = 40 << 20;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("nonsense_is_answered_as_by_an_engine", as_an_engine),
        case("nonsense_that_is_no_http_is_refused", no_http),
        case("a_huge_head_is_refused", huge_head),
        case("a_body_over_the_cap_is_refused", huge_body),
        case(
            "a_refusal_reaches_a_client_that_is_still_writing",
            refused_early,
        ),
        case(
            "a_refusal_reaches_a_client_with_much_to_upload",
            much_refused_early,
        ),
        case("a_client_that_leaves_or_stalls_stops_nobody", stalls),
    ]
}

fn refused_early(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let mut wire = Wire::open(&pool.manager.tcp())?;
    for (path, status) in [
        ("/swarm/init", 501),
        ("/flotilla/v1/nosuch", 404),
        ("/nosuch", 404),
    ] {
        wire.send(
            format!("POST {path} HTTP/1.1\r\nHost: docker\r\nContent-Length: 2\r\n\r\n").as_bytes(),
        )?;
        let answer = wire.answer(false)?;
        ensure!(answer.status == status, "{path}: {answer:?}");
        // The connection is still there for the body, and for the next request.
        wire.send(b"{}")?;
        wire.request("GET", "/_ping", &[], b"")?;
        let next = wire
            .answer(false)
            .with_context(|| format!("after {path}"))?;
        ensure!(next.status == 200, "{next:?}");
    }
    Ok(())
}

fn much_refused_early(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    // Where bytes that nobody reads break a connection off.
    let docker = Docker::new(&pool.manager.tcp())?;
    pool.ok("run -d --name=sealed --read-only busybox sleep 600")?;
    let folder = tempfile::tempdir()?;
    let big = folder.path().join("big");
    std::fs::write(&big, noise(UPLOAD_BYTES))?;
    std::fs::write(folder.path().join("Dockerfile"), "FROM busybox\n")?;
    let (big, context) = (big.display(), folder.path().display());
    for (rounds, line, wanted) in [
        (
            20,
            format!("cp {big} nosuch:/big"),
            "No such container: nosuch",
        ),
        (
            5,
            format!("cp {big} sealed:/big"),
            "rootfs is marked read-only",
        ),
        (5, format!("cp {big} sealed:/nodir/big"), "/nodir"),
        (
            5,
            format!("import -c 'BAD x' {big} x"),
            "BAD is not a valid change command",
        ),
    ] {
        for round in 1..=rounds {
            let words = words(&line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = docker.run(&words)?.refusal()?;
            ensure!(
                said.contains(wanted),
                "round {round} of `{line}`: {said:?} lacks {wanted:?}"
            );
        }
    }
    for round in 1..=5 {
        let mut build = docker.command()?;
        build.args(["build", "--network=container:nosuch"]);
        build.arg(folder.path()).env("DOCKER_BUILDKIT", "0");
        let said = docker.finish(&mut build, b"")?.refusal()?;
        let wanted = "No such container: nosuch";
        ensure!(
            said.contains(wanted),
            "round {round} of a build of {context}: {said:?} lacks {wanted:?}"
        );
    }
    Ok(())
}

/// Method, path, body. Each is answered by an engine, and by us with the same status and words.
const NONSENSE: &[(&str, &str, &str)] = &[
    ("POST", "/containers/create", "{"),
    ("POST", "/containers/create", "{\"Image\":"),
    ("POST", "/containers/create", "[]"),
    ("POST", "/containers/create", "null"),
    ("POST", "/containers/create", "17"),
    ("POST", "/containers/create", "{\"Image\":5}"),
    ("POST", "/containers/create", "{\"Image\":\"busybox\"} {}"),
    ("POST", "/containers/create", ""),
    (
        "POST",
        "/containers/create?name=%20",
        "{\"Image\":\"busybox\"}",
    ),
    (
        "POST",
        "/containers/create?name=a/b",
        "{\"Image\":\"busybox\"}",
    ),
    ("GET", "/nosuch", ""),
    ("GET", "/", ""),
    ("GET", "/v1.51", ""),
    ("GET", "/v1.51/", ""),
    ("PATCH", "/containers/json", ""),
    ("DELETE", "/containers/json/x/y/z", ""),
    ("POST", "/containers/json", ""),
    ("PUT", "/info", ""),
    ("GET", "/containers/json?filters=%7B", ""),
    ("GET", "/containers/json?filters=nonsense", ""),
    (
        "GET",
        "/containers/json?filters=%7B%22nosuch%22:%5B%22x%22%5D%7D",
        "",
    ),
    ("GET", "/containers/json?filters=%5B%5D", ""),
    ("GET", "/v1.99/info", ""),
    ("GET", "/v1.10/info", ""),
    ("GET", "/v2/info", ""),
    ("GET", "/vx/info", ""),
    ("GET", "/containers/..%2f..%2finfo/json", ""),
    ("GET", "/containers/../info", ""),
    ("GET", "/containers//json", ""),
    ("GET", "//info", ""),
    ("GET", "/containers/%zz/json", ""),
    ("GET", "/containers/%00/json", ""),
    ("GET", "/containers/%F0%9F%90%B3/json", ""),
    ("GET", "/containers/json?all=%zz", ""),
    ("GET", "/containers/json?limit=x", ""),
    ("GET", "/containers/a%20b/json", ""),
    ("GET", "/images/%2E%2E/json", ""),
    ("POST", "/containers/nosuch/start", ""),
    ("POST", "/containers/nosuch/rename", ""),
    ("POST", "/exec/nosuch/start", "{}"),
    ("DELETE", "/containers/nosuch?force=perhaps", ""),
    ("OPTIONS", "/containers/json", ""),
    ("TRACE", "/info", ""),
    ("GET", "/events?since=x", ""),
    ("GET", "/events?since=2&until=1", ""),
    ("GET", "/events?filters=%7B", ""),
];

fn as_an_engine(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints()[..1], &[])?;
    let mut wrong = Vec::new();
    for (method, path, body) in NONSENSE {
        let begun = Instant::now();
        let ours = pool.ask(method, path, body.as_bytes());
        ensure!(
            begun.elapsed() < SOON,
            "{method} {path} took {:?}",
            begun.elapsed()
        );
        let theirs = wire::ask(&lab.host(0).tcp(), method, path, body.as_bytes())?;
        match ours {
            Ok(ours) if (ours.status, ours.text()) == (theirs.status, theirs.text()) => {}
            // What a client did wrong is no failure of the server, though some engines say so.
            Ok(ours) if (ours.status, theirs.status) == (400, 500) => {
                ensure!(!ours.message()?.is_empty(), "{method} {path}: {ours:?}");
            }
            ours => {
                let ours = ours.map(|ours| format!("{} {}", ours.status, ours.text()));
                wrong.push(format!(
                    "{method} {path} {body}\n  ours: {ours:?}\n  an engine: {} {}",
                    theirs.status,
                    theirs.text()
                ));
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    pool.says("ps -aq", "")
}

fn no_http(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let nonsense: [&[u8]; 8] = [
        b"\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /info HTTP/1.1\r\nno header\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: x\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    ];
    for bytes in nonsense {
        let mut wire = Wire::open(&pool.manager.tcp())?;
        wire.send(bytes)?;
        wire.end()?;
        let came = wire.rest().with_context(|| format!("{bytes:?}"))?;
        let came = String::from_utf8_lossy(&came);
        ensure!(
            came.is_empty() || came.starts_with("HTTP/1.1 4"),
            "{bytes:?}: {came}"
        );
    }
    pool.says("ps -aq", "")
}

fn huge_head(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let mut wire = Wire::open(&pool.manager.tcp())?;
    let head = format!(
        "GET /info HTTP/1.1\r\nHost: d\r\nX-Much: {}\r\n\r\n",
        "x".repeat(2 << 20)
    );
    // It may stop listening before all is said.
    drop(wire.send(head.as_bytes()));
    if let Ok(answer) = wire.answer(false) {
        ensure!(answer.status == 431, "{answer:?}");
    }
    // What an engine takes is taken.
    let head = format!(
        "GET /_ping HTTP/1.1\r\nHost: d\r\nX-Much: {}\r\n\r\n",
        "x".repeat(500 << 10)
    );
    for endpoint in [lab.host(0).tcp(), pool.manager.tcp()] {
        let mut wire = Wire::open(&endpoint)?;
        wire.send(head.as_bytes())?;
        ensure!(
            wire.answer(false)?.status == 200,
            "{endpoint} refuses half a megabyte"
        );
    }
    pool.says("ps -aq", "")
}

fn huge_body(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--max-body=1MiB"])?;
    let body = format!(
        "{{\"Image\":\"busybox\",\"Env\":[\"A={}\"]}}",
        "x".repeat(1 << 20)
    );
    let mut wire = Wire::open(&pool.manager.tcp())?;
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Expect", "100-continue"),
    ];
    wire.send(format!("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n").as_bytes())?;
    // It may stop listening before all is said.
    drop(wire.send(body.as_bytes()));
    let answer = wire.answer(false)?;
    ensure!(answer.status == 413, "{answer:?}");
    ensure!(!answer.message()?.is_empty(), "{answer:?}");
    let below = format!(
        "{{\"Image\":\"busybox\",\"Env\":[\"A={}\"]}}",
        "x".repeat(900 << 10)
    );
    let made = wire::ask_with(
        &pool.manager.tcp(),
        "POST",
        "/containers/create",
        &headers[..1],
        below.as_bytes(),
    )?;
    ensure!(made.status == 201, "{made:?}");
    // What passes through has no cap.
    pool.ok("run -d --name=it busybox sleep 600")?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), crate::noise(4 << 20))?;
    pool.ok(&format!("cp {} it:/tmp/", file.path().display()))
        .map(drop)
}

fn stalls(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let mut stalled = Vec::new();
    for half in [
        &b"GET /inf"[..],
        b"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
        b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n",
        b"GET /info HTTP/1.1\r\nHost: d\r\n\r\n",
    ] {
        for _ in 0..20 {
            let mut wire = Wire::open(&pool.manager.tcp())?;
            wire.send(half)?;
            stalled.push(wire);
        }
    }
    pool.says("run --rm busybox echo hi", "hi")?;
    drop(stalled);
    pool.says("run --rm busybox echo hi", "hi")
}
