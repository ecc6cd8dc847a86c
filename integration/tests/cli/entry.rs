//! The entry point: published ports at the manager.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use integration::compose::Project;
use integration::harness::{Case, case};
use integration::images::noise;
use integration::lab::{Host, Lab};
use integration::pool::Pool;
use integration::wait;

use crate::{SOON, contains};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_published_port_answers_at_the_manager_and_the_node", both),
        case("a_port_on_ipv6_alone_is_its_nodes_own", on_ipv6_alone),
        case("a_port_on_a_nodes_address_goes_to_that_node", of_a_node),
        case("a_port_is_open_once_its_container_is_told_to_run", at_once),
        case("random_ports_are_unique_and_kept", random),
        case("a_chosen_port_that_is_taken_is_told", taken),
        case("a_port_that_the_manager_has_is_not_chosen", own),
        case("a_range_gives_one_of_its_ports", range),
        case("containers_of_one_entry_are_balanced", balanced),
        case("a_dead_backend_is_skipped", dead),
        case("a_cut_node_is_skipped_at_once", cut),
        case("an_unrelated_publisher_is_told_who_has_the_port", unrelated),
        case("only_healthy_containers_are_reached", health),
        case("long_streams_pass_whole_in_both_directions", long),
        case("datagrams_are_passed_on", udp),
        case("compose_publishes_at_the_manager", compose),
        case("a_manager_beside_an_engine_leaves_its_ports_alone", beside),
        case("the_entry_point_can_be_off", off),
    ]
}

/// Answers with its hostname, which is the container's name here.
const WHO: &str = "busybox sh -c 'hostname >/tmp/index.html; exec httpd -f -p 80 -h /tmp'";

/// A number that nobody listens on, here or, as labs go, in a host.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("[::]:0")?.local_addr()?.port())
}

/// What a server says to one connection; the address is a host or the manager's.
fn ask(address: &str, port: u16) -> Result<String> {
    let address: SocketAddr = format!("{address}:{port}").parse()?;
    let mut stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.contains(" 200 "), "{head}");
    Ok(body.trim().to_owned())
}

const MANAGER: &str = "127.0.0.1";

fn comes_to_answer(address: &str, port: u16, who: &str) -> Result<()> {
    wait::until_true(&format!("{who} at {address}:{port}"), SOON, || {
        Ok(ask(address, port).is_ok_and(|answer| answer == who))
    })
}

/// Waits until nobody listens there.
fn comes_to_refuse(port: u16) -> Result<()> {
    wait::until_true(&format!("port {port} to be closed"), SOON, || {
        Ok(TcpStream::connect((MANAGER, port)).is_err())
    })
}

/// Who answers how often.
fn answers(port: u16, times: usize) -> Result<BTreeMap<String, usize>> {
    let mut answers = BTreeMap::new();
    for _ in 0..times {
        *answers.entry(ask(MANAGER, port)?).or_default() += 1;
    }
    Ok(answers)
}

fn address_of<'a>(lab: &'a Lab, node: &str) -> Result<&'a str> {
    Ok(lab.host_named(node)?.address())
}

fn both(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let port = free_port()?;
    pool.ok(&format!(
        "run -d --name=web --hostname=web -p {port}:80 {WHO}"
    ))?;
    let node = address_of(lab, &pool.node_of("web")?)?;
    comes_to_answer(node, port, "web")?;
    comes_to_answer(MANAGER, port, "web")?;
    comes_to_answer("[::1]", port, "web")?;
    let shown = format!("{node}:{port}");
    pool.says("port web 80", &shown)?;
    contains(
        &pool.ok("ps --format {{.Ports}}")?,
        &format!("{shown}->80/tcp"),
    )?;
    // It comes and goes with the container.
    pool.ok("stop -t 0 web")?;
    comes_to_refuse(port)?;
    pool.ok("start web")?;
    comes_to_answer(MANAGER, port, "web")?;
    pool.ok("rm -f web")?;
    comes_to_refuse(port)?;
    // A port of one address of the node is the node's alone.
    pool.ok(&format!("run -d --name=own -p 127.0.0.1:{port}:80 {WHO}"))?;
    pool.ok("exec own wget -q -O - 127.0.0.1:80")?;
    comes_to_refuse(port)
}

