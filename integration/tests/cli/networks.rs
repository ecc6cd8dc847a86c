//! Networks of the cluster: one host's network each, late bound, with one id everywhere.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::compose::Project;
use integration::counter::Counter;
use integration::harness::{Case, case};
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::{wait, wire};
use serde_json::Value;

use crate::{SOON, contains, now};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case(
            "a_network_made_on_an_engine_is_joined_there",
            behind_our_back,
        ),
        case("a_network_is_nowhere_until_a_container_joins_it", nowhere),
        case("a_bad_network_is_refused_as_an_engine_refuses_it", bad),
        case("all_that_join_a_network_share_its_node_and_its_id", joined),
        case("a_network_leaves_its_node_with_its_last_container", leaves),
        case("a_network_can_be_given_a_node", pinned),
        case("containers_join_and_leave_networks", connected),
        case("a_network_in_use_stays", in_use),
        case("what_does_not_run_lets_its_network_go", let_go),
        case("another_node_has_the_addresses", elsewhere),
        case("unused_networks_are_pruned", pruned),
        case("strangers_keep_a_network_where_they_are", strangers),
        case("compose_brings_up_a_project_with_networks", compose),
        case("projects_with_networks_are_on_several_nodes", projects),
        case("services_without_a_common_network_share_a_node", apart),
        case("networks_are_the_same_after_a_restart", restarted),
        case("joining_a_network_that_is_there_costs_nothing", costs),
    ]
}

/// The networks that an engine has beside the builtin ones.
fn on_engine(host: &Host) -> Result<String> {
    host.docker(&[
        "network",
        "ls",
        "--filter",
        "type=custom",
        "--format",
        "{{.Name}}",
    ])
}

/// The names of the hosts whose engines have this network.
pub(crate) fn holders(lab: &Lab, name: &str) -> Result<Vec<String>> {
    let mut holders = Vec::new();
    for host in lab.hosts() {
        if on_engine(host)?.lines().any(|line| line == name) {
            holders.push(host.name().to_owned());
        }
    }
    Ok(holders)
}

pub(crate) fn comes_to_hold(lab: &Lab, name: &str, expected: &[&str]) -> Result<()> {
    let what = format!("{name} to be on {expected:?}");
    wait::until_true(&what, SOON, || Ok(holders(lab, name)? == expected))
}

fn nothing_is_left(lab: &Lab) -> Result<()> {
    for host in lab.hosts() {
        let left = on_engine(host)?;
        ensure!(left.is_empty(), "{} has networks: {left}", host.name());
    }
    Ok(())
}

pub(crate) fn comes_to_nothing(lab: &Lab) -> Result<()> {
    wait::until_true("no network to be left", SOON, || {
        Ok(nothing_is_left(lab).is_ok())
    })
    .or_else(|error| nothing_is_left(lab).and(Err(error)))
}

fn nowhere(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let id = pool.ok("network create -d bridge --label a=b --subnet 10.177.0.0/24 front")?;
    ensure!(id.len() == 64, "{id}");
    nothing_is_left(lab)?;
    pool.says("network ls -q --no-trunc --filter name=front", &id)?;
    pool.says("network ls -q --no-trunc --filter label=a=b", &id)?;
    pool.says("network ls -q --no-trunc --filter dangling=true", &id)?;
    pool.says(
        "network ls -q --filter dangling=false --filter type=custom",
        "",
    )?;
    for reference in ["front", &id, &id[..12]] {
        let shown = pool.inspect(reference)?;
        ensure!(shown["Id"] == *id && shown["Name"] == "front", "{shown}");
        ensure!(
            shown["Driver"] == "bridge" && shown["Scope"] == "local",
            "{shown}"
        );
        ensure!(shown["Labels"]["a"] == "b", "{shown}");
        ensure!(
            shown["IPAM"]["Config"][0]["Subnet"] == "10.177.0.0/24",
            "{shown}"
        );
        ensure!(shown["Containers"] == serde_json::json!({}), "{shown}");
    }
    pool.refuses(
        "network create front",
        "network with name front already exists",
    )?;
    pool.says("network rm front", "front")?;
    pool.refuses("network inspect front", "network front not found")?;
    pool.ok("network create front").map(drop)
}

