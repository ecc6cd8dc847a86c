//! `flotilla plan …`: what would be, without doing anything.

use std::collections::BTreeMap;
use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args};

use super::asking::{Error, ask};
use super::explain;
use crate::api::{AskPlan, Loss, PLAN, Plan as Answer};
use crate::config::{read_cpus, read_size};

/// What `flotilla plan` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, arg_required_else_help = true)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub struct Plan {
    /// So many containers like this
    #[arg(long, group = "what", value_name = "COUNT")]
    count: Option<u32>,

    /// Each claims so many CPUs
    #[arg(long, group = "what", value_name = "NUMBER", value_parser = read_cpus)]
    cpus: Option<u64>,

    /// Each claims so much memory: 512m, 2g
    #[arg(short, long, group = "what", value_name = "SIZE", value_parser = read_size)]
    memory: Option<usize>,

    /// Each claims so many GPUs; all that a node has with the word all
    #[arg(long, group = "what", value_name = "NUMBER", value_parser = read_gpus)]
    gpus: Option<i64>,

    /// Made of this image [default: one that every node has]
    #[arg(long, group = "what")]
    image: Option<String>,

    /// With this constraint, as in zone==b; may be given more than once
    #[arg(long = "constraint", group = "what", value_name = "EXPRESSION")]
    constraints: Vec<String>,

    /// With this affinity, as in container!=web; may be given more than once
    #[arg(long = "affinity", group = "what", value_name = "EXPRESSION")]
    affinities: Vec<String>,

    /// With this label; may be given more than once
    #[arg(short, long = "label", group = "what", value_name = "KEY=VALUE")]
    labels: Vec<String>,

    /// Placed by this strategy [default: the cluster's]
    #[arg(long, group = "what", value_name = "WORD", value_parser = PossibleValuesParser::new(["spread", "binpack", "random"]))]
    strategy: Option<String>,

    /// This node is lost: which of its containers could run elsewhere, and which nowhere
    #[arg(long, group = "what", value_name = "NODE")]
    lose: Option<String>,

    /// The manager's address, as for `flotilla node`
    #[arg(short = 'H', long, value_name = "ADDRESS")]
    host: Option<String>,

    /// Print JSON instead of text
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["text", "json"]))]
    format: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  Would ten more of these fit, and where?
    flotilla plan --count 10 --memory 2g --cpus 0.5 --constraint zone==b

  What could no longer run without host1?
    flotilla plan --lose host1

  And if the ten were there?
    flotilla plan --count 10 --memory 2g --lose host1";

impl Plan {
    /// Asks, and prints to `out`.
    pub fn run(self, out: &mut impl Write) -> Result<(), Error> {
        let count = self.count.unwrap_or(1);
        let asked = self.asked();
        ask(self.host.as_deref(), async |client| {
            let plan: Answer = client.post(PLAN, &asked).await?;
            if self.format.as_deref() == Some("json") {
                let json = serde_json::to_string_pretty(&plan).map_err(io::Error::from)?;
                writeln!(out, "{json}")?;
            } else {
                write!(out, "{}", text(&plan, count))?;
            }
            Ok(())
        })
    }

    fn asked(&self) -> AskPlan {
        let only_loses = self.count.is_none()
            && self.cpus.is_none()
            && self.memory.is_none()
            && self.gpus.is_none()
            && self.image.is_none()
            && self.strategy.is_none()
            && self.constraints.is_empty()
            && self.affinities.is_empty()
            && self.labels.is_empty();
        AskPlan {
            create: (!only_loses).then(|| self.create()),
            count: self.count,
            lose: self.lose.clone(),
        }
    }

