//! Commands about volumes, and what containers do to them.
//!
//! | a volume | comes to be | ends |
//! | --- | --- | --- |
//! | *unbound* | it is asked for by itself | it is removed |
//! | *on one node*, promised | a reservation mounts it: the node of the container | the reservation is given up: it is unbound again, or forgotten if nobody asked for it |
//! | *on one node*, made | a container of it was made, or the node was seen to have it | it is removed, or its node leaves |
//! | *shared*, *per node* | it is asked for or mounted as such | it is removed, or was only mounted and no node has it any more |
//!
//! **Invariant**: a volume that is on one node stays there, used or not, as long as it has a record: nothing that
//! mounts it is promised on another node.

use crate::model::{Name, NodeId, Placement, Realm, Residence, Volume, VolumeOrigin, VolumeSpec};

use super::Cluster;
use super::command::NewVolume;
use super::refusal::{Change, Refusal};

impl Cluster {
    pub(super) fn add_volume(
        &mut self,
        realm: Realm,
        spec: VolumeSpec,
        on: Option<NodeId>,
        made: bool,
    ) -> Result<Change, Refusal> {
        let name = spec.name.clone();
        if let Some(node) = on {
            self.expect_node(node)?;
            self.can_mount(realm, &name, node)?;
        }
        let before = self.volume(realm, &name);
        if let Some(before) = before.filter(|before| before.spec.driver != spec.driver) {
            return Err(Refusal::VolumeOfAnotherDriver {
                volume: name,
                driver: before.spec.driver.clone(),
            });
        }
        let volume = before.map_or_else(
            || self.fresh(realm, spec, VolumeOrigin::Asked),
            |before| Volume {
                origin: VolumeOrigin::Asked,
                ..Volume::clone(before)
            },
        );
        self.put_volume(match on {
            Some(node) => placed(volume, node, made),
            None => volume,
        });
        Ok(Change::Volume(name))
    }

    pub(super) fn remove_volume(
        &mut self,
        realm: Realm,
        name: String,
        on: Option<NodeId>,
        due: Vec<NodeId>,
    ) -> Result<Change, Refusal> {
        for node in &due {
            self.expect_node(*node)?;
        }
        let users = self.volume_users(realm, &name);
        let key = Name::volume(realm, &name);
        let volume = self.volumes.get(&key).cloned();
        match (volume, on) {
            (None, _) => {}
            (Some(volume), Some(node)) if !volume.residence.nodes().any(|at| at == node) => {}
            (Some(volume), Some(node)) => {
                let is_used_there = match volume.residence {
                    Residence::Unbound => false,
                    Residence::On { .. } => users > 0,
                    Residence::Shared { .. } | Residence::PerNode { .. } => {
                        users > 0 && self.is_mounted_on(realm, &name, node)
                    }
                };
                if is_used_there {
                    return Err(Refusal::VolumeInUse {
                        volume: name,
                        users,
                    });
                }
                self.leave(&volume, node);
            }
            (Some(_), None) if users > 0 => {
                return Err(Refusal::VolumeInUse {
                    volume: name,
                    users,
                });
            }
            (Some(_), None) => self.take_volume(&key),
        }
        for node in due {
            self.volumes_due.insert((node, name.clone()));
        }
        Ok(Change::VolumeRemoved(name))
    }

    pub(super) fn settle_volume(&mut self, name: String, node: NodeId) -> Result<Change, Refusal> {
        self.volumes_due.remove(&(node, name.clone()));
        Ok(Change::VolumeRemoved(name))
    }

