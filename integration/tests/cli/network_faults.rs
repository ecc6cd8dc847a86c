//! Networks whose node is lost, and managers and engines that are killed while they are changed.

use std::time::Duration;

use anyhow::{Result, ensure};
use integration::counter::Moment;
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;
use integration::{wait, wire};

use crate::image_faults::{is_back, killed_at};
use crate::networks::{comes_to_hold, comes_to_nothing, holders};
use crate::{SOON, contains};

/// What asks no engine answers within so long.
const NO_WAIT: Duration = Duration::from_secs(3);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("networks_of_a_lost_node_go_when_it_is_back", lost),
        case(
            "a_container_of_a_lost_node_is_cut_off_when_it_is_back",
            cut_off_later,
        ),
        case(
            "a_node_killed_during_a_disconnect_does_it_later",
            killed_in_disconnect,
        ),
        case(
            "a_connect_that_a_hung_node_does_late_is_no_surprise",
            connected_late,
        ),
        case(
            "a_network_made_again_after_a_hang_is_no_strangers",
            made_again,
        ),
        case(
            "a_node_that_hangs_at_a_network_is_replaced",
            hung_at_network,
        ),
        case(
            "a_subnet_silences_one_node_and_no_other",
            silenced_by_subnet,
        ),
        case("a_node_killed_at_a_network_is_replaced", killed_at_network),
        case(
            "a_network_stays_bound_to_a_node_that_is_not_heard_of",
            unheard_of,
        ),
        case(
            "a_manager_killed_while_networks_are_made_leaves_nothing",
            killed,
        ),
    ]
}

fn lost(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    pool.ok("network create front")?;
    pool.ok("run -d --name=web --network front -e constraint:node==host2 busybox sleep 600")?;
    host.cut()?;
    wait::until_true("the loss to be noticed", SOON, || {
        let status = pool.ok("ps -a --filter name=web --format {{.Status}}")?;
        Ok(status.starts_with("Host Down"))
    })?;
    pool.refuses(
        "run -d --network front busybox true",
        "network front, which is on host2",
    )?;
    pool.refuses("network inspect front", "host2")?;
    pool.refuses("network rm front", "network front has active endpoints")?;
    pool.ok("rm -f web")?;
    // It is free to go elsewhere, and to be removed, before the node is back.
    pool.ok("run -d --name=web --network front busybox sleep 600")?;
    ensure!(pool.node_of("web")? != "host2", "it is on a lost node");
    pool.ok("rm -f web")?;
    pool.ok("network rm front")?;
    pool.ok("network create front")?;
    host.heal()?;
    pool.wait_until_ready(3)?;
    comes_to_nothing(lab)?;
    pool.says(
        "network ls --filter type=custom --format {{.Name}}",
        "front",
    )?;
    pool.ok("run -d --name=web --network front -e constraint:node==host2 busybox sleep 600")?;
    ensure!(
        holders(lab, "front")? == ["host2"],
        "{:?}",
        holders(lab, "front")?
    );
    pool.ok("rm -f web")?;
    pool.ok("network rm front")?;
    comes_to_nothing(lab)
}

fn until_lost(pool: &Pool, container: &str) -> Result<()> {
    wait::until_true("the loss to be noticed", SOON, || {
        let status = pool.ok(&format!(
            "ps -a --filter name={container} --format {{{{.Status}}}}"
        ))?;
        Ok(status.starts_with("Host Down"))
    })
}

