//! What a create asks of its engine that older engines do not have, and would leave out without a word.
//!
//! An engine ignores fields that it does not know. So a request that uses one must not go to an engine that is too old for
//! it: the container would run without its health check's interval, or with the wrong path of a volume.
//!
//! Source: the version history of the API. Only what came after API 1.41 counts: no older engine is pooled.
//!
//! **Invariant**: a field that says nothing (null, zero, false, empty) asks for nothing.

use crate::json_view::View;
use crate::version::ApiVersion;

/// A field that not every engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// As the API calls it.
    pub field: &'static str,
    /// The first API version that has it.
    pub since: ApiVersion,
}

/// Where a field is: members by name, and `*` for each element of a list or each value of an object.
type Path = &'static [&'static str];

const FIELDS: [(Path, &str, ApiVersion); 11] = [
    (
        &["HostConfig", "Annotations"],
        "HostConfig.Annotations",
        ApiVersion::new(1, 43),
    ),
    (
        &["Healthcheck", "StartInterval"],
        "Healthcheck.StartInterval",
        ApiVersion::new(1, 44),
    ),
    (
        &["NetworkingConfig", "EndpointsConfig", "*", "MacAddress"],
        "EndpointSettings.MacAddress",
        ApiVersion::new(1, 44),
    ),
    (
        &[
            "HostConfig",
            "Mounts",
            "*",
            "BindOptions",
            "CreateMountpoint",
        ],
        "BindOptions.CreateMountpoint",
        ApiVersion::new(1, 42),
    ),
    (
        &[
            "HostConfig",
            "Mounts",
            "*",
            "BindOptions",
            "ReadOnlyNonRecursive",
        ],
        "BindOptions.ReadOnlyNonRecursive",
        ApiVersion::new(1, 44),
    ),
    (
        &[
            "HostConfig",
            "Mounts",
            "*",
            "BindOptions",
            "ReadOnlyForceRecursive",
        ],
        "BindOptions.ReadOnlyForceRecursive",
        ApiVersion::new(1, 44),
    ),
    (
        &["HostConfig", "Mounts", "*", "VolumeOptions", "Subpath"],
        "VolumeOptions.Subpath",
        ApiVersion::new(1, 45),
    ),
    (
        &["HostConfig", "Mounts", "*", "TmpfsOptions", "Options"],
        "TmpfsOptions.Options",
        ApiVersion::new(1, 46),
    ),
    (
        &[
            "NetworkingConfig",
            "EndpointsConfig",
            "*",
            "DriverOpts",
            "com.docker.network.endpoint.sysctls",
        ],
        "DriverOpts.com.docker.network.endpoint.sysctls",
        ApiVersion::new(1, 46),
    ),
    (
        &["NetworkingConfig", "EndpointsConfig", "*", "GwPriority"],
        "EndpointSettings.GwPriority",
        ApiVersion::new(1, 48),
    ),
    (
        &["HostConfig", "Mounts", "*", "ImageOptions"],
        "Mount.ImageOptions",
        ApiVersion::new(1, 48),
    ),
];

/// What a create body asks for that came after the oldest engine that is pooled, as far as the client's version knows it:
/// an engine leaves out what is newer than the version it is called at.
pub fn needed(body: View<'_>, client: ApiVersion) -> Vec<Feature> {
    let mut needed: Vec<Feature> = FIELDS
        .iter()
        .filter(|(path, _, since)| *since <= client && says_something(body, path))
        .map(|&(_, field, since)| Feature { field, since })
        .collect();
    let image_mounts = body
        .get_folded("HostConfig")
        .and_then(|host| host.get_folded("Mounts"));
    let is_image = |mount: View<'_>| {
        mount
            .get_folded("Type")
            .and_then(|kind| kind.str())
            .is_some_and(|kind| kind == "image")
    };
    if image_mounts.is_some_and(|mounts| mounts.elements().any(is_image)) {
        needed.push(Feature {
            field: "a mount of type image",
            since: ApiVersion::new(1, 48),
        });
    }
    needed
}

fn says_something(value: View<'_>, path: &[&str]) -> bool {
    match path {
        [] => !is_default(value),
        ["*", rest @ ..] if value.is_array() => value
            .elements()
            .any(|element| says_something(element, rest)),
        ["*", rest @ ..] => value
            .members()
            .any(|member| says_something(member.value, rest)),
        [name, rest @ ..] => value
            .get_folded(name)
            .is_some_and(|value| says_something(value, rest)),
    }
}

/// Whether it is what the field is when it is left out.
fn is_default(value: View<'_>) -> bool {
    value.is_null()
        || value.bool() == Some(false)
        || value.i64() == Some(0)
        || value.str().is_some_and(|text| text.is_empty())
        || value.is_array() && value.elements().next().is_none()
        || value.is_object() && value.members().next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, minor: u32, expected: &[&str]) {
        let view = View::parse(body.as_bytes()).expect("JSON");
        let fields: Vec<_> = needed(view, ApiVersion::new(1, minor))
            .iter()
            .map(|feature| feature.field)
            .collect();
        assert_eq!(fields, expected, "{body}");
    }

    #[test]
    fn only_what_says_something_asks_for_something() {
        check(r#"{"Image":"a"}"#, 51, &[]);
        check(
            r#"{"HostConfig":{"Annotations":{"a":"b"}}}"#,
            51,
            &["HostConfig.Annotations"],
        );
        check(r#"{"HostConfig":{"Annotations":{"a":"b"}}}"#, 42, &[]);
        check(r#"{"HostConfig":{"Annotations":{}}}"#, 51, &[]);
        check(r#"{"hostconfig":{"annotations":null}}"#, 51, &[]);
        check(r#"{"Healthcheck":{"StartInterval":0}}"#, 51, &[]);
        check(
            r#"{"Healthcheck":{"StartInterval":5}}"#,
            51,
            &["Healthcheck.StartInterval"],
        );
        let mount =
            |options: &str| format!(r#"{{"HostConfig":{{"Mounts":[{{}},{{{options}}}]}}}}"#);
        check(
            &mount(r#""VolumeOptions":{"Subpath":"x"}"#),
            51,
            &["VolumeOptions.Subpath"],
        );
        check(&mount(r#""VolumeOptions":{"Subpath":""}"#), 51, &[]);
        check(
            &mount(r#""BindOptions":{"ReadOnlyNonRecursive":false}"#),
            51,
            &[],
        );
        check(&mount(r#""Type":"image""#), 48, &["a mount of type image"]);
        let endpoint =
            r#"{"NetworkingConfig":{"EndpointsConfig":{"a":{"MacAddress":"","GwPriority":3}}}}"#;
        check(endpoint, 51, &["EndpointSettings.GwPriority"]);
        check("[]", 51, &[]);
    }
}
