//! `GET /info` of several engines as that of one.
//!
//! Numbers are summed, abilities are those that every engine has, and what differs is said to differ. The table of nodes
//! goes into `SystemStatus`, which the CLI prints and engines leave empty: classic Swarm put its table there.
//!
//! Source: moby 28.5.2 `system.Info` and the version gates of `getInfo`.
//!
//! **Invariant**: a member that no rule names is the first engine's, byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use crate::json_edit::{Edit, quote};
use crate::json_view::{Malformed, View};
use crate::version::ApiVersion;

/// `Swarm` of an engine that is in no swarm.
const NO_SWARM: &str = r#"{"NodeID":"","NodeAddr":"","LocalNodeState":"inactive","ControlAvailable":false,"Error":"","RemoteManagers":null}"#;

/// What the pool is, beside what its engines say.
#[derive(Debug, Clone, Default)]
pub struct Pool {
    /// `ID`
    pub id: String,
    /// `Name`
    pub name: String,
    /// `ServerVersion`
    pub server_version: String,
    /// `OperatingSystem`
    pub operating_system: String,
    /// `SystemTime`
    pub system_time: String,
    /// `Containers`
    pub containers: usize,
    /// `ContainersRunning`, without the paused ones.
    pub running: usize,
    /// `ContainersPaused`
    pub paused: usize,
    /// `Images`: those of one id count once.
    pub images: usize,
    /// `NCPU`
    pub cpus: u64,
    /// `MemTotal`
    pub memory_bytes: u64,
    /// `GenericResources`, by kind.
    pub generic: BTreeMap<String, u64>,
    /// The rows of `SystemStatus`.
    pub rows: Vec<(String, String)>,
    /// Put before what the engines warn of.
    pub warnings: Vec<String>,
}

/// One node's rows in the table.
#[derive(Debug, Clone, Default)]
pub struct NodeRow {
    /// Its name, or its endpoint as long as it has none.
    pub name: String,
    /// Where it listens.
    pub endpoint: String,
    /// In words.
    pub status: String,
    /// All its containers, the running ones, the paused ones. None of the rows but the status is shown without.
    pub details: Option<NodeDetails>,
}

/// What is known of a node that has answered at least once.
#[derive(Debug, Clone, Default)]
pub struct NodeDetails {
    /// How many containers it has.
    pub containers: usize,
    /// How many of them run, without the paused ones.
    pub running: usize,
    /// How many of them are paused.
    pub paused: usize,
    /// What its containers claim, in billionths of a CPU.
    pub reserved_cpu_nanos: u64,
    /// What it has, in billionths of a CPU.
    pub cpu_nanos: u64,
    /// What its containers claim.
    pub reserved_memory_bytes: u64,
    /// What it has.
    pub memory_bytes: u64,
    /// What it has beside those: what containers claim, and what there is, by name.
    pub generic: BTreeMap<String, (u64, u64)>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it last answered.
    pub updated_at: String,
    /// Its engine's version.
    pub server_version: String,
}

impl NodeRow {
    /// Appends the node's rows, in classic Swarm's form.
    pub fn rows(&self, rows: &mut Vec<(String, String)>) {
        let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
        row(&format!(" {}", self.name), self.endpoint.clone());
        row("  └ Status", self.status.clone());
        let Some(details) = &self.details else { return };
        let stopped = details
            .containers
            .saturating_sub(details.running + details.paused);
        row(
            "  └ Containers",
            format!(
                "{} ({} Running, {} Paused, {stopped} Stopped)",
                details.containers, details.running, details.paused
            ),
        );
        row(
            "  └ Reserved CPUs",
            format!(
                "{} / {}",
                cpus(details.reserved_cpu_nanos),
                cpus(details.cpu_nanos)
            ),
        );
        row(
            "  └ Reserved Memory",
            format!(
                "{} / {}",
                bytes_size(details.reserved_memory_bytes),
                bytes_size(details.memory_bytes)
            ),
        );
        for (name, (reserved, has)) in &details.generic {
            row(
                &format!("  └ Reserved {name}"),
                format!("{reserved} / {has}"),
            );
        }
        let labels: Vec<_> = details
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        row("  └ Labels", labels.join(", "));
        row("  └ UpdatedAt", details.updated_at.clone());
        row("  └ ServerVersion", details.server_version.clone());
    }
}

/// `1.5`, `2`.
fn cpus(nanos: u64) -> String {
    let text = format!(
        "{}.{:03}",
        nanos / 1_000_000_000,
        nanos % 1_000_000_000 / 1_000_000
    );
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// As Docker prints sizes: four digits and a binary unit.
pub fn bytes_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let digits = match size {
        size if size >= 1000.0 => 0,
        size if size >= 100.0 => 1,
        size if size >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        &text
    };
    format!("{text}{}", UNITS[unit])
}