fn cut_off_later(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    let host = lab.host(1);
    let networks_of = |name: &str| {
        let format = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
        host.docker(&["inspect", "-f", format, name])
    };
    for name in ["front", "back", "kept"] {
        pool.ok(&format!("network create {name}"))?;
    }
    pool.ok("run -d --name=web --restart=always --network kept -e constraint:node==host2 busybox sleep 600")?;
    for network in ["front", "back"] {
        pool.ok(&format!("network connect {network} web"))?;
    }
    pool.ok("create --name=made --network front busybox true")?;
    host.power_off()?;
    until_lost(&pool, "web")?;
    let said = pool.refusal("network disconnect front web")?;
    contains(&said, "node host2 is not reachable")?;
    contains(&said, "with force (-f) it is cut off when the node is back")?;
    contains(
        &pool.refusal("network disconnect -f bridge web")?,
        "only from networks of the cluster can it be cut off later",
    )?;
    for name in ["web", "made"] {
        let done = pool.run(&format!("network disconnect -f front {name}"))?;
        ensure!(done.code == 0 && done.took < NO_WAIT, "{done:?}");
        let again = format!("network disconnect -f front {name}");
        pool.refuses(&again, "is not connected to network front")?;
    }
    pool.says("ps -aq --filter network=front", "")?;
    pool.says("ps -a --filter network=kept --format {{.Names}}", "web")?;
    pool.says("network inspect -f {{.Containers}} front", "map[]")?;
    pool.says(
        "network ls --filter dangling=true --filter name=front --format {{.Name}}",
        "front",
    )?;
    // Free for others, and to go.
    pool.ok("run -d --name=next --network front -e constraint:node==host1 busybox sleep 600")?;
    pool.ok("rm -f next")?;
    pool.ok("network rm front")?;
    pool.refuses("network rm back", "network back has active endpoints")?;
    // What was put off is still known to a manager that is started anew, which has never seen the container.
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.ok("network disconnect -f back web")?;
    pool.ok("run -d --name=next --network back -e constraint:node==host1 busybox sleep 600")?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    host.power_on()?;
    pool.wait_until_ready(3)?;
    wait::until_true("the node to take work", SOON, || {
        let made = pool.run("create --name=more -e constraint:node==host2 busybox true")?;
        Ok(made.code == 0)
    })?;
    // Before that it is done.
    ensure!(networks_of("web")? == "kept", "{}", networks_of("web")?);
    ensure!(networks_of("made")?.is_empty(), "{}", networks_of("made")?);
    pool.says("ps -a --filter network=back --format {{.Names}}", "next")?;
    pool.says("ps -a --filter network=kept --format {{.Names}}", "web")?;
    wait::until_true("what is left over to go", SOON, || {
        let front = holders(lab, "front")?;
        Ok(front.is_empty() && holders(lab, "back")? == ["host1"])
    })?;
    pool.ok("rm -f next")?;
    pool.ok("network connect back web")?;
    ensure!(
        networks_of("web")? == "back kept",
        "{}",
        networks_of("web")?
    );
    pool.ok("rm -f web made more")?;
    pool.ok("network rm back kept")?;
    comes_to_nothing(lab)
}

fn connected_late(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    pool.ok("network create front")?;
    pool.ok("run -d --name=web --network front -e constraint:node==host2 busybox sleep 600")?;
    pool.ok("run -d --name=db -e constraint:node==host2 busybox sleep 600")?;
    host.hang()?;
    // The engine has got it, and does it once it goes on.
    pool.refuses("network connect front db", "node host2 is not reachable")?;
    pool.ok("network disconnect -f front web")?;
    pool.refuses("network rm front", "network front has active endpoints")?;
    pool.says("network prune -f", "")?;
    pool.ok("network disconnect -f front db")?;
    pool.ok("network rm front")?;
    host.resume()?;
    pool.wait_until_ready(3)?;
    comes_to_nothing(lab)?;
    pool.says("ps --filter name=db --format {{.Networks}}", "bridge")?;
    pool.ok("network create front")?;
    pool.ok("run -d --name=next --network front -e constraint:node==host2 busybox sleep 600")?;
    ensure!(
        holders(lab, "front")? == ["host2"],
        "{:?}",
        holders(lab, "front")?
    );
    pool.ok("rm -f next web db")?;
    pool.ok("network rm front")?;
    comes_to_nothing(lab)
}

