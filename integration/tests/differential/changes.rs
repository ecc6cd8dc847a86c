//! What changes something: done to one of two equal containers at the engine, to the other through the pool.

use anyhow::{Context, Result, ensure};
use integration::lab::Lab;
use integration::pool::Pool;
use integration::wire::{self, Answer, Wire};

use crate::compare::{Asked, Verdict};
use crate::reads::encode;

/// The two containers are called this, and whatever is made beside them begins with it.
const AT_THE_ENGINE: &str = "pair-a";
const THROUGH_THE_POOL: &str = "pair-b";

/// In which state the container `{c}` (its id: `{id}`) is, and what is asked of it.
const CHANGES: &[(&str, &str)] = &[
    // Start.
    ("created", "POST /containers/{c}/start"),
    ("created", "POST /containers/{c}/start {}"),
    (
        "created",
        "POST /containers/{c}/start {\"NetworkMode\":\"host\"}",
    ),
    ("created", "POST /containers/{c}/start?detachKeys=nosuchkey"),
    ("created", "POST /containers/{c}/start?checkpoint=nosuch"),
    ("running", "POST /containers/{c}/start"),
    ("exited", "POST /containers/{c}/start"),
    ("paused", "POST /containers/{c}/start"),
    ("nothing", "POST /containers/nosuch/start"),
    ("bad command", "POST /containers/{c}/start"),
    ("bad network", "POST /containers/{c}/start"),
    // Stop.
    ("created", "POST /containers/{c}/stop"),
    ("running", "POST /containers/{c}/stop?t=0"),
    ("running", "POST /containers/{c}/stop?t=x"),
    ("running", "POST /containers/{c}/stop?t=0&signal=KILL"),
    ("running", "POST /containers/{c}/stop?signal=NOSUCH"),
    ("running", "POST /v1.24/containers/{c}/stop?t=0"),
    ("exited", "POST /containers/{c}/stop"),
    ("nothing", "POST /containers/nosuch/stop"),
    // Restart.
    ("created", "POST /containers/{c}/restart?t=0"),
    ("running", "POST /containers/{c}/restart?t=0"),
    ("running", "POST /containers/{c}/restart?t=x"),
    ("running", "POST /containers/{c}/restart?signal=NOSUCH"),
    ("exited", "POST /containers/{c}/restart?t=0"),
    ("nothing", "POST /containers/nosuch/restart"),
    // Kill.
    ("created", "POST /containers/{c}/kill"),
    ("created", "POST /containers/{id}/kill"),
    ("running", "POST /containers/{c}/kill"),
    ("running", "POST /containers/{c}/kill?signal=CONT"),
    ("running", "POST /containers/{c}/kill?signal=SIGCONT"),
    ("running", "POST /containers/{c}/kill?signal=18"),
    ("running", "POST /containers/{c}/kill?signal=NOSUCH"),
    ("running", "POST /containers/{c}/kill?signal=99"),
    ("exited", "POST /containers/{c}/kill"),
    ("exited", "POST /containers/{c}/kill?signal=NOSUCH"),
    ("paused", "POST /containers/{c}/kill"),
    ("nothing", "POST /containers/nosuch/kill"),
    // Pause.
    ("created", "POST /containers/{c}/pause"),
    ("running", "POST /containers/{c}/pause"),
    ("paused", "POST /containers/{c}/pause"),
    ("paused", "POST /containers/{c}/unpause"),
    ("running", "POST /containers/{c}/unpause"),
    ("exited", "POST /containers/{c}/unpause"),
    ("nothing", "POST /containers/nosuch/pause"),
    ("nothing", "POST /containers/nosuch/unpause"),
    // Rename.
    ("created", "POST /containers/{c}/rename?name={c}-new"),
    ("created", "POST /containers/{c}/rename?name=/{c}-new"),
    ("running", "POST /containers/{c}/rename?name={c}-new"),
    ("created", "POST /containers/{c}/rename"),
    ("created", "POST /containers/{c}/rename?name="),
    ("created", "POST /containers/{c}/rename?name={c}"),
    ("created", "POST /containers/{c}/rename?name=/{c}"),
    ("created", "POST /containers/{c}/rename?name=other"),
    ("created", "POST /containers/{c}/rename?name=!"),
    ("created", "POST /containers/{c}/rename?name=a/b"),
    ("nothing", "POST /containers/nosuch/rename?name=x1"),
    ("nothing", "POST /containers/nosuch/rename?name=!"),
    ("nothing", "POST /containers/nosuch/rename"),
    // Update.
    ("running", "POST /containers/{c}/update {}"),
    (
        "running",
        "POST /containers/{c}/update {\"Memory\":67108864,\"MemorySwap\":67108864}",
    ),
    ("running", "POST /containers/{c}/update {\"Memory\":1}"),
    ("running", "POST /containers/{c}/update {\"Memory\":-5}"),
    ("running", "POST /containers/{c}/update {\"Memory\":\"x\"}"),
    (
        "running",
        "POST /containers/{c}/update {\"NanoCpus\":100000000}",
    ),
    (
        "running",
        "POST /containers/{c}/update {\"RestartPolicy\":{\"Name\":\"always\"}}",
    ),
    (
        "running",
        "POST /containers/{c}/update {\"RestartPolicy\":{\"Name\":\"nosuch\"}}",
    ),
    ("running", "POST /containers/{c}/update {"),
    ("running", "POST /containers/{c}/update"),
    (
        "exited",
        "POST /containers/{c}/update {\"Memory\":67108864,\"MemorySwap\":67108864}",
    ),
    ("nothing", "POST /containers/nosuch/update {}"),
    // Wait.
    ("exited", "POST /containers/{c}/wait"),
    ("exited", "POST /containers/{c}/wait?condition=not-running"),
    ("created", "POST /containers/{c}/wait"),
    ("exited", "POST /v1.24/containers/{c}/wait"),
    ("running", "POST /containers/{c}/wait?condition=nosuch"),
    ("nothing", "POST /containers/nosuch/wait"),
    ("nothing", "POST /containers/nosuch/wait?condition=removed"),
    // Resize.
    ("terminal", "POST /containers/{c}/resize?h=30&w=100"),
    ("terminal", "POST /containers/{c}/resize?h=x&w=100"),
    ("terminal", "POST /containers/{c}/resize"),
    ("created", "POST /containers/{c}/resize?h=30&w=100"),
    ("nothing", "POST /containers/nosuch/resize?h=30&w=100"),
    // Remove.
    ("created", "DELETE /containers/{c}"),
    ("created", "DELETE /containers/{id}"),
    ("exited", "DELETE /containers/{c}?v=1"),
    ("running", "DELETE /containers/{c}"),
    ("running", "DELETE /containers/{c}?force=1"),
    (
        "running",
        "DELETE /containers/{c}?force=True&v=False&link=False",
    ),
    ("paused", "DELETE /containers/{c}"),
    ("paused", "DELETE /containers/{c}?force=1"),
    ("running", "DELETE /containers/{c}?link=1"),
    ("nothing", "DELETE /containers/nosuch"),
    ("nothing", "DELETE /containers/nosuch?force=1"),
    // Archives.
    ("running", "PUT /containers/{c}/archive?path=/nosuch"),
    ("running", "PUT /containers/{c}/archive?path=/etc/passwd"),
    ("running", "PUT /containers/{c}/archive"),
    (
        "running",
        "PUT /containers/{c}/archive?path=/tmp this is no tar",
    ),
    ("nothing", "PUT /containers/nosuch/archive?path=/"),
    ("running", "GET /containers/{c}/archive?path=/nosuch"),
    ("running", "HEAD /containers/{c}/archive?path=/nosuch"),
    // Exec.
    ("running", "POST /containers/{c}/exec {\"Cmd\":[\"true\"]}"),
    ("running", "POST /containers/{c}/exec {\"Cmd\":[]}"),
    ("running", "POST /containers/{c}/exec {}"),
    ("running", "POST /containers/{c}/exec {"),
    ("running", "POST /containers/{c}/exec"),
    (
        "running",
        "POST /containers/{c}/exec {\"Cmd\":[\"true\"],\"DetachKeys\":\"nosuchkey\"}",
    ),
    (
        "running",
        "POST /containers/{c}/exec {\"Cmd\":[\"true\"],\"User\":\"nosuch\"}",
    ),
    ("created", "POST /containers/{c}/exec {\"Cmd\":[\"true\"]}"),
    ("exited", "POST /containers/{c}/exec {\"Cmd\":[\"true\"]}"),
    ("paused", "POST /containers/{c}/exec {\"Cmd\":[\"true\"]}"),
    (
        "nothing",
        "POST /containers/nosuch/exec {\"Cmd\":[\"true\"]}",
    ),
    ("nothing", "POST /exec/nosuch/start {\"Detach\":true}"),
    ("nothing", "POST /exec/nosuch/start {"),
    ("nothing", "POST /exec/nosuch/resize?h=1&w=1"),
    ("nothing", "POST /exec/nosuch/resize?h=x&w=1"),
    // Commit.
    ("created", "POST /commit?container={c}&repo={c}&tag=1"),
    (
        "running",
        "POST /commit?container={c}&repo={c}&tag=1&pause=0&comment=x&changes=ENV%20A=b",
    ),
    (
        "running",
        "POST /commit?container={c}&repo={c}&tag=1 {\"Env\":[\"A=b\"]}",
    ),
    ("created", "POST /commit?container={c}&repo=UPPER"),
    ("created", "POST /commit?container={c}&changes=NOSUCH"),
    ("nothing", "POST /commit?container=nosuch"),
    ("nothing", "POST /commit"),
    // Create.
    (
        "nothing",
        "POST /containers/create?name={c}-new {\"Image\":\"busybox\"}",
    ),
    (
        "nothing",
        "POST /containers/create?name=/{c}-new {\"Image\":\"busybox\",\"Cmd\":\"true\"}",
    ),
    (
        "nothing",
        "POST /v1.24/containers/create?name={c}-new {\"Image\":\"busybox\",\"HostConfig\":{\"AutoRemove\":true}}",
    ),
    (
        "nothing",
        "POST /v1.41/containers/create?name={c}-new {\"Image\":\"busybox\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"default\":{}}}}",
    ),
    (
        "nothing",
        "POST /v1.43/containers/create?name={c}-new {\"Image\":\"busybox\",\"NetworkingConfig\":{\"EndpointsConfig\":{\"a\":5}}}",
    ),
    (
        "nothing",
        "POST /containers/create?name=other {\"Image\":\"busybox\"}",
    ),
    (
        "nothing",
        "POST /containers/create?name=! {\"Image\":\"busybox\"}",
    ),
    (
        "nothing",
        "POST /containers/create?name=x {\"Image\":\"busybox\"}",
    ),
    (
        "nothing",
        "POST /containers/create?name=a/b {\"Image\":\"busybox\"}",
    ),
    ("nothing", "POST /containers/create {\"Image\":\"nosuch\"}"),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"nosuch:1\"}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox:nosuch\"}",
    ),
    ("nothing", "POST /containers/create {\"Image\":\"UPPER\"}"),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"registry.invalid/some/thing:1\"}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000\"}",
    ),
    ("nothing", "POST /containers/create {\"Image\":\"\"}"),
    ("nothing", "POST /containers/create {\"Image\":5}"),
    ("nothing", "POST /containers/create {}"),
    ("nothing", "POST /containers/create {"),
    ("nothing", "POST /containers/create []"),
    ("nothing", "POST /containers/create null"),
    ("nothing", "POST /containers/create \"text\""),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\"}{}",
    ),
    ("nothing", "POST /containers/create"),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"Env\":\"A=b\"}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"Env\":[\"=b\"]}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"Labels\":5}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"Labels\":{\"a\":5}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":5}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":1}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Memory\":\"x\"}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"NanoCpus\":-1}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"container:nosuch\"}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"container:\"}}",
    ),
    (
        "nothing",
        "POST /containers/create?name={c}-new {\"Image\":\"busybox\",\"HostConfig\":{\"NetworkMode\":\"nosuch\"}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"VolumesFrom\":[\"nosuch\"]}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Links\":[\"nosuch:x\"]}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"x\"]}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Binds\":[\"a:relative\"]}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Mounts\":[{\"Type\":\"bind\",\"Source\":\"/nosuch\",\"Target\":\"/x\"}]}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Mounts\":[{\"Type\":\"nosuch\",\"Target\":\"/x\"}]}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"PortBindings\":{\"80\":[{\"HostPort\":\"x\"}]}}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"PortBindings\":{\"x\":[{\"HostPort\":\"80\"}]}}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"always\"},\"AutoRemove\":true}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"RestartPolicy\":{\"Name\":\"nosuch\"}}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"Runtime\":\"nosuch\"}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"LogConfig\":{\"Type\":\"nosuch\"}}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"HostConfig\":{\"CapAdd\":[\"NOSUCH\"]}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"Healthcheck\":{\"Interval\":1}}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"StopSignal\":\"NOSUCH\"}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"WorkingDir\":\"relative\"}",
    ),
    (
        "nothing",
        "POST /containers/create {\"Image\":\"busybox\",\"Hostname\":\"!\"}",
    ),
    (
        "nothing",
        "POST /containers/create?platform=nosuch {\"Image\":\"busybox\"}",
    ),
    (
        "nothing",
        "POST /containers/create?platform=linux/arm64 {\"Image\":\"busybox\"}",
    ),
    (
        "nothing",
        "POST /containers/create?name={c}-new {\"Image\":\"busybox\",\"NoSuchMember\":5,\"HostConfig\":{\"NoSuch\":[]}}",
    ),
    (
        "nothing",
        "POST /containers/create?name={c}-new {\"image\":\"busybox\",\"hostconfig\":{\"memory\":67108864}}",
    ),
    // Prune.
    (
        "nothing",
        "POST /containers/prune?filters={\"nosuch\":[\"x\"]}",
    ),
    (
        "nothing",
        "POST /containers/prune?filters={\"until\":[\"x\"]}",
    ),
    (
        "nothing",
        "POST /containers/prune?filters={\"label\":[\"nosuch\"]}",
    ),
    ("nothing", "POST /containers/prune?filters={"),
    (
        "exited",
        "POST /containers/prune?filters={\"label\":[\"pair={c}\"]}",
    ),
    // Checkpoints, which no engine here can make.
    (
        "running",
        "POST /containers/{c}/checkpoints {\"CheckpointID\":\"x\"}",
    ),
    ("running", "GET /containers/{c}/checkpoints"),
    ("running", "DELETE /containers/{c}/checkpoints/x"),
    ("running", "POST /containers/{c}/copy {}"),
    // Images.
    ("nothing", "POST /images/busybox/tag?repo={c}&tag=1"),
    ("nothing", "POST /images/busybox/tag?repo=UPPER&tag=1"),
    ("nothing", "POST /images/busybox/tag?repo={c}&tag=!"),
    ("nothing", "POST /images/busybox/tag"),
    ("nothing", "POST /images/nosuch/tag?repo={c}&tag=1"),
    ("nothing", "DELETE /images/nosuch"),
    ("nothing", "DELETE /images/UPPER"),
    ("running", "DELETE /images/busybox"),
    ("nothing", "POST /images/nosuch/push"),
    ("nothing", "POST /images/create?fromImage=UPPER"),
    ("nothing", "POST /images/create?fromImage="),
    ("nothing", "POST /images/create"),
    ("nothing", "POST /images/create?fromSrc=nosuch&repo=UPPER"),
    ("nothing", "POST /images/prune?filters={\"nosuch\":[\"x\"]}"),
    (
        "nothing",
        "POST /images/prune?filters={\"dangling\":[\"x\"]}",
    ),
    (
        "nothing",
        "POST /images/prune?filters={\"label\":[\"nosuch\"]}",
    ),
    ("nothing", "POST /build?dockerfile=nosuch"),
    ("nothing", "POST /build/prune?filters={"),
    ("nothing", "POST /build/cancel"),
    ("nothing", "POST /session"),
    ("nothing", "POST /grpc"),
    // Networks.
    ("nothing", "POST /networks/create {\"Name\":\"{c}-net\"}"),
    ("nothing", "POST /networks/create {\"Name\":\"\"}"),
    ("nothing", "POST /networks/create {\"Name\":\"bridge\"}"),
    (
        "nothing",
        "POST /networks/create {\"Name\":\"{c}-net\",\"IPAM\":{\"Config\":[{\"Subnet\":\"x\"}]}}",
    ),
    ("nothing", "POST /networks/create {"),
    ("nothing", "POST /networks/create"),
    (
        "nothing",
        "POST /networks/nosuch/connect {\"Container\":\"nosuch\"}",
    ),
    (
        "nothing",
        "POST /networks/bridge/connect {\"Container\":\"nosuch\"}",
    ),
    (
        "running",
        "POST /networks/bridge/connect {\"Container\":\"{c}\"}",
    ),
    (
        "running",
        "POST /networks/host/connect {\"Container\":\"{c}\"}",
    ),
    (
        "running",
        "POST /networks/bridge/disconnect {\"Container\":\"{c}\"}",
    ),
    (
        "created",
        "POST /networks/bridge/disconnect {\"Container\":\"{c}\"}",
    ),
    (
        "nothing",
        "POST /networks/bridge/disconnect {\"Container\":\"nosuch\"}",
    ),
    ("nothing", "POST /networks/bridge/connect {"),
    ("nothing", "DELETE /networks/bridge"),
    ("nothing", "DELETE /networks/nosuch"),
    (
        "nothing",
        "POST /networks/prune?filters={\"nosuch\":[\"x\"]}",
    ),
    (
        "nothing",
        "POST /networks/prune?filters={\"label\":[\"nosuch\"]}",
    ),
    // Volumes.
    ("nothing", "POST /volumes/create {\"Name\":\"{c}-data\"}"),
    ("nothing", "POST /volumes/create {\"Name\":\"!\"}"),
    (
        "nothing",
        "POST /volumes/create {\"Name\":\"{c}-data\",\"DriverOpts\":{\"nosuch\":\"x\"}}",
    ),
    ("nothing", "POST /volumes/create {"),
    ("nothing", "DELETE /volumes/nosuch"),
    ("nothing", "DELETE /volumes/nosuch?force=1"),
    ("nothing", "PUT /volumes/nosuch?version=1 {}"),
    (
        "nothing",
        "POST /volumes/prune?filters={\"nosuch\":[\"x\"]}",
    ),
    (
        "nothing",
        "POST /volumes/prune?filters={\"label\":[\"nosuch\"]}",
    ),
    // The rest.
    ("nothing", "POST /auth {"),
    ("nothing", "POST /auth"),
    ("nothing", "POST /swarm/leave"),
    ("nothing", "POST /swarm/update?version=1 {}"),
    ("nothing", "POST /services/create {}"),
    ("nothing", "POST /secrets/create {}"),
    ("nothing", "DELETE /plugins/nosuch"),
    ("nothing", "POST /plugins/nosuch/enable"),
];

