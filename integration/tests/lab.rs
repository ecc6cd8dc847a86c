//! The lab itself, on real engines: hosts start, fail in every way, come back, and leave nothing.

#![expect(
    clippy::disallowed_methods,
    reason = "the lab runs real processes in real time"
)]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::harness::{self, case};
use integration::lab::{self, Host, HostSpec, Lab, Spec};
use integration::registry::Registry;
use integration::{http, wait};

const SOON: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    let mut spec = Spec::hosts(2).and(HostSpec::default().label("disk=ssd"));
    spec.hosts[0] = HostSpec::default()
        .flag("--default-shm-size=32m")
        .cpus(1)
        .memory_mib(1536);
    harness::main(
        spec,
        vec![
            case(
                "every_host_runs_the_same_image_under_its_own_name",
                same_image,
            ),
            case("labels_and_flags_reach_the_engine", labels_and_flags),
            case("a_host_is_as_large_as_it_is_asked_to_be", sizes),
            case(
                "limits_are_kept_and_containers_reach_each_other",
                limits_and_networks,
            ),
            case(
                "a_published_port_is_reachable_from_this_machine",
                published_port,
            ),
            case("hosts_reach_each_other", neighbours),
            case(
                "no_host_shows_the_files_of_another_or_of_this_machine",
                private_files,
            ),
            case("an_image_nobody_has_is_refused_at_once", fast_refusal),
            case("an_image_travels_through_a_registry", registry),
            case("input_and_terminals_work", input_and_terminals),
            case("compose_and_buildx_are_there", plugins),
            case("a_cut_host_is_silent_and_heals", cut_and_heal),
            case("a_hung_engine_accepts_and_does_not_answer", hang_and_resume),
            case(
                "a_killed_engine_refuses_and_its_containers_run_on",
                kill_engine,
            ),
            case("an_engine_stops_and_starts_in_good_order", stop_and_start),
            case("a_host_comes_back_after_a_power_loss", power_loss),
            case("an_old_engine_runs_the_same_image", old_engine),
            case("an_ended_lab_leaves_nothing", nothing_left),
            case("a_killed_owner_takes_its_lab_along", killed_owner),
        ],
    )
}

fn run(host: &Host, arguments: &[&str]) -> Result<String> {
    host.docker(&[&["run", "--rm"], arguments].concat())
}

fn image_id(host: &Host) -> Result<String> {
    host.docker(&["image", "inspect", "busybox", "--format", "{{.Id}}"])
}

fn same_image(lab: &Lab) -> Result<()> {
    let first = image_id(lab.host(0))?;
    lab.each(|host| {
        ensure!(
            image_id(host)? == first,
            "{} has another image",
            host.name()
        );
        ensure!(run(host, &["--net=host", "busybox", "hostname"])? == host.name());
        ensure!(host.docker(&["info", "--format", "{{.Name}}"])? == host.name());
        let kept = run(
            host,
            &["busybox", "sh", "-c", "ls -ld /tmp | cut -c10; id -un"],
        )?;
        ensure!(kept == "t\nroot", "the image is incomplete: {kept}");
        Ok(())
    })
}

fn labels_and_flags(lab: &Lab) -> Result<()> {
    let labels = lab.host(2).docker(&["info", "--format", "{{.Labels}}"])?;
    ensure!(labels == "[disk=ssd]", "labels are {labels}");
    let shm = run(lab.host(0), &["busybox", "df", "-m", "/dev/shm"])?;
    ensure!(shm.contains(" 32 "), "the flag was not heeded: {shm}");
    Ok(())
}

fn limits_and_networks(lab: &Lab) -> Result<()> {
    let host = lab.host(0);
    host.docker(&["network", "create", "net"])?;
    host.docker(&[
        "run",
        "-d",
        "--net=net",
        "--name=peer",
        "-m=64m",
        "--cpus=0.5",
        "busybox",
        "sleep",
        "60",
    ])?;
    run(
        host,
        &["--net=net", "busybox", "ping", "-c1", "-W5", "peer"],
    )?;
    let files = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max";
    let limit = host.docker(&["exec", "peer", "sh", "-c", files])?;
    ensure!(limit == (64 << 20).to_string(), "the limit is {limit}");
    run(host, &["--init", "busybox", "true"]).map(drop)
}

fn published_port(lab: &Lab) -> Result<()> {
    let host = lab.host(1);
    let serve = "echo hello >/tmp/index.html; exec httpd -f -p 80 -h /tmp";
    host.docker(&["run", "-d", "-p=8080:80", "busybox", "sh", "-c", serve])?;
    let endpoint = format!("tcp://{}:8080", host.address());
    wait::until_true("the page", SOON, || {
        Ok(http::get(&endpoint, "/index.html", SOON)?.text() == "hello\n")
    })
}

fn neighbours(lab: &Lab) -> Result<()> {
    let url = format!("http://{}:2375/_ping", lab.host(1).address());
    let fetched = run(lab.host(0), &["busybox", "wget", "-q", "-O-", &url])?;
    ensure!(fetched == "OK", "the neighbour says {fetched}");
    let gateway = lab.gateway();
    run(lab.host(0), &["busybox", "ping", "-c1", "-W5", &gateway]).map(drop)
}