    /// The body of a create that would ask for this.
    fn create(&self) -> serde_json::Value {
        let mut labels: BTreeMap<String, String> = self
            .labels
            .iter()
            .map(|label| label.split_once('=').unwrap_or((label, "")))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        if let Some(strategy) = &self.strategy {
            labels.insert("com.flotilla.strategy".to_owned(), strategy.clone());
        }
        let constraints = self.constraints.iter().map(|it| format!("constraint:{it}"));
        let affinities = self.affinities.iter().map(|it| format!("affinity:{it}"));
        serde_json::json!({
            "Image": self.image.as_deref().unwrap_or_default(),
            "Env": constraints.chain(affinities).collect::<Vec<_>>(),
            "Labels": labels,
            "HostConfig": {
                "NanoCpus": self.cpus.unwrap_or_default(),
                "Memory": self.memory.unwrap_or_default(),
                "DeviceRequests": self.gpus.map(|count| {
                    serde_json::json!([{"Count": count, "Capabilities": [["gpu"]]}])
                }),
            },
        })
    }
}

/// A number of GPUs as `docker run --gpus` takes it: below zero is all.
fn read_gpus(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    let count = text.parse::<u32>().ok().filter(|count| *count > 0);
    count
        .map(i64::from)
        .ok_or_else(|| format!("`{text}` must be a number of GPUs, 1 or more, or all"))
}

/// A plan as a person reads it; `count` is what was asked for.
fn text(plan: &Answer, count: u32) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        text.push_str(&words);
        text.push('\n');
    };
    if let Some(decision) = &plan.decision {
        let mut by_node: BTreeMap<&str, usize> = BTreeMap::new();
        for node in &plan.placed {
            *by_node.entry(node).or_default() += 1;
        }
        let by_node: Vec<_> = by_node
            .iter()
            .map(|(node, count)| format!("{node} {count}"))
            .collect();
        let nodes = if by_node.is_empty() {
            String::new()
        } else {
            format!(": {}", by_node.join(", "))
        };
        line(format!("{} of {count} would fit{nodes}", plan.placed.len()));
        line(match &decision.refusal {
            Some(refusal) => format!("The next one would not: {refusal}"),
            None => format!("The last one:\n{}", explain::text(decision).trim_end()),
        });
        if let Some(warning) = &plan.warning {
            line(format!("With a warning: {warning}"));
        }
    }
    if let Some(loss) = &plan.loss {
        lost(loss, &mut line);
    }
    text
}

fn lost(loss: &Loss, line: &mut impl FnMut(String)) {
    let all = loss.movable.len() + loss.stranded.len();
    line(format!(
        "Without {}, {} of its {all} containers could run elsewhere",
        loss.node,
        loss.movable.len()
    ));
    for moved in &loss.movable {
        line(format!("  {} on {}", moved.container, moved.node));
    }
    if !loss.stranded.is_empty() {
        line("These could no longer run:".to_owned());
    }
    for stranded in &loss.stranded {
        line(format!("  {}: {}", stranded.container, stranded.why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Moved, Stranded};

    #[test]
    fn numbers_of_cpus_are_read() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(read_cpus(text).ok(), expected, "{text}");
        };
        check("2", Some(2_000_000_000));
        check("0.5", Some(500_000_000));
        check(".25", Some(250_000_000));
        check("1.000000001", Some(1_000_000_001));
        check("1.0000000001", None);
        check("", None);
        check(".", None);
        check("-1", None);
        check("1e3", None);
        check("99999999999999", None);
    }

    #[test]
    fn numbers_of_gpus_are_read() {
        let read = |text: &str| read_gpus(text).ok();
        assert_eq!(
            [read("2"), read("all"), read("0"), read("-1"), read("x")],
            [Some(2), Some(-1), None, None, None]
        );
    }

    #[test]
    fn a_loss_reads_as_sentences() {
        let plan = Answer {
            loss: Some(Loss {
                node: "host1".to_owned(),
                movable: vec![Moved {
                    container: "a".to_owned(),
                    node: "host2".to_owned(),
                }],
                stranded: vec![Stranded {
                    container: "b".to_owned(),
                    why: "volume data is on that node only".to_owned(),
                }],
            }),
            ..Answer::default()
        };
        assert_eq!(
            text(&plan, 1),
            "Without host1, 1 of its 2 containers could run elsewhere\n  a on host2\n\
             These could no longer run:\n  b: volume data is on that node only\n"
        );
    }
}
