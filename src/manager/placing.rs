//! Puts before the scheduler what it decides on: the request in the cluster's terms, and each node as it is
//! promised and observed right now.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use api_compat::create::{Create, HostPort, NetworkMode, Wanted, exposed_ports};
use api_compat::image_ref::ImageRef;
use api_compat::labels;
use api_compat::platform;

use super::networks::Joins;
use super::{CreateOrder, Error, Manager};
use crate::clock;
use crate::engine::{Container, Found, Host};
use crate::model::{
    NodeId, Platform, PortClaim, PortOrigin, Protocol, PublishedPort, RequestId, Resources,
};
use crate::scheduler::{Pin, Refusal, Request, Strategy};
use crate::state::{Cluster, RandomPorts};

/// Where a container goes, and the host ports it holds there.
#[derive(Debug)]
pub(super) struct Choice {
    /// The node.
    pub(super) host: Arc<Host>,
    /// Ports with numbers, free on that node.
    pub(super) ports: Vec<PortClaim>,
    /// Those of them whose numbers were chosen here.
    pub(super) numbers: Vec<Number>,
    /// The networks of the cluster that it joins.
    pub(super) joins: Joins,
}

/// A number that was chosen for a port of the host, and where in the create's body it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    /// The key in `PortBindings`.
    pub(super) key: String,
    /// Which of its bindings; none if the port has no binding of its own yet.
    pub(super) index: Option<usize>,
    /// The number.
    pub(super) number: u16,
}

impl Manager {
    /// Chooses a node for the order; nodes in `not_on` are left out. The decision is remembered for `named`.
    pub(super) fn place(
        &self,
        order: &CreateOrder<'_>,
        not_on: &BTreeSet<NodeId>,
        named: Option<(RequestId, &str)>,
    ) -> Result<Choice, Error> {
        let mut board = self.board();
        let cluster = board.cluster();
        let ports = port_claims(order.wanted);
        let joins = self.joins(order.wanted);
        let replaced = self.replaced(order);
        let request = self.request(order, &joins, &cluster)?;
        let image = self.image(&request.image);
        let nodes = board
            .nodes(&request, image.as_deref(), replaced.as_deref(), self)
            .without(not_on);
        let beside = self.beside_its_group(order.wanted, &joins, &cluster);
        let mut refusal = None;
        for request in giving_way(request, beside) {
            let outcome = nodes.choose(&request);
            let gave_way = refusal.as_ref().filter(|_| request.ports.is_empty());
            self.remember(order, named, &request, &nodes, &outcome, gave_way);
            match outcome {
                Ok(chosen) if request.ports.is_empty() => {
                    return self.chosen(order.wanted, chosen.node, waiting(ports), joins);
                }
                Ok(chosen) => return self.chosen(order.wanted, chosen.node, ports, joins),
                Err(why) => refusal = Some(why),
            }
        }
        Err(match refusal {
            Some(Refusal::NoImage { image }) => Error::NoImage {
                image: with_tag(image),
            },
            Some(refusal) => Error::NoNode(refusal),
            None => Error::Impossible("nothing was asked for".to_owned()),
        })
    }

    /// The order in the cluster's terms.
    pub(super) fn request(
        &self,
        order: &CreateOrder<'_>,
        joins: &Joins,
        cluster: &Cluster,
    ) -> Result<Request, Error> {
        let strategy = order.strategy.unwrap_or(self.strategy());
        Ok(Request {
            claim: self.claim(order.wanted),
            generic: cluster.counted(order.wanted.generic.clone()),
            ports: port_claims(order.wanted)
                .iter()
                .map(|claim| claim.port)
                .collect(),
            image: order.wanted.image.to_string(),
            bring_image: true,
            platform: platform::asked(order.query.text("platform"))
                .map(|(os, arch)| Platform { os, arch }),
            constraints: order.policies.constraints.clone(),
            pins: self.pins(order.wanted, joins, cluster)?,
            affinities: self.near(
                &order.policies.affinities,
                cluster,
                self.replaced(order).as_deref(),
            ),
            features: order.features.clone(),
            strategy,
            seed: self.seed(strategy),
        })
    }

    /// Throws the dice for the strategy that needs them.
    pub(super) fn seed(&self, strategy: Strategy) -> u64 {
        match strategy {
            Strategy::Random => u64::from_le_bytes(clock::random_bytes()),
            Strategy::Spread | Strategy::Binpack => 0,
        }
    }