fn on_ipv6_alone(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let port = free_port()?;
    pool.ok(&format!("run -d --name=six -p '[::]:{port}:80' {WHO}"))?;
    pool.says("port six", &format!("80/tcp -> [::]:{port}"))?;
    pool.says("ps --format {{.Ports}}", &format!("[::]:{port}->80/tcp"))?;
    ensure!(
        TcpStream::connect((MANAGER, port)).is_err(),
        "the manager listens on it"
    );
    // In IPv4 the number is free, on the same node too.
    let node = pool.node_of("six")?;
    pool.ok(&format!(
        "run -d --name=four --hostname=four -p 0.0.0.0:{port}:80 -e constraint:node=={node} {WHO}"
    ))?;
    comes_to_answer(MANAGER, port, "four")
}

fn of_a_node(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let port = free_port()?;
    for host in lab.hosts() {
        let (name, address) = (host.name(), host.address());
        pool.ok(&format!(
            "run -d --name=on-{name} -p {address}:{port}:80 --hostname={name} {WHO}"
        ))?;
        comes_to_answer(address, port, name)?;
        let node = pool.node_of(&format!("on-{name}"))?;
        ensure!(node == name, "{address} of {name} is on {node}");
        let port = free_port()?;
        pool.refuses(
            &format!("run -p {address}:{port}:80 -e constraint:node!={name} {WHO}"),
            &format!("excluded by address {address}, which is on {name}"),
        )?;
    }
    // Whose this is nobody knows. An engine does not say where it is not.
    let refusal = pool.refusal(&format!("run --name=lost -p 192.0.2.1:{port}:80 {WHO}"))?;
    contains(&refusal, "cannot assign requested address")?;
    let node = pool.node_of("lost")?;
    contains(&refusal, &format!("(on node {node})"))
}

/// As on an engine, which listens before it answers the start, and no more once it answers the stop.
fn at_once(lab: &Lab) -> Result<()> {
    const ROUNDS: usize = 30;
    let pool = Pool::over(lab)?;
    let port = free_port()?;
    pool.ok(&format!("create --name=web -p {port}:80 busybox sleep 600"))?;
    let change = |change: &str| {
        let answer = pool.ask("POST", &format!("/containers/web/{change}"), b"")?;
        ensure!(answer.status == 204, "{change}: {}", answer.text());
        // Nobody listens in the container, so a connection may end at once.
        let refused = TcpStream::connect((MANAGER, port)).err();
        Ok(refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused))
    };
    for round in 0..ROUNDS {
        ensure!(!change("start")?, "round {round}: it is not listened on");
        ensure!(
            change("stop?t=0")?,
            "round {round}: it is listened on still"
        );
    }
    Ok(())
}

fn long(lab: &Lab) -> Result<()> {
    const BYTES: usize = 32 << 20;
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=echo --stop-signal=KILL -p 80 busybox nc -ll -p 80 -e cat")?;
    let port = number(&pool, "echo")?;
    let sent = noise(BYTES);
    for round in 0..3 {
        let connect = || TcpStream::connect((MANAGER, port)).ok();
        let stream = wait::until("a listener", SOON, || Ok(connect()))?;
        stream.set_read_timeout(Some(SOON))?;
        let mut back = Vec::with_capacity(BYTES);
        std::thread::scope(|scope| {
            let up = scope.spawn(|| {
                (&stream).write_all(&sent)?;
                stream.shutdown(Shutdown::Write)
            });
            // Whoever is slow is waited for.
            if round == 1 {
                std::thread::sleep(Duration::from_millis(300));
            }
            let down = (&stream).read_to_end(&mut back);
            up.join().map_err(|_| anyhow::anyhow!("it panicked"))??;
            anyhow::Ok(down?)
        })?;
        ensure!(back == sent, "{} bytes of {BYTES} came back", back.len());
    }
    Ok(())
}