/// The answer of the only engine: its own, but it is in no swarm as far as clients of the pool are concerned.
pub fn of_one(info: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut edit = Edit::new(info)?;
    if let Some(swarm) = edit.root().get("Swarm")
        && swarm.text_of("LocalNodeState") != "inactive"
    {
        edit.replace(swarm, NO_SWARM);
    }
    Ok(edit.finish())
}

/// The answer of the pool. `infos` are what the engines last said, the one whose settings stand for all first; there may
/// be none.
pub fn merge(infos: &[View<'_>], pool: &Pool) -> Result<Vec<u8>, Malformed> {
    let base = infos.first().map_or("{}", View::as_json);
    let mut edit = Edit::new(base.as_bytes())?;
    let root = edit.root();
    edit.members(root, |key, value| match merged(key, value, infos, pool) {
        Some(json) => crate::json_edit::Change::Replace(json),
        None => crate::json_edit::Change::Keep,
    });
    // What an engine always sends must be there even if none has answered, and `SystemStatus` is never there.
    let always = [
        "ID",
        "Name",
        "ServerVersion",
        "OperatingSystem",
        "SystemTime",
        "Containers",
        "ContainersRunning",
        "ContainersPaused",
        "ContainersStopped",
        "Images",
        "NCPU",
        "MemTotal",
        "SystemStatus",
        "Swarm",
        "Warnings",
    ];
    for key in always
        .into_iter()
        .filter(|key| !root.members().any(|member| member.key == *key))
    {
        if let Some(json) = merged(key, root, infos, pool) {
            edit.set(&[key], &json);
        }
    }
    Ok(edit.finish())
}

/// The pool's value of a member, if it is not the first engine's.
fn merged(key: &str, value: View<'_>, infos: &[View<'_>], pool: &Pool) -> Option<String> {
    let differs = || {
        infos.iter().any(|info| {
            info.get(key)
                .is_some_and(|other| other.as_json() != value.as_json())
        })
    };
    Some(match key {
        "ID" => quote(&pool.id),
        "Name" => quote(&pool.name),
        "ServerVersion" => quote(&pool.server_version),
        "OperatingSystem" => quote(&pool.operating_system),
        "SystemTime" => quote(&pool.system_time),
        "DockerRootDir" => quote(""),
        "Containers" => pool.containers.to_string(),
        "ContainersRunning" => pool.running.to_string(),
        "ContainersPaused" => pool.paused.to_string(),
        "ContainersStopped" => pool
            .containers
            .saturating_sub(pool.running + pool.paused)
            .to_string(),
        "Images" => pool.images.to_string(),
        "NCPU" => pool.cpus.to_string(),
        "MemTotal" => pool.memory_bytes.to_string(),
        "NFd" | "NGoroutines" | "NEventsListener" => infos
            .iter()
            .fold(0, |sum: i64, info| sum.saturating_add(info.int_of(key)))
            .to_string(),
        "Swarm" => NO_SWARM.to_owned(),
        "SystemStatus" => {
            let rows: Vec<_> = pool
                .rows
                .iter()
                .map(|(key, value)| format!("[{},{}]", quote(key), quote(value)))
                .collect();
            format!("[{}]", rows.join(","))
        }
        "Warnings" => {
            let mut all = pool.warnings.clone();
            for info in infos {
                let said = info.get(key).into_iter().flat_map(|list| list.elements());
                for warning in said.filter_map(|warning| warning.str()) {
                    if !all.iter().any(|known| *known == warning) {
                        all.push(warning.into_owned());
                    }
                }
            }
            if all.is_empty() {
                return None;
            }
            let quoted: Vec<_> = all.iter().map(|warning| quote(warning)).collect();
            format!("[{}]", quoted.join(","))
        }
        "Labels" | "SecurityOptions" | "CDISpecDirs" => common_elements(value, infos, &[key])?,
        "Plugins" => {
            let kinds: Vec<_> = value
                .members()
                .map(|member| {
                    let list = common_elements(member.value, infos, &[key, &member.key]);
                    format!(
                        "{}:{}",
                        quote(&member.key),
                        list.as_deref().unwrap_or(member.value.as_json())
                    )
                })
                .collect();
            format!("{{{}}}", kinds.join(","))
        }
        "Runtimes" => {
            let everywhere = |name: &str| infos.iter().all(|info| info.at(&[key, name]).is_some());
            let kept: Vec<_> = value
                .members()
                .filter(|member| everywhere(&member.key))
                .map(|member| format!("{}:{}", quote(&member.key), member.value.as_json()))
                .collect();
            format!("{{{}}}", kept.join(","))
        }
        "GenericResources" if pool.generic.is_empty() => "null".to_owned(),
        "GenericResources" => {
            let kinds = pool.generic.iter();
            let kinds: Vec<_> = kinds
                .map(|(kind, count)| {
                    let kind = quote(kind);
                    format!(r#"{{"DiscreteResourceSpec":{{"Kind":{kind},"Value":{count}}}}}"#)
                })
                .collect();
            format!("[{}]", kinds.join(","))
        }
        "DriverStatus" if differs() => "null".to_owned(),
        "Driver" | "LoggingDriver" | "CgroupDriver" | "KernelVersion" | "OSVersion"
        | "Architecture" | "DefaultRuntime"
            if differs() =>
        {
            quote("mixed")
        }
        "CgroupVersion" | "HttpProxy" | "HttpsProxy" | "NoProxy" if differs() => quote(""),
        _ if value.bool() == Some(true)
            && infos
                .iter()
                .any(|info| info.get(key).and_then(|b| b.bool()) == Some(false)) =>
        {
            "false".to_owned()
        }
        _ => return None,
    })
}

/// The elements of `value` that the member `path` of every engine has; nothing if those are all.
fn common_elements(value: View<'_>, infos: &[View<'_>], path: &[&str]) -> Option<String> {
    let others: Vec<BTreeSet<&str>> = infos
        .iter()
        .map(|info| {
            info.at(path)
                .into_iter()
                .flat_map(|list| list.elements())
                .map(|item| item.as_json())
                .collect()
        })
        .collect();
    let all: Vec<_> = value.elements().map(|item| item.as_json()).collect();
    let common: Vec<_> = all
        .iter()
        .copied()
        .filter(|item| others.iter().all(|other| other.contains(item)))
        .collect();
    (common.len() < all.len()).then(|| format!("[{}]", common.join(",")))
}

