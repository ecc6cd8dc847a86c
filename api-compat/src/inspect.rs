//! `GET /containers/{id}/json`: an engine's answer made the cluster's, and what we read in it ourselves.
//!
//! **Invariant**: the bytes of an inspect are the engine's but for the members named in [`edit`].

use std::borrow::Cow;

use jiff::Timestamp;

use crate::claim::Claim;
use crate::create::needs;
use crate::generic::Wishes;
use crate::json_edit::{Change, Edit, quote};
use crate::json_view::{Malformed, View};
use crate::labels;
use crate::list_filter::split_port;
use crate::published::{Row, Rows};

/// What an inspect shows that its engine does not know.
pub struct ShownAs<'a> {
    /// The member `Node`.
    pub node: Node<'a>,
    /// The address that published ports are reached at; none leaves them as the engine shows them.
    pub address: Option<&'a str>,
    /// Whether the name is shown as `/node/name`.
    pub prefix_name: bool,
    /// The id clients know a network by, for the id the engine knows it by; none leaves it.
    pub network_id: &'a dyn Fn(&str) -> Option<String>,
}

/// The member `Node`, as classic Swarm had it and Docker's SDKs of its time know it.
#[derive(Debug, Clone, Default)]
pub struct Node<'a> {
    /// The node's id.
    pub id: &'a str,
    /// Its address.
    pub ip: &'a str,
    /// Its address and port.
    pub addr: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its number of CPUs.
    pub cpus: u64,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Its labels.
    pub labels: &'a [(String, String)],
}

impl Node<'_> {
    fn to_json(&self) -> String {
        let labels: serde_json::Map<_, _> = self
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        format!(
            r#"{{"ID":{},"IP":{},"Addr":{},"Name":{},"Cpus":{},"Memory":{},"Labels":{}}}"#,
            quote(self.id),
            quote(self.ip),
            quote(self.addr),
            quote(self.name),
            self.cpus,
            self.memory_bytes,
            serde_json::Value::Object(labels),
        )
    }
}

/// Takes our labels out, adds `Node`, and shows the node's address, the cluster's network ids and, if wished, the node
/// in the name. `HostConfig.PortBindings` stays as the client gave it.
pub fn edit(inspect: &[u8], shown: &ShownAs<'_>) -> Result<Vec<u8>, Malformed> {
    let mut edit = Edit::new(inspect)?;
    let root = edit.root();
    if let Some(all) = root.at(&["Config", "Labels"]) {
        edit.members(all, |name, _| {
            if labels::is_hidden(name) {
                Change::Drop
            } else {
                Change::Keep
            }
        });
    }
    if let (Some(ports), Some(address)) = (root.at(&["NetworkSettings", "Ports"]), shown.address) {
        for port in ports.members() {
            show_address(&mut edit, port.value, address);
        }
    }
    for network in root
        .at(&["NetworkSettings", "Networks"])
        .iter()
        .flat_map(View::members)
    {
        let Some(id) = network.value.get("NetworkID") else {
            continue;
        };
        if let Some(ours) = (shown.network_id)(&id.str().unwrap_or_default()) {
            edit.replace(id, quote(&ours));
        }
    }
    if let Some(failure) = root.at(&["State", "Error"]) {
        let words = failure.str().unwrap_or_default();
        if let Cow::Owned(told) = with_our_ids(&words, shown.network_id) {
            edit.replace(failure, quote(&told));
        }
    }
    if let (true, Some(name)) = (shown.prefix_name, root.get("Name")) {
        let prefixed = format!("/{}{}", shown.node.name, name.str().unwrap_or_default());
        edit.replace(name, quote(&prefixed));
    }
    edit.set(&["Node"], &shown.node.to_json());
    Ok(edit.finish())
}

/// An engine's words, with the ids that clients know networks by in place of its own; borrowed if there are none.
pub fn with_our_ids<'a>(
    words: &'a str,
    network_id: &dyn Fn(&str) -> Option<String>,
) -> Cow<'a, str> {
    let mut told = Cow::Borrowed(words);
    for word in words.split(|c: char| !c.is_ascii_alphanumeric()) {
        if let Some(ours) = network_id(word) {
            told = Cow::Owned(told.replace(word, &ours));
        }
    }
    told
}

