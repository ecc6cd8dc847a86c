//! How a client says where its container may go: entries of the environment and labels, as classic Swarm took them.
//!
//! `-e constraint:zone==b`, or the label `com.docker.swarm.constraints=["zone==b"]`; likewise `-e affinity:container==web`. The
//! entries never reach the engine: they are written into the label, so that whoever looks at the container sees what was
//! asked. Easier to write are labels of ours: `com.flotilla.constraint=zone==b; disk==ssd`. Whitelists of nodes
//! (`-e whitelist:node==host1|host2`) are constraints by another name. What is to become of a container whose node is lost
//! (`-e reschedule:on-node-failure`) is read and kept likewise.
//!
//! Source: Docker Swarm 1.2.9 `cluster/config.go`. There what cannot be read is dropped; here it is refused.
//!
//! **Invariant**: nothing that was asked for is lost: it has an effect, is refused, or is named as without effect.

use crate::affinity::Affinity;
use crate::constraint::Constraint;
use crate::create::Body;
use crate::error::ApiError;
use crate::json_view::View;
use crate::labels;

const CONSTRAINTS: Policy = Policy {
    prefix: "constraint:",
    label: "com.docker.swarm.constraints",
    list: Some(labels::CONSTRAINT),
    example: "zone==b",
};
const AFFINITIES: Policy = Policy {
    prefix: "affinity:",
    label: "com.docker.swarm.affinities",
    list: Some(labels::AFFINITY),
    example: "container==web",
};
const WHITELISTS: Policy = Policy {
    prefix: "whitelist:",
    label: "com.docker.swarm.whitelists",
    list: None,
    example: "node==host1|host2",
};
const RESCHEDULING: Policy = Policy {
    prefix: "reschedule:",
    label: "com.docker.swarm.reschedule-policies",
    list: None,
    example: "on-node-failure",
};
const ALL: [Policy; 4] = [CONSTRAINTS, AFFINITIES, WHITELISTS, RESCHEDULING];

/// One kind of wish, and where it is written.
struct Policy {
    /// What its entries in the environment begin with.
    prefix: &'static str,
    /// The label that holds all of them, as a JSON array.
    label: &'static str,
    /// The label that holds more of them, with semicolons between.
    list: Option<&'static str>,
    /// One that is right.
    example: &'static str,
}

/// What a client says of where its container may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// All must hold, but for the soft ones.
    pub constraints: Vec<Constraint>,
    /// All must hold, but for the soft ones.
    pub affinities: Vec<Affinity>,
    /// The name of the strategy that is to choose among the nodes that fit.
    pub strategy: Option<String>,
    /// Whether it is to run elsewhere once its node is lost.
    pub reschedule: bool,
}

impl Policies {
    /// Reads them in a body, takes their entries out of its environment and writes them into its labels.
    pub fn take(body: &mut Body<'_>) -> Result<Self, ApiError> {
        let given = body.edit().root().get_folded("Labels");
        for label in given.iter().flat_map(View::members) {
            labels::check_of_container(&label.key)?;
        }
        let wishes = [
            CONSTRAINTS.read(body)?,
            AFFINITIES.read(body)?,
            WHITELISTS.read(body)?,
            RESCHEDULING.read(body)?,
        ];
        let taken: Vec<_> = wishes.iter().filter_map(Wishes::label).collect();
        let taken: Vec<_> = taken
            .iter()
            .map(|(label, json)| (*label, json.as_str()))
            .collect();
        if !taken.is_empty() {
            body.add_labels(&taken);
            let entries = body.edit().root().get_folded("Env");
            if let Some(entries) = entries {
                body.edit().elements(entries, |entry| {
                    let text = entry.str().unwrap_or_default();
                    if ALL.iter().any(|policy| text.starts_with(policy.prefix)) {
                        crate::json_edit::Change::Drop
                    } else {
                        crate::json_edit::Change::Keep
                    }
                });
            }
        }
        let strategy = label(body, labels::STRATEGY).and_then(|value| value.str());
        let all = wishes.each_ref().map(|wishes| wishes.all.as_slice());
        Self::parse(all, strategy.as_deref())
    }

    /// Those of a container that exists: its labels hold all of them.
    pub fn of_labels(labels: &[(&str, &str)]) -> Result<Self, ApiError> {
        let value = |name: &str| {
            labels
                .iter()
                .find(|(key, _)| *key == name)
                .map(|pair| pair.1)
        };
        let read = |policy: Policy| {
            let mut all = match value(policy.label) {
                Some(text) => policy.read_array(text)?,
                None => Vec::new(),
            };
            let list = policy.list.and_then(value);
            all.extend(listed(list.unwrap_or_default()));
            Ok::<_, ApiError>(all)
        };
        let all = [
            read(CONSTRAINTS)?,
            read(AFFINITIES)?,
            read(WHITELISTS)?,
            read(RESCHEDULING)?,
        ];
        Self::parse(all.each_ref().map(Vec::as_slice), value(labels::STRATEGY))
    }

