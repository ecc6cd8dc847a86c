//! How a node is chosen among those that fit, what users wish for, and what they are told of it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use integration::harness::{self, Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

use crate::contains;

/// So many containers end one after the other; `ENDS` makes it more.
const ENDS: u64 = 16;
/// So many clients create containers at once.
const CLIENTS: usize = 16;
/// So many containers; `CREATES` makes it more.
const CREATES: u64 = 96;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_pool_packs_if_it_is_told_to", strategies),
        case("containers_join_and_part_as_their_users_wish", affinities),
        case("replicas_that_part_do_so_at_once_too", parting_at_once),
        case("a_wish_that_cannot_be_read_is_refused", bad_wishes),
        case("a_label_without_effect_is_not_swallowed", in_vain),
        case("a_node_takes_no_more_than_its_slots", slots),
        case("a_decision_is_explained_and_planned", explained),
        case("planned_creates_go_where_real_ones_would", planned),
        case("what_a_lost_node_runs_is_told_apart", lost),
        case("what_a_create_said_outlives_a_manager", lost_unseen),
        case("a_decision_is_told_of_its_own_container", told_apart),
        case("what_is_kept_for_the_system_is_not_promised", reserved),
        case("more_may_be_promised_but_not_to_one", beyond_the_machine),
        case("a_pool_can_lose_a_node_if_it_is_told_to", survivable),
        case("many_creates_at_once_never_overbook", never_overbooked),
        case("there_is_room_as_soon_as_one_has_ended", one_by_one),
    ]
}

fn strategies(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--strategy", "binpack"])?;
    let mut nodes = BTreeSet::new();
    for name in ["a1", "a2", "a3", "a4"] {
        pool.ok(&format!("run -d --name={name} -m 16m busybox sleep 600"))?;
        nodes.insert(pool.node_of(name)?);
    }
    ensure!(nodes.len() == 1, "packed onto {nodes:?}");
    contains(&pool.ok("info")?, " Strategy: binpack\n")?;
    pool.ok("run -d --name=b1 -l com.flotilla.strategy=spread busybox sleep 600")?;
    ensure!(!nodes.contains(&pool.node_of("b1")?), "it was packed too");
    pool.ok("run -d --name=c1 -l com.flotilla.strategy=random busybox sleep 600")?;
    pool.refuses(
        "run -d -l com.flotilla.strategy=most busybox true",
        "label com.flotilla.strategy: `most` is no strategy: it is spread, binpack or random",
    )
}

fn affinities(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=db -l tier=back busybox sleep 600")?;
    let home = pool.node_of("db")?;
    let id = pool.ok("inspect -f {{.Id}} db")?;
    let same = |wish: &str, expected: bool| {
        pool.ok(&format!("run -d --name=it {wish} busybox sleep 600"))?;
        let node = pool.node_of("it")?;
        pool.ok("rm -f it")?;
        ensure!(
            (node == home) == expected,
            "{wish}: it is on {node}, db on {home}"
        );
        Ok(())
    };
    same("-e affinity:container==db", true)?;
    same(&format!("-e affinity:container=={id}"), true)?;
    same("-e affinity:container==/^d.$/", true)?;
    same("-e affinity:container!=db", false)?;
    same("-e affinity:tier==back", true)?;
    same("-e affinity:tier==b*", true)?;
    same("-e affinity:tier!=back", false)?;
    same("-e affinity:label==tier=back", true)?;
    same("-e affinity:label!=tier", false)?;
    same("-e affinity:container==~db", true)?;
    same("-l 'com.flotilla.affinity=container==db; tier==back'", true)?;
    same(
        "-l 'com.docker.swarm.affinities=[\"container!=db\"]'",
        false,
    )?;
    same(&format!("-e 'whitelist:node=={home}|nosuch'"), true)?;
    same(&format!("-e constraint:node!={home}"), false)?;
    // A soft wish gives way, a hard one does not.
    pool.ok("run -d --name=x1 -e affinity:container==~nosuch busybox sleep 600")?;
    pool.refuses(
        "run -d -e affinity:container==nosuch busybox true",
        "no node fits: host1, host2, host3 excluded by affinity container==nosuch (have nothing of the kind)",
    )?;
    // An image that one node has only.
    lab.host(1).docker(&["tag", "busybox", "only:there"])?;
    let probe = || {
        let output = pool.run("create --name=z1 -e affinity:image==only busybox true")?;
        Ok(output.code == 0)
    };
    let seen = integration::wait::until_true("the tag is seen", crate::SOON, probe);
    lab.host(1).docker(&["rmi", "only:there"])?;
    seen?;
    ensure!(pool.node_of("z1")? == "host2", "it is on another node");
    let output = pool.run("create --name=r1 -e reschedule:on-node-failure busybox true")?;
    contains(&output.stderr, "on-node-failure has no effect yet")?;
    // What was wished is a label, and no variable of the container.
    pool.ok("run -d --name=y1 -e affinity:container==db busybox sleep 600")?;
    let labels = pool.ok("inspect -f '{{json .Config.Labels}} {{json .Config.Env}}' y1")?;
    contains(
        &labels,
        r#""com.docker.swarm.affinities":"[\"container==db\"]""#,
    )?;
    ensure!(!labels.contains("affinity:container"), "{labels}");
    Ok(())
}

