//! What applying an object would make of it, asked of the server without writing anything (`dryRun=All`).

use gantry_apimachinery::Value;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};

use crate::apply::{Applier, ApplyError, ObjectRef, convert, last_applied, set_last_applied, three_way};

/// By which rule an object would be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// As [`Applier::apply`] does: what the files said last time and say no more is removed.
    ThreeWay,
    /// The server merges what the field manager owns. With `force` it takes over what others own; without, that is refused.
    ServerSide { force: bool },
}

/// An object before and after it would be applied.
#[derive(Clone, Debug)]
pub struct Preview {
    pub id: ObjectRef,
    /// `None` where the server does not have it.
    pub live: Option<Value>,
    pub merged: Value,
}

impl Applier {
    /// Asks the server what applying the object would make of it. What could only be created in a namespace that is not
    /// there yet comes back as it was given.
    pub async fn preview(&mut self, object: &Value, index: usize, rule: Rule) -> Result<Preview, ApplyError> {
        let mut id = ObjectRef::of(object, index)?;
        let api = self.api(&mut id).await?;
        let refused = |error| ApplyError::Refused { object: id.clone(), error: Box::new(error) };
        let live = match api.get_opt(&id.name).await.map_err(refused)? {
            Some(live) => Some(convert::<_, Value>(&live, &id)?),
            None => None,
        };
        let manager = Some(self.field_manager().to_owned());
        let answer = match (rule, &live) {
            (Rule::ServerSide { force }, _) => {
                let params =
                    PatchParams { dry_run: true, force, field_manager: manager, ..PatchParams::default() };
                api.patch(&id.name, &params, &Patch::Apply(object)).await
            }
            (Rule::ThreeWay, None) => {
                let mut desired = object.clone();
                set_last_applied(&mut desired, object, &id)?;
                let body: DynamicObject = convert(&desired, &id)?;
                let params = PostParams { dry_run: true, field_manager: manager };
                api.create(&params, &body).await
            }
            (Rule::ThreeWay, Some(there)) => {
                let mut desired = object.clone();
                set_last_applied(&mut desired, object, &id)?;
                let previous = last_applied(there).unwrap_or_else(Value::object);
                let Some(patch) = three_way(&previous, &desired, there) else {
                    let merged = there.clone();
                    return Ok(Preview { id, live, merged });
                };
                let params = PatchParams { dry_run: true, field_manager: manager, ..PatchParams::default() };
                api.patch(&id.name, &params, &Patch::Merge(&patch)).await
            }
        };
        let merged = match answer {
            Ok(merged) => convert(&merged, &id)?,
            // Its namespace comes with the same files.
            Err(kube::Error::Api(status)) if live.is_none() && status.code == 404 => object.clone(),
            Err(error) => return Err(refused(error)),
        };
        Ok(Preview { id, live, merged })
    }
}
