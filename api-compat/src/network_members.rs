//! `POST /networks/{id}/connect` and `/disconnect`: who is to join or leave, and what an engine is told.
//!
//! Source: Engine 28.5.2, asked; moby `api/server/router/network`.
//!
//! **Invariant**: all that the client sent reaches the engine, but for the ids of the container and of the network.

use crate::create::{kind_of, syntax_error, with_network_id};
use crate::error::ApiError;
use crate::json_edit::{Edit, quote};
use crate::json_view::View;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The container is to join.
    Connect,
    /// The container is to leave.
    Disconnect,
}

/// The container that is to join or leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// `Container`: its name or id.
    pub container: String,
    /// `Force`: it is to leave even if its engine cannot find it.
    pub forced: bool,
}

impl Change {
    /// Reads a body; refuses what every engine refuses, in an engine's words.
    pub fn read(self, body: &[u8]) -> Result<Member, ApiError> {
        let nobody = || ApiError::bad_parameter("invalid name or ID supplied: \"\"");
        if body.is_empty() {
            return Err(nobody());
        }
        let asked = parse(body)?;
        if !asked.is_object() && !asked.is_null() {
            let go_type = match self {
                Self::Connect => "network.ConnectOptions",
                Self::Disconnect => "network.DisconnectOptions",
            };
            return Err(ApiError::bad_parameter(format!(
                "invalid JSON: json: cannot unmarshal {} into Go value of type {go_type}",
                kind_of(asked)
            )));
        }
        let mut objects = [Some(asked), endpoint(asked)].into_iter().flatten();
        if let Some(field) = objects.find_map(|object| object.repeated_field()) {
            return Err(ApiError::bad_parameter(format!(
                "invalid JSON: the field {field} occurs twice"
            )));
        }
        let container = asked.get_folded("Container").and_then(|name| name.str());
        let forced = asked.get_folded("Force").and_then(|force| force.bool());
        Ok(Member {
            container: container
                .filter(|name| !name.is_empty())
                .ok_or_else(nobody)?
                .into_owned(),
            forced: forced == Some(true),
        })
    }
}

/// The body with the ids that an engine knows the container and the network by.
pub fn with_ids(body: &[u8], container: &str, network: &str) -> Result<Vec<u8>, ApiError> {
    let asked = parse(body)?;
    let mut edit = Edit::new(body).map_err(|error| ApiError::bad_parameter(error.to_string()))?;
    if let Some(name) = asked.get_folded("Container") {
        edit.replace(name, quote(container));
    }
    if let Some(endpoint) = endpoint(asked)
        && let Some(told) = with_network_id(endpoint, network)
    {
        edit.replace(endpoint, told);
    }
    Ok(edit.finish())
}

fn parse(body: &[u8]) -> Result<View<'_>, ApiError> {
    View::parse(body).map_err(|error| ApiError::bad_parameter(syntax_error(body, &error)))
}

fn endpoint(asked: View<'_>) -> Option<View<'_>> {
    asked.get_folded("EndpointConfig")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_read_as_an_engine_reads_it() {
        let check = |body: &str, expected: &str| {
            let said = match Change::Connect.read(body.as_bytes()) {
                Ok(Member { container, forced }) => format!("{container} {forced}"),
                Err(error) => error.message,
            };
            assert_eq!(said, expected, "{body}");
        };
        check(r#"{"Container":"db"}"#, "db false");
        check(r#"{"container":"db","force":true}"#, "db true");
        for nobody in ["", "{}", "null", r#"{"Container":""}"#] {
            check(nobody, "invalid name or ID supplied: \"\"");
        }
        check(
            "[]",
            "invalid JSON: json: cannot unmarshal array into Go value of type network.ConnectOptions",
        );
        check(
            r#"{"Container":"a","container":"b"}"#,
            "invalid JSON: the field container occurs twice",
        );
        check("{", "invalid JSON: unexpected EOF");
    }

    #[test]
    fn an_engine_is_told_its_own_ids() {
        let told = |body: &str| {
            let told = with_ids(body.as_bytes(), "c1", "n1").expect("a body");
            String::from_utf8(told).expect("text")
        };
        assert_eq!(
            told(
                r#"{"Container":"db","EndpointConfig":{"NetworkID":"front","Aliases":["x"]},"New":1}"#
            ),
            r#"{"Container":"c1","EndpointConfig":{"NetworkID":"n1","Aliases":["x"]},"New":1}"#
        );
        assert_eq!(told(r#"{"Container":"db"}"#), r#"{"Container":"c1"}"#);
    }
}