fn parting_at_once(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let line = "run -d -l app=web -e affinity:app!=web busybox sleep 600";
    let outputs = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..5).map(|_| scope.spawn(|| pool.run(line))).collect();
        let ended = runs.into_iter().map(|run| run.join().expect("no panic"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let ran = outputs.iter().filter(|output| output.code == 0).count();
    ensure!(ran == 3, "{ran} of five ran: {outputs:?}");
    let nodes = pool.ok("ps -f label=app=web --format '{{.Label \"com.flotilla.node\"}}'")?;
    let nodes: BTreeSet<&str> = nodes.lines().collect();
    ensure!(nodes.len() == 3, "they are on {nodes:?}");
    pool.refuses(line, "excluded by affinity app!=web (have it)")
}

fn bad_wishes(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for (wish, expected) in [
        (
            "-e affinity:container=web",
            "invalid affinity \"container=web\": it has neither == nor !=, as in container==web",
        ),
        ("-e affinity:node==host1", "as in constraint:node==host1"),
        (
            "-e constraint:node==!host1",
            "written with !=, as in node!=host1",
        ),
        ("-e whitelist:zone==b", "a whitelist names nodes"),
        ("-e reschedule:always", "invalid reschedule policy"),
        (
            "-l com.flotilla.constraint=zone",
            "invalid constraint \"zone\"",
        ),
        (
            "-l com.docker.swarm.affinities=x",
            "must be a JSON array of texts, as in [\"container==web\"]",
        ),
    ] {
        pool.refuses(&format!("create {wish} busybox true"), expected)?;
    }
    let body = br#"{"Image":"busybox","Env":["affinity:a=b"]}"#;
    let answer = pool.ask("POST", "/containers/create", body)?;
    ensure!(answer.status == 400, "{answer:?}");
    Ok(())
}

fn in_vain(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.refuses(
        "create -l com.flotilla.constraints=zone==b busybox true",
        "the label com.flotilla.constraints would have no effect on a container: did you mean com.flotilla.constraint?",
    )?;
    // What a list shows may be given to the next container.
    pool.ok("create --name=it -l com.flotilla.node=host9 -l com.flotilla.id=1 busybox true")?;
    let shown = pool.ok("inspect -f {{.Config.Labels}} it")?;
    ensure!(!shown.contains("com.flotilla.id"), "{shown}");
    let create = |label: &str, node: &str| {
        let constraint = format!("node=={node}");
        let labels = serde_json::json!({(label): "1", "com.flotilla.constraint": constraint});
        let body = serde_json::json!({"Image": "busybox", "Labels": labels});
        let answer = pool.ask("POST", "/containers/create", body.to_string().as_bytes())?;
        ensure!(answer.status == 201, "{answer:?}");
        Ok::<_, anyhow::Error>(answer.json()?["Warnings"].to_string())
    };
    let tpu = "com.flotilla.resource.tpu";
    contains(
        &create(tpu, "host2")?,
        "the label com.flotilla.resource.tpu claims nothing",
    )?;
    pool.flotilla(&format!("node update host1 --label-add {tpu}=1"))?
        .ok()?;
    ensure!(
        create(tpu, "host1")? == "[]",
        "a label that counts is warned of"
    );
    // What a container claimed of its node counts as soon as the node states how much it has.
    pool.flotilla(&format!("node update host2 --label-add {tpu}=1"))?
        .ok()?;
    let all_taken = format!("create -l {tpu}=1 -e constraint:node!=host3 busybox true");
    pool.refuses(
        &all_taken,
        "no node fits: host1, host2 lack tpu (need 1; 0, 0 free of 1); host3 excluded by constraint node!=host3",
    )?;
    let arguments = "%7B%22constraint%3Anode%22%3A%22%3Dhost2%22%7D";
    let answer = pool.ask("POST", &format!("/build?buildargs={arguments}"), b"")?;
    ensure!(answer.status == 400, "{answer:?}");
    Ok(())
}

fn slots(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--slots", "2"])?;
    pool.flotilla("node update host1 --label-add com.flotilla.slots=1")?
        .ok()?;
    for _ in 0..5 {
        pool.ok("run -d busybox sleep 600")?;
    }
    pool.refuses(
        "run -d busybox true",
        "no node fits: host1 has all of its 1 slots taken; host2, host3 have all of their 2 slots taken",
    )?;
    // Classic Swarm's label says the same.
    pool.flotilla("node update host1 --label-rm com.flotilla.slots --label-add containerslots=0")?
        .ok()?;
    pool.refuses(
        "run -d busybox true",
        "no node fits: host1 has all of its 0 slots taken; host2",
    )?;
    let refusal = pool
        .flotilla("node update host1 --label-add com.flotilla.slots=few")?
        .refusal()?;
    contains(
        &refusal,
        "how many containers a node takes at most, and \"few\" is no number",
    )
}

fn explained(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.flotilla("node update host2 --label-add zone=b")?
        .ok()?;
    pool.ok("run -d --name=web -m 64m -e constraint:zone==b busybox sleep 600")?;
    let said = pool.flotilla("explain web")?.ok()?;
    contains(&said, "web goes to host2")?;
    contains(
        &said,
        "host1, host3 excluded by constraint zone==b (zone is unset)",
    )?;
    pool.refusal("run -d --name=big -m 999g busybox true")?;
    let said = pool.flotilla("explain big")?.ok()?;
    contains(&said, "big fits nowhere")?;
    contains(&said, "lack memory (need 999GiB")?;
    let refusal = pool.flotilla("explain nosuch")?.refusal()?;
    contains(&refusal, "no decision about nosuch is remembered")?;
    let json = pool.ask("GET", "/flotilla/v1/decisions/web", b"")?.json()?;
    ensure!(json["Node"] == "host2" && json["Fit"] == 1, "{json}");

    let before = pool.ok("ps -aq")?;
    let said = pool
        .flotilla("plan --count 2 --memory 1m --constraint zone==b")?
        .ok()?;
    contains(&said, "2 of 2 would fit: host2 2")?;
    // Each throws its own dice.
    let said = pool.flotilla("plan --count 40 --strategy random")?.ok()?;
    for node in ["40 of 40 would fit: host1", "host2", "host3"] {
        contains(said.lines().next().unwrap_or_default(), node)?;
    }
    let said = pool.flotilla("plan --memory 999g")?.ok()?;
    contains(&said, "0 of 1 would fit")?;
    contains(&said, "lack memory")?;
    pool.ok("run -d --name=free --label x=y -e constraint:node==host2 busybox sleep 600")?;
    let said = pool.flotilla("plan --lose host2")?.ok()?;
    contains(
        &said,
        "Without host2, 0 of its 2 containers could run elsewhere",
    )?;
    contains(
        &said,
        "web: no node fits: host1, host3 excluded by constraint zone==b",
    )?;
    contains(
        &said,
        "free: no node fits: host1, host3 excluded by constraint node==host2",
    )?;
    pool.ok("rm -f free")?;
    // What is planned for the node is lost with it.
    let said = pool
        .flotilla("plan --memory 1m --constraint zone==b --lose host2")?
        .ok()?;
    contains(&said, "0 of its 2 containers could run elsewhere")?;
    contains(
        &said,
        "(planned): no node fits: host1, host3 excluded by constraint zone==b",
    )?;
    pool.says("ps -aq", &before)?;
    lab.host(0)
        .docker(&["create", "--name=own", "busybox", "true"])?;
    pool.comes_to_say("ps -a -f name=own --format {{.Names}}", "own", crate::SOON)?;
    contains(
        &pool.flotilla("explain own")?.refusal()?,
        "nothing was decided about own: it was made on node host1 itself",
    )
}

fn planned(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let placed = |count: usize, create: serde_json::Value| {
        let body = serde_json::json!({ "Create": create, "Count": count }).to_string();
        let answer = pool.ask("POST", "/flotilla/v1/plan", body.as_bytes())?;
        ensure!(answer.status == 200, "{}", answer.text());
        let plan = answer.json()?;
        let placed = plan["Placed"].as_array().context("nothing is placed")?;
        let nodes: BTreeSet<String> = placed.iter().map(ToString::to_string).collect();
        ensure!(placed.len() == count, "{plan}");
        Ok(nodes)
    };
    // What it is made of and what it runs need not be said.
    let nodes = placed(
        3,
        serde_json::json!({ "HostConfig": { "NanoCpus": 1_000_000 } }),
    )?;
    ensure!(nodes.len() == 3, "they are on {nodes:?}");
    // A network and a volume are where the first container is that has them.
    pool.ok("network create front")?;
    pool.ok("volume create data")?;
    for host_config in [
        serde_json::json!({ "NetworkMode": "front" }),
        serde_json::json!({ "Binds": ["data:/data"] }),
        serde_json::json!({ "Binds": ["new:/data"] }),
    ] {
        let create = serde_json::json!({ "Image": "busybox", "HostConfig": host_config });
        let nodes = placed(3, create)?;
        ensure!(nodes.len() == 1, "{host_config}: they are on {nodes:?}");
    }
    Ok(())
}

/// What a plan says of a container of the node that is lost: `on NODE` or why it would run nowhere.
fn fate(said: &str, container: &str) -> Result<String> {
    let lines = said.lines().map(str::trim_start);
    let found = lines.filter_map(|line| line.strip_prefix(container));
    let mut found = found.map(|rest| rest.trim_start_matches([':', ' ']));
    let fate = found
        .next()
        .with_context(|| format!("{container} is not in: {said}"))?;
    ensure!(found.next().is_none(), "{container} is there twice: {said}");
    Ok(fate.to_owned())
}

fn lost(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let run = |name: &str, options: &str| {
        let home = "-e constraint:node==~host1";
        pool.ok(&format!(
            "run -d --name={name} {home} {options} busybox sleep 600"
        ))?;
        ensure!(pool.node_of(name)? == "host1", "{name} is elsewhere");
        Ok(())
    };
    let lose = || pool.flotilla("plan --lose host1")?.ok();
    let own = lab.host(0);
    own.docker(&["run", "-d", "--name=own", "busybox", "sleep", "600"])?;
    own.docker(&[
        "commit",
        "--change=LABEL com.flotilla.constraint=zone==nowhere",
        "own",
        "labelled",
    ])?;
    run("web", "")?;
    run("side", "--network=container:web")?;
    run("peek", "--pid=container:web")?;
    run("anon", "-v /data")?;
    run("from", "--volumes-from=anon")?;
    run("db", "-v data:/data")?;
    run("app", "--link=db")?;
    run("near", "-m 64m -e affinity:container==web")?;
    pool.ok("create --name=idle -e constraint:node==~host1 busybox true")?;
    // Another one has the port on each of the others, and there it is a hint.
    let exposing = "--network=host --expose=9072";
    run("hint", exposing)?;
    for node in ["host2", "host3"] {
        let options = format!("{exposing} -e constraint:node=={node}");
        pool.ok(&format!("run -d {options} busybox sleep 600"))?;
    }
    let image = || Ok(pool.run("image inspect labelled")?.code == 0);
    integration::wait::until_true("the image is seen", crate::SOON, image)?;
    pool.ok("run -d --name=wanted -e constraint:node==~host1 labelled sleep 600")?;
    pool.comes_to_say("ps -f name=own --format {{.Names}}", "own", crate::SOON)?;
    let said = lose()?;
    for (container, expected) in [
        ("anon", "an anonymous volume is on that node only"),
        ("from", "an anonymous volume is on that node only"),
        ("db", "volume data is on that node only"),
        ("app", "it stays with db: volume data is on that node only"),
        ("own", "it was made on that node itself"),
    ] {
        let fate = fate(&said, container)?;
        ensure!(fate == expected, "{container}: {fate}");
    }
    for container in ["web", "side", "peek", "near", "idle", "hint", "wanted"] {
        let fate = fate(&said, container)?;
        ensure!(fate.starts_with("on host"), "{container}: {fate}");
    }
    for beside in ["side", "peek", "near"] {
        ensure!(fate(&said, beside)? == fate(&said, "web")?, "{said}");
    }
    pool.ok("stop -t 0 web")?;
    let fate = fate(&lose()?, "side")?;
    ensure!(fate == "it needs web, which does not run", "{fate}");
    own.docker(&["rm", "-f", "own"])?;
    pool.ok("rm -f wanted")?;
    own.docker(&["rmi", "labelled"])?;
    // Where there is no other node.
    drop(pool);
    let alone = Pool::of(&[lab.host(1).tcp()], &[])?;
    alone.ok("run -d --name=web busybox sleep 600")?;
    let name = alone.node_of("web")?;
    let said = alone.flotilla(&format!("plan --lose {name}"))?.ok()?;
    contains(&said, "web: no node would be left")
}

fn lost_unseen(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    let options = "--restart=always -e constraint:node==host1";
    pool.ok(&format!("run -d --name=pinned {options} busybox sleep 600"))?;
    let options = "--restart=always -e constraint:node==~host1";
    pool.ok(&format!(
        "run -d --name=anon -v /data {options} busybox sleep 600"
    ))?;
    lab.host(0).power_off()?;
    pool.manager.stop()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(2)?;
    let said = pool.flotilla("plan --lose host1")?.ok()?;
    contains(
        &said,
        "pinned: no node fits: host2, host3 excluded by constraint node==host1",
    )?;
    contains(&said, "anon: an anonymous volume is on that node only")?;
    lab.host(0).power_on()?;
    pool.wait_until_ready(3)
}

fn told_apart(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=web -e constraint:node==host2 busybox sleep 600")?;
    pool.ok("rm -f web")?;
    contains(&pool.flotilla("explain web")?.ok()?, "web goes to host2")?;
    lab.host(0)
        .docker(&["create", "--name=web", "busybox", "true"])?;
    pool.comes_to_say("ps -a -f name=web --format {{.Names}}", "web", crate::SOON)?;
    contains(
        &pool.flotilla("explain web")?.refusal()?,
        "nothing was decided about web: it was made on node host1 itself",
    )?;
    // What is exposed on the host's network is a hint, and nothing waits for one.
    for name in ["h1", "h2", "h3", "h4"] {
        let options = "--network=host --expose=9071";
        pool.ok(&format!("run -d --name={name} {options} busybox sleep 600"))?;
    }
    let said = pool.flotilla("explain h4")?.ok()?;
    contains(
        &said,
        "it runs there all the same, for what is exposed is a hint",
    )?;
    ensure!(!said.contains("has to wait"), "{said}");
    let json = pool.ask("GET", "/flotilla/v1/decisions/h4", b"")?.json()?;
    ensure!(
        json["ExposedTaken"].is_string() && json["PortsTaken"].is_null(),
        "{json}"
    );
    Ok(())
}

fn reserved(lab: &Lab) -> Result<()> {
    let memory = {
        let pool = Pool::over(lab)?;
        pool.ask("GET", "/info", b"")?.json()?["MemTotal"].as_u64()
    };
    // Of each node 200 MiB are left, and half as much again may be promised.
    let keep = (memory.unwrap_or_default() / 3)
        .saturating_sub(200 << 20)
        .to_string();
    let settings = [
        "--reserve-memory",
        &keep,
        "--overcommit",
        "0.5",
        "--default-memory",
        "140m",
    ];
    let pool = Pool::of(&lab.endpoints(), &settings)?;
    for name in ["a1", "a2", "a3", "a4", "a5", "a6"] {
        pool.ok(&format!("run -d --name={name} busybox sleep 600"))?;
    }
    pool.refuses(
        "run -d busybox true",
        "lack memory (need 140MiB; 20MiB, 20MiB, 20MiB free of 300MiB)",
    )?;
    pool.refuses(
        "update -m 170m --memory-swap 400m a1",
        "lacks memory for container a1 to claim 170MiB (need 30MiB more, 20MiB free of 300MiB)",
    )?;
    contains(&pool.ok("info")?, "└ Reserved Memory: 280MiB / 300MiB\n")?;
    // A reservation is what counts, also once the limit is changed.
    pool.ok("rm -f a6")?;
    pool.ok("run -d --name=b6 -m 60m --memory-reservation 20m busybox sleep 600")?;
    pool.ok("update -m 90m --memory-swap 400m b6")?;
    let reserved = |mib: &str| {
        let shown = pool.ok("info")?;
        contains(&shown, &format!("└ Reserved Memory: {mib}MiB / 300MiB\n"))
    };
    reserved("160")?;
    pool.ok("update --memory-reservation 30m b6")?;
    reserved("170")?;
    // Also by somebody on its node, who is not asked whether there is room.
    let host = lab.host_named(&pool.node_of("b6")?)?;
    for (amount, wanted) in [("40m", "180"), ("80m", "220")] {
        host.docker(&["update", "--memory-reservation", amount, "b6"])?;
        integration::wait::until_true("the update is counted", crate::SOON, || {
            Ok(reserved(wanted).is_ok())
        })?;
    }
    pool.refuses("run -d busybox true", "lack memory (need 140MiB; ")?;
    pool.ok("rm -f b6")?;
    pool.ok("run -d --name=a6 busybox sleep 600")?;
    // What runs there behind the pool's back counts, also when a container is to start again.
    pool.ok("stop -t 0 a1")?;
    let node = pool.node_of("a1")?;
    let host = lab.host_named(&node)?;
    host.docker(&[
        "run",
        "-d",
        "--name=stranger",
        "-m",
        "100m",
        "busybox",
        "sleep",
        "600",
    ])?;
    let started = || Ok(pool.run("start a1")?.code != 0);
    integration::wait::until_true("the stranger is counted", crate::SOON, || {
        pool.ok("stop -t 0 a1")?;
        started()
    })?;
    pool.refuses(
        "start a1",
        &format!("node {node} lacks memory (need 140MiB, 60MiB free of 300MiB)"),
    )?;
    host.docker(&["rm", "-f", "stranger"])?;
    integration::wait::until_true("the stranger is gone", crate::SOON, || Ok(!started()?))
}

/// A pool that has room for one, and a client that asks for the next as soon as it is told that the last one ended.
fn beyond_the_machine(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--overcommit", "1"])?;
    let memory = pool.ask("GET", "/info", b"")?.json()?["MemTotal"].as_u64();
    let machine = memory.unwrap_or_default() / 3;
    pool.ok(&format!(
        "run -d --name=it -m {} --memory-swap -1 busybox sleep 600",
        machine - (1 << 20)
    ))?;
    let larger = machine + (1 << 20);
    pool.refuses(
        &format!("run -d -m {larger} busybox true"),
        "no node fits: host1, host2, host3 lack memory",
    )?;
    pool.refuses(
        &format!("update -m {larger} --memory-swap -1 it"),
        "lacks memory for container it to claim ",
    )?;
    pool.ok(&format!("update -m {machine} --memory-swap -1 it"))?;
    // Nor when it claims anew.
    pool.ok("stop -t 0 it")?;
    pool.ok(&format!("update -m {larger} --memory-swap -1 it"))?;
    pool.refuses("start it", " lacks memory (need ")
}

fn one_by_one(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&[lab.host(0).tcp()], &[])?;
    let memory = pool.ask("GET", "/info", b"")?.json()?["MemTotal"].as_u64();
    let more_than_half = memory.context("no memory")? / 100 * 60;
    let body = serde_json::json!({
        "Image": "busybox", "Cmd": ["sleep", "0.2"], "HostConfig": { "Memory": more_than_half },
    });
    for round in 0..harness::number("ENDS", ENDS)? {
        let made = pool.ask("POST", "/containers/create", body.to_string().as_bytes())?;
        ensure!(made.status == 201, "round {round}: {}", made.text());
        let id = made.json()?["Id"].as_str().context("no id")?.to_owned();
        let end = if round % 2 == 0 { "wait" } else { "kill" };
        for change in ["start", end] {
            let answer = pool.ask("POST", &format!("/containers/{id}/{change}"), b"")?;
            ensure!(answer.status < 300, "round {round}: {}", answer.text());
        }
    }
    Ok(())
}

