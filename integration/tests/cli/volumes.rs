//! Volumes of a pool: made where their first container goes, and found there ever after.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::compose::Project;
use integration::harness::{Case, case, number};
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::wait;

use crate::{SOON, contains};

/// So many managers are killed while containers with volumes are made; `VOLUME_KILLS` makes it more.
const VOLUME_KILLS: u64 = 3;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_volume_goes_where_its_first_container_goes", late_bound),
        case("a_volume_is_made_as_it_was_asked_for", as_asked),
        case("a_bad_volume_is_refused_in_an_engines_words", engines_words),
        case("a_volume_may_name_its_node", named_node),
        case("volumes_of_one_name_are_told_apart", twins),
        case("shared_and_per_node_volumes_tie_nobody", on_every_node),
        case("unused_volumes_are_pruned", pruned),
        case("a_volume_on_a_lost_node_has_no_twin", lost_node),
        case(
            "a_volume_is_removed_when_its_node_is_back",
            removed_while_down,
        ),
        case("a_volume_that_a_container_has_from_another_is_in_use", lent),
        case("what_is_removed_on_an_engine_is_forgotten", behind_our_back),
        case("a_killed_manager_remembers_its_volumes", manager_killed),
        case(
            "creates_that_are_cut_off_leave_no_twins",
            killed_during_creates,
        ),
        case("compose_keeps_the_data_of_a_project", compose),
        case("compose_projects_keep_their_volumes_apart", two_projects),
    ]
}

/// The nodes whose engines have a volume of this name.
fn holders(lab: &Lab, name: &str) -> Result<Vec<String>> {
    let mut holders = Vec::new();
    for host in lab.hosts() {
        if host
            .docker(&["volume", "ls", "-q"])?
            .lines()
            .any(|volume| volume == name)
        {
            holders.push(host.name().to_owned());
        }
    }
    Ok(holders)
}

/// Fails unless exactly one engine has the volume; its node.
fn holder(lab: &Lab, name: &str) -> Result<String> {
    let mut found = holders(lab, name)?;
    ensure!(found.len() == 1, "{name} is on {found:?}");
    Ok(found.remove(0))
}

fn nowhere(lab: &Lab, name: &str) -> Result<()> {
    let found = holders(lab, name)?;
    ensure!(found.is_empty(), "{name} is on {found:?}");
    Ok(())
}

const MOUNTPOINT: &str = "volume inspect -f {{.Mountpoint}}";

fn late_bound(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.says("volume create data", "data")?;
    pool.says("volume create data", "data")?;
    pool.says("volume ls -q", "data")?;
    pool.says(&format!("{MOUNTPOINT} data"), "")?;
    pool.says("volume ls -q --filter dangling=true", "data")?;
    pool.says("volume ls -q --filter dangling=false", "")?;
    pool.says("volume ls -q --filter node=host1", "")?;
    nowhere(lab, "data")?;
    let volumes = "system df --format '{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}}'";
    contains(&pool.ok(volumes)?, "Local Volumes 1 0 0B")?;
    contains(
        &pool.ok("system df -v --format '{{json .Volumes}}'")?,
        r#""Name":"data""#,
    )?;
    pool.says("run --rm -v data:/d busybox sh -c 'echo kept >/d/it'", "")?;
    contains(&pool.ok(volumes)?, "Local Volumes 1 0 5B")?;
    let node = holder(lab, "data")?;
    contains(&pool.ok(&format!("{MOUNTPOINT} data"))?, "/data/_data")?;
    pool.says(&format!("volume ls -q --filter node={node}"), "data")?;
    // Nothing mounts it any more, and it still holds.
    for round in 0..3 {
        pool.says("run --rm -v data:/d busybox cat /d/it", "kept")?;
        let by_mount = format!(
            "run --rm --name=m{round} --mount type=volume,src=data,dst=/d busybox cat /d/it"
        );
        pool.says(&by_mount, "kept")?;
    }
    let refusal = pool.refusal(&format!(
        "run --rm -v data:/d -e constraint:node!={node} busybox true"
    ))?;
    contains(
        &refusal,
        &format!("excluded by volume data, which is on {node}"),
    )?;
    pool.ok("create --name=user -v data:/d busybox true")?;
    pool.refuses("volume rm data", "remove data: volume is in use - [")?;
    pool.ok("rm user")?;
    pool.says("volume rm data", "data")?;
    nowhere(lab, "data")?;
    pool.says("volume ls -q", "")?;
    pool.refuses("volume rm data", "get data: no such volume")?;
    pool.says("volume rm -f data", "data")?;
    // One that was only ever named by a container is no different.
    pool.says("run --rm -v named:/d busybox sh -c 'echo kept >/d/it'", "")?;
    pool.says("run --rm -v named:/d busybox cat /d/it", "kept")?;
    holder(lab, "named")?;
    // Nor does one that was never mounted leave anything.
    pool.ok("volume create never")?;
    pool.says("volume rm never named", "never\nnamed")?;
    pool.says("volume ls -q", "")
}

