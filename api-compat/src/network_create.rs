//! `POST /networks/create` where no engine is asked: what is read in a body, what is refused at once, what an engine is
//! told later, and what a network that no engine has yet looks like.
//!
//! Source: Engine 28.5.2, asked; moby `daemon/network.go` and `ValidateIPAM`. What only the engine of its node can know
//! (whether a subnet is free there, whether a driver takes its options) is said when the network is made there.
//!
//! **Invariant**: all that the client sent reaches the engine, but for the name, which loses its node.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;

use http::StatusCode;

use crate::create::{kind_of, syntax_error};
use crate::error::ApiError;
use crate::json_edit::{Edit, quote};
use crate::json_view::{Malformed, View};
use crate::{labels, network_options};

/// The driver of a network that names none.
const DEFAULT_DRIVER: &str = "bridge";

/// What is read in a body.
#[derive(Debug, Clone, Default)]
pub struct Create<'a> {
    /// `Name`
    pub name: Cow<'a, str>,
    /// `Driver`; empty for the default one.
    pub driver: Cow<'a, str>,
    /// `ConfigOnly`, or `ConfigFrom`.
    pub is_config: bool,
    /// `Labels`
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The subnets that a host which makes the network looks for in it from then on.
    routed: Vec<Cow<'a, str>>,
}

impl<'a> Create<'a> {
    /// Reads a body; refuses what every engine refuses, in an engine's words.
    pub fn read(body: &'a [u8]) -> Result<Self, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(no_name());
        }
        let root = View::parse(body)
            .map_err(|error| ApiError::bad_parameter(syntax_error(body, &error)))?;
        if root.is_null() {
            return Err(no_name());
        }
        if !root.is_object() {
            return Err(wrong_kind(
                root,
                "value of type network.CreateRequest".to_owned(),
            ));
        }
        let ipam = root.get_folded("IPAM");
        let configs: Vec<_> = ipam
            .and_then(|ipam| ipam.get_folded("Config"))
            .iter()
            .flat_map(View::elements)
            .collect();
        let mut structs = [Some(root), ipam]
            .into_iter()
            .flatten()
            .chain(configs.iter().copied());
        if let Some(field) = structs.find_map(|object| object.repeated_field()) {
            let field = quote(&field);
            return Err(ApiError::bad_parameter(format!(
                "invalid JSON: the field {field} is given twice"
            )));
        }
        let mut create = Self {
            name: text(root, "Name")?,
            driver: text(root, "Driver")?,
            is_config: is_on(root, "ConfigOnly")
                || root.get_folded("ConfigFrom").is_some_and(|from| {
                    from.get_folded("Network")
                        .and_then(|name| name.str())
                        .is_some_and(|name| !name.is_empty())
                }),
            labels: labels(root)?,
            routed: Vec::new(),
        };
        create.check(root)?;
        check_subnets(&configs)?;
        if create.is_config {
            return Ok(create);
        }
        let options = root.get_folded("Options");
        let options: Vec<_> = options.iter().flat_map(View::string_pairs).collect();
        let driver = match &*create.driver {
            "" => DEFAULT_DRIVER,
            driver => driver,
        };
        network_options::check(driver, &options)?;
        if driver == DEFAULT_DRIVER {
            check_families(root, &configs)?;
            if !network_options::inhibits_ipv4(&options) {
                create.routed.extend(configs.iter().filter_map(subnet));
            }
        }
        Ok(create)
    }

    fn check(&self, root: View<'_>) -> Result<(), ApiError> {
        check_name(&self.name)?;
        if matches!(&*self.driver, "host" | "null") {
            return Err(forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                self.driver
            )));
        }
        if is_on(root, "Ingress") {
            return Err(forbidden(
                "Ingress network can only be global scope network".to_owned(),
            ));
        }
        if text(root, "Scope")? == "swarm" {
            return Err(forbidden(
                "cannot create a swarm scoped network when swarm is not active".to_owned(),
            ));
        }
        if is_off(root, "EnableIPv4") && !is_on(root, "EnableIPv6") {
            return Err(ApiError::bad_parameter("IPv4 or IPv6 must be enabled"));
        }
        Ok(())
    }

    /// The asked subnet that holds `address`, if a host that makes the network would look for that address in it: hosts have
    /// a route to what their bridges join.
    pub fn subnet_around(&self, address: IpAddr) -> Option<&str> {
        let mut routed = self.routed.iter().map(|subnet| &**subnet);
        routed.find(|subnet| Block::parse(subnet).is_some_and(|block| block.holds(address)))
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }
}

