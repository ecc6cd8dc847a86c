//! A pool of engines of different sizes, labels and GPUs: where containers go, and what refusals say.
//!
//! | host | CPUs | memory | labels | GPUs |
//! | --- | --- | --- | --- | --- |
//! | host1 | 1 | 1 GiB | disk=ssd zone=a | `gpu=2` |
//! | host2 | all | 2 GiB | disk=hdd zone=a | three by name |
//! | host3 | all | 4 GiB | disk=ssd zone=b | none |

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::harness::{self, Case, case};
use integration::lab::{HostSpec, Lab, Spec};
use integration::pool::Pool;
use integration::wait;

const SOON: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let gpus = |names: &[&str]| {
        let flags = names
            .iter()
            .map(|name| format!("--node-generic-resource=gpu={name}"));
        flags.fold(HostSpec::default(), |spec, flag| spec.flag(&flag))
    };
    let hosts = vec![
        gpus(&["2"])
            .cpus(1)
            .memory_mib(1024)
            .label("disk=ssd")
            .label("zone=a"),
        gpus(&["UUID1", "UUID2", "UUID3"])
            .memory_mib(2048)
            .label("disk=hdd")
            .label("zone=a"),
        HostSpec::default()
            .memory_mib(4096)
            .label("disk=ssd")
            .label("zone=b"),
    ];
    harness::main(Spec { hosts, keep: false }, cases())
}

fn cases() -> Vec<Case> {
    vec![
        case("spread_fills_by_share_and_not_by_number", spread),
        case("binpack_fills_the_smallest_node_first", binpack),
        case("a_refusal_has_the_numbers_of_each_node", refusals),
        case("labels_of_unequal_engines_narrow_the_choice", constraints),
        case(
            "a_decision_over_unequal_nodes_is_explained_and_planned",
            explained,
        ),
        case("what_is_kept_for_the_system_differs_by_node", reserved),
        case("gpus_are_promised_once", gpus),
        case("many_creates_at_once_get_no_gpu_twice", gpus_at_once),
        case(
            "a_stopped_container_gives_its_gpus_back",
            gpus_of_the_stopped,
        ),
        case("gpus_of_strangers_count", gpus_of_strangers),
        case("a_label_says_what_a_node_has", stated),
        case("gpus_that_nobody_states_are_left_to_the_engines", unstated),
        case("containers_are_found_again_with_their_gpus", adopted),
        case(
            "containers_on_host_networks_part_by_what_they_expose",
            host_networks,
        ),
        case("a_create_for_a_host_network_publishes_nothing", unpublished),
    ]
}