/// A container and how to ask for it.
struct Side<'a> {
    name: &'a str,
    endpoint: String,
    id: String,
}

pub(crate) fn agree(lab: &Lab) -> Result<()> {
    let engine = lab.host(0).tcp();
    let pool = Pool::over(lab)?;
    lab.host(0)
        .docker(&["create", "--name=other", "busybox", "true"])?;
    let mut verdict = Verdict::default();
    for (state, line) in CHANGES {
        let mut answers = Vec::new();
        for (name, endpoint) in [
            (AT_THE_ENGINE, engine.clone()),
            (THROUGH_THE_POOL, pool.manager.tcp()),
        ] {
            let side = prepare(name, endpoint, &engine, state)
                .with_context(|| format!("{state}: {line}"))?;
            let line = line.replace("{c}", side.name).replace("{id}", &side.id);
            let asked = Asked::parse(&line, None);
            let kind = if asked.body.is_empty() {
                &[][..]
            } else {
                &[(
                    "Content-Type",
                    if asked.path.contains("/archive") {
                        "application/x-tar"
                    } else {
                        "application/json"
                    },
                )][..]
            };
            let target = encode(&asked.target());
            let answer = wire::ask_with(
                &side.endpoint,
                &asked.method,
                &target,
                kind,
                asked.body.as_bytes(),
            )?;
            answers.push(in_common_words(answer, &side));
            clean(&engine, name)?;
        }
        let asked = Asked::parse(line, None);
        verdict.judge(&asked, &answers[1], &answers[..1]);
    }
    verdict.finish(&[
        "a platform that no node has",
        "what is missing is missed first",
    ])
}

