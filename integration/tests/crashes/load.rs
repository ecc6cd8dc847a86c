//! Eight clients that create, start, rename and remove containers with few names, and write down what they were told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use integration::http;
use raft_store::sim::Dice;

use crate::accounts::{Asked, Deed, Told};

/// How many clients there are.
pub(crate) const CLIENTS: u64 = 8;
/// Few, so that they are fought for.
const NAMES: u64 = 6;
/// One that may move, so that its recipe is kept too.
const CREATE: &str = r#"{"Image":"busybox","Cmd":["sleep","600"],"HostConfig":{"Memory":16777216,"RestartPolicy":{"Name":"always"}}}"#;
const PATIENCE: Duration = Duration::from_secs(60);

/// The clients at work.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Vec<Deed>>>,
    over: Arc<AtomicBool>,
}

impl Load {
    /// Lets the clients loose on the manager at `endpoint`; what they do follows from the seed.
    pub(crate) fn begin(endpoint: &str, seed: u64) -> Self {
        let over: Arc<AtomicBool> = Arc::default();
        let clients = (0..CLIENTS)
            .map(|number| {
                let client = Client {
                    endpoint: endpoint.to_owned(),
                    dice: Dice::new(seed * CLIENTS + number),
                    mine: Vec::new(),
                    deeds: Vec::new(),
                };
                let over = Arc::clone(&over);
                thread::spawn(move || client.work(&over))
            })
            .collect();
        Self { clients, over }
    }

    /// Calls the clients back; their deeds.
    pub(crate) fn end(self) -> Result<Vec<Deed>> {
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
    deeds: Vec<Deed>,
}

impl Client {
    fn work(mut self, over: &AtomicBool) -> Vec<Deed> {
        while !over.load(Ordering::Relaxed) {
            let asked = self.choose();
            let told = self.ask(&asked);
            // The manager is gone: so is this client, as a CLI would be.
            let is_over = told == Told::Nothing;
            self.remember(asked, told);
            if is_over {
                break;
            }
        }
        self.deeds
    }

    fn choose(&mut self) -> Asked {
        let name = format!("fought-for-{}", self.dice.below(NAMES));
        let id = match self.mine.len() as u64 {
            0 => None,
            count => {
                let index = usize::try_from(self.dice.below(count)).unwrap_or_default();
                self.mine.get(index).cloned()
            }
        };
        match (self.dice.below(10), id) {
            (0..=1, Some(id)) => Asked::Rename { id, name },
            (2, Some(id)) => Asked::Start { id },
            (3..=5, Some(id)) => Asked::Remove { id },
            _ => Asked::Create { name },
        }
    }

    fn ask(&self, asked: &Asked) -> Told {
        let (method, path, body) = match asked {
            Asked::Create { name } => (
                "POST",
                format!("/containers/create?name={name}"),
                CREATE.to_owned(),
            ),
            Asked::Remove { id } => ("DELETE", format!("/containers/{id}?force=1"), String::new()),
            Asked::Rename { id, name } => (
                "POST",
                format!("/containers/{id}/rename?name={name}"),
                String::new(),
            ),
            Asked::Start { id } => ("POST", format!("/containers/{id}/start"), String::new()),
        };
        let Ok(reply) = http::request(&self.endpoint, method, &path, body.as_bytes(), PATIENCE)
        else {
            return Told::Nothing;
        };
        let json = reply.json().unwrap_or_default();
        match reply.status {
            204 | 304 => Told::Done(String::new()),
            201 if json["Id"].is_string() => {
                Told::Done(json["Id"].as_str().unwrap_or_default().to_owned())
            }
            // Cut off in its middle.
            _ if json["message"].is_null() => Told::Nothing,
            status => Told::Refused {
                status,
                message: json["message"].as_str().unwrap_or_default().to_owned(),
            },
        }
    }

    fn remember(&mut self, asked: Asked, told: Told) {
        match (&asked, &told) {
            (Asked::Create { .. }, Told::Done(id)) => self.mine.push(id.clone()),
            (Asked::Remove { id }, Told::Done(_)) => self.mine.retain(|mine| mine != id),
            _ => {}
        }
        self.deeds.push(Deed { asked, told });
    }
}
