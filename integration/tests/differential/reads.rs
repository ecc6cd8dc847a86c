//! What changes nothing: every list, every inspect, in every version, and every way to ask wrongly.

use anyhow::{Result, ensure};
use integration::lab::Lab;
use integration::pool::Pool;
use integration::wire::{self, Answer};

use crate::compare::{Asked, Verdict};

/// The versions at which engines' answers changed; none is the newest.
const VERSIONS: &[Option<(u32, u32)>] = &[
    None,
    Some((1, 24)),
    Some((1, 41)),
    Some((1, 44)),
    Some((1, 51)),
];

/// Asked in every version. `{id}` is the full id of the container `up`, `{image}` that of its image, `{net}` that of
/// the network `net`, `{exec}` an exec instance that has ended.
const IN_ALL_VERSIONS: &[&str] = &[
    "GET /_ping",
    "HEAD /_ping",
    "GET /version",
    "GET /info",
    "GET /containers/json",
    "GET /containers/json?all=1",
    "GET /containers/json?all=1&size=1",
    "GET /containers/json?limit=2",
    "GET /containers/up/json",
    "GET /containers/{id}/json",
    "GET /containers/over/json?size=1",
    "GET /containers/held/json",
    "GET /containers/made/json",
    "GET /containers/nosuch/json",
    "GET /containers/up/logs?stdout=1&stderr=1",
    "GET /containers/up/changes",
    "GET /containers/made/stats?stream=0&one-shot=1",
    "HEAD /containers/up/archive?path=/etc/passwd",
    "GET /containers/up/archive?path=/etc/passwd",
    "GET /exec/{exec}/json",
    "GET /images/json",
    "GET /images/json?all=1&digests=1&shared-size=1",
    "GET /images/busybox/json",
    "GET /images/{image}/json",
    "GET /images/busybox/history",
    "GET /images/nosuch/json",
    "GET /networks",
    "GET /networks/net",
    "GET /networks/{net}",
    "GET /networks/bridge?verbose=1",
    "GET /networks/nosuch",
    "GET /volumes",
    "GET /volumes/data",
    "GET /volumes/nosuch",
    "GET /system/df",
    "GET /events?since={begun}&until={now}",
    "GET /swarm",
    "GET /services",
    "GET /nodes",
    "GET /tasks",
    "GET /secrets",
    "GET /configs",
    "GET /plugins",
    "GET /plugins/nosuch/json",
    "OPTIONS /containers/json",
    "GET /nosuch",
];