/// Makes a container in this state: created where it will be asked for, then changed at the engine.
fn prepare<'a>(name: &'a str, endpoint: String, engine: &str, state: &str) -> Result<Side<'a>> {
    if state == "nothing" {
        return Ok(Side {
            name,
            endpoint,
            id: String::new(),
        });
    }
    let rest = match state {
        "exited" => r#""Cmd":["sh","-c","echo out; exit 3"]"#,
        "terminal" => r#""Tty":true,"OpenStdin":true,"Cmd":["cat"]"#,
        "input" => {
            r#""OpenStdin":true,"StdinOnce":true,"Cmd":["sh","-c","cat; echo err >&2; exit 3"]"#
        }
        "bad command" => r#""Cmd":["nosuch"]"#,
        "bad network" => r#""Cmd":["true"],"HostConfig":{"NetworkMode":"nosuch"}"#,
        _ => r#""Cmd":["sleep","600"]"#,
    };
    let body =
        format!(r#"{{"Image":"busybox","StopTimeout":0,"Labels":{{"pair":"{name}"}},{rest}}}"#);
    let made = wire::ask(
        &endpoint,
        "POST",
        &format!("/containers/create?name={name}"),
        body.as_bytes(),
    )?;
    let id = made.json()?["Id"].as_str().unwrap_or_default().to_owned();
    ensure!(made.status == 201, "{made:?}");
    let steps: &[&str] = match state {
        "created" | "bad command" | "bad network" => &[],
        "paused" => &["start", "pause"],
        _ => &["start"],
    };
    for step in steps {
        let done = wire::ask(engine, "POST", &format!("/containers/{id}/{step}"), b"")?;
        ensure!(done.status == 204, "{step}: {done:?}");
    }
    if state == "exited" {
        wire::ask(engine, "POST", &format!("/containers/{id}/wait"), b"")?;
    }
    Ok(Side { name, endpoint, id })
}