fn survivable(lab: &Lab) -> Result<()> {
    let memory = {
        let pool = Pool::over(lab)?;
        pool.ask("GET", "/info", b"")?.json()?["MemTotal"].as_u64()
    };
    // 200 MiB of each node may be promised: two nodes' worth, if one may be lost.
    let keep = (memory.unwrap_or_default() / 3)
        .saturating_sub(200 << 20)
        .to_string();
    let settings =
        |word| ["--reserve-memory", &keep, "--survive-node-loss", word].map(str::to_owned);
    let begin = |word| {
        let settings = settings(word);
        Pool::of(&lab.endpoints(), &settings.each_ref().map(String::as_str))
    };
    {
        let pool = begin("refuse")?;
        let said = pool.flotilla("plan --count 6 --memory 100m")?.ok()?;
        contains(&said, "4 of 6 would fit")?;
        contains(&said, "The next one would not: with this container on host")?;
        for name in ["a1", "a2", "a3", "a4"] {
            pool.ok(&format!("run -d --name={name} -m 100m busybox sleep 600"))?;
        }
        let refusal = pool.refusal("run -d -m 100m busybox true")?;
        contains(
            &refusal,
            "would find no room elsewhere if that node was lost (on host",
        )?;
        contains(&refusal, "this container")?;
        contains(&refusal, "survive-node-loss=refuse forbids that")?;
        let said = pool.flotilla("plan --memory 100m")?.ok()?;
        contains(&said, "0 of 1 would fit\nThe next one would not: ")?;
        contains(&said, "survive-node-loss=refuse forbids that")?;
        pool.ok("run -d --name=b1 busybox sleep 600")?;
        // What grows, or claims anew, is asked too: the one that has a node for itself, and room there.
        let homes = ["a1", "a2", "a3", "a4"].into_iter();
        let homes = homes.map(|name| Ok((name, pool.node_of(name)?)));
        let homes: Vec<(&str, String)> = homes.collect::<Result<_>>()?;
        let alone = homes.iter().find(|(_, home)| {
            let here = homes.iter().filter(|(_, other)| other == home);
            here.count() == 1
        });
        let (alone, home) = alone.context("no container is alone")?;
        let update = |amount: &str| format!("update -m {amount} --memory-swap {amount} {alone}");
        let no_room = "would find no room elsewhere if that node was lost";
        pool.refuses(&update("150m"), no_room)?;
        pool.ok(&update("90m"))?;
        pool.ok(&update("100m"))?;
        pool.ok(&format!("stop -t 0 {alone}"))?;
        pool.ok(&format!(
            "run -d --name=a5 -m 100m -e constraint:node=={home} busybox sleep 600"
        ))?;
        pool.refuses(&format!("start {alone}"), no_room)?;
        pool.ok("rm -f a5")?;
        pool.ok(&format!("start {alone}"))?;
        let said = pool.flotilla("plan --lose host1")?.ok()?;
        ensure!(!said.contains("could no longer run"), "{said}");
        pool.ok("rm -f a1 a2 a3 a4 b1")?;
        // On the empty node the third would leave no room for the second; beside the first it does.
        for (name, claim) in [("s1", 100), ("s2", 110), ("s3", 100)] {
            pool.ok(&format!(
                "run -d --name={name} -m {claim}m busybox sleep 600"
            ))?;
        }
        ensure!(pool.node_of("s3")? == pool.node_of("s1")?);
        pool.refuses(
            "run -d --name=s4 -m 100m busybox true",
            "would find no room elsewhere",
        )?;
        contains(
            &pool.flotilla("explain s4")?.ok()?,
            "would find no room elsewhere",
        )?;
        pool.ok("rm -f s1 s2 s3")?;
        // GPUs count as CPU and memory do: of two the second is for the loss of the first.
        for name in ["host1", "host2"] {
            let line = format!("node update {name} --label-add com.flotilla.resource.gpu=1");
            pool.flotilla(&line)?.ok()?;
        }
        let gpu = "-l com.flotilla.resource.gpu=1 busybox sleep 600";
        pool.ok(&format!("run -d --name=g1 {gpu}"))?;
        pool.refuses(
            &format!("run -d {gpu}"),
            "would find no room elsewhere if that node was lost",
        )?;
        pool.ok("rm -f g1")?;
        // What has a volume on its node only cannot move, and needs no room elsewhere.
        for name in ["v1", "v2", "v3"] {
            pool.ok(&format!(
                "run -d --name={name} -m 150m -v /data busybox sleep 600"
            ))?;
        }
        pool.ok("run -d --name=v4 -m 40m busybox sleep 600")?;
        let said = pool.flotilla("plan --lose host1")?.ok()?;
        contains(&said, "an anonymous volume is on that node only")?;
        pool.ok("rm -f v1 v2 v3 v4")?;
    }
    let pool = begin("warn")?;
    for name in ["a1", "a2", "a3", "a4"] {
        let output = pool.run(&format!("run -d --name={name} -m 100m busybox sleep 600"))?;
        ensure!(
            output.code == 0 && !output.stderr.contains("WARNING"),
            "{output:?}"
        );
    }
    let said = pool.flotilla("plan --memory 100m")?.ok()?;
    contains(&said, "\nWith a warning: with this container on host")?;
    let output = pool.run("run -d --name=a5 -m 100m busybox sleep 600")?;
    ensure!(output.code == 0, "{output:?}");
    contains(
        &output.stderr,
        "would find no room elsewhere if that node was lost",
    )
}

