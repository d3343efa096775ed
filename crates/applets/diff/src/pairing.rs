//! Which object on one side is which on the other: by what it is called, or else by what it was called before overlays gave
//! it prefixes, namespaces and hashes.

use std::collections::HashMap;

use gantry_apimachinery::Value;

use crate::objects::Object;

/// Group, kind, namespace and name. The version does not count: an object moves to a newer one as the same object.
type Identity = (String, String, String, String);

fn identity(object: &Value) -> Identity {
    let text = |path: &[&str]| object.str_at(path).unwrap_or_default().to_owned();
    let api_version = text(&["apiVersion"]);
    let group = api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let namespace = match text(&["metadata", "namespace"]) {
        namespace if namespace == "default" => String::new(),
        namespace => namespace,
    };
    (group, text(&["kind"]), namespace, text(&["metadata", "name"]))
}

/// What it was called before, with and without the namespace it was in.
fn original(object: &Object, with_namespace: bool) -> Option<Identity> {
    let (group, kind, ..) = identity(&object.value);
    let original = object.original.as_ref()?;
    let namespace = if with_namespace { original.namespace.clone() } else { String::new() };
    Some((group, kind, namespace, original.name.clone()))
}

/// By what an object is known, if it has that.
type Key<'a> = &'a dyn Fn(&Object) -> Option<Identity>;

/// Indices of objects that are the same, or are only on one side; in the order of the new side, then what is gone.
pub(crate) fn pair(old: &[Object], new: &[Object]) -> Vec<(Option<usize>, Option<usize>)> {
    let mut of_new: Vec<Option<usize>> = vec![None; new.len()];
    let mut taken = vec![false; old.len()];
    let keys: [Key<'_>; 3] =
        [&|object| Some(identity(&object.value)), &|object| original(object, true), &|object| {
            original(object, false)
        }];
    for key in keys {
        let mut olds: HashMap<Identity, Vec<usize>> = HashMap::new();
        for (index, object) in old.iter().enumerate().filter(|(index, _)| !taken[*index]) {
            if let Some(key) = key(object) {
                olds.entry(key).or_default().push(index);
            }
        }
        let mut news: HashMap<Identity, Vec<usize>> = HashMap::new();
        for (index, object) in new.iter().enumerate().filter(|(index, _)| of_new[*index].is_none()) {
            if let Some(key) = key(object) {
                news.entry(key).or_default().push(index);
            }
        }
        for (key, news) in news {
            // A name that several have says nothing.
            if let (Some([old]), [new]) = (olds.get(&key).map(Vec::as_slice), news.as_slice()) {
                of_new[*new] = Some(*old);
                taken[*old] = true;
            }
        }
    }
    let pairs = of_new.into_iter().enumerate().map(|(new, old)| (old, Some(new)));
    let gone = (0..old.len()).filter(|index| !taken[*index]).map(|index| (Some(index), None));
    pairs.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use gantry_kustomize::Original;

    use super::*;

    fn object(kind: &str, namespace: &str, name: &str, original: Option<&str>) -> Object {
        let value = format!(
            r#"{{"apiVersion":"apps/v1","kind":"{kind}","metadata":{{"name":"{name}","namespace":"{namespace}"}}}}"#
        );
        let original = original.map(|name| Original { namespace: String::new(), name: name.to_owned() });
        Object { value: serde_json::from_str(&value).unwrap(), original }
    }

    #[test]
    fn objects_pair_by_name_and_else_by_what_they_were_called() {
        let old = [
            object("Deployment", "dev", "dev-web", Some("web")),
            object("Service", "default", "same", None),
            object("Service", "dev", "dev-web", Some("web")),
            object("Job", "", "gone", None),
        ];
        let new = [
            object("Service", "prod", "prod-web", Some("web")),
            object("Deployment", "prod", "prod-web", Some("web")),
            object("Service", "", "same", None),
            object("Job", "", "fresh", None),
        ];
        let pairs =
            [(Some(2), Some(0)), (Some(0), Some(1)), (Some(1), Some(2)), (None, Some(3)), (Some(3), None)];
        assert_eq!(pair(&old, &new), pairs);
    }

    #[test]
    fn a_name_that_several_had_pairs_nothing() {
        let old = [object("Job", "a", "x-1", Some("x")), object("Job", "b", "x-2", Some("x"))];
        let new = [object("Job", "c", "x-3", Some("x"))];
        assert_eq!(pair(&old, &new), [(None, Some(0)), (Some(0), None), (Some(1), None)]);
    }
}
