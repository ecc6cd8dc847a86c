//! Nodes that come, go and change while the manager runs, and what outlives it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::harness::{Case, case};
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::wait;
use serde_json::Value;

use crate::{SOON, contains};

/// How long a loss may go unnoticed: the time-out, a probe's period, and a busy machine.
const NOTICED: Duration = Duration::from_secs(6);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("nodes_are_added_listed_changed_and_removed", by_command),
        case("nodes_are_served_as_json", by_api),
        case("what_is_asked_wrongly_is_said", asked_wrongly),
        case("paused_and_drained_nodes_take_no_new_work", paused),
        case("constraints_choose_the_node", constraints),
        case(
            "a_bad_constraint_is_refused_with_what_is_right",
            bad_constraints,
        ),
        case(
            "a_removed_node_keeps_its_containers",
            removed_with_containers,
        ),
        case(
            "a_removed_node_stays_out_until_it_is_added",
            removed_for_good,
        ),
        case(
            "a_name_given_away_meanwhile_is_not_taken_back",
            name_given_away,
        ),
        case("labels_and_availability_outlive_the_manager", restarted),
        case(
            "a_node_that_is_down_at_the_start_is_known",
            down_at_the_start,
        ),
        case("an_engine_that_has_not_joined_is_listed", not_joined),
    ]
}

/// A pool of the first hosts of a lab.
fn pool_of(lab: &Lab, hosts: usize) -> Result<Pool> {
    Pool::of(&lab.endpoints()[..hosts], &[])
}

fn node(pool: &Pool, name: &str) -> Result<Value> {
    let path = format!("/flotilla/v1/nodes/{name}");
    pool.ask("GET", &path, b"")?.json()
}

fn state(pool: &Pool, name: &str) -> Result<String> {
    let state = node(pool, name)?["Status"]["State"].clone();
    Ok(state.as_str().unwrap_or_default().to_owned())
}

