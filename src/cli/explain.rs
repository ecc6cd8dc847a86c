//! `flotilla explain …`: why a container is where it is, or nowhere.

use std::io::{self, Write};

use clap::Args;
use clap::builder::PossibleValuesParser;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::asking::{Error, ask};
use crate::api::{DECISIONS, Decision, Standing};
use crate::model::Resources;

/// What `flotilla explain` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Explain {
    /// The container, by name or id; also one that was refused, by the name it was to have
    container: String,

    /// The manager's address, as for `flotilla node`
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    host: Option<String>,

    /// Print JSON instead of text
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["text", "json"]))]
    format: Option<String>,
}

const EXAMPLES: &str = "\
The manager remembers its newest 256 decisions, until it ends.

Examples:
  See why web is where it is:
    flotilla explain web";

impl Explain {
    /// Does it, and prints to `out`.
    pub fn run(self, out: &mut impl Write) -> Result<(), Error> {
        let container = utf8_percent_encode(&self.container, NON_ALPHANUMERIC);
        let path = format!("{DECISIONS}/{container}");
        ask(self.host.as_deref(), async |client| {
            let decision: Decision = client.get(&path).await?;
            if self.format.as_deref() == Some("json") {
                let json = serde_json::to_string_pretty(&decision).map_err(io::Error::from)?;
                writeln!(out, "{json}")?;
            } else {
                write!(out, "{}", text(&decision))?;
            }
            Ok(())
        })
    }
}

/// A decision as a person reads it.
pub(super) fn text(decision: &Decision) -> String {
    let mut text = String::new();
    let claim = Resources::new(decision.claim.cpu_nanos, decision.claim.memory_bytes);
    let went = match &decision.node {
        Some(node) => format!("goes to {node}"),
        None if decision.fit > 0 => "was refused".to_owned(),
        None => "fits nowhere".to_owned(),
    };
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    line(format!(
        "{} {went}, decided {} by {} among {} nodes",
        decision.container,
        decision.at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        decision.strategy,
        decision.nodes
    ));
    let mut claims: Vec<_> = (claim != Resources::ZERO)
        .then(|| claim.to_string())
        .into_iter()
        .collect();
    let generic = decision.generic.iter();
    claims.extend(generic.map(|(name, amount)| format!("{amount} {name}")));
    line(if claims.is_empty() {
        "It claims nothing".to_owned()
    } else {
        format!("It claims {}", claims.join(", "))
    });
    for (kind, wishes) in [
        ("constraint", &decision.constraints),
        ("affinity", &decision.affinities),
    ] {
        for wish in wishes {
            line(format!("It has the {kind} {wish}"));
        }
    }
    if let Some(ports_taken) = &decision.ports_taken {
        line(format!(
            "Its host ports are free on no node that would do, so it has to wait for them: {ports_taken}"
        ));
    }
    if let Some(exposed_taken) = &decision.exposed_taken {
        line(format!(
            "On each node that would do another one may have the ports that it exposes on its host's network; it runs there \
             all the same, for what is exposed is a hint: {exposed_taken}"
        ));
    }
    // Where nothing fits, the reasons of each node are all there is to say.
    if let Some(refusal) = decision.refusal.as_ref().filter(|_| decision.fit > 0) {
        line(format!("Refused: {refusal}"));
    }
    if decision.fit > 0 {
        line(format!("{} fit, best first:", decision.fit));
    }
    for standing in &decision.best {
        line(format!("  {}", about(standing)));
    }
    let more = decision.fit.saturating_sub(decision.best.len());
    if more > 0 {
        line(format!("  and {more} more"));
    }
    if !decision.unfit.is_empty() {
        line(if decision.fit > 0 {
            "Others do not fit:".to_owned()
        } else {
            "No node fits:".to_owned()
        });
    }
    for sentence in &decision.unfit {
        line(format!("  {sentence}"));
    }
    text
}

fn about(standing: &Standing) -> String {
    let Standing {
        node,
        left_per_mille,
        containers,
        ..
    } = standing;
    let mut free = Resources::new(standing.free.cpu_nanos, standing.free.memory_bytes).to_string();
    for (name, count) in &standing.generic {
        free.push_str(&format!(", {count} {name}"));
    }
    let mut words = format!(
        "{node}: {}.{}% left after placing ({free} free before), {}",
        left_per_mille / 10,
        left_per_mille % 10,
        several(*containers as usize, "container")
    );
    if !standing.has_image {
        words.push_str(", lacks the image");
    }
    if standing.soft_unmet > 0 {
        let wishes = several(standing.soft_unmet, "soft wish");
        words.push_str(&format!(", breaks {wishes}"));
    }
    if standing.suspect {
        words.push_str(", did not answer just now");
    }
    words
}

fn several(count: usize, what: &str) -> String {
    let ending = match count {
        1 => "",
        _ if what.ends_with('h') => "es",
        _ => "s",
    };
    format!("{count} {what}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use crate::scheduler::Strategy;

    #[test]
    fn a_decision_reads_as_sentences() {
        let standing = |node: &str, soft_unmet| Standing {
            node: node.to_owned(),
            suspect: false,
            soft_unmet,
            left_per_mille: 875,
            free: api::Resources {
                cpu_nanos: 4_000_000_000,
                memory_bytes: 8 << 30,
            },
            generic: [("gpu".to_owned(), 3)].into(),
            containers: 2,
            has_image: soft_unmet == 0,
        };
        let mut decision = Decision {
            container: "web".to_owned(),
            at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            node: Some("host1".to_owned()),
            refusal: None,
            ports_taken: None,
            exposed_taken: None,
            strategy: Strategy::Spread,
            claim: api::Resources {
                cpu_nanos: 0,
                memory_bytes: 1 << 30,
            },
            generic: [("gpu".to_owned(), "all".to_owned())].into(),
            constraints: vec!["zone==b".to_owned()],
            affinities: vec!["container!=~db".to_owned()],
            nodes: 4,
            fit: 3,
            best: vec![standing("host1", 0), standing("host2", 1)],
            unfit: vec!["host3 is paused".to_owned()],
        };
        assert_eq!(
            text(&decision),
            "web goes to host1, decided 2026-01-02 03:04:05 UTC by spread among 4 nodes\n\
             It claims 0 CPUs and 1GiB, all gpu\n\
             It has the constraint zone==b\n\
             It has the affinity container!=~db\n\
             3 fit, best first:\n\
             \x20 host1: 87.5% left after placing (4 CPUs and 8GiB, 3 gpu free before), 2 containers\n\
             \x20 host2: 87.5% left after placing (4 CPUs and 8GiB, 3 gpu free before), 2 containers, lacks the image, breaks 1 soft wish\n\
             \x20 and 1 more\n\
             Others do not fit:\n\
             \x20 host3 is paused\n"
        );
        decision.ports_taken = Some("host1 has port 80/tcp taken (by db)".to_owned());
        let waits = text(&decision);
        assert!(
            waits.contains("so it has to wait for them: host1 has port 80/tcp taken (by db)\n"),
            "{waits}"
        );
        decision.exposed_taken = decision.ports_taken.take();
        let runs = text(&decision);
        assert!(
            runs.contains("a hint: host1 has port 80/tcp taken (by db)\n")
                && !runs.contains("wait"),
            "{runs}"
        );
        decision.node = None;
        decision.fit = 0;
        decision.best.clear();
        let refused = text(&decision);
        assert!(refused.starts_with("web fits nowhere"), "{refused}");
        assert!(
            refused.contains("\nNo node fits:\n  host3 is paused\n"),
            "{refused}"
        );
        assert!(!refused.contains("best first"), "{refused}");
    }
}