/// The subnets that a body asks for; none if it leaves them to the engine.
pub fn subnets(body: &[u8]) -> Vec<String> {
    let root = View::parse(body).ok();
    let ipam = root.and_then(|root| root.get_folded("IPAM"));
    let configs = ipam.and_then(|ipam| ipam.get_folded("Config"));
    let all = configs.iter().flat_map(View::elements);
    let asked = all.filter_map(|config| subnet(&config));
    asked
        .filter(|subnet| !subnet.is_empty())
        .map(Cow::into_owned)
        .collect()
}

/// Refuses a name that every engine refuses.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    if name.trim().is_empty() {
        return Err(no_name());
    }
    if matches!(name, "bridge" | "host" | "none" | "default") {
        return Err(forbidden(format!(
            "operation is not permitted on predefined {name} network "
        )));
    }
    Ok(())
}

/// Whether an engine of this `GET /info` has the driver, as far as it says: plugins of a publisher are not in its list.
pub fn knows_driver(info: &[u8], driver: &str) -> bool {
    let is_plain = !driver.contains(['/', ':']);
    let listed = View::parse(info)
        .ok()
        .and_then(|info| info.at(&["Plugins", "Network"]));
    match listed {
        Some(listed) if is_plain && !driver.is_empty() => listed
            .elements()
            .any(|known| known.str().as_deref() == Some(driver)),
        Some(_) | None => true,
    }
}

/// The body that makes the network on an engine: under this name, with these labels beside its own. A second one of the
/// same name is refused by engines old enough to be asked for that.
pub fn for_engine(spec: &[u8], name: &str, added: &[(&str, &str)]) -> Result<Vec<u8>, Malformed> {
    let mut edit = Edit::new(spec)?;
    let root = edit.root();
    put(&mut edit, root, "Name", &quote(name));
    put(&mut edit, root, "CheckDuplicate", "true");
    match root.get_folded("Labels").filter(View::is_object) {
        Some(own) => {
            for (key, value) in added {
                match own.get(key) {
                    Some(given) => edit.replace(given, quote(value)),
                    None => edit.add(own, key, &quote(value)),
                }
            }
        }
        None => {
            let pairs: Vec<_> = added
                .iter()
                .map(|(key, value)| format!("{}:{}", quote(key), quote(value)))
                .collect();
            put(
                &mut edit,
                root,
                "Labels",
                &format!("{{{}}}", pairs.join(",")),
            );
        }
    }
    Ok(edit.finish())
}

fn put<'a>(edit: &mut Edit<'a>, object: View<'a>, field: &str, json: &str) {
    match object.member_folded(field) {
        Some(member) => edit.replace(member.value, json),
        None => edit.add(object, field, json),
    }
}