fn private_files(lab: &Lab) -> Result<()> {
    for folder in ["/home", "/root", "/srv", "/tmp"] {
        let name = format!("flotilla-lab-{}", std::process::id());
        run(
            lab.host(0),
            &[
                "-v",
                &format!("{folder}:/it"),
                "busybox",
                "touch",
                &format!("/it/{name}"),
            ],
        )?;
        let seen = run(
            lab.host(1),
            &["-v", &format!("{folder}:/it"), "busybox", "ls", "/it"],
        )?;
        ensure!(!seen.contains(&name), "{folder} is shared among hosts");
        ensure!(
            !std::path::Path::new(folder).join(&name).exists(),
            "{folder} is this machine's"
        );
    }
    Ok(())
}

fn fast_refusal(lab: &Lab) -> Result<()> {
    let refused = lab.host(0).client().run(&["pull", "nobody-has-this"])?;
    let took = refused.took;
    refused.refusal()?;
    ensure!(took < Duration::from_secs(3), "the refusal took {took:?}");
    Ok(())
}

fn registry(lab: &Lab) -> Result<()> {
    let registry = Registry::start(lab)?;
    let name = format!("{}/some/busybox:1", registry.address());
    lab.host(0).docker(&["tag", "busybox", &name])?;
    lab.host(0).docker(&["push", "-q", &name])?;
    ensure!(
        run(lab.host(1), &[&name, "echo", "hi"])?.ends_with("hi"),
        "the pulled image does not run"
    );
    lab.each(|host| {
        if host.name() == "host3" {
            Ok(())
        } else {
            host.docker(&["rmi", &name]).map(drop)
        }
    })
}

fn input_and_terminals(lab: &Lab) -> Result<()> {
    let client = lab.host(0).client();
    let echoed = client
        .run_with(
            &["run", "-i", "--rm", "busybox", "wc", "-c"],
            &[b'x'; 100_000],
        )?
        .ok()?;
    ensure!(echoed == "100000", "{echoed} bytes arrived");
    let failed = client.run(&["run", "--rm", "busybox", "sh", "-c", "exit 7"])?;
    ensure!(failed.code == 7, "the exit code is {}", failed.code);
    let mut terminal = client.on_terminal(&["run", "-it", "--rm", "busybox"])?;
    terminal.expect("/ # ", SOON)?;
    terminal.send("stty size; echo $((6*7)); exit 3\n")?;
    let shown = terminal.finish(SOON)?;
    ensure!(
        shown.code == 3 && shown.stdout.contains("42"),
        "it showed: {}",
        shown.stdout
    );
    Ok(())
}

fn plugins(lab: &Lab) -> Result<()> {
    let client = lab.host(0).client();
    client.run(&["buildx", "version"])?.ok()?;
    let file = "services: {web: {image: busybox, command: sleep 60, stop_signal: SIGKILL}}";
    let compose = |rest: &[&str]| {
        client
            .run_with(
                &[&["compose", "-p", "it", "-f", "-"], rest].concat(),
                file.as_bytes(),
            )?
            .ok()
    };
    compose(&["up", "-d"])?;
    ensure!(
        compose(&["ps", "-q"])?.len() == 64,
        "compose shows no container"
    );
    compose(&["down"]).map(drop)
}

fn cut_and_heal(lab: &Lab) -> Result<()> {
    let host = lab.host(1);
    host.cut()?;
    ensure!(!host.answers(), "a cut host answers");
    ensure!(
        http::get(&host.unix(), "/_ping", SOON)?.status == 200,
        "the engine must run on"
    );
    ensure!(lab.host(0).answers(), "the others must not notice");
    host.heal()?;
    host.wait_until_it_answers()
}

fn hang_and_resume(lab: &Lab) -> Result<()> {
    let host = lab.host(1);
    host.hang()?;
    TcpStream::connect((host.address(), 2375))
        .context("a hung engine's host accepts connections")?;
    ensure!(!host.answers(), "a hung engine answers");
    host.resume()?;
    host.wait_until_it_answers()
}

fn kill_engine(lab: &Lab) -> Result<()> {
    let host = lab.host(2);
    host.docker(&[
        "run",
        "-d",
        "--name=on",
        "--stop-signal=KILL",
        "busybox",
        "sleep",
        "4242",
    ])?;
    host.kill_engine()?;
    let refused = TcpStream::connect((host.address(), 2375))
        .err()
        .context("a connection")?;
    ensure!(
        refused.kind() == std::io::ErrorKind::ConnectionRefused,
        "{refused}"
    );
    let processes = host.command("ps")?.args(["-ef"]).output()?;
    ensure!(
        String::from_utf8_lossy(&processes.stdout).contains("sleep 4242"),
        "the container ended too"
    );
    host.start_engine()?;
    host.docker(&["inspect", "on"]).map(drop)
}