fn made_again(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    let there = "-e constraint:node==host2 --network front busybox";
    // What the hung engine was asked it does once it goes on, and takes its time.
    let removed_in_hang = || {
        pool.ok("network create front")?;
        pool.ok(&format!(
            "run -d --name=web --stop-timeout 0 {there} sleep 600"
        ))?;
        host.hang()?;
        pool.ok("rm -f web").map(drop)
    };
    let is_used_and_goes = || {
        wait::until_true("the node to take work", SOON, || {
            let made = pool.run(&format!("run -d --name=web {there} sleep 600"))?;
            let not_yet = ["host2 is down", "host2 is still being counted"];
            let is_early = not_yet.iter().any(|why| made.stderr.contains(why));
            ensure!(made.code == 0 || is_early, "{made:?}");
            Ok(made.code == 0)
        })?;
        ensure!(
            holders(lab, "front")? == ["host2"],
            "{:?}",
            holders(lab, "front")?
        );
        pool.ok("rm -f web")?;
        pool.ok("network rm front")?;
        comes_to_nothing(lab)
    };
    for _ in 0..3 {
        removed_in_hang()?;
        host.resume()?;
        pool.wait_until_ready(3)?;
        pool.ok("network rm front")?;
        pool.ok("network create front")?;
        is_used_and_goes()?;
    }
    // Nor if it is made before the node takes work.
    removed_in_hang()?;
    pool.ok("network rm front")?;
    host.resume()?;
    wait::until_true("the node to be reachable", SOON, || {
        let made = pool.run("network create host2/front")?;
        ensure!(
            made.code == 0 || made.stderr.contains("node host2 is not reachable"),
            "{made:?}"
        );
        Ok(made.code == 0)
    })?;
    pool.wait_until_ready(3)?;
    is_used_and_goes()
}

/// A container that goes to host2 if that can take it.
const RATHER_THERE: &str =
    "run -d --name=web --network front -e constraint:node==~host2 busybox sleep 600";

fn hung_at_network(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    pool.ok("run -d --name=db -e constraint:node==host2 busybox sleep 600")?;
    pool.ok("network create front")?;
    host.hang()?;
    pool.ok(RATHER_THERE)?;
    let node = pool.node_of("web")?;
    ensure!(node != "host2", "it is on a hung node");
    host.resume()?;
    // It makes the network too, late; that goes.
    pool.wait_until_ready(3)?;
    comes_to_hold(lab, "front", &[&node])?;
    pool.ok("rm -f web")?;
    comes_to_nothing(lab)?;
    pool.ok("run -d --name=web --network front -e constraint:node==host2 busybox sleep 600")?;
    comes_to_hold(lab, "front", &["host2"])?;
    pool.ok("rm -f web db")?;
    pool.ok("network rm front")?;
    comes_to_nothing(lab)
}

fn silenced_by_subnet(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    pool.ok("run -d --name=db -e constraint:node==host2 busybox sleep 600")?;
    pool.ok("network create --subnet 10.184.0.0/24 front")?;
    let back = || {
        host.resume()?;
        pool.wait_until_ready(3)?;
        comes_to_nothing(lab)
    };
    host.hang()?;
    let said = pool.refusal(RATHER_THERE)?;
    contains(&said, "node host2 is not reachable (last seen ")?;
    contains(
        &said,
        "; it was to make network front, and no other node is asked to, because subnet 10.184.0.0/24 may hold an address that \
         nodes need: if so choose another subnet, else try again",
    )?;
    for other in [lab.host(0), lab.host(2)] {
        let all = other.docker(&["network", "ls", "--format", "{{.Name}}"])?;
        ensure!(!all.contains("front"), "{} was asked too", other.name());
    }
    back()?;
    // Where no other node could be asked, that is no matter.
    for line in [
        "network connect front db",
        "network create --subnet 10.185.0.0/24 host2/back",
    ] {
        host.hang()?;
        let said = pool.refusal(line)?;
        contains(&said, "node host2 is not reachable (last seen ")?;
        ensure!(!said.contains("other node"), "{said}");
        back()?;
    }
    pool.says("network ls -q --filter name=back", "")?;
    pool.ok(RATHER_THERE)?;
    pool.ok("rm -f web db")?;
    pool.ok("network rm front")?;
    comes_to_nothing(lab)
}

