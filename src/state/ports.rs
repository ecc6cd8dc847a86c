//! The port book: which host port is held by which placement.

use std::net::IpAddr;

use imbl::{OrdMap, OrdSet};

use crate::model::{NodeId, Placement, PortClaim, PortOrigin, Protocol, PublishedPort, RequestId};

use super::RandomPorts;

/// Which host port is held by which placement. Ordered by number first, so that both questions,
/// "who on this node" and "who in the pool", look at the holders of one number only.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortBook {
    held: OrdMap<Slot, PortHold>,
    /// How many placements of a node publish a number, whether they hold it now or not.
    published: OrdMap<(Protocol, u16, NodeId), u32>,
    /// Who may be listening, for all that is known. Several may name one port.
    exposed: OrdSet<(Protocol, u16, NodeId, RequestId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    protocol: Protocol,
    number: u16,
    node: NodeId,
    address: Option<IpAddr>,
}

impl Slot {
    const fn port(&self) -> PublishedPort {
        PublishedPort {
            protocol: self.protocol,
            address: self.address,
            number: self.number,
        }
    }
}

/// Who holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortHold {
    /// The placement.
    pub request: RequestId,
    /// Who chose the number.
    pub origin: PortOrigin,
    /// Containers of one group share the port's entry at the managers.
    pub group: Option<String>,
}

impl PortBook {
    /// The holders of a port number: where, on which addresses, and who.
    pub fn holders(
        &self,
        protocol: Protocol,
        number: u16,
    ) -> impl Iterator<Item = (NodeId, PublishedPort, &PortHold)> {
        let first = NodeId::from_bytes([0; 16]);
        self.from(Slot {
            protocol,
            number,
            node: first,
            address: None,
        })
        .take_while(move |(slot, _)| slot.protocol == protocol && slot.number == number)
        .map(|(slot, hold)| (slot.node, slot.port(), hold))
    }

    /// Who on `node` is in the way of `port`.
    pub fn holder_on(&self, node: NodeId, port: &PublishedPort) -> Option<&PortHold> {
        self.on_node(node, port).next().map(|(_, hold)| hold)
    }

    /// A container on the network of `node` that exposes `port`, and so may listen there.
    pub fn exposer_on(&self, node: NodeId, port: &PublishedPort) -> Option<RequestId> {
        let place = (port.protocol, port.number, node);
        let first = (place.0, place.1, place.2, RequestId::from_bytes([0; 16]));
        let (protocol, number, on, request) = *self.exposed.range(first..).next()?;
        ((protocol, number, on) == place).then_some(request)
    }

    /// The nodes that have a placement which publishes this number, on whatever address, whether it runs or not.
    pub fn published_on(&self, protocol: Protocol, number: u16) -> impl Iterator<Item = NodeId> {
        let first = (protocol, number, NodeId::from_bytes([0; 16]));
        let publishers = self.published.range(first..);
        publishers
            .map(|(key, _)| *key)
            .take_while(move |key| (key.0, key.1) == (protocol, number))
            .map(|key| key.2)
    }

    /// A number that nobody in the pool holds and that will do, the first from `start` on, around the end of the
    /// range if need be. Whoever calls gives a random start.
    pub fn free_number(
        &self,
        protocol: Protocol,
        range: RandomPorts,
        start: u16,
        will_do: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let start = start.clamp(range.first, range.last.max(range.first));
        (start..=range.last)
            .chain(range.first..start)
            .find(|number| self.holders(protocol, *number).next().is_none() && will_do(*number))
    }

    /// Who on `node`, apart from `request` itself, is in the way of `port`.
    pub(super) fn conflict_on(
        &self,
        node: NodeId,
        port: &PublishedPort,
        request: RequestId,
    ) -> Option<RequestId> {
        self.on_node(node, port)
            .map(|(_, hold)| hold.request)
            .find(|holder| *holder != request)
    }

    /// Who anywhere, apart from `request` itself, holds this number.
    pub(super) fn conflict_in_pool(
        &self,
        port: &PublishedPort,
        request: RequestId,
    ) -> Option<(NodeId, RequestId)> {
        self.holders(port.protocol, port.number)
            .map(|(node, _, hold)| (node, hold.request))
            .find(|(_, holder)| *holder != request)
    }

    pub(super) fn add(&mut self, placement: &Placement) {
        for claim in &placement.ports {
            *self
                .published
                .entry(published(placement, claim))
                .or_default() += 1;
        }
        self.exposed.extend(exposed(placement));
        for claim in held(placement) {
            let PortClaim {
                origin, ref group, ..
            } = *claim;
            let hold = PortHold {
                request: placement.request,
                origin,
                group: group.clone(),
            };
            self.held.insert(slot(placement, claim), hold);
        }
    }

    pub(super) fn remove(&mut self, placement: &Placement) {
        for claim in &placement.ports {
            let key = published(placement, claim);
            match self.published.get_mut(&key) {
                Some(count @ 2..) => *count -= 1,
                _ => drop(self.published.remove(&key)),
            }
        }
        for place in exposed(placement) {
            self.exposed.remove(&place);
        }
        for claim in held(placement) {
            let slot = slot(placement, claim);
            if self
                .held
                .get(&slot)
                .is_some_and(|hold| hold.request == placement.request)
            {
                self.held.remove(&slot);
            }
        }
    }

    fn on_node(
        &self,
        node: NodeId,
        port: &PublishedPort,
    ) -> impl Iterator<Item = (&Slot, &PortHold)> {
        let PublishedPort {
            protocol, number, ..
        } = *port;
        let port = *port;
        self.from(Slot {
            protocol,
            number,
            node,
            address: None,
        })
        .take_while(move |(slot, _)| {
            slot.protocol == protocol && slot.number == number && slot.node == node
        })
        .filter(move |(slot, _)| slot.port().overlaps(&port))
    }

    fn from(&self, slot: Slot) -> impl Iterator<Item = (&Slot, &PortHold)> {
        self.held.range(slot..)
    }
}

/// The ports a placement holds now.
pub(super) fn held(placement: &Placement) -> impl Iterator<Item = &PortClaim> {
    placement
        .ports
        .iter()
        .filter(|claim| is_held(claim, placement.claiming))
}

/// What the user asked for is held only while the container claims, as an engine does it; what we
/// chose is kept.
pub(super) fn is_held(claim: &PortClaim, claiming: bool) -> bool {
    match claim.origin {
        PortOrigin::Asked => claiming,
        PortOrigin::Chosen => true,
        PortOrigin::Waiting | PortOrigin::Exposed => false,
    }
}

/// The ports that a placement may listen on now, for all that is known.
fn exposed(
    placement: &Placement,
) -> impl Iterator<Item = (Protocol, u16, NodeId, RequestId)> + use<'_> {
    let claims = placement.ports.iter().filter(|_| placement.claiming);
    let exposed = claims.filter(|claim| claim.origin == PortOrigin::Exposed);
    exposed.map(|claim| {
        let (protocol, number, node) = published(placement, claim);
        (protocol, number, node, placement.request)
    })
}

const fn published(placement: &Placement, claim: &PortClaim) -> (Protocol, u16, NodeId) {
    (claim.port.protocol, claim.port.number, placement.node)
}

const fn slot(placement: &Placement, claim: &PortClaim) -> Slot {
    let PublishedPort {
        protocol,
        address,
        number,
    } = claim.port;
    Slot {
        protocol,
        number,
        node: placement.node,
        address,
    }
}
