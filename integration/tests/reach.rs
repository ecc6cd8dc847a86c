//! Engines that are reached in the clear, by TLS and by ssh, in one pool: all of them do all of it, each failure says what
//! to do, and what broke is taken back without leaving anything behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::flotilla::Flotilla;
use integration::harness::{self, Case, case};
use integration::images::noise;
use integration::lab::{Authority, Host, HostSpec, Lab, Spec};
use integration::pool::Pool;
use integration::wait;
use tempfile::TempDir;

/// What needs no time at all may take so long on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// How long a loss may go unnoticed.
const NOTICED: Duration = Duration::from_secs(6);
/// More than all buffers on the way together.
const MUCH: usize = 6 << 20;

/// The hosts' places in the lab.
const PLAIN: usize = 0;
const TLS: usize = 1;
const SSH: usize = 2;

fn main() -> ExitCode {
    let hosts = vec![
        HostSpec::default(),
        HostSpec::default().tls(),
        HostSpec::default().ssh(),
    ];
    harness::main(Spec { hosts, keep: false }, cases())
}

fn cases() -> Vec<Case> {
    vec![
        case("all_of_it_works_by_each_way", all_of_it),
        case("many_at_once_share_a_few_logins", many_at_once),
        case("an_engine_that_restarts_is_taken_back", restarts),
        case("a_login_that_was_killed_is_made_anew", login_killed),
        case("a_login_that_hangs_is_given_up", login_hangs),
        case("a_killed_manager_leaves_no_ssh", manager_killed),
        case("each_failure_says_what_to_do", failures),
        case("without_ssh_it_says_so", no_ssh),
        case("a_certificate_for_another_name_is_told", another_name),
        case("renewed_files_count_at_once", renewed_files),
        case("bad_files_refuse_the_start", bad_files),
    ]
}

/// The engines, each by its way.
fn engines(lab: &Lab) -> Vec<String> {
    vec![
        lab.host(PLAIN).tcp(),
        by_tls(lab, &lab.tls()),
        lab.host(SSH).ssh(),
    ]
}

/// The engine with TLS, with the files of this folder.
fn by_tls(lab: &Lab, files: &Path) -> String {
    format!("{}?tls={}", lab.host(TLS).tcp(), files.display())
}

/// A manager that finds the lab's `ssh`.
fn manager(lab: &Lab, engines: &[String]) -> Result<Flotilla> {
    Flotilla::start_among(Some(&lab.ssh()?.path()), engines, &[])
}

fn pool(lab: &Lab) -> Result<Pool> {
    let engines = engines(lab);
    Pool::behind(manager(lab, &engines)?, engines.len())
}

/// One container on each node; their names, in the order of the hosts.
fn one_each(lab: &Lab, pool: &Pool) -> Result<Vec<String>> {
    for number in 0..lab.hosts().len() {
        pool.ok(&format!(
            "run -d --stop-signal=KILL --name=on-{number} busybox sh -c 'echo begun; exec sleep 600'"
        ))?;
    }
    let on = |host: &Host| {
        let filter = format!("ps --filter node={} --format {{{{.Names}}}}", host.name());
        let name = pool.ok(&filter)?;
        ensure!(name.lines().count() == 1, "{} has {name:?}", host.name());
        Ok(name)
    };
    lab.hosts().iter().map(on).collect()
}

fn contains(text: &str, wanted: &str) -> Result<()> {
    ensure!(text.contains(wanted), "{text:?} lacks {wanted:?}");
    Ok(())
}