    /// Whether a container on this node may mount the volume.
    pub(super) fn can_mount(&self, realm: Realm, name: &str, node: NodeId) -> Result<(), Refusal> {
        let bound = self
            .volume(realm, name)
            .and_then(|volume| volume.residence.bound());
        match bound {
            Some(bound) if bound != node => Err(Refusal::VolumeElsewhere {
                volume: name.to_owned(),
                bound: self.node_label(bound),
                node: self.expect_node(node)?.name.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// A container on this node mounts the volume.
    pub(super) fn mount(&mut self, realm: Realm, name: &str, node: NodeId, new: &[NewVolume]) {
        let known = new.iter().find(|new| new.spec.name == name);
        let made = known.is_some_and(|known| known.made);
        let volume = self.volume(realm, name).map_or_else(
            || {
                let spec =
                    known.map_or_else(|| VolumeSpec::plain(name), |known| known.spec.clone());
                self.fresh(realm, spec, VolumeOrigin::Mounted)
            },
            |volume| Volume::clone(volume),
        );
        self.put_volume(placed(volume, node, made));
    }

    /// A container was made: so were its volumes.
    pub(super) fn volumes_are_made(&mut self, placement: &Placement) {
        for name in &placement.volumes {
            let volume = self.volume(placement.realm, name).map(|v| Volume::clone(v));
            if let Some(volume) = volume {
                self.put_volume(placed(volume, placement.node, true));
            }
        }
    }

    /// A placement has ended: what was promised for it alone, and never made, is promised no more.
    pub(super) fn let_go_of_volumes(&mut self, placement: &Placement) {
        for name in &placement.volumes {
            let volume = self.volume(placement.realm, name).cloned();
            let Some(volume) = volume.filter(|_| self.volume_users(placement.realm, name) == 0)
            else {
                continue;
            };
            if matches!(volume.residence, Residence::On { made: false, .. }) {
                self.leave(&volume, placement.node);
            }
        }
    }

    /// A node leaves the cluster, and what it has leaves with it. May look at all that it has: nodes leave seldom.
    pub(super) fn forget_volumes_of(&mut self, node: NodeId) {
        let had: Vec<_> = self.volumes_on(node).cloned().collect();
        for volume in had {
            if matches!(volume.residence, Residence::On { made: true, .. }) {
                self.take_volume(&key_of(&volume));
            } else {
                self.leave(&volume, node);
            }
        }
        let due: Vec<_> = self.volumes_due_on(node).map(str::to_owned).collect();
        for name in due {
            self.volumes_due.remove(&(node, name));
        }
    }

    /// Snapshots of before volumes had records have none of what their placements mount.
    pub(super) fn record_what_is_mounted(&mut self) {
        let placements: Vec<_> = self.placements.values().cloned().collect();
        for placement in placements {
            for name in &placement.volumes {
                if self.volume(placement.realm, name).is_none() {
                    self.mount(placement.realm, name, placement.node, &[]);
                    if placement.container.is_some() {
                        self.volumes_are_made(&placement);
                    }
                }
            }
        }
    }

    /// The node has nothing of the volume any more. What was made on one node is gone with that; what nobody asked
    /// for is gone when no node has it.
    fn leave(&mut self, volume: &Volume, node: NodeId) {
        let was_made = matches!(volume.residence, Residence::On { made: true, .. });
        let residence = volume.residence.without(node);
        let is_nowhere = residence.nodes().next().is_none();
        let is_kept = !was_made
            && (volume.origin == VolumeOrigin::Asked
                || !is_nowhere
                || self.volume_users(volume.realm, &volume.spec.name) > 0);
        if is_kept {
            self.put_volume(Volume {
                residence,
                ..volume.clone()
            });
        } else {
            self.take_volume(&key_of(volume));
        }
    }

    fn is_mounted_on(&self, realm: Realm, name: &str, node: NodeId) -> bool {
        self.placements_on(node).any(|placement| {
            placement.realm == realm && placement.volumes.iter().any(|volume| volume == name)
        })
    }

    fn fresh(&self, realm: Realm, spec: VolumeSpec, origin: VolumeOrigin) -> Volume {
        Volume {
            realm,
            residence: Residence::nowhere(spec.kind()),
            spec,
            origin,
            created: self.now,
        }
    }
}

/// The volume with one more node that has it. Whoever calls knows that it is bound to no other.
fn placed(volume: Volume, node: NodeId, made: bool) -> Volume {
    let residence = volume.residence.with(node, made);
    Volume {
        residence: residence.unwrap_or_else(|| volume.residence.clone()),
        ..volume
    }
}

fn key_of(volume: &Volume) -> Name {
    Name::volume(volume.realm, &volume.spec.name)
}