/// Removes all whose name begins so.
fn clean(engine: &str, name: &str) -> Result<()> {
    for container in wire::ask(engine, "GET", "/containers/json?all=1", b"")?
        .json()?
        .as_array()
        .into_iter()
        .flatten()
    {
        let (id, names) = (&container["Id"], container["Names"].to_string());
        if !names.contains("\"/other\"") {
            wire::ask(
                engine,
                "DELETE",
                &format!(
                    "/containers/{}?force=1&v=1",
                    id.as_str().unwrap_or_default()
                ),
                b"",
            )?;
        }
    }
    for kind in ["networks", "volumes"] {
        for suffix in ["-net", "-data"] {
            wire::ask(engine, "DELETE", &format!("/{kind}/{name}{suffix}"), b"")?;
        }
    }
    wire::ask(engine, "DELETE", &format!("/images/{name}:1"), b"").map(drop)
}

/// Both containers under one name and one id; what was made beside them has no id.
fn in_common_words(mut answer: Answer, side: &Side<'_>) -> Answer {
    let common = |text: &str| {
        let mut text = text.replace(side.name, "it");
        if !side.id.is_empty() {
            text = text
                .replace(&side.id, "ID")
                .replace(&side.id[..12], "SHORT");
        }
        without_ids(&text)
    };
    for (_, value) in &mut answer.headers {
        *value = common(value);
    }
    if let Ok(text) = std::str::from_utf8(&answer.body) {
        answer.body = common(text).into_bytes();
    }
    answer
}

