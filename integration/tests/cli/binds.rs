//! Binds: paths of nodes, which most often are meant to be paths of the client's machine.

use anyhow::{Result, ensure};
use integration::compose::Project;
use integration::harness::{Case, case};
use integration::lab::{Host, Lab};
use integration::pool::Pool;

use crate::contains;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_bind_of_what_no_node_has_is_refused", refused),
        case("a_bind_of_what_nodes_have_works", works),
        case("a_bind_leads_to_a_node_that_has_it", led),
        case("missing_binds_are_made_if_that_is_wished", made),
        case("one_engine_makes_missing_binds_as_ever", of_one),
        case("compose_is_told_where_its_binds_are_looked_for", by_compose),
    ]
}

const NOWHERE: &str = "/srv/nowhere/at/all";

fn exists(host: &Host, path: &str) -> Result<bool> {
    Ok(host.command("test")?.args(["-e", path]).status()?.success())
}

fn refused(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for bind in [
        format!("-v {NOWHERE}:/x"),
        format!("-v {NOWHERE}:/x:ro -v /etc/hosts:/y"),
        format!("--mount type=bind,src={NOWHERE},dst=/x"),
    ] {
        let said = pool.refusal(&format!("run --name=it {bind} busybox true"))?;
        contains(
            &said,
            &format!("bind source path does not exist: {NOWHERE} (looked for on node host"),
        )?;
        contains(&said, "not on the machine of the client")?;
    }
    pool.says("ps -aq", "")?;
    for host in lab.hosts() {
        ensure!(
            !exists(host, NOWHERE)?,
            "{} made an empty folder",
            host.name()
        );
    }
    // The name is free.
    pool.says("run --rm --name=it busybox echo hi", "hi")
}

fn works(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.says(
        "run --rm -v /etc/hostname:/it:ro -v /var/run/docker.sock:/s busybox sh -c 'test -S /s && wc -l </it'",
        "1",
    )?;
    pool.ok("create --name=it -v /etc/hosts:/h:ro --mount type=bind,src=/etc,dst=/e busybox true")?;
    let it = pool.inspect("it")?;
    let host = &it["HostConfig"];
    ensure!(
        host["Binds"] == serde_json::json!(["/etc/hosts:/h:ro"]),
        "what was sent was changed: {host}"
    );
    pool.refuses(
        "create -v /etc/hosts:relative busybox true",
        "mount path must be absolute",
    )
}

fn led(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let path = "/srv/only-there";
    let host = lab.host(2);
    ensure!(
        host.command("mkdir")?.arg(path).status()?.success(),
        "no folder"
    );
    for number in 0..3 {
        let name = format!("it-{number}");
        pool.ok(&format!("create --name={name} -v {path}:/x busybox true"))?;
        let node = pool.node_of(&name)?;
        ensure!(node == host.name(), "{name} is on {node}");
    }
    ensure!(
        host.command("rmdir")?.arg(path).status()?.success(),
        "it stays"
    );
    Ok(())
}

fn made(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--missing-bind=create"])?;
    let path = "/srv/made/here";
    pool.says(&format!("run --name=it -v {path}:/x busybox ls /x"), "")?;
    let node = pool.node_of("it")?;
    let host = lab.hosts().iter().find(|host| host.name() == node);
    let host = host.expect("a host of the lab");
    ensure!(exists(host, path)?, "{node} made nothing");
    // That is not asked of the engine there.
    pool.refuses(
        &format!("run --mount type=bind,src={NOWHERE},dst=/x busybox true"),
        "bind source path does not exist",
    )?;
    ensure!(
        host.command("rm")?
            .args(["-r", "/srv/made"])
            .status()?
            .success(),
        "it stays"
    );
    Ok(())
}

fn of_one(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints()[..1], &[])?;
    pool.says("run --rm -v /srv/made:/x busybox ls /x", "")?;
    let host = lab.host(0);
    ensure!(
        host.command("rmdir")?.arg("/srv/made").status()?.success(),
        "it made nothing"
    );
    Ok(())
}

const PROJECT: &str = r#"
services:
  it:
    image: busybox
    command: ls /x
    volumes: [ "./source:/x" ]
"#;

fn by_compose(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let project = Project::new(&pool, "bound", PROJECT)?;
    project.write("source", "of this machine")?;
    let mut command = project.command()?;
    command.args(["up", "-d"]);
    let said = project.finish(&mut command)?.refusal()?;
    contains(&said, "bind source path does not exist: ")?;
    contains(&said, "not on the machine of the client")?;
    contains(&said, "develop.watch")?;
    let mut command = project.command()?;
    command.arg("down");
    project.finish(&mut command)?.ok().map(drop)
}
