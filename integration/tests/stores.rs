//! A pool whose engines keep images in different kinds of stores, which give one image different ids.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use integration::harness::{self, Case, case};
use integration::images;
use integration::lab::{Host, HostSpec, Lab, Spec};
use integration::pool::Pool;

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