fn bad(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for body in [
        "",
        "{",
        "{}",
        "[]",
        r#"{"Name":" "}"#,
        r#"{"Name":1}"#,
        r#"{"Name":"bridge","Driver":"bridge"}"#,
        r#"{"Name":"host"}"#,
        r#"{"Name":"none"}"#,
        r#"{"Name":"x","Driver":"host"}"#,
        r#"{"Name":"x","Driver":"nosuch"}"#,
        r#"{"Name":"x","Labels":{"a":1}}"#,
        r#"{"Name":"x","Scope":"swarm"}"#,
        r#"{"Name":"x","Ingress":true}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"nonsense"}]}}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.1/24","Gateway":"10.8.0.1"}]}}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","Gateway":"x"}]}}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","IPRange":"x"}]}}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Gateway":"10.9.0.1"}]}}"#,
        r#"{"Name":"x","IPAM":{"Config":[{}]}}"#,
        r#"{"Name":"x","EnableIPv4":false}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.0/24"},{"Subnet":"10.8.0.0/24"}]}}"#,
        r#"{"Name":"x","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00:1::/64"},{"Subnet":"fd00:2::/64"}]}}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","AuxiliaryAddresses":{"y":"10.8.0.1"}}]}}"#,
        r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","AuxiliaryAddresses":{"y":"z"}}]}}"#,
        r#"{"Name":"x","Options":{"com.docker.network.driver.mtu":"abc"}}"#,
        r#"{"Name":"x","Options":{"com.docker.network.driver.mtu":"-1"}}"#,
        r#"{"Name":"x","Options":{"com.docker.network.bridge.enable_icc":"notbool"}}"#,
        r#"{"Name":"x","Options":{"com.docker.network.bridge.gateway_mode_ipv4":"foo"}}"#,
        r#"{"Name":"x","Options":{"com.docker.network.bridge.host_binding_ipv4":"foo"}}"#,
        r#"{"Name":"x","Options":{"com.docker.network.enable_ipv6":"foo"}}"#,
        r#"{"Name":"x","Driver":"macvlan","Options":{"macvlan_mode":"foo"}}"#,
        r#"{"Name":"x","Driver":"ipvlan","Options":{"ipvlan_mode":"foo"}}"#,
        r#"{"Name":"x","Driver":"ipvlan","Options":{"ipvlan_flag":"foo"}}"#,
    ] {
        let ours = pool.ask("POST", "/networks/create", body.as_bytes())?;
        let theirs = wire::ask(
            &lab.host(0).tcp(),
            "POST",
            "/networks/create",
            body.as_bytes(),
        )?;
        let (ours, theirs) = ((ours.status, ours.text()), (theirs.status, theirs.text()));
        ensure!(
            ours.0 >= 400 && ours.0 == theirs.0 && ours.1.trim() == theirs.1.trim(),
            "{body}: {ours:?}, an engine: {theirs:?}"
        );
    }
    pool.says("network ls -q --filter type=custom", "")?;
    pool.refuses(
        "network create -d overlay x",
        "until then use the driver bridge",
    )?;
    pool.refuses(
        "network create --config-only host1/x",
        "configuration networks are not supported on a cluster endpoint",
    )?;
    // A bridge with the subnet of its host would cut that off.
    let endpoint = lab.host(1).tcp();
    let address = endpoint.trim_start_matches("tcp://");
    let address = address.split(':').next().unwrap_or_default();
    for name in ["x", "host1/x"] {
        pool.refuses(
            &format!("network create --subnet {address}/32 {name}"),
            &format!("holds {address}, the address of node host2"),
        )?;
    }
    // Only the engine of its node can know.
    pool.ok("network create --subnet 10.178.0.0/24 one")?;
    pool.ok("network create --subnet 10.178.0.0/24 two")?;
    pool.ok("run -d --name=c1 --network one -e constraint:node==host1 busybox sleep 600")?;
    pool.refuses(
        "run -d --name=c2 --network two -e constraint:node==host1 busybox sleep 600",
        "network two cannot be made on node host1: ",
    )?;
    pool.ok("run -d --name=c2 --network two -e constraint:node!=host1 busybox sleep 600")?;
    // A name that engines have already is taken, and so is one that is made on the side.
    lab.host(2).docker(&["network", "create", "theirs"])?;
    pool.comes_to_say(
        "network ls -q --filter name=theirs --format {{.Name}}",
        "theirs",
        SOON,
    )?;
    pool.refuses(
        "network create theirs",
        "network with name theirs already exists",
    )
}