/// Every run of 64 hexadecimal digits becomes one word. So does a container's short id: of several that use an image an
/// engine names any.
fn without_ids(text: &str) -> String {
    let mut out = String::new();
    let mut run = String::new();
    for letter in text.chars().chain(['\n']) {
        if letter.is_ascii_hexdigit() {
            run.push(letter);
            continue;
        }
        let is_short = run.len() == 12 && out.ends_with("container ");
        out.push_str(match run.len() {
            64 => "HEX",
            12 if is_short => "SHORT",
            _ => &run,
        });
        run.clear();
        out.push(letter);
    }
    out.pop();
    out
}

/// Attach and exec, with upgrade headers and without; what is sent to them, and what comes back.
const STREAMS: &[(&str, &str)] = &[
    (
        "input",
        "POST /containers/{c}/attach?stream=1&stdin=1&stdout=1&stderr=1",
    ),
    (
        "input",
        "POST /v1.41/containers/{c}/attach?stream=1&stdin=1&stdout=1&stderr=1",
    ),
    (
        "input",
        "POST /v1.24/containers/{c}/attach?stream=1&stdin=1&stdout=1",
    ),
    (
        "terminal",
        "POST /containers/{c}/attach?stream=1&stdin=1&stdout=1",
    ),
    (
        "exited",
        "POST /containers/{c}/attach?logs=1&stdout=1&stderr=1",
    ),
    ("paused", "POST /containers/{c}/attach?stream=1&stdout=1"),
    (
        "running",
        "POST /containers/{c}/attach?stream=1&stdout=1&detachKeys=nosuchkey",
    ),
    (
        "nothing",
        "POST /containers/nosuch/attach?stream=1&stdout=1",
    ),
    (
        "exec",
        "POST /exec/{exec}/start {\"Detach\":false,\"Tty\":false}",
    ),
    (
        "exec",
        "POST /v1.24/exec/{exec}/start {\"Detach\":false,\"Tty\":false}",
    ),
    ("exec", "POST /exec/{exec}/start {\"Detach\":true}"),
    ("exec", "POST /exec/{exec}/start {"),
    ("exec tty", "POST /exec/{exec}/start {\"Tty\":true}"),
    ("exec bad", "POST /exec/{exec}/start {}"),
    ("exec done", "POST /exec/{exec}/start {}"),
    ("exec gone", "POST /exec/{exec}/start {}"),
    ("nothing", "POST /exec/nosuch/start {}"),
];

