//! What every container command does, as a person types it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

use crate::{SOON, contains, now};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("run_and_exec_end_as_their_commands_do", exit_codes),
        case("a_name_is_free_after_each_of_ten_runs", ten_runs),
        case("a_container_shows_its_node", shows_its_node),
        case("a_container_lives_through_every_state", lifecycle),
        case("wait_tells_the_exit_code_before_and_after", wait),
        case("a_container_is_renamed_and_updated", rename_and_update),
        case("links_name_containers_until_they_are_removed", links),
        case("a_containers_insides_can_be_looked_at", insides),
        case("a_container_becomes_an_image", commit),
        case("files_go_in_and_come_out", copy),
        case("logs_are_shown_and_followed_to_their_end", logs),
        case("events_come_live_and_from_the_past", events),
        case("status_ages", status_ages),
    ]
}

fn exit_codes(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.says("run --rm busybox echo hi", "hi")?;
    pool.ends_with("run --rm busybox true", 0)?;
    pool.ends_with("run --rm busybox sh -c 'exit 7'", 7)?;
    pool.ends_with("run --rm --memory=1 busybox true", 125)?;
    pool.ends_with("run --rm busybox /etc/passwd", 126)?;
    pool.ends_with("run --rm busybox nosuch", 127)?;
    pool.ok("run -d --name=here busybox sleep 600")?;
    pool.says("exec here echo hi", "hi")?;
    pool.ends_with("exec here sh -c 'exit 7'", 7)?;
    pool.ends_with("exec here /etc/passwd", 126)?;
    pool.ends_with("exec here nosuch", 127)?;
    pool.ends_with("exec nosuch true", 1)?;
    pool.ok("exec -d here touch /tmp/detached")?;
    pool.comes_to_say("exec here ls /tmp", "detached", SOON)?;
    pool.says("exec -e A=b -w /tmp here sh -c 'echo $A; pwd'", "b\n/tmp")?;
    let both = pool.run("run --rm busybox sh -c 'echo out; echo err >&2'")?;
    ensure!(
        (both.stdout.as_str(), both.stderr.as_str()) == ("out\n", "err\n"),
        "the streams are mixed: {both:?}"
    );
    Ok(())
}

fn ten_runs(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for turn in 0..10 {
        let line = format!("run --rm --name=again busybox echo {turn}");
        pool.says(&line, &turn.to_string())?;
    }
    pool.says("ps -aq", "")
}

fn shows_its_node(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let id = pool.ok("run -d --name=here busybox sleep 600")?;
    ensure!(id.len() == 64, "the id is {id}");
    let node = pool.node_of("here")?;
    let host = lab.hosts().iter().find(|host| host.name() == node);
    let host = host.with_context(|| format!("no host is called {node}"))?;
    ensure!(
        host.docker(&["ps", "-q", "--no-trunc"])? == id,
        "it is not on {node}"
    );
    let shown = pool.inspect("here")?["Node"].clone();
    ensure!(shown["IP"] == host.address(), "{shown}");
    ensure!(shown["Cpus"].as_u64() > Some(0), "{shown}");
    let row = "ps --format '{{.Names}} {{.State}} {{.Label \"com.flotilla.node\"}}'";
    pool.says(row, &format!("here running {node}"))?;
    let labels = pool.inspect("here")?["Config"]["Labels"].clone();
    ensure!(
        labels.as_object().is_none_or(serde_json::Map::is_empty),
        "our own labels show: {labels}"
    );
    pool.ok("rm -f here")?;
    ensure!(host.docker(&["ps", "-aq"])?.is_empty(), "it is left behind");
    Ok(())
}

