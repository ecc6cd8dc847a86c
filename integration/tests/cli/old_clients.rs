//! Clients of long ago: streams without upgrade headers, pings by GET, the oldest API version.

use anyhow::{Result, ensure};
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;
use integration::wire::{Wire, frames};

use crate::contains;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("attach_works_without_upgrade_headers", attach),
        case("exec_works_without_upgrade_headers", exec),
        case("a_raw_attach_to_nothing_is_an_answer", attach_nothing),
        case("ping_answers_however_it_is_asked", ping),
        case("the_oldest_version_is_served", oldest),
        case("versions_outside_the_window_are_refused", window),
        case("one_connection_serves_many_requests", keep_alive),
    ]
}

fn attach(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for name in ["first", "second", "third"] {
        pool.ok(&format!("create -i --name={name} busybox cat"))?;
        pool.ok(&format!("start {name}"))?;
        let mut wire = Wire::open(&pool.manager.tcp())?;
        wire.request(
            "POST",
            &format!("/v1.24/containers/{name}/attach?stream=1&stdin=1&stdout=1"),
            &[("Content-Type", "text/plain")],
            b"",
        )?;
        let head = wire.head()?;
        ensure!(head.status == 200, "{head:?}");
        ensure!(
            head.header("content-type") == Some("application/vnd.docker.raw-stream"),
            "{head:?}"
        );
        wire.send(b"hello\n")?;
        let came = wire.until(b"hello\n")?;
        ensure!(frames(&came)? == [(1, "hello\n".to_owned())], "{came:?}");
        wire.send(b"more\n")?;
        wire.end()?;
        let rest = wire.rest()?;
        ensure!(frames(&rest)? == [(1, "more\n".to_owned())], "{rest:?}");
        pool.says(&format!("wait {name}"), "0")?;
    }
    Ok(())
}

fn exec(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    let order = br#"{"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Cmd":["sh","-c","cat; echo bad >&2; exit 4"]}"#;
    let made = pool.ask("POST", "/v1.24/containers/it/exec", order)?;
    let id = made.json()?["Id"].clone();
    let id = id.as_str().unwrap_or_default();
    let mut wire = Wire::open(&pool.manager.tcp())?;
    wire.request(
        "POST",
        &format!("/v1.24/exec/{id}/start"),
        &[("Content-Type", "application/json")],
        br#"{"Detach":false,"Tty":false}"#,
    )?;
    let head = wire.head()?;
    ensure!(head.status == 200, "{head:?}");
    wire.send(b"hello")?;
    wire.end()?;
    // An engine writes its two outputs as they come to it, each by a pipe of its own.
    let mut parts = frames(&wire.rest()?)?;
    parts.sort();
    ensure!(
        parts == [(1, "hello".to_owned()), (2, "bad\n".to_owned())],
        "{parts:?}"
    );
    let code = pool
        .ask("GET", &format!("/v1.24/exec/{id}/json"), b"")?
        .json()?["ExitCode"]
        .clone();
    ensure!(code == 4, "{code}");
    // Detached it is an ordinary request.
    let made = pool.ask(
        "POST",
        "/v1.24/containers/it/exec",
        br#"{"Cmd":["touch","/detached"]}"#,
    )?;
    let id = made.json()?["Id"].clone();
    let path = format!("/v1.24/exec/{}/start", id.as_str().unwrap_or_default());
    let started = pool.ask("POST", &path, br#"{"Detach":true}"#)?;
    ensure!(
        started.status == 200 && started.body.is_empty(),
        "{started:?}"
    );
    pool.comes_to_say("exec it ls /detached", "/detached", crate::SOON)
}

fn attach_nothing(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for path in [
        "/v1.24/containers/nosuch/attach?stream=1&stdout=1",
        "/v1.24/exec/nosuch/start",
    ] {
        let mut wire = Wire::open(&pool.manager.tcp())?;
        wire.request("POST", path, &[("Content-Type", "application/json")], b"{}")?;
        let came = String::from_utf8_lossy(&wire.rest()?).into_owned();
        ensure!(came.starts_with("HTTP/1.1 404 "), "{came}");
        contains(&came, "nosuch")?;
    }
    Ok(())
}

fn ping(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for path in ["/_ping", "/v1.24/_ping", "/v1.51/_ping"] {
        for method in ["HEAD", "GET"] {
            let answer = pool.ask(method, path, b"")?;
            ensure!(answer.status == 200, "{method} {path}: {answer:?}");
            ensure!(answer.header("api-version") == Some("1.51"), "{answer:?}");
            ensure!(answer.header("ostype") == Some("linux"), "{answer:?}");
            ensure!(answer.header("builder-version") == Some("2"), "{answer:?}");
            let body = if method == "GET" { "OK" } else { "" };
            ensure!(answer.text() == body, "{method} {path}: {answer:?}");
        }
    }
    Ok(())
}

fn oldest(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    let list = pool.ask("GET", "/v1.24/containers/json", b"")?.json()?;
    ensure!(list[0]["Names"][0] == "/it", "{list}");
    ensure!(list[0].get("ImageManifestDescriptor").is_none(), "{list}");
    let made = pool.ask(
        "POST",
        "/v1.24/containers/create?name=old",
        br#"{"Image":"busybox","Cmd":["sleep","600"]}"#,
    )?;
    ensure!(made.status == 201, "{made:?}");
    for (path, wanted) in [
        ("start", 204),
        ("start", 304),
        ("stop?t=0", 204),
        ("stop?t=0", 304),
    ] {
        let answer = pool.ask("POST", &format!("/v1.24/containers/old/{path}"), b"")?;
        ensure!(answer.status == wanted, "{path}: {answer:?}");
    }
    let removed = pool.ask("DELETE", "/v1.24/containers/old", b"")?;
    ensure!(removed.status == 204, "{removed:?}");
    let mut command = pool.docker().command()?;
    command
        .env("DOCKER_API_VERSION", "1.24")
        .args(["ps", "--format={{.Names}}"]);
    ensure!(pool.docker().finish(&mut command, b"")?.ok()? == "it");
    Ok(())
}

fn window(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(0).tcp();
    for path in [
        "/v1.52/info",
        "/v1.99/containers/json",
        "/v1.10/info",
        "/v1.23/containers/json",
        "/v2/info",
        "/v0/info",
    ] {
        let ours = pool.ask("GET", path, b"")?;
        let theirs = integration::wire::ask(&host, "GET", path, b"")?;
        ensure!(ours.status == 400, "{path}: {ours:?}");
        ensure!(
            (ours.status, ours.text()) == (theirs.status, theirs.text()),
            "{path}: {ours:?}, {theirs:?}"
        );
    }
    Ok(())
}

fn keep_alive(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let mut wire = Wire::open(&pool.manager.tcp())?;
    for _ in 0..50 {
        for (path, status) in [
            ("/_ping", 200),
            ("/containers/json?all=1", 200),
            ("/containers/nosuch/json", 404),
            ("/nosuch", 404),
        ] {
            wire.request("GET", path, &[], b"")?;
            let answer = wire.answer(false)?;
            ensure!(answer.status == status, "{path}: {answer:?}");
        }
    }
    Ok(())
}
