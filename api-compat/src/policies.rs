//! How a client says where its container may go: entries of the environment and labels, as classic Swarm took them.
//!
//! `-e constraint:zone==b`, or the label `com.docker.swarm.constraints=["zone==b"]`; likewise `-e affinity:container==web`. The
//! entries never reach the engine: they are written into the label, so that whoever looks at the container sees what was
//! asked. Easier to write are labels of ours: `com.flotilla.constraint=zone==b; disk==ssd`.
//!
//! Source: Docker Swarm 1.2.9 `cluster/config.go`. There what cannot be read is dropped; here it is refused.
//!
//! **Invariant**: nothing that was asked for is lost: it has an effect, is refused, or is named as without effect.

use crate::affinity::Affinity;
use crate::constraint::Constraint;
use crate::create::Body;
use crate::error::ApiError;
use crate::json_view::View;

const CONSTRAINTS: Policy = Policy {
    prefix: "constraint:",
    label: "com.docker.swarm.constraints",
    list: "com.flotilla.constraint",
    example: "zone==b",
};
const AFFINITIES: Policy = Policy {
    prefix: "affinity:",
    label: "com.docker.swarm.affinities",
    list: "com.flotilla.affinity",
    example: "container==web",
};
/// Which strategy is to place the container.
const STRATEGY: &str = "com.flotilla.strategy";

/// One kind of wish, and where it is written.
struct Policy {
    /// What its entries in the environment begin with.
    prefix: &'static str,
    /// The label that holds all of them, as a JSON array.
    label: &'static str,
    /// The label that holds more of them, with semicolons between.
    list: &'static str,
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
}

impl Policies {
    /// Reads them in a body, takes their entries out of its environment and writes them into its labels.
    pub fn take(body: &mut Body<'_>) -> Result<Self, ApiError> {
        let constraints = CONSTRAINTS.read(body)?;
        let affinities = AFFINITIES.read(body)?;
        let taken = [&constraints, &affinities].map(Wishes::label);
        let labels: Vec<_> = taken
            .iter()
            .flatten()
            .map(|(label, json)| (*label, json.as_str()))
            .collect();
        if !labels.is_empty() {
            body.add_labels(&labels);
            let entries = body.edit().root().get_folded("Env");
            if let Some(entries) = entries {
                body.edit().elements(entries, |entry| {
                    let text = entry.str().unwrap_or_default();
                    let policies = [CONSTRAINTS, AFFINITIES];
                    if policies
                        .iter()
                        .any(|policy| text.starts_with(policy.prefix))
                    {
                        crate::json_edit::Change::Drop
                    } else {
                        crate::json_edit::Change::Keep
                    }
                });
            }
        }
        let strategy = label(body, STRATEGY).and_then(|value| value.str());
        Self::parse(&constraints.all, &affinities.all, strategy.as_deref())
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
            all.extend(listed(value(policy.list).unwrap_or_default()));
            Ok::<_, ApiError>(all)
        };
        Self::parse(&read(CONSTRAINTS)?, &read(AFFINITIES)?, value(STRATEGY))
    }

    fn parse(
        constraints: &[String],
        affinities: &[String],
        strategy: Option<&str>,
    ) -> Result<Self, ApiError> {
        let bad = |error: &dyn std::error::Error| ApiError::bad_parameter(error.to_string());
        let constraints = constraints.iter().map(|text| Constraint::parse(text));
        let affinities = affinities.iter().map(|text| Affinity::parse(text));
        Ok(Self {
            constraints: constraints
                .collect::<Result<_, _>>()
                .map_err(|error| bad(&error))?,
            affinities: affinities
                .collect::<Result<_, _>>()
                .map_err(|error| bad(&error))?,
            strategy: strategy.map(str::to_owned),
        })
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
        let list = label(body, self.list).and_then(|value| value.str());
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
            ApiError::bad_parameter(format!(
                "the label {} must be a JSON array of texts, as in [\"{}\"], and is {}; without brackets, {} takes them with \
                 semicolons between",
                self.label,
                self.example,
                crate::go_text::quote(text),
                self.list
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

    #[track_caller]
    fn refuses(body: &str, expected: &str) {
        let mut read = Body::parse(body.as_bytes()).expect("a body");
        let error = Policies::take(&mut read).expect_err(body);
        assert_eq!(error.status, http::StatusCode::BAD_REQUEST);
        assert_eq!(error.message, expected);
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
            r#"{"Image":"a","Env":["affinity:container=web"]}"#,
            "invalid affinity \"container=web\": it has neither == nor !=, as in container==web",
        );
        refuses(
            r#"{"Image":"a","Labels":{"com.docker.swarm.constraints":"[\"zone\"]"}}"#,
            "invalid constraint \"zone\": it has neither == nor !=, as in zone==b",
        );
    }
}