/// The number under which the container's port 80 is published.
fn number(pool: &Pool, name: &str) -> Result<u16> {
    let shown = pool.ok(&format!("port {name} 80"))?;
    let (_, number) = shown.rsplit_once(':').context("no port")?;
    Ok(number.parse()?)
}

fn random(lab: &Lab) -> Result<()> {
    let mut pool = Pool::of(&lab.endpoints(), &["--random-ports=21000-21999"])?;
    let names: Vec<String> = (0..12).map(|turn| format!("web-{turn}")).collect();
    let run = &|name: &str| {
        pool.ok(&format!(
            "run -d --name={name} --hostname={name} -p 80 {WHO}"
        ))
    };
    let ran: Result<Vec<_>> = std::thread::scope(|scope| {
        let runs: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(move || run(name)))
            .collect();
        let ended = runs.into_iter().map(|run| run.join().expect("no panic"));
        ended.collect()
    });
    ran?;
    let mut ports = BTreeSet::new();
    let mut nodes = BTreeSet::new();
    for name in &names {
        let number = number(&pool, name)?;
        ensure!((21_000..22_000).contains(&number), "{name} has {number}");
        ensure!(ports.insert(number), "two have {number}");
        comes_to_answer(MANAGER, number, name)?;
        nodes.insert(pool.node_of(name)?);
    }
    ensure!(nodes.len() == 3, "{nodes:?}");
    pool.ok(&format!(
        "run -d --name=all --hostname=all -P --expose 80 {WHO}"
    ))?;
    let all = number(&pool, "all")?;
    ensure!(
        (21_000..22_000).contains(&all) && ports.insert(all),
        "-P got {all}"
    );
    comes_to_answer(MANAGER, all, "all")?;
    pool.ok("commit --change 'EXPOSE 80' all exposing")?;
    pool.ok("run -d --name=image --hostname=image -P exposing")?;
    let image = number(&pool, "image")?;
    ensure!(
        (21_000..22_000).contains(&image) && ports.insert(image),
        "-P got {image}"
    );
    comes_to_answer(MANAGER, image, "image")?;
    let before = number(&pool, "web-0")?;
    pool.ok("restart -t 0 web-0")?;
    ensure!(number(&pool, "web-0")? == before, "it has another port");
    pool.ok("stop -t 0 web-0")?;
    pool.ok("start web-0")?;
    comes_to_answer(MANAGER, before, "web-0")?;
    pool.manager.kill()?;
    pool.manager.start_again()?;
    pool.wait_until_ready(3)?;
    ensure!(number(&pool, "web-0")? == before, "it has another port");
    comes_to_answer(MANAGER, before, "web-0")?;
    // Kept while it is stopped, free once it is removed.
    pool.ok("stop -t 0 web-0")?;
    let again = number_of_all(&pool, 6)?;
    ensure!(!again.contains(&before), "{before} was given away");
    Ok(())
}

fn number_of_all(pool: &Pool, count: usize) -> Result<BTreeSet<u16>> {
    let mut numbers = BTreeSet::new();
    for turn in 0..count {
        let name = format!("more-{turn}");
        pool.ok(&format!("run -d --name={name} -p 80 {WHO}"))?;
        numbers.insert(number(pool, &name)?);
    }
    Ok(numbers)
}

/// A script inside a host that ends when nobody waits for it any more.
struct Perl(Child);

impl Perl {
    fn start(host: &Host, prefix: &[&str], script: &str) -> Result<Self> {
        let until_we_leave = "if ($child = fork) { <STDIN>; kill 9, $child; exit }";
        let script = format!("{until_we_leave} {script}");
        let mut command = host.command("env")?;
        command.args(prefix);
        command.args(["perl", "-MIO::Socket::INET", "-e", &script]);
        Ok(Self(command.stdin(Stdio::piped()).spawn()?))
    }

    fn end(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        self.0.wait()?;
        Ok(())
    }
}

