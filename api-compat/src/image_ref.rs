//! Image references: the long form to compare, the familiar form to show, and what is an id.
//!
//! Source: distribution/reference as vendored by moby 28.5.2, and its error texts.

use std::fmt;

/// A reference in its long form: `docker.io/library/busybox:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// The registry's host, `docker.io` if none was given.
    pub domain: String,
    /// The repository in it, `library/…` for official images.
    pub path: String,
    /// The tag, if one was given.
    pub tag: Option<String>,
    /// The digest, if one was given.
    pub digest: Option<String>,
}

/// What a client may mean by the name of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A whole id, or the digest of one: `sha256:…`.
    Id(String),
    /// A reference, which may be a prefix of an id as well: see [`is_id_prefix`].
    Reference(ImageRef),
}

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library/";

/// Why a text is no reference, in the engine's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Named {
    /// Reads what a client wrote for an image.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if is_hex(text, 64) {
            return Ok(Self::Id(format!("sha256:{text}")));
        }
        if text
            .strip_prefix("sha256:")
            .is_some_and(|hex| is_hex(hex, 64))
        {
            return Ok(Self::Id(text.to_owned()));
        }
        ImageRef::parse(text).map(Self::Reference)
    }
}

/// Whether a name may be the beginning of an id: 1 to 64 lower-case hexadecimal digits, with or without `sha256:`.
pub fn is_id_prefix(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (1..=64).contains(&hex.len()) && is_hex(hex, hex.len())
}

impl ImageRef {
    /// Reads a reference and fills in the default registry; a tag is not filled in ([`Self::or_latest`] does).
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let invalid = |message: &str| Err(Invalid(message.to_owned()));
        if is_hex(text, 64) {
            return Err(Invalid(format!(
                "invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
            )));
        }
        let (domain, remainder) = split_domain(text);
        let remote = remainder.split(':').next().unwrap_or_default();
        if remote.to_lowercase() != remote {
            return Err(Invalid(format!(
                "invalid reference format: repository name ({remote}) must be lowercase"
            )));
        }
        let (name, digest) = match remainder.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (remainder.as_str(), None),
        };
        let (path, tag) = match name.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (name, None),
        };
        let valid = path.split('/').all(is_path_component)
            && tag.is_none_or(is_tag)
            && digest.is_none_or(is_digest_like)
            && (is_domain(domain) || domain.split('/').all(is_path_component));
        if !valid {
            return invalid("invalid reference format");
        }
        if path.len() > 255 {
            return invalid("repository name must not be more than 255 characters");
        }
        if let Some((algorithm, hex)) = digest.and_then(|digest| digest.split_once(':')) {
            let length = match algorithm {
                "sha256" => 64,
                "sha384" => 96,
                "sha512" => 128,
                _ => return invalid("unsupported digest algorithm"),
            };
            if hex.len() != length {
                return invalid("invalid checksum digest length");
            }
            if !is_hex(hex, length) {
                return invalid("invalid checksum digest format");
            }
        }
        Ok(Self {
            domain: domain.to_owned(),
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// The reference with the tag `latest` if it has neither tag nor digest.
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// What an engine looks up, as clients know it: `busybox` is `busybox:latest`, and beside a digest a tag says nothing.
    pub fn looked_up(mut self) -> String {
        if self.digest.is_some() {
            self.tag = None;
        }
        self.or_latest().familiar()
    }

    /// The repository without tag and digest, in its long form.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as clients know it: `busybox`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        let short = self
            .path
            .strip_prefix(OFFICIAL)
            .filter(|rest| !rest.contains('/'));
        short.unwrap_or(&self.path).to_owned()
    }

    /// The reference as clients know it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    fn with_suffix(&self, mut name: String) -> String {
        for (mark, suffix) in [(':', &self.tag), ('@', &self.digest)] {
            if let Some(suffix) = suffix {
                name.push(mark);
                name.push_str(suffix);
            }
        }
        name
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.repository()))
    }
}

