//! A pool whose engines keep images in different kinds of stores, which give one image different ids.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::harness::{self, Case, case};
use integration::images;
use integration::lab::{Host, HostSpec, Lab, Spec};
use integration::pool::Pool;
use integration::registry::Registry;
use integration::wait;

const SOON: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let containerd = HostSpec::default()
        .flag("--feature=containerd-snapshotter")
        .flag("--storage-driver=overlayfs");
    harness::main(Spec::hosts(1).and(containerd), cases())
}

fn cases() -> Vec<Case> {
    vec![
        case("an_image_keeps_its_id_wherever_it_runs", one_id),
        case("info_says_that_the_stores_differ", warned),
        case("a_digest_is_told_when_its_registry_is_not_reached", offline),
    ]
}

fn id_on(host: &Host, name: &str) -> Result<String> {
    host.docker(&["images", "-q", "--no-trunc", name])
}

fn one_id(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for (turn, from) in [(0, 0), (1, 1)] {
        let (source, other) = (lab.host(from), lab.host(1 - from));
        let name = format!("large:{turn}");
        images::make(source, &name, 1 << 20)?;
        let id = id_on(source, &name)?;
        let shown = format!("image inspect -f {{{{.Id}}}} {name}");
        pool.comes_to_say(&format!("images -q --no-trunc {name}"), &id, SOON)?;
        pool.says(&shown, &id)?;
        for host in [other, source] {
            pool.ok(&format!(
                "create --name=on-{} -e constraint:node=={} {name} true",
                host.name(),
                host.name()
            ))?;
        }
        let twin = id_on(other, &name)?;
        ensure!(!twin.is_empty() && twin != id, "{twin:?} and {id:?}");
        // One image, under the id that it had before.
        pool.says(&shown, &id)?;
        pool.says(&format!("images -q --no-trunc {name}"), &id)?;
        for host in [source, other] {
            pool.ok(&format!("rm on-{}", host.name()))?;
        }
        pool.ok(&format!("rmi {name}"))?;
        pool.says(&format!("images -q {name}"), "")?;
        ensure!(id_on(other, &name)?.is_empty(), "{} has it", other.name());
    }
    Ok(())
}

fn warned(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let said = pool.run("info")?;
    let wanted = "keep images in containerd's store";
    ensure!(
        said.stdout.contains(wanted) || said.stderr.contains(wanted),
        "{said:?}"
    );
    Ok(())
}

fn offline(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let pool = Pool::over(lab)?;
    let (own, containerd) = (lab.host(0), lab.host(1));
    let name = |tag: &str| format!("{}/some/it:{tag}", registry.address());
    let (pulled, of_own, nowhere) = (name("pulled"), name("own"), name("nowhere"));
    for (host, name, bytes) in [(containerd, &pulled, 1 << 20), (own, &of_own, 2 << 20)] {
        images::make(host, name, bytes)?;
        host.docker(&["push", name])?;
        host.docker(&["rmi", name])?;
    }
    // It has one id on each of the two.
    pool.ok(&format!("pull {pulled}"))?;
    own.docker(&["pull", &of_own])?;
    pool.comes_to_say(
        &format!("images -q {of_own}"),
        &own.docker(&["images", "-q", &of_own])?,
        SOON,
    )?;
    let ask = |name: &str| pool.ask("GET", &format!("/distribution/{name}/json"), b"");
    let online = ask(&pulled)?;
    ensure!(online.status == 200, "{online:?}");
    ensure!(ask(&of_own)?.status == 200 && ask(&nowhere)?.status == 404);
    drop(registry);
    let (online, offline) = (online.json()?, ask(&pulled)?.json()?);
    ensure!(
        online["Descriptor"].is_object() && offline["Descriptor"] == online["Descriptor"],
        "{offline}, the registry: {online}"
    );
    // An engine does not say it of this type of manifest.
    let platforms = serde_json::json!([{"architecture": "amd64", "os": "linux"}]);
    ensure!(offline["Platforms"] == platforms, "{offline}");
    // Of a manifest an engine's own store keeps the digest alone.
    for name in [&of_own, &nowhere] {
        let answer = ask(name)?;
        ensure!(
            answer.status == 500 && answer.text().contains("connection refused"),
            "{answer:?}"
        );
    }
    // Here it is another image than in the registry.
    containerd.docker(&["rmi", "-f", &pulled])?;
    images::make(containerd, "other:1", 3 << 20)?;
    containerd.docker(&["tag", "other:1", &pulled])?;
    wait::until_true("the tag to be seen", SOON, || {
        Ok(!pool.ok("images -q other:1")?.is_empty())
    })?;
    let answer = ask(&pulled)?;
    ensure!(answer.status == 500, "{answer:?}");
    for host in [own, containerd] {
        host.docker(&["rmi", "-f", &pulled])?;
    }
    Ok(())
}
