//! What the drivers of networks refuse among their options, which are all texts.
//!
//! Source: Engine 28.5.2, asked; moby `drivers/bridge` and `drivers/macvlan`, `drivers/ipvlan`. What depends on the host
//! (whether an interface is there, say) is left to its engine.
//!
//! **Invariant**: what an engine takes is not refused.

use std::borrow::Cow;
use std::net::IpAddr;

use http::StatusCode;

use crate::error::ApiError;
use crate::go_text::{parse_bool, parse_int, quote};

/// The options as they were sent.
pub(crate) type Options<'a> = [(Cow<'a, str>, Cow<'a, str>)];

const MTU: &str = "com.docker.network.driver.mtu";
const INHIBIT_IPV4: &str = "com.docker.network.bridge.inhibit_ipv4";

/// Refuses the first option that an engine refuses.
pub(crate) fn check(driver: &str, options: &Options<'_>) -> Result<(), ApiError> {
    for (name, value) in options {
        check_any_drivers(name, value)?;
    }
    for (name, value) in options {
        match driver {
            "bridge" => check_bridges(name, value)?,
            "macvlan" | "ipvlan" => check_vlans(driver, name, value)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether a bridge is to have no IPv4 address on its host.
pub(crate) fn inhibits_ipv4(options: &Options<'_>) -> bool {
    let mut all = options.iter();
    let wished = all.find(|(name, _)| name == INHIBIT_IPV4);
    wished.is_some_and(|(_, value)| parse_bool(value) == Ok(true))
}

fn check_any_drivers(name: &str, value: &str) -> Result<(), ApiError> {
    let is_switch = matches!(
        name,
        "com.docker.network.enable_ipv4" | "com.docker.network.enable_ipv6"
    );
    if is_switch && parse_bool(value).is_err() {
        let name = quote(name);
        return Err(ApiError::bad_parameter(format!(
            "driver-opt {name} is not a valid bool"
        )));
    }
    Ok(())
}

fn check_bridges(name: &str, value: &str) -> Result<(), ApiError> {
    let bad = |why: String| {
        ApiError::bad_parameter(format!("failed to parse {name} value: {value} ({why})"))
    };
    match name {
        MTU => {
            let mtu = parse_int(value).map_err(|error| bad(error.with_function("strconv.Atoi")))?;
            if mtu < 0 {
                return Err(ApiError::bad_parameter(format!(
                    "invalid MTU number: {mtu}"
                )));
            }
        }
        "com.docker.network.bridge.enable_icc"
        | "com.docker.network.bridge.enable_ip_masquerade"
        | "com.docker.network.bridge.default_bridge"
        | INHIBIT_IPV4 => {
            parse_bool(value).map_err(|error| bad(error.with_function("strconv.ParseBool")))?;
        }
        "com.docker.network.bridge.host_binding_ipv4"
        | "com.docker.network.host_ipv4"
        | "com.docker.network.host_ipv6"
            if value.parse::<IpAddr>().is_err() =>
        {
            return Err(bad("nil ip".to_owned()));
        }
        "com.docker.network.bridge.gateway_mode_ipv4"
        | "com.docker.network.bridge.gateway_mode_ipv6"
            if !matches!(value, "nat" | "nat-unprotected" | "routed" | "isolated") =>
        {
            return Err(bad(format!("unknown gateway mode {value}")));
        }
        _ => {}
    }
    Ok(())
}

fn check_vlans(driver: &str, name: &str, value: &str) -> Result<(), ApiError> {
    let (known, default): (&[&str], _) = match name {
        "macvlan_mode" if driver == "macvlan" => (
            &["", "bridge", "passthru", "private", "vepa"],
            "'bridge' mode",
        ),
        "ipvlan_mode" if driver == "ipvlan" => (&["", "l2", "l3", "l3s"], "'l2' mode"),
        "ipvlan_flag" if driver == "ipvlan" => (&["", "bridge", "private", "vepa"], "'bridge'"),
        _ => return Ok(()),
    };
    if known.contains(&value) {
        return Ok(());
    }
    let what = name.replace('_', " ");
    Err(ApiError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: format!(
            "requested {what} '{value}' is not valid, {default} is the {driver} driver default"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each as Engine 28.5.2 said it.
    #[test]
    fn what_a_driver_refuses_is_refused_in_its_words() {
        #[track_caller]
        fn check(driver: &str, name: &str, value: &str, expected: &str) {
            let said = super::check(driver, &[(name.into(), value.into())]);
            let said = said.map_or_else(
                |error| format!("{} {}", error.status.as_u16(), error.message),
                |()| "taken".to_owned(),
            );
            assert_eq!(said, expected, "{driver} {name}={value}");
        }
        let bridge = |name: &str, value: &str, why: &str| {
            let name = format!("com.docker.network.{name}");
            let expected = match why {
                "" => "taken".to_owned(),
                why => format!("400 failed to parse {name} value: {value} ({why})"),
            };
            check("bridge", &name, value, &expected);
        };
        let not_a = |function: &str, value: &str| {
            format!("strconv.{function}: parsing \"{value}\": invalid syntax")
        };
        for value in ["abc", "1.5", ""] {
            bridge("driver.mtu", value, &not_a("Atoi", value));
        }
        bridge("driver.mtu", "0", "");
        check("bridge", MTU, "-1", "400 invalid MTU number: -1");
        for name in [
            "enable_icc",
            "enable_ip_masquerade",
            "default_bridge",
            "inhibit_ipv4",
        ] {
            let name = format!("bridge.{name}");
            for value in ["not a", "", "yes"] {
                bridge(&name, value, &not_a("ParseBool", value));
            }
            bridge(&name, "T", "");
        }
        bridge("bridge.host_binding_ipv4", "x", "nil ip");
        bridge("host_ipv6", "foo", "nil ip");
        bridge("host_ipv4", "192.0.2.1", "");
        bridge(
            "bridge.gateway_mode_ipv4",
            "foo",
            "unknown gateway mode foo",
        );
        bridge("bridge.gateway_mode_ipv6", "", "unknown gateway mode ");
        bridge("bridge.gateway_mode_ipv4", "routed", "");
        bridge("bridge.host_binding_ipv6", "x", "");
        check("bridge", "nosuch", "x", "taken");
        for driver in ["bridge", "macvlan", "theirs"] {
            let name = "com.docker.network.enable_ipv6";
            let said = "400 driver-opt \"com.docker.network.enable_ipv6\" is not a valid bool";
            check(driver, name, "foo", said);
            check(driver, name, "true", "taken");
        }
        check(
            "macvlan",
            "macvlan_mode",
            "foo",
            "500 requested macvlan mode 'foo' is not valid, 'bridge' mode is the macvlan driver default",
        );
        check("macvlan", "macvlan_mode", "", "taken");
        check("ipvlan", "macvlan_mode", "foo", "taken");
        check(
            "ipvlan",
            "ipvlan_mode",
            "foo",
            "500 requested ipvlan mode 'foo' is not valid, 'l2' mode is the ipvlan driver default",
        );
        check(
            "ipvlan",
            "ipvlan_flag",
            "foo",
            "500 requested ipvlan flag 'foo' is not valid, 'bridge' is the ipvlan driver default",
        );
        check("ipvlan", "ipvlan_mode", "l3s", "taken");
        check("theirs", MTU, "abc", "taken");
    }
}