fn joined(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let id = pool.ok("network create front")?;
    let since = pool.ok("info -f {{.SystemTime}}")?;
    pool.ok("run -d --name=web --network front --network-alias www busybox sleep 600")?;
    let node = pool.node_of("web")?;
    for (name, reference) in [("a1", "front"), ("a2", &*id), ("a3", &id[..10])] {
        pool.ok(&format!(
            "run -d --name={name} --network {reference} busybox sleep 600"
        ))?;
        ensure!(pool.node_of(name)? == node, "{name} is on another node");
        pool.ok(&format!("exec {name} ping -c 1 -W 5 www"))?;
        let shown = pool.inspect(name)?;
        ensure!(shown["HostConfig"]["NetworkMode"] == "front", "{shown}");
        ensure!(
            shown["NetworkSettings"]["Networks"]["front"]["NetworkID"] == *id,
            "{shown}"
        );
    }
    ensure!(
        holders(lab, "front")? == [node.clone()],
        "{:?}",
        holders(lab, "front")?
    );
    pool.says(&format!("network ls -q --no-trunc --filter id={id}"), &id)?;
    let shown = pool.inspect("front")?;
    ensure!(
        shown["Id"] == *id && shown["Labels"] == serde_json::json!({}),
        "{shown}"
    );
    let there = shown["Containers"].as_object().map(serde_json::Map::len);
    ensure!(there == Some(4), "{shown}");
    for filter in ["front", &*id, &id[..12]] {
        let names = pool.ok(&format!(
            "ps --filter network={filter} --format {{{{.Names}}}}"
        ))?;
        ensure!(names.lines().count() == 4, "{filter}: {names}");
    }
    let list = pool.ask("GET", "/containers/json", b"")?.json()?;
    let ids = list.as_array().into_iter().flatten();
    for item in ids {
        ensure!(
            item["NetworkSettings"]["Networks"]["front"]["NetworkID"] == *id,
            "{item}"
        );
    }
    let events = pool.ok(&format!(
        "events --since {since} --until {} --filter type=network --filter network={id} --format {{{{.Action}}}}",
        now()
    ))?;
    ensure!(
        events == "create\nconnect\nconnect\nconnect\nconnect",
        "{events}"
    );
    let all = pool.ok(&format!(
        "events --since {since} --until {} --filter type=network --format {{{{.Actor.ID}}}}",
        now()
    ))?;
    ensure!(all.lines().all(|actor| actor == id), "{all}");
    pool.refuses(
        "run -d --network front -e constraint:node!=HERE busybox true"
            .replace("HERE", &node)
            .as_str(),
        &format!("network front, which is on {node}"),
    )
}

fn leaves(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let id = pool.ok("network create front")?;
    pool.ok("run -d --name=web --network front -e constraint:node==host1 busybox sleep 600")?;
    pool.ok("create --name=made --network front busybox true")?;
    ensure!(
        holders(lab, "front")? == ["host1"],
        "{:?}",
        holders(lab, "front")?
    );
    // One that does not run keeps it.
    pool.ok("rm -f web")?;
    pool.ok("start made")?;
    pool.ok("rm -f made")?;
    comes_to_nothing(lab)?;
    pool.says("network ls -q --no-trunc --filter name=front", &id)?;
    pool.ok("run -d --name=web --network front -e constraint:node==host2 busybox sleep 600")?;
    ensure!(
        holders(lab, "front")? == ["host2"],
        "{:?}",
        holders(lab, "front")?
    );
    pool.says(
        "inspect -f {{.NetworkSettings.Networks.front.NetworkID}} web",
        &id,
    )?;
    pool.ok("rm -f web")?;
    pool.ok("network rm front")?;
    nothing_is_left(lab)?;
    // One that removes itself too.
    pool.ok("network create front")?;
    for _ in 0..3 {
        pool.ok("run --rm --network front busybox true")?;
    }
    pool.ok("network rm front")?;
    nothing_is_left(lab)
}

