//! API versions: the prefix of a path, the window we speak, and what a client outside it is told.
//!
//! Source: the engine registers every route bare and under `/v{version:[0-9.]+}` (moby 28.5.2, `CreateMux`), and its
//! version middleware compares dotted numbers, a missing or absurd part counting as zero or as the largest number.
//!
//! **Invariant**: a version is judged only on a path that has a route; the engine answers 404 before it looks at it.

use std::fmt;

use crate::error::ApiError;

/// An Engine API version such as `1.51`.
///
/// Further parts, which the engine's pattern allows (`1.41.7`), count when the window is checked and never after:
/// every gate of the engine has two parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// The part before the dot.
    pub major: u32,
    /// The part after the dot.
    pub minor: u32,
}

impl ApiVersion {
    /// The oldest version that the engine (and so we) can speak.
    pub const MIN: Self = Self::new(1, 24);
    /// The newest version we speak: that of Engine 28.5.
    pub const MAX: Self = Self::new(1, 51);

    /// The version `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads `1.41` as the engine does; `None` where its path pattern `[0-9.]+` would not match.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return None;
        }
        let mut parts = parts(text);
        Some(Self::new(
            parts.next().unwrap_or(0),
            parts.next().unwrap_or(0),
        ))
    }

    /// The version to answer a request in: `raw` as it stood in the path, none meaning `max`.
    ///
    /// The error is the engine's 400, as plain text below 1.24 (see [`Unsupported::error`]).
    pub fn negotiate(raw: Option<&str>, max: Self) -> Result<Self, Unsupported> {
        let Some(raw) = raw else { return Ok(max) };
        let version = Self::parse(raw).unwrap_or(Self::new(0, 0));
        if version < Self::MIN {
            return Err(Unsupported {
                asked: raw.to_owned(),
                bound: Bound::TooOld(Self::MIN),
            });
        }
        if version > max || (version == max && parts(raw).skip(2).any(|part| part > 0)) {
            return Err(Unsupported {
                asked: raw.to_owned(),
                bound: Bound::TooNew(max),
            });
        }
        Ok(version)
    }
}

/// The numbers between the dots; Go's `Atoi` with its error ignored gives 0 for nothing and the largest int for too much.
fn parts(text: &str) -> impl Iterator<Item = u32> {
    text.split('.').map(|part| {
        if part.is_empty() {
            0
        } else {
            part.parse().unwrap_or(u32::MAX)
        }
    })
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A client asked for a version outside the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    asked: String,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    TooOld(ApiVersion),
    TooNew(ApiVersion),
}

impl Unsupported {
    /// The engine's answer.
    pub fn error(&self) -> ApiError {
        ApiError::bad_parameter(self.to_string())
    }

    /// Whether the engine writes this error as plain text: it does for clients below 1.24, which knew no JSON errors.
    pub fn is_plain_text(&self) -> bool {
        matches!(self.bound, Bound::TooOld(_))
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = &self.asked;
        match self.bound {
            Bound::TooOld(min) => write!(
                f,
                "client version {asked} is too old. Minimum supported API version is {min}, \
                 please upgrade your client to a newer version"
            ),
            Bound::TooNew(max) => {
                write!(
                    f,
                    "client version {asked} is too new. Maximum supported API version is {max}"
                )
            }
        }
    }
}

impl std::error::Error for Unsupported {}

/// Splits `/v1.41/info` into `1.41` and `/info`; a path without a version comes back whole.
///
/// `/v2/info` has the version `2`, `/v./info` the version `.`; `/v1.41` alone and `/v/info` have none.
pub fn split_version_prefix(path: &str) -> (Option<&str>, &str) {
    let Some(tail) = path.strip_prefix("/v") else {
        return (None, path);
    };
    let digits = tail
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    match (digits, tail.as_bytes().get(digits)) {
        (1.., Some(b'/')) => (Some(&tail[..digits]), &tail[digits..]),
        _ => (None, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn split(path: &str, version: Option<&str>, rest: &str) {
        assert_eq!(split_version_prefix(path), (version, rest), "{path}");
    }

    #[test]
    fn a_prefix_is_digits_and_dots_between_v_and_a_slash() {
        split("/v1.41/info", Some("1.41"), "/info");
        split("/v2/info", Some("2"), "/info");
        split("/v./info", Some("."), "/info");
        split("/v1.51/", Some("1.51"), "/");
        split("/v1.51", None, "/v1.51");
        split("/v/info", None, "/v/info");
        split("/v1x/info", None, "/v1x/info");
        split("/volumes/v1", None, "/volumes/v1");
        split("/v1.41/v1.42/info", Some("1.41"), "/v1.42/info");
        split("", None, "");
    }

    #[track_caller]
    fn negotiated(raw: &str, expected: &str) {
        let said = match ApiVersion::negotiate(Some(raw), ApiVersion::MAX) {
            Ok(version) => version.to_string(),
            Err(error) => format!(
                "{error}{}",
                if error.is_plain_text() {
                    " (plain)"
                } else {
                    ""
                }
            ),
        };
        assert_eq!(said, expected, "{raw}");
    }

    #[test]
    fn the_window_is_checked_with_the_engines_words() {
        negotiated("1.24", "1.24");
        negotiated("1.51", "1.51");
        negotiated("1.51.0", "1.51");
        negotiated("1.24.9", "1.24");
        negotiated("01.041", "1.41");
        negotiated(
            "1.52",
            "client version 1.52 is too new. Maximum supported API version is 1.51",
        );
        negotiated(
            "1.51.1",
            "client version 1.51.1 is too new. Maximum supported API version is 1.51",
        );
        negotiated(
            "2",
            "client version 2 is too new. Maximum supported API version is 1.51",
        );
        let huge = "99999999999999999999";
        negotiated(
            huge,
            &format!("client version {huge} is too new. Maximum supported API version is 1.51"),
        );
        for old in ["1.23", ".", "1"] {
            negotiated(
                old,
                &format!(
                    "client version {old} is too old. Minimum supported API version is 1.24, \
                     please upgrade your client to a newer version (plain)"
                ),
            );
        }
        assert_eq!(
            ApiVersion::negotiate(None, ApiVersion::new(1, 44)),
            Ok(ApiVersion::new(1, 44))
        );
    }
}