    fn chosen(
        &self,
        wanted: &Create<'_>,
        node: NodeId,
        mut ports: Vec<PortClaim>,
        joins: Joins,
    ) -> Result<Choice, Error> {
        let host = self.fleet.host(&node).ok_or_else(|| {
            Error::Impossible("the chosen node has just left the cluster: try again".to_owned())
        })?;
        let numbers = self.choose_numbers(wanted, node, &mut ports)?;
        Ok(Choice {
            host,
            ports,
            numbers,
            joins,
        })
    }

    /// Chooses numbers for the ports that may have any, or any of a range: free in the pool, and not in use on the node.
    fn choose_numbers(
        &self,
        wanted: &Create<'_>,
        node: NodeId,
        ports: &mut Vec<PortClaim>,
    ) -> Result<Vec<Number>, Error> {
        let mut numbers = Vec::new();
        for wish in open_wishes(wanted) {
            let OpenWish {
                protocol, address, ..
            } = wish;
            let range = wish.range.unwrap_or(self.settings.random_ports);
            match self.free_number_on(node, protocol, address, range, ports) {
                Some(number) => {
                    ports.push(PortClaim {
                        port: PublishedPort {
                            protocol,
                            address,
                            number,
                        },
                        container_port: wish.private,
                        origin: PortOrigin::Chosen,
                        group: group(wanted),
                    });
                    numbers.push(Number {
                        key: wish.key.to_owned(),
                        index: wish.index,
                        number,
                    });
                }
                // One of a range that is taken in the pool may be free on the node when the container starts: its engine
                // decides then.
                None if wish.range.is_some() => {}
                None => {
                    return Err(Error::Impossible(format!(
                        "all {protocol} ports from {} to {} are taken in the pool: give the port a number, or the managers \
                         a wider range with --random-ports",
                        range.first, range.last
                    )));
                }
            }
        }
        Ok(numbers)
    }

    fn free_number_on(
        &self,
        node: NodeId,
        protocol: Protocol,
        address: Option<IpAddr>,
        range: RandomPorts,
        taken: &[PortClaim],
    ) -> Option<u16> {
        let span = u32::from(range.last.checked_sub(range.first)?) + 1;
        let dice = u32::from_le_bytes(clock::random_bytes());
        let start = u16::try_from(u32::from(range.first) + dice % span).ok()?;
        let will_do = |number: u16| {
            let port = PublishedPort {
                protocol,
                address,
                number,
            };
            let is_taken =
                |claim: &PortClaim| claim.port.protocol == protocol && claim.port.number == number;
            let avoided = self.avoided.get();
            !taken.iter().any(is_taken)
                && self.fleet.inventory.publisher(&node, &port).is_none()
                && !avoided.is_some_and(|avoided| avoided.0(protocol, number))
        };
        self.cluster()
            .ports()
            .free_number(protocol, range, start, will_do)
    }

    /// The cluster's strategy, for containers that ask for none.
    pub fn strategy(&self) -> Strategy {
        self.settings.placing.strategy
    }

    /// CPU and memory that the container claims.
    pub(super) fn claim(&self, wanted: &Create<'_>) -> Resources {
        let stated = Resources::new(wanted.claim.cpu_nanos, wanted.claim.memory_bytes);
        self.claim_where_stated(stated)
    }

    /// What a container claims that states so much.
    pub fn claim_where_stated(&self, stated: Resources) -> Resources {
        self.settings.placing.claim(stated)
    }

    /// Whether any node has the image.
    pub fn has_image(&self, reference: &str) -> bool {
        self.fleet
            .hosts()
            .values()
            .any(|host| host.images().find(reference).is_some())
    }

    /// What ties the container to nodes: other containers, volumes and networks that are only there.
    fn pins(
        &self,
        wanted: &Create<'_>,
        joins: &Joins,
        cluster: &Cluster,
    ) -> Result<Vec<Pin>, Error> {
        let mut pins = self.network_pins(joins, cluster);
        for need in &wanted.needs {
            // What does not exist is refused by the engine, in its words.
            if let Some(container) = self.needed(&need.container)? {
                let node = &container.host;
                pins.push(Pin {
                    nodes: BTreeSet::from([node.id]),
                    why: format!("container {}, which is on {}", need.container, node.name),
                });
            }
        }
        pins.extend(self.volume_pins(wanted, cluster)?);
        pins.extend(self.address_pins(wanted));
        let strangers = wanted.networks.iter();
        for network in strangers.filter(|network| !joins.contains(network)) {
            if let Some((host, name)) = self.network_of_node(network) {
                pins.push(Pin {
                    nodes: BTreeSet::from([host.tag.id]),
                    why: format!("network {name}, which is on {}", host.tag.name),
                });
                continue;
            }
            let holders = self.holders(|host| host.has_network(network));
            // Several nodes have built-in networks and ones of the same name: any of them will do.
            if !holders.is_empty() && holders.len() < self.fleet.hosts().len() {
                pins.push(Pin {
                    nodes: holders.iter().map(|host| host.tag.id).collect(),
                    why: format!("network {network}, which is on {}", node_names(&holders)),
                });
            }
        }
        Ok(pins)
    }

