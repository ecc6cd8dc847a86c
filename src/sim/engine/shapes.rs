//! What a simulated engine says, in the words of Docker Engine 28.5.2: the texts in `shapes/` are its own, with holes.
//!
//! **Invariant**: every member a real engine sends is there; values that nobody compares may be simple.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Made, Phase};

const INFO: &str = include_str!("shapes/info.json");
const INSPECT: &str = include_str!("shapes/inspect.json");
const NETWORKS: &str = include_str!("shapes/networks.json");
pub(super) const IMAGES: &str = include_str!("shapes/images.json");
pub(super) const VERSION: &str = include_str!("shapes/version.json");
pub(super) const VOLUMES: &str = r#"{"Volumes":[],"Warnings":null}"#;
pub(super) const IMAGE_ID: &str =
    "sha256:1fc43d1e8b43aa1e57e39bf60b75bff3c77f0739d722292837b2aadabeea2edb";

const NEVER: &str = "0001-01-01T00:00:00Z";
const NANOS: i64 = 1_000_000_000;

/// 64 hexadecimal digits that look random and are the same in every run.
pub(super) fn id(of: u64, number: u64) -> String {
    let mut state = of
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(number.wrapping_mul(0xd1b5_4a32_d192_ed03))
        .wrapping_add(0x2545_f491_4f6c_dd1d);
    let mut text = String::with_capacity(64);
    for _ in 0..4 {
        // One step of SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        put(&mut text, format_args!("{:016x}", word ^ (word >> 31)));
    }
    text
}

/// Who an engine is, and what it has.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Tells it from others: its ids follow from this.
    pub number: u64,
    /// The name of its machine.
    pub name: String,
    /// How many CPUs the machine has.
    pub cpus: u64,
    /// How much memory it has.
    pub memory_bytes: u64,
    /// How many GPUs it says that it has; of none it says nothing.
    pub gpus: u64,
}

/// How many containers are in which phase.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) all: usize,
    pub(super) running: usize,
    pub(super) paused: usize,
}

pub(super) fn info(identity: &Identity, counts: Counts, now: i64) -> String {
    let id = id(identity.number, u64::MAX);
    let uuid = format!(
        "{}-{}-{}-{}-{}",
        &id[..8],
        &id[8..12],
        &id[12..16],
        &id[16..20],
        &id[20..32]
    );
    let stopped = counts.all - counts.running - counts.paused;
    let generic = match identity.gpus {
        0 => "null".to_owned(),
        gpus => json!([{"DiscreteResourceSpec": {"Kind": "gpu", "Value": gpus}}]).to_string(),
    };
    fill(
        INFO,
        &[
            ("ID", &uuid),
            ("NAME", &identity.name),
            ("NOW", &moment(now)),
            ("ALL", &counts.all.to_string()),
            ("RUNNING", &counts.running.to_string()),
            ("PAUSED", &counts.paused.to_string()),
            ("STOPPED", &stopped.to_string()),
            ("CPUS", &identity.cpus.to_string()),
            ("MEMORY", &identity.memory_bytes.to_string()),
            ("GENERIC", &generic),
        ],
    )
}

/// The ids of the networks `none`, `host` and `bridge` of an engine.
pub(super) fn network_ids(engine: u64) -> [String; 3] {
    [1, 2, 3].map(|number| id(engine, u64::MAX - number))
}

pub(super) fn networks(ids: &[String; 3]) -> String {
    fill(
        NETWORKS,
        &[("NET0", &ids[0]), ("NET1", &ids[1]), ("NET2", &ids[2])],
    )
}

