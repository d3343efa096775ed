//! What happened to an object, as far as handlers care.

use super::context::Reason;
use super::registry::Changing;

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

/// Whether a handler is called for `reason`, apart from its filters.
///
/// Resume handlers join updates of objects that were there before this process, and deletions if they ask for it.
pub(crate) fn reacts<K>(changing: &Changing<K>, reason: Reason, first_seen: bool) -> bool {
    match changing.reason {
        None => true,
        Some(Reason::Resume) => match reason {
            Reason::Resume => true,
            Reason::Update => first_seen,
            Reason::Delete => first_seen && changing.handler.deleted,
            _ => false,
        },
        Some(own) => own == reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::context::{Ctx, HandlerResult};
    use super::super::registry::{Handlers, handler};
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
    fn reactions() {
        let mut handlers: Handlers<()> = Handlers::new();
        handlers.add_changing(Some(Reason::Create), handler(nothing).id("create"));
        handlers.add_changing(Some(Reason::Update), handler(nothing).id("update"));
        handlers.add_changing(Some(Reason::Resume), handler(nothing).id("resume"));
        handlers.add_changing(None, handler(nothing).id("size").field("spec.size"));
        handlers.add_changing(Some(Reason::Resume), handler(nothing).id("always").deleted());
        for (reason, first_seen, expected) in [
            (Reason::Create, true, vec!["create", "size/spec.size"]),
            (Reason::Update, false, vec!["update", "size/spec.size"]),
            (Reason::Update, true, vec!["update", "resume", "size/spec.size", "always"]),
            (Reason::Resume, true, vec!["resume", "size/spec.size", "always"]),
            (Reason::Delete, true, vec!["size/spec.size", "always"]),
            (Reason::Delete, false, vec!["size/spec.size"]),
        ] {
            let reacting = handlers.changing.iter().filter(|changing| reacts(changing, reason, first_seen));
            let ids: Vec<&str> = reacting.map(|changing| changing.handler.id.as_str()).collect();
            assert_eq!(ids, expected, "{reason:?}");
        }
    }
}
