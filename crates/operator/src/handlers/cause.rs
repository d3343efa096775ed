//! What happened to an object, as far as handlers care.

use serde_json::Value;

use super::context::Reason;
use super::diff::{Diff, resolve};
use super::registry::{Changing, Handlers};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Deleted, and nobody of ours holds it.
    Free,
    /// Nothing of what users configure has changed.
    Nothing,
    Because(Reason),
}

/// What an object looks like to the detection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    pub(crate) deleting: bool,
    /// Our finalizer is on it.
    pub(crate) held: bool,
    /// It was handled before.
    pub(crate) known: bool,
    pub(crate) changed: bool,
    /// It was found by the first listing and not handled since.
    pub(crate) first_seen: bool,
}

pub(crate) fn detect(situation: Situation) -> Cause {
    match situation {
        Situation { deleting: true, held: false, .. } => Cause::Free,
        Situation { deleting: true, .. } => Cause::Because(Reason::Delete),
        Situation { known: false, .. } => Cause::Because(Reason::Create),
        Situation { changed: false, first_seen: true, .. } => Cause::Because(Reason::Resume),
        Situation { changed: false, .. } => Cause::Nothing,
        _ => Cause::Because(Reason::Update),
    }
}

/// The handlers to call for `reason`, each id once; filters other than those on fields are not asked here.
///
/// Resume handlers join creations and updates of objects that were there before this process.
pub(crate) fn select<'a, K>(
    handlers: &'a Handlers<K>,
    reason: Reason,
    first_seen: bool,
    old: &Value,
    new: &Value,
    diff: &Diff,
) -> Vec<&'a Changing<K>> {
    let mut selected: Vec<&Changing<K>> = Vec::new();
    for changing in &handlers.changing {
        let wanted = match changing.reason {
            None => matches!(reason, Reason::Create | Reason::Update),
            Some(Reason::Resume) => {
                reason == Reason::Resume || (first_seen && matches!(reason, Reason::Create | Reason::Update))
            }
            Some(own) => own == reason,
        };
        let in_field = match (&changing.handler.field, changing.reason) {
            (None, _) => true,
            (Some(path), None | Some(Reason::Update)) => !diff.reduce(path).is_empty(),
            (Some(path), Some(_)) => resolve(old, path).is_some() || resolve(new, path).is_some(),
        };
        let twice = selected.iter().any(|known| known.handler.id == changing.handler.id);
        if wanted && in_field && !twice {
            selected.push(changing);
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::context::{Ctx, HandlerResult};
    use super::super::registry::handler;
    use super::*;

    #[test]
    fn causes() {
        let calm = Situation { deleting: false, held: false, known: true, changed: false, first_seen: false };
        for (situation, cause) in [
            (Situation { deleting: true, ..calm }, Cause::Free),
            (Situation { deleting: true, held: true, ..calm }, Cause::Because(Reason::Delete)),
            (
                Situation { known: false, changed: true, first_seen: true, ..calm },
                Cause::Because(Reason::Create),
            ),
            (Situation { first_seen: true, ..calm }, Cause::Because(Reason::Resume)),
            (calm, Cause::Nothing),
            (Situation { changed: true, first_seen: true, ..calm }, Cause::Because(Reason::Update)),
        ] {
            assert_eq!(detect(situation), cause, "{situation:?}");
        }
    }

    async fn nothing(_: Ctx<()>) -> HandlerResult {
        Ok(())
    }

    #[test]
    fn selections() {
        let mut handlers: Handlers<()> = Handlers::new();
        handlers.add_changing(Some(Reason::Create), None, handler(nothing).id("create"));
        handlers.add_changing(Some(Reason::Update), None, handler(nothing).id("update"));
        handlers.add_changing(Some(Reason::Resume), None, handler(nothing).id("resume"));
        handlers.add_changing(None, Some("spec.size"), handler(nothing).id("size"));
        handlers.add_changing(Some(Reason::Resume), None, handler(nothing).id("create"));
        let (old, new) = (json!({ "spec": { "size": 1, "x": 1 } }), json!({ "spec": { "size": 2, "x": 1 } }));
        let other = json!({ "spec": { "size": 1, "x": 2 } });
        for (reason, first_seen, old, new, expected) in [
            (Reason::Create, false, &Value::Null, &new, vec!["create", "size/spec.size"]),
            (Reason::Create, true, &Value::Null, &new, vec!["create", "resume", "size/spec.size"]),
            (Reason::Update, false, &old, &new, vec!["update", "size/spec.size"]),
            (Reason::Update, false, &old, &other, vec!["update"]),
            (Reason::Resume, true, &old, &old, vec!["resume", "create"]),
            (Reason::Delete, false, &old, &old, vec![]),
        ] {
            let diff = Diff::between(old, new);
            let selected = select(&handlers, reason, first_seen, old, new, &diff);
            let ids: Vec<&str> = selected.iter().map(|changing| changing.handler.id.as_str()).collect();
            assert_eq!(ids, expected, "{reason:?}");
        }
    }
}
