//! Generic resources: what a host has a number of beside CPU and memory, such as GPUs.
//!
//! Docker has two spellings. `docker run --gpus` sends `DeviceRequests`, which name capabilities and a count; an engine
//! that was started with `--node-generic-resource gpu=2` tells of `GenericResources`, by kind. Both are read as numbers by
//! name. Beside them a label of ours, [`PREFIX`] and a name, states a number: of a container what it claims, of a node what
//! it has.
//!
//! Source: moby 28.5.2 `daemon/devices.go`, `daemon/nvidia_linux.go`, `daemon/cdi.go`, `api/types/swarm/task.go`; docker/cli
//! `opts/gpus.go`.
//!
//! **Invariant**: amounts are at most `u32::MAX`, so that sums of many of them fit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::ApiError;
use crate::json_view::View;

/// What such labels begin with; the resource's name follows.
pub const PREFIX: &str = "com.flotilla.resource.";
/// The name of what `--gpus` asks for.
pub const GPU: &str = "gpu";
/// The driver whose device ids are names such as `nvidia.com/gpu=0`.
const CDI: &str = "cdi";
/// How a user asks for all that a node has.
const ALL: &str = "all";

/// How much of a resource a container claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    /// So much.
    Count(u32),
    /// All that its node has.
    All,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        match (self, other) {
            (Self::Count(one), Self::Count(other)) => Self::Count(one.saturating_add(other)),
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }

    /// Reads a number, or `all`.
    fn read(text: &str) -> Option<Self> {
        if text == ALL {
            return Some(Self::All);
        }
        text.parse().ok().map(Self::Count)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::All => f.write_str(ALL),
        }
    }
}

/// What a container claims, by name; what it claims nothing of is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes(BTreeMap<String, Amount>);

impl Wishes {
    /// What a container claims: by its labels, else by its `HostConfig`. Fails if a label states no amount.
    pub fn of_create<'a>(
        host: Option<View<'_>>,
        labels: impl IntoIterator<Item = (Cow<'a, str>, Cow<'a, str>)>,
    ) -> Result<Self, ApiError> {
        let mut wishes = host.map(Self::of_devices).unwrap_or_default();
        for (key, value) in labels {
            let Some(name) = resource(&key) else { continue };
            let amount = Amount::read(value.trim()).ok_or_else(|| {
                ApiError::bad_parameter(format!(
                    "label {key}: {} is no amount: give a number, or {ALL}",
                    crate::go_text::quote(&value)
                ))
            })?;
            wishes.set(name, amount);
        }
        Ok(wishes)
    }

    /// What a container that exists claims, as its inspect has it; a label that states no amount counts for nothing.
    pub fn of_inspect(inspect: View<'_>) -> Self {
        let mut wishes = inspect
            .get("HostConfig")
            .map(Self::of_devices)
            .unwrap_or_default();
        let labels = inspect.at(&["Config", "Labels"]);
        for (key, value) in labels.iter().flat_map(View::string_pairs) {
            if let (Some(name), Some(amount)) = (resource(&key), Amount::read(value.trim())) {
                wishes.set(name, amount);
            }
        }
        wishes
    }

    /// What `HostConfig.DeviceRequests` ask for. Requests that are neither for GPUs nor for named devices ask for nothing
    /// that could be counted.
    fn of_devices(host: View<'_>) -> Self {
        let mut wishes = Self::default();
        let requests = host.get_folded("DeviceRequests");
        for request in requests.iter().flat_map(View::elements) {
            let ids = request.get_folded("DeviceIDs");
            let ids = ids.iter().flat_map(View::elements);
            let ids: BTreeSet<_> = ids.filter_map(|id| id.str()).collect();
            let driver = request.get_folded("Driver").and_then(|it| it.str());
            if driver.is_some_and(|driver| driver == CDI) {
                for (name, amount) in ids.iter().filter_map(|id| of_cdi(id)) {
                    wishes.add(name, amount);
                }
            } else if is_for_gpus(request) {
                let count = request.get_folded("Count").and_then(|count| count.i64());
                wishes.add(GPU, counted(ids.len(), count.unwrap_or_default()));
            }
        }
        wishes
    }

    /// Adds to what is claimed of a resource.
    pub fn add(&mut self, name: &str, amount: Amount) {
        let sum = self.0.get(name).map_or(amount, |was| was.plus(amount));
        self.set(name, sum);
    }

    fn set(&mut self, name: &str, amount: Amount) {
        if amount == Amount::Count(0) {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_owned(), amount);
        }
    }

    /// Whether something of it is claimed.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Leaves out those whose names will not do.
    pub fn retain(&mut self, will_do: impl Fn(&str) -> bool) {
        self.0.retain(|name, _| will_do(name));
    }

    /// Names and amounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Amount)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Whether nothing is claimed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The resource that a label is about.