fn as_asked(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("volume create --label a=b -o type=tmpfs -o device=tmpfs -o o=size=1m data")?;
    let shown = "volume inspect -f '{{.Driver}} {{json .Labels}} {{json .Options}}' data";
    let before = pool.ok(shown)?;
    pool.says(
        "volume ls -q --filter label=a=b --filter driver=local",
        "data",
    )?;
    pool.says("volume ls -q --filter label=a=c", "")?;
    // A client sees the same of it before and after it is made.
    pool.ok("run -d --name=it -v data:/d busybox sleep 600")?;
    pool.says(shown, &before)?;
    let node = lab.host_named(&holder(lab, "data")?)?;
    let made = node.docker(&[
        "volume",
        "inspect",
        "-f",
        "{{json .Labels}} {{json .Options}}",
        "data",
    ])?;
    ensure!(
        before == format!("local {made}"),
        "{before} was made as {made}"
    );
    contains(&pool.ok("exec it df -k /d")?, "1024")?;
    // Whoever asks again gets what there is, whatever they ask for, as on an engine.
    pool.says("volume create --label x=y data", "data")?;
    pool.says("volume create -o type=nfs data", "data")?;
    pool.says("volume create -o nosuch=x data", "data")?;
    pool.says(shown, &before)?;
    // Without a name.
    let name = pool.ok("volume create")?;
    ensure!(name.len() == 64, "{name}");
    let made_up = lab.host(0).docker(&["volume", "create"])?;
    for field in ["{{json .Labels}}", "{{json .Options}}"] {
        let theirs = lab
            .host(0)
            .docker(&["volume", "inspect", "-f", field, &made_up])?;
        pool.says(&format!("volume inspect -f '{field}' {name}"), &theirs)?;
    }
    Ok(())
}

fn engines_words(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let theirs = lab.host(0).tcp();
    for body in [
        r#"{"Name":"!"}"#,
        r#"{"Name":"h/x"}"#,
        r#"{"Name":"ab","DriverOpts":{"nosuch":"x"}}"#,
        r#"{"Name":"ab","DriverOpts":{"type":"tmpfs"}}"#,
        r#"{"Name":"ab","DriverOpts":{"device":"tmpfs"}}"#,
        r#"{"Name":"ab","DriverOpts":{"size":"tmpfs"}}"#,
        r#"{"Name":5}"#,
        "[]",
        "{",
    ] {
        let ours = pool.ask("POST", "/volumes/create", body.as_bytes())?;
        let engine = integration::wire::ask(&theirs, "POST", "/volumes/create", body.as_bytes())?;
        ensure!(
            (ours.status, ours.message()?) == (engine.status, engine.message()?),
            "{body}: {ours:?}; an engine: {engine:?}"
        );
    }
    let refused = pool.ask(
        "POST",
        "/volumes/create",
        br#"{"Name":"ab","Driver":"nosuch"}"#,
    )?;
    ensure!(refused.status == 404, "{refused:?}");
    contains(
        &refused.message()?,
        "create ab: error looking up volume plugin nosuch: plugin \"nosuch\" not found",
    )?;
    let refused = pool.ask(
        "POST",
        "/volumes/create",
        br#"{"Name":"ab","ClusterVolumeSpec":{}}"#,
    )?;
    ensure!(refused.status == 501, "{refused:?}");
    let kind = br#"{"Name":"ab","Labels":{"com.flotilla.volume":"everywhere"}}"#;
    let refused = pool.ask("POST", "/volumes/create", kind)?;
    ensure!(refused.status == 400, "{refused:?}");
    contains(&refused.message()?, "\"shared\"")?;
    // What only the host can tell is refused when the volume is made, and the container with it.
    pool.ok("volume create -o size=10m ab")?;
    pool.refuses("create --name=it -v ab:/d busybox true", "quota")?;
    pool.says("ps -aq", "")?;
    pool.says("volume rm ab", "ab")
}