/// The registry's host and the rest. What stands before the first slash is a host if it is `localhost`, or has a dot,
/// a colon or a capital letter.
fn split_domain(text: &str) -> (&str, String) {
    let Some((first, rest)) = text.split_once('/') else {
        return (DEFAULT_DOMAIN, format!("{OFFICIAL}{text}"));
    };
    let is_host =
        first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first;
    let (domain, rest) = match first {
        "index.docker.io" => (DEFAULT_DOMAIN, rest),
        _ if is_host => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !rest.contains('/') {
        return (domain, format!("{OFFICIAL}{rest}"));
    }
    (domain, rest.to_owned())
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Runs of lower-case letters and digits, parted by one dot, one or two underscores, or dashes.
fn is_path_component(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separators = text
        .split(|c: char| u8::try_from(c).is_ok_and(word))
        .filter(|gap| !gap.is_empty());
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.into_iter().all(|byte| byte.is_some_and(word))
        && separators
            .into_iter()
            .all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_digest_like(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let part = |part: &str| {
        part.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(part)
        && hex.len() >= 32
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.into_iter()
            .all(|byte| byte.is_some_and(|byte| byte.is_ascii_alphanumeric()))
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let valid = !address.is_empty()
            && address
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b':');
        return valid && (rest.is_empty() || rest.strip_prefix(':').is_some_and(port));
    }
    let (host, given) = text
        .split_once(':')
        .map_or((text, None), |(host, given)| (host, Some(given)));
    host.split('.').all(label) && given.is_none_or(port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, long: &str, familiar: &str) {
        let parsed = ImageRef::parse(text).expect("a reference").or_latest();
        assert_eq!(
            (parsed.to_string().as_str(), parsed.familiar().as_str()),
            (long, familiar),
            "{text}"
        );
    }

    #[test]
    fn references_have_a_long_and_a_familiar_form() {
        let digest = format!("sha256:{}", "a".repeat(64));
        check(
            "busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        );
        check(
            "busybox:1.36",
            "docker.io/library/busybox:1.36",
            "busybox:1.36",
        );
        check(
            "index.docker.io/busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        );
        check(
            "docker.io/library/busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        );
        check(
            "bitnami/nginx",
            "docker.io/bitnami/nginx:latest",
            "bitnami/nginx:latest",
        );
        check(
            "library/a/b",
            "docker.io/library/a/b:latest",
            "library/a/b:latest",
        );
        check("localhost/a", "localhost/a:latest", "localhost/a:latest");
        check(
            "reg:5000/a__b/c-.d".replace("-.", "--").as_str(),
            "reg:5000/a__b/c--d:latest",
            "reg:5000/a__b/c--d:latest",
        );
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        check("Reg/a", "Reg/a:latest", "Reg/a:latest");
        check(
            &format!("a@{digest}"),
            &format!("docker.io/library/a@{digest}"),
            &format!("a@{digest}"),
        );
        check(
            &format!("a:1@{digest}"),
            &format!("docker.io/library/a:1@{digest}"),
            &format!("a:1@{digest}"),
        );
    }

    #[test]
    fn a_digest_is_looked_up_without_its_tag() {
        let check = |text: &str, wanted: &str| {
            let parsed = ImageRef::parse(text).expect("a reference");
            assert_eq!(parsed.looked_up(), wanted, "{text}");
        };
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("reg:5000/some/it@{digest}");
        check(&pinned, &pinned);
        check(&format!("reg:5000/some/it:1@{digest}"), &pinned);
        check(
            &format!("docker.io/library/it:1@{digest}"),
            &format!("it@{digest}"),
        );
        check("reg:5000/some/it:1", "reg:5000/some/it:1");
        check("it", "it:latest");
    }

    #[test]
    fn bad_references_are_refused_in_the_engines_words() {
        let hex = "a".repeat(64);
        for (text, said) in [
            ("", "invalid reference format"),
            (
                "Busybox",
                "invalid reference format: repository name (library/Busybox) must be lowercase",
            ),
            ("a:", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("-a", "invalid reference format"),
            ("a/", "invalid reference format"),
            ("a:b/c", "invalid reference format"),
            ("a@sha256:00", "invalid reference format"),
            (
                &format!("a@sha256:{}", &hex[1..]),
                "invalid checksum digest length",
            ),
            (&format!("a@md5:{hex}"), "unsupported digest algorithm"),
            (
                &hex,
                &format!(
                    "invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"
                ),
            ),
        ] {
            assert_eq!(
                ImageRef::parse(text).map_err(|error| error.to_string()),
                Err(said.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn ids_are_told_from_names() {
        let hex = "0a".repeat(32);
        assert_eq!(Named::parse(&hex), Ok(Named::Id(format!("sha256:{hex}"))));
        assert_eq!(
            Named::parse(&format!("sha256:{hex}")),
            Ok(Named::Id(format!("sha256:{hex}")))
        );
        assert!(matches!(Named::parse("deadbeef"), Ok(Named::Reference(_))));
        assert!(
            is_id_prefix("deadbeef")
                && is_id_prefix("sha256:d")
                && !is_id_prefix("web")
                && !is_id_prefix("")
        );
    }

    proptest! {
        #[test]
        fn the_long_form_means_the_same(text in "[a-zA-Z0-9./:@_\\[\\]-]{0,24}") {
            if let Ok(parsed) = ImageRef::parse(&text) {
                prop_assert_eq!(ImageRef::parse(&parsed.to_string()), Ok(parsed));
            }
        }
    }
}