fn pinned(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let id = pool.ok("network create host2/where")?;
    ensure!(
        holders(lab, "where")? == ["host2"],
        "{:?}",
        holders(lab, "where")?
    );
    pool.says("network inspect -f {{.Name}} where", "where")?;
    pool.says("network inspect -f {{.Id}} host2/where", &id)?;
    pool.says(
        "network ls -q --no-trunc --filter node=host2 --filter type=custom",
        &id,
    )?;
    pool.says("network ls -q --filter node=host1 --filter type=custom", "")?;
    pool.ok("run -d --name=c1 --network where busybox sleep 600")?;
    pool.ok("run -d --name=c2 --network host2/where busybox sleep 600")?;
    ensure!(
        pool.node_of("c1")? == "host2" && pool.node_of("c2")? == "host2",
        "elsewhere"
    );
    pool.refuses(
        "run -d --network where -e constraint:node==host1 busybox true",
        "network where, which is on host2",
    )?;
    pool.ok("rm -f c1 c2")?;
    ensure!(
        holders(lab, "where")? == ["host2"],
        "{:?}",
        holders(lab, "where")?
    );
    pool.refuses(
        "network create host1/where",
        "network with name where already exists",
    )?;
    // What the engine of a given node refuses is refused at once, and leaves no record.
    pool.ok("network create --subnet 10.181.0.0/24 host1/one")?;
    pool.refuses(
        "network create --subnet 10.181.0.0/24 host1/two",
        "network two cannot be made on node host1: ",
    )?;
    pool.says("network ls -q --filter name=two", "")?;
    pool.ok("network rm one")?;
    pool.ok("network rm where")?;
    nothing_is_left(lab)
}

fn connected(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for node in ["host1", "host2"] {
        pool.ok(&format!(
            "run -d --name=on-{node} -e constraint:node=={node} busybox sleep 600"
        ))?;
    }
    let id = pool.ok("network create --subnet 10.179.0.0/24 front")?;
    pool.ok("network connect --alias it --ip 10.179.0.9 front on-host1")?;
    ensure!(
        holders(lab, "front")? == ["host1"],
        "{:?}",
        holders(lab, "front")?
    );
    let shown = pool.inspect("on-host1")?;
    let endpoint = &shown["NetworkSettings"]["Networks"]["front"];
    ensure!(
        endpoint["NetworkID"] == *id && endpoint["IPAddress"] == "10.179.0.9",
        "{endpoint}"
    );
    pool.ok("run --rm --network front busybox ping -c 1 -W 5 it")?;
    pool.refuses(
        "network connect front on-host2",
        "network front is on node host1, not on node host2",
    )?;
    pool.refuses("network connect front nosuch", "No such container: nosuch")?;
    pool.refuses(
        "network connect nosuch on-host1",
        "network nosuch not found",
    )?;
    pool.refuses("network rm front", "has active endpoints")?;
    // An engine says so too, and nothing changes.
    pool.refuses(
        "network connect front on-host1",
        "already exists in network",
    )?;
    for force in ["", "-f "] {
        pool.refuses(
            &format!("network disconnect {force}front on-host2"),
            "is not connected to",
        )?;
    }
    // What has left is not connected, whether its node still has the network or not.
    pool.ok("network disconnect front on-host1")?;
    let apart = format!(
        "container {} is not connected to network front",
        pool.inspect("on-host1")?["Id"].as_str().unwrap_or_default()
    );
    for _ in 0..3 {
        pool.refuses("network disconnect front on-host1", &apart)?;
        pool.refuses("network disconnect -f front on-host1", &apart)?;
    }
    comes_to_nothing(lab)?;
    pool.refuses(
        "network disconnect -f front nosuch",
        "endpoint nosuch not found",
    )?;
    pool.says(
        "inspect -f '{{len .NetworkSettings.Networks}}' on-host1",
        "1",
    )?;
    // It is nowhere again, and so free for the other one, running or not.
    pool.ok("stop -t 0 on-host2")?;
    pool.ok(&format!("network connect {} on-host2", &id[..12]))?;
    ensure!(
        holders(lab, "front")? == ["host2"],
        "{:?}",
        holders(lab, "front")?
    );
    pool.ok("start on-host2")?;
    pool.says(
        "inspect -f {{.NetworkSettings.Networks.front.NetworkID}} on-host2",
        &id,
    )?;
    pool.ok("rm -f on-host2")?;
    comes_to_nothing(lab)?;
    pool.ok("network rm front").map(drop)
}