fn named_node(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.says("volume create host2/data", "data")?;
    ensure!(holder(lab, "data")? == "host2");
    pool.says("volume ls -q", "data")?;
    contains(
        &pool.ok(&format!("{MOUNTPOINT} host2/data"))?,
        "/data/_data",
    )?;
    pool.refuses("volume create host1/data", "on node host2")?;
    for name in ["a1", "a2"] {
        pool.ok(&format!(
            "run -d --name={name} -v data:/d busybox sleep 600"
        ))?;
        ensure!(pool.node_of(name)? == "host2");
    }
    pool.ok("rm -f a1 a2")?;
    pool.says("volume rm host2/data", "host2/data")?;
    pool.says("volume ls -q", "")?;
    nowhere(lab, "data")
}

fn twins(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.says("run --rm -v data:/d busybox sh -c 'echo ours >/d/it'", "")?;
    let node = holder(lab, "data")?;
    let other = lab
        .hosts()
        .iter()
        .find(|host| host.name() != node)
        .context("another host")?;
    other.docker(&["volume", "create", "data"])?;
    let twin = format!("{}/data", other.name());
    let mut both = ["data".to_owned(), twin.clone()];
    both.sort();
    pool.comes_to_say("volume ls -q", &both.join("\n"), SOON)?;
    // The one that containers of the pool use is meant.
    pool.says("run --rm -v data:/d busybox cat /d/it", "ours")?;
    pool.ok(&format!("volume rm {twin}"))?;
    pool.says("volume ls -q", "data")?;
    ensure!(holder(lab, "data")? == node);
    // Two that nobody used yet: who could say which?
    for host in [lab.host(0), lab.host(1)] {
        host.docker(&["volume", "create", "old"])?;
    }
    pool.comes_to_say(
        "volume ls -q --filter name=old",
        "host1/old\nhost2/old",
        SOON,
    )?;
    pool.refuses("volume inspect old", "use host1/old or host2/old")?;
    pool.refuses("volume create old", "use host1/old or host2/old")?;
    pool.refuses("volume rm old", "use host1/old or host2/old")?;
    pool.refuses("run --rm -v old:/d busybox true", "each has different data")?;
    pool.ok("volume rm host1/old")?;
    // The first use through the pool makes it the pool's.
    pool.ok("run -d --name=it -v old:/d busybox sleep 600")?;
    ensure!(pool.node_of("it")? == "host2");
    Ok(())
}

fn on_every_node(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("volume create --label com.flotilla.volume=shared all")?;
    pool.ok("volume create --label com.flotilla.volume=per-node own")?;
    pool.says("volume ls -q", "all\nown")?;
    for name in ["a1", "a2", "a3"] {
        pool.ok(&format!(
            "run -d --name={name} -v all:/a -v own:/o busybox sleep 600"
        ))?;
    }
    ensure!(holders(lab, "all")?.len() == 3 && holders(lab, "own")?.len() == 3);
    pool.says("volume ls -q", "all\nhost1/own\nhost2/own\nhost3/own")?;
    for host in lab.hosts() {
        let format = "{{index .Labels \"com.flotilla.volume\"}}";
        let label = host.docker(&["volume", "inspect", "-f", format, "all"])?;
        ensure!(label == "shared", "{label}");
    }
    // By its plain name each client finds what it asked for.
    pool.says("volume inspect -f {{.Name}} all own", "all\nown")?;
    pool.says("volume ls -q --filter dangling=true", "")?;
    let node = pool.node_of("a1")?;
    pool.ok("rm -f a1")?;
    pool.says(&format!("volume rm {node}/own"), &format!("{node}/own"))?;
    ensure!(holders(lab, "own")?.len() == 2);
    pool.refuses("volume rm own", "volume is in use")?;
    pool.refuses("volume rm all", "volume is in use")?;
    pool.ok("rm -f a2 a3")?;
    pool.says("volume rm own all", "own\nall")?;
    pool.says("volume ls -q", "")?;
    nowhere(lab, "own")?;
    nowhere(lab, "all")
}

