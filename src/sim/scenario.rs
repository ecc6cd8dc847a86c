//! Scenarios: a script goes in, the same script with what came of it goes out.
//!
//! A script has blocks: commands up to a line `---`, then what happens up to an empty line. The commands:
//!
//! | command | |
//! | --- | --- |
//! | `engines 2`, `cpus 4` | in the first block: so many engines, each with so many CPUs |
//! | `create web`, with `sleep=2`, `cpus=1`, `gpus=2` (of the 4 of each engine) and `rm` | as a client |
//! | `start`, `stop`, `inspect`, `remove`, `remove -f`, `rename web site` | as a client |
//! | `begin create web` | any of these, not waited for |
//! | `advance 5s` | time passes |
//! | `fault n1 create late 5s` | the next request like this is `late`, `slow 1s 1s`, `reset`, `lost` or, of a removal, `long 5s`; those that change nothing are `inspect`, `list` and `read` |
//! | `stop-engine n1`, `start-engine`, `hang`, `go-on`, `cut`, `heal`, `break-events` | what happens to a host |
//! | `kill`, `power-off` | the manager dies, and is away for 2 s |
//! | `kill-at n1: create`, `power-off-at …` | it dies at the next step with these words |
//! | `check` | all faults end, time passes, and the checker looks at everything |
//!
//! **Invariant**: the same script gives the same text.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::checker;
use super::client::{Answer, Client, Wanted};
use super::host::Fault;
use super::seed::{beginning, heal, serving};
use super::steps::Crash;
use super::world::{Shape, World};
use crate::clock;

/// How long the manager of a scenario is away.
const AWAY: Duration = Duration::from_secs(2);
/// Until nothing is under way any more.
const SETTLING: Duration = Duration::from_secs(150);

/// Plays a script. Returns it with what happened, or why it makes no sense. Needs what [`run`](super::run) needs.
pub async fn play(script: &str) -> Result<String, String> {
    let mut blocks = script.split("\n\n").map(commands);
    let first = blocks.next().unwrap_or_default();
    let setting = |name: &str, default: u64| {
        let mut lines = first.iter().filter_map(|line| line.strip_prefix(name));
        lines.next().map_or(Ok(default), |number| {
            let number = number.trim().parse();
            number.map_err(|_| format!("{name}: not a number"))
        })
    };
    let _clock = clock::simulate(beginning(), 1);
    let world = World::new(Shape {
        seed: 1,
        engines: setting("engines ", 1)?,
        cpus: setting("cpus ", 4)?,
    });
    world.set_downtime(AWAY);
    world.spawn(Arc::clone(&world).supervise());
    let stage = Stage {
        client: Client {
            name: "client".to_owned(),
            world: Arc::clone(&world),
        },
        known: Arc::default(),
    };
    serving(&world).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut played = vec![shown(&first, &world.steps.story())];
    for block in blocks {
        for line in &block {
            stage.perform(line).await?;
        }
        played.push(shown(&block, &world.steps.story()));
    }
    world.end().await;
    Ok(played.join("\n"))
}

/// What happens to one create if the manager dies at each of its steps in turn, a line each for those that end alike.
pub async fn create_cut_short(crash: Crash) -> String {
    let mut lines: Vec<(u64, String, u64, String, String)> = Vec::new();
    for step in 1.. {
        let _clock = clock::simulate(beginning(), 1);
        let world = World::new(Shape {
            seed: 1,
            engines: 2,
            cpus: 4,
        });
        world.set_downtime(AWAY);
        world.spawn(Arc::clone(&world).supervise());
        let Some((died_at, outcome)) = cut_short(&world, step, crash).await else {
            break;
        };
        match lines.last_mut() {
            Some((_, _, last, last_at, same)) if *same == outcome => {
                (*last, *last_at) = (step, died_at);
            }
            _ => lines.push((step, died_at.clone(), step, died_at, outcome)),
        }
    }
    let line = |(first, first_at, last, last_at, outcome): &(u64, String, u64, String, String)| {
        format!("steps {first} to {last} ({first_at} … {last_at}):\n    {outcome}\n")
    };
    lines.iter().map(line).collect()
}

/// One create whose manager dies at this step of it, and what is there in the end. Nothing if it has not so many.
async fn cut_short(world: &Arc<World>, step: u64, crash: Crash) -> Option<(String, String)> {
    let client = Client {
        name: "client".to_owned(),
        world: Arc::clone(world),
    };
    let wanted = Wanted {
        name: Some("web".to_owned()),
        seconds: 1000.0,
        ..Wanted::default()
    };
    serving(world).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.steps.crash_at(world.steps.taken() + step, crash);
    let (answer, _) = client.create(&wanted).await;
    // What the binding behind the answer needs is a step of the create too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let died_at = world.steps.died_at();
    heal(world);
    serving(world).await;
    // Nothing is slow here.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let found = client.find("web").await;
    let (again, _) = client.create(&wanted).await;
    let mut wrong = checker::check(&world.history.all(), &world.placements(), &world.contents());
    wrong.extend(world.steps.broken());
    world.end().await;
    let there = if found.is_some() {
        "is there"
    } else {
        "is not there"
    };
    let again = match &again {
        Answer::Given(status, _) => status.as_u16().to_string(),
        other => other.in_words(),
    };
    let wrong = if wrong.is_empty() {
        String::new()
    } else {
        format!("; WRONG: {}", wrong.join("; "))
    };
    let outcome = format!("{}; web {there}; again: {again}{wrong}", answer.in_words());
    Some((died_at?, outcome))
}