/// An answer made for [`ApiVersion::MAX`] as clients of an older version know it.
pub fn for_version(info: &[u8], version: ApiVersion) -> Result<Vec<u8>, Malformed> {
    let below = |minor| version < ApiVersion::new(1, minor);
    let mut edit = Edit::new(info)?;
    let root = edit.root();
    if below(25)
        && let Some(options) = root.get("SecurityOptions")
    {
        edit.elements(options, |option| {
            let text = option.str().unwrap_or_default();
            let name = text
                .split(',')
                .find_map(|pair| pair.strip_prefix("name="))
                .unwrap_or(&text);
            crate::json_edit::Change::Replace(quote(name))
        });
    }
    if below(44)
        && let Some(runtimes) = root.get("Runtimes")
    {
        for runtime in runtimes.members() {
            edit.remove(&["Runtimes", &runtime.key, "status"]);
        }
    }
    if below(46) {
        edit.remove(&["Containerd"]);
    }
    if below(47)
        && let Some(registries) = root.get("RegistryConfig").filter(View::is_object)
    {
        for key in [
            "AllowNondistributableArtifactsCIDRs",
            "AllowNondistributableArtifactsHostnames",
        ] {
            if registries.members().all(|member| member.key != key) {
                edit.add(registries, key, "null");
            }
        }
    }
    if below(49) {
        edit.remove(&["FirewallBackend"]);
        for commit in ["ContainerdCommit", "RuncCommit", "InitCommit"] {
            if let Some(id) = root.at(&[commit, "ID"]) {
                edit.set(&[commit, "Expected"], id.as_json());
            }
        }
    }
    if below(50) {
        edit.remove(&["DiscoveredDevices"]);
        for key in ["BridgeNfIptables", "BridgeNfIp6tables"] {
            if root.members().all(|member| member.key != key) {
                edit.add(root, key, "false");
            }
        }
    }
    Ok(edit.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"ID":"x","Containers":1,"Images":2,"Driver":"overlay2","Plugins":{"Volume":["local","nfs"],"Log":["json-file"]},"MemoryLimit":true,"CpuCfsQuota":true,"NCPU":2,"GenericResources":null,"Labels":["a=1","b=2"],"Runtimes":{"runc":{"path":"runc","status":{}},"gvisor":{"path":"g"}},"Swarm":{"LocalNodeState":"active"},"New":{"z":1.50},"Warnings":null}"#;
    const TWO: &str = r#"{"ID":"y","Containers":3,"Images":4,"Driver":"btrfs","Plugins":{"Volume":["local"],"Log":["json-file"]},"MemoryLimit":true,"CpuCfsQuota":false,"NCPU":4,"Labels":["a=1","b=3"],"Runtimes":{"runc":{"path":"runc"}},"Warnings":["w"]}"#;

    fn view(text: &str) -> View<'_> {
        View::parse(text.as_bytes()).expect("well-formed")
    }

    #[test]
    fn several_engines_are_as_able_as_the_least() {
        let pool = Pool {
            name: "fleet".to_owned(),
            containers: 5,
            running: 2,
            paused: 1,
            images: 3,
            cpus: 6,
            generic: [("gpu".to_owned(), 3)].into(),
            rows: vec![("Nodes".to_owned(), "2".to_owned())],
            ..Pool::default()
        };
        let merged = merge(&[view(ONE), view(TWO)], &pool).expect("well-formed");
        let text = String::from_utf8(merged).expect("text");
        let merged = view(&text);
        for (path, expected) in [
            (&["Containers"] as &[&str], "5"),
            (&["ContainersStopped"], "2"),
            (&["Images"], "3"),
            (&["NCPU"], "6"),
            (
                &["GenericResources"],
                r#"[{"DiscreteResourceSpec":{"Kind":"gpu","Value":3}}]"#,
            ),
            (&["Name"], "\"fleet\""),
            (&["Driver"], "\"mixed\""),
            (&["Plugins", "Volume"], "[\"local\"]"),
            (&["Plugins", "Log"], "[\"json-file\"]"),
            (&["MemoryLimit"], "true"),
            (&["CpuCfsQuota"], "false"),
            (&["Labels"], "[\"a=1\"]"),
            (&["Runtimes"], r#"{"runc":{"path":"runc","status":{}}}"#),
            (&["Swarm", "LocalNodeState"], "\"inactive\""),
            (&["New"], r#"{"z":1.50}"#),
            (&["Warnings"], "[\"w\"]"),
            (&["SystemStatus"], r#"[["Nodes","2"]]"#),
        ] {
            assert_eq!(
                merged.at(path).map(|value| value.as_json().to_owned()),
                Some(expected.to_owned()),
                "{path:?}"
            );
        }
        let nobody = merge(&[], &pool).expect("well-formed");
        assert!(
            String::from_utf8(nobody)
                .expect("text")
                .contains("\"Containers\":5")
        );
    }

    #[test]
    fn one_engine_keeps_its_words() {
        let quiet = ONE.replace("active", "inactive");
        assert_eq!(
            of_one(quiet.as_bytes()).expect("well-formed"),
            quiet.as_bytes()
        );
        let swarm = of_one(ONE.as_bytes()).expect("well-formed");
        assert!(String::from_utf8(swarm).expect("text").contains(NO_SWARM));
    }

    #[test]
    fn older_clients_get_what_they_know() {
        let info = r#"{"SecurityOptions":["name=seccomp,profile=builtin","name=cgroupns"],"Runtimes":{"runc":{"path":"r","status":{"a":"b"}}},"RegistryConfig":{"Mirrors":[]},"RuncCommit":{"ID":"r1"},"FirewallBackend":{},"Containerd":{}}"#;
        let shown = |minor| {
            let bytes =
                for_version(info.as_bytes(), ApiVersion::new(1, minor)).expect("well-formed");
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!(shown(51), info);
        assert_eq!(
            shown(24),
            r#"{"SecurityOptions":["seccomp","cgroupns"],"Runtimes":{"runc":{"path":"r"}},"RegistryConfig":{"Mirrors":[],"AllowNondistributableArtifactsCIDRs":null,"AllowNondistributableArtifactsHostnames":null},"RuncCommit":{"ID":"r1","Expected":"r1"},"BridgeNfIptables":false,"BridgeNfIp6tables":false}"#
        );
    }

    #[test]
    fn a_node_has_classic_rows() {
        let mut rows = Vec::new();
        let details = NodeDetails {
            containers: 4,
            running: 2,
            paused: 1,
            reserved_cpu_nanos: 1_500_000_000,
            cpu_nanos: 4_000_000_000,
            reserved_memory_bytes: 0,
            memory_bytes: 2_147_483_648,
            generic: [("gpu".to_owned(), (1, 4))].into(),
            ..NodeDetails::default()
        };
        let node = NodeRow {
            name: "host1".to_owned(),
            endpoint: "tcp://10.0.0.1:2375".to_owned(),
            status: "Ready".to_owned(),
            details: Some(details),
        };
        node.rows(&mut rows);
        let shown: Vec<_> = rows
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        assert_eq!(
            shown[..6].join("\n"),
            " host1: tcp://10.0.0.1:2375\n  └ Status: Ready\n  └ Containers: 4 (2 Running, 1 Paused, 1 Stopped)\n  \
             └ Reserved CPUs: 1.5 / 4\n  └ Reserved Memory: 0B / 2GiB\n  └ Reserved gpu: 1 / 4"
        );
        for (bytes, text) in [
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (16_777_216_000, "15.62GiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(bytes_size(bytes), text);
        }
    }
}