fn killed_at_network(lab: &Lab) -> Result<()> {
    let request = "POST /networks/create";
    let (pool, said, dead) = killed_at(lab, Moment::Passed, &[0, 1, 2], request, |pool| {
        pool.ok("network create --subnet 10.184.0.0/24 front")?;
        pool.run("run -d --name=web --network front busybox sleep 600")
    })?;
    said.ok()?;
    let node = pool.node_of("web")?;
    ensure!(node != lab.host(dead).name(), "it is on a dead node");
    is_back(lab, &pool, dead)?;
    comes_to_hold(lab, "front", &[&node])?;
    pool.ok("rm -f web")?;
    pool.ok("network rm front")?;
    comes_to_nothing(lab)
}

fn killed_in_disconnect(lab: &Lab) -> Result<()> {
    let request = "POST /networks/*/disconnect";
    let (pool, said, dead) = killed_at(lab, Moment::Arrived, &[0, 1, 2], request, |pool| {
        pool.ok("network create front")?;
        pool.ok("run -d --name=web --network front busybox sleep 600")?;
        pool.run("network disconnect -f front web")
    })?;
    ensure!(said.took < SOON, "{said:?}");
    said.ok()?;
    pool.says("ps -aq --filter network=front", "")?;
    is_back(lab, &pool, dead)?;
    wait::until_true("the container to be cut off", SOON, || {
        Ok(lab
            .host(dead)
            .docker(&["inspect", "-f", "{{len .NetworkSettings.Networks}}", "web"])?
            == "0")
    })?;
    pool.ok("rm -f web")?;
    pool.ok("network rm front")?;
    comes_to_nothing(lab)
}

fn unheard_of(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    let host = lab.host(1);
    pool.ok("network create front")?;
    pool.ok("tag busybox other:1")?;
    pool.ok(
        "run -d --name=web --network front -v data:/d -e constraint:node==host2 busybox sleep 600",
    )?;
    host.cut()?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    until_lost(&pool, "web")?;
    pool.refuses("stop -t 0 web", "host2")?;
    // What was promised there is known, whatever is not.
    pool.refuses("network inspect front", "node host2 is not reachable")?;
    for filter in ["network=front", "volume=data"] {
        pool.says(
            &format!("ps -a --filter {filter} --format {{{{.Names}}}}"),
            "web",
        )?;
    }
    pool.says("rmi other:1", "Untagged: other:1")?;
    pool.refuses(
        "run -d --network front busybox true",
        "network front, which is on host2",
    )?;
    host.heal()?;
    pool.wait_until_ready(3)?;
    pool.ok("rm -f web")?;
    pool.ok("network rm front")?;
    comes_to_nothing(lab)
}

fn killed(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    for round in 0..4 {
        pool.ok("network create front")?;
        let endpoint = pool.manager.tcp();
        let body =
            br#"{"Image":"busybox","Cmd":["sleep","600"],"HostConfig":{"NetworkMode":"front"}}"#;
        let made = std::thread::scope(|scope| {
            let create =
                scope.spawn(|| wire::ask(&endpoint, "POST", "/containers/create?name=web", body));
            // As soon as an engine has made it, before anybody could note that down; then ever later.
            let seen = wait::until_true("an engine to have it", SOON, || {
                Ok(!holders(lab, "front")?.is_empty())
            });
            std::thread::sleep(Duration::from_millis(round * 40));
            let killed = pool.manager.kill();
            let made = create.join().expect("no panic");
            seen.and(killed).map(|()| made)
        })?;
        pool.manager.start_again()?;
        pool.wait_until_ready(3)?;
        if made.is_ok_and(|answer| answer.status == 201) {
            pool.says("ps -a --format {{.Names}}", "web")?;
        }
        let there = pool.ok("ps -aq")?;
        if there.is_empty() {
            comes_to_nothing(lab)?;
        } else {
            pool.ok("start web")?;
            ensure!(
                holders(lab, "front")?.len() == 1,
                "{:?}",
                holders(lab, "front")?
            );
            pool.ok("rm -f web")?;
            comes_to_nothing(lab)?;
        }
        // Whatever happened, the network can be used and goes.
        pool.ok("run -d --name=next --network front busybox sleep 600")?;
        ensure!(
            holders(lab, "front")?.len() == 1,
            "{:?}",
            holders(lab, "front")?
        );
        pool.ok("rm -f next")?;
        pool.ok("network rm front")?;
        comes_to_nothing(lab)?;
    }
    Ok(())
}
