//! `POST /volumes/create`: what a client asks for, and what an engine refuses before it makes anything.
//!
//! Source: moby 28.5.2 `volume/local/local.go`, `local_unix.go`, `volume/service/store.go`; the texts were compared with an
//! engine of that version. Where several things are wrong with a body, an engine names any of them.
//!
//! Stricter than the engine: a field that stands twice is refused.
//!
//! **Invariant**: what passes here is refused by an engine only for what depends on its host.

use std::collections::BTreeMap;

use crate::create::{kind_of, syntax_error};
use crate::error::ApiError;
use crate::go_text;
use crate::json_view::View;

/// The label that an engine gives to volumes whose user did not name them.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeCreate {
    /// `Name`; empty if one is to be made up.
    pub name: String,
    /// `Driver`; empty for the default one.
    pub driver: String,
    /// `DriverOpts`
    pub options: Option<BTreeMap<String, String>>,
    /// `Labels`
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether it has a `ClusterVolumeSpec`.
    pub is_cluster_volume: bool,
}

impl VolumeCreate {
    /// Reads a body. An empty one asks for a volume without a name, as on an engine.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let root = View::parse(body)
            .map_err(|malformed| ApiError::bad_parameter(syntax_error(body, &malformed)))?;
        if !root.is_object() && !root.is_null() {
            return Err(mistyped(root, "value of type volume.CreateOptions"));
        }
        if let Some(field) = root.repeated_field() {
            return Err(ApiError::bad_parameter(format!(
                "invalid JSON: the field {} is given twice",
                go_text::quote(&field)
            )));
        }
        Ok(Self {
            name: text(root, "Name")?,
            driver: text(root, "Driver")?,
            options: map(root, "DriverOpts")?,
            labels: map(root, "Labels")?,
            is_cluster_volume: root
                .get_folded("ClusterVolumeSpec")
                .is_some_and(|spec| !spec.is_null()),
        })
    }
}

/// Refuses a name that the local driver refuses, in its words.
pub fn check_local_name(name: &str) -> Result<(), ApiError> {
    if name.len() < 2 {
        return Err(refused(
            name,
            "volume name is too short, names should be at least two alphanumeric characters",
        ));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    if name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(allowed) {
        return Ok(());
    }
    let why = format!(
        "{} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you \
         intended to pass a host directory, use absolute path",
        go_text::quote(name)
    );
    Err(refused(name, &why))
}

/// Refuses options that the local driver refuses, in its words. Whether a size can be kept depends on the host.
pub fn check_local_options(name: &str, options: &BTreeMap<String, String>) -> Result<(), ApiError> {
    const NEEDED_BY: [(&str, &[&str]); 3] = [
        ("device", &["type"]),
        ("o", &["device", "type"]),
        ("type", &["device"]),
    ];
    let known = |option: &&String| !matches!(option.as_str(), "device" | "o" | "size" | "type");
    if let Some(unknown) = options.keys().find(known) {
        let why = format!("invalid option: {}", go_text::quote(unknown));
        return Err(refused(name, &why));
    }
    if let Some(size) = options.get("size").filter(|size| !is_size(size)) {
        return Err(refused(name, &format!("invalid size: '{size}'")));
    }
    let needed = NEEDED_BY
        .iter()
        .filter(|(option, _)| options.contains_key(*option))
        .flat_map(|(_, needed)| *needed);
    for option in needed {
        if !options.contains_key(*option) {
            let why = format!("missing required option: {}", go_text::quote(option));
            return Err(refused(name, &why));
        }
    }
    Ok(())
}

/// What an engine says of a driver that it does not have.
pub fn unknown_driver(name: &str, driver: &str) -> ApiError {
    let quoted = go_text::quote(driver);
    ApiError::not_found(format!(
        "create {name}: error looking up volume plugin {driver}: plugin {quoted} not found"
    ))
}

fn refused(name: &str, why: &str) -> ApiError {
    ApiError::bad_parameter(format!("create {name}: {why}"))
}

/// A number with a unit, as `10m`, `1.5GB` or `4 KiB`.
fn is_size(text: &str) -> bool {
    let number_ends = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let bare = unit.strip_prefix(['k', 'm', 'g', 't', 'p']);
    let is_unit = match bare {
        Some(rest) => matches!(rest, "" | "b" | "ib"),
        None => matches!(unit.as_str(), "" | "b"),
    };
    number.parse::<f64>().is_ok() && is_unit
}

fn text(root: View<'_>, field: &str) -> Result<String, ApiError> {
    match root.get_folded(field) {
        None => Ok(String::new()),
        Some(value) if value.is_null() => Ok(String::new()),
        Some(value) => value
            .str()
            .map(std::borrow::Cow::into_owned)
            .ok_or_else(|| {
                mistyped(
                    value,
                    &format!("struct field CreateOptions.{field} of type string"),
                )
            }),
    }
}

fn map(root: View<'_>, field: &str) -> Result<Option<BTreeMap<String, String>>, ApiError> {
    let Some(value) = root.get_folded(field).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    if !value.is_object() {
        let target = format!("struct field CreateOptions.{field} of type map[string]string");
        return Err(mistyped(value, &target));
    }
    let entry = |member: crate::json_view::Member<'_>| {
        let is_text = member.value.is_null() || member.value.str().is_some();
        if !is_text {
            let target = format!(
                "struct field CreateOptions.{field}.{} of type string",
                member.key
            );
            return Err(mistyped(member.value, &target));
        }
        let text = member.value.str().unwrap_or_default().into_owned();
        Ok((member.key.into_owned(), text))
    };
    value
        .members()
        .map(entry)
        .collect::<Result<_, _>>()
        .map(Some)
}