fn in_use(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("network create front")?;
    let id = pool.ok("run -d --name=web --network front busybox sleep 600")?;
    pool.refuses(
        "network rm front",
        &format!(
            "network front has active endpoints (name:\"web\" id:\"{}\")",
            &id[..12]
        ),
    )?;
    let answer = pool.ask("DELETE", "/networks/front", b"")?;
    ensure!(answer.status == 403, "{answer:?}");
    pool.refuses(
        "network rm bridge",
        "bridge is a pre-defined network and cannot be removed",
    )?;
    // Removed behind our back, a moment ago.
    let host = lab.host_named(&pool.node_of("web")?)?;
    host.docker(&["rm", "-f", "web"])?;
    pool.ok("network rm front")?;
    nothing_is_left(lab)
}

/// As on one engine: what does not run keeps no network, and cannot start without it.
fn let_go(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for remove in ["network rm front", "network prune -f"] {
        let id = pool.ok("network create front")?;
        pool.ok("create --name=made --network front busybox sleep 600")?;
        pool.ok("run -d --name=ended --network front busybox true")?;
        pool.comes_to_say("inspect -f {{.State.Status}} ended", "exited", SOON)?;
        pool.ok(remove)?;
        pool.says("network ls -q --filter type=custom", "")?;
        nothing_is_left(lab)?;
        for name in ["made", "ended"] {
            pool.refuses(&format!("start {name}"), "not found")?;
        }
        // The next one of that name is another network, and nothing is in its way.
        pool.ok("network create front")?;
        let node = pool.node_of("ended")?;
        pool.ok(&format!(
            "run -d --name=web --network front -e constraint:node=={node} busybox sleep 600"
        ))?;
        pool.says("ps --filter network=front --format {{.Names}}", "web")?;
        // It is told of by the id that clients knew it by.
        let gone = format!("network {id} not found");
        pool.refuses("start ended", &gone)?;
        contains(&pool.ok("inspect -f {{.State.Error}} ended")?, &gone)?;
        pool.ok("rm -f web made ended")?;
        pool.ok("network rm front")?;
    }
    nothing_is_left(lab)
}

fn elsewhere(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let takes = |host: &Host| {
        host.docker(&["network", "create", "--subnet", "10.183.0.0/24", "taken"])
            .map(drop)
    };
    takes(lab.host(0))?;
    takes(lab.host(1))?;
    pool.ok("network create --subnet 10.183.0.0/24 front")?;
    pool.ok("run -d --name=c1 --network front busybox sleep 600")?;
    ensure!(pool.node_of("c1")? == "host3", "{}", pool.node_of("c1")?);
    pool.ok("rm -f c1")?;
    comes_to_hold(lab, "front", &[])?;
    // Where it is bound to a node, that one says why, and so does each where none can make it.
    let said = |host: usize| {
        format!(
            "node host{host}: invalid pool request: Pool overlaps with other one on this address space"
        )
    };
    let run = "run -d --network front";
    pool.refuses(
        &format!("{run} -e constraint:node==host2 busybox true"),
        &format!("network front cannot be made on {}", said(2)),
    )?;
    takes(lab.host(2))?;
    for host in 1..=3 {
        pool.refuses(&format!("{run} busybox true"), &said(host))?;
    }
    pool.says("ps -aq", "")
}

fn pruned(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for name in ["a", "b", "c"] {
        pool.ok(&format!("network create --label n={name} net-{name}"))?;
    }
    pool.ok("run -d --name=web --network net-a busybox sleep 600")?;
    lab.host(0).docker(&["network", "create", "theirs"])?;
    pool.comes_to_say(
        "network ls --filter name=theirs --format {{.Name}}",
        "theirs",
        SOON,
    )?;
    contains(&pool.ok("network prune -f --filter label=n=b")?, "net-b")?;
    pool.says("network ls --filter name=net-b --format {{.Name}}", "")?;
    let said = pool.ok("network prune -f")?;
    ensure!(
        said.contains("net-c") && said.contains("theirs") && !said.contains("net-a"),
        "{said}"
    );
    pool.says(
        "network ls --filter type=custom --format {{.Name}}",
        "net-a",
    )?;
    pool.ok("stop -t 0 web")?;
    contains(&pool.ok("system prune -f")?, "net-a")?;
    comes_to_nothing(lab)
}