pub(crate) fn streams_agree(lab: &Lab) -> Result<()> {
    let engine = lab.host(0).tcp();
    let pool = Pool::over(lab)?;
    let mut verdict = Verdict::default();
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "tcp")];
    for (state, line) in STREAMS {
        for headers in [&upgrade[..], &[]] {
            let mut answers = Vec::new();
            for (name, endpoint) in [
                (AT_THE_ENGINE, engine.clone()),
                (THROUGH_THE_POOL, pool.manager.tcp()),
            ] {
                let container = if state.starts_with("exec") {
                    "running"
                } else {
                    *state
                };
                let side = prepare(name, endpoint, &engine, container)?;
                let exec = exec(&side, &engine, state)?;
                let line = line.replace("{c}", side.name).replace("{exec}", &exec);
                let asked = Asked::parse(&line, None);
                let answer = exchange(&side, state, &asked, headers)
                    .with_context(|| format!("{} {} {headers:?}", side.endpoint, asked.path))?;
                answers.push(in_common_words(answer, &side));
                clean(&engine, name)?;
            }
            let mut asked = Asked::parse(line, None);
            asked.body += if headers.is_empty() {
                " (raw)"
            } else {
                " (upgrade)"
            };
            verdict.judge(&asked, &answers[1], &answers[..1]);
        }
    }
    verdict.finish(&["a raw stream's error has the id"])
}