fn pruned(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let anonymous = pool.ok("volume create")?;
    pool.ok("volume create --label a=b unbound")?;
    pool.ok("run --rm -v bound:/d busybox true")?;
    pool.ok("create --name=user -v used:/d -v /anonymous busybox true")?;
    pool.ok("create --name=gone -v /anonymous busybox true")?;
    pool.ok("rm gone")?;
    // Only what nobody named.
    let said = pool.ok("volume prune -f")?;
    contains(&said, &anonymous)?;
    ensure!(
        said.lines().filter(|line| line.len() == 64).count() == 2,
        "{said}"
    );
    let names = "volume ls --format {{.Name}} --filter name=bound --filter name=used";
    pool.says(names, "bound\nunbound\nused")?;
    let said = pool.ok("volume prune -f -a --filter label=a=b")?;
    contains(&said, "unbound")?;
    pool.says(names, "bound\nused")?;
    let said =
        pool.ok("volume prune -f -a --filter node=host1 --filter node=host2 --filter node=host3")?;
    contains(&said, "bound")?;
    pool.says(names, "used")?;
    nowhere(lab, "bound")?;
    // The name is free: another node may have it now.
    pool.ok("volume create bound")?;
    pool.says(&format!("{MOUNTPOINT} bound"), "")?;
    pool.ok("rm -v user")?;
    pool.says("volume ls -q", "bound\nused")?;
    // As an engine spares what is no mere folder of its own, so does the pool, wherever it is.
    for name in ["disk", "mounted-disk"] {
        pool.ok(&format!(
            "volume create -o type=tmpfs -o device=tmpfs {name}"
        ))?;
    }
    pool.ok("run --rm -v mounted-disk:/d busybox true")?;
    pool.ok("volume prune -f -a")?;
    pool.says("volume ls -q", "disk\nmounted-disk")?;
    nowhere(lab, "used")
}

/// A volume with data; its name and its host.
fn with_data<'l>(lab: &'l Lab, pool: &Pool) -> Result<&'l Host> {
    pool.ok("volume create data")?;
    pool.says("run --rm -v data:/d busybox sh -c 'echo kept >/d/it'", "")?;
    lab.host_named(&holder(lab, "data")?)
}

/// Waits until the pool says that the host's node is lost.
fn notices(pool: &Pool, host: &Host) -> Result<()> {
    wait::until_true("the loss to be noticed", SOON, || {
        let warnings = pool.ok("info -f '{{json .Warnings}}'")?;
        Ok(warnings.contains(host.name()))
    })
}

fn lost_node(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    let host = with_data(lab, &pool)?;
    host.cut()?;
    notices(&pool, host)?;
    let refused = |pool: &Pool| {
        let refusal = pool.refusal("run --rm -v data:/d busybox true")?;
        contains(&refusal, &format!("{} is down", host.name()))?;
        contains(
            &refusal,
            &format!("excluded by volume data, which is on {}", host.name()),
        )?;
        pool.says("volume ls -q", "data")?;
        let refusal = pool.refusal("volume inspect data")?;
        contains(&refusal, &format!("node {} is not reachable", host.name()))?;
        let refusal = pool.refusal("volume create data")?;
        contains(&refusal, &format!("node {} is not reachable", host.name()))?;
        pool.refuses(
            "volume rm data",
            &format!("node {} is not reachable", host.name()),
        )
    };
    refused(&pool)?;
    // A manager that never saw the node up knows it too.
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(2)?;
    refused(&pool)?;
    host.heal()?;
    pool.wait_until_ready(3)?;
    pool.says("run --rm -v data:/d busybox cat /d/it", "kept")?;
    ensure!(holder(lab, "data")? == host.name());
    Ok(())
}

