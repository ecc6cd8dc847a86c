//! The differences that are meant, and why. There are no others.

use integration::wire::Answer;

use crate::compare::Asked;

/// A difference that is meant.
pub(crate) struct Allowance {
    pub(crate) name: &'static str,
    /// Makes the two equal as far as the difference is the one that is meant.
    pub(crate) apply: fn(&Asked, &mut Answer, &mut Answer),
}

pub(crate) const LIST: &[Allowance] = &[
    // A pool says where a container is: `Node`, as classic Swarm had it.
    Allowance {
        name: "containers show their node",
        apply: |asked, ours, _| {
            if asked.path.starts_with("/containers/") || asked.path.starts_with("/system/df") {
                ours.body = without(&ours.body, "Node");
            }
        },
    },
    // Lists and disk usage show the node as a label, for `--filter label=` and `{{.Label}}`.
    Allowance {
        name: "lists show the node as a label",
        apply: |_, ours, _| ours.body = without(&ours.body, "com.flotilla.node"),
    },
    // Events say where they happened, as classic Swarm's did.
    Allowance {
        name: "events show the node",
        apply: |asked, ours, _| {
            if asked.path.starts_with("/events") {
                for member in ["node.name", "node.id", "node.addr", "node.ip"] {
                    ours.body = without(&ours.body, member);
                }
            }
        },
    },
    // A port published on all addresses is shown with the node's address: the client is elsewhere.
    Allowance {
        name: "published ports have the node's address",
        apply: |asked, ours, theirs| {
            if !asked.path.starts_with("/containers/") && !asked.path.starts_with("/system/df") {
                return;
            }
            let Some(address) = address(ours) else { return };
            let text = String::from_utf8_lossy(&theirs.body)
                .replace(r#","PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}"#, r#","PublicPort":8080,"Type":"tcp"}"#)
                .replace(r#""HostPort":"8080"},{"HostIp":"::","HostPort":"8080"}"#, r#""HostPort":"8080"}"#)
                .replace(r#""IP":"0.0.0.0""#, &format!(r#""IP":"{address}""#))
                .replace(r#""HostIp":"0.0.0.0""#, &format!(r#""HostIp":"{address}""#));
            theirs.body = text.into_bytes();
        },
    },
    // The product shows itself in `docker version`.
    Allowance {
        name: "version names the product",
        apply: |asked, ours, theirs| {
            if asked.path == "/version" {
                for answer in [ours, theirs] {
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    let text = match text.find(r#",{"Name":"Flotilla""#) {
                        Some(at) => {
                            let end = text[at..].find("}}").map_or(text.len(), |end| at + end + 2);
                            format!("{}{}", &text[..at], &text[end..])
                        }
                        None => text,
                    };
                    answer.body = without(text.as_bytes(), "Platform");
                }
            }
        },
    },
    // A moment's numbers: the clock, free file handles, goroutines.
    Allowance {
        name: "info has a moment's numbers",
        apply: |asked, ours, theirs| {
            if asked.path.ends_with("/info") {
                for answer in [ours, theirs] {
                    for member in ["SystemTime", "NFd", "NGoroutines", "NEventsListener"] {
                        answer.body = without(&answer.body, member);
                    }
                }
            }
        },
    },
    // An engine answers some wrong queries with 500. What the client did wrong is no failure of the server.
    Allowance {
        name: "a wrong query is a 400",
        apply: |asked, ours, theirs| {
            if asked.method == "GET"
                && asked.path.contains('?')
                && (ours.status, theirs.status) == (400, 500)
            {
                theirs.status = ours.status;
                theirs.reason.clone_from(&ours.reason);
            }
        },
    },
    // Times of events may be durations (`since=5m`), as the CLI lets people write them; the error says so.
    Allowance {
        name: "events take durations",
        apply: |asked, ours, theirs| {
            let refused = theirs.text().contains("strconv.ParseInt: parsing");
            if asked.path.starts_with("/events")
                && refused
                && ours
                    .text()
                    .contains("failed to parse value as time or duration")
            {
                theirs.body.clone_from(&ours.body);
            }
        },
    },
    // A request that is wrong in two ways is told the one or the other: we look for the object first, for it says which
    // engine would have to judge the rest.
    Allowance {
        name: "what is missing is missed first",
        apply: |asked, ours, theirs| {
            let missed = ours.status == 404 && ours.text().contains("nosuch\"");
            if asked.path.contains("/nosuch/") && missed && matches!(theirs.status, 400 | 501) {
                *theirs = ours.clone();
            }
        },
    },
    // Where no node has the platform, the refusal names the nodes, as all refusals to place do.
    Allowance {
        name: "a platform that no node has",
        apply: |asked, ours, theirs| {
            let named = ours
                .text()
                .contains("host1 is linux/amd64, not linux/arm64");
            if asked.path.contains("platform=linux/arm64") && named && theirs.status == 404 {
                *theirs = ours.clone();
            }
        },
    },
    // What an engine writes into a raw stream, errors too, is passed on as it is: with the id that we asked by.
    Allowance {
        name: "a raw stream's error has the id",
        apply: |asked, ours, _| {
            if asked.body.ends_with("(raw)") && ours.status == 409 {
                ours.body = ours
                    .text()
                    .replace("container ID is paused", "container it is paused")
                    .into_bytes();
            }
        },
    },
];

/// The node's address as our list or inspect shows it.
fn address(ours: &Answer) -> Option<String> {
    let text = String::from_utf8_lossy(&ours.body);
    let at = text.find("\"10.")? + 1;
    let end = text[at..].find('"')?;
    Some(text[at..at + end].to_owned())
}

/// The JSON text without this member, wherever it stands; all else stays as it is, byte for byte.
pub(crate) fn without(body: &[u8], member: &str) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(body).into_owned();
    if text.contains('\u{fffd}') {
        return body.to_vec();
    }
    let key = format!("\"{member}\":");
    let mut from = 0;
    while let Some(at) = text[from..].find(&key).map(|at| at + from) {
        let value = at + key.len();
        let end = value + value_length(&text[value..]);
        let (mut start, mut end) = (at, end);
        if text[..start].ends_with(',') {
            start -= 1;
        } else if text[end..].starts_with(',') {
            end += 1;
        }
        text.replace_range(start..end, "");
        from = start;
    }
    text.into_bytes()
}

/// How long the JSON value at the beginning of this text is.
fn value_length(text: &str) -> usize {
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            b',' if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}
