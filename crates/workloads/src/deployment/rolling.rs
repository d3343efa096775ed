//! The rolling update: how far the new set may grow and the old ones may shrink.

use k8s_openapi::api::apps::v1::Deployment;

use super::sets::{Sets, available, bounds, is_rolling, replicas};

/// The size the set at `new` may have now: no more pods in all than wanted plus surge.
pub(crate) fn new_set_size(deployment: &Deployment, sets: &Sets, new: usize) -> i32 {
    let wanted = replicas(deployment);
    if !is_rolling(deployment) {
        return wanted;
    }
    let own = sets.size_at(new);
    let room = wanted.saturating_add(bounds(deployment).max_surge).saturating_sub(sets.total_size());
    if room <= 0 {
        return own;
    }
    own.saturating_add(room.min(wanted.saturating_sub(own)))
}

/// Grows the new set, or shrinks it when the Deployment did. Returns whether its size changes.
pub(crate) fn scale_new(deployment: &Deployment, sets: &mut Sets) -> bool {
    let Some(new) = sets.new else { return false };
    let wanted = replicas(deployment);
    let own = sets.size_at(new);
    if own == wanted {
        return false;
    }
    let size = if own > wanted { wanted } else { new_set_size(deployment, sets, new) };
    sets.scale(new, size, deployment)
}

/// Shrinks old sets as far as availability allows, unhealthy pods first. Returns whether any size changes.
pub(crate) fn scale_old(deployment: &Deployment, sets: &mut Sets) -> bool {
    let old = sets.active_old();
    if old.is_empty() {
        return false;
    }
    let min_available = replicas(deployment).saturating_sub(bounds(deployment).max_unavailable);
    let new_unavailable =
        sets.new_set().map_or(0, |set| super::sets::size(set).saturating_sub(available(set)));
    let room = sets.total_size().saturating_sub(min_available).saturating_sub(new_unavailable);
    if room <= 0 {
        return false;
    }
    let unhealthy = remove_unhealthy(deployment, sets, &old, room);
    let healthy = remove_healthy(deployment, sets, &old, min_available);
    unhealthy || healthy
}

fn remove_unhealthy(deployment: &Deployment, sets: &mut Sets, old: &[usize], room: i32) -> bool {
    let mut removed = 0;
    for index in old {
        if removed >= room {
            break;
        }
        let size = sets.size_at(*index);
        let unhealthy = size.saturating_sub(sets.all.get(*index).map_or(0, available)).max(0);
        let take = unhealthy.min(room - removed);
        if take > 0 {
            sets.scale(*index, size - take, deployment);
            removed += take;
        }
    }
    removed > 0
}

fn remove_healthy(deployment: &Deployment, sets: &mut Sets, old: &[usize], min_available: i32) -> bool {
    let spare = sets.total_available().saturating_sub(min_available);
    let mut removed = 0;
    for index in old {
        if removed >= spare {
            break;
        }
        let size = sets.size_at(*index);
        let take = size.min(spare - removed);
        if take > 0 {
            sets.scale(*index, size - take, deployment);
            removed += take;
        }
    }
    removed > 0
}