pub fn resource(label: &str) -> Option<&str> {
    label.strip_prefix(PREFIX).filter(|name| !name.is_empty())
}

/// Whether one of the sets of capabilities, any of which will do, has GPUs in it.
fn is_for_gpus(request: View<'_>) -> bool {
    let sets = request.get_folded("Capabilities");
    let mut wanted = sets
        .iter()
        .flat_map(View::elements)
        .flat_map(|set| set.elements());
    wanted.any(|capability| capability.str().is_some_and(|it| it == GPU))
}

/// Devices that are named count one each; else a count below zero means all.
fn counted(ids: usize, count: i64) -> Amount {
    if ids > 0 {
        return Amount::Count(u32::try_from(ids).unwrap_or(u32::MAX));
    }
    match count {
        ..0 => Amount::All,
        count => Amount::Count(u32::try_from(count).unwrap_or(u32::MAX)),
    }
}

/// `nvidia.com/gpu=0` is one `gpu`.
fn of_cdi(id: &str) -> Option<(&str, Amount)> {
    let (kind, device) = id.split_once('=')?;
    let (_, class) = kind.rsplit_once('/')?;
    let amount = match device {
        ALL => Amount::All,
        _ => Amount::Count(1),
    };
    Some((class, amount))
}

/// What an engine says that its host has: `GenericResources` of its `/info`. Each that has a name of its own counts one.
pub fn offered(info: View<'_>) -> BTreeMap<String, u32> {
    let mut offered: BTreeMap<String, u32> = BTreeMap::new();
    let resources = info.get("GenericResources");
    for resource in resources.iter().flat_map(View::elements) {
        let named = resource.get("NamedResourceSpec").map(|spec| (spec, 1));
        let discrete = resource.get("DiscreteResourceSpec").map(|spec| {
            let count = u32::try_from(spec.int_of("Value").max(0));
            (spec, count.unwrap_or(u32::MAX))
        });
        for (spec, count) in named.into_iter().chain(discrete) {
            let all = offered
                .entry(spec.text_of("Kind").into_owned())
                .or_default();
            *all = all.saturating_add(count);
        }
    }
    offered
}

/// What the labels of a node say that it has; what is no number says nothing.
pub fn stated(labels: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, u32)> {
    let ours = labels.range(PREFIX.to_owned()..);
    ours.take_while(|(key, _)| key.starts_with(PREFIX))
        .filter_map(|(key, value)| Some((resource(key)?, value.trim().parse().ok()?)))
}