fn all_of_it(lab: &Lab) -> Result<()> {
    let mut pool = pool(lab)?;
    let info = pool.ok("info")?;
    contains(&info, &format!("host2: {}\n", lab.host(TLS).tcp()))?;
    contains(&info, &format!("host3: {}\n", lab.host(SSH).ssh()))?;
    let table = pool.flotilla("node ls")?.ok()?;
    contains(&table, &lab.host(TLS).tcp())?;
    ensure!(
        !info.contains("?tls=") && !table.contains("?tls="),
        "{table}{info}"
    );
    let events = pool.on_terminal("events --filter event=die")?;
    let names = one_each(lab, &pool)?;
    let bytes = noise(MUCH);
    let files = TempDir::new()?;
    let (there, back) = (files.path().join("there"), files.path().join("back"));
    fs::write(&there, &bytes)?;
    for name in &names {
        pool.says(&format!("exec {name} echo hi"), "hi")?;
        pool.ends_with(&format!("exec {name} sh -c 'exit 7'"), 7)?;
        let logs = pool.on_terminal(&format!("logs -f {name}"))?;
        logs.expect("begun", SOON)?;
        comes_back(
            &pool,
            &format!("exec -i {name} sh -c 'cat; echo end'"),
            &bytes,
        )?;
        let beside = format!("run -i --rm --volumes-from {name} busybox sh -c 'cat; echo end'");
        comes_back(&pool, &beside, &bytes)?;
        pool.ok(&format!("cp {} {name}:/it", there.display()))?;
        pool.ok(&format!("cp {name}:/it {}", back.display()))?;
        ensure!(fs::read(&back)? == bytes, "{name} has another file");
        let mut shell = pool.on_terminal(&format!("exec -it {name} sh"))?;
        shell.expect("/ # ", SOON)?;
        shell.send("echo $((6*7)); exit 3\n")?;
        shell.expect("42", SOON)?;
        ensure!(shell.finish(SOON)?.code == 3, "another exit code");
        pool.ok(&format!("kill {name}"))?;
        events.expect(&format!("name={name}"), SOON)?;
        logs.finish(SOON)?;
    }
    ensure!(!events.screen().contains("?tls="), "{}", events.screen());
    pool.manager.stop()?;
    ends(lab)
}

/// Fails unless what goes in comes back; what the command says after the end of its input comes too.
fn comes_back(pool: &Pool, line: &str, bytes: &[u8]) -> Result<()> {
    let output = pool.run_with(line, bytes)?;
    let came = output.stdout.as_bytes();
    ensure!(
        came.strip_prefix(bytes) == Some(b"end\n".as_slice()),
        "{} bytes came back from `{line}`: {}",
        came.len(),
        output.stderr
    );
    Ok(())
}

/// Waits until nothing of ssh is left.
fn ends(lab: &Lab) -> Result<()> {
    wait::until_true("the end of all ssh", SOON, || Ok(lab.ssh()?.count() == 0))
}

fn many_at_once(lab: &Lab) -> Result<()> {
    const MANY: usize = 24;
    let mut pool = pool(lab)?;
    let names = one_each(lab, &pool)?;
    let line = format!("exec {} sh -c 'sleep 1; echo hi'", names[SSH]);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..MANY)
            .map(|_| scope.spawn(|| pool.says(&line, "hi")))
            .collect();
        all.into_iter()
            .try_for_each(|one| one.join().expect("no panic"))
    })?;
    // Connections wait for the next request for a while, so there are more of them than commands.
    let logins = lab.ssh()?.count_logins();
    ensure!(logins <= MANY / 2, "{logins} logins");
    ensure!(pool.manager.zombies() == 0, "ended ssh was not waited for");
    pool.manager.stop()?;
    ends(lab)
}

fn restarts(lab: &Lab) -> Result<()> {
    let pool = pool(lab)?;
    let names = one_each(lab, &pool)?;
    for (place, reason) in [(TLS, "connection refused by"), (SSH, "the engine on")] {
        let (host, name) = (lab.host(place), &names[place]);
        let logs = pool.on_terminal(&format!("logs -f {name}"))?;
        logs.expect("begun", SOON)?;
        host.kill_engine()?;
        let down = format!("WARNING: node {} is down: {reason}", host.name());
        wait::until_true(&down, NOTICED, || {
            let info = pool.run("info")?;
            Ok(format!("{}{}", info.stdout, info.stderr).contains(&down))
        })?;
        logs.finish(SOON)?;
        host.start_engine()?;
        pool.wait_until_ready(3)?;
        pool.ok(&format!("start {name}"))?;
        pool.says(&format!("exec {name} echo back"), "back")?;
    }
    ensure!(pool.manager.zombies() == 0, "ended ssh was not waited for");
    Ok(())
}

