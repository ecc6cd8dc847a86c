//! Images while nodes are down or die: what is removed goes everywhere or nowhere, and what is under way ends.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use integration::harness::{Case, case};
use integration::images;
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::wait;

use crate::{SOON, contains};

/// How long a loss may go unnoticed, and any answer meanwhile.
const NOTICED: Duration = Duration::from_secs(6);
/// How long an engine may take to be back in the pool once it answers.
const BACK: Duration = Duration::from_secs(20);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("an_image_used_anywhere_is_removed_nowhere", in_use),
        case(
            "an_image_removed_while_a_node_is_down_goes_when_it_is_back",
            removed_while_down,
        ),
        case("an_image_of_a_dead_node_alone_can_be_removed", of_dead_node),
    ]
}

/// Gives one node an image that no other has.
fn only_on(pool: &Pool, host: &Host, name: &str) -> Result<()> {
    images::make(host, name, 1 << 20)?;
    let id = host.docker(&["images", "-q", name])?;
    pool.comes_to_say(&format!("images -q {name}"), &id, SOON)
}

fn has(host: &Host, name: &str) -> Result<bool> {
    Ok(!host.docker(&["images", "-q", name])?.is_empty())
}

fn until_down(pool: &Pool, host: &Host) -> Result<()> {
    let marker = format!("WARNING: node {} is down", host.name());
    wait::until_true("the loss to be noticed", NOTICED, || {
        Ok(pool.run("info")?.stderr.contains(&marker) || pool.ok("info")?.contains(&marker))
    })
}

fn in_use(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("tag busybox some:1")?;
    only_on(&pool, lab.host(0), "it:1")?;
    let node = lab.host(1).name();
    pool.ok(&format!(
        "create --name=user -e constraint:node=={node} it:1 true"
    ))?;
    let id = pool.ok("images -q --no-trunc it:1")?;
    let said = pool.refusal("rmi it:1")?;
    contains(
        &said,
        "conflict: unable to remove repository reference \"it:1\" (must force) - container ",
    )?;
    contains(&said, &format!("on node {node}"))?;
    contains(
        &pool.refusal(&format!("rmi {id}"))?,
        "(must be forced) - image is being used by stopped container",
    )?;
    for host in [lab.host(0), lab.host(1)] {
        ensure!(has(host, "it:1")?, "{} lost it", host.name());
    }
    // One of two names may go whatever uses the image.
    pool.says("rmi some:1", "Untagged: some:1")?;
    pool.ok("rm user")?;
    contains(&pool.ok("rmi it:1")?, "Untagged: it:1")?;
    for host in lab.hosts() {
        ensure!(!has(host, "it:1")?, "{} has it still", host.name());
    }
    Ok(())
}

fn removed_while_down(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    for name in ["some:1", "other:1", "again:1"] {
        pool.ok(&format!("tag busybox {name}"))?;
    }
    host.cut()?;
    until_down(&pool, host)?;
    pool.says("rmi some:1", "Untagged: some:1")?;
    pool.ok("rmi again:1")?;
    pool.ok("tag busybox again:1")?;
    let answer = pool.ask("DELETE", "/images/other:1", b"")?;
    ensure!(
        (answer.status, answer.header("x-cluster-partial")) == (200, Some("host2=unreachable")),
        "{answer:?}"
    );
    pool.refuses("image inspect some:1", "No such image: some:1")?;
    pool.refuses("rmi some:1", "No such image: some:1")?;
    host.heal()?;
    pool.wait_until_ready(3)?;
    for name in ["some:1", "other:1"] {
        wait::until_true("the removal", BACK, || Ok(!has(host, name)?))
            .with_context(|| name.to_owned())?;
        pool.says(&format!("images -q {name}"), "")?;
    }
    ensure!(has(host, "again:1")?, "what was wanted again is gone");
    pool.ok("rmi again:1").map(drop)
}

fn of_dead_node(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let host = lab.host(1);
    only_on(&pool, host, "it:1")?;
    only_on(&pool, host, "used:1")?;
    pool.ok(&format!(
        "create --name=user -e constraint:node=={} used:1 true",
        host.name()
    ))?;
    host.kill_engine()?;
    until_down(&pool, host)?;
    pool.says("rmi it:1", "Untagged: it:1")?;
    pool.refuses("image inspect it:1", "No such image: it:1")?;
    pool.refuses("rmi used:1", "is using its referenced image")?;
    host.start_engine()?;
    host.wait_until_it_answers()?;
    pool.wait_until_ready(3)?;
    wait::until_true("the removal", BACK, || Ok(!has(host, "it:1")?))?;
    pool.ok("rm user")?;
    pool.ok("rmi used:1").map(drop)
}
