//! Changing the size of a Deployment between or in the middle of rollouts: sets grow and shrink in proportion.

use k8s_openapi::api::apps::v1::Deployment;

use super::sets::{Sets, available, bounds, by_creation, desired, is_rolling, max_before, replicas, size};

/// True when the Deployment's size differs from the one its sets were scaled for.
pub(crate) fn is_scaling(deployment: &Deployment, sets: &Sets) -> bool {
    let wanted = replicas(deployment);
    let active = sets.all.iter().filter(|set| size(set) > 0);
    active.filter_map(desired).any(|desired| desired != wanted)
}

/// Brings the sets to the Deployment's size without going on with the rollout.
pub(crate) fn scale(deployment: &Deployment, sets: &mut Sets) {
    let wanted = replicas(deployment);
    if let Some(only) = active_or_latest(sets) {
        if sets.size_at(only) != wanted {
            sets.scale(only, wanted, deployment);
        }
        return;
    }
    if is_saturated(deployment, sets) {
        for index in sets.active_old() {
            sets.scale(index, 0, deployment);
        }
        return;
    }
    if is_rolling(deployment) {
        scale_in_proportion(deployment, sets);
    }
}

/// The one set that has pods, or the newest when none has; nothing when several have.
fn active_or_latest(sets: &Sets) -> Option<usize> {
    let active: Vec<usize> = (0..sets.all.len()).filter(|index| sets.size_at(*index) > 0).collect();
    match active.as_slice() {
        [] => sets.new.or_else(|| sets.old().last().copied()),
        [only] => Some(*only),
        _ => None,
    }
}

fn is_saturated(deployment: &Deployment, sets: &Sets) -> bool {
    let wanted = replicas(deployment);
    sets.new_set()
        .is_some_and(|set| desired(set) == Some(wanted) && size(set) == wanted && available(set) == wanted)
}

fn scale_in_proportion(deployment: &Deployment, sets: &mut Sets) {
    let wanted = replicas(deployment);
    let mut active: Vec<usize> = (0..sets.all.len()).filter(|index| sets.size_at(*index) > 0).collect();
    let in_all = active.iter().map(|index| sets.size_at(*index)).fold(0, i32::saturating_add);
    let allowed = if wanted > 0 { wanted.saturating_add(bounds(deployment).max_surge) } else { 0 };
    let to_add = allowed.saturating_sub(in_all);
    // Larger sets first; of the same size newer ones first when growing, older ones when shrinking.
    active.sort_by(|one, other| {
        let by_size = sets.size_at(*other).cmp(&sets.size_at(*one));
        let by_age = match (sets.all.get(*one), sets.all.get(*other)) {
            (Some(one), Some(other)) => by_creation(one, other),
            _ => std::cmp::Ordering::Equal,
        };
        by_size.then(if to_add > 0 { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut sizes = Vec::new();
    for index in active {
        let own = sets.size_at(index);
        let share = if to_add == 0 { 0 } else { proportion(deployment, sets, index, to_add, added) };
        added += share;
        sizes.push((index, own.saturating_add(share)));
    }
    if let Some((_, largest)) = sizes.first_mut() {
        // What rounding left over goes to the largest.
        *largest = largest.saturating_add(to_add - added).max(0);
    }
    for (index, new_size) in sizes {
        sets.scale(index, new_size, deployment);
    }
}

fn proportion(deployment: &Deployment, sets: &Sets, index: usize, to_add: i32, added: i32) -> i32 {
    let own = sets.size_at(index);
    if own == 0 || to_add == added {
        return 0;
    }
    let share = fraction(deployment, sets, index, own);
    let left = to_add - added;
    if to_add > 0 { share.min(left) } else { share.max(left) }
}

/// How the set would change if it kept its share of the largest number of pods allowed.
fn fraction(deployment: &Deployment, sets: &Sets, index: usize, own: i32) -> i32 {
    let wanted = replicas(deployment);
    if wanted == 0 {
        return -own;
    }
    let max_now = wanted.saturating_add(bounds(deployment).max_surge);
    let noted = sets.all.get(index).and_then(max_before).filter(|max| *max > 0);
    let in_status = deployment.status.as_ref().and_then(|status| status.replicas);
    let Some(max_before) = noted.or(in_status).filter(|max| *max > 0) else { return 0 };
    let scaled = f64::from(own) * f64::from(max_now) / f64::from(max_before);
    // A saturating conversion: an absurd annotation makes an absurd size, which the caller bounds.
    (scaled.round() as i32).saturating_sub(own)
}