/// Appends the list item of a container.
pub(super) fn list_item(out: &mut String, made: &Made, bridge: &str, now: i64) {
    put(
        out,
        format_args!(r#"{{"Id":"{}","Names":["/{}"],"#, made.id, made.name),
    );
    put(
        out,
        format_args!(
            r#""Image":{},"ImageID":"{IMAGE_ID}","Command":{},"Created":{},"Ports":[],"#,
            quoted(&made.image),
            quoted(&made.command.join(" ")),
            made.created_nanos.div_euclid(NANOS),
        ),
    );
    put(
        out,
        format_args!(
            r#""Labels":{},"State":"{}","Status":"{}","#,
            labels(&made.labels),
            made.phase.name(),
            status(made, now)
        ),
    );
    out.push_str(r#""HostConfig":{"NetworkMode":"bridge"},"NetworkSettings":{"Networks":"#);
    network(out, made, bridge);
    out.push_str(r#"},"Mounts":[]}"#);
}

pub(super) fn inspect(made: &Made, bridge: &str) -> String {
    let mut attached = String::new();
    network(&mut attached, made, bridge);
    let up = made.phase.is_up();
    let if_up = |text: String| if up { text } else { String::new() };
    let (sandbox, layer) = (
        id(made.number, made.number ^ 1),
        id(made.number, made.number ^ 2),
    );
    let (path, arguments) = match made.command.split_first() {
        Some((path, rest)) => (path.as_str(), rest),
        None => ("", &[][..]),
    };
    fill(
        INSPECT,
        &[
            ("ID", &made.id),
            ("SHORT", &made.id[..12]),
            ("NAME", &made.name),
            ("CREATED", &moment(made.created_nanos)),
            ("PATH", &quoted(path)),
            ("ARGS", &list(arguments)),
            ("CMD", &list(&made.command)),
            ("IMAGE", &quoted(&made.image)),
            ("LABELS", &labels(&made.labels)),
            ("STATE", &state(made)),
            ("AUTO_REMOVE", &made.auto_remove.to_string()),
            ("MEMORY", &made.memory_bytes.to_string()),
            ("CPUS", &made.cpu_nanos.to_string()),
            ("SANDBOX", &if_up(sandbox.clone())),
            (
                "SANDBOX_KEY",
                &if_up(format!("/var/run/docker/netns/{}", &sandbox[..12])),
            ),
            ("ENDPOINT", &if_up(endpoint(made))),
            ("GATEWAY", &if_up("172.17.0.1".to_owned())),
            ("ADDRESS", &if_up(address(made))),
            ("PREFIX", if up { "16" } else { "0" }),
            ("MAC", &if_up(mac(made))),
            ("LAYER", &layer),
            ("NETWORKS", &attached),
        ],
    )
}

/// One line of an event stream, with its line feed. What concerns a container has the old members in front.
pub(super) fn event(
    kind: &str,
    action: &str,
    actor: &str,
    attributes: &[(&str, &str)],
    at: i64,
) -> String {
    let mut line = String::with_capacity(512);
    line.push('{');
    if kind == "container" {
        let image = attributes.iter().find(|(key, _)| *key == "image");
        let image = quoted(image.map_or("", |(_, image)| image));
        put(
            &mut line,
            format_args!(
                r#""status":{},"id":"{actor}","from":{image},"#,
                quoted(action)
            ),
        );
    }
    let mut sorted = attributes.to_vec();
    sorted.sort_unstable();
    let attributes = sorted
        .iter()
        .map(|(key, value)| format!("{}:{}", quoted(key), quoted(value)))
        .collect::<Vec<_>>()
        .join(",");
    put(
        &mut line,
        format_args!(
            r#""Type":"{kind}","Action":{},"Actor":{{"ID":"{actor}","Attributes":{{{attributes}}}}},"scope":"local","time":{},"timeNano":{at}}}"#,
            quoted(action),
            at.div_euclid(NANOS)
        ),
    );
    line.push('\n');
    line
}

pub(super) fn message(text: &str) -> String {
    format!("{{\"message\":{}}}\n", quoted(text))
}

fn network(out: &mut String, made: &Made, bridge: &str) {
    let up = made.phase.is_up();
    let (endpoint, gateway, address, prefix, mac) = if up {
        (endpoint(made), "172.17.0.1", address(made), 16, mac(made))
    } else {
        (String::new(), "", String::new(), 0, String::new())
    };
    // Before its first start a container knows its network by name only.
    let id = if made.phase == Phase::Created {
        ""
    } else {
        bridge
    };
    put(
        out,
        format_args!(
            r#"{{"bridge":{{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"{mac}","DriverOpts":null,"GwPriority":0,"NetworkID":"{id}","EndpointID":"{endpoint}","Gateway":"{gateway}","IPAddress":"{address}","IPPrefixLen":{prefix},"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,"DNSNames":null}}}}"#
        ),
    );
}

fn endpoint(made: &Made) -> String {
    id(made.number, made.number ^ 3)
}

fn address(made: &Made) -> String {
    format!(
        "172.17.{}.{}",
        made.number >> 8 & 0xff,
        (made.number & 0xff).max(2)
    )
}

fn mac(made: &Made) -> String {
    let digits = id(made.number, made.number ^ 4);
    format!(
        "2a:{}:{}:{}:{}:{}",
        &digits[..2],
        &digits[2..4],
        &digits[4..6],
        &digits[6..8],
        &digits[8..10]
    )
}

fn state(made: &Made) -> String {
    let text = |at: Option<i64>| at.map_or_else(|| NEVER.to_owned(), moment);
    let exited = made.phase == Phase::Exited;
    format!(
        r#"{{"Status":"{}","Running":{},"Paused":{},"Restarting":false,"OOMKilled":false,"Dead":false,"Pid":{},"ExitCode":{},"Error":"","StartedAt":"{}","FinishedAt":"{}"}}"#,
        made.phase.name(),
        made.phase.is_up(),
        made.phase == Phase::Paused,
        if made.phase.is_up() { 256 } else { 0 },
        if exited { made.exit_code } else { 0 },
        text(made.started),
        text(made.finished),
    )
}

fn status(made: &Made, now: i64) -> String {
    let ago = |from: Option<i64>| age(now - from.unwrap_or(now));
    match made.phase {
        Phase::Created => "Created".to_owned(),
        Phase::Running => format!("Up {}", ago(made.started)),
        Phase::Paused => format!("Up {} (Paused)", ago(made.started)),
        Phase::Exited => format!("Exited ({}) {} ago", made.exit_code, ago(made.finished)),
    }
}

/// As Docker says it, but for the rounding of what is older than two days.
fn age(nanos: i64) -> String {
    let seconds = nanos / NANOS;
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

fn moment(nanos: i64) -> String {
    Timestamp::from_nanosecond(i128::from(nanos))
        .map_or_else(|_| NEVER.to_owned(), |at| at.to_string())
}

fn labels(labels: &[(String, String)]) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{}:{}", quoted(key), quoted(value)))
        .collect();
    format!("{{{}}}", pairs.join(","))
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(","))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string never fails.
    let _ = out.write_fmt(text);
}

/// Fills the holes `{{NAME}}`.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len() * 2);
    let mut rest = template.trim_end();
    while let Some((before, after)) = rest.split_once("{{") {
        text.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else {
            break;
        };
        let value = values.iter().find(|(key, _)| *key == name);
        text.push_str(value.map_or("", |(_, value)| value));
        rest = tail;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::{age, fill, id};

    #[test]
    fn holes_are_filled() {
        assert_eq!(
            fill("{\"a\":{{X}},\"b\":{}}\n", &[("X", "1")]),
            "{\"a\":1,\"b\":{}}"
        );
    }

    #[test]
    fn ids_are_long_and_differ() {
        assert_eq!(id(1, 2).len(), 64);
        assert_ne!(id(1, 2), id(2, 1));
        assert_eq!(id(1, 2), id(1, 2));
    }

    #[test]
    fn ages_read_as_dockers() {
        let said = [0, 1, 59, 119, 3599, 3600, 7200, 400_000].map(|s| age(s * 1_000_000_000));
        assert_eq!(
            said,
            [
                "Less than a second",
                "1 second",
                "59 seconds",
                "About a minute",
                "59 minutes",
                "About an hour",
                "2 hours",
                "4 days"
            ]
        );
    }
}
