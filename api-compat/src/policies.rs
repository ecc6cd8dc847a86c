//! How a client says where its container may go: entries of the environment and labels, as classic Swarm took them.
//!
//! `-e constraint:zone==b`, or the label `com.docker.swarm.constraints=["zone==b"]`. The entries never reach the engine:
//! they are written into the label, so that whoever looks at the container sees what was asked.
//!
//! Source: Docker Swarm 1.2.9 `cluster/config.go`. There what cannot be read is dropped; here it is refused.
//!
//! **Invariant**: nothing that was asked for is lost: it has an effect, is refused, or is named as without effect.

use crate::constraint::Constraint;
use crate::create::Body;
use crate::error::ApiError;
use crate::json_view::View;

const CONSTRAINTS: Policy = Policy {
    prefix: "constraint:",
    label: "com.docker.swarm.constraints",
};
const AFFINITIES: Policy = Policy {
    prefix: "affinity:",
    label: "com.docker.swarm.affinities",
};

/// One kind of wish, and where it is written.
struct Policy {
    /// What its entries in the environment begin with.
    prefix: &'static str,
    /// The label that holds all of them, as a JSON array.
    label: &'static str,
}

/// What a client says of where its container may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// All must hold, but for the soft ones.
    pub constraints: Vec<Constraint>,
    /// What is not understood yet, as it was written.
    pub without_effect: Vec<String>,
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
        let parsed = constraints.all.iter().map(|text| Constraint::parse(text));
        Ok(Self {
            constraints: parsed
                .collect::<Result<_, _>>()
                .map_err(|error| ApiError::bad_parameter(error.to_string()))?,
            without_effect: affinities
                .all
                .iter()
                .map(|text| format!("{}{text}", AFFINITIES.prefix))
                .collect(),
        })
    }
}

/// What one policy says.
struct Wishes {
    policy: Policy,
    /// Those of the label first, as classic Swarm had it.
    all: Vec<String>,
    /// Whether the environment has any.
    in_environment: bool,
}

impl Wishes {
    /// The label to be written, if the environment adds anything to it.
    fn label(&self) -> Option<(&'static str, String)> {
        self.in_environment
            .then(|| (self.policy.label, serde_json::json!(self.all).to_string()))
    }
}

impl Policy {
    fn read(self, body: &mut Body<'_>) -> Result<Wishes, ApiError> {
        let root = body.edit().root();
        let mut all = match root
            .get_folded("Labels")
            .and_then(|labels| labels.get(self.label))
        {
            Some(value) => self.read_label(value)?,
            None => Vec::new(),
        };
        let before = all.len();
        let entries = root.get_folded("Env");
        let entries = entries.iter().flat_map(View::elements);
        all.extend(entries.filter_map(|entry| {
            let text = entry.str()?;
            Some(text.strip_prefix(self.prefix)?.to_owned())
        }));
        Ok(Wishes {
            in_environment: all.len() > before,
            policy: self,
            all,
        })
    }

    fn read_label(&self, value: View<'_>) -> Result<Vec<String>, ApiError> {
        let text = value.str().unwrap_or_default();
        serde_json::from_str(&text).map_err(|_| {
            ApiError::bad_parameter(format!(
                "the label {} must be a JSON array of texts, as in [\"zone==b\"], and is {}",
                self.label,
                crate::go_text::quote(&text)
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
    fn affinities_are_kept_and_named_as_without_effect() {
        let body = r#"{"Image":"a","Env":["affinity:container==web","constraint:zone==b"]}"#;
        let mut read = Body::parse(body.as_bytes()).expect("a body");
        let policies = Policies::take(&mut read).expect("policies");
        assert_eq!(policies.without_effect, ["affinity:container==web"]);
        assert_eq!(
            String::from_utf8(read.finish()).expect("text"),
            r#"{"Image":"a","Env":[],"Labels":{"com.docker.swarm.constraints":"[\"zone==b\"]","com.docker.swarm.affinities":"[\"container==web\"]"}}"#
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
    fn what_cannot_be_read_is_refused() {
        refuses(
            r#"{"Image":"a","Env":["constraint:zone=b"]}"#,
            "invalid constraint \"zone=b\": it has neither == nor !=, as in zone==b",
        );
        refuses(
            r#"{"Image":"a","Labels":{"com.docker.swarm.constraints":"zone==b"}}"#,
            "the label com.docker.swarm.constraints must be a JSON array of texts, as in [\"zone==b\"], and is \"zone==b\"",
        );
        refuses(
            r#"{"Image":"a","Labels":{"com.docker.swarm.constraints":"[\"zone\"]"}}"#,
            "invalid constraint \"zone\": it has neither == nor !=, as in zone==b",
        );
    }
}