    /// The container that a create names, if there is one.
    fn needed(&self, reference: &str) -> Result<Option<Arc<Container>>, Error> {
        Ok(self.fleet.inventory.find(reference).sole(reference)?)
    }

    /// What the engine of `host` knows a container by that the client called `node/name`.
    pub(super) fn known_there<'a>(&self, host: &Host, reference: &'a str) -> Option<&'a str> {
        let (node, name) = reference.trim_start_matches('/').split_once('/')?;
        match self.fleet.inventory.find(reference) {
            // What no node is called is the beginning of a name that a link gives.
            Found::One(container) if container.host.id == host.tag.id => {
                host.tag.is(node).then_some(name)
            }
            _ => None,
        }
    }

    /// A port on the address of a host can be listened on there only. Loopback addresses are every host's, and what is no
    /// node's address as far as is known may be any node's.
    fn address_pins(&self, wanted: &Create<'_>) -> Vec<Pin> {
        if !publishes(wanted) {
            return Vec::new();
        }
        let asked: BTreeSet<_> = wanted.host_ports.iter().filter_map(address).collect();
        let asked = asked.into_iter().filter(|address| !address.is_loopback());
        let pins = asked.filter_map(|address| {
            let holders = self.holders(|host| host.tag.has(address));
            (!holders.is_empty()).then(|| Pin {
                nodes: holders.iter().map(|host| host.tag.id).collect(),
                why: format!("address {address}, which is on {}", node_names(&holders)),
            })
        });
        pins.collect()
    }

    fn holders(&self, has: impl Fn(&Host) -> bool) -> Vec<Arc<Host>> {
        let hosts = self.fleet.hosts();
        let mut holders: Vec<_> = hosts.values().filter(|host| has(host)).cloned().collect();
        holders.sort_by(|a, b| a.tag.name.cmp(&b.tag.name));
        holders
    }
}

fn node_names(hosts: &[Arc<Host>]) -> String {
    let names: Vec<_> = hosts.iter().map(|host| host.tag.name.as_str()).collect();
    names.join(", ")
}

/// The host ports whose numbers the user gave. On its host's network a container publishes nothing, its engine warns of
/// that; it listens where its process likes, for all that is known where it exposes ports.
fn port_claims(wanted: &Create<'_>) -> Vec<PortClaim> {
    match wanted.network_mode {
        NetworkMode::Default | NetworkMode::Named(_) => {}
        NetworkMode::Host => {
            let ports = exposed_ports(&wanted.exposed);
            return ports
                .filter_map(|(_, number, protocol)| PublishedPort::on_all(protocol, number))
                .map(exposed_claim)
                .collect();
        }
        NetworkMode::None | NetworkMode::Container(_) => return Vec::new(),
    }
    let wishes = wanted.host_ports.iter();
    wishes
        .filter_map(|wish| {
            let Wanted::Number(number) = wish.wanted else {
                return None;
            };
            Some(PortClaim {
                port: PublishedPort {
                    protocol: Protocol::read(&wish.protocol)?,
                    address: address(wish),
                    number,
                },
                container_port: wish.private,
                origin: PortOrigin::Asked,
                group: group(wanted),
            })
        })
        .collect()
}

/// A port that a container exposes on its host's network.
pub(super) fn exposed_claim(port: PublishedPort) -> PortClaim {
    PortClaim {
        port,
        container_port: port.number,
        origin: PortOrigin::Exposed,
        group: None,
    }
}

/// A wish for a port of the host that leaves the number open.
struct OpenWish<'a> {
    key: &'a str,
    index: Option<usize>,
    private: u16,
    protocol: Protocol,
    address: Option<IpAddr>,
    /// It must be one of these.
    range: Option<RandomPorts>,
}