fn strangers(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    lab.host(1)
        .docker(&["run", "-d", "--name=theirs", "busybox", "sleep", "600"])?;
    pool.comes_to_say("ps --format {{.Names}}", "theirs", SOON)?;
    let id = pool.ok("network create front")?;
    pool.ok("network connect front theirs")?;
    pool.says(
        "inspect -f {{.NetworkSettings.Networks.front.NetworkID}} theirs",
        &id,
    )?;
    pool.ok("run -d --name=ours --network front busybox sleep 600")?;
    ensure!(pool.node_of("ours")? == "host2", "it is elsewhere");
    pool.ok("exec ours ping -c 1 -W 5 theirs")?;
    pool.ok("rm -f ours")?;
    ensure!(
        holders(lab, "front")? == ["host2"],
        "{:?}",
        holders(lab, "front")?
    );
    pool.refuses("network rm front", "has active endpoints (name:\"theirs\"")?;
    lab.host(1).docker(&["rm", "-f", "theirs"])?;
    comes_to_nothing(lab)?;
    pool.ok("network rm front").map(drop)
}

const PROJECT: &str = "
services:
  web:
    image: busybox
    command: sleep 600
    stop_signal: KILL
    depends_on: {db: {condition: service_healthy}}
    networks: {default: {}, front: {aliases: [www]}}
  db:
    image: busybox
    command: sleep 600
    stop_signal: KILL
    healthcheck: {test: 'true', interval: 1s}
    networks: [default, back]
  edge:
    image: busybox
    command: sleep 600
    stop_signal: KILL
    networks: [front]
networks:
  front: {}
  back: {driver: bridge, labels: {kind: inner}}
";

fn compose(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let project = Project::new(&pool, "shop", PROJECT)?;
    project.ok("up -d")?;
    let node = project.node()?;
    let first = project.containers()?;
    ensure!(first.len() == 3, "{first:?}");
    for name in ["shop_default", "shop_front", "shop_back"] {
        ensure!(
            holders(lab, name)? == [node.clone()],
            "{name}: {:?}",
            holders(lab, name)?
        );
    }
    for (from, to) in [("edge", "www"), ("web", "db"), ("web", "edge")] {
        project.ok(&format!("exec -T {from} ping -c 1 -W 5 {to}"))?;
    }
    project.is_up_to_date()?;
    project.ok("up -d --scale edge=3 --scale web=2")?;
    ensure!(
        project.containers()?.len() == 6,
        "{:?}",
        project.containers()?
    );
    ensure!(project.node()? == node, "it moved");
    project.ok("up -d --scale edge=1")?;
    // Changed, a service is recreated where it was.
    project.write(
        "compose.yaml",
        &PROJECT.replace("aliases: [www]", "aliases: [www, other]"),
    )?;
    project.ok("up -d")?;
    ensure!(project.node()? == node, "it moved");
    project.ok("exec -T edge ping -c 1 -W 5 other")?;
    project.ok("restart")?;
    project.ok("exec -T edge ping -c 1 -W 5 other")?;
    project.ok("down")?;
    nothing_is_left(lab)?;
    pool.says("network ls -q --filter type=custom", "")?;
    pool.says("ps -aq", "")
}

fn projects(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let names = ["one", "two", "three"];
    let projects: Vec<_> = names
        .iter()
        .map(|name| Project::new(&pool, name, PROJECT))
        .collect::<Result<_>>()?;
    // All at once.
    std::thread::scope(|scope| {
        let up: Vec<_> = projects
            .iter()
            .map(|project| scope.spawn(|| project.ok("up -d")))
            .collect();
        let mut ended = up.into_iter().map(|up| up.join().expect("no panic"));
        ended.try_for_each(|up| up.map(drop))
    })?;
    let mut nodes: Vec<_> = projects.iter().map(Project::node).collect::<Result<_>>()?;
    nodes.sort();
    nodes.dedup();
    ensure!(nodes.len() > 1, "all are on {nodes:?}");
    for project in &projects {
        project.ok("exec -T web ping -c 1 -W 5 db")?;
    }
    for project in &projects {
        project.ok("down")?;
    }
    nothing_is_left(lab)
}

