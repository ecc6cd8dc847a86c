//! The manager is killed in the middle of things, again and again, under load: nothing is lost, nothing is doubled, no
//! name is stuck, and every container is accounted for.
//!
//! `KILLS=n` says how often it is killed (default 26: twice at each step), `SEED=n` begins with another seed.

#![expect(
    clippy::disallowed_methods,
    reason = "the lab runs real processes in real time"
)]

mod load;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flotilla::data::Data;
use flotilla::sim::checker::{Action, Contents, Existing, Operation, Outcome, Placed, check};
use flotilla::state::audit;
use integration::counter::{Counter, Moment, Watcher};
use integration::flotilla::Flotilla;
use integration::harness::{self, Case, case};
use integration::http;
use integration::lab::{Host, Lab, Spec};
use integration::pool::Pool;
use integration::wait;
use raft_store::sim::Dice;
use rustix::process::{Pid, Signal, kill_process};

use load::{Load, Order};

const HOSTS: usize = 3;
const SOON: Duration = Duration::from_secs(30);
/// A step that does not come by then is not waited for: the manager is killed wherever it is.
const STEP_COMES: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    harness::main(Spec::hosts(HOSTS), cases())
}

fn cases() -> Vec<Case> {
    vec![
        case("a_manager_killed_at_any_step_loses_nothing", killed),
        case("fifty_creates_of_one_name_have_one_winner", one_name),
        case("a_full_disk_refuses_and_loses_nothing", full_disk),
        case("a_damaged_log_is_refused_and_left_as_it_is", damaged_log),
    ]
}

/// What the manager is doing when it is killed: this moment of an engine request that begins and ends so; or
/// anything.
type Step = Option<(&'static str, &'static str, Moment)>;

const STEPS: [Step; 13] = [
    Some(("POST /containers/create", "", Moment::Arrived)),
    Some(("POST /containers/create", "", Moment::Passed)),
    Some(("POST /containers/create", "", Moment::Answered)),
    Some(("POST /containers/create", "", Moment::Returned)),
    Some(("POST /containers/", "/rename", Moment::Arrived)),
    Some(("POST /containers/", "/rename", Moment::Passed)),
    Some(("POST /containers/", "/rename", Moment::Answered)),
    Some(("DELETE /containers/", "", Moment::Arrived)),
    Some(("DELETE /containers/", "", Moment::Answered)),
    Some(("DELETE /containers/", "", Moment::Returned)),
    Some(("POST /containers/", "/start", Moment::Arrived)),
    Some(("POST /containers/", "/start", Moment::Answered)),
    None,
];

/// Waits for a step, and kills the manager there.
#[derive(Debug, Default)]
struct Trap {
    step: Step,
    /// How often the step may pass before.
    skip: u64,
    /// The manager's process while the trap is set.
    pid: Option<u32>,
}

impl Trap {
    /// Whether the request goes on.
    fn passes(&mut self, moment: Moment, request: &str) -> bool {
        let is_meant = self.step.is_some_and(|(begin, end, at)| {
            at == moment && request.starts_with(begin) && request.ends_with(end)
        });
        if !is_meant {
            return true;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return true;
        }
        let Some(pid) = self.pid.take() else {
            return true;
        };
        kill(pid);
        false
    }
}

/// The manager is a child that nobody has waited for yet, so the number is still its own.
fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be dead already, which is what is wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn killed(lab: &Lab) -> Result<()> {
    let kills = harness::number("KILLS", 2 * STEPS.len() as u64)?;
    let first = harness::number("SEED", 1)?;
    let trap: Arc<Mutex<Trap>> = Arc::default();
    let watcher: Watcher = {
        let trap = Arc::clone(&trap);
        Arc::new(move |moment, request| lock(&trap).passes(moment, request))
    };
    let counters = lab
        .hosts()
        .iter()
        .map(|host| Counter::watched(&host.tcp(), Arc::clone(&watcher)));
    let counters = counters.collect::<Result<Vec<_>>>()?;
    let endpoints: Vec<_> = counters.iter().map(Counter::endpoint).collect();
    let mut pool = Pool::of(&endpoints, &[])?;
    let order = Arc::new(Order::default());
    let mut done = Vec::new();
    let mut sprung = 0;
    for (seed, step) in (first..first + kills).zip(STEPS.into_iter().cycle()) {
        let mut dice = Dice::new(seed);
        let load = Load::begin(&pool.manager.unix(), seed, &order);
        let pid = pool.manager.pid().context("the manager does not run")?;
        sprung += u64::from(kill_at(&trap, step, pid, &mut dice));
        done.extend(load.end()?);
        pool.manager.kill()?;
        pool.manager.start_again()?;
        pool.wait_until_ready(HOSTS)?;
        add_up(&mut pool, lab, &done)
            .with_context(|| format!("killed at {step:?}; again with SEED={seed} KILLS=1"))?;
        done.extend(clear(&pool, &order)?);
    }
    add_up(&mut pool, lab, &done)?;
    let came = |is: fn(&Outcome) -> bool| done.iter().filter(|done| is(&done.outcome)).count();
    println!(
        "{kills} kills, {sprung} of them at their very step; of {} requests {} were done, {} refused, and {} never answered",
        done.len(),
        came(|outcome| matches!(outcome, Outcome::Done { .. })),
        came(|outcome| matches!(outcome, Outcome::Refused { .. })),
        came(|outcome| *outcome == Outcome::Unknown),
    );
    ensure!(
        sprung * 2 >= kills,
        "only {sprung} of {kills} kills hit their step"
    );
    Ok(())
}