fn mistyped(value: View<'_>, target: &str) -> ApiError {
    ApiError::bad_parameter(format!(
        "invalid JSON: json: cannot unmarshal {} into Go {target}",
        kind_of(value)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_an_engine_reads_it() {
        let body = br#"{"name":"data","Driver":"local","DriverOpts":{"type":"nfs"},"Labels":null,"New":1}"#;
        let read = VolumeCreate::parse(body).expect("reads");
        assert_eq!((&*read.name, &*read.driver), ("data", "local"));
        let options = read.options.expect("options");
        assert_eq!(options.get("type").map(String::as_str), Some("nfs"));
        assert_eq!((read.labels, read.is_cluster_volume), (None, false));
        assert_eq!(VolumeCreate::parse(b" \n"), Ok(VolumeCreate::default()));
        assert_eq!(VolumeCreate::parse(b"null"), Ok(VolumeCreate::default()));
        let cluster = VolumeCreate::parse(br#"{"ClusterVolumeSpec":{}}"#).expect("reads");
        assert!(cluster.is_cluster_volume);
    }

    #[test]
    fn what_is_no_body_is_refused_in_the_engines_words() {
        for (body, said) in [
            (
                r#"{"Name":5}"#,
                "invalid JSON: json: cannot unmarshal number into Go struct field CreateOptions.Name of type string",
            ),
            (
                r#"{"Labels":[]}"#,
                "invalid JSON: json: cannot unmarshal array into Go struct field CreateOptions.Labels of type map[string]string",
            ),
            (
                "[]",
                "invalid JSON: json: cannot unmarshal array into Go value of type volume.CreateOptions",
            ),
            ("{", "invalid JSON: unexpected EOF"),
            (
                r#"{"Name":"a","name":"b"}"#,
                "invalid JSON: the field \"name\" is given twice",
            ),
        ] {
            let refused = VolumeCreate::parse(body.as_bytes()).map_err(|error| error.message);
            assert_eq!(refused, Err(said.to_owned()), "{body}");
        }
    }

    #[track_caller]
    fn check(name: &str, options: &[(&str, &str)], said: &str) {
        let options = options
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let checked = check_local_name(name)
            .and_then(|()| check_local_options(name, &options.collect()))
            .map_or_else(|error| error.message, |()| "good".to_owned());
        assert_eq!(checked, said);
    }

    #[test]
    fn the_local_driver_has_its_words() {
        let short =
            "volume name is too short, names should be at least two alphanumeric characters";
        check("data", &[], "good");
        check("a", &[], &format!("create a: {short}"));
        check("!", &[], &format!("create !: {short}"));
        check(
            "h/x",
            &[],
            "create h/x: \"h/x\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        );
        check(
            "data",
            &[("nosuch", "x")],
            "create data: invalid option: \"nosuch\"",
        );
        let missing = |option: &str| format!("create data: missing required option: \"{option}\"");
        check("data", &[("type", "tmpfs")], &missing("device"));
        check("data", &[("device", "tmpfs")], &missing("type"));
        check("data", &[("o", "size=1m")], &missing("device"));
        check(
            "data",
            &[("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")],
            "good",
        );
        check(
            "data",
            &[("size", "tmpfs")],
            "create data: invalid size: 'tmpfs'",
        );
        for size in ["10", "10m", "1.5GB", "4 KiB", "3b"] {
            check("data", &[("size", size)], "good");
        }
    }
}