/// How many containers each node has.
fn by_node(pool: &Pool) -> Result<BTreeMap<String, usize>> {
    let nodes = pool.ok("ps -a --format '{{.Label \"com.flotilla.node\"}}'")?;
    let mut counts = BTreeMap::new();
    for node in nodes.lines() {
        *counts.entry(node.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn are_on(pool: &Pool, expected: &[(&str, usize)]) -> Result<()> {
    let counts = by_node(pool)?;
    let expected: BTreeMap<_, _> = expected
        .iter()
        .map(|(node, count)| ((*node).to_owned(), *count))
        .collect();
    ensure!(counts == expected, "{counts:?}, not {expected:?}");
    Ok(())
}

fn contains(text: &str, wanted: &str) -> Result<()> {
    ensure!(text.contains(wanted), "{wanted:?} is not in {text:?}");
    Ok(())
}

fn spread(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    // Shares of memory are what is scarce: 128 MiB are an eighth, a sixteenth and a thirty-second.
    for number in 0..14 {
        pool.ok(&format!(
            "run -d --name=s{number} -m 128m busybox sleep 600"
        ))?;
    }
    are_on(&pool, &[("host1", 2), ("host2", 4), ("host3", 8)])?;
    let node = pool.ask("GET", "/flotilla/v1/nodes/host2", b"")?.json()?;
    ensure!(node["Reserved"]["MemoryBytes"] == 512 << 20, "{node}");
    ensure!(
        node["Description"]["Resources"]["MemoryBytes"] == 2_u64 << 30,
        "{node}"
    );
    Ok(())
}

fn binpack(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--strategy", "binpack"])?;
    for number in 0..4 {
        pool.ok(&format!(
            "run -d --name=b{number} -m 500m --cpus 0.25 busybox sleep 600"
        ))?;
    }
    // Two of them fill host1 but for 24 MiB; then comes the next smallest.
    are_on(&pool, &[("host1", 2), ("host2", 2)])?;
    pool.ok("run -d --name=large -m 3g busybox sleep 600")?;
    ensure!(pool.node_of("large")? == "host3");
    // What still fits into the smallest goes there.
    pool.ok("run -d --name=small -m 20m busybox sleep 600")?;
    ensure!(pool.node_of("small")? == "host1");
    Ok(())
}

fn refusals(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=m1 -m 1g -e constraint:node==host1 busybox sleep 600")?;
    pool.ok("run -d --name=m3 -m 512m -e constraint:node==host3 busybox sleep 600")?;
    pool.refuses(
        "run -d -m 5g busybox true",
        "no node fits: host1 lacks memory (need 5GiB, 0B free of 1GiB); host2 lacks memory (need 5GiB, 2GiB free of 2GiB); \
         host3 lacks memory (need 5GiB, 3.5GiB free of 4GiB)",
    )?;
    let cpus = lab.host(1).docker(&["info", "--format", "{{.NCPU}}"])?;
    if cpus != "1" {
        pool.ok("run -d --name=c1 --cpus 1 -e constraint:node==host1 busybox sleep 600")?;
        pool.ok(&format!(
            "run -d --name=c2 --cpus {cpus} -e constraint:node==host2 busybox sleep 600"
        ))?;
        pool.ok(&format!(
            "run -d --name=c3 --cpus {cpus} -e constraint:node==host3 busybox sleep 600"
        ))?;
        pool.refuses(
            "run -d --cpus 1 busybox true",
            &format!(
                "no node fits: host1 lacks CPU (need 1 CPU, 0 free of 1); \
                 host2, host3 lack CPU (need 1 CPU; 0, 0 free of {cpus})"
            ),
        )?;
    }
    pool.ok("rm -f m1 m3")?;
    pool.ok("run -d --name=m3 -m 3g busybox sleep 600")?;
    ensure!(pool.node_of("m3")? == "host3");
    Ok(())
}

fn constraints(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let goes_to = |wishes: &str, node: &str| {
        pool.ok(&format!("run -d --name=it {wishes} busybox sleep 600"))?;
        let found = pool.node_of("it")?;
        pool.ok("rm -f it")?;
        ensure!(found == node, "{wishes}: it is on {found}");
        Ok(())
    };
    goes_to("-e constraint:disk==ssd -e constraint:zone==a", "host1")?;
    goes_to("-e constraint:zone==b", "host3")?;
    goes_to("-e constraint:disk!=ssd", "host2")?;
    goes_to("-m 900m -e constraint:zone==a", "host2")?;
    goes_to(
        "-l 'com.docker.swarm.constraints=[\"disk==ssd\",\"zone==a\"]'",
        "host1",
    )?;
    goes_to("-l 'com.flotilla.constraint=disk==ssd; zone==b'", "host3")?;
    // A soft one gives way to size, a hard one does not.
    goes_to("-m 3g -e constraint:zone==~a", "host3")?;
    pool.refuses(
        "run -d -m 3g -e constraint:zone==a busybox true",
        "no node fits: host1 lacks memory (need 3GiB, 1GiB free of 1GiB); host2 lacks memory (need 3GiB, 2GiB free of 2GiB); \
         host3 excluded by constraint zone==a (zone is b)",
    )?;
    pool.refuses(
        "run -d -e constraint:disk==nvme busybox true",
        "no node fits: host1, host2, host3 excluded by constraint disk==nvme (disk is ssd, hdd, ssd)",
    )
}

fn explained(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=web -m 1g busybox sleep 600")?;
    let said = pool.flotilla("explain web")?.ok()?;
    contains(&said, "web goes to host3")?;
    contains(&said, "host3: 75.0% left after placing")?;
    contains(&said, "host2: 50.0% left after placing")?;
    contains(&said, "host1: 0.0% left after placing")?;
    let said = pool.flotilla("plan --count 9 --memory 1g")?.ok()?;
    contains(&said, "6 of 9 would fit: host1 1, host2 2, host3 3")?;
    let said = pool
        .flotilla("plan --count 3 --memory 1g --strategy binpack")?
        .ok()?;
    contains(&said, "3 of 3 would fit: host1 1, host3 2")?;
    pool.ok("run -d --name=large -m 3g busybox sleep 600")?;
    let said = pool.flotilla("plan --lose host3")?.ok()?;
    contains(
        &said,
        "Without host3, 1 of its 2 containers could run elsewhere",
    )?;
    // Where it fits best, so that as much as possible finds room.
    contains(&said, "web on host1")?;
    contains(
        &said,
        "large: no node fits: host1 lacks memory (need 3GiB, 1GiB free of 1GiB); host2 lacks memory",
    )
}

fn reserved(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--reserve-memory", "768m"])?;
    pool.refuses(
        "run -d -m 300m -e constraint:zone==a -e constraint:disk==ssd busybox true",
        "host1 lacks memory (need 300MiB, 256MiB free of 256MiB)",
    )?;
    pool.refuses(
        "run -d -m 4g busybox true",
        "host1 lacks memory (need 4GiB, 256MiB free of 256MiB); host2 lacks memory (need 4GiB, 1.2GiB free of 1.2GiB); \
         host3 lacks memory (need 4GiB, 3.2GiB free of 3.2GiB)",
    )
}

/// An engine without GPUs makes a container that asks for some, and fails to start it: what is promised shows with `create`.
fn gpus(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let table = pool.flotilla("node ls")?.ok()?;
    contains(&table, "gpu 0 / 2")?;
    contains(&table, "gpu 0 / 3")?;
    let info = pool.ask("GET", "/info", b"")?.json()?;
    ensure!(
        info["GenericResources"][0]["DiscreteResourceSpec"]["Value"] == 5,
        "{info}"
    );
    pool.ok("create --name=g1 --gpus 2 -e constraint:node==host2 busybox true")?;
    pool.refuses(
        "create --gpus 3 busybox true",
        "no node fits: host1 lacks gpu (need 3, 2 free of 2); host2 lacks gpu (need 3, 1 free of 3); host3 has no gpu",
    )?;
    // All of a node's GPUs are free on one only.
    pool.ok("create --name=g2 --gpus all busybox true")?;
    ensure!(pool.node_of("g2")? == "host1");
    let said = pool.flotilla("explain g2")?.ok()?;
    contains(&said, "It claims all gpu")?;
    contains(&said, "host2 lacks gpu (need all, 1 free of 3)")?;
    contains(&said, "host3 has no gpu")?;
    let planned = pool.flotilla("plan --count 3 --gpus 1")?.ok()?;
    contains(&planned, "1 of 3 would fit: host2 1")?;
    contains(&planned, "host1 lacks gpu (need 1, 0 free of 2)")?;
    pool.ok("create --name=g3 --gpus '\"device=0\"' busybox true")?;
    ensure!(pool.node_of("g3")? == "host2");
    pool.refuses(
        "create -l com.flotilla.resource.gpu=1 busybox true",
        "no node fits: host1 lacks gpu (need 1, 0 free of 2); host2 lacks gpu (need 1, 0 free of 3); host3 has no gpu",
    )?;
    pool.refuses(
        "create -l com.flotilla.resource.gpu=some busybox true",
        "label com.flotilla.resource.gpu: \"some\" is no amount: give a number, or all",
    )?;
    // Sharing is a matter of saying so.
    pool.ok("create --name=g4 --gpus 1 -l com.flotilla.resource.gpu=0 -e constraint:node==host2 busybox true")?;
    let lost = pool.flotilla("plan --lose host1")?.ok()?;
    contains(
        &lost,
        "g2: no node fits: host2 lacks gpu (need 2, 0 free of 3); host3 has no gpu",
    )?;
    pool.ok("rm g1")?;
    pool.ok("create --name=g5 --gpus 2 busybox true")?;
    ensure!(pool.node_of("g5")? == "host2");
    Ok(())
}

fn gpus_at_once(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let line = "run -d -l com.flotilla.resource.gpu=1 busybox sleep 600";
    let outputs = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| pool.run(line))).collect();
        let ended = runs.into_iter().map(|run| run.join().expect("no panic"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    for output in outputs.iter().filter(|output| output.code != 0) {
        contains(
            &output.stderr,
            "no node fits: host1 lacks gpu (need 1, 0 free of 2); host2 lacks gpu (need 1, 0 free of 3); host3 has no gpu",
        )?;
    }
    are_on(&pool, &[("host1", 2), ("host2", 3)])
}

fn gpus_of_the_stopped(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let line = |name: &str, count: u32| {
        format!(
            "run -d --name={name} -l com.flotilla.resource.gpu={count} -e constraint:node==host2 busybox sleep 600"
        )
    };
    pool.ok(&line("a1", 2))?;
    let refused = pool.refusal(&line("b1", 2))?;
    contains(&refused, "host2 lacks gpu (need 2, 1 free of 3)")?;
    pool.ok("update --cpus 0.5 a1")?;
    pool.ok("stop -t 0 a1")?;
    pool.ok(&line("b1", 2))?;
    pool.refuses("start a1", "node host2 lacks gpu (need 2, 1 free of 3)")?;
    pool.ok("rm -f b1")?;
    pool.ok("start a1")?;
    let refused = pool.refusal(&line("b1", 2))?;
    contains(&refused, "host2 lacks gpu (need 2, 1 free of 3)")
}

/// With a description of devices an engine gives them to containers, real ones or not.
fn gpus_of_strangers(lab: &Lab) -> Result<()> {
    let devices = r#"{"cdiVersion":"0.5.0","kind":"lab.example/gpu","devices":[
        {"name":"0","containerEdits":{"env":["HAS_GPU=0"]}},{"name":"1","containerEdits":{"env":["HAS_GPU=1"]}}]}"#;
    let host = lab.host(0);
    let script = format!("mkdir -p /etc/cdi && cat > /etc/cdi/lab.json <<'END'\n{devices}\nEND");
    let status = host.command("sh")?.args(["-c", &script]).status()?;
    ensure!(status.success(), "no description of devices: {status}");
    let pool = Pool::over(lab)?;
    let said = pool.ok(
        "run --rm --device lab.example/gpu=1 -e constraint:node==host1 busybox sh -c 'echo $HAS_GPU'",
    )?;
    ensure!(said == "1", "it says {said:?}");
    host.docker(&[
        "run",
        "-d",
        "--name=stranger",
        "--device=lab.example/gpu=0",
        "--device=lab.example/gpu=1",
        "busybox",
        "sleep",
        "600",
    ])?;
    let table = || pool.flotilla("node ls")?.ok();
    wait::until_true("the stranger is counted", SOON, || {
        Ok(table()?.contains("gpu 2 / 2"))
    })?;
    pool.refuses(
        "create --gpus 1 -e constraint:node==host1 busybox true",
        "host1 lacks gpu (need 1, 0 free of 2)",
    )?;
    host.docker(&["stop", "-t", "0", "stranger"])?;
    wait::until_true("the stranger has ended", SOON, || {
        Ok(table()?.contains("gpu 0 / 2"))
    })?;
    pool.ok("create --gpus all -e constraint:node==host1 busybox true")
        .map(drop)
}

fn stated(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let label = |node: &str, label: &str| {
        pool.flotilla(&format!(
            "node update {node} --label-add com.flotilla.resource.{label}"
        ))
    };
    contains(
        &label("host3", "gpu=all")?.refusal()?,
        "label com.flotilla.resource.gpu says how many of them a node has, and \"all\" is no number",
    )?;
    label("host3", "gpu=8")?.ok()?;
    label("host1", "gpu=0")?.ok()?;
    label("host2", "fpga=1")?.ok()?;
    pool.ok("create --name=g1 --gpus 8 busybox true")?;
    ensure!(pool.node_of("g1")? == "host3");
    pool.ok("create --name=f1 -l com.flotilla.resource.fpga=1 busybox true")?;
    ensure!(pool.node_of("f1")? == "host2");
    pool.refuses(
        "create -l com.flotilla.resource.fpga=1 busybox true",
        "no node fits: host1, host3 have no fpga; host2 lacks fpga (need 1, 0 free of 1)",
    )?;
    pool.refuses(
        "create --gpus 4 busybox true",
        "no node fits: host1 has no gpu; host2 lacks gpu (need 4, 3 free of 3); host3 lacks gpu (need 4, 0 free of 8)",
    )?;
    contains(&pool.ok("info")?, "fpga")?;
    // Without the label the engine's word counts again.
    pool.flotilla("node update host1 --label-rm com.flotilla.resource.gpu")?
        .ok()?;
    pool.ok("create --name=g2 --gpus 2 -e constraint:node==host1 busybox true")?;
    // All is what there is when it starts.
    pool.ok("run -d --name=t1 -l com.flotilla.resource.tpu=all -e constraint:node==host1 busybox sleep 600")?;
    label("host1", "tpu=3")?.ok()?;
    pool.ok("stop -t 0 t1")?;
    pool.ok("start t1")?;
    pool.refuses(
        "create -l com.flotilla.resource.tpu=1 -e constraint:node==host1 busybox true",
        "host1 lacks tpu (need 1, 0 free of 3)",
    )
}

fn unstated(lab: &Lab) -> Result<()> {
    let third = [lab.host(2).tcp()];
    let pool = Pool::of(&third, &[])?;
    // It is made, and its engine says in its own words that it has no driver for GPUs.
    pool.ok("create --name=g1 --gpus all busybox true")?;
    pool.refuses("start g1", "could not select device driver")?;
    pool.flotilla("node update host3 --label-add com.flotilla.resource.gpu=1")?
        .ok()?;
    pool.ok("create --name=g2 --gpus 1 busybox true").map(drop)
}

fn adopted(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    pool.ok("run -d --name=g1 -l com.flotilla.resource.gpu=all -e constraint:node==host2 busybox sleep 600")?;
    pool.ok(
        "run -d --name=h1 --network host --expose 7070 -e constraint:node==host2 busybox sleep 600",
    )?;
    let claimed = |pool: &Pool| {
        let refused = pool.refusal("create --gpus 3 busybox true")?;
        contains(&refused, "host2 lacks gpu (need 3, 0 free of 3)")?;
        pool.ok("create --name=p1 -p 7070:80 busybox true")?;
        let said = pool.flotilla("explain p1")?.ok()?;
        pool.ok("rm p1")?;
        contains(&said, "host2 has port 7070/tcp taken (by h1)")
    };
    claimed(&pool)?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    claimed(&pool)?;
    // What a manager is to know anew it reads in labels and inspects.
    pool.flotilla("node rm --force host2")?.ok()?;
    pool.flotilla(&format!("node add {} --name host2", lab.host(1).tcp()))?
        .ok()?;
    pool.wait_until_ready(3)?;
    wait::until_true("both are found again", SOON, || {
        Ok(pool.run("inspect g1 h1")?.code == 0 && claimed(&pool).is_ok())
    })
}

fn host_networks(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let run = |name: &str, more: &str| {
        pool.ok(&format!("run -d --name={name} {more} busybox sleep 600"))?;
        pool.node_of(name)
    };
    let mut nodes = Vec::new();
    for name in ["h1", "h2", "h3"] {
        nodes.push(run(name, "--network host --expose 7070")?);
    }
    nodes.sort();
    ensure!(
        nodes == ["host1", "host2", "host3"],
        "they are on {nodes:?}"
    );
    // Where nobody is out of the way, it is only a hint: nothing is refused.
    run("h4", "--network host --expose 7070")?;
    run("p1", "-p 7070:80")?;
    pool.ok("rm -f h4 p1")?;
    pool.ok("stop -t 0 h2")?;
    let home = pool.node_of("h2")?;
    let found = run("p1", "-p 7070:80")?;
    ensure!(found == home, "p1 is on {found}, and {home} is free");
    // Another transport is another port, and a start is never refused for a hint.
    run("u1", "-p 7070:80/udp")?;
    pool.ok("rm -f p1")?;
    pool.ok("start h2")?;
    let said = pool.flotilla("explain p1")?.ok()?;
    contains(&said, "have port 7070/tcp taken (by h")?;
    pool.ok("rm -f h1 h2 h3 u1")?;
    // What runs behind the pool's back counts, and what an image exposes.
    let (first, second) = (lab.host(0), lab.host(1));
    for host in [first, second] {
        host.docker(&[
            "run",
            "-d",
            "--name=stranger",
            "--network=host",
            "--expose=7171",
            "busybox",
            "sleep",
            "600",
        ])?;
    }
    for host in lab.hosts() {
        host.docker(&["create", "--name=base", "busybox"])?;
        host.docker(&["commit", "--change", "EXPOSE 7171", "base", "exposing:1"])?;
        host.docker(&["rm", "base"])?;
    }
    let goes = || {
        let node = run("i1", "-p 7171:80");
        pool.run("rm -f i1")?;
        Ok(node? == "host3")
    };
    wait::until_true("strangers are known by what they expose", SOON, goes)?;
    pool.ok("run -d --name=i1 --network host exposing:1 sleep 600")?;
    let node = pool.node_of("i1")?;
    for host in lab.hosts() {
        host.docker(&["rmi", "-f", "exposing:1"])?;
    }
    ensure!(node == "host3", "it is on {node}");
    Ok(())
}

fn unpublished(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    // Each engine warns that it publishes nothing; nobody holds port 7272 for it.
    let output = pool.run("run -d --name=h1 --network host -p 7272:80 busybox sleep 600")?;
    ensure!(output.code == 0, "{output:?}");
    contains(
        &output.stderr,
        "Published ports are discarded when using host network mode",
    )?;
    let host = lab.host_named(&pool.node_of("h1")?)?;
    ensure!(
        host.docker(&["port", "h1"])?.is_empty(),
        "it publishes something"
    );
    for name in ["p1", "p2", "p3"] {
        pool.ok(&format!(
            "run -d --name={name} -p 7272:80 busybox sleep 600"
        ))?;
    }
    let nodes = pool.ok("ps -f publish=7272 --format '{{.Label \"com.flotilla.node\"}}'")?;
    let mut nodes: Vec<_> = nodes.lines().collect();
    nodes.sort_unstable();
    ensure!(
        nodes == ["host1", "host2", "host3"],
        "they are on {nodes:?}"
    );
    Ok(())
}
