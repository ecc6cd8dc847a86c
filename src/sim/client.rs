//! A client of the simulated manager: asks over HTTP, as a command line does, and keeps what it was told.
//!
//! **Invariant**: a request is recorded before it is sent, and what was not answered is recorded as unknown.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::checker::{Action, Outcome};
use super::world::World;

/// A client that waits longer for an answer gives up: longer than a manager ever needs.
const PATIENCE: Duration = Duration::from_secs(400);

/// What was answered; nothing if the connection broke, or nobody serves.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// Nobody served, so nothing was sent.
    Nobody,
    /// It broke off before an answer was there.
    Broken,
    /// An answer.
    Given(StatusCode, Bytes),
}

impl Answer {
    pub(super) fn is(&self, wanted: u16) -> bool {
        matches!(self, Self::Given(status, _) if status.as_u16() == wanted)
    }

    /// In a few words: the status, and why if it failed.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Nobody => "nobody serves".to_owned(),
            Self::Broken => "the connection broke".to_owned(),
            Self::Given(status, body) if status.as_u16() >= 400 => {
                format!("{} {}", status.as_u16(), message(body))
            }
            Self::Given(status, _) => status.as_u16().to_string(),
        }
    }

    fn outcome(&self) -> Outcome {
        match self {
            Self::Nobody | Self::Broken => Outcome::Unknown,
            Self::Given(status, body) if status.as_u16() >= 400 => Outcome::Refused {
                status: status.as_u16(),
                message: message(body),
            },
            Self::Given(_, body) => Outcome::Done {
                container: id(body),
            },
        }
    }
}