fn never_overbooked(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let memory = pool.ask("GET", "/info", b"")?.json()?["MemTotal"].as_u64();
    let creates = usize::try_from(harness::number("CREATES", CREATES)?)?.next_multiple_of(CLIENTS);
    // Two of three fit.
    let each = memory.unwrap_or_default() / u64::try_from(creates * 2 / 3)?;
    let body = format!(
        r#"{{"Image":"busybox","Cmd":["true"],"HostConfig":{{"Memory":{each},"MemoryReservation":{each}}}}}"#
    );
    let statuses = std::thread::scope(|scope| {
        let client = || {
            let asked = (0..creates / CLIENTS)
                .map(|_| pool.ask("POST", "/containers/create", body.as_bytes()));
            let answers = asked.collect::<Result<Vec<_>>>()?;
            Ok(answers
                .iter()
                .map(|answer| answer.status)
                .collect::<Vec<_>>())
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let ended = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"));
        ended.collect::<Result<Vec<_>>>()
    })?
    .concat();
    let made = statuses.iter().filter(|status| **status == 201).count();
    let refused = statuses.iter().filter(|status| **status == 409).count();
    ensure!(made + refused == creates && refused > 0, "{statuses:?}");
    let nodes = pool.ask("GET", "/flotilla/v1/nodes", b"")?.json()?;
    let mut reserved = 0;
    for node in nodes.as_array().into_iter().flatten() {
        let promised = node["Reserved"]["MemoryBytes"].as_u64().unwrap_or(u64::MAX);
        let has = node["Description"]["Resources"]["MemoryBytes"]
            .as_u64()
            .unwrap_or_default();
        ensure!(promised <= has, "overbooked: {node}");
        ensure!(
            has - promised < each,
            "it could have taken one more: {node}"
        );
        reserved += promised;
    }
    ensure!(
        reserved == each * u64::try_from(made)?,
        "{made} were made, {reserved} is reserved"
    );
    Ok(())
}