/// Kills the manager at the step, or wherever it is when that does not come. Says whether it came.
fn kill_at(trap: &Mutex<Trap>, step: Step, pid: u32, dice: &mut Dice) -> bool {
    *lock(trap) = Trap {
        step,
        skip: dice.below(6),
        pid: Some(pid),
    };
    let patience = match step {
        Some(_) => STEP_COMES,
        None => Duration::from_millis(dice.below(1500)),
    };
    let deadline = Instant::now() + patience;
    while lock(trap).pid.is_some() && Instant::now() < deadline {
        thread::sleep(Duration::from_micros(200));
    }
    let left = lock(trap).pid.take();
    if let Some(pid) = left {
        kill(pid);
    }
    left.is_none() || step.is_none()
}

/// What clients were told, what is promised and what is there agree, at the latest after a while: engines finish what a
/// dead manager asked of them.
fn add_up(pool: &mut Pool, lab: &Lab, done: &[Operation]) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        pool.manager.stop()?;
        let promised = promised(&pool.manager.data())?;
        let there = there(lab)?;
        pool.manager.start_again()?;
        pool.wait_until_ready(HOSTS)?;
        let wrong = check(done, &promised, &there);
        if wrong.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "{}",
                wrong.join(
                    "
"
                )
            );
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// What the log of a manager that does not run promises; it must be sound.
fn promised(data: &std::path::Path) -> Result<Vec<Placed>> {
    let data = Data::open(data)?;
    let cluster = data.store.view();
    let broken: Vec<_> = audit(&cluster).iter().map(ToString::to_string).collect();
    ensure!(
        broken.is_empty(),
        "the state is broken: {}",
        broken.join("; ")
    );
    let name = |id| {
        cluster
            .node(id)
            .map_or_else(String::new, |node| node.name.to_string())
    };
    let promised = cluster
        .placements()
        .map(|placement| Placed {
            request: placement.request.to_string(),
            name: placement.name.clone(),
            node: name(placement.node),
            container: placement.container.map(|id| id.to_string()),
        })
        .collect();
    // Only then is the log closed, and can be opened by the next manager.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(data.store.shutdown());
    Ok(promised)
}

/// What all engines have.
fn there(lab: &Lab) -> Result<Vec<Contents>> {
    lab.hosts().iter().map(on).collect()
}

fn on(host: &Host) -> Result<Contents> {
    let list = http::get(&host.tcp(), "/containers/json?all=1", SOON)?.json()?;
    let list = list.as_array().context("no list of containers")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let containers = list.iter().map(|item| Existing {
        id: text(&item["Id"]),
        name: text(&item["Names"][0]).trim_start_matches('/').to_owned(),
        request: item["Labels"]["com.flotilla.id"]
            .as_str()
            .map(str::to_owned),
    });
    Ok(Contents {
        node: host.name().to_owned(),
        containers: containers.collect(),
    })
}

/// Removes all containers through the manager, which shows that none of their names is stuck.
fn clear(pool: &Pool, order: &Order) -> Result<Vec<Operation>> {
    let list = http::get(&pool.manager.unix(), "/containers/json?all=1", SOON)?.json()?;
    let mut done = Vec::new();
    for item in list.as_array().context("no list of containers")? {
        let id = item["Id"].as_str().context("no id")?.to_owned();
        let path = format!("/containers/{id}?force=1");
        let begun = order.next();
        let reply = http::request(&pool.manager.unix(), "DELETE", &path, b"", SOON)?;
        ensure!(
            reply.status == 204,
            "{id} cannot be removed: {}",
            reply.text()
        );
        done.push(Operation {
            begun,
            ended: order.next(),
            action: Action::Remove { container: id },
            outcome: Outcome::Done { container: None },
        });
    }
    Ok(done)
}

/// All others are told who has it, in the engine's words.
fn one_name(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let endpoint = pool.manager.unix();
    let creates: Vec<_> = (0..50)
        .map(|_| {
            let endpoint = endpoint.clone();
            thread::spawn(move || {
                let body = br#"{"Image":"busybox"}"#;
                http::request(&endpoint, "POST", "/containers/create?name=one", body, SOON)
            })
        })
        .collect();
    let mut winners = Vec::new();
    let mut refusals = Vec::new();
    for create in creates {
        let reply = create
            .join()
            .map_err(|_| anyhow::anyhow!("a client panicked"))??;
        let json = reply.json()?;
        match reply.status {
            201 => winners.push(json["Id"].as_str().context("no id")?.to_owned()),
            409 => refusals.push(json["message"].as_str().context("no message")?.to_owned()),
            status => bail!("{status}: {}", reply.text()),
        }
    }
    ensure!(
        winners.len() == 1 && refusals.len() == 49,
        "{} winners",
        winners.len()
    );
    let expected = format!(
        "Conflict. The container name \"/one\" is already in use by container \"{}\". You have to remove (or rename) that \
         container to be able to reuse that name.",
        winners[0]
    );
    ensure!(
        refusals.iter().all(|text| *text == expected),
        "{refusals:?}"
    );
    wait::until_true("the winner to be listed", SOON, || {
        Ok(pool
            .run("ps -aq --no-trunc --filter name=one")?
            .ok()?
            .trim()
            == winners[0])
    })
}