/// Asked once.
const ONCE: &[&str] = &[
    // Lists of containers.
    "GET /containers/json?all=true",
    "GET /containers/json?all=True",
    "GET /containers/json?all=no",
    "GET /containers/json?all=0",
    "GET /containers/json?limit=-1",
    "GET /containers/json?limit=0",
    "GET /containers/json?filters={}",
    "GET /containers/json?filters={\"name\":[\"up\"]}",
    "GET /containers/json?filters={\"name\":{\"up\":true}}",
    "GET /containers/json?filters={\"name\":{\"up\":false}}",
    "GET /containers/json?all=1&filters={\"name\":[\"^/o\"]}",
    "GET /containers/json?all=1&filters={\"name\":[\"[\"]}",
    "GET /containers/json?filters={\"status\":[\"exited\"]}",
    "GET /containers/json?filters={\"status\":[\"created\",\"paused\"]}",
    "GET /containers/json?filters={\"status\":[\"nosuch\"]}",
    "GET /containers/json?all=1&filters={\"label\":[\"a\"]}",
    "GET /containers/json?all=1&filters={\"label\":[\"a=b\"]}",
    "GET /containers/json?all=1&filters={\"label\":[\"a=b\",\"c\"]}",
    "GET /containers/json?all=1&filters={\"label\":[\"a=nosuch\"]}",
    "GET /containers/json?all=1&filters={\"label!\":[\"a\"]}",
    "GET /containers/json?all=1&filters={\"exited\":[\"3\"]}",
    "GET /containers/json?all=1&filters={\"exited\":[\"x\"]}",
    "GET /containers/json?all=1&filters={\"id\":[\"{id}\"]}",
    "GET /containers/json?all=1&filters={\"id\":[\"nosuch\"]}",
    "GET /containers/json?all=1&filters={\"ancestor\":[\"busybox\"]}",
    "GET /containers/json?all=1&filters={\"ancestor\":[\"some:1\"]}",
    "GET /containers/json?all=1&filters={\"ancestor\":[\"nosuch\"]}",
    "GET /containers/json?all=1&filters={\"ancestor\":[\"{image}\"]}",
    "GET /containers/json?all=1&filters={\"before\":[\"made\"]}",
    "GET /containers/json?all=1&filters={\"since\":[\"over\"]}",
    "GET /containers/json?all=1&filters={\"since\":[\"nosuch\"]}",
    "GET /containers/json?all=1&filters={\"before\":[\"nosuch\"]}",
    "GET /containers/json?all=1&filters={\"volume\":[\"data\"]}",
    "GET /containers/json?all=1&filters={\"volume\":[\"/data\"]}",
    "GET /containers/json?all=1&filters={\"network\":[\"net\"]}",
    "GET /containers/json?all=1&filters={\"network\":[\"nosuch\"]}",
    "GET /containers/json?all=1&filters={\"publish\":[\"8080\"]}",
    "GET /containers/json?all=1&filters={\"publish\":[\"x\"]}",
    "GET /containers/json?all=1&filters={\"expose\":[\"80/tcp\"]}",
    "GET /containers/json?all=1&filters={\"expose\":[\"80-90\"]}",
    "GET /containers/json?all=1&filters={\"health\":[\"none\"]}",
    "GET /containers/json?all=1&filters={\"health\":[\"nosuch\"]}",
    "GET /containers/json?all=1&filters={\"is-task\":[\"false\"]}",
    "GET /containers/json?all=1&filters={\"is-task\":[\"x\"]}",
    "GET /containers/json?all=1&filters={\"isolation\":[\"default\"]}",
    "GET /containers/json?filters={\"nosuch\":[\"x\"]}",
    "GET /containers/json?filters={",
    "GET /containers/json?filters=[]",
    "GET /containers/json?filters={\"name\":\"up\"}",
    "GET /containers/json?limit=x",
    // One container.
    "GET /containers/{id12}/json",
    "GET /containers/{id4}/json",
    "GET /containers//up/json",
    "GET /containers/up/nosuch",
    "POST /containers/up",
    "GET /containers/up/top",
    "GET /containers/up/top?ps_args=-o%20pid,comm",
    "GET /containers/up/top?ps_args=nosuch",
    "GET /containers/over/top",
    "GET /containers/nosuch/top",
    "GET /containers/up/logs",
    "GET /containers/up/logs?stdout=1",
    "GET /containers/up/logs?stderr=1&timestamps=1",
    "GET /containers/up/logs?stdout=1&tail=1",
    "GET /containers/up/logs?stdout=1&tail=0",
    "GET /containers/up/logs?stdout=1&tail=x",
    "GET /containers/up/logs?stdout=1&since=x",
    "GET /containers/up/logs?stdout=1&since=2100000000",
    "GET /containers/up/logs?stdout=1&details=1",
    "GET /containers/over/logs?stdout=1&stderr=1&follow=1",
    "GET /containers/terminal/logs?stdout=1",
    "GET /v1.41/containers/terminal/logs?stdout=1",
    "GET /containers/made/logs?stdout=1",
    "GET /containers/nosuch/logs?stdout=1",
    "GET /containers/nosuch/changes",
    "GET /containers/nosuch/stats",
    "GET /containers/nosuch/export",
    "GET /containers/nosuch/archive?path=/",
    "HEAD /containers/nosuch/archive?path=/",
    "GET /containers/up/archive",
    "GET /containers/up/archive?path=",
    "GET /containers/up/archive?path=/nosuch",
    "HEAD /containers/up/archive?path=/nosuch",
    "GET /containers/up/archive?path=/etc/passwd/x",
    "HEAD /containers/up/archive?path=/bin/sh",
    "HEAD /containers/up/archive?path=/tmp/",
    "GET /containers/made/archive?path=/etc",
    "GET /containers/nosuch/checkpoints",
    "GET /exec/nosuch/json",
    // Images.
    "GET /images/json?filters={\"reference\":[\"busy*\"]}",
    "GET /images/json?filters={\"reference\":[\"nosuch\"]}",
    "GET /images/json?filters={\"dangling\":[\"true\"]}",
    "GET /images/json?filters={\"dangling\":[\"x\"]}",
    "GET /images/json?filters={\"label\":[\"nosuch\"]}",
    "GET /images/json?filters={\"before\":[\"some:1\"]}",
    "GET /images/json?filters={\"since\":[\"nosuch\"]}",
    "GET /images/json?filters={\"until\":[\"1h\"]}",
    "GET /images/json?filters={\"until\":[\"x\"]}",
    "GET /images/json?filters={\"nosuch\":[\"x\"]}",
    "GET /images/json?filters={",
    "GET /images/some:1/json",
    "GET /images/some/json",
    "GET /images/docker.io/library/busybox:latest/json",
    "GET /images/{image12}/json",
    "GET /images/UPPER/json",
    "GET /images/busybox:nosuch/json",
    "GET /images/busybox@sha256:0000000000000000000000000000000000000000000000000000000000000000/json",
    "GET /images/busybox/json?manifests=1",
    "GET /images/nosuch/history",
    "GET /images/some:1/history",
    "GET /images/nosuch/get",
    "GET /images/get?names=nosuch",
    "GET /images/get?names=busybox&names=nosuch",
    "GET /images/search",
    // Networks and volumes.
    "GET /networks/",
    "GET /networks?filters={\"name\":[\"net\"]}",
    "GET /networks?filters={\"driver\":[\"bridge\"]}",
    "GET /networks?filters={\"type\":[\"custom\"]}",
    "GET /networks?filters={\"type\":[\"builtin\"]}",
    "GET /networks?filters={\"type\":[\"nosuch\"]}",
    "GET /networks?filters={\"scope\":[\"local\"]}",
    "GET /networks?filters={\"scope\":[\"swarm\"]}",
    "GET /networks?filters={\"label\":[\"a=b\"]}",
    "GET /networks?filters={\"dangling\":[\"true\"]}",
    "GET /networks?filters={\"dangling\":[\"x\"]}",
    "GET /networks?filters={\"id\":[\"{net}\"]}",
    "GET /networks?filters={\"nosuch\":[\"x\"]}",
    "GET /networks?filters={",
    "GET /networks/net?scope=swarm",
    "GET /networks/net?verbose=x",
    "GET /networks/{net12}",
    "GET /volumes?filters={\"name\":[\"data\"]}",
    "GET /volumes?filters={\"name\":[\"nosuch\"]}",
    "GET /volumes?filters={\"driver\":[\"local\"]}",
    "GET /volumes?filters={\"label\":[\"a=b\"]}",
    "GET /volumes?filters={\"dangling\":[\"false\"]}",
    "GET /volumes?filters={\"dangling\":[\"true\"]}",
    "GET /volumes?filters={\"dangling\":[\"x\"]}",
    "GET /volumes?filters={\"nosuch\":[\"x\"]}",
    "GET /volumes?filters={",
    "GET /volumes/data/nosuch",
    // The rest.
    "GET /system/df?type=container",
    "GET /system/df?type=image&type=volume",
    "GET /system/df?type=nosuch",
    "GET /system/nosuch",
    "GET /events?since={begun}&until={now}&filters={\"type\":[\"container\"]}",
    "GET /events?since={begun}&until={now}&filters={\"event\":[\"start\"]}",
    "GET /events?since={begun}&until={now}&filters={\"container\":[\"up\"]}",
    "GET /events?since={begun}&until={now}&filters={\"label\":[\"a=b\"]}",
    "GET /events?since={begun}&until={now}&filters={\"image\":[\"busybox\"]}",
    "GET /events?since={begun}&until={now}&filters={\"network\":[\"net\"]}",
    "GET /events?since={begun}&until={now}&filters={\"volume\":[\"data\"]}",
    "GET /events?since={begun}&until={now}&filters={\"nosuch\":[\"x\"]}",
    "GET /events?since=2&until=1",
    "GET /events?since=x",
    "GET /events?until=x",
    "GET /events?filters={",
    "GET /nodes/nosuch",
    "GET /services/nosuch",
    "GET /tasks/nosuch",
    "GET /secrets/nosuch",
    "GET /configs/nosuch",
    "GET /swarm/unlockkey",
    "GET /plugins?filters={\"nosuch\":[\"x\"]}",
    "GET /plugins/privileges",
    "GET /distribution/nosuch/json",
    "GET /distribution/UPPER/json",
    // Paths.
    "GET /",
    "GET /v1.51",
    "GET /v1.51/",
    "GET /v1.52/info",
    "GET /v1.99/containers/json",
    "GET /v1.23/containers/json",
    "GET /v1.10/info",
    "GET /v2/info",
    "GET /v1/info",
    "GET /v1.24.1/info",
    "GET /vx/info",
    "GET //info",
    "GET /info/",
    "GET /containers/../info",
    "GET /containers/./json",
    "GET /containers/..%2f..%2finfo/json",
    "GET /containers/%2e%2e/json",
    "GET /containers/%zz/json",
    "GET /containers/%00/json",
    "GET /containers/a%2fb/json",
    "GET /containers/a%20b/json",
    "GET /containers/%F0%9F%90%B3/json",
    "GET /containers/json/json",
    "GET /images/../json",
    "PATCH /containers/json",
    "PUT /info",
    "DELETE /info",
    "POST /version",
    "HEAD /info",
    "HEAD /containers/json",
    "OPTIONS /nosuch",
    "OPTIONS /v1.99/info",
];