/// The line of a table that has this in it, with one blank between its words.
fn line_of(table: &str, what: &str) -> Result<String> {
    let line = table.lines().find(|line| line.contains(what));
    let line = line.with_context(|| format!("{what} is not in\n{table}"))?;
    Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn by_command(lab: &Lab) -> Result<()> {
    let pool = pool_of(lab, 2)?;
    let third = lab.host(2);
    let endpoint = third.tcp();
    let table = pool.flotilla("node ls")?.ok()?;
    ensure!(table.lines().count() == 3, "{table}");
    contains(&line_of(&table, "NAME")?, "STATUS")?;
    contains(&line_of(&table, &lab.host(0).tcp())?, "host1 Ready active")?;
    let added = pool.flotilla(&format!(
        "node add {endpoint} --name third --label zone=b --label rack=7"
    ))?;
    ensure!(added.ok()? == "third");
    // It takes work at once.
    pool.ok(
        "run -d --name=on-third -e constraint:node==third -m 64m --cpus 0.5 busybox sleep 600",
    )?;
    ensure!(pool.node_of("on-third")? == "third");
    let table = pool.flotilla("node ls")?.ok()?;
    let line = line_of(&table, &endpoint)?;
    contains(&line, "third Ready active")?;
    contains(&line, "1 (1 running) 0.5 / ")?;
    contains(&line, "64MiB / ")?;
    contains(&line, "rack=7,zone=b")?;
    let updated =
        pool.flotilla("node update third --label-add zone=c --label-rm rack --address 192.0.2.7")?;
    ensure!(updated.ok()? == "third");
    let shown: Value = serde_json::from_str(&pool.flotilla("node inspect third")?.ok()?)?;
    ensure!(
        shown[0]["Spec"]["Labels"] == serde_json::json!({"zone": "c"}),
        "{shown}"
    );
    ensure!(shown[0]["Status"]["Addr"] == "192.0.2.7", "{shown}");
    ensure!(
        shown[0]["Description"]["Hostname"] == third.name(),
        "{shown}"
    );
    // The address is that of published ports, at once.
    pool.ok("run -d --name=web -e constraint:node==third -p 8088:80 busybox sleep 600")?;
    pool.says(
        "ps --filter name=web --format {{.Ports}}",
        "192.0.2.7:8088->80/tcp",
    )?;
    let names = pool
        .flotilla("node ls -q --filter status=ready --filter label=zone=c")?
        .ok()?;
    ensure!(names == "third", "{names}");
    let json = pool.flotilla("node ls --format json")?.ok()?;
    ensure!(json.lines().count() == 3, "{json}");
    for line in json.lines() {
        let one: Value = serde_json::from_str(line)?;
        ensure!(one["Counted"] == true, "{one}");
    }
    pool.ok("rm -f on-third web")?;
    let removed = pool.flotilla("node rm third nosuch")?;
    ensure!(
        removed.code == 1 && removed.stdout == "third\n",
        "{removed:?}"
    );
    contains(&removed.stderr, "No such node: nosuch")?;
    ensure!(pool.flotilla("node ls -q")?.ok()? == "host1\nhost2");
    let cpus = pool.ok("info --format {{.NCPU}}")?;
    let two: u64 = json.lines().take(2).map(cpus_of).sum::<Result<u64>>()?;
    ensure!(cpus == two.to_string(), "{cpus} CPUs are left, not {two}");
    Ok(())
}

fn cpus_of(line: &str) -> Result<u64> {
    let node: Value = serde_json::from_str(line)?;
    let nanos = node["Description"]["Resources"]["NanoCPUs"].as_u64();
    Ok(nanos.context("no CPUs")? / 1_000_000_000)
}

fn by_api(lab: &Lab) -> Result<()> {
    let pool = pool_of(lab, 2)?;
    let endpoint = lab.host(2).tcp();
    let body = format!(r#"{{"Endpoint":"{endpoint}","Labels":{{"zone":"b"}}}}"#);
    let added = pool.ask("POST", "/flotilla/v1/nodes", body.as_bytes())?;
    ensure!(added.status == 201, "{added:?}");
    let added = added.json()?;
    ensure!(
        added["Spec"]["Name"] == "host3" && added["Status"]["State"] == "ready",
        "{added}"
    );
    let id = added["ID"].as_str().context("no id")?;
    let body = br#"{"AddLabels":{"disk":"ssd"},"Availability":"pause"}"#;
    let updated = pool.ask("POST", &format!("/flotilla/v1/nodes/{id}/update"), body)?;
    ensure!(updated.status == 200, "{updated:?}");
    let list = pool.ask("GET", "/flotilla/v1/nodes", b"")?;
    ensure!(list.header("api-version").is_some(), "{list:?}");
    let list = list.json()?;
    ensure!(
        list.as_array().is_some_and(|list| list.len() == 3),
        "{list}"
    );
    let last = &list[2];
    ensure!(last["ID"] == id && last["LastSeen"].is_string(), "{last}");
    ensure!(
        last["Spec"]["Availability"] == "pause" && last["Spec"]["Labels"]["zone"] == "b",
        "{last}"
    );
    ensure!(last["Spec"]["Labels"]["disk"] == "ssd", "{last}");
    let removed = pool.ask("DELETE", &format!("/flotilla/v1/nodes/{id}"), b"")?;
    ensure!(removed.status == 204, "{removed:?}");
    let again = pool.ask("DELETE", &format!("/flotilla/v1/nodes/{id}"), b"")?;
    ensure!(again.status == 404, "{again:?}");
    Ok(())
}

fn asked_wrongly(lab: &Lab) -> Result<()> {
    let pool = pool_of(lab, 2)?;
    let free = lab.host(2).tcp();
    let taken = lab.host(0).tcp();
    let ask = |method: &str, path: &str, body: &str, status: u16, said: &str| -> Result<()> {
        let path = format!("/flotilla/v1/{path}");
        let answer = pool.ask(method, &path, body.as_bytes())?;
        ensure!(
            answer.status == status,
            "{method} {path} {body}: {answer:?}"
        );
        contains(&answer.message()?, said)
    };
    ask("GET", "nodes/nosuch", "", 404, "No such node: nosuch")?;
    ask("GET", "nosuch", "", 404, "page not found")?;
    ask("POST", "nodes", "", 400, "invalid JSON: EOF")?;
    ask("POST", "nodes", "{}", 400, "missing field `Endpoint`")?;
    ask(
        "POST",
        "nodes",
        r#"{"Endpont":"x"}"#,
        400,
        "unknown field `Endpont`, expected one of `Endpoint`",
    )?;
    ask(
        "POST",
        "nodes",
        r#"{"Endpoint":"host3"}"#,
        400,
        "it must begin with unix://, tcp:// or ssh://",
    )?;
    let add = |more: &str| format!(r#"{{"Endpoint":"{free}"{more}}}"#);
    ask(
        "POST",
        "nodes",
        &add(r#","Name":"a/b""#),
        400,
        "`a/b` is not a node name",
    )?;
    ask(
        "POST",
        "nodes",
        &add(r#","Address":"host3""#),
        400,
        "`host3` is not an IP address",
    )?;
    ask(
        "POST",
        "nodes",
        &add(r#","Labels":{"a b":"c"}"#),
        400,
        "`a b` is not a label",
    )?;
    ask(
        "POST",
        "nodes",
        &add(r#","Name":"host1""#),
        409,
        "another node is called host1",
    )?;
    ask(
        "POST",
        "nodes",
        &format!(r#"{{"Endpoint":"{taken}"}}"#),
        409,
        "it is node host1 already",
    )?;
    let itself = format!(r#"{{"Endpoint":"{}"}}"#, pool.manager.unix());
    ask("POST", "nodes", &itself, 409, "it is this cluster itself")?;
    let nobody = r#"{"Endpoint":"tcp://127.0.0.1:1"}"#;
    ask(
        "POST",
        "nodes",
        nobody,
        503,
        "the engine at tcp://127.0.0.1:1 cannot be reached: connection refused by 127.0.0.1:1: is the engine running",
    )?;
    let update = "nodes/host1/update";
    ask(
        "POST",
        update,
        r#"{"AddLables":{}}"#,
        400,
        "unknown field `AddLables`",
    )?;
    ask(
        "POST",
        update,
        r#"{"Availability":"off"}"#,
        400,
        "unknown variant `off`, expected one of `active`, `pause`, `drain`",
    )?;
    ask(
        "POST",
        update,
        r#"{"AddLabels":{"":"x"}}"#,
        400,
        "`` is not a label",
    )?;
    ask(
        "POST",
        update,
        r#"{"RemoveLabels":["x"]}"#,
        409,
        "node host1 has no label x",
    )?;
    ask(
        "POST",
        update,
        r#"{"AddLabels":{"x":""},"RemoveLabels":["x"]}"#,
        400,
        "label x is both",
    )?;
    ask(
        "POST",
        "nodes/nosuch/update",
        "{}",
        404,
        "No such node: nosuch",
    )?;
    // A second way to an engine of the pool is none.
    let other_way = format!(r#"{{"Endpoint":"{}"}}"#, lab.host(0).unix());
    ask(
        "POST",
        "nodes",
        &other_way,
        409,
        "its engine id is that of node host1",
    )?;
    ensure!(
        pool.flotilla("node ls -q")?.ok()? == "host1\nhost2",
        "something changed"
    );
    // Who is no manager is told from one that refuses.
    let refused = pool.flotilla(&format!("node ls -H {taken}"))?;
    contains(&refused.refusal()?, "is no Flotilla manager")?;
    let refused = pool.flotilla("node ls -H tcp://127.0.0.1:1")?;
    contains(
        &refused.refusal()?,
        "no manager answers at tcp://127.0.0.1:1: Connection refused",
    )
}

fn paused(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=stays -e constraint:node==host1 busybox sleep 600")?;
    pool.flotilla("node update host1 --availability pause")?
        .ok()?;
    pool.flotilla("node update host2 --availability drain")?
        .ok()?;
    for _ in 0..3 {
        let name = pool.ok("run -d busybox sleep 600")?;
        ensure!(pool.node_of(&name)? == "host3");
    }
    let refusal = pool.refusal("run -d -e constraint:node!=host3 busybox true")?;
    contains(
        &refusal,
        "host1 is paused; host2 is drained; host3 excluded by constraint node!=host3",
    )?;
    contains(
        &pool.ok("info")?,
        "└ Status: Ready (paused: it takes no new containers)",
    )?;
    // What is there stays, and can be stopped and started.
    pool.says("exec stays echo hi", "hi")?;
    pool.ok("stop -t 0 stays")?;
    pool.ok("start stays")?;
    pool.flotilla("node update host1 --availability active")?
        .ok()?;
    pool.ok("run -d -e constraint:node==host1 busybox sleep 600")
        .map(drop)
}

fn constraints(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for (name, zone) in [("host1", "a"), ("host2", "b"), ("host3", "b")] {
        let line = format!("node update {name} --label-add zone={zone} --label-add own={name}");
        pool.flotilla(&line)?.ok()?;
    }
    let lands = |flags: &str, wanted: &[&str]| -> Result<()> {
        for _ in 0..2 {
            let id = pool.ok(&format!("run -d {flags} busybox sleep 600"))?;
            let node = pool.node_of(&id)?;
            ensure!(wanted.contains(&node.as_str()), "{flags}: it is on {node}");
        }
        Ok(())
    };
    lands("-e constraint:zone==a", &["host1"])?;
    lands("-e constraint:zone==b", &["host2", "host3"])?;
    lands("-e constraint:zone!=b", &["host1"])?;
    lands(
        "-e constraint:zone==b -e constraint:node!=host2",
        &["host3"],
    )?;
    lands(
        "-e constraint:node==/host[12]/ -e constraint:own==*2",
        &["host2"],
    )?;
    lands(
        "-e constraint:zone==~c -e constraint:node==~host3",
        &["host3"],
    )?;
    lands(
        "-e constraint:storagedriver==overlay2 -e constraint:node.hostname==HOST2",
        &["host2"],
    )?;
    lands(
        r#"--label 'com.docker.swarm.constraints=["node.labels.zone == a","node.platform.arch!=mips"]'"#,
        &["host1"],
    )?;
    let address = lab.host(2).address();
    lands(&format!("-e constraint:node.ip=={address}/32"), &["host3"])?;
    // What was asked stays visible, and the container's environment is its own.
    pool.ok("run -d --name=seen -e constraint:zone==a -e A=b busybox sleep 600")?;
    let seen = pool.inspect("seen")?;
    let env = &seen["Config"]["Env"];
    ensure!(
        env[0] == "A=b" && !env.to_string().contains("constraint"),
        "{env}"
    );
    ensure!(
        seen["Config"]["Labels"]["com.docker.swarm.constraints"] == r#"["zone==a"]"#,
        "{seen}"
    );
    ensure!(seen["Node"]["Labels"]["zone"] == "a", "{seen}");
    let refusal = pool.refusal("run -d -e constraint:zone==c busybox true")?;
    contains(
        &refusal,
        "no node fits: host1, host2, host3 excluded by constraint zone==c (zone is a, b, b)",
    )?;
    let refusal = pool.refusal("run -d -e constraint:disk==ssd busybox true")?;
    contains(
        &refusal,
        "host1, host2, host3 excluded by constraint disk==ssd (disk is unset)",
    )?;
    // A published port parts containers within what constraints leave.
    for wanted in [["host2", "host3"], ["host2", "host3"]] {
        let id = pool.ok("run -d -p 8089:80 -e constraint:zone==b busybox sleep 600")?;
        let node = pool.node_of(&id)?;
        ensure!(wanted.contains(&node.as_str()));
    }
    pool.refuses(
        "run -d -p 8089:80 -e constraint:zone==b busybox sleep 600",
        "port is already allocated",
    )
}

fn bad_constraints(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for (flags, said) in [
        (
            "-e constraint:zone=b",
            r#"invalid constraint "zone=b": it has neither == nor !=, as in zone==b"#,
        ),
        ("-e constraint:zone==", "a value must follow the operator"),
        (
            "-e constraint:node.lables.zone==b",
            "node.lables.zone is none of node.id",
        ),
        ("-e constraint:node==/host[/", "is no regular expression"),
        (
            "--label com.docker.swarm.constraints=zone==b",
            "must be a JSON array of texts",
        ),
    ] {
        pool.refuses(&format!("create {flags} busybox true"), said)?;
    }
    let answer = pool.ask(
        "POST",
        "/containers/create",
        br#"{"Image":"busybox","Env":["constraint:zone"]}"#,
    )?;
    ensure!(answer.status == 400, "{answer:?}");
    pool.refuses(
        "create -e affinity:container==x busybox true",
        "excluded by affinity container==x",
    )
}

/// One container on each of these nodes, named after it.
fn one_on_each(pool: &Pool, nodes: &[&str]) -> Result<()> {
    for node in nodes {
        pool.ok(&format!(
            "run -d --name=on-{node} -m 64m -e constraint:node=={node} busybox sleep 600"
        ))?;
    }
    Ok(())
}

fn engine_has(host: &Host, name: &str) -> Result<bool> {
    let filter = format!("name=^{name}$");
    let running = host.docker(&["ps", "--filter", &filter, "--format", "{{.Names}}"])?;
    Ok(running.trim() == name)
}

fn removed_with_containers(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    one_on_each(&pool, &["host2", "host3"])?;
    let refused = pool.flotilla("node rm host3")?;
    ensure!(refused.code == 1, "{refused:?}");
    contains(
        &refused.refusal()?,
        "node host3 has 1 container of the cluster: remove it, or force it",
    )?;
    let following = pool.on_terminal("logs -f on-host3")?;
    pool.flotilla("node rm --force host3")?.ok()?;
    following
        .finish(SOON)
        .context("`docker logs -f` on a node that left")?;
    ensure!(pool.flotilla("node ls -q")?.ok()? == "host1\nhost2");
    // Its container runs on, and is nothing of the cluster's.
    ensure!(engine_has(lab.host(2), "on-host3")?, "it was stopped");
    pool.says("ps -a --filter name=on-host3 -q", "")?;
    pool.refuses("inspect on-host3", "o such object: on-host3")?;
    let info = pool.ok("info")?;
    ensure!(!info.contains("host3"), "{info}");
    // The name is free.
    pool.ok("run -d --name=on-host3 busybox sleep 600")?;
    ensure!(pool.node_of("on-host3")? != "host3");
    pool.says("exec on-host2 echo hi", "hi")
}

fn removed_for_good(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    one_on_each(&pool, &["host1", "host3"])?;
    let id = pool.ok("inspect -f {{.Id}} on-host3")?;
    pool.flotilla("node rm --force host3")?.ok()?;
    pool.manager.stop()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(2)?;
    ensure!(pool.flotilla("node ls -q")?.ok()? == "host1\nhost2");
    let endpoint = lab.host(2).tcp();
    contains(
        &pool.manager.log(),
        &format!(
            "engine {endpoint} stays out: it was removed as node host3. `flotilla node add {endpoint}` brings it back"
        ),
    )?;
    ensure!(engine_has(lab.host(2), "on-host3")?, "it was stopped");
    ensure!(pool.flotilla(&format!("node add {endpoint}"))?.ok()? == "host3");
    pool.says(
        "ps -a --no-trunc --filter name=on-host3 --format {{.ID}}",
        &id,
    )?;
    ensure!(pool.node_of("on-host3")? == "host3");
    // It is the cluster's again: its name is taken, and what it claims is counted.
    pool.refuses(
        "create --name=on-host3 busybox true",
        "is already in use by container",
    )?;
    ensure!(node(&pool, "host3")?["Reserved"]["MemoryBytes"] == 64 << 20);
    let refused = pool.flotilla("node rm host3")?;
    contains(
        &refused.refusal()?,
        "node host3 has 1 container of the cluster",
    )?;
    pool.ok("rm -f on-host3")?;
    pool.manager.stop()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)
}

fn name_given_away(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    one_on_each(&pool, &["host3"])?;
    let old = pool.ok("inspect -f {{.Id}} on-host3")?;
    pool.flotilla("node rm --force host3")?.ok()?;
    let new = pool.ok("run -d --name=on-host3 -e constraint:node==host1 busybox sleep 600")?;
    let endpoint = lab.host(2).tcp();
    pool.flotilla(&format!("node add {endpoint}"))?.ok()?;
    pool.refuses("container inspect on-host3", "exists on host1 and host3")?;
    pool.says("inspect -f {{.Id}} host1/on-host3", &new)?;
    pool.says("inspect -f {{.Id}} host3/on-host3", &old)?;
    // Whosever it is, what it uses is used.
    wait::until_true("what it claims to be counted", SOON, || {
        Ok(node(&pool, "host3")?["Reserved"]["MemoryBytes"] == 64 << 20)
    })?;
    // And nothing of it keeps the node from leaving.
    pool.flotilla("node rm host3")?.ok()?;
    ensure!(engine_has(lab.host(2), "on-host3")?, "it was stopped");
    Ok(())
}

fn restarted(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    pool.flotilla("node update host1 --label-add zone=a --availability drain")?
        .ok()?;
    pool.flotilla("node update host2 --label-add zone=b --label-add disk=ssd --address 192.0.2.9")?
        .ok()?;
    pool.flotilla("node update host2 --label-rm disk")?.ok()?;
    let before = node(&pool, "host2")?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    let after = node(&pool, "host2")?;
    for field in ["ID", "Spec", "Endpoint", "Description"] {
        ensure!(
            before[field] == after[field],
            "{field} was {}, is {}",
            before[field],
            after[field]
        );
    }
    ensure!(after["Status"]["Addr"] == "192.0.2.9", "{after}");
    ensure!(node(&pool, "host1")?["Spec"]["Availability"] == "drain");
    let id = pool.ok("run -d -e constraint:zone==b busybox sleep 600")?;
    ensure!(pool.node_of(&id)? == "host2");
    pool.refuses(
        "run -d -e constraint:zone==a busybox true",
        "host1 is drained",
    )
}

fn down_at_the_start(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    one_on_each(&pool, &["host2", "host3"])?;
    let id = pool.ok("inspect -f {{.Id}} on-host3")?;
    pool.manager.kill()?;
    lab.host(2).stop_engine()?;
    pool.manager.start_again()?;
    wait::until_true("the others to be ready", SOON, || {
        Ok(state(&pool, "host1")? == "ready" && state(&pool, "host2")? == "ready")
    })?;
    let shown = node(&pool, "host3")?;
    ensure!(shown["Status"]["State"] == "down", "{shown}");
    ensure!(
        shown["Containers"] == 1 && shown["Reserved"]["MemoryBytes"] == 64 << 20,
        "{shown}"
    );
    let table = pool.flotilla("node ls")?.ok()?;
    let line = line_of(&table, "host3")?;
    contains(&line, " ago: ")?;
    contains(&line, "Down ")?;
    // What was promised there is promised still, and shown as far as it is known.
    pool.says(
        "ps -a --no-trunc --filter name=on-host3 --format '{{.ID}} {{.Label \"com.flotilla.node\"}}'",
        &format!("{id} host3"),
    )?;
    pool.refuses(
        "create --name=on-host3 busybox true",
        &format!("is already in use by container \"{id}\""),
    )?;
    pool.refuses("container inspect on-host3", "node host3 is not reachable")?;
    pool.refuses("rm on-host3", "node host3 is not reachable")?;
    pool.ok("rm -f on-host3")?;
    let next = pool.ok("run -d --name=on-host3 busybox sleep 600")?;
    lab.host(2).start_engine()?;
    pool.wait_until_ready(3)?;
    wait::until_true("the removal", SOON, || {
        Ok(!lab
            .host(2)
            .docker(&["ps", "-aq", "--no-trunc"])?
            .contains(&id))
    })?;
    pool.says(
        "ps -a --no-trunc --filter name=on-host3 --format {{.ID}}",
        &next,
    )?;
    pool.says(
        "ps -a --filter name=on-host2 --format {{.State}}",
        "running",
    )
}

fn not_joined(lab: &Lab) -> Result<()> {
    let late = lab.host(2);
    late.stop_engine()?;
    let pool = Pool::begun(&lab.endpoints(), &[])?;
    wait::until_true("the others to be ready", NOTICED, || {
        Ok(state(&pool, "host1")? == "ready" && state(&pool, "host2")? == "ready")
    })?;
    let table = pool.flotilla("node ls")?.ok()?;
    contains(
        &line_of(&table, &late.tcp())?,
        "Joining: connection refused by ",
    )?;
    let list = pool.ask("GET", "/flotilla/v1/nodes", b"")?.json()?;
    ensure!(
        list[2]["Status"]["State"] == "joining" && list[2]["ID"].is_null(),
        "{list}"
    );
    let refused = pool.flotilla(&format!("node rm {}", late.tcp()))?;
    contains(
        &refused.refusal()?,
        "is no node yet (connection refused by ",
    )?;
    let refused = pool.flotilla(&format!("node add {}", late.tcp()))?;
    contains(
        &refused.refusal()?,
        "cannot be reached: connection refused by",
    )?;
    late.start_engine()?;
    pool.wait_until_ready(3)?;
    ensure!(pool.flotilla("node ls -q")?.ok()? == "host1\nhost2\nhost3");
    Ok(())
}
