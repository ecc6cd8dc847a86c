//! The fake engine held against a real one: the same requests, and every member, status and event of the real one.

#![expect(
    clippy::disallowed_methods,
    reason = "the real engine runs in real time"
)]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use integration::fake_engine::{Fleet, Spec as Fake};
use integration::harness::{self, case};
use integration::http::{self, Reply};
use integration::lab::{Lab, Spec};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
const BODY: &str = r#"{"Image":"busybox","Cmd":["sleep","1000"],"Labels":{"a":"b"}}"#;

fn main() -> ExitCode {
    harness::main(
        Spec::hosts(1),
        vec![
            case("a_fake_engine_says_who_it_is_as_a_real_one_does", identity),
            case("a_fake_container_lives_and_ends_as_a_real_one", life),
            case("a_fake_engine_refuses_as_a_real_one", refusals),
        ],
    )
}

fn both<T>(lab: &Lab, ask: impl Fn(&str) -> Result<T>) -> Result<(T, T)> {
    let fleet = Fleet::start(&Fake::default())?;
    let fake = fleet.endpoints().first().context("no engine")?;
    let real = ask(&lab.host(0).unix()).context("the real engine")?;
    Ok((real, ask(fake).context("the fake engine")?))
}

fn get(endpoint: &str, path: &str) -> Result<Reply> {
    http::get(endpoint, &format!("/v1.51{path}"), LIMIT)
}

/// The paths of all members. Labels are the user's, and an engine's features are its machine's.
fn members(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let path = format!("{path}.{key}");
                    walk(value, &path, found);
                    found.insert(path);
                }
            }
            Value::Array(items) => items
                .iter()
                .for_each(|item| walk(item, &format!("{path}[]"), found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}

fn agree(what: &str, real: &BTreeSet<String>, fake: &BTreeSet<String>) -> Result<()> {
    let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        one.difference(other).cloned().collect::<Vec<_>>()
    };
    ensure!(
        real == fake,
        "{what}: only the real one has {:?}, only the fake one has {:?}",
        only(real, fake),
        only(fake, real)
    );
    Ok(())
}

fn identity(lab: &Lab) -> Result<()> {
    for path in ["/version", "/info", "/images/json", "/networks", "/volumes"] {
        let (real, fake) = both(lab, |endpoint| Ok(members(&get(endpoint, path)?.json()?)))?;
        agree(path, &real, &fake)?;
    }
    let names = |reply: &Reply| -> BTreeSet<String> {
        reply
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .map(|(name, _)| name.to_ascii_lowercase())
            .filter(|name| name != "connection")
            .collect()
    };
    let (real, fake) = both(lab, |endpoint| get(endpoint, "/_ping"))?;
    ensure!(real.text() == fake.text());
    agree("headers of a ping", &names(&real), &names(&fake))
}

/// What one container looked like at each stage of its life.
struct Life {
    statuses: Vec<u16>,
    items: Vec<BTreeSet<String>>,
    inspects: Vec<BTreeSet<String>>,
    events: BTreeSet<String>,
}

fn live(endpoint: &str) -> Result<Life> {
    let begun = now()?;
    let mut life = Life {
        statuses: Vec::new(),
        items: Vec::new(),
        inspects: Vec::new(),
        events: BTreeSet::new(),
    };
    let ask = |method: &str, path: &str, body: &str| {
        http::request(
            endpoint,
            method,
            &format!("/v1.51{path}"),
            body.as_bytes(),
            LIMIT,
        )
    };
    let made = ask("POST", "/containers/create?name=held", BODY)?;
    life.statuses.push(made.status);
    let id = made.json()?["Id"].as_str().context("no id")?.to_owned();
    let steps = [
        ("", "", ""),
        ("POST", "/containers/held/start", ""),
        ("POST", "/containers/held/start", ""),
        ("POST", "/containers/held/rename?name=held", ""),
        ("POST", "/containers/held/rename?name=kept", ""),
        ("POST", "/containers/kept/rename?name=held", ""),
        (
            "POST",
            "/containers/held/update",
            r#"{"NanoCpus":500000000}"#,
        ),
        ("DELETE", "/containers/held", ""),
        ("POST", "/containers/held/stop?t=1", ""),
        ("POST", "/containers/held/stop?t=1", ""),
        ("POST", "/containers/held/wait", ""),
    ];
    for (method, path, body) in steps {
        if !method.is_empty() {
            life.statuses.push(ask(method, path, body)?.status);
        }
        let listed = get(
            endpoint,
            &format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D"),
        )?;
        let listed = listed.json()?;
        ensure!(listed.as_array().is_some_and(|items| items.len() == 1));
        life.items.push(members(&listed));
        let inspected = get(endpoint, &format!("/containers/{id}/json"))?;
        life.inspects.push(members(&inspected.json()?));
    }
    life.statuses
        .push(ask("DELETE", "/containers/held", "")?.status);
    let told = get(endpoint, &format!("/events?since={begun}&until={}", now()?))?;
    for line in told.text().lines() {
        let event: Value = serde_json::from_str(line)?;
        let says = format!("{} {}", event["Type"], event["Action"]);
        life.events
            .extend(members(&event).iter().map(|member| says.clone() + member));
    }
    Ok(life)
}

fn life(lab: &Lab) -> Result<()> {
    let (real, fake) = both(lab, live)?;
    ensure!(
        real.statuses == fake.statuses,
        "the real one answers {:?}, the fake one {:?}",
        real.statuses,
        fake.statuses
    );
    for (stage, (real, fake)) in real.items.iter().zip(&fake.items).enumerate() {
        agree(&format!("list item at stage {stage}"), real, fake)?;
    }
    for (stage, (real, fake)) in real.inspects.iter().zip(&fake.inspects).enumerate() {
        agree(&format!("inspect at stage {stage}"), real, fake)?;
    }
    ensure!(!real.events.is_empty(), "no events were told");
    agree("events", &real.events, &fake.events)
}

fn refusals(lab: &Lab) -> Result<()> {
    for path in ["/containers/nope/json", "/containers/nope/logs?stdout=1"] {
        let (real, fake) = both(lab, |endpoint| get(endpoint, path))?;
        ensure!(
            (real.status, real.text().trim()) == (fake.status, fake.text().trim()),
            "{path}: {} {} and {} {}",
            real.status,
            real.text(),
            fake.status,
            fake.text()
        );
    }
    Ok(())
}

/// As `since` and `until` take it.
fn now() -> Result<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(format!("{}.{:09}", since.as_secs(), since.subsec_nanos()))
}