    fn parse(
        [constraints, affinities, whitelists, rescheduling]: [&[String]; 4],
        strategy: Option<&str>,
    ) -> Result<Self, ApiError> {
        let bad = |error: &dyn std::error::Error| ApiError::bad_parameter(error.to_string());
        let constraints = constraints.iter().map(|text| Constraint::parse(text));
        let whitelists = whitelists
            .iter()
            .map(|text| Constraint::parse_whitelist(text));
        let affinities = affinities.iter().map(|text| Affinity::parse(text));
        Ok(Self {
            constraints: constraints
                .chain(whitelists)
                .collect::<Result<_, _>>()
                .map_err(|error| bad(&error))?,
            affinities: affinities
                .collect::<Result<_, _>>()
                .map_err(|error| bad(&error))?,
            strategy: strategy.map(str::to_owned),
            reschedule: read_rescheduling(rescheduling)?,
        })
    }
}

/// Refuses arguments of a build, a JSON object, that say where its steps may run, as classic Swarm took them.
pub fn check_build_arguments(json: &str) -> Result<(), ApiError> {
    // What cannot be read is the engine's to refuse.
    let Ok(arguments) = View::parse(json.as_bytes()) else {
        return Ok(());
    };
    let mut names = arguments.members().map(|argument| argument.key);
    let policy = names.find(|name| ALL.iter().any(|policy| name.starts_with(policy.prefix)));
    match policy {
        None => Ok(()),
        Some(name) => Err(ApiError::bad_parameter(format!(
            "build argument {name}: builds take no wishes of where they run; what is built comes to each node that needs it, and \
             engines with the label com.flotilla.builder=false build nothing"
        ))),
    }
}