/// Refuses a label of a node that would state what it has, and states no number.
pub fn check_stated(key: &str, value: &str) -> Result<(), ApiError> {
    let is_number = || value.trim().parse::<u32>().is_ok();
    if resource(key).is_none() || is_number() {
        return Ok(());
    }
    Err(ApiError::bad_parameter(format!(
        "label {key} says how many of them a node has, and {} is no number",
        crate::go_text::quote(value)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(wishes: &Wishes) -> String {
        let all = wishes
            .iter()
            .map(|(name, amount)| format!("{name} {amount}"));
        all.collect::<Vec<_>>().join(", ")
    }

    #[track_caller]
    fn check(requests: &str, labels: &[(&'static str, &'static str)], expected: &str) {
        let host = format!(r#"{{"DeviceRequests":{requests}}}"#);
        let view = View::parse(host.as_bytes()).expect("JSON");
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()));
        let said = match Wishes::of_create(Some(view), labels) {
            Ok(wishes) => shown(&wishes),
            Err(error) => error.message,
        };
        assert_eq!(said, expected, "{requests}");
    }

    #[test]
    fn devices_are_counted_by_name() {
        let gpus = |rest: &str| format!(r#"[{{"Driver":"",{rest},"Capabilities":[["gpu"]]}}]"#);
        check("null", &[], "");
        check("[]", &[], "");
        check("{}", &[], "");
        // `--gpus all`, `--gpus 2`, `--gpus device=0,1`
        check(&gpus(r#""Count":-1,"DeviceIDs":null"#), &[], "gpu all");
        check(&gpus(r#""Count":2,"DeviceIDs":null"#), &[], "gpu 2");
        check(
            &gpus(r#""Count":0,"DeviceIDs":["0","1","0"]"#),
            &[],
            "gpu 2",
        );
        check(&gpus(r#""Count":0,"DeviceIDs":[]"#), &[], "");
        check(&gpus(r#""Count":99999999999"#), &[], "gpu 4294967295");
        check(&gpus(r#""count":1,"deviceids":null"#), &[], "gpu 1");
        check(
            r#"[{"Count":1,"Capabilities":[["tpu"],["gpu","utility"]]},{"Count":2,"Capabilities":[["gpu"]]}]"#,
            &[],
            "gpu 3",
        );
        check(
            r#"[{"Driver":"x","Count":1,"Capabilities":[["tpu"]]}]"#,
            &[],
            "",
        );
        // `--device nvidia.com/gpu=0`
        check(
            r#"[{"Driver":"cdi","DeviceIDs":["nvidia.com/gpu=0","nvidia.com/gpu=1","x.org/card=all","odd"]}]"#,
            &[],
            "card all, gpu 2",
        );
    }

    #[test]
    fn a_label_goes_before_a_device_request() {
        let all = r#"[{"Count":-1,"Capabilities":[["gpu"]]}]"#;
        let label = |value| [("com.flotilla.resource.gpu", value)];
        check(all, &label("1"), "gpu 1");
        check(all, &label("0"), "");
        check("[]", &label(" all "), "gpu all");
        check(
            "[]",
            &[
                ("com.flotilla.resource.fpga", "3"),
                ("com.flotilla.resource.", "x"),
                ("gpu", "7"),
            ],
            "fpga 3",
        );
        for wrong in ["", "-1", "1.5", "many", "4294967296"] {
            let said = format!(
                "label com.flotilla.resource.gpu: \"{wrong}\" is no amount: give a number, or all"
            );
            check("[]", &label(wrong), &said);
        }
    }

    #[test]
    fn what_exists_is_read_leniently() {
        let read = |json: &str| {
            shown(&Wishes::of_inspect(
                View::parse(json.as_bytes()).expect("JSON"),
            ))
        };
        assert_eq!(read("{}"), "");
        assert_eq!(
            read(
                r#"{"HostConfig":{"DeviceRequests":[{"Count":2,"Capabilities":[["gpu"]]}]},
                    "Config":{"Labels":{"com.flotilla.resource.fpga":"1","com.flotilla.resource.odd":"x"}}}"#
            ),
            "fpga 1, gpu 2"
        );
    }

    #[test]
    fn an_engine_offers_numbers_and_names() {
        let read =
            |json: &str| format!("{:?}", offered(View::parse(json.as_bytes()).expect("JSON")));
        assert_eq!(read(r#"{"GenericResources":null}"#), "{}");
        assert_eq!(
            read(
                r#"{"GenericResources":[{"DiscreteResourceSpec":{"Kind":"ssd","Value":3}},
                    {"NamedResourceSpec":{"Kind":"gpu","Value":"UUID1"}},
                    {"NamedResourceSpec":{"Kind":"gpu","Value":"UUID2"}}]}"#
            ),
            r#"{"gpu": 2, "ssd": 3}"#
        );
    }

    #[test]
    fn labels_of_a_node_state_numbers() {
        let labels = [
            ("com.flotilla.resource.fpga", "2"),
            ("com.flotilla.resource.gpu", "none"),
            ("com.flotilla.resource.ssd", " 0 "),
            ("com.flotilla.slots", "3"),
            ("zone", "b"),
        ];
        let labels = labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        assert_eq!(
            stated(&labels).collect::<Vec<_>>(),
            [("fpga", 2), ("ssd", 0)]
        );
        let said = check_stated("com.flotilla.resource.gpu", "all").map_err(|error| error.message);
        assert_eq!(
            said,
            Err(
                "label com.flotilla.resource.gpu says how many of them a node has, and \"all\" is no number"
                    .to_owned()
            )
        );
        for (key, value) in [("com.flotilla.resource.gpu", "4"), ("zone", "all")] {
            assert_eq!(
                check_stated(key, value).map_err(|error| error.message),
                Ok(())
            );
        }
    }
}