fn message(body: &[u8]) -> String {
    let parsed: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = parsed["message"].as_str().unwrap_or_default();
    // Whole ids tell readers nothing that their beginnings do not.
    let words = text.split(' ').map(|word| {
        let digits = word.chars().filter(char::is_ascii_hexdigit).count();
        if digits >= 32 { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ")
}

fn id(body: &[u8]) -> Option<String> {
    let parsed: Value = serde_json::from_slice(body).ok()?;
    parsed["Id"].as_str().map(str::to_owned)
}

/// A container as a client wants it.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) name: Option<String>,
    /// How long it runs once started.
    pub(super) seconds: f64,
    pub(super) auto_remove: bool,
    pub(super) cpus: f64,
    /// So many GPUs are claimed.
    pub(super) gpus: u64,
}

/// A client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) name: String,
    pub(super) world: Arc<World>,
}

impl Client {
    /// Creates a container; its id if it was made.
    pub(super) async fn create(&self, wanted: &Wanted) -> (Answer, Option<String>) {
        let action = Action::Create {
            name: wanted.name.clone(),
            auto_remove: wanted.auto_remove,
        };
        let query = wanted.name.as_ref().map(|name| format!("?name={name}"));
        let target = format!("/containers/create{}", query.unwrap_or_default());
        let labels = match wanted.gpus {
            0 => json!({}),
            gpus => json!({"com.flotilla.resource.gpu": gpus.to_string()}),
        };
        let body = json!({
            "Image": "busybox",
            "Labels": labels,
            "Cmd": ["sleep", wanted.seconds.to_string()],
            "HostConfig": {
                "AutoRemove": wanted.auto_remove,
                "NanoCpus": nanos(wanted.cpus),
            },
        });
        let shown = wanted.name.as_deref().unwrap_or("(any)");
        let what = format!("create {shown}");
        let answer = self.act(action, &what, Method::POST, &target, body).await;
        let made = match &answer {
            Answer::Given(status, body) if status.is_success() => id(body),
            _ => None,
        };
        (answer, made)
    }

    /// Starts (`start`), stops … a container: whatever needs no more than a verb.
    pub(super) async fn verb(&self, verb: &str, reference: &str) -> Answer {
        let target = format!("/containers/{reference}/{verb}");
        let what = format!("{verb} {}", short(reference));
        self.act(Action::Other, &what, Method::POST, &target, Value::Null)
            .await
    }

    /// Removes a container; `id` is what it is known by in the history.
    pub(super) async fn remove(&self, reference: &str, id: &str, force: bool) -> Answer {
        let action = Action::Remove {
            container: id.to_owned(),
        };
        let target = format!("/containers/{reference}?force={force}");
        let what = format!("remove {}", short(reference));
        self.act(action, &what, Method::DELETE, &target, Value::Null)
            .await
    }

    /// Renames a container; `id` is what it is known by in the history.
    pub(super) async fn rename(&self, reference: &str, id: &str, new_name: &str) -> Answer {
        let action = Action::Rename {
            container: id.to_owned(),
            new_name: new_name.to_owned(),
        };
        let target = format!("/containers/{reference}/rename?name={new_name}");
        let what = format!("rename {} {new_name}", short(reference));
        self.act(action, &what, Method::POST, &target, Value::Null)
            .await
    }

    /// Changes what a container may use.
    pub(super) async fn update(&self, reference: &str, cpus: f64) -> Answer {
        let target = format!("/containers/{reference}/update");
        let what = format!("update {}", short(reference));
        let body = json!({ "NanoCpus": nanos(cpus) });
        self.act(Action::Other, &what, Method::POST, &target, body)
            .await
    }

    /// All containers as the manager lists them: ids and names.
    pub(super) async fn list(&self) -> Option<Vec<(String, String)>> {
        let answer = self.ask(Method::GET, "/containers/json?all=1", Value::Null);
        let Answer::Given(StatusCode::OK, body) = answer.await else {
            return None;
        };
        let items: Value = serde_json::from_slice(&body).ok()?;
        let read = |item: &Value| {
            let name = item["Names"][0].as_str()?.trim_start_matches('/');
            Some((item["Id"].as_str()?.to_owned(), name.to_owned()))
        };
        items.as_array()?.iter().map(read).collect()
    }

    /// The id of the container that this name or id means, if the manager knows one.
    pub(super) async fn find(&self, reference: &str) -> Option<String> {
        match self.inspect(reference).await {
            Answer::Given(StatusCode::OK, body) => id(&body),
            _ => None,
        }
    }

    pub(super) async fn inspect(&self, reference: &str) -> Answer {
        let target = format!("/containers/{reference}/json");
        self.ask(Method::GET, &target, Value::Null).await
    }

    /// Waits until a container is gone.
    pub(super) async fn wait_removed(&self, reference: &str) -> Answer {
        let target = format!("/containers/{reference}/wait?condition=removed");
        self.ask(Method::POST, &target, Value::Null).await
    }

    async fn act(
        &self,
        action: Action,
        what: &str,
        method: Method,
        target: &str,
        body: Value,
    ) -> Answer {
        let history = &self.world.history;
        let place = history.begin(action);
        self.world.steps.take(format!("{} asks: {what}", self.name));
        let answer = self.ask(method, target, body).await;
        history.end(place, answer.outcome());
        let words = answer.in_words();
        self.world
            .steps
            .tell(format!("{}: {what}: {words}", self.name));
        answer
    }

    async fn ask(&self, method: Method, target: &str, body: Value) -> Answer {
        let Some(end) = self.world.enter(&self.name) else {
            return Answer::Nobody;
        };
        let answer = async {
            let io = TokioIo::new(end);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
            self.world.spawn(async move {
                // What breaks is seen by whoever waits for the answer.
                let _ = connection.await;
            });
            let body = match body {
                Value::Null => Bytes::new(),
                body => Bytes::from(body.to_string()),
            };
            let mut request = Request::new(Full::new(body));
            *request.method_mut() = method;
            *request.uri_mut() = format!("/v1.51{target}").parse().ok()?;
            let headers = request.headers_mut();
            headers.insert(http::header::HOST, http::HeaderValue::from_static("docker"));
            let json = http::HeaderValue::from_static("application/json");
            headers.insert(http::header::CONTENT_TYPE, json);
            let reply = sender.send_request(request).await.ok()?;
            let status = reply.status();
            let body = reply.into_body().collect().await.ok()?;
            Some(Answer::Given(status, body.to_bytes()))
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer.unwrap_or(Answer::Broken),
            Err(_) => {
                let what = format!("{} was not answered: {target}", self.name);
                self.world.steps.break_off(what);
                Answer::Broken
            }
        }
    }
}

fn nanos(cpus: f64) -> u64 {
    (cpus * 1e9) as u64
}

fn short(reference: &str) -> &str {
    reference.get(..12).unwrap_or(reference)
}