/// Two services that share no network, and a third one that joins both of theirs.
fn apart(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let file = "
services:
  left: {image: busybox, command: sleep 600, stop_signal: KILL, networks: [a]}
  right: {image: busybox, command: sleep 600, stop_signal: KILL, networks: [b]}
  both:
    image: busybox
    command: sleep 600
    stop_signal: KILL
    depends_on: [left, right]
    networks: [a, b]
networks: {a: {}, b: {}}
";
    let project = Project::new(&pool, "apart", file)?;
    project.ok("up -d")?;
    project.node()?;
    for service in ["left", "right"] {
        project.ok(&format!("exec -T both ping -c 1 -W 5 {service}"))?;
    }
    project.ok("down")?;
    nothing_is_left(lab)
}

fn restarted(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    let front = pool.ok("network create front")?;
    let back = pool.ok("network create back")?;
    pool.ok("run -d --name=web --network front busybox sleep 600")?;
    let format = "network ls --no-trunc --filter type=custom --format '{{.ID}} {{.Name}}'";
    let before = pool.ok(format)?;
    let node = pool.node_of("web")?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    pool.says(format, &before)?;
    contains(&before, &format!("{front} front"))?;
    contains(&before, &format!("{back} back"))?;
    pool.says(
        "inspect -f {{.NetworkSettings.Networks.front.NetworkID}} web",
        &front,
    )?;
    pool.ok("run -d --name=other --network front busybox sleep 600")?;
    ensure!(pool.node_of("other")? == node, "it is on another node");
    let shown: Value = pool.inspect("front")?;
    ensure!(
        shown["Containers"].as_object().map(serde_json::Map::len) == Some(2),
        "{shown}"
    );
    pool.ok("rm -f web other")?;
    pool.ok("network rm front back")?;
    nothing_is_left(lab)
}

fn costs(lab: &Lab) -> Result<()> {
    let counters: Vec<_> = lab
        .hosts()
        .iter()
        .map(|host| Counter::before(&host.tcp()))
        .collect::<Result<_>>()?;
    let engines: Vec<_> = counters.iter().map(Counter::endpoint).collect();
    let pool = Pool::of(&engines, &[])?;
    pool.ok("network create front")?;
    pool.ok("run -d --name=first --network front busybox sleep 600")?;
    let quiet = || {
        let mut last = std::time::Instant::now();
        wait::until_true("the engines to be left alone", SOON, || {
            if counters.iter().any(|counter| !counter.take().is_empty()) {
                last = std::time::Instant::now();
            }
            Ok(last.elapsed() > Duration::from_millis(400))
        })
    };
    quiet()?;
    let body = br#"{"Image":"busybox","Cmd":["sleep","600"],"HostConfig":{"NetworkMode":"front"}}"#;
    let made = pool.ask("POST", "/containers/create?name=second", body)?;
    ensure!(made.status == 201, "{made:?}");
    let started = pool.ask("POST", "/containers/second/start", b"")?;
    ensure!(started.status == 204, "{started:?}");
    std::thread::sleep(Duration::from_millis(400));
    let asked: Vec<String> = counters.iter().flat_map(Counter::take).collect();
    ensure!(asked.len() == 4, "{asked:?}");
    ensure!(
        !asked.iter().any(|request| request.contains("/networks")),
        "{asked:?}"
    );
    pool.ok("rm -f first second")?;
    pool.ok("network rm front")?;
    nothing_is_left(lab)
}

fn behind_our_back(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for host in lab.hosts() {
        host.docker(&["network", "create", "theirs"])?;
    }
    for (number, host) in lab.hosts().iter().enumerate() {
        let reference = format!("{}/theirs", host.name());
        let name = format!("it-{number}");
        wait::until_true("the network to be seen", SOON, || {
            Ok(pool.run(&format!("network inspect {reference}"))?.code == 0)
        })?;
        pool.ok(&format!(
            "run -d --name={name} --network={reference} busybox sleep 600"
        ))?;
        let node = pool.node_of(&name)?;
        ensure!(node == host.name(), "{name} is on {node}");
        let joined = pool.ok(&format!(
            "inspect -f '{{{{range $name, $_ := .NetworkSettings.Networks}}}}{{{{$name}}}}{{{{end}}}}' {name}"
        ))?;
        ensure!(joined == "theirs", "{name} joins {joined}");
        pool.ok(&format!("network disconnect {reference} {name}"))?;
        pool.ok(&format!("rm -f {name}"))?;
        pool.ok(&format!("network rm {reference}"))?;
    }
    Ok(())
}
