//! A pool of one engine does all that the engine does.

use anyhow::Result;
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("one_engine_makes_volumes", volumes),
        case("one_engine_makes_networks", networks),
    ]
}

fn one(lab: &Lab) -> Result<Pool> {
    Pool::of(&lab.endpoints()[..1], &[])
}

fn volumes(lab: &Lab) -> Result<()> {
    let pool = one(lab)?;
    pool.says("volume create --label a=b data", "data")?;
    pool.says("volume create data", "data")?;
    pool.says("volume ls -q --filter label=a=b", "data")?;
    pool.says(
        "run --rm -v data:/data busybox sh -c 'echo kept >/data/it'",
        "",
    )?;
    pool.says("run --rm -v data:/data busybox cat /data/it", "kept")?;
    pool.says("volume rm data", "data")?;
    pool.refuses("volume rm data", "no such volume")
}

fn networks(lab: &Lab) -> Result<()> {
    let pool = one(lab)?;
    let id = pool.ok("network create net")?;
    pool.refuses("network create net", "network with name net already exists")?;
    pool.says("network ls -q --no-trunc --filter name=net", &id)?;
    pool.ok("run -d --name=peer --network=net busybox sleep 600")?;
    pool.ok("run --rm --network=net busybox ping -c1 -W5 peer")?;
    pool.ok("run -d --name=late busybox sleep 600")?;
    pool.ok("network connect --alias second net late")?;
    pool.ok("exec peer ping -c1 -W5 second")?;
    pool.says("ps --filter network=net --format {{.Names}}", "late\npeer")?;
    pool.ok("network disconnect net late")?;
    pool.says("ps --filter network=net --format {{.Names}}", "peer")?;
    pool.refuses("network rm net", "has active endpoints")?;
    pool.ok("rm -f peer")?;
    pool.says("network rm net", "net")?;
    pool.refuses("network inspect net", "network net not found")
}