fn lifecycle(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let id = pool
        .ok("create --name=it busybox sh -c 'trap \"exit 3\" USR1; while :; do sleep 0.1; done'")?;
    ensure!(id.len() == 64, "the id is {id}");
    // Each change shows in the very next list.
    let state = |wanted: &str| pool.says("ps -a --format {{.State}}", wanted);
    state("created")?;
    pool.says("start it", "it")?;
    state("running")?;
    pool.says("pause it", "it")?;
    state("paused")?;
    pool.refuses("exec it true", "is paused")?;
    pool.says("unpause it", "it")?;
    state("running")?;
    pool.says("stop -t 0 it", "it")?;
    state("exited")?;
    pool.says("stop -t 0 it", "it")?;
    pool.says("start it", "it")?;
    pool.says("restart -t 0 it", "it")?;
    state("running")?;
    // It hears the signal once it is ready for it.
    integration::wait::until_true("the signal to be heard", SOON, || {
        pool.run("kill -s USR1 it")?;
        Ok(pool.ok("ps -q")?.is_empty())
    })?;
    pool.says("wait it", "3")?;
    pool.refuses("kill it", "is not running")?;
    pool.ok("start it")?;
    pool.refuses("rm it", "container is running")?;
    pool.says("rm -f it", "it")?;
    pool.says("ps -aq", "")?;
    pool.refuses("rm it", "No such container: it")
}

fn wait(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=early busybox sh -c 'read line; exit 5'")?;
    pool.says("wait early", "5")?;
    pool.ok("run -di --name=late busybox sh -c 'read line; exit 5'")?;
    let waiting = pool.on_terminal("wait late")?;
    pool.run_with("attach late", b"go\n")?;
    let waited = waiting.finish(SOON)?;
    ensure!(waited.stdout.trim() == "5", "wait said {:?}", waited.stdout);
    pool.says("wait late", "5")?;
    // Who was told of the end does not find it running; on a busy machine an engine itself is late now and then.
    let mut late = 0;
    for _ in 0..5 {
        let id = pool.ok("run -d busybox sleep 0.3")?;
        let waited = pool.ask("POST", &format!("/containers/{id}/wait"), b"")?;
        ensure!(waited.status == 200, "{waited:?}");
        let running = pool.ask("GET", "/containers/json", b"")?.json()?;
        late += usize::from(running != serde_json::json!([]));
    }
    ensure!(late <= 2, "{late} of 5 were still listed as running");
    Ok(())
}

fn rename_and_update(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=old busybox sleep 600")?;
    pool.ok("run -d --name=other busybox sleep 600")?;
    pool.ok("rename old new")?;
    pool.says("ps --filter name=new --format {{.Names}}", "new")?;
    pool.refuses(
        "inspect -f {{.Id}} --type container old",
        "No such container: old",
    )?;
    let holder = pool.ok("inspect -f {{.Id}} other")?;
    let refusal = pool.refusal("rename new other")?;
    contains(
        &refusal,
        &format!("is already in use by container \"{holder}\""),
    )?;
    pool.says("inspect -f {{.Name}} new", "/new")?;
    // The old name is free.
    pool.ok("run -d --name=old busybox true")?;
    pool.says(
        "update -m 64m --memory-swap 64m --restart=always new",
        "new",
    )?;
    let limits = "inspect -f '{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}' new";
    pool.says(limits, &format!("{} always", 64 << 20))
}

fn links(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=server busybox sleep 600")?;
    unlink(&pool)?;
    linked(lab, &pool)
}

fn unlink(pool: &Pool) -> Result<()> {
    pool.ok("run -d --name=client --link server:alias busybox sleep 600")?;
    for nothing in ["client/nosuch", "nosuch/alias", "alias"] {
        pool.refuses(
            &format!("rm --link {nothing}"),
            &format!("No such container: {nothing}"),
        )?;
    }
    pool.refuses(
        "rm --link client",
        "cannot remove the default link name of the container",
    )?;
    pool.ok("rm --link client/alias")?;
    pool.says("inspect -f {{.HostConfig.Links}} client", "[]")?;
    pool.says("ps --format {{.Names}} --filter name=server", "server")?;
    pool.refuses("rm --link client/alias", "No such container: client/alias")?;
    pool.ok("rm -f client").map(drop)
}