fn stop_and_start(lab: &Lab) -> Result<()> {
    let host = lab.host(2);
    host.stop_engine()?;
    ensure!(!host.answers(), "a stopped engine answers");
    host.start_engine()?;
    ensure!(host.answers(), "the engine is back, but not on the network");
    Ok(())
}

fn power_loss(lab: &Lab) -> Result<()> {
    let host = lab.host(0);
    let id = host.docker(&["info", "--format", "{{.ID}}"])?;
    host.docker(&[
        "run",
        "-d",
        "--name=stays",
        "--restart=always",
        "busybox",
        "sleep",
        "600",
    ])?;
    host.docker(&["run", "-d", "--name=goes", "busybox", "sleep", "600"])?;
    host.docker(&[
        "run",
        "--rm",
        "-v",
        "data:/data",
        "-v",
        "/srv:/srv",
        "busybox",
        "touch",
        "/data/kept",
        "/srv/kept",
    ])?;
    host.power_off()?;
    ensure!(
        !host.answers() && !host.is_on(),
        "a host without power answers"
    );
    ensure!(lab.host(1).answers(), "the others must not notice");
    host.power_on()?;
    let running = || host.docker(&["ps", "--format", "{{.Names}}"]);
    wait::until_true("the container to come back", SOON, || {
        Ok(running()? == "stays")
    })?;
    ensure!(
        host.docker(&["info", "--format", "{{.ID}}"])? == id,
        "it is another engine now"
    );
    run(
        host,
        &[
            "-v",
            "data:/data",
            "-v",
            "/srv:/srv",
            "busybox",
            "ls",
            "/data/kept",
            "/srv/kept",
        ],
    )
    .map(drop)
}

fn sizes(lab: &Lab) -> Result<()> {
    let host = lab.host(0);
    let size = || host.docker(&["info", "--format", "{{.NCPU}} {{.MemTotal}}"]);
    ensure!(size()? == "1 1610612736", "it says {}", size()?);
    let cpus = run(host, &["busybox", "nproc"])?;
    ensure!(cpus == "1", "containers see {cpus} CPUs");
    let whole = lab.host(1).docker(&["info", "--format", "{{.MemTotal}}"])?;
    ensure!(whole != "1610612736", "another host says the same");
    host.power_off()?;
    host.power_on()?;
    ensure!(size()? == "1 1610612736", "now it says {}", size()?);
    Ok(())
}

fn old_engine(lab: &Lab) -> Result<()> {
    let other = Lab::start(&Spec::default().and(HostSpec::old()))?;
    let (old, new) = (other.host(0), lab.host(0));
    println!("engines: {} and {}", new.version()?, old.version()?);
    ensure!(
        old.version()?.starts_with("20.10."),
        "the old engine is {}",
        old.version()?
    );
    ensure!(image_id(old)? == image_id(new)?, "the image ids differ");
    ensure!(run(old, &["-m=64m", "--init", "busybox", "echo", "hi"])? == "hi");
    ensure!(
        run(new, &["busybox", "echo", "hi"])? == "hi",
        "two labs disturb each other"
    );
    other.end()?;
    ensure!(other.remains().is_empty(), "left: {:?}", other.remains());
    Ok(())
}

fn nothing_left(_: &Lab) -> Result<()> {
    let lab = Lab::start(&Spec::hosts(2))?;
    lab.host(0).docker(&[
        "run",
        "-d",
        "-m=64m",
        "-p=80:80",
        "--restart=always",
        "busybox",
        "sleep",
        "600",
    ])?;
    // What is frozen cannot be killed, yet it must go.
    lab.host(0)
        .docker(&["run", "-d", "--name=paused", "busybox", "sleep", "600"])?;
    lab.host(0).docker(&["pause", "paused"])?;
    ensure!(!lab.remains().is_empty(), "a running lab is not seen");
    lab.host(1).hang()?;
    lab.end()?;
    ensure!(lab.remains().is_empty(), "left: {:?}", lab.remains());
    Ok(())
}

fn killed_owner(_: &Lab) -> Result<()> {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(["up", "--hosts=1"])
        .stdout(Stdio::piped())
        .spawn()
        .context("`lab` does not start")?;
    let mut lines = BufReader::new(owner.stdout.take().context("no pipe")?).lines();
    let folder =
        lines.find_map(|line| Some(line.ok()?.strip_prefix("logs and data: ")?.to_owned()));
    owner.kill()?;
    owner.wait()?;
    let folder = folder.context("`lab` shows no folder")?;
    let begun = Instant::now();
    let number = folder.rsplit('/').next().context("a number")?;
    let link = format!("/sys/class/net/flotilla{number}");
    wait::until_true("the link to go", SOON, || {
        Ok(!std::path::Path::new(&link).exists())
    })?;
    ensure!(begun.elapsed() < SOON);
    lab::sweep()?;
    ensure!(
        !std::path::Path::new(&folder).exists(),
        "the folder is left"
    );
    Ok(())
}