fn login_killed(lab: &Lab) -> Result<()> {
    let pool = pool(lab)?;
    let name = &one_each(lab, &pool)?[SSH];
    let logs = pool.on_terminal(&format!("logs -f {name}"))?;
    logs.expect("begun", SOON)?;
    lab.ssh()?.kill_logins()?;
    logs.finish(SOON).context("a stream whose login ended")?;
    wait::until_true("an answer", SOON, || {
        pool.says(&format!("exec {name} echo back"), "back")?;
        Ok(true)
    })?;
    pool.wait_until_ready(3)?;
    wait::until_true("one login, and no zombies", SOON, || {
        Ok(lab.ssh()?.count_logins() == 1 && pool.manager.zombies() == 0)
    })
}

fn login_hangs(lab: &Lab) -> Result<()> {
    let mut pool = pool(lab)?;
    let name = &one_each(lab, &pool)?[SSH];
    lab.ssh()?.hang_logins()?;
    wait::until_true("the loss to be noticed", NOTICED, || {
        Ok(pool.ok("info")?.contains("└ Status: Down ("))
    })?;
    // Nobody lets it go on, so there must be another.
    pool.wait_until_ready(3)?;
    pool.says(&format!("exec {name} echo back"), "back")?;
    pool.manager.stop()?;
    ends(lab)
}

fn manager_killed(lab: &Lab) -> Result<()> {
    let mut pool = pool(lab)?;
    let name = &one_each(lab, &pool)?[SSH];
    let logs = pool.on_terminal(&format!("logs -f {name}"))?;
    logs.expect("begun", SOON)?;
    ensure!(lab.ssh()?.count() > 1, "there is no ssh");
    pool.manager.kill()?;
    ends(lab)
}

/// Waits until the manager says this of an engine.
fn comes_to_say(manager: &Flotilla, wanted: &[&str]) -> Result<()> {
    let docker = manager.docker()?;
    let mut last = String::new();
    wait::until_true(&format!("{wanted:?}"), SOON, || {
        last = docker.run(&["info"])?.ok()?;
        Ok(wanted.iter().all(|wanted| last.contains(wanted)))
    })
    .with_context(|| format!("it said {last}"))
}

fn failures(lab: &Lab) -> Result<()> {
    let (plain, tls, ssh) = (lab.host(PLAIN), lab.host(TLS), lab.host(SSH));
    let stranger = Authority::new()?;
    let folder = TempDir::new()?;
    // Who has the right CA and a certificate of somebody else, and the other way round.
    let (refused, deceived) = (
        folder.path().join("refused"),
        folder.path().join("deceived"),
    );
    stranger.write_client(&refused)?;
    lab.authority().write_client(&deceived)?;
    let own = folder.path().join("ca.pem");
    fs::rename(refused.join("ca.pem"), &own)?;
    fs::rename(deceived.join("ca.pem"), refused.join("ca.pem"))?;
    fs::rename(&own, deceived.join("ca.pem"))?;
    let keys = lab.ssh()?;
    for name in ["unknown-key", "changed-key"] {
        let address = ssh.address();
        keys.put_settings(&format!(
            "Host {name}\n  HostName {address}\n  HostKeyAlias {name}\n"
        ))?;
    }
    let other = keys.make_key(&folder.path().join("other"))?;
    keys.add_known_host(&format!("changed-key {other}"))?;
    let nobody = format!("{}99", plain.address().trim_end_matches("11"));
    let address = ssh.address();
    let files = lab.tls();
    let files = files.display();
    let expected = [
        // Each engine has one endpoint, by whatever files.
        (
            by_tls(lab, &refused),
            format!("the engine refuses our certificate {}", refused.display()),
        ),
        (
            format!("{}?tls={files}", plain.tcp()),
            "what listens there does not speak TLS".to_owned(),
        ),
        (
            format!("tcp://{}:9?tls={files}", tls.address()),
            format!("connection refused by {}:9: is the engine running", tls.address()),
        ),
        (
            format!("tcp://{nobody}:2375"),
            format!("{nobody}:2375"),
        ),
        (
            "tcp://nosuch.invalid:2375".to_owned(),
            "no address is known for `nosuch.invalid`".to_owned(),
        ),
        (
            format!("ssh://guest@{address}"),
            format!("this user may not use the engine's socket on {address}"),
        ),
        (
            format!("ssh://bare@{address}"),
            format!("there is no `docker` on {address}"),
        ),
        (
            format!("ssh://stranger@{address}"),
            format!("{address} lets us in with no key that ssh has: `ssh stranger@{address}`"),
        ),
        (
            "ssh://unknown-key".to_owned(),
            "the host key of unknown-key is not known: run `ssh unknown-key` once".to_owned(),
        ),
        (
            "ssh://changed-key".to_owned(),
            "the host key of changed-key is not the one that is known".to_owned(),
        ),
        (
            format!("ssh://{}", plain.address()),
            format!("connection refused by the ssh port of {}", plain.address()),
        ),
        (
            "ssh://nosuch.invalid".to_owned(),
            "no address is known for `nosuch.invalid`: is it spelt right, and in DNS, /etc/hosts or ~/.ssh"
                .to_owned(),
        ),
    ];
    let engines: Vec<String> = expected.iter().map(|(engine, _)| engine.clone()).collect();
    let all = manager(lab, &engines)?;
    let words: Vec<&str> = expected.iter().map(|(_, words)| words.as_str()).collect();
    comes_to_say(&all, &words)?;
    contains(&all.log(), "engine cannot join yet engine=")?;
    ensure!(!all.log().contains("?tls="), "{}", all.log());
    drop(all);
    let deceived = manager(lab, &[by_tls(lab, &deceived)])?;
    comes_to_say(
        &deceived,
        &["the engine's certificate is not signed by the CA in"],
    )?;
    drop(deceived);
    let clear = manager(lab, &[tls.tcp()])?;
    comes_to_say(
        &clear,
        &["it speaks TLS there and was spoken to in the clear: give --engine-tls"],
    )?;
    drop(clear);
    ends(lab)
}