/// What links call a container goes by those that link it, of which alone engines tell.
fn linked(lab: &Lab, pool: &Pool) -> Result<()> {
    pool.ok("run -d --name=client --link server:alias busybox sleep 600")?;
    let names = "ps --no-trunc --filter name=server --format {{.Names}}";
    pool.says(names, "client/alias,server")?;
    let node = pool.node_of("server")?;
    for link in ["client/alias", &format!("{node}/client/alias")] {
        pool.says(
            &format!("container inspect -f {{{{.Name}}}} {link}"),
            "/server",
        )?;
    }
    pool.ok("rename client user")?;
    pool.says(names, "server,user/alias")?;
    pool.says("container inspect -f {{.Name}} user/alias", "/server")?;
    pool.ok("rm -f user")?;
    pool.says(names, "server")?;
    pool.refuses(
        "container inspect user/alias",
        "No such container: user/alias",
    )?;
    let host = lab.hosts().iter().find(|host| host.name() == node);
    let host = host.context("no such host")?;
    for (change, shown) in [
        (
            "run -d --name=theirs --link server:db busybox sleep 600",
            "server,theirs/db",
        ),
        ("rename theirs other", "other/db,server"),
        ("rm -f other", "server"),
    ] {
        host.docker(&change.split(' ').collect::<Vec<_>>())?;
        pool.comes_to_say(names, shown, SOON)?;
    }
    Ok(())
}

fn insides(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=it -p 8080:80 busybox sh -c 'echo hi >/new; exec httpd -f'")?;
    contains(&pool.ok("top it")?, "httpd")?;
    pool.comes_to_say("diff it", "A /new", SOON)?;
    let node = pool.node_of("it")?;
    let host = lab.hosts().iter().find(|host| host.name() == node);
    let address = host.context("no such host")?.address();
    // The address is the node's: a client is elsewhere.
    contains(&pool.ok("port it")?, &format!("80/tcp -> {address}:8080"))?;
    contains(&pool.ok("ps")?, &format!("{address}:8080->80/tcp"))?;
    let stats = pool.ok("stats --no-stream --format '{{.Name}} {{.PIDs}}'")?;
    contains(&stats, "it ")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("it.tar");
    pool.ok(&format!("export -o {} it", file.display()))?;
    let listed = std::process::Command::new("tar")
        .arg("-tf")
        .arg(&file)
        .output()?;
    contains(&String::from_utf8_lossy(&listed.stdout), "\nnew\n")
}

fn commit(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run --name=it busybox sh -c 'echo kept >/kept'")?;
    let image = pool.ok("commit -m 'with a file' -c 'ENV A=b' it made:1")?;
    ensure!(image.starts_with("sha256:"), "{image}");
    pool.says("images -q --no-trunc made", &image)?;
    pool.says("run --rm made:1 sh -c 'cat /kept; echo $A'", "kept\nb")?;
    // Our own labels must not travel on in the image.
    pool.says("ps -aq --filter ancestor=made:1", "")?;
    pool.ok("run --name=twin made:1 true")?;
    pool.says("ps -a --filter ancestor=made:1 --format {{.Names}}", "twin")?;
    pool.ok("rm it twin")?;
    pool.ok("rmi made:1").map(drop)
}

fn copy(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    let folder = tempfile::tempdir()?;
    let (there, back) = (folder.path().join("there"), folder.path().join("back"));
    std::fs::create_dir_all(there.join("deep"))?;
    let bytes = crate::noise(3 << 20);
    std::fs::write(there.join("big"), &bytes)?;
    std::fs::write(there.join("deep/small"), "small")?;
    pool.ok(&format!("cp {} it:/tmp/", there.display()))?;
    pool.says(
        "exec it wc -c /tmp/there/big",
        &format!("{} /tmp/there/big", bytes.len()),
    )?;
    pool.ok(&format!("cp it:/tmp/there {}", back.display()))?;
    ensure!(
        std::fs::read(back.join("big"))? == bytes,
        "the file changed"
    );
    ensure!(std::fs::read(back.join("deep/small"))? == b"small");
    let one = folder.path().join("one");
    pool.ok(&format!("cp it:/tmp/there/deep/small {}", one.display()))?;
    ensure!(std::fs::read(one)? == b"small");
    // From a pipe, to a pipe, and of a container that never ran.
    let archive = pool
        .docker()
        .run(&["cp", "it:/tmp/there/deep/small", "-"])?;
    contains(&archive.ok()?, "small")?;
    pool.ok("create --name=still busybox true")?;
    pool.ok(&format!("cp {} still:/", back.display()))?;
    pool.refuses(
        "cp it:/nosuch -",
        "Could not find the file /nosuch in container it",
    )?;
    pool.refuses("cp nosuch:/etc/passwd -", "No such container: nosuch")
}