fn removed_while_down(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = with_data(lab, &pool)?;
    host.kill_engine()?;
    // In the moment of the loss; then while it is known.
    pool.says("volume rm -f data", "data")?;
    notices(&pool, host)?;
    pool.says("volume rm -f data", "data")?;
    pool.says("volume ls -q", "")?;
    pool.refuses("volume inspect data", "no such volume")?;
    // The name is free, and the next to have it is another.
    pool.says(
        "run --rm -v data:/d busybox sh -c 'cat /d/it || echo new'",
        "new",
    )?;
    host.start_engine()?;
    host.wait_until_it_answers()?;
    pool.wait_until_ready(3)?;
    wait::until_true("the removal", SOON, || {
        Ok(host.docker(&["volume", "ls", "-q"])?.is_empty())
    })?;
    pool.says("volume ls -q", "data")?;
    ensure!(holder(lab, "data")? != host.name());
    Ok(())
}

fn lent(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let owner = pool.ok("run -d --name=owner -v data:/d busybox sleep 600")?;
    let guest = pool.ok("run -d --name=guest --volumes-from owner busybox sleep 600")?;
    let host = lab.host_named(&pool.node_of("guest")?)?;
    for force in ["", "-f "] {
        pool.refuses(
            &format!("volume rm {force}data"),
            &format!("remove data: volume is in use - [{owner}, {guest}]"),
        )?;
    }
    pool.ok("rm -f owner")?;
    let in_use = format!("remove data: volume is in use - [{guest}]");
    pool.refuses("volume rm data", &in_use)?;
    host.cut()?;
    notices(&pool, host)?;
    pool.refuses("volume rm -f data", &in_use)?;
    host.heal()?;
    pool.wait_until_ready(3)?;
    pool.ok("rm -f guest")?;
    pool.says("volume rm data", "data")
}

fn behind_our_back(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    let host = with_data(lab, &pool)?;
    host.docker(&["volume", "rm", "data"])?;
    pool.comes_to_say("volume ls -q", "", SOON)?;
    pool.refuses("volume inspect data", "no such volume")?;
    // While nobody looks, too.
    let host = with_data(lab, &pool)?;
    pool.manager.kill()?;
    host.docker(&["volume", "rm", "data"])?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    pool.comes_to_say("volume ls -q", "", SOON)?;
    // What is mounted is not forgotten, whatever its engine says of it.
    pool.ok("run -d --name=it -v data:/d busybox sleep 600")?;
    let node = pool.node_of("it")?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    pool.ok("rm -f it")?;
    pool.says("volume ls -q", "data")?;
    ensure!(holder(lab, "data")? == node);
    Ok(())
}

fn manager_killed(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    pool.ok("volume create --label a=b data")?;
    let shown = "volume inspect -f '{{.CreatedAt}} {{json .Labels}} {{.Mountpoint}}' data";
    let before = pool.ok(shown)?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    pool.says(shown, &before)?;
    // The engine had made it when the manager was killed, and nothing came of the container.
    pool.manager.kill()?;
    lab.host(1)
        .docker(&["volume", "create", "--label", "a=b", "data"])?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    pool.says("volume ls -q", "data")?;
    pool.ok("run -d --name=it -v data:/d busybox sleep 600")?;
    ensure!(pool.node_of("it")? == "host2");
    pool.ok("rm -f it")?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    pool.ok("run -d --name=it -v data:/d busybox sleep 600")?;
    ensure!(pool.node_of("it")? == "host2");
    Ok(())
}

