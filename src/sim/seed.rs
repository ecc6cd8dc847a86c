//! What happens in the world of one seed: who does what when, what goes wrong, and what must hold in the end.
//!
//! **Invariant**: everything is drawn from the seed; in the end all faults are over, and nothing may be stuck.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use jiff::Timestamp;
use raft_store::sim::Dice;

use super::checker;
use super::client::{Answer, Client, Wanted};
use super::host::Rates;
use super::steps::Crash;
use super::world::{Shape, World};
use crate::clock;

/// What names clients give: few, so that they collide.
const NAMES: [&str; 4] = ["web", "db", "cache", "job"];
/// As long as it takes until whatever was under way is known to be over.
const SETTLING: Duration = Duration::from_secs(150);
/// A manager that starts serves by then.
const STARTING: Duration = Duration::from_secs(60);

/// What came of one seed.
#[derive(Debug)]
pub struct Report {
    /// All that happened, a line each.
    pub trace: String,
    /// What must never be, and was.
    pub broken: Vec<String>,
    /// How many steps there were at which a manager could die.
    pub steps: u64,
    /// How often one did.
    pub crashes: u64,
    /// Why the log was refused, if a bit of it was flipped.
    pub refused: Option<String>,
}

/// When every world begins.
pub(super) fn beginning() -> Timestamp {
    Timestamp::from_second(1_900_000_000).expect("a time in range")
}

/// Runs the world of one seed. Needs a runtime of one thread with a paused clock.
pub async fn run(seed: u64) -> Report {
    let _clock = clock::simulate(beginning(), seed);
    let mut dice = Dice::new(seed.wrapping_mul(0x5851_F42D_4C95_7F2D));
    let world = World::new(Shape {
        seed,
        engines: 1 + dice.below(3),
        cpus: 2 + dice.below(3),
    });
    let play = Play {
        world: Arc::clone(&world),
    };
    world.spawn(Arc::clone(&world).supervise());
    play.perform(&mut dice).await;
    world.end().await;
    Report {
        trace: world.steps.trace(),
        broken: world.steps.broken(),
        steps: world.steps.taken(),
        crashes: world.crashes(),
        refused: world.refused(),
    }
}

/// All faults are over.
pub(super) fn heal(world: &World) {
    world.steps.crashed();
    for host in &world.hosts {
        host.set_rates(Rates::default());
        host.start();
        host.cut(false);
        host.hang(false);
    }
}

