//! What a look-up and a short list cost as the fleet grows: they must not.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use flotilla::engine::{Container, Found, HostTag, Inventory};
use flotilla::model::{ClusterId, NodeId};
use integration::bench::{self, Client, Managed, Probe, Table, interleaved, seconds_each, time};
use integration::fake_engine::{Fleet, Spec};

/// Requests go in turn to the small fleet and to the large one, so that both meet the same noise.
const REQUESTS: usize = 1500;
const ROUNDS: usize = 15;
const FINDS: usize = 20_000;
/// What is asked for is there in every fleet.
const SAMPLE: usize = 500;

fn main() -> ExitCode {
    bench::main(measure)
}

/// Engines, containers each; the first is what the others are compared with.
const SIZES: [(usize, usize); 3] = [(10, 100), (10, 10_000), (1000, 100)];

fn measure(table: &mut Table) -> Result<()> {
    let managed = SIZES
        .iter()
        .map(|&(engines, containers)| {
            Managed::start(&Spec {
                labelled: true,
                ..Spec::sized(engines, containers)
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let ids = managed
        .iter()
        .map(|managed| {
            let mut ids = managed
                .fleet
                .engines()
                .iter()
                .flat_map(|engine| engine.ids().into_iter().take(SAMPLE))
                .take(SAMPLE)
                .collect::<Vec<_>>();
            ids.sort_unstable();
            ids
        })
        .collect::<Vec<_>>();
    requests(table, &managed, &ids)?;
    finds(table, &managed, &ids)?;
    full_list(table, &managed)
}

/// Makes the path of the n-th request from the ids to choose from.
type Ask = fn(&[String], usize) -> String;

fn requests(table: &mut Table, managed: &[Managed], ids: &[Vec<String>]) -> Result<()> {
    let asks: [(&str, u16, Ask); 6] = [
        ("look-up of a full id (list by id)", 200, |ids, n| {
            let id = &ids[n % ids.len()];
            format!("/containers/json?all=1&filters=%7B%22id%22%3A%5B%22{id}%22%5D%7D")
        }),
        ("look-up of a name nobody has", 404, |_, n| {
            format!("/containers/nobody-{n}/json")
        }),
        ("look-up of a prefix nobody has", 404, |_, n| {
            format!("/containers/{n:012x}/json")
        }),
        ("list of the newest 5", 200, |_, _| {
            "/containers/json?limit=5".to_owned()
        }),
        ("list of the newest 1, all", 200, |_, _| {
            "/containers/json?all=1&limit=1".to_owned()
        }),
        ("list of one compose project", 200, |_, n| {
            format!(
                "/containers/json?all=1&filters=%7B%22label%22%3A%5B%22com.docker.compose.project%3Dp{}%22%5D%7D",
                17 + n % 100
            )
        }),
    ];
    let mut clients = managed
        .iter()
        .map(Managed::client)
        .collect::<Result<Vec<_>>>()?;
    for larger in [1, 2] {
        let (engines, containers) = SIZES[larger];
        table.part(
            &format!("requests, {engines} nodes x {containers}"),
            ["1,000", "100,000", "ratio"],
        );
        for (what, status, ask) in asks {
            let (first, rest) = clients.split_at_mut(1);
            let [few, many] = pair(
                [&mut first[0], &mut rest[larger - 1]],
                [&ids[0], &ids[larger]],
                status,
                ask,
            )?;
            table.at_most(what, &time(few), &time(many), many / few, 1.3);
        }
    }
    Ok(())
}

fn pair(
    clients: [&mut Client; 2],
    ids: [&Vec<String>; 2],
    status: u16,
    ask: Ask,
) -> Result<[f64; 2]> {
    let [few, many] = clients;
    let mut numbers = [0, 0];
    let [number_few, number_many] = &mut numbers;
    let run = |client: &mut Client, ids: &[String], number: &mut usize| {
        *number += 1;
        let path = ask(ids, *number);
        seconds_each(1, |_| client.get(&path, status).map(drop))
    };
    let medians = interleaved(
        REQUESTS,
        &mut [
            Box::new(|| run(few, ids[0], number_few)),
            Box::new(|| run(many, ids[1], number_many)),
        ],
    )?;
    Ok([medians[0], medians[1]])
}

/// The look-up itself, without a request around it: nothing beside one.
fn finds(table: &mut Table, managed: &[Managed], ids: &[Vec<String>]) -> Result<()> {
    let inventories = managed
        .iter()
        .map(|managed| inventory(&managed.fleet))
        .collect::<Result<Vec<_>>>()?;
    let mut client = managed[0].client()?;
    let request = seconds_each(1000, |_| {
        client.get("/containers/json?limit=5", 200).map(drop)
    })?;
    let names = |inventory: &Inventory, ids: &[String]| -> Vec<String> {
        ids.iter()
            .filter_map(|id| match inventory.find(id) {
                Found::One(container) => Some(container.name()),
                Found::None | Found::SameName(_) | Found::SamePrefix => None,
            })
            .collect()
    };
    let named = [
        names(&inventories[0], &ids[0]),
        names(&inventories[2], &ids[2]),
    ];
    let short =
        [&ids[0], &ids[2]].map(|ids| ids.iter().map(|id| id[..12].to_owned()).collect::<Vec<_>>());
    table.part(
        "in memory, without the request",
        ["1,000", "100,000", "of a request"],
    );
    for (what, few, many) in [
        ("find by full id", &ids[0], &ids[2]),
        ("find by name", &named[0], &named[1]),
        ("find by the first 12 digits", &short[0], &short[1]),
    ] {
        let run = |inventory: &Inventory, references: &[String]| {
            seconds_each(FINDS, |n| {
                let reference = &references[n % references.len()];
                let found = black_box(inventory.find(black_box(reference)));
                ensure!(matches!(found, Found::One(_)), "{reference} is not found");
                Ok(())
            })
        };
        let mut probes: [Probe<'_>; 2] = [
            Box::new(|| run(&inventories[0], few)),
            Box::new(|| run(&inventories[2], many)),
        ];
        let medians = interleaved(ROUNDS, &mut probes)?;
        table.at_most(
            what,
            &time(medians[0]),
            &time(medians[1]),
            medians[1] / request,
            0.05,
        );
    }
    Ok(())
}

/// What a manager would hold of this fleet.
fn inventory(fleet: &Fleet) -> Result<Inventory> {
    let inventory = Inventory::new();
    let cluster = ClusterId::from_bytes([7; 16]);
    for (number, (engine, endpoint)) in fleet.engines().iter().zip(fleet.endpoints()).enumerate() {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let tag = Arc::new(HostTag::new(
            NodeId::from_bytes(id),
            engine.name().parse()?,
            None,
            endpoint.parse()?,
            cluster,
            false,
        ));
        let mut client = Client::connect(endpoint)?;
        let items: Vec<Box<serde_json::value::RawValue>> =
            serde_json::from_slice(client.get("/containers/json?all=1", 200)?)?;
        let containers = items
            .iter()
            .map(|item| Container::read(item.get().as_bytes(), &tag))
            .collect::<Result<Vec<_>, _>>()?;
        inventory.replace_node(tag.id, containers);
    }
    Ok(inventory)
}

/// All containers at once, from a manager, and from one engine that renders them anew.
fn full_list(table: &mut Table, managed: &[Managed]) -> Result<()> {
    let raw = Fleet::start(&Spec {
        labelled: true,
        ..Spec::sized(1, 100_000)
    })?;
    let mut direct = Client::connect(raw.endpoints().first().context("no engine")?)?;
    table.part("list of all 100,000", ["raw engine", "manager", "ratio"]);
    for larger in [1, 2] {
        let (engines, containers) = SIZES[larger];
        let mut client = managed[larger].client()?;
        let list = |client: &mut Client| {
            seconds_each(1, |_| {
                let bytes = client.drain("/containers/json?all=1")?;
                ensure!(bytes > 50_000_000, "only {bytes} bytes were listed");
                Ok(())
            })
        };
        let mut probes: [Probe<'_>; 2] = [
            Box::new(|| list(&mut direct)),
            Box::new(|| list(&mut client)),
        ];
        let medians = interleaved(5, &mut probes)?;
        table.at_most(
            &format!("from {engines} nodes x {containers}"),
            &time(medians[0]),
            &time(medians[1]),
            medians[1] / medians[0],
            1.0,
        );
    }
    Ok(())
}