/// Something that no engine knows of listens on the number that the pool chose.
fn taken(lab: &Lab) -> Result<()> {
    let host = lab.host(0);
    let endpoints = [host.tcp()];
    let pool = Pool::of(&endpoints, &["--random-ports=24000-24000"])?;
    let listen = "$s = IO::Socket::INET->new(LocalPort => 24000, Listen => 1) or die; sleep 60";
    let listener = Perl::start(host, &[], listen)?;
    let address: SocketAddr = format!("{}:24000", host.address()).parse()?;
    wait::until_true("the listener", SOON, || {
        Ok(TcpStream::connect(address).is_ok())
    })?;
    let refused = pool.refusal(&format!("run -d --name=web --hostname=web -p 80 {WHO}"))?;
    contains(
        &refused,
        "the pool chose host port 24000/tcp for this container",
    )?;
    contains(&refused, "remove the container and create it again")?;
    pool.refuses(
        &format!("run -d -p 80 {WHO}"),
        "all tcp ports from 24000 to 24000 are taken",
    )?;
    listener.end()?;
    pool.ok("start web")?;
    comes_to_answer(MANAGER, 24_000, "web")
}

/// Clients that go to the manager would reach what listens there in the container's place.
fn own(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--random-ports=24100-24101"])?;
    let _tcp = TcpListener::bind((MANAGER, 24_100))?;
    let _udp = UdpSocket::bind((MANAGER, 24_101))?;
    pool.ok(&format!(
        "run -d --name=web --hostname=web -p 80 -p 53/udp {WHO}"
    ))?;
    ensure!(number(&pool, "web")? == 24_101, "{}", number(&pool, "web")?);
    contains(&pool.ok("port web 53/udp")?, ":24100")?;
    comes_to_answer(MANAGER, 24_101, "web")
}

fn range(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for name in ["one", "two"] {
        pool.ok(&format!("run -d --name={name} -p 22100-22101:80 {WHO}"))?;
    }
    let numbers = BTreeSet::from([number(&pool, "one")?, number(&pool, "two")?]);
    ensure!(numbers == BTreeSet::from([22_100, 22_101]), "{numbers:?}");
    // More than one number has no place in one with all taken in the pool; a third node has them free.
    pool.ok(&format!("run -d --name=three -p 22100-22101:80 {WHO}"))?;
    let third = number(&pool, "three")?;
    ensure!((22_100..=22_101).contains(&third), "{third}");
    Ok(())
}

fn three(lab: &Lab, port: u16) -> Result<Pool> {
    let pool = Pool::over(lab)?;
    for name in ["web-a", "web-b", "web-c"] {
        pool.ok(&format!(
            "run -d --name={name} --hostname={name} --label com.flotilla.entry=web --stop-signal=KILL -p {port}:80 {WHO}"
        ))?;
    }
    let all = ["web-a", "web-b", "web-c"].map(|name| pool.node_of(name));
    let nodes: BTreeSet<String> = all.into_iter().collect::<Result<_>>()?;
    ensure!(nodes.len() == 3, "{nodes:?}");
    wait::until_true("all three to answer", SOON, || {
        Ok(answers(port, 6).is_ok_and(|answers| answers.len() == 3))
    })?;
    Ok(pool)
}

fn balanced(lab: &Lab) -> Result<()> {
    let port = free_port()?;
    let pool = three(lab, port)?;
    let counts = answers(port, 30)?;
    ensure!(counts.values().all(|count| *count == 10), "{counts:?}");
    pool.ok("rm -f web-b")?;
    wait::until_true("two to answer", SOON, || Ok(answers(port, 4)?.len() == 2))?;
    Ok(())
}

fn dead(lab: &Lab) -> Result<()> {
    let port = free_port()?;
    let pool = three(lab, port)?;
    // Its server is gone, the container is not: nobody but the connection itself tells.
    pool.ok("exec web-b sh -c 'kill -STOP 1; kill -9 $(pidof httpd)'")
        .ok();
    let counts = answers(port, 30)?;
    ensure!(counts.values().sum::<usize>() == 30, "{counts:?}");
    // The manager hears of an end at the same time as everybody else; no connection may fail over it.
    let ended = std::thread::scope(|scope| {
        let killed = scope.spawn(|| pool.ok("kill web-a"));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            if let Err(error) = ask(MANAGER, port) {
                // What was under way to it when it was killed is cut, as anywhere.
                tolerate(&error)?;
            }
            ensure!(
                asked.elapsed() < Duration::from_secs(2),
                "{:?}",
                asked.elapsed()
            );
        }
        killed.join().expect("no panic")
    });
    ended?;
    for _ in 0..10 {
        ask(MANAGER, port)?;
    }
    Ok(())
}

