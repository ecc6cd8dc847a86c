//! Two answers side by side.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use integration::wire::{Answer, frames};
use serde_json::value::RawValue;

use crate::allowed::{self, Allowance};

/// What a request is, for whoever reads about a difference and for the allowances.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// The path without the version, with the query.
    pub(crate) path: String,
    pub(crate) version: Option<(u32, u32)>,
    pub(crate) body: String,
}

impl Asked {
    /// Reads `METHOD path body`.
    pub(crate) fn parse(line: &str, version: Option<(u32, u32)>) -> Self {
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        Self {
            method: word(),
            path: word(),
            version,
            body: word(),
        }
    }

    pub(crate) fn target(&self) -> String {
        match self.version {
            Some((major, minor)) => format!("/v{major}.{minor}{}", self.path),
            None => self.path.clone(),
        }
    }
}

/// Collects differences, and which allowances were needed.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    compared: usize,
    differences: Vec<String>,
    needed: BTreeMap<&'static str, usize>,
}

impl Verdict {
    /// Compares one of our answers with what the engine said before and after; it may agree with either.
    pub(crate) fn judge(&mut self, asked: &Asked, ours: &Answer, theirs: &[Answer]) {
        self.compared += 1;
        let mut first = None;
        for theirs in theirs {
            let (mut one, mut other) = (ours.clone(), theirs.clone());
            let needed = level(asked, &mut one, &mut other);
            match difference(&one, &other) {
                None => {
                    for name in needed {
                        *self.needed.entry(name).or_default() += 1;
                    }
                    return;
                }
                Some(difference) => first = first.or(Some(difference)),
            }
        }
        let what = first.unwrap_or_default();
        self.differences.push(format!(
            "{} {} {}\n{what}",
            asked.method,
            asked.target(),
            asked.body
        ));
    }

    /// An error that tells all differences.
    pub(crate) fn finish(self, expected: &[&str]) -> Result<()> {
        println!(
            "{} answers compared; allowances needed: {:?}",
            self.compared, self.needed
        );
        ensure!(
            self.differences.is_empty(),
            "{} of {} answers differ:\n{}",
            self.differences.len(),
            self.compared,
            self.differences.join("\n\n")
        );
        let unneeded: Vec<_> = expected
            .iter()
            .filter(|name| !self.needed.contains_key(*name))
            .collect();
        ensure!(
            unneeded.is_empty(),
            "allowances that nothing needs: {unneeded:?}"
        );
        Ok(())
    }
}

/// Applies every allowance to both; returns those that changed whether the two agree.
fn level(asked: &Asked, ours: &mut Answer, theirs: &mut Answer) -> Vec<&'static str> {
    for answer in [&mut *ours, &mut *theirs] {
        always(asked, answer);
    }
    let mut needed = Vec::new();
    for Allowance { name, apply, .. } in allowed::LIST {
        let before = (ours.clone(), theirs.clone());
        apply(asked, ours, theirs);
        if before != (ours.clone(), theirs.clone()) {
            needed.push(*name);
        }
    }
    needed
}

/// What differs between any two answers of one engine.
fn always(asked: &Asked, answer: &mut Answer) {
    // Engines list these in the random order of their maps.
    if asked.path.ends_with("/changes") || asked.path.starts_with("/networks") {
        sort_items(answer);
    }
    // Output and error output are two streams; which of two lines comes first is chance.
    if let Ok(mut parts) = frames(&answer.body)
        && parts.iter().any(|(stream, _)| *stream == 2)
    {
        parts.sort_by_key(|(stream, _)| *stream);
        answer.body = format!("{parts:?}").into_bytes();
    }
    // A failed look-up in the network names the port that it was made from.
    if let Ok(text) = std::str::from_utf8(&answer.body)
        && let Some(at) = text.find(": read udp ")
        && let Some(end) = text[at..].find("->")
    {
        let text = format!("{}{}", &text[..at], &text[at + end..]);
        answer.body = text.into_bytes();
    }
    answer.headers.retain(|(name, _)| name != "date");
    // How a body is framed is between two ends of a connection: both were read to their end.
    answer.headers.retain(|(name, _)| {
        !matches!(
            name.as_str(),
            "content-length" | "transfer-encoding" | "connection"
        )
    });
    answer.headers.sort();
}

/// Sorts the items of a list, each left as it is, byte for byte.
fn sort_items(answer: &mut Answer) {
    let items: Result<Vec<Box<RawValue>>, _> = serde_json::from_slice(&answer.body);
    if let Ok(items) = items {
        let mut items: Vec<&str> = items.iter().map(|item| item.get()).collect();
        items.sort_unstable();
        answer.body = items.join(",").into_bytes();
    }
}

fn difference(ours: &Answer, theirs: &Answer) -> Option<String> {
    let mut parts = Vec::new();
    if (ours.status, &ours.reason) != (theirs.status, &theirs.reason) {
        parts.push(format!(
            "  ours:   {} {}\n  engine: {} {}",
            ours.status, ours.reason, theirs.status, theirs.reason
        ));
    }
    if ours.headers != theirs.headers {
        let only = |some: &Answer, other: &Answer| {
            let headers = some
                .headers
                .iter()
                .filter(|header| !other.headers.contains(header));
            headers
                .map(|(name, value)| format!("{name}: {value}"))
                .collect::<Vec<_>>()
        };
        parts.push(format!(
            "  ours only:   {:?}\n  engine only: {:?}",
            only(ours, theirs),
            only(theirs, ours)
        ));
    }
    if ours.body != theirs.body {
        let at = ours
            .body
            .iter()
            .zip(&theirs.body)
            .take_while(|(one, other)| one == other)
            .count();
        let around = |body: &[u8]| {
            let end = body.len().min(at + 300);
            String::from_utf8_lossy(&body[at.saturating_sub(60)..end]).into_owned()
        };
        parts.push(format!(
            "  from byte {at} of {} and {}\n  ours:   {:?}\n  engine: {:?}",
            ours.body.len(),
            theirs.body.len(),
            around(&ours.body),
            around(&theirs.body)
        ));
    }
    (!parts.is_empty()).then(|| parts.join("\n"))
}