/// What a network that no engine has looks like: as an engine shows one that nobody has joined.
pub fn shown(
    spec: &[u8],
    name: &str,
    id: impl Display,
    created: impl Display,
) -> Result<String, Malformed> {
    let root = View::parse(spec)?;
    let ipam = root.get_folded("IPAM");
    let json = |object: Option<View<'_>>, field: &str, absent: &str| {
        let value = object.and_then(|object| object.get_folded(field));
        value
            .filter(|value| !value.is_null())
            .map_or_else(|| absent.to_owned(), |value| value.as_json().to_owned())
    };
    let given = |object: Option<View<'_>>, field: &str, absent: &str| {
        let value = object.and_then(|object| object.get_folded(field)?.str());
        quote(
            &value
                .filter(|text| !text.is_empty())
                .unwrap_or(absent.into()),
        )
    };
    let of = |field: &str, absent: &str| json(Some(root), field, absent);
    Ok(format!(
        concat!(
            r#"{{"Name":{},"Id":"{}","Created":"{}","Scope":"local","Driver":{},"EnableIPv4":{},"EnableIPv6":{},"#,
            r#""IPAM":{{"Driver":{},"Options":{},"Config":{}}},"Internal":{},"Attachable":{},"Ingress":false,"#,
            r#""ConfigFrom":{},"ConfigOnly":{},"Containers":{{}},"Options":{},"Labels":{}}}"#
        ),
        quote(name),
        id,
        created,
        given(Some(root), "Driver", DEFAULT_DRIVER),
        of("EnableIPv4", "true"),
        of("EnableIPv6", "false"),
        given(ipam, "Driver", "default"),
        json(ipam, "Options", "null"),
        json(ipam, "Config", "[]"),
        of("Internal", "false"),
        of("Attachable", "false"),
        of("ConfigFrom", r#"{"Network":""}"#),
        of("ConfigOnly", "false"),
        of("Options", "{}"),
        of("Labels", "{}"),
    ))
}

/// The engine's bytes of a network of the cluster, with the id that clients know it by and without our labels.
pub fn with_our_id(network: View<'_>, id: impl Display) -> Result<Vec<u8>, Malformed> {
    let mut edit = Edit::new(network.as_json().as_bytes())?;
    let root = edit.root();
    edit.set(&["Id"], &format!("\"{id}\""));
    if let Some(all) = root.get("Labels") {
        edit.members(all, |name, _| match labels::is_hidden(name) {
            true => crate::json_edit::Change::Drop,
            false => crate::json_edit::Change::Keep,
        });
    }
    Ok(edit.finish())
}

fn no_name() -> ApiError {
    ApiError::bad_parameter("invalid name: name is empty")
}

fn forbidden(message: String) -> ApiError {
    ApiError {
        status: StatusCode::FORBIDDEN,
        message,
    }
}

fn wrong_kind(value: View<'_>, wanted: String) -> ApiError {
    ApiError::bad_parameter(format!(
        "invalid JSON: json: cannot unmarshal {} into Go {wanted}",
        kind_of(value)
    ))
}

fn text<'a>(root: View<'a>, field: &str) -> Result<Cow<'a, str>, ApiError> {
    match root.get_folded(field).filter(|value| !value.is_null()) {
        None => Ok(Cow::Borrowed("")),
        Some(value) => value.str().ok_or_else(|| {
            let place = format!("struct field CreateRequest.{field} of type string");
            wrong_kind(value, place)
        }),
    }
}

fn is_on(root: View<'_>, field: &str) -> bool {
    root.get_folded(field).and_then(|value| value.bool()) == Some(true)
}

fn is_off(root: View<'_>, field: &str) -> bool {
    root.get_folded(field).and_then(|value| value.bool()) == Some(false)
}

type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

fn labels(root: View<'_>) -> Result<Labels<'_>, ApiError> {
    let Some(all) = root.get_folded("Labels").filter(|all| !all.is_null()) else {
        return Ok(Vec::new());
    };
    if !all.is_object() {
        let place = "struct field CreateRequest.Labels of type map[string]string";
        return Err(wrong_kind(all, place.to_owned()));
    }
    let mut labels = Vec::new();
    for label in all.members() {
        let value = label.value.str().ok_or_else(|| {
            let place = format!(
                "struct field CreateRequest.Labels.{} of type string",
                label.key
            );
            wrong_kind(label.value, place)
        })?;
        labels.push((label.key, value));
    }
    Ok(labels)
}

/// A block of addresses as it was written: its address need not be its first.
struct Block {
    address: IpAddr,
    bits: u32,
}

impl Block {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let block = Self {
            address: address.parse().ok()?,
            bits: bits.parse().ok()?,
        };
        (block.bits <= width(block.address)).then_some(block)
    }

    fn first(&self) -> IpAddr {
        masked(self.address, self.bits)
    }

    fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.bits) == self.first()
    }
}

const fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

fn subnet<'a>(config: &View<'a>) -> Option<Cow<'a, str>> {
    config.get_folded("Subnet")?.str()
}

/// A bridge has one subnet of each family.
fn check_families(root: View<'_>, configs: &[View<'_>]) -> Result<(), ApiError> {
    let count = |is_wanted: fn(IpAddr) -> bool| {
        let blocks = configs
            .iter()
            .filter_map(|config| Block::parse(&subnet(config)?));
        blocks.filter(|block| is_wanted(block.address)).count()
    };
    let (fours, sixes) = (
        count(|address| address.is_ipv4()),
        count(|address| address.is_ipv6()),
    );
    let is_too_many =
        !is_off(root, "EnableIPv4") && fours > 1 || is_on(root, "EnableIPv6") && sixes > 1;
    match is_too_many {
        true => Err(forbidden(
            "bridge driver doesn't support multiple subnets".to_owned(),
        )),
        false => Ok(()),
    }
}

/// Whether the asked subnets make sense; an engine names everything that does not.
fn check_subnets(configs: &[View<'_>]) -> Result<(), ApiError> {
    let wrong: Vec<_> = configs.iter().flat_map(|config| faults(*config)).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let all = match wrong.as_slice() {
        [one] => one.clone(),
        several => {
            let several: Vec<_> = several.iter().map(|one| format!("* {one}")).collect();
            several.join("\n")
        }
    };
    Err(ApiError::bad_parameter(format!(
        "invalid network config:\n{all}"
    )))
}

fn faults(config: View<'_>) -> Vec<String> {
    let text = |field| {
        let value = config.get_folded(field).and_then(|value| value.str());
        value.filter(|text| !text.is_empty())
    };
    let subnet = text("Subnet").unwrap_or_default();
    let Some(block) = Block::parse(&subnet) else {
        return vec![format!(
            "invalid subnet {subnet}: invalid CIDR block notation"
        )];
    };
    let mut wrong = Vec::new();
    if block.first() != block.address {
        let right = format!("{}/{}", block.first(), block.bits);
        wrong.push(format!("invalid subnet {subnet}: it should be {right}"));
    }
    if let Some(range) = text("IPRange") {
        match Block::parse(&range) {
            None => wrong.push(format!(
                "invalid ip-range {range}: invalid CIDR block notation"
            )),
            Some(inner) if inner.bits < block.bits || !block.holds(inner.address) => {
                wrong.push(format!(
                    "invalid ip-range {range}: parent subnet {subnet} doesn't contain ip-range"
                ))
            }
            Some(_) => {}
        }
    }
    if let Some(gateway) = text("Gateway") {
        match gateway.parse() {
            Err(_) => wrong.push(format!("invalid gateway {gateway}: invalid address")),
            Ok(address) if !block.holds(address) => wrong.push(format!(
                "invalid gateway {gateway}: parent subnet {subnet} doesn't contain this address"
            )),
            Ok(_) => {}
        }
    }
    let auxiliary = config.get_folded("AuxiliaryAddresses");
    for (name, address) in auxiliary.iter().flat_map(View::string_pairs) {
        match address.parse() {
            Err(_) => wrong.push(format!("invalid auxiliary address {name}: invalid address")),
            Ok(address) if !block.holds(address) => wrong.push(format!(
                "invalid auxiliary address {name}: parent subnet {subnet} doesn't contain this address"
            )),
            Ok(_) => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn refused(body: &str, expected: &str) {
        let said = Create::read(body.as_bytes()).map_or_else(
            |error| format!("{} {}", error.status.as_u16(), error.message),
            |create| format!("read {}", create.name),
        );
        assert_eq!(said, expected, "{body}");
    }

    #[test]
    fn the_subnets_that_are_asked_for_are_read() {
        let check = |ipam: &str, expected: &[&str]| {
            let body = format!(r#"{{"Name":"x","IPAM":{ipam}}}"#);
            assert_eq!(subnets(body.as_bytes()), expected, "{ipam}");
        };
        check("null", &[]);
        check(r#"{"Config":[{"Subnet":""}]}"#, &[]);
        check(r#"{"Config":[{"Gateway":"10.0.0.1"}]}"#, &[]);
        let both = r#"{"config":[{"subnet":"10.0.0.0/8"},{"Subnet":"fd00::/64"}]}"#;
        check(both, &["10.0.0.0/8", "fd00::/64"]);
    }

    /// Each as Engine 28.5.2 said it.
    #[test]
    fn what_every_engine_refuses_is_refused_in_its_words() {
        for empty in ["", "{}", r#"{"Name":""}"#] {
            refused(empty, "400 invalid name: name is empty");
        }
        refused("{", "400 invalid JSON: unexpected EOF");
        refused(
            "[]",
            "400 invalid JSON: json: cannot unmarshal array into Go value of type network.CreateRequest",
        );
        refused(
            r#"{"Name":1}"#,
            "400 invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Name of type string",
        );
        refused(
            r#"{"Name":"x","Labels":{"a":1}}"#,
            "400 invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Labels.a of type string",
        );
        for name in ["bridge", "host", "none", "default"] {
            refused(
                &format!(r#"{{"Name":"{name}"}}"#),
                &format!("403 operation is not permitted on predefined {name} network "),
            );
        }
        refused(
            r#"{"Name":"x","Driver":"host"}"#,
            "403 only one instance of \"host\" network is allowed",
        );
        refused(
            r#"{"Name":"x","Scope":"swarm"}"#,
            "403 cannot create a swarm scoped network when swarm is not active",
        );
        refused(
            r#"{"Name":"x","Ingress":true}"#,
            "403 Ingress network can only be global scope network",
        );
        refused(
            r#"{"Name":"x","EnableIPv4":false}"#,
            "400 IPv4 or IPv6 must be enabled",
        );
        let with = |config: &str| format!(r#"{{"Name":"x","IPAM":{{"Config":[{config}]}}}}"#);
        let invalid = "400 invalid network config:\n";
        for (config, said) in [
            (
                r#"{"Subnet":"nonsense"}"#,
                "invalid subnet nonsense: invalid CIDR block notation",
            ),
            ("{}", "invalid subnet : invalid CIDR block notation"),
            (
                r#"{"Subnet":"10.9.0.1/24"}"#,
                "invalid subnet 10.9.0.1/24: it should be 10.9.0.0/24",
            ),
            (
                r#"{"Subnet":"10.9.0.1/24","Gateway":"x"}"#,
                "* invalid subnet 10.9.0.1/24: it should be 10.9.0.0/24\n* invalid gateway x: invalid address",
            ),
            (
                r#"{"Subnet":"10.9.0.0/24","Gateway":"10.8.0.1"}"#,
                "invalid gateway 10.8.0.1: parent subnet 10.9.0.0/24 doesn't contain this address",
            ),
            (
                r#"{"Subnet":"10.9.0.0/24","IPRange":"10.8.0.0/25"}"#,
                "invalid ip-range 10.8.0.0/25: parent subnet 10.9.0.0/24 doesn't contain ip-range",
            ),
            (
                r#"{"Subnet":"10.9.0.0/24","AuxiliaryAddresses":{"x":"10.8.0.1","y":"foo","z":"10.9.0.2"}}"#,
                "* invalid auxiliary address x: parent subnet 10.9.0.0/24 doesn't contain this address\n* invalid auxiliary address y: invalid address",
            ),
        ] {
            refused(&with(config), &format!("{invalid}{said}"));
        }
        for fine in [
            r#"{"Subnet":"10.9.0.0/24","Gateway":"10.9.0.1","IPRange":"10.9.0.128/25"}"#,
            r#"{"Subnet":"fd00::/64"},{"Subnet":"0.0.0.0/0"}"#,
            "",
        ] {
            refused(&with(fine), "read x");
        }
        for (families, config, said) in [
            (
                "",
                r#"{"Subnet":"10.9.0.0/24"},{"Subnet":"10.8.0.0/24"}"#,
                true,
            ),
            (
                r#""Driver":"bridge","#,
                r#"{"Subnet":"10.9.0.0/24"},{"Subnet":"10.8.0.0/24"}"#,
                true,
            ),
            (
                r#""Driver":"macvlan","#,
                r#"{"Subnet":"10.9.0.0/24"},{"Subnet":"10.8.0.0/24"}"#,
                false,
            ),
            (
                r#""EnableIPv6":true,"#,
                r#"{"Subnet":"fd00:1::/64"},{"Subnet":"fd00:2::/64"}"#,
                true,
            ),
            (
                r#""EnableIPv6":true,"#,
                r#"{"Subnet":"fd00:1::/64"},{"Subnet":"10.9.0.0/24"}"#,
                false,
            ),
        ] {
            let body = format!(r#"{{"Name":"x",{families}"IPAM":{{"Config":[{config}]}}}}"#);
            let several = "403 bridge driver doesn't support multiple subnets";
            refused(&body, if said { several } else { "read x" });
        }
        refused(
            r#"{"Name":"x","Options":{"com.docker.network.driver.mtu":"-1"}}"#,
            "400 invalid MTU number: -1",
        );
        for name in ["a b", "a/b", "/x", " s ", "container:x"] {
            refused(&format!(r#"{{"name":"{name}"}}"#), &format!("read {name}"));
        }
    }

    #[test]
    fn a_bridge_takes_the_addresses_of_its_subnets_from_its_host() {
        #[track_caller]
        fn check(rest: &str, address: &str, expected: Option<&str>) {
            let body = format!(
                r#"{{"Name":"x",{rest}"EnableIPv6":true,"IPAM":{{"Config":[{{"Subnet":"10.9.0.0/24"}},{{"Subnet":"fd00:1::/64"}}]}}}}"#
            );
            let create = Create::read(body.as_bytes()).expect("fine");
            let address = address.parse().expect("an address");
            assert_eq!(create.subnet_around(address), expected, "{rest} {address}");
        }
        check("", "10.9.0.7", Some("10.9.0.0/24"));
        check("", "fd00:1::7", Some("fd00:1::/64"));
        check("", "10.9.1.7", None);
        check(r#""Driver":"macvlan","#, "10.9.0.7", None);
        check(r#""ConfigOnly":true,"#, "10.9.0.7", None);
        let inhibited = r#""Options":{"com.docker.network.bridge.inhibit_ipv4":"true"},"#;
        check(inhibited, "10.9.0.7", None);
    }

    #[test]
    fn a_driver_is_known_that_an_engine_lists() {
        let info = br#"{"Plugins":{"Network":["bridge","macvlan"]}}"#;
        for (driver, known) in [
            ("", true),
            ("macvlan", true),
            ("nosuch", false),
            ("a/b", true),
        ] {
            assert_eq!(knows_driver(info, driver), known, "{driver}");
        }
        assert!(knows_driver(b"", "nosuch"));
    }

    #[test]
    fn a_field_that_stands_twice_is_refused() {
        refused(
            r#"{"Name":"x","name":"y"}"#,
            "400 invalid JSON: the field \"name\" is given twice",
        );
    }

    #[test]
    fn an_engine_is_told_all_that_was_sent_and_whose_it_is() {
        #[track_caller]
        fn check(spec: &str, expected: &str) {
            let told = for_engine(spec.as_bytes(), "x", &[("l", "1")]).expect("JSON");
            assert_eq!(String::from_utf8(told).expect("text"), expected);
        }
        check(
            r#"{"name":"n1/x", "Labels":{"a":"b"},"New":[1.50]}"#,
            r#"{"name":"x", "Labels":{"a":"b","l":"1"},"New":[1.50],"CheckDuplicate":true}"#,
        );
        check(
            r#"{"Name":"x","CheckDuplicate":false,"Labels":null}"#,
            r#"{"Name":"x","CheckDuplicate":true,"Labels":{"l":"1"}}"#,
        );
        check(
            r#"{"Name":"x","Labels":{"l":"other"}}"#,
            r#"{"Name":"x","Labels":{"l":"1"},"CheckDuplicate":true}"#,
        );
    }

    #[test]
    fn one_that_no_engine_has_looks_like_one_that_nobody_has_joined() {
        let text =
            |spec: &str| shown(spec.as_bytes(), "x", "id", "2024-11-07T17:20:00Z").expect("JSON");
        assert_eq!(
            text(r#"{"Name":"x"}"#),
            concat!(
                r#"{"Name":"x","Id":"id","Created":"2024-11-07T17:20:00Z","Scope":"local","Driver":"bridge","#,
                r#""EnableIPv4":true,"EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"Config":[]},"#,
                r#""Internal":false,"Attachable":false,"Ingress":false,"ConfigFrom":{"Network":""},"ConfigOnly":false,"#,
                r#""Containers":{},"Options":{},"Labels":{}}"#
            )
        );
        let asked = text(
            r#"{"driver":"macvlan","EnableIPv6":true,"IPAM":{"Driver":"","Config":[{"Subnet":"10.9.0.0/24"}]},"Labels":{"a":"b"}}"#,
        );
        for part in [
            r#""Driver":"macvlan""#,
            r#""EnableIPv6":true"#,
            r#""IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":"10.9.0.0/24"}]}"#,
            r#""Labels":{"a":"b"}"#,
        ] {
            assert!(asked.contains(part), "{asked} lacks {part}");
        }
    }

    #[test]
    fn an_engines_network_is_shown_with_our_id_and_without_our_labels() {
        let theirs = r#"{"Name":"x","Id":"e1","Labels":{"com.flotilla.network":"n","a":"b","com.flotilla.cluster":"c"}}"#;
        let view = View::parse(theirs.as_bytes()).expect("JSON");
        assert_eq!(
            String::from_utf8(with_our_id(view, "ours").expect("JSON")).expect("text"),
            r#"{"Name":"x","Id":"ours","Labels":{"a":"b"}}"#
        );
    }

    proptest! {
        #[test]
        fn no_body_breaks_it(text in "[\\[\\]{}\",:0a/.]{0,30}", at in 0usize..90, bits in 0u32..200) {
            let body = r#"{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.0/24","Gateway":"10.9.0.1"}]},"Labels":{"a":"b"}}"#;
            let mut broken = body.to_owned();
            broken.insert_str(at.min(body.len()), &text);
            if Create::read(broken.as_bytes()).is_ok() {
                let told = for_engine(broken.as_bytes(), "y", &[("l", "1")]).expect("well-formed");
                prop_assert!(View::parse(&told).is_ok());
                prop_assert!(View::parse(shown(broken.as_bytes(), "y", 1, 2).expect("well-formed").as_bytes()).is_ok());
            }
            let config = format!(r#"{{"Name":"x","IPAM":{{"Config":[{{"Subnet":"fd00::1/{bits}"}}]}}}}"#);
            let _ = Create::read(config.as_bytes());
        }
    }
}