/// An exec instance of the kind that the state names; made through the side, brought to its state at the engine.
fn exec(side: &Side<'_>, engine: &str, state: &str) -> Result<String> {
    let body = match state {
        "exec" | "exec done" | "exec gone" => {
            r#"{"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Cmd":["sh","-c","cat; echo err >&2"]}"#
        }
        "exec tty" => {
            r#"{"AttachStdin":true,"AttachStdout":true,"Tty":true,"Cmd":["sh","-c","read line; echo got $line"]}"#
        }
        "exec bad" => r#"{"AttachStdout":true,"AttachStderr":true,"Cmd":["nosuch"]}"#,
        _ => return Ok(String::new()),
    };
    let path = format!("/containers/{}/exec", side.id);
    let made = wire::ask(&side.endpoint, "POST", &path, body.as_bytes())?;
    let id = made.json()?["Id"].as_str().unwrap_or_default().to_owned();
    if state == "exec done" {
        wire::ask(
            engine,
            "POST",
            &format!("/exec/{id}/start"),
            br#"{"Detach":true}"#,
        )?;
        integration::wait::until_true("the end of the exec", wire::PATIENCE, || {
            Ok(
                wire::ask(engine, "GET", &format!("/exec/{id}/json"), b"")?.json()?["Running"]
                    == false,
            )
        })?;
    }
    if state == "exec gone" {
        wire::ask(
            engine,
            "POST",
            &format!("/containers/{}/kill", side.id),
            b"",
        )?;
        wire::ask(
            engine,
            "POST",
            &format!("/containers/{}/wait", side.id),
            b"",
        )?;
    }
    Ok(id)
}

/// Asks, sends a line if a stream has begun, ends the input, and reads all that comes.
fn exchange(
    side: &Side<'_>,
    state: &str,
    asked: &Asked,
    headers: &[(&str, &str)],
) -> Result<Answer> {
    let mut wire = Wire::open(&side.endpoint)?;
    let headers = [headers, &[("Content-Type", "application/json")]].concat();
    wire.request(
        &asked.method,
        &encode(&asked.target()),
        &headers,
        asked.body.as_bytes(),
    )?;
    let mut head = wire.head()?;
    let is_stream =
        head.status == 101 || head.status == 200 && head.header("content-length").is_none();
    if is_stream {
        wire.send(b"a line\n")?;
        if state == "terminal" {
            // The terminal's echo, then what `cat` says; neither ends by itself, and the end of our input cuts it off.
            head.body = wire.until(b"a line\r\na line\r\n")?;
            return Ok(head);
        }
    }
    wire.end()?;
    head.body = wire.body(&head)?;
    Ok(head)
}