/// A connection that was open when its container was killed.
fn tolerate(error: &anyhow::Error) -> Result<()> {
    let text = format!("{error:#}");
    if text.contains("reset") || text.contains("no answer") {
        return Ok(());
    }
    bail!("{text}")
}

fn cut(lab: &Lab) -> Result<()> {
    let port = free_port()?;
    let pool = three(lab, port)?;
    let host = lab.host(1);
    host.cut()?;
    // Before anybody knows of the loss: the one on that node is skipped, then left out.
    let mut slow = 0;
    for _ in 0..12 {
        let begun = Instant::now();
        ask(MANAGER, port)?;
        let took = begun.elapsed();
        ensure!(took < Duration::from_millis(800), "{took:?}");
        slow += usize::from(took > Duration::from_millis(200));
    }
    ensure!(slow <= 1, "{slow} connections paid for one lost node");
    pool.wait_until_ready(2)?;
    let counts = answers(port, 10)?;
    ensure!(counts.len() == 2, "{counts:?}");
    host.heal()?;
    pool.wait_until_ready(3)?;
    wait::until_true("all three to answer", SOON, || {
        Ok(answers(port, 6)?.len() == 3)
    })
}

fn unrelated(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let port = free_port()?;
    pool.ok(&format!(
        "run -d --name=first --hostname=first -p {port}:80 {WHO}"
    ))?;
    comes_to_answer(MANAGER, port, "first")?;
    let second = pool.run(&format!(
        "run -d --name=second --hostname=second -p {port}:80 {WHO}"
    ))?;
    let node = pool.node_of("second")?;
    ensure!(node != pool.node_of("first")?);
    contains(
        &second.stderr,
        &format!("port {port} of the pool leads to container first"),
    )?;
    contains(&second.stderr, &format!("reached at {node}:{port} only"))?;
    second.ok()?;
    comes_to_answer(address_of(lab, &node)?, port, "second")?;
    let counts = answers(port, 6)?;
    ensure!(
        counts.len() == 1 && counts.contains_key("first"),
        "{counts:?}"
    );
    // When the first is gone, the port is the other's.
    pool.ok("rm -f first")?;
    comes_to_answer(MANAGER, port, "second")
}

fn health(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let port = free_port()?;
    pool.ok(&format!(
        "run -d --name=web --hostname=web -p {port}:80 --health-cmd='test -e /well' --health-interval=300ms --health-retries=1 {WHO}"
    ))?;
    let node = address_of(lab, &pool.node_of("web")?)?;
    comes_to_answer(node, port, "web")?;
    pool.comes_to_say("inspect -f {{.State.Health.Status}} web", "unhealthy", SOON)?;
    comes_to_refuse(port)?;
    pool.ok("exec web touch /well")?;
    comes_to_answer(MANAGER, port, "web")?;
    pool.ok("exec web rm /well")?;
    comes_to_refuse(port)
}

/// Sends every datagram back.
const ECHO: &str = "$s = IO::Socket::INET->new(LocalPort => 7, Proto => 'udp') or die; \
                    while ($from = $s->recv($it, 9999)) { $s->send($it, 0, $from) }";

