//! Eight clients that create, start, rename and remove containers with few names, and write down what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use flotilla::sim::checker::{Action, Operation, Outcome};
use integration::http;
use raft_store::sim::Dice;

/// How many clients there are.
pub(crate) const CLIENTS: u64 = 8;
/// Few, so that they are fought for.
const NAMES: u64 = 6;
/// One that may move, so that its recipe is kept too.
const CREATE: &str = r#"{"Image":"busybox","Cmd":["sleep","600"],"HostConfig":{"Memory":16777216,"RestartPolicy":{"Name":"always"}}}"#;
const PATIENCE: Duration = Duration::from_secs(60);

/// The order of all that begins and ends, whichever client does it.
#[derive(Debug, Default)]
pub(crate) struct Order(AtomicU64);

impl Order {
    /// The next place.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// The clients at work.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Vec<Operation>>>,
    over: Arc<AtomicBool>,
}

impl Load {
    /// Lets the clients loose on the manager at `endpoint`; what they do follows from the seed.
    pub(crate) fn begin(endpoint: &str, seed: u64, order: &Arc<Order>) -> Self {
        let over: Arc<AtomicBool> = Arc::default();
        let clients = (0..CLIENTS)
            .map(|number| {
                let client = Client {
                    endpoint: endpoint.to_owned(),
                    dice: Dice::new(seed * CLIENTS + number),
                    mine: Vec::new(),
                    done: Vec::new(),
                    order: Arc::clone(order),
                };
                let over = Arc::clone(&over);
                thread::spawn(move || client.work(&over))
            })
            .collect();
        Self { clients, over }
    }

    /// Calls the clients back; what they did.
    pub(crate) fn end(self) -> Result<Vec<Operation>> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.join().map_err(|_| anyhow!("a client panicked"))?);
        }
        Ok(all)
    }
}

struct Client {
    endpoint: String,
    dice: Dice,
    /// The containers it made and has not seen removed.
    mine: Vec<String>,
    done: Vec<Operation>,
    order: Arc<Order>,
}

/// What a client does next.
enum Wish {
    Create { name: String },
    Remove { id: String },
    Rename { id: String, name: String },
    Start { id: String },
}

impl Client {
    fn work(mut self, over: &AtomicBool) -> Vec<Operation> {
        while !over.load(Ordering::Relaxed) {
            let wish = self.choose();
            let begun = self.order.next();
            let outcome = self.ask(&wish);
            let ended = self.order.next();
            // The manager is gone: so is this client, as a CLI would be.
            let is_over = outcome == Outcome::Unknown;
            self.remember(&wish, &outcome);
            self.done.push(Operation {
                begun,
                ended: if is_over { u64::MAX } else { ended },
                action: action(wish),
                outcome,
            });
            if is_over {
                break;
            }
        }
        self.done
    }

    fn choose(&mut self) -> Wish {
        let name = format!("fought-for-{}", self.dice.below(NAMES));
        let id = match self.mine.len() as u64 {
            0 => None,
            count => {
                let index = usize::try_from(self.dice.below(count)).unwrap_or_default();
                self.mine.get(index).cloned()
            }
        };
        match (self.dice.below(10), id) {
            (0..=1, Some(id)) => Wish::Rename { id, name },
            (2, Some(id)) => Wish::Start { id },
            (3..=5, Some(id)) => Wish::Remove { id },
            _ => Wish::Create { name },
        }
    }

    fn ask(&self, wish: &Wish) -> Outcome {
        let (method, path, body) = match wish {
            Wish::Create { name } => ("POST", format!("/containers/create?name={name}"), CREATE),
            Wish::Remove { id } => ("DELETE", format!("/containers/{id}?force=1"), ""),
            Wish::Rename { id, name } => {
                ("POST", format!("/containers/{id}/rename?name={name}"), "")
            }
            Wish::Start { id } => ("POST", format!("/containers/{id}/start"), ""),
        };
        let Ok(reply) = http::request(&self.endpoint, method, &path, body.as_bytes(), PATIENCE)
        else {
            return Outcome::Unknown;
        };
        let json = reply.json().unwrap_or_default();
        match (reply.status, json["Id"].as_str(), json["message"].as_str()) {
            (204 | 304, _, _) => Outcome::Done { container: None },
            (201, Some(id), _) => Outcome::Done {
                container: Some(id.to_owned()),
            },
            (status, _, Some(message)) => Outcome::Refused {
                status,
                message: message.to_owned(),
            },
            // Cut off in its middle.
            _ => Outcome::Unknown,
        }
    }

    fn remember(&mut self, wish: &Wish, outcome: &Outcome) {
        match (wish, outcome) {
            (Wish::Create { .. }, Outcome::Done { container }) => {
                self.mine.extend(container.clone())
            }
            (Wish::Remove { id }, Outcome::Done { .. }) => self.mine.retain(|mine| mine != id),
            _ => {}
        }
    }
}

fn action(wish: Wish) -> Action {
    match wish {
        Wish::Create { name } => Action::Create {
            name: Some(name),
            auto_remove: false,
        },
        Wish::Remove { id } => Action::Remove { container: id },
        Wish::Rename { id, name } => Action::Rename {
            container: id,
            new_name: name,
        },
        Wish::Start { .. } => Action::Other,
    }
}