fn show_address<'a>(edit: &mut Edit<'a>, bindings: View<'a>, address: &str) {
    let all = bindings.elements();
    let all = all.map(|binding| (binding.text_of("HostIp"), binding.text_of("HostPort")));
    let mut rows = Rows::new(address, all);
    let mut replaced = Vec::new();
    edit.elements(bindings, |binding| {
        match rows.next(&binding.text_of("HostIp"), binding.text_of("HostPort")) {
            Row::Keep => Change::Keep,
            Row::Drop => Change::Drop,
            Row::Show(address) => {
                replaced.push((binding, quote(address)));
                Change::Keep
            }
        }
    });
    for (binding, address) in replaced {
        match binding.get("HostIp") {
            Some(ip) => edit.replace(ip, address),
            None => edit.add(binding, "HostIp", &address),
        }
    }
}

/// What an inspect tells us and a list item does not.
#[derive(Debug, Clone, Default)]
pub struct Summary<'a> {
    /// `Id`
    pub id: Cow<'a, str>,
    /// `Name` without its slash.
    pub name: Cow<'a, str>,
    /// What it asks of its node.
    pub claim: Claim,
    /// What it asks of it beside CPU and memory.
    pub generic: Wishes,
    /// `Config.ExposedPorts`, such as `80/tcp`.
    pub exposed: Vec<Cow<'a, str>>,
    /// `State.StartedAt`; none if it was never started.
    pub started_at: Option<Timestamp>,
    /// `State.FinishedAt`; none if it never ended.
    pub finished_at: Option<Timestamp>,
    /// `State.Running`, true for paused and restarting ones too.
    pub running: bool,
    /// `State.ExitCode`
    pub exit_code: i64,
    /// `State.Health.Status`; empty without a health check.
    pub health: Cow<'a, str>,
    /// `HostConfig.RestartPolicy.Name`; empty means `no`.
    pub restart_policy: Cow<'a, str>,
    /// `HostConfig.AutoRemove`
    pub auto_remove: bool,
    /// `HostConfig.NetworkMode`
    pub network_mode: Cow<'a, str>,
    /// The containers that it cannot be without, by name or id.
    pub needs: Vec<String>,
    /// `HostConfig.Links`
    pub links: Vec<Link>,
    /// `ExecIDs`
    pub exec_ids: Vec<Cow<'a, str>>,
    /// `NetworkSettings.Ports` that have a host port, while it runs.
    pub published: Vec<Published<'a>>,
}

/// A name that a container has for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The other one's name.
    pub container: String,
    /// What it is called, such as `web/db`.
    pub name: String,
}

/// A port that a running container has on its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published<'a> {
    /// The container's port.
    pub private: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The address on the host as the engine tells it.
    pub address: Cow<'a, str>,
    /// The host's port.
    pub public: u16,
}

impl<'a> Summary<'a> {
    /// Reads an inspect. Missing and `null` members do no harm.
    pub fn parse(inspect: &'a [u8]) -> Result<Self, Malformed> {
        let root = View::parse(inspect)?;
        let mut summary = Self {
            id: root.text_of("Id"),
            ..Self::default()
        };
        summary.name = match root.text_of("Name") {
            Cow::Borrowed(name) => Cow::Borrowed(name.strip_prefix('/').unwrap_or(name)),
            Cow::Owned(name) => Cow::Owned(name.strip_prefix('/').unwrap_or(&name).to_owned()),
        };
        if let Some(state) = root.get("State") {
            summary.started_at = time(&state.text_of("StartedAt"));
            summary.finished_at = time(&state.text_of("FinishedAt"));
            summary.running = state
                .get("Running")
                .and_then(|running| running.bool())
                .unwrap_or(false);
            summary.exit_code = state.int_of("ExitCode");
            summary.health = state
                .get("Health")
                .map(|health| health.text_of("Status"))
                .unwrap_or_default();
        }
        if let Some(host) = root.get("HostConfig") {
            summary.claim = Claim::of_host_config(host);
            summary.restart_policy = host
                .get("RestartPolicy")
                .map(|p| p.text_of("Name"))
                .unwrap_or_default();
            summary.auto_remove = host
                .get("AutoRemove")
                .and_then(|remove| remove.bool())
                .unwrap_or(false);
            summary.network_mode = host.text_of("NetworkMode");
            let needs = needs(host).into_iter();
            // An engine tells of a link with slashes: `/db:/web/db`.
            let bare = needs.map(|need| need.container.trim_start_matches('/').to_owned());
            summary.needs = bare.collect();
            summary.links = links(host);
        }
        summary.generic = Wishes::of_inspect(root);
        let exposed = root.at(&["Config", "ExposedPorts"]);
        let exposed = exposed.iter().flat_map(View::members);
        summary.exposed = exposed.map(|port| port.key).collect();
        summary.exec_ids = root
            .get("ExecIDs")
            .iter()
            .flat_map(View::elements)
            .filter_map(|id| id.str())
            .collect();
        for port in root
            .at(&["NetworkSettings", "Ports"])
            .iter()
            .flat_map(View::members)
        {
            let (number, protocol) = split_port(&port.key);
            for binding in port.value.elements() {
                let (Ok(private), Ok(public)) =
                    (number.parse(), binding.text_of("HostPort").parse())
                else {
                    continue;
                };
                let address = binding.text_of("HostIp");
                summary.published.push(Published {
                    private,
                    protocol: protocol.to_owned(),
                    address,
                    public,
                });
            }
        }
        Ok(summary)
    }
}