fn udp(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let port = free_port()?;
    pool.ok(&format!(
        "run -d --name=echo --stop-signal=KILL -p {port}:7/udp busybox sleep 600"
    ))?;
    let host = lab.host_named(&pool.node_of("echo")?)?;
    // The image has nothing that speaks UDP; the host's own perl answers in the container's network.
    let pid = pool.ok("inspect -f {{.State.Pid}} echo")?;
    let echo = Perl::start(host, &["nsenter", "--net", "--target", &pid, "--"], ECHO)?;
    let clients: Vec<UdpSocket> = (0..3)
        .map(|_| {
            let socket = UdpSocket::bind((MANAGER, 0))?;
            socket.connect((MANAGER, port))?;
            socket.set_read_timeout(Some(Duration::from_millis(500)))?;
            Ok(socket)
        })
        .collect::<Result<_>>()?;
    for (turn, client) in clients.iter().enumerate() {
        let sent = format!("datagram {turn}");
        wait::until_true("an echo", SOON, || {
            // Nobody listens yet: such is UDP.
            let _ = client.send(sent.as_bytes());
            let mut buffer = [0; 100];
            let came = client.recv(&mut buffer);
            Ok(came.is_ok_and(|length| buffer[..length] == *sent.as_bytes()))
        })?;
    }
    pool.ok("rm -f echo")?;
    echo.end()
}

fn compose(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--random-ports=23000-23999"])?;
    let port = free_port()?;
    let file = format!(
        "
services:
  web:
    image: busybox
    command: sh -c 'hostname >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
    hostname: web
    stop_signal: KILL
    ports: ['{port}:80']
  any:
    image: busybox
    command: sh -c 'hostname >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
    stop_signal: KILL
    ports: ['80']
    deploy: {{ replicas: 3 }}
"
    );
    let project = Project::new(&pool, "it", &file)?;
    project.ok("up -d")?;
    comes_to_answer(MANAGER, port, "web")?;
    let shown = project.ok("port any 80")?;
    let (_, number) = shown.rsplit_once(':').context("no port")?;
    ensure!(ask(MANAGER, number.parse()?).is_ok(), "{shown}");
    project.is_up_to_date()?;
    // Made anew, under the same port, and with no warning of its predecessor.
    let anew = project.run("up -d --force-recreate web")?;
    ensure!(
        anew.code == 0 && !anew.stderr.contains("of the pool leads"),
        "{anew:?}"
    );
    comes_to_answer(MANAGER, port, "web")?;
    project.ok("down -t 0")?;
    comes_to_refuse(port)
}

/// The engines of host 1 and 2, and a manager that runs on host 1 itself.
fn beside(lab: &Lab) -> Result<()> {
    let (here, there) = (lab.host(0), lab.host(1));
    let manager = integration::flotilla::Flotilla::start_beside(here, &[here.unix(), there.tcp()])?;
    let pool = Pool::behind(manager, 2)?;
    let port = 8080;
    let on = |host: &Host, name: &str| {
        pool.ok(&format!(
            "run -d --name={name} --hostname={name} -e constraint:node=={} --stop-signal=KILL -p {port}:80 {WHO}",
            host.name()
        ))
    };
    // What runs elsewhere is reached at the manager's host.
    on(there, "far")?;
    comes_to_answer(there.address(), port, "far")?;
    comes_to_answer(here.address(), port, "far")?;
    // What its own engine is to publish has the port, though the manager listened there.
    on(here, "near")?;
    comes_to_answer(here.address(), port, "near")?;
    pool.ok("restart -t 0 near")?;
    comes_to_answer(here.address(), port, "near")?;
    // Also while it does not run, and when its engine is down and comes back.
    pool.ok("stop -t 0 near")?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(
        ask(here.address(), port).is_err(),
        "the manager took the port"
    );
    pool.ok("start near")?;
    comes_to_answer(here.address(), port, "near")?;
    pool.ok("update --restart=always near")?;
    here.kill_engine()?;
    std::thread::sleep(Duration::from_secs(2));
    here.recover()?;
    comes_to_answer(here.address(), port, "near")?;
    pool.wait_until_ready(2)?;
    // With it gone, the other has the port of both, and at once.
    pool.ok("rm -f near")?;
    let said = ask(here.address(), port)?;
    ensure!(said == "far", "{said}");
    Ok(())
}

fn off(lab: &Lab) -> Result<()> {
    let pool = Pool::of(&lab.endpoints(), &["--entry-point=off"])?;
    let port = free_port()?;
    pool.ok(&format!(
        "run -d --name=web --hostname=web -p {port}:80 {WHO}"
    ))?;
    comes_to_answer(address_of(lab, &pool.node_of("web")?)?, port, "web")?;
    comes_to_refuse(port)
}
