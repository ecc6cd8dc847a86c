//! One command after the other: each file beside this one has those of one noun.

use super::command::Command;
use super::envelope::Envelope;
use super::networks::NewNetwork;
use super::refusal::{Change, Refusal};
use super::{Cluster, Founding};

impl Cluster {
    /// Applies one command. When it is refused, nothing has changed but the time.
    pub fn apply(&mut self, envelope: Envelope) -> Result<Change, Refusal> {
        self.pass_time(envelope.at);
        let Envelope {
            caller,
            feature_level,
            body,
            ..
        } = envelope;
        let realm = caller.realm;
        if let Command::Found { cluster, settings } = body {
            return match self.id() {
                Some(before) if before != cluster => {
                    Err(Refusal::FoundedBefore { cluster: before })
                }
                Some(_) => Ok(Change::Founded(cluster)),
                None => {
                    self.founding = Some(Founding {
                        id: cluster,
                        settings,
                        feature_level,
                    });
                    Ok(Change::Founded(cluster))
                }
            };
        }
        if self.founding.is_none() {
            return Err(Refusal::NotFounded);
        }
        match body {
            Command::Found { cluster, .. } => Ok(Change::Founded(cluster)),
            Command::AddNode {
                node,
                name,
                endpoint,
                address,
                labels,
            } => self.add_node(node, name, endpoint, address, labels),
            Command::UpdateNode {
                node,
                name,
                address,
                availability,
                labels,
            } => self.update_node(node, name, address, availability, labels),
            Command::RemoveNode { node, force } => self.remove_node(node, force),
            Command::ReportNode { node, engine } => self.report_node(node, engine),
            Command::JudgeReady { node } => self.judge_ready(node),
            Command::JudgeDown { node, reason } => self.judge_down(node, reason),
            Command::Reserve(promise) => {
                let (request, recipe) = (promise.request, promise.recipe);
                let outcome = self.reserve(realm, promise);
                self.release_unless_kept(request, recipe);
                outcome
            }
            Command::Bind { request, container } => self.bind(request, container),
            Command::Release { request } => self.release(request),
            Command::Adopt {
                promise,
                container,
                claiming,
            } => self.adopt(realm, promise, container, claiming),
            Command::BeginRename { request, new_name } => self.begin_rename(request, new_name),
            Command::EndRename { request, keep } => self.end_rename(request, keep),
            Command::SetClaim {
                request,
                claim,
                observed,
            } => self.set_claim(request, claim, observed),
            Command::SetGeneric { request, generic } => self.set_generic(request, generic),
            Command::Exited { request, run } => self.exited(request, run),
            Command::Reclaim { request, running } => self.reclaim(request, running),
            Command::Remove { request } => self.remove(request),
            Command::Settle { request } => self.settle(request),
            Command::AddNetwork {
                network,
                name,
                spec,
                group,
                node,
            } => {
                let new = NewNetwork {
                    id: network,
                    name,
                    spec,
                    group,
                    node,
                };
                self.add_network(realm, new)
            }
            Command::RealiseNetwork {
                network,
                node,
                engine_id,
            } => self.realise_network(network, node, engine_id),
            Command::JoinNetwork { request, network } => self.join_network(request, network),
            Command::LeaveNetwork { request, network } => self.leave_network(request, network),
            Command::LeaveNetworkLater { request, network } => {
                self.leave_network_later(request, network)
            }
            Command::SettleLeave { request, network } => self.settle_leave(request, network),
            Command::BeginRemoveNetwork { network } => self.begin_remove_network(network),
            Command::RemoveNetwork { network, at_rest } => self.remove_network(network, &at_rest),
            Command::PointTag { tag, image } => Ok(self.point_tag(realm, tag, image)),
            Command::NoteTwin { tag, image, twin } => Ok(self.note_twin(realm, tag, &image, twin)),
            Command::DropTag { tag } => Ok(self.drop_tag(realm, tag)),
            Command::DeferImageRemoval {
                image,
                nodes,
                removal,
            } => self.defer_image_removal(image, &nodes, removal),
            Command::SettleImage { image, node } => Ok(self.settle_image(image, node)),
            Command::AddVolume { spec, on, made } => self.add_volume(realm, spec, on, made),
            Command::RemoveVolume { name, on, due } => self.remove_volume(realm, name, on, due),
            Command::SettleVolume { name, node } => self.settle_volume(name, node),
        }
    }

    /// Time in the cluster is the newest that a command carried; what has had its time ends.
    pub(super) fn pass_time(&mut self, at: jiff::Timestamp) {
        self.now = self.now.max(at);
        self.tombstones.expire(self.now);
    }
}
