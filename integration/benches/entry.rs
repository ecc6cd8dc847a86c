//! What a connection by way of the manager costs, compared with one to the node, and with a plain proxy.

#![expect(clippy::disallowed_methods, reason = "benches measure real time")]

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use integration::bench::{self, Probe, Table, interleaved, quantile, time};
use integration::lab::{self, Host, Lab, Spec};
use integration::pool::Pool;
use integration::wait;

const ROUNDS: usize = 5;
/// So many connections and questions a round.
const QUESTIONS: usize = 300;
/// So many blocks of 64 KiB a round: 512 MiB.
const BLOCKS: usize = 8192;
const BLOCK: usize = 64 << 10;
/// As many as a manager takes that may have 20,000 descriptors, which many machines give at most.
const IDLE: usize = 8_500;
const SOON: Duration = Duration::from_secs(20);

/// Answers each line: `flood N` with N blocks, `hold` by being silent for ever, others with `pong`. Ends when nobody waits for
/// it any more.
const SERVER: &str = r#"
if ($child = fork) { <STDIN>; kill 9, $child; exit }
$SIG{CHLD} = "IGNORE";
$s = IO::Socket::INET->new(LocalPort => 80, Listen => 1024, ReuseAddr => 1) or die;
$h = IO::Socket::INET->new(LocalPort => 81, Listen => 1024, ReuseAddr => 1) or die;
if (!fork) { while ($c = $h->accept) { push @held, $c } exit }
while ($c = $s->accept) {
    if (!fork) {
        $c->autoflush(1);
        $block = "\0" x 65536;
        while (<$c>) { if (/flood (\d+)/) { for (1 .. $1) { print $c $block } } else { print $c "pong\n" } }
        exit;
    }
    close $c;
}
"#;

fn main() -> ExitCode {
    bench::main(measure)
}

fn measure(table: &mut Table) -> Result<()> {
    if let Some(reason) = lab::unavailable() {
        println!("not measured: {reason}");
        return Ok(());
    }
    let lab = Lab::start(&Spec::hosts(1))?;
    let host = lab.host(0);
    let pool = Pool::over(&lab)?;
    pool.ok("run -d --name=it --stop-signal=KILL -p 80 -p 81 busybox sleep 3600")?;
    let server = serve(&pool, host)?;
    let port = |private: u16| -> Result<u16> {
        let shown = pool.ok(&format!("port it {private}"))?;
        let (_, number) = shown.rsplit_once(':').context("no port")?;
        Ok(number.parse()?)
    };
    let (number, held) = (port(80)?, port(81)?);
    let node: SocketAddr = format!("{}:{number}", host.address()).parse()?;
    let entry: SocketAddr = ([127, 0, 0, 1], number).into();
    for address in [node, entry] {
        wait::until_true(&format!("an answer at {address}"), SOON, || {
            Ok(question(address).is_ok())
        })?;
    }
    latency(table, node, entry)?;
    throughput(table, node, entry)?;
    idle(table, &pool, ([127, 0, 0, 1], held).into())?;
    drop(pool);
    end(server)?;
    lab.end()
}

fn serve(pool: &Pool, host: &Host) -> Result<Child> {
    let pid = pool.ok("inspect -f {{.State.Pid}} it")?;
    let mut command = host.command("nsenter")?;
    command.args(["--net", "--target", &pid, "--"]);
    command.args(["perl", "-MIO::Socket::INET", "-e", SERVER]);
    Ok(command.stdin(Stdio::piped()).spawn()?)
}

fn end(mut server: Child) -> Result<()> {
    drop(server.stdin.take());
    server.wait()?;
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// Connects, asks, and is answered.
fn question(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = connect(address)?;
    ask(&mut stream)?;
    Ok(stream)
}

fn ask(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"ping\n")?;
    let mut answer = String::new();
    BufReader::new(&mut *stream).read_line(&mut answer)?;
    ensure!(answer == "pong\n", "{answer:?}");
    Ok(())
}