/// An engine tells of a link with slashes: `/db:/web/db`.
fn links(host: View<'_>) -> Vec<Link> {
    let all = host.get("Links");
    let texts = all
        .iter()
        .flat_map(View::elements)
        .filter_map(|link| link.str());
    let read = |text: Cow<'_, str>| {
        let (container, name) = text.split_once(':')?;
        Some(Link {
            container: container.trim_start_matches('/').to_owned(),
            name: name.trim_start_matches('/').to_owned(),
        })
    };
    texts.filter_map(read).collect()
}

/// A time; none for what Go writes when there is none.
fn time(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .filter(|_| !text.starts_with("0001-01-01T00:00:00"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INSPECT: &str = concat!(
        r#"{"Id":"8dfa","Created":"2024-11-07T17:20:00.1Z","State":{"Status":"running","Running":true,"ExitCode":0,"#,
        r#""StartedAt":"2024-11-07T17:20:01.5Z","FinishedAt":"0001-01-01T00:00:00Z","Health":{"Status":"healthy"}},"#,
        r#""Name":"/web","ExecIDs":["e1","e2"],"HostConfig":{"NetworkMode":"bridge","#,
        r#""PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"RestartPolicy":{"Name":"always"},"#,
        r#""Memory":64,"NanoCpus":500000000,"AutoRemove":false},"#,
        r#""Config":{"Labels":{"com.flotilla.id":"i","com.flotilla.cluster":"c","a":"b"}},"#,
        r#""NetworkSettings":{"Ports":{"443/tcp":null,"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"},"#,
        r#"{"HostIp":"::","HostPort":"8080"},{"HostIp":"127.0.0.1","HostPort":"81"}]},"#,
        r#""Networks":{"bridge":{"NetworkID":"abc"}}}}"#
    );

    fn shown_as<'a>(
        address: Option<&'static str>,
        prefix_name: bool,
        labels: &'a [(String, String)],
    ) -> ShownAs<'a> {
        let node = Node {
            id: "n1",
            ip: "192.0.2.7",
            addr: "192.0.2.7:2375",
            name: "host1",
            cpus: 2,
            memory_bytes: 9,
            labels,
        };
        ShownAs {
            node,
            address,
            prefix_name,
            network_id: &|id| (id == "abc").then(|| "net1".to_owned()),
        }
    }

    #[test]
    fn only_what_must_change_changes() {
        let labels = [("disk".to_owned(), "ssd".to_owned())];
        let node = r#"{"ID":"n1","IP":"192.0.2.7","Addr":"192.0.2.7:2375","Name":"host1","Cpus":2,"Memory":9,"Labels":{"disk":"ssd"}}"#;
        let expected = INSPECT
            .replace(
                r#","Labels":{"com.flotilla.id":"i","com.flotilla.cluster":"c","a":"b"}"#,
                r#","Labels":{"a":"b"}"#,
            )
            .replace(
                r#"{"com.flotilla.id":"i","com.flotilla.cluster":"c","a":"b"}"#,
                r#"{"a":"b"}"#,
            )
            .replace(
                r#"{"HostIp":"0.0.0.0","HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}"#,
                r#"{"HostIp":"192.0.2.7","HostPort":"8080"}"#,
            )
            .replace(r#""abc"}}}}"#, &format!(r#""net1"}}}}}},"Node":{node}}}"#));
        let edited = |shown: &ShownAs<'_>| {
            String::from_utf8(edit(INSPECT.as_bytes(), shown).expect("JSON")).expect("text")
        };
        assert_eq!(
            edited(&shown_as(Some("192.0.2.7"), false, &labels)),
            expected
        );
        let prefixed = edited(&shown_as(None, true, &[]));
        assert!(
            prefixed.contains(r#""Name":"/host1/web""#) && prefixed.contains(r#""HostIp":"::""#),
            "{prefixed}"
        );
    }

    #[test]
    fn containers_that_one_cannot_be_without_are_named() {
        let check = |host: &str, expected: &[&str]| {
            let inspect = format!(r#"{{"Id":"8dfa","HostConfig":{host}}}"#);
            let summary = Summary::parse(inspect.as_bytes()).expect("JSON");
            assert_eq!(summary.needs, expected, "{host}");
        };
        check(
            r#"{"NetworkMode":"bridge","Links":null,"VolumesFrom":null,"PidMode":"","IpcMode":"private"}"#,
            &[],
        );
        check(
            r#"{"NetworkMode":"container:8dfa","Links":["/db:/web/db"],"VolumesFrom":["data:ro"],"PidMode":"container:x","IpcMode":"container:y"}"#,
            &["8dfa", "db", "data", "x", "y"],
        );
    }

    #[test]
    fn links_have_names() {
        let inspect = br#"{"HostConfig":{"Links":["/db:/web/db","/cache:/web/c"]}}"#;
        let summary = Summary::parse(inspect).expect("JSON");
        let link = |container: &str, name: &str| Link {
            container: container.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(
            summary.links,
            [link("db", "web/db"), link("cache", "web/c")]
        );
    }

    #[test]
    fn what_failed_names_networks_as_clients_know_them() {
        let told = |error: &str| {
            let inspect = format!(r#"{{"State":{{"Error":{}}}}}"#, quote(error));
            let shown = edit(inspect.as_bytes(), &shown_as(None, false, &[])).expect("JSON");
            let shown: serde_json::Value = serde_json::from_slice(&shown).expect("JSON");
            shown["State"]["Error"].as_str().map(str::to_owned)
        };
        for (error, expected) in [
            ("network abc not found", "network net1 not found"),
            (
                "network abcd not found: \"x\"",
                "network abcd not found: \"x\"",
            ),
            ("", ""),
        ] {
            assert_eq!(told(error).as_deref(), Some(expected));
        }
    }

    #[test]
    fn a_summary_is_what_lists_do_not_tell() {
        let summary = Summary::parse(INSPECT.as_bytes()).expect("JSON");
        assert_eq!(
            (&*summary.id, &*summary.name, &*summary.restart_policy),
            ("8dfa", "web", "always")
        );
        assert_eq!(
            summary.claim,
            Claim {
                cpu_nanos: 500_000_000,
                memory_bytes: 64
            }
        );
        assert_eq!(
            summary.started_at.map(|time| time.to_string()).as_deref(),
            Some("2024-11-07T17:20:01.5Z")
        );
        assert_eq!(
            (summary.finished_at, summary.running, &*summary.health),
            (None, true, "healthy")
        );
        assert_eq!(summary.exec_ids, ["e1", "e2"]);
        let ports: Vec<_> = summary
            .published
            .iter()
            .map(|p| format!("{}:{}->{}/{}", p.address, p.public, p.private, p.protocol))
            .collect();
        assert_eq!(
            ports,
            [
                "0.0.0.0:8080->80/tcp",
                ":::8080->80/tcp",
                "127.0.0.1:81->80/tcp"
            ]
        );
        assert!(Summary::parse(b"{}").is_ok());
    }

    proptest! {
        #[test]
        fn no_inspect_breaks_it(cut in 0..INSPECT.len(), put in "[\\[\\]{}\",:0a]{0,3}") {
            let mut text = INSPECT.to_owned();
            text.replace_range(cut..(cut + put.len()).min(INSPECT.len()), &put);
            if Summary::parse(text.as_bytes()).is_ok() {
                let edited = edit(text.as_bytes(), &shown_as(Some("192.0.2.7"), true, &[])).expect("well-formed");
                prop_assert!(View::parse(&edited).is_ok());
            }
        }
    }
}
