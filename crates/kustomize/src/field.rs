//! Goes to the fields that a specification names, making what is missing where it may.

use gantry_yaml::{Data, Node, Scalar, Span, Style, Tag};

use crate::config::FieldSpec;
use crate::error::{Error, Result};

/// What to make at the end of a path that may be created.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Create {
    Nothing,
    Scalar,
    Mapping,
}

impl Create {
    fn node(self, span: Span) -> Option<Node> {
        match self {
            Create::Nothing => None,
            Create::Mapping => Some(Node::mapping(span)),
            Create::Scalar => Some(Node::new(
                Data::Scalar(Scalar { text: Default::default(), tag: Tag::Str, style: Style::Plain }),
                span,
            )),
        }
    }
}

/// Calls `set` on each field of `object` that the specification names. The caller has matched the kind.
pub(crate) fn visit(
    object: &mut Node,
    spec: &FieldSpec,
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<()> {
    let steps = spec.steps();
    let create = if spec.create { create } else { Create::Nothing };
    descend(object, &steps, create, set)
}

fn descend(
    node: &mut Node,
    steps: &[String],
    create: Create,
    set: &mut dyn FnMut(&mut Node) -> Result<()>,
) -> Result<()> {
    let Some((step, rest)) = steps.split_first() else { return set(node) };
    let span = node.span;
    match &mut node.data {
        Data::Scalar(Scalar { tag: Tag::Null, .. }) => Ok(()),
        Data::Scalar(_) => Err(Error::at("expected sequence or mapping node", span)),
        Data::Sequence(items) => items.iter_mut().try_for_each(|item| descend(item, steps, create, set)),
        Data::Mapping(_) => {
            let (name, is_list) = match step.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (step.as_str(), false),
            };
            let make = match (is_list, rest.is_empty()) {
                _ if create == Create::Nothing => Create::Nothing,
                (true, _) => Create::Nothing,
                (false, true) => create,
                (false, false) => Create::Mapping,
            };
            if is_list && let Some(list) = node.get_mut(name).filter(|list| list.is_null()) {
                list.data = Data::Sequence(Vec::new());
            }
            let absent = node.get(name).is_none_or(Node::is_null);
            if absent {
                match make.node(span) {
                    Some(made) => node.set(name, made),
                    // A null at the end of the path is still the field.
                    None if node.get(name).is_none() || !rest.is_empty() => return Ok(()),
                    None => {}
                }
            }
            match node.get_mut(name) {
                Some(field) => descend(field, rest, create, set),
                None => Ok(()),
            }
        }
    }
}