fn logs(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -di --name=it busybox sh -c 'echo one; echo two >&2; read line; echo $line'")?;
    let follower = pool.on_terminal("logs -f it")?;
    follower.expect("two", SOON)?;
    pool.run_with("attach it", b"three\n")?;
    let followed = follower.finish(SOON)?;
    ensure!(followed.code == 0, "{followed:?}");
    contains(&followed.stdout, "three")?;
    let whole = pool.run("logs it")?;
    ensure!(
        (whole.stdout.as_str(), whole.stderr.as_str()) == ("one\nthree\n", "two\n"),
        "{whole:?}"
    );
    pool.says("logs --tail 1 it", "three")?;
    pool.says("logs -f it", "one\nthree")?;
    let dated = pool.ok("logs -t --tail 1 it")?;
    ensure!(dated.contains('T') && dated.ends_with(" three"), "{dated}");
    pool.says("logs --since 2100-01-01 it", "")
}

fn events(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let format = "--format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}.'";
    let live = pool.on_terminal(&format!("events {format}"))?;
    let picky = pool.on_terminal(&format!(
        "events {format} --filter container=second --filter event=die"
    ))?;
    // A stream that is open shows what happens; that it is open shows when something does.
    let mut turn = 0;
    integration::wait::until_true("both streams to be open", SOON, || {
        turn += 1;
        pool.ok("run --rm --name=second busybox true")?;
        Ok(live.screen().contains("container die second.")
            && picky.screen().contains("die second."))
    })?;
    let before = now();
    pool.ok("run -d --name=first busybox sleep 600")?;
    pool.ok("run -d --name=third busybox sleep 600")?;
    pool.ok("rm -f first third")?;
    for action in ["create", "start", "die", "destroy"] {
        live.expect(&format!("container {action} first."), SOON)?;
        live.expect(&format!("container {action} third."), SOON)?;
    }
    ensure!(!picky.screen().contains("first"), "{}", picky.screen());
    drop((live, picky));
    // The past, from all nodes, in order.
    let past = pool.ok(&format!("events --since {before} --until {} {format} --filter type=container --filter event=start --filter event=destroy", now()))?;
    let past: Vec<&str> = past.lines().collect();
    ensure!(past.len() == 4, "{past:?}");
    ensure!(
        past[..2] == ["container start first.", "container start third."],
        "{past:?}"
    );
    ensure!(past[2..].contains(&"container destroy first."), "{past:?}");
    pool.says(
        &format!(
            "events --since {before} --until {} --filter container=nosuch",
            now()
        ),
        "",
    )?;
    let node = "--filter event=destroy --format '{{index .Actor.Attributes \"node.name\"}}'";
    let nodes = pool.ok(&format!("events --since 1h --until {} {node}", now()))?;
    ensure!(
        nodes.lines().count() > 0 && nodes.lines().all(|node| node.starts_with("host")),
        "{nodes}"
    );
    pool.refuses("events --since 1s --until 1h", "`since` time")
        .map(drop)
}

fn status_ages(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=up busybox sleep 600")?;
    pool.ends_with("run --name=over busybox sh -c 'exit 4'", 4)?;
    let up = "ps --filter name=up --format {{.Status}}";
    pool.comes_to_say(up, "Up 2 seconds", Duration::from_secs(4))?;
    pool.comes_to_say(up, "Up 4 seconds", Duration::from_secs(4))?;
    let over = pool.ok("ps -a --filter name=over --format {{.Status}}")?;
    ensure!(
        over.starts_with("Exited (4) ") && over.ends_with(" seconds ago"),
        "{over}"
    );
    // It is what the engine says of it in the same second.
    let node = pool.node_of("up")?;
    let host = lab.hosts().iter().find(|host| host.name() == node);
    let host = host.context("no such host")?;
    integration::wait::until_true("the same status", SOON, || {
        let ours = pool.ok(up)?;
        Ok(ours == host.docker(&["ps", "--filter=name=up", "--format={{.Status}}"])?)
    })
}
