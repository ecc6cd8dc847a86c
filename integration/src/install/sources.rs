//! Which package source to ask: the machine's own one, for another suite.
//!
//! **Invariant**: nothing here knows where packages live; that is copied from the machine.

/// A source for `suite`, in deb822 form, made from the machine's source files (both formats are understood).
/// `codename` is the machine's release; only a source of that release is a model.
pub(super) fn derive(files: &[String], codename: &str, suite: &str) -> Option<String> {
    files
        .iter()
        .flat_map(|file| paragraphs(file).into_iter().chain(one_liners(file)))
        .find_map(|source| {
            let suites = source.get("suites")?;
            let known = |name: &str| {
                name == codename || ["stable", "testing", "unstable", "sid"].contains(&name)
            };
            let fits = suites.split_whitespace().any(known)
                && source
                    .get("types")?
                    .split_whitespace()
                    .any(|kind| kind == "deb")
                && source
                    .get("components")?
                    .split_whitespace()
                    .any(|name| name == "main")
                && source
                    .get("enabled")
                    .is_none_or(|enabled| enabled.trim() != "no");
            fits.then(|| source.render(suite))
        })
}

/// The fields of one source, names in lower case, values with their continuation lines.
#[derive(Default)]
struct Source(Vec<(String, String)>);

impl Source {
    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    }

    fn render(&self, suite: &str) -> String {
        let replaced = ["types", "suites", "components", "enabled"];
        let kept = self
            .0
            .iter()
            .filter(|(name, _)| !replaced.contains(&name.as_str()));
        let kept: String = kept
            .map(|(name, value)| format!("{name}: {value}\n"))
            .collect();
        format!("Types: deb\nSuites: {suite}\nComponents: main\n{kept}")
    }
}

fn paragraphs(file: &str) -> Vec<Source> {
    let mut sources = vec![Source::default()];
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let last = sources.len() - 1;
        if line.trim().is_empty() {
            sources.push(Source::default());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = sources[last].0.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            sources[last]
                .0
                .push((name.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    sources
}

fn one_liners(file: &str) -> Vec<Source> {
    file.lines().filter_map(one_liner).collect()
}

fn one_liner(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let components = words.collect::<Vec<_>>().join(" ");
    let mut source = Source(vec![
        ("types".into(), "deb".into()),
        ("uris".into(), uri.into()),
        ("suites".into(), suite.into()),
        ("components".into(), components),
    ]);
    for (name, value) in options
        .split_whitespace()
        .filter_map(|option| option.split_once('='))
    {
        let name = if name == "arch" {
            "architectures"
        } else {
            name
        };
        source
            .0
            .push((name.to_lowercase(), value.replace(',', " ")));
    }
    Some(source)
}

#[cfg(test)]
mod tests {
    use super::derive;

    #[track_caller]
    fn check(file: &str, expected: Option<&str>) {
        let derived = derive(&[file.to_owned()], "bookworm", "forky");
        assert_eq!(derived.as_deref(), expected);
    }

    #[test]
    fn a_paragraph_keeps_its_place_and_key() {
        check(
            "# by the installer\nTypes: deb deb-src\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\
             Components: main contrib\nSigned-By:\n -----BEGIN\n .\n -----END\n",
            Some(
                "Types: deb\nSuites: forky\nComponents: main\nuris: http://mirror.test/debian\n\
                 signed-by: \n -----BEGIN\n .\n -----END\n",
            ),
        );
    }

    #[test]
    fn a_line_keeps_its_options() {
        check(
            "deb [arch=amd64 signed-by=/k.gpg] http://mirror.test/debian bookworm main\n",
            Some(
                "Types: deb\nSuites: forky\nComponents: main\nuris: http://mirror.test/debian\n\
                 architectures: amd64\nsigned-by: /k.gpg\n",
            ),
        );
    }

    #[test]
    fn other_archives_are_no_model() {
        check(
            "deb http://mirror.test/debian-security bookworm-security main",
            None,
        );
        check("deb-src http://mirror.test/debian bookworm main", None);
        check(
            "Types: deb\nURIs: http://mirror.test/x\nSuites: nodistro\nComponents: main\n",
            None,
        );
        check(
            "Types: deb\nURIs: http://m.test/x\nSuites: bookworm\nComponents: main\nEnabled: no\n",
            None,
        );
    }
}