pub(crate) fn agree(lab: &Lab) -> Result<()> {
    let (host, engine) = (lab.host(0), lab.host(0).tcp());
    let begun =
        integration::http::get(&engine, "/info", wire::PATIENCE)?.json()?["SystemTime"].clone();
    for line in [
        "tag busybox some:1",
        "volume create --label a=b data",
        "network create --label a=b net",
        "run -d --name=up -l a=b -l c -e A=b -p 8080:80 -v data:/data --network net busybox sh -c 'echo out; echo err >&2; touch /new; exec sleep 600'",
        "run --name=terminal -t busybox echo hi",
        "create --name=made -l a=b -m 64m some:1 true",
        "run -d --name=held busybox sleep 600",
        "pause held",
    ] {
        direct(host.client(), line)?.ok()?;
    }
    ensure!(
        direct(
            host.client(),
            "run --name=over busybox sh -c 'echo over; exit 3'"
        )?
        .code
            == 3
    );
    let pool = Pool::over(lab)?;
    let inspect = |path: &str| wire::ask(&engine, "GET", path, b"")?.json();
    let exec = wire::ask(
        &engine,
        "POST",
        "/containers/up/exec",
        br#"{"Cmd":["true"]}"#,
    )?
    .json()?;
    let exec = exec["Id"].as_str().unwrap_or_default().to_owned();
    wire::ask(
        &engine,
        "POST",
        &format!("/exec/{exec}/start"),
        br#"{"Detach":true}"#,
    )?;
    integration::wait::until_true("the end of the exec", wire::PATIENCE, || {
        Ok(inspect(&format!("/exec/{exec}/json"))?["Running"] == false)
    })?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let up = inspect("/containers/up/json")?;
    let (id, image) = (text(&up["Id"]), text(&up["Image"]));
    let net = text(&inspect("/networks/net")?["Id"]);
    let now = text(&inspect("/info")?["SystemTime"]);
    let words = [
        ("{id}", id.clone()),
        ("{id12}", id[..12].to_owned()),
        ("{id4}", id[..4].to_owned()),
        ("{image12}", image[7..19].to_owned()),
        ("{image}", image),
        ("{net12}", net[..12].to_owned()),
        ("{net}", net),
        ("{exec}", exec),
        ("{begun}", seconds(&text(&begun))?),
        ("{now}", seconds(&now)?),
    ];
    // What the pool knows of the containers is at most an event behind.
    let lists = |endpoint: &str| wire::ask(endpoint, "GET", "/containers/json?all=1", b"")?.json();
    integration::wait::until_true("the pool to know all containers", wire::PATIENCE, || {
        let (ours, theirs) = (lists(&pool.manager.tcp())?, lists(&engine)?);
        Ok(ours.as_array().map(Vec::len) == theirs.as_array().map(Vec::len))
    })?;
    let mut verdict = Verdict::default();
    let in_all = IN_ALL_VERSIONS
        .iter()
        .flat_map(|line| VERSIONS.iter().map(move |version| (line, *version)));
    for (line, version) in in_all.chain(ONCE.iter().map(|line| (line, None))) {
        let mut line = (*line).to_owned();
        for (word, value) in &words {
            line = line.replace(word, value);
        }
        let asked = Asked::parse(&line, version);
        let target = encode(&asked.target());
        let ask =
            |endpoint: &str| -> Result<Answer> { wire::ask(endpoint, &asked.method, &target, b"") };
        let before = ask(&engine)?;
        let ours = ask(&pool.manager.tcp())?;
        let after = ask(&engine)?;
        verdict.judge(&asked, &ours, &[before, after]);
    }
    direct(host.client(), "rmi some:1").ok();
    verdict.finish(&[
        "a wrong query is a 400",
        "containers show their node",
        "events show the node",
        "events take durations",
        "info has a moment's numbers",
        "lists show the node as a label",
        "published ports have the node's address",
        "version names the product",
        "what is missing is missed first",
    ])
}

fn direct(docker: &integration::client::Docker, line: &str) -> Result<integration::client::Output> {
    let words = integration::pool::words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    docker.run(&words)
}

/// A time as events take it: seconds since 1970 with a fraction.
fn seconds(time: &str) -> Result<String> {
    let output = std::process::Command::new("date")
        .args(["-d", time, "+%s.%N"])
        .output()?;
    ensure!(output.status.success(), "`{time}` is no time");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Braces and quotes as a URL has them; the rest is sent as it is.
pub(crate) fn encode(path: &str) -> String {
    let letters = path.chars().map(|letter| match letter {
        '{' => "%7B".to_owned(),
        '}' => "%7D".to_owned(),
        '"' => "%22".to_owned(),
        '[' => "%5B".to_owned(),
        ']' => "%5D".to_owned(),
        '^' => "%5E".to_owned(),
        other => other.to_string(),
    });
    letters.collect()
}