/// A small file system for a manager's data, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Result<Self> {
        let disk = Self(tempfile::tempdir()?);
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                "size=2m",
                "flotilla-test",
                &disk.path(),
            ],
        )?;
        Ok(disk)
    }

    fn path(&self) -> String {
        self.0.path().display().to_string()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the manager may hold a file of it for another moment.
        let _ = run("umount", &["-l", &self.path()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = std::process::Command::new(program).args(arguments).status();
    ensure!(
        status.context(program.to_owned())?.success(),
        "{program} {arguments:?} failed"
    );
    Ok(())
}

/// Nothing is promised that cannot be written; what was is kept, and all goes on once there is room.
fn full_disk(lab: &Lab) -> Result<()> {
    let disk = SmallDisk::new()?;
    let mut manager = Flotilla::start_on(disk.0.path(), &lab.endpoints())?;
    let create = |manager: &Flotilla, name: &str| {
        let path = format!("/containers/create?name={name}");
        http::request(
            &manager.unix(),
            "POST",
            &path,
            br#"{"Image":"busybox"}"#,
            SOON,
        )
    };
    let kept = create(&manager, "kept")?;
    ensure!(kept.status == 201, "{}", kept.text());
    let ballast = disk.0.path().join("ballast");
    fill(&ballast)?;
    let mut made = vec!["kept".to_owned()];
    let refusal = loop {
        // The log has some room of its own before it grows.
        let name = format!("more-{}", made.len());
        let reply = create(&manager, &name)?;
        match reply.status {
            201 => made.push(name),
            _ => break reply,
        }
        ensure!(made.len() < 20_000, "the disk is never full");
    };
    ensure!(
        refusal.status == 503 && refusal.text().contains("the disk of this manager is full"),
        "{} {}",
        refusal.status,
        refusal.text()
    );
    let list = http::get(&manager.unix(), "/containers/json?all=1", SOON)?;
    let listed = list.json()?.as_array().map_or(0, Vec::len);
    ensure!(listed == made.len(), "{listed} listed, {} made", made.len());
    std::fs::remove_file(&ballast)?;
    wait::until_true("room to be found", SOON, || {
        let reply = create(&manager, "after")?;
        Ok(reply.status == 201 || reply.text().contains("already in use"))
    })?;
    manager.kill()?;
    let promised = promised(disk.0.path())?;
    for name in made.iter().map(String::as_str).chain(["after"]) {
        ensure!(
            promised.iter().any(|promise| promise.name == name),
            "{name} is lost"
        );
    }
    manager.start_again()?;
    manager.stop()
}

/// Takes all the room there is.
fn fill(path: &std::path::Path) -> Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path)?;
    for size in [64 << 10, 4096] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
    Ok(())
}

/// The manager does not start on a log that lost its end or has other bytes than were written, says what to do, and
/// goes on when it is whole again.
fn damaged_log(lab: &Lab) -> Result<()> {
    let mut pool = Pool::over(lab)?;
    pool.run("create --name kept busybox")?.ok()?;
    pool.manager.kill()?;
    let log = pool.manager.data().join("log.redb");
    let whole = std::fs::read(&log)?;
    let mut flipped = whole.clone();
    // Each copy of the promise that there is: old ones are not looked at any more.
    let copies: Vec<_> = (0..whole.len() - 6)
        .filter(|at| whole[*at..].starts_with(b"\"kept\""))
        .collect();
    ensure!(!copies.is_empty(), "the promise is not in the log");
    for at in copies {
        flipped[at + 1] ^= 1;
    }
    for damaged in [&whole[..whole.len() / 2], &flipped] {
        std::fs::write(&log, damaged)?;
        let said = match pool.manager.start_again() {
            Ok(()) => bail!("the manager started on a damaged log"),
            Err(error) => format!("{error:#}"),
        };
        ensure!(
            said.contains("is damaged") && said.contains("restore"),
            "{said}"
        );
        ensure!(
            std::fs::read(&log)? == damaged,
            "the damaged log was changed"
        );
    }
    std::fs::write(&log, &whole)?;
    pool.manager.start_again()?;
    pool.wait_until_ready(HOSTS)?;
    let listed = pool.run("ps -a --format {{.Names}}")?.ok()?;
    ensure!(listed.trim() == "kept", "{listed}");
    Ok(())
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