fn killed_during_creates(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    for round in 0..number("VOLUME_KILLS", VOLUME_KILLS)? {
        let names: Vec<_> = (0..4).map(|number| format!("v{round}-{number}")).collect();
        for name in &names[..2] {
            pool.ok(&format!("volume create --label a=b {name}"))?;
        }
        std::thread::scope(|scope| -> Result<()> {
            for name in &names {
                let docker = pool.docker().clone();
                let mount = format!("{name}:/d");
                scope.spawn(move || {
                    docker.run(&["run", "-d", "-v", &mount, "busybox", "sleep", "600"])
                });
            }
            std::thread::sleep(Duration::from_millis(35 * round % 150));
            pool.manager.kill()
        })?;
        pool.manager.start_again()?;
        pool.wait_until_ready(3)?;
        for name in &names {
            pool.ok(&format!(
                "run --rm -v {name}:/d busybox sh -c 'echo kept >/d/it'"
            ))?;
            pool.says(&format!("run --rm -v {name}:/d busybox cat /d/it"), "kept")?;
            holder(lab, name)?;
        }
        let left = pool.ok("ps -aq")?.replace('\n', " ");
        if !left.is_empty() {
            pool.ok(&format!("rm -f {left}"))?;
        }
        pool.ok(&format!("volume rm {}", names.join(" ")))?;
        pool.says("volume ls -q", "")?;
        for name in &names {
            nowhere(lab, name)?;
        }
    }
    Ok(())
}

const PROJECT: &str = r#"
services:
  db:
    image: busybox
    command: sh -c 'date +%s%N >>/data/starts; sleep 600'
    stop_signal: SIGKILL
    network_mode: bridge
    volumes: [ "data:/data" ]
    healthcheck: { test: test -s /data/starts, interval: 300ms, retries: 60 }
  web:
    image: busybox
    command: sleep 600
    stop_signal: SIGKILL
    network_mode: bridge
    depends_on: { db: { condition: service_healthy } }
    volumes: [ "data:/data:ro", "cache:/cache" ]
volumes:
  data:
  cache: { labels: { kind: cache } }
"#;

fn compose(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let project = Project::new(&pool, "it", PROJECT)?;
    let ok = |line: &str| project.ok(line);
    ok("up -d")?;
    pool.says("volume ls -q", "it_cache\nit_data")?;
    let node = holder(lab, "it_data")?;
    ensure!(
        holder(lab, "it_cache")? == node,
        "web has its volumes on two nodes"
    );
    ensure!(pool.node_of("it-db-1")? == node && pool.node_of("it-web-1")? == node);
    let starts = ok("exec -T web cat /data/starts")?;
    project.is_up_to_date()?;
    // The containers go, the data stays and is found again.
    ok("down -t 0")?;
    pool.says("ps -aq", "")?;
    pool.says("volume ls -q", "it_cache\nit_data")?;
    ok("up -d")?;
    ensure!(holder(lab, "it_data")? == node && pool.node_of("it-web-1")? == node);
    let more = ok("exec -T web cat /data/starts")?;
    ensure!(
        more.starts_with(&starts) && more.lines().count() == 2,
        "{starts} became {more}"
    );
    ok("up -d --force-recreate")?;
    ensure!(ok("exec -T web cat /data/starts")?.lines().count() == 3);
    ok("down -v -t 0")?;
    pool.says("volume ls -q", "")?;
    nowhere(lab, "it_data")?;
    nowhere(lab, "it_cache")
}

fn two_projects(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let ok = |name: &str, line: &str| Project::new(&pool, name, PROJECT)?.ok(line);
    for project in ["one", "two", "three"] {
        ok(project, "up -d")?;
    }
    let nodes: Result<std::collections::BTreeSet<_>> = ["one", "two", "three"]
        .iter()
        .map(|project| holder(lab, &format!("{project}_data")))
        .collect();
    ensure!(nodes?.len() == 3, "the projects are not spread");
    ok("one", "down -v -t 0")?;
    pool.says(
        "volume ls -q",
        "three_cache\nthree_data\ntwo_cache\ntwo_data",
    )?;
    ok("two", "exec -T web test -s /data/starts")?;
    ok("two", "down -v -t 0")?;
    ok("three", "down -v -t 0")?;
    pool.says("volume ls -q", "")?;
    for host in lab.hosts() {
        let left = host.docker(&["volume", "ls", "-q"])?;
        ensure!(left.is_empty(), "{} has {left}", host.name());
    }
    Ok(())
}
