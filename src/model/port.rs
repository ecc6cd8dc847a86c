//! Published ports, and when two of them are in each other's way.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A transport that ports are numbered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The transport of this name, as Docker writes it.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "tcp" => Some(Self::Tcp),
            "udp" => Some(Self::Udp),
            "sctp" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// A port of a host that leads into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The transport.
    pub protocol: Protocol,
    /// The address of the host it is bound to; none means all of them.
    pub address: Option<IpAddr>,
    /// The number, never 0: ports are chosen before they are promised.
    pub number: u16,
}

impl PublishedPort {
    /// A port on all addresses; nothing if there is no such transport.
    pub fn on_all(protocol: &str, number: u16) -> Option<Self> {
        Some(Self {
            protocol: Protocol::read(protocol)?,
            address: None,
            number,
        })
    }

    /// Whether both cannot be listened on at one host: the same transport and number, and addresses
    /// that meet. `0.0.0.0` meets every IPv4 address, `::` every IPv6 address, none meets all.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.number == other.number
            && meet(self.address, other.address)
    }
}

fn meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else {
        return true;
    };
    one.is_ipv4() == other.is_ipv4()
        && (one == other || one.is_unspecified() || other.is_unspecified())
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:{}", self.number),
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.number),
            None => write!(f, "{}", self.number),
        }?;
        write!(f, "/{}", self.protocol)
    }
}

/// A published port that a placement holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortClaim {
    /// The port of the host.
    pub port: PublishedPort,
    /// The container's port it leads to.
    pub container_port: u16,
    /// Who chose the number.
    pub origin: PortOrigin,
    /// Containers of one group share the port's entry at the managers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Who chose a port's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortOrigin {
    /// The user: held while the container runs, as an engine does.
    Asked,
    /// We: unique in the pool, and kept until the container is removed.
    Chosen,
    /// The user, while another container of the node held it: its engine decides when this one starts. Not held.
    Waiting,
    /// Nobody: a container on its host's network exposes it, and so may listen there. Others keep away while it runs, and
    /// nothing is refused for it.
    Exposed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_overlap_when_their_addresses_meet() {
        let port = |text: &str| {
            let (address, number) = text.rsplit_once(' ').expect("address and number");
            let (number, protocol) = match number.strip_suffix('u') {
                Some(number) => (number, Protocol::Udp),
                None => (number, Protocol::Tcp),
            };
            PublishedPort {
                protocol,
                address: (address != "*").then(|| address.parse().expect("address")),
                number: number.parse().expect("number"),
            }
        };
        let check = |one, other, overlap| {
            assert_eq!(
                port(one).overlaps(&port(other)),
                overlap,
                "{one} and {other}"
            );
            assert_eq!(
                port(other).overlaps(&port(one)),
                overlap,
                "{other} and {one}"
            );
        };
        check("* 80", "* 80", true);
        check("* 80", "* 81", false);
        check("* 80", "* 80u", false);
        check("* 80", "127.0.0.1 80", true);
        check("* 80", "::1 80", true);
        check("0.0.0.0 80", "127.0.0.1 80", true);
        check("0.0.0.0 80", "::1 80", false);
        check("0.0.0.0 80", ":: 80", false);
        check(":: 80", "::1 80", true);
        check("127.0.0.1 80", "127.0.0.2 80", false);
        check("127.0.0.1 80", "127.0.0.1 80", true);
    }
}