/// There are two policies, and a container has one of them.
fn read_rescheduling(policies: &[String]) -> Result<bool, ApiError> {
    match policies {
        [] => Ok(false),
        [one] if one == "off" => Ok(false),
        [one] if one == "on-node-failure" => Ok(true),
        [one] => Err(ApiError::bad_parameter(format!(
            "invalid reschedule policy {}: it is on-node-failure or off",
            crate::go_text::quote(one)
        ))),
        several => Err(ApiError::bad_parameter(format!(
            "a container has one reschedule policy, on-node-failure or off, and not {}: {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

/// What stands between semicolons.
fn listed(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(';').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned)
}

/// The value of a label in the body.
fn label<'a>(body: &mut Body<'a>, name: &str) -> Option<View<'a>> {
    body.edit().root().get_folded("Labels")?.get(name)
}

/// What one policy says.
struct Wishes {
    policy: Policy,
    /// Those of the labels first, as classic Swarm had it.
    all: Vec<String>,
    /// Those that the label is to hold.
    kept: Vec<String>,
    /// Whether the environment has any.
    in_environment: bool,
}

impl Wishes {
    /// The label to be written, if the environment adds anything to it.
    fn label(&self) -> Option<(&'static str, String)> {
        self.in_environment
            .then(|| (self.policy.label, serde_json::json!(self.kept).to_string()))
    }
}

impl Policy {
    fn read(self, body: &mut Body<'_>) -> Result<Wishes, ApiError> {
        let mut kept = match label(body, self.label) {
            Some(value) => self.read_label(value)?,
            None => Vec::new(),
        };
        let before = kept.len();
        let entries = body.edit().root().get_folded("Env");
        let entries = entries.iter().flat_map(View::elements);
        kept.extend(entries.filter_map(|entry| {
            let text = entry.str()?;
            Some(text.strip_prefix(self.prefix)?.to_owned())
        }));
        let list = self.list.and_then(|list| label(body, list)?.str());
        let listed = listed(list.as_deref().unwrap_or_default());
        let mut all = kept.clone();
        all.splice(before..before, listed);
        Ok(Wishes {
            in_environment: kept.len() > before,
            policy: self,
            all,
            kept,
        })
    }

    fn read_label(&self, value: View<'_>) -> Result<Vec<String>, ApiError> {
        self.read_array(&value.str().unwrap_or_default())
    }

    fn read_array(&self, text: &str) -> Result<Vec<String>, ApiError> {
        serde_json::from_str(text).map_err(|_| {
            let or = self.list.map_or_else(String::new, |list| {
                format!("; without brackets, {list} takes them with semicolons between")
            });
            ApiError::bad_parameter(format!(
                "the label {} must be a JSON array of texts, as in [\"{}\"], and is {}{or}",
                self.label,
                self.example,
                crate::go_text::quote(text),
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, constraints: &[&str], sent: &str) {
        let mut read = Body::parse(body.as_bytes()).expect("a body");
        let policies = Policies::take(&mut read).expect("policies");
        let shown: Vec<_> = policies
            .constraints
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, constraints);
        assert_eq!(String::from_utf8(read.finish()).expect("text"), sent);
    }

    #[test]
    fn what_says_nothing_stays_as_it_is() {
        let plain = r#"{"Image":"a","Env":["a=b","constraint=x"],"Labels":{"x":"y"}}"#;
        check(plain, &[], plain);
        check(
            r#"{"Image":"a","Env":null}"#,
            &[],
            r#"{"Image":"a","Env":null}"#,
        );
    }

    #[test]
    fn entries_of_the_environment_become_a_label() {
        check(
            r#"{"Image":"a","Env":["a=b","constraint:zone==b","constraint:node!=/h1/"]}"#,
            &["zone==b", "node!=/h1/"],
            r#"{"Image":"a","Env":["a=b"],"Labels":{"com.docker.swarm.constraints":"[\"zone==b\",\"node!=/h1/\"]"}}"#,
        );
        check(
            r#"{"Image":"a","env":["constraint:zone==b"],"Labels":{"x":"y"}}"#,
            &["zone==b"],
            r#"{"Image":"a","env":[],"Labels":{"x":"y","com.docker.swarm.constraints":"[\"zone==b\"]"}}"#,
        );
    }

    #[test]
    fn a_label_says_the_same_and_comes_first() {
        let label = r#"{"Image":"a","Labels":{"com.docker.swarm.constraints":"[\"zone==b\"]"}}"#;
        check(label, &["zone==b"], label);
        check(
            r#"{"Image":"a","Env":["constraint:disk==ssd"],"Labels":{"com.docker.swarm.constraints":"[\"zone==b\"]"}}"#,
            &["zone==b", "disk==ssd"],
            r#"{"Image":"a","Env":[],"Labels":{"com.docker.swarm.constraints":"[\"zone==b\",\"disk==ssd\"]"}}"#,
        );
    }

    #[test]
    fn affinities_are_read_and_kept_likewise() {
        let body = r#"{"Image":"a","Env":["affinity:container==web","constraint:zone==b"]}"#;
        let mut read = Body::parse(body.as_bytes()).expect("a body");
        let policies = Policies::take(&mut read).expect("policies");
        let shown: Vec<_> = policies
            .affinities
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(shown, ["container==web"]);
        assert_eq!(
            String::from_utf8(read.finish()).expect("text"),
            r#"{"Image":"a","Env":[],"Labels":{"com.docker.swarm.constraints":"[\"zone==b\"]","com.docker.swarm.affinities":"[\"container==web\"]"}}"#
        );
    }

    #[test]
    fn labels_of_ours_say_the_same_without_brackets() {
        let body = r#"{"Image":"a","Env":["constraint:a==1"],"Labels":{"com.flotilla.constraint":"zone==b; disk==/s,d/;","com.flotilla.affinity":"container!=web","com.flotilla.strategy":"binpack"}}"#;
        let mut read = Body::parse(body.as_bytes()).expect("a body");
        let policies = Policies::take(&mut read).expect("policies");
        let constraints = policies.constraints.iter().map(ToString::to_string);
        let affinities = policies.affinities.iter().map(ToString::to_string);
        assert_eq!(
            constraints.chain(affinities).collect::<Vec<_>>(),
            ["zone==b", "disk==/s,d/", "a==1", "container!=web"]
        );
        assert_eq!(policies.strategy.as_deref(), Some("binpack"));
        let sent = String::from_utf8(read.finish()).expect("text");
        assert!(
            sent.contains(r#""com.docker.swarm.constraints":"[\"a==1\"]""#),
            "{sent}"
        );
    }

    #[test]
    fn the_labels_of_a_container_say_it_all() {
        let labels = [
            ("com.docker.swarm.constraints", r#"["zone==b"]"#),
            ("com.flotilla.constraint", "disk==ssd"),
            ("com.flotilla.affinity", "container==web;"),
        ];
        let policies = Policies::of_labels(&labels).expect("policies");
        let constraints = policies.constraints.iter().map(ToString::to_string);
        let affinities = policies.affinities.iter().map(ToString::to_string);
        assert_eq!(
            constraints.chain(affinities).collect::<Vec<_>>(),
            ["zone==b", "disk==ssd", "container==web"]
        );
        assert!(Policies::of_labels(&[("com.flotilla.affinity", "web")]).is_err());
    }

    #[test]
    fn a_whitelist_is_a_constraint() {
        check(
            r#"{"Image":"a","Env":["whitelist:node==h1|h2","constraint:zone==b"]}"#,
            &["zone==b", "node==h1|h2"],
            r#"{"Image":"a","Env":[],"Labels":{"com.docker.swarm.constraints":"[\"zone==b\"]","com.docker.swarm.whitelists":"[\"node==h1|h2\"]"}}"#,
        );
        let label = r#"{"Image":"a","Labels":{"com.docker.swarm.whitelists":"[\"node==h1\"]"}}"#;
        check(label, &["node==h1"], label);
        let kept = Policies::of_labels(&[("com.docker.swarm.whitelists", r#"["node==h1"]"#)]);
        assert_eq!(kept.expect("policies").constraints.len(), 1);
    }

    #[test]
    fn what_becomes_of_it_without_its_node_is_read() {
        let check = |said: &str, expected: bool, sent: &str| {
            let body = format!(r#"{{"Image":"a",{said}}}"#);
            let mut read = Body::parse(body.as_bytes()).expect("a body");
            let policies = Policies::take(&mut read).expect("policies");
            assert_eq!(policies.reschedule, expected, "{said}");
            let text = String::from_utf8(read.finish()).expect("text");
            assert_eq!(text, format!(r#"{{"Image":"a",{sent}}}"#));
        };
        let label = r#""Labels":{"com.docker.swarm.reschedule-policies":"[\"on-node-failure\"]"}"#;
        check(label, true, label);
        check(
            r#""Env":["reschedule:on-node-failure"]"#,
            true,
            &format!(r#""Env":[],{label}"#),
        );
        let off = r#""Labels":{"com.docker.swarm.reschedule-policies":"[\"off\"]"}"#;
        check(
            r#""Env":["reschedule:off"]"#,
            false,
            &format!(r#""Env":[],{off}"#),
        );
        refuses(
            r#"{"Image":"a","Env":["reschedule:always"]}"#,
            "invalid reschedule policy \"always\": it is on-node-failure or off",
        );
        refuses(
            r#"{"Image":"a","Env":["reschedule:off","reschedule:on-node-failure"]}"#,
            "a container has one reschedule policy, on-node-failure or off, and not 2: off, on-node-failure",
        );
        refuses(
            r#"{"Image":"a","Labels":{"com.docker.swarm.reschedule-policies":"on-node-failure"}}"#,
            "the label com.docker.swarm.reschedule-policies must be a JSON array of texts, as in [\"on-node-failure\"], and is \"on-node-failure\"",
        );
    }

    #[track_caller]
    fn refuses(body: &str, expected: &str) {
        let mut read = Body::parse(body.as_bytes()).expect("a body");
        let error = Policies::take(&mut read).expect_err(body);
        assert_eq!(error.status, http::StatusCode::BAD_REQUEST);
        assert_eq!(error.message, expected);
    }

    #[test]
    fn builds_take_no_wishes() {
        for fine in ["", "null", "{", r#"{"a":"1","constraint":null}"#] {
            assert_eq!(check_build_arguments(fine), Ok(()), "{fine}");
        }
        for wish in [
            r#"{"a":"1","constraint:node":"=host2"}"#,
            r#"{"affinity:container!":"x"}"#,
        ] {
            let refused = check_build_arguments(wish).expect_err(wish);
            assert_eq!(refused.status, http::StatusCode::BAD_REQUEST);
            assert!(
                refused.message.contains("builds take no wishes"),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn labels_without_effect_are_refused() {
        refuses(
            r#"{"Image":"a","labels":{"x":"y","com.flotilla.constraints":"zone==b"}}"#,
            "the label com.flotilla.constraints would have no effect on a container: did you mean com.flotilla.constraint?",
        );
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        refuses(
            r#"{"Image":"a","Env":["constraint:zone=b"]}"#,
            "invalid constraint \"zone=b\": it has neither == nor !=, as in zone==b",
        );
        refuses(
            r#"{"Image":"a","Labels":{"com.docker.swarm.constraints":"zone==b"}}"#,
            "the label com.docker.swarm.constraints must be a JSON array of texts, as in [\"zone==b\"], and is \"zone==b\"; without brackets, com.flotilla.constraint takes them with semicolons between",
        );
        refuses(
            r#"{"Image":"a","Env":["whitelist:zone==b"]}"#,
            "invalid constraint \"zone==b\": a whitelist names nodes, as in node==host1|host2",
        );
        refuses(
            r#"{"Image":"a","Env":["affinity:container=web"]}"#,
            "invalid affinity \"container=web\": it has neither == nor !=, as in container==web",
        );
        refuses(
            r#"{"Image":"a","Labels":{"com.docker.swarm.constraints":"[\"zone\"]"}}"#,
            "invalid constraint \"zone\": it has neither == nor !=, as in zone==b",
        );
    }
}