/// Waits until a manager serves, or none ever will for a good reason. False if it takes too long.
pub(super) async fn serving(world: &World) -> bool {
    let serving = async {
        while !world.serves() && world.refused().is_none() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(STARTING, serving).await.is_ok()
}

struct Play {
    world: Arc<World>,
}

impl Play {
    async fn perform(&self, dice: &mut Dice) {
        let rates = rates(dice);
        self.world
            .hosts
            .iter()
            .for_each(|host| host.set_rates(rates));
        let number = 1 + dice.below(4);
        let clients: Vec<_> = (0..number)
            .map(|number| User {
                client: Client {
                    name: format!("c{}", number + 1),
                    world: Arc::clone(&self.world),
                },
                dice: Dice::new(dice.roll()),
                mine: Vec::new(),
            })
            .collect();
        let users = join_all(clients.into_iter().map(User::live));
        let mut mishaps = Dice::new(dice.roll());
        let mut deaths = Dice::new(dice.roll());
        let fate = join(self.mishaps(&mut mishaps), self.deaths(&mut deaths));
        join(users, fate).await;
        heal(&self.world);
        if !self.settle().await {
            return;
        }
        self.judge();
        self.try_all_names().await;
        self.judge();
    }

    /// What happens to machines.
    async fn mishaps(&self, dice: &mut Dice) {
        for _ in 0..dice.below(5) {
            tokio::time::sleep(millis(dice, 8000)).await;
            let number = dice.below(self.world.hosts.len() as u64);
            let host = &self.world.hosts[usize::try_from(number).unwrap_or_default()];
            let long = millis(dice, 10_000);
            match dice.below(4) {
                0 => {
                    host.stop();
                    tokio::time::sleep(long).await;
                    host.start();
                }
                1 => {
                    host.cut(true);
                    tokio::time::sleep(long).await;
                    host.cut(false);
                }
                2 => {
                    host.hang(true);
                    tokio::time::sleep(long).await;
                    host.hang(false);
                }
                _ => host.break_events(),
            }
        }
    }

    /// How the manager dies.
    async fn deaths(&self, dice: &mut Dice) {
        let flips = dice.below(25) == 0;
        for _ in 0..dice.below(6) {
            tokio::time::sleep(millis(dice, 6000)).await;
            let crash = if dice.below(2) == 0 {
                Crash::Kill
            } else {
                Crash::PowerLoss
            };
            self.world.set_downtime(millis(dice, 5000));
            let at = self.world.steps.taken() + dice.below(300);
            self.world.steps.crash_at(at, crash);
        }
        if flips {
            tokio::time::sleep(millis(dice, 6000)).await;
            self.world.set_downtime(Duration::from_secs(2));
            self.world.crash(Crash::Kill);
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.world.flip_a_bit();
        }
    }

    /// Waits until nothing is under way any more. False if there is no manager for a good reason.
    async fn settle(&self) -> bool {
        if !serving(&self.world).await {
            self.world.steps.break_off("no manager serves".to_owned());
            return false;
        }
        if self.world.refused().is_some() {
            return false;
        }
        tokio::time::sleep(SETTLING).await;
        true
    }

    fn judge(&self) {
        let world = &self.world;
        for wrong in checker::check(&world.history.all(), &world.placements(), &world.contents()) {
            world.steps.break_off(wrong);
        }
    }

    /// Each name can be had: at once if nobody has it, else once its holder is removed.
    async fn try_all_names(&self) {
        let client = Client {
            name: "last".to_owned(),
            world: Arc::clone(&self.world),
        };
        let stuck = |name: &str, answer: &Answer| {
            let words = answer.in_words();
            self.world
                .steps
                .break_off(format!("{name} is stuck: {words}"));
        };
        for name in NAMES {
            if let Some(holder) = client.find(name).await {
                let removed = client.remove(&holder, &holder, true).await;
                if !removed.is(204) {
                    stuck(name, &removed);
                }
            }
            let wanted = Wanted {
                name: Some(name.to_owned()),
                seconds: 1000.0,
                ..Wanted::default()
            };
            let (answer, made) = client.create(&wanted).await;
            match made {
                Some(id) => drop(client.remove(&id, &id, false).await),
                None => stuck(name, &answer),
            }
        }
    }
}

/// A third of all worlds have engines that never fail to answer; in a sixth hardly anything goes well.
fn rates(dice: &mut Dice) -> Rates {
    let times = match dice.below(6) {
        0 | 1 => return Rates::default(),
        2..5 => 1,
        _ => 4,
    };
    Rates {
        slow: dice.below(80 * times),
        reset_before: dice.below(40 * times),
        reply_lost: dice.below(60 * times),
        late: dice.below(60 * times),
        reads: dice.below(30 * times),
    }
}

fn millis(dice: &mut Dice, below: u64) -> Duration {
    Duration::from_millis(dice.below(below))
}

/// Somebody who does this and that.
struct User {
    client: Client,
    dice: Dice,
    /// What they made, as far as they know.
    mine: Vec<String>,
}

impl User {
    async fn live(mut self) {
        for _ in 0..4 + self.dice.below(10) {
            self.act().await;
            tokio::time::sleep(millis(&mut self.dice, 800)).await;
            // Without a manager there is nothing to do.
            while !self.client.world.serves() && self.client.world.refused().is_none() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn act(&mut self) {
        match self.dice.below(16) {
            0..5 => self.create().await,
            5 => self.run_once().await,
            6..8 => {
                if let Some(id) = self.pick().await {
                    self.client.verb("start", &id).await;
                }
            }
            8..10 => {
                if let Some(id) = self.pick().await {
                    self.client.verb("stop", &id).await;
                }
            }
            10..13 => {
                if let Some(id) = self.pick().await {
                    let force = self.dice.below(3) > 0;
                    self.client.remove(&id, &id, force).await;
                }
            }
            13 => {
                if let Some(id) = self.pick().await {
                    let name = self.name();
                    self.client.rename(&id, &id, &name).await;
                }
            }
            14 => {
                if let Some(id) = self.pick().await {
                    let cpus = self.cpus();
                    self.client.update(&id, cpus).await;
                }
            }
            _ => {
                if let Some(id) = self.pick().await {
                    self.client.inspect(&id).await;
                }
            }
        }
    }

    async fn create(&mut self) {
        let long = self.dice.below(4) > 0;
        let wanted = Wanted {
            name: (self.dice.below(8) > 0).then(|| self.name()),
            seconds: if long { 1000.0 } else { 0.5 },
            auto_remove: self.dice.below(6) == 0,
            cpus: self.cpus(),
            gpus: [0, 0, 0, 1, 2][usize::try_from(self.dice.below(5)).unwrap_or_default()],
        };
        let (_, made) = self.client.create(&wanted).await;
        if let Some(id) = made {
            self.sees(&id).await;
            if self.dice.below(5) > 0 {
                self.client.verb("start", &id).await;
            }
            self.mine.push(id);
        }
    }

    /// What was acknowledged is listed, unless its node is lost, or it is gone already.
    async fn sees(&self, id: &str) {
        let world = &self.client.world;
        let Some(listed) = self.client.list().await else {
            return;
        };
        let is_listed = listed.iter().any(|(listed, _)| listed == id);
        let exists = world.contents().into_iter().find_map(|engine| {
            let has_it = engine.containers.iter().any(|container| container.id == id);
            has_it.then_some(engine.node)
        });
        if let Some(node) = exists.filter(|node| !is_listed && world.is_ready(node)) {
            let what = format!("{id} was made on {node}, which is ready, and is not listed");
            world.steps.break_off(what);
        }
    }

    /// `docker run --rm`, twice in a row under one name.
    async fn run_once(&mut self) {
        let wanted = Wanted {
            name: Some(self.name()),
            seconds: 0.2,
            auto_remove: true,
            cpus: 0.0,
            gpus: 0,
        };
        for _ in 0..2 {
            let (_, Some(id)) = self.client.create(&wanted).await else {
                return;
            };
            let waiting = self.client.wait_removed(&id);
            let starting = self.client.verb("start", &id);
            let waiting = tokio::time::timeout(Duration::from_secs(20), waiting);
            let (_gone_or_not, _started_or_not) = join(waiting, starting).await;
        }
    }

    /// A container: mostly one of mine, else any that is listed.
    async fn pick(&mut self) -> Option<String> {
        if self.dice.below(3) > 0 && !self.mine.is_empty() {
            let number = self.dice.below(self.mine.len() as u64);
            return self.mine.get(usize::try_from(number).ok()?).cloned();
        }
        let listed = self.client.list().await?;
        let number = self.dice.below(listed.len().max(1) as u64);
        let (id, _) = listed.get(usize::try_from(number).ok()?)?;
        Some(id.clone())
    }

    fn name(&mut self) -> String {
        let number = self.dice.below(NAMES.len() as u64);
        NAMES[usize::try_from(number).unwrap_or_default()].to_owned()
    }

    fn cpus(&mut self) -> f64 {
        [0.0, 0.5, 1.0][usize::try_from(self.dice.below(3)).unwrap_or_default()]
    }
}