fn no_ssh(lab: &Lab) -> Result<()> {
    let nothing = TempDir::new()?;
    let engines = [lab.host(SSH).ssh()];
    let manager = Flotilla::start_among(Some(nothing.path()), &engines, &[])?;
    comes_to_say(
        &manager,
        &["the program `ssh` is not on this machine: install an OpenSSH client"],
    )
}

fn another_name(lab: &Lab) -> Result<()> {
    let host = lab.host(TLS);
    host.certify(lab.authority(), &["elsewhere.example"])?;
    host.kill_engine()?;
    host.start_engine()?;
    let manager = manager(lab, &[by_tls(lab, &lab.tls())])?;
    let address = host.address();
    let told = format!("the engine's certificate is not for `{address}` but for");
    let outcome = comes_to_say(&manager, &[&told, "elsewhere.example", "subjectAltName"]);
    host.certify(lab.authority(), &[address, host.name()])?;
    host.kill_engine()?;
    host.start_engine()?;
    outcome?;
    Pool::behind(manager, 1).map(drop)
}

fn renewed_files(lab: &Lab) -> Result<()> {
    let folder = TempDir::new()?;
    Authority::new()?.write_client(folder.path())?;
    let all = format!("--engine-tls={}", folder.path().display());
    let engines = [lab.host(TLS).tcp()];
    let manager = Flotilla::start(&engines, &[&all])?;
    comes_to_say(
        &manager,
        &["the engine's certificate is not signed by the CA in"],
    )?;
    lab.authority().write_client(folder.path())?;
    Pool::behind(manager, 1).map(drop)
}

fn bad_files(lab: &Lab) -> Result<()> {
    let folder = TempDir::new()?;
    lab.authority().write_client(folder.path())?;
    let engine = format!("a={}", lab.host(TLS).tcp());
    let tls = format!("--engine-tls=a={}", folder.path().display());
    let refused = |file: &PathBuf, why: &str| {
        let error =
            Flotilla::start(std::slice::from_ref(&engine), &[&tls]).expect_err("it cannot start");
        contains(&format!("{error:#}"), &format!("{}: {why}", file.display()))
    };
    let key = folder.path().join("key.pem");
    fs::write(&key, "")?;
    refused(&key, "it has no private key in PEM form")?;
    let ca = folder.path().join("ca.pem");
    fs::remove_file(&ca)?;
    refused(&ca, "No such file or directory")
}