/// The lines of a block before what happened; what happened is forgotten.
fn commands(block: &str) -> Vec<String> {
    let lines = block.lines().map(str::trim_end);
    let lines = lines.skip_while(|line| line.is_empty());
    lines
        .take_while(|line| *line != "---")
        .map(str::to_owned)
        .collect()
}

fn shown(commands: &[String], story: &[String]) -> String {
    let mut text = commands.join("\n");
    text.push_str("\n---\n");
    for line in story {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Where a scenario is played.
#[derive(Clone)]
struct Stage {
    client: Client,
    /// The containers that names last meant.
    known: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Stage {
    async fn perform(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let world = &self.client.world;
        match words.as_slice() {
            [] => {}
            [comment, ..] if comment.starts_with('#') => {}
            ["begin", rest @ ..] => {
                let (stage, rest) = (self.clone(), rest.join(" "));
                let steps = Arc::clone(&world.steps);
                world.spawn(async move {
                    if let Err(why) = stage.ask(&rest).await {
                        steps.break_off(why);
                    }
                });
                // It gets as far as it gets without time passing.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            ["advance", time] => tokio::time::sleep(duration(time)?).await,
            ["fault", host, what, fault @ ..] => self.host(host)?.plan(what, read_fault(fault)?),
            ["kill"] => self.die(Crash::Kill).await,
            ["power-off"] => self.die(Crash::PowerLoss).await,
            ["kill-at", words @ ..] => world.steps.crash_on(words.join(" "), Crash::Kill),
            ["power-off-at", words @ ..] => world.steps.crash_on(words.join(" "), Crash::PowerLoss),
            ["check"] => self.check().await,
            [happens, host] if self.host(host).is_ok() => {
                let host = self.host(host)?;
                match *happens {
                    "stop-engine" => host.stop(),
                    "start-engine" => host.start(),
                    "hang" => host.hang(true),
                    "go-on" => host.hang(false),
                    "cut" => host.cut(true),
                    "heal" => host.cut(false),
                    "break-events" => host.break_events(),
                    _ => return Err(format!("no such thing happens to a host: {line}")),
                }
            }
            _ => self.ask(line).await?,
        }
        Ok(())
    }

    fn host(&self, name: &str) -> Result<&Arc<super::host::Host>, String> {
        let host = self.client.world.host(name);
        host.ok_or_else(|| format!("no such host: {name}"))
    }

    async fn die(&self, crash: Crash) {
        self.client.world.crash(crash);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    async fn ask(&self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let client = &self.client;
        match words.as_slice() {
            ["create", name, options @ ..] => {
                let mut wanted = Wanted {
                    name: Some((*name).to_owned()),
                    seconds: 1000.0,
                    ..Wanted::default()
                };
                for option in options {
                    let number =
                        |text: &str| text.parse().map_err(|_| format!("bad option: {option}"));
                    match option.split_once('=') {
                        Some(("sleep", text)) => wanted.seconds = number(text)?,
                        Some(("cpus", text)) => wanted.cpus = number(text)?,
                        Some(("gpus", text)) => {
                            wanted.gpus =
                                text.parse().map_err(|_| format!("bad option: {option}"))?;
                        }
                        None if *option == "rm" => wanted.auto_remove = true,
                        _ => return Err(format!("no such option: {option}")),
                    }
                }
                if let (_, Some(id)) = client.create(&wanted).await {
                    self.know(name, &id);
                }
            }
            ["remove", "-f", name] => drop(client.remove(name, &self.id_of(name), true).await),
            ["remove", name] => drop(client.remove(name, &self.id_of(name), false).await),
            ["rename", name, new_name] => {
                let id = self.id_of(name);
                client.rename(name, &id, new_name).await;
                self.know(new_name, &id);
            }
            ["inspect", name] => {
                let words = client.inspect(name).await.in_words();
                client
                    .world
                    .steps
                    .tell(format!("client: inspect {name}: {words}"));
            }
            [verb @ ("start" | "stop"), name] => drop(client.verb(verb, name).await),
            _ => return Err(format!("no such command: {line}")),
        }
        Ok(())
    }

    fn know(&self, name: &str, id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), id.to_owned());
    }

    fn id_of(&self, name: &str) -> String {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).cloned().unwrap_or_default()
    }

    async fn check(&self) {
        let world = &self.client.world;
        heal(world);
        serving(world).await;
        tokio::time::sleep(SETTLING).await;
        let mut wrong =
            checker::check(&world.history.all(), &world.placements(), &world.contents());
        wrong.extend(world.steps.broken());
        for text in &wrong {
            world.steps.tell(format!("WRONG: {text}"));
        }
        if wrong.is_empty() {
            world.steps.tell("all is well".to_owned());
        }
    }
}

fn read_fault(words: &[&str]) -> Result<Fault, String> {
    Ok(match words {
        ["late", by] => Fault::Late(duration(by)?),
        ["slow", before, after] => Fault::Slow(duration(before)?, duration(after)?),
        ["long", until_done] => Fault::Long(duration(until_done)?),
        ["reset"] => Fault::ResetBefore,
        ["lost"] => Fault::ReplyLost,
        _ => return Err(format!("no such fault: {}", words.join(" "))),
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{text}: {error}"))
}