fn latency(table: &mut Table, node: SocketAddr, entry: SocketAddr) -> Result<()> {
    let connections = |address| {
        move || {
            let mut times = Vec::with_capacity(QUESTIONS);
            for _ in 0..QUESTIONS {
                let begun = Instant::now();
                question(address)?;
                times.push(begun.elapsed().as_secs_f64());
            }
            Ok(quantile(&mut times, 0.5))
        }
    };
    let questions = |address| {
        move || {
            let mut stream = connect(address)?;
            let mut times = Vec::with_capacity(QUESTIONS);
            for _ in 0..QUESTIONS {
                let begun = Instant::now();
                ask(&mut stream)?;
                times.push(begun.elapsed().as_secs_f64());
            }
            Ok(quantile(&mut times, 0.5))
        }
    };
    let mut probes: [Probe<'_>; 4] = [
        Box::new(connections(node)),
        Box::new(connections(entry)),
        Box::new(questions(node)),
        Box::new(questions(entry)),
    ];
    let medians = interleaved(ROUNDS, &mut probes)?;
    table.part(
        "one more hop, median",
        ["to the node", "by the manager", "ms more"],
    );
    for (what, at) in [("connect and be answered", 0), ("be answered", 2)] {
        let (direct, hop) = (medians[at], medians[at + 1]);
        table.at_most(what, &time(direct), &time(hop), (hop - direct) * 1e3, 0.5);
    }
    Ok(())
}

/// Seconds for all blocks.
fn flood(address: SocketAddr) -> Result<f64> {
    let mut stream = connect(address)?;
    let begun = Instant::now();
    stream.write_all(format!("flood {BLOCKS}\n").as_bytes())?;
    let mut left = BLOCKS * BLOCK;
    let mut buffer = vec![0; BLOCK];
    while left > 0 {
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the stream ended with {left} bytes left");
        left -= length;
    }
    Ok(begun.elapsed().as_secs_f64())
}

fn throughput(table: &mut Table, node: SocketAddr, entry: SocketAddr) -> Result<()> {
    let plain = plain_proxy(node)?;
    let mut probes: [Probe<'_>; 3] = [
        Box::new(|| flood(node)),
        Box::new(|| flood(plain)),
        Box::new(|| flood(entry)),
    ];
    let medians = interleaved(ROUNDS, &mut probes)?;
    let rate = |seconds: f64| format!("{:.0} MB/s", (BLOCKS * BLOCK) as f64 / seconds / 1e6);
    table.part("throughput", ["plain proxy", "the manager", "ratio"]);
    table.at_least(
        "one stream",
        &rate(medians[1]),
        &rate(medians[2]),
        medians[1] / medians[2],
        0.9,
    );
    table.row("to the node", &rate(medians[0]), "", "");
    Ok(())
}

/// A proxy as simple as can be: two threads a connection, which read and write.
fn plain_proxy(to: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(to) else {
                return;
            };
            for stream in [&client, &server] {
                drop(stream.set_nodelay(true));
            }
            let pairs = [
                (client.try_clone(), server.try_clone()),
                (Ok(server), Ok(client)),
            ];
            for (from, to) in pairs {
                let (Ok(from), Ok(to)) = (from, to) else {
                    return;
                };
                thread::spawn(move || copy(from, to));
            }
        }
    });
    Ok(address)
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; BLOCK];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Write));
}

fn idle(table: &mut Table, pool: &Pool, entry: SocketAddr) -> Result<()> {
    let pid = pool.manager.pid().context("the manager has ended")?;
    let before = resident(pid)?;
    let mut held = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        held.push(connect(entry)?);
    }
    let sockets = || Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() > 2 * IDLE);
    wait::until_true("the manager to have joined all", SOON, sockets)?;
    let after = resident(pid)?;
    let each = (after - before) / IDLE as f64;
    table.part(
        "connections that are silent",
        ["before", "with them", "kB each"],
    );
    table.at_most(
        &format!("{IDLE} connections"),
        &format!("{:.0} MB", before / 1e6),
        &format!("{:.0} MB", after / 1e6),
        each / 1e3,
        20.0,
    );
    Ok(())
}

/// Bytes of a process that are in memory.
fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let mut words = line.context("no VmRSS")?.split_whitespace();
    let kilobytes: f64 = words.nth(1).context("no number")?.parse()?;
    Ok(kilobytes * 1024.0)
}