/// Nobody but engines listens for SCTP, and without a network of its own a container publishes nothing.
fn open_wishes<'a>(wanted: &'a Create<'_>) -> Vec<OpenWish<'a>> {
    if !publishes(wanted) {
        return Vec::new();
    }
    let protocol = |text: &str| match Protocol::read(text) {
        Some(Protocol::Sctp) | None => None,
        known => known,
    };
    let bound = wanted.host_ports.iter().filter_map(|wish| {
        let range = match wish.wanted {
            Wanted::Number(_) => return None,
            Wanted::Random => None,
            Wanted::Range(first, last) => Some(RandomPorts { first, last }),
        };
        Some(OpenWish {
            key: &wish.key,
            index: Some(wish.index),
            private: wish.private,
            protocol: protocol(&wish.protocol)?,
            address: address(wish),
            range,
        })
    });
    let besides = wanted.published_besides();
    let besides = besides.filter_map(|(key, private, text)| {
        Some(OpenWish {
            key,
            index: None,
            private,
            protocol: protocol(text)?,
            address: None,
            range: None,
        })
    });
    bound.chain(besides).collect()
}

/// Whether it has a network of its own, and so publishes what it is asked to.
const fn publishes(wanted: &Create<'_>) -> bool {
    matches!(
        wanted.network_mode,
        NetworkMode::Default | NetworkMode::Named(_)
    )
}

/// The address of the host that was asked for; none for all of them. `::` is all of IPv6 only.
fn address(wish: &HostPort<'_>) -> Option<IpAddr> {
    let address: Option<IpAddr> = wish.address.parse().ok();
    address.filter(|address| *address != Ipv4Addr::UNSPECIFIED)
}

/// With whom the container shares entries of published ports.
fn group(wanted: &Create<'_>) -> Option<String> {
    labels::entry_group(|name| {
        let mut labels = wanted.labels.iter();
        let found = labels.find(|(key, _)| key == name);
        found.map(|(_, value)| value.to_string())
    })
}

/// What is asked for, and what it gives way to if no node fits: to be with its group, then that nobody has its ports. An
/// engine creates a container whose port is taken, and refuses to start it while it is: compose makes a container's
/// successor before it stops the container. So a port parts containers, but forbids none.
pub(super) fn giving_way(request: Request, beside: Option<Pin>) -> Vec<Request> {
    let grouped = beside.map(|beside| {
        let mut grouped = request.clone();
        grouped.pins.push(beside);
        grouped
    });
    let mut asked = Vec::new();
    for request in grouped.into_iter().chain([request]) {
        let without_ports = (!request.ports.is_empty()).then(|| Request {
            ports: Vec::new(),
            ..request.clone()
        });
        asked.push(request);
        asked.extend(without_ports);
    }
    asked
}

/// Others hold them on the node, those that can be held.
fn waiting(mut ports: Vec<PortClaim>) -> Vec<PortClaim> {
    let asked = ports.iter_mut();
    for claim in asked.filter(|claim| claim.origin == PortOrigin::Asked) {
        claim.origin = PortOrigin::Waiting;
    }
    ports
}

/// As an engine names an image that it does not have: `busybox:latest`.
fn with_tag(image: String) -> String {
    match ImageRef::parse(&image) {
        Ok(reference) => reference.or_latest().familiar(),
        Err(_) => image,
    }
}

#[cfg(test)]
mod tests {
    use api_compat::create::Body;

    use super::*;

    /// The ports that a create holds: number and transport, and who chose it.
    fn held(host_config: &str, after: impl Fn(Vec<PortClaim>) -> Vec<PortClaim>) -> String {
        let body = format!(
            r#"{{"Image":"i","ExposedPorts":{{"80/tcp":{{}},"53/udp":{{}},"x":{{}}}},"HostConfig":{host_config}}}"#
        );
        let body = Body::parse(body.as_bytes()).expect("a body");
        let wanted = body.read().expect("readable");
        let claims = after(port_claims(&wanted));
        let claims = claims
            .iter()
            .map(|claim| format!("{} {:?}", claim.port, claim.origin));
        claims.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn ports_are_held_as_the_network_has_them() {
        let published = r#""PortBindings":{"80/tcp":[{"HostPort":"8080"},{"HostPort":""}]}"#;
        let check = |mode: &str, claims: &str, waits: &str| {
            let config = format!(r#"{{"NetworkMode":"{mode}",{published}}}"#);
            assert_eq!(held(&config, |claims| claims), claims, "{mode}");
            assert_eq!(held(&config, waiting), waits, "{mode}");
        };
        for bridged in ["", "bridge", "front"] {
            check(bridged, "8080/tcp Asked", "8080/tcp Waiting");
        }
        // An engine publishes nothing there; a hint need not wait for another.
        let exposed = "53/udp Exposed, 80/tcp Exposed";
        check("host", exposed, exposed);
        check("none", "", "");
        check("container:x", "", "");
    }
}
