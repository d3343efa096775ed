//! Resources that are questions: who am I, may I, is this token good, and a token for an account.

use gantry_apimachinery::{Map, Value, time};

use crate::doors::UserInfo;
use crate::rbac::{Attributes, Rule};
use crate::rest::{Answer, Call, body, owners, respond};
use crate::status::{About, Failure, FieldError};
use crate::store::ObjectKey;
use crate::tokens;

const TOKEN_DEFAULT_SECONDS: i64 = 3600;
const TOKEN_MIN_SECONDS: i64 = 600;
const TOKEN_MAX_SECONDS: i64 = 1 << 32;

pub(crate) fn create(call: &Call) -> Answer {
    let resource = &call.resource;
    let mut review = body::object(call, &resource.kind, &resource.api_version())?;
    let metadata = body::metadata_mut(&mut review);
    for field in ["uid", "resourceVersion", "managedFields"] {
        metadata.remove(field);
    }
    let status = match resource.plural.as_str() {
        "selfsubjectreviews" => {
            metadata.insert("creationTimestamp", time::format_time(call.server.clock.now_ms()));
            let mut status = Map::new();
            status.insert("userInfo", user_info(&call.user));
            status
        }
        "selfsubjectaccessreviews" => access(call, &review, &call.user)?,
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            let user = subject(&review)?;
            if resource.plural == "localsubjectaccessreviews" {
                let namespace =
                    review.str_at(&["spec", "resourceAttributes", "namespace"]).unwrap_or_default();
                if namespace != call.namespace() {
                    return Err(Failure::bad_request(format!(
                        "spec.resourceAttributes.namespace must match namespace: {namespace:?} is not {:?}",
                        call.namespace()
                    )));
                }
            }
            access(call, &review, &user)?
        }
        "selfsubjectrulesreviews" => rules(call, &review)?,
        "tokenreviews" => token_review(call, &review),
        _ => return Err(Failure::method_not_allowed()),
    };
    if resource.plural != "selfsubjectreviews" {
        owners::of_review(call, &mut review, &resource.api_version(), &resource.kind);
    }
    if let Some(map) = review.as_object_mut() {
        map.insert("status", status);
    }
    Ok(respond(call, 201, &review))
}

/// The user that a review asks about.
fn subject(review: &Value) -> Result<UserInfo, Failure> {
    let texts = |field: &str| -> Vec<String> {
        let list = review.at(&["spec", field]).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let name = review.str_at(&["spec", "user"]).unwrap_or_default().to_owned();
    let groups = texts("groups");
    if name.is_empty() && groups.is_empty() {
        let about = About { group: "authorization.k8s.io", resource: "", kind: "SubjectAccessReview" };
        let error =
            FieldError::invalid("spec.user", &"".into(), "at least one of user or group must be specified");
        return Err(Failure::invalid(about, "", vec![error]));
    }
    Ok(UserInfo { name, groups, ..UserInfo::default() })
}

fn access(call: &Call, review: &Value, user: &UserInfo) -> Result<Map, Failure> {
    let resource = review.at(&["spec", "resourceAttributes"]);
    let path = review.at(&["spec", "nonResourceAttributes"]);
    let about = About { group: "authorization.k8s.io", resource: "", kind: &call.resource.kind };
    let text = |of: Option<&'_ Value>, field: &str| {
        of.and_then(|of| of.str_at(&[field])).unwrap_or_default().to_owned()
    };
    let (verb, group, plural, sub, name, namespace) = (
        text(resource.or(path), "verb"),
        text(resource, "group"),
        text(resource, "resource"),
        text(resource, "subresource"),
        text(resource, "name"),
        text(resource, "namespace"),
    );
    let asked_path = text(path, "path");
    let attributes = match (resource, path) {
        (Some(_), None) => Attributes {
            verb: &verb,
            group: &group,
            resource: &plural,
            subresource: &sub,
            name: &name,
            namespace: &namespace,
            path: None,
        },
        (None, Some(_)) => Attributes { verb: &verb, path: Some(&asked_path), ..Attributes::default() },
        _ => {
            let error = FieldError::invalid(
                "spec.resourceAttributes",
                resource.unwrap_or(&Value::NULL),
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
            return Err(Failure::invalid(about, "", vec![error]));
        }
    };
    let decision = call.server.authorizer.decide(&call.server.store, user, &attributes);
    let mut status = Map::new();
    status.insert("allowed", decision.allowed);
    if !decision.reason.is_empty() {
        status.insert("reason", decision.reason);
    }
    Ok(status)
}

fn rules(call: &Call, review: &Value) -> Result<Map, Failure> {
    let namespace = review.str_at(&["spec", "namespace"]).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Failure::bad_request("no namespace on request"));
    }
    let held = call.server.authorizer.rules(&call.server.store, &call.user, namespace);
    let (paths, resources): (Vec<Rule>, Vec<Rule>) =
        held.into_iter().partition(|rule| !rule.paths.is_empty());
    let values = |rules: Vec<Rule>| rules.iter().map(Rule::to_value).collect::<Vec<_>>();
    let mut status = Map::new();
    status.insert("resourceRules", values(resources));
    status.insert("nonResourceRules", values(paths));
    status.insert("incomplete", false);
    Ok(status)
}

fn token_review(call: &Call, review: &Value) -> Map {
    let token = review.str_at(&["spec", "token"]).unwrap_or_default();
    let wanted: Vec<String> = match review.at(&["spec", "audiences"]).and_then(Value::as_array) {
        Some(list) if !list.is_empty() => {
            list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
        }
        _ => vec![tokens::ISSUER.to_owned()],
    };
    let now_seconds = call.server.clock.now_ms().div_euclid(1000);
    let mut status = Map::new();
    match call.server.tokens.verify(token, &call.server.store, now_seconds) {
        Some((user, audiences)) if audiences.iter().any(|audience| wanted.contains(audience)) => {
            let shared = audiences.into_iter().filter(|audience| wanted.contains(audience));
            status.insert("authenticated", true);
            status.insert("user", user_info(&user));
            status.insert("audiences", shared.map(Value::from).collect::<Vec<_>>());
        }
        Some(_) => {
            status.insert("user", Value::object());
            status.insert("error", "token audiences are not among those asked for");
        }
        None => {
            status.insert("user", Value::object());
            status.insert("error", "invalid bearer token");
        }
    }
    status
}

/// A token for the service account of the path.
pub(crate) fn token_request(call: &Call) -> Answer {
    const API_VERSION: &str = "authentication.k8s.io/v1";
    let account = call
        .server
        .store
        .get(&call.resource.collection, &call.key())
        .ok_or_else(|| Failure::not_found(call.about(), call.name()))?;
    let account_value = account.value();
    let uid = account_value.str_at(&["metadata", "uid"]).unwrap_or_default();
    let mut request = body::object(call, "TokenRequest", API_VERSION)?;
    let seconds = request.entry_at(&["spec", "expirationSeconds"]);
    if seconds.is_null() {
        *seconds = TOKEN_DEFAULT_SECONDS.into();
    }
    let lifetime = seconds.as_i64().unwrap_or(TOKEN_DEFAULT_SECONDS);
    let about = About { group: "authentication.k8s.io", resource: "", kind: "TokenRequest" };
    let refused = |why: &str| {
        let error = FieldError::invalid("spec.expirationSeconds", &lifetime.into(), why);
        Err(Failure::invalid(about, "", vec![error]))
    };
    if lifetime < TOKEN_MIN_SECONDS {
        return refused("may not specify a duration less than 10 minutes");
    }
    if lifetime > TOKEN_MAX_SECONDS {
        return refused("may not specify a duration larger than 2^32 seconds");
    }
    let now_ms = call.server.clock.now_ms();
    let metadata = body::metadata_mut(&mut request);
    for (field, text) in [("name", call.name()), ("namespace", call.namespace()), ("uid", uid)] {
        metadata.insert(field, text);
    }
    metadata.insert("creationTimestamp", time::format_time(now_ms));
    owners::of_review(call, &mut request, API_VERSION, "TokenRequest");
    let given = request.at(&["spec", "audiences"]).and_then(Value::as_array);
    let mut audiences: Vec<String> =
        given.into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect();
    if audiences.is_empty() {
        audiences.push(tokens::ISSUER.into());
    }
    let bound_to = bound_object(call, &request)?;
    let token = call.server.tokens.issue(&tokens::Request {
        namespace: call.namespace(),
        account: call.name(),
        account_uid: uid,
        bound_to,
        audiences: audiences.clone(),
        id: call.server.random.uid(),
        now_seconds: now_ms.div_euclid(1000),
        lifetime_seconds: lifetime,
    });
    let token = token.ok_or_else(|| Failure::internal("signing the token failed"))?;
    *request.entry_at(&["spec", "audiences"]) =
        audiences.into_iter().map(Value::from).collect::<Vec<_>>().into();
    request.entry_at(&["spec", "boundObjectRef"]);
    *request.entry_at(&["status", "token"]) = token.into();
    *request.entry_at(&["status", "expirationTimestamp"]) =
        time::format_time(now_ms + lifetime * 1000).into();
    Ok(respond(call, 201, &request))
}

/// What a token ends with: a pod, a secret or a node that must be there.
fn bound_object(call: &Call, request: &Value) -> Result<Option<(String, String, String)>, Failure> {
    let Some(bound) = request.at(&["spec", "boundObjectRef"]).filter(|bound| !bound.is_null()) else {
        return Ok(None);
    };
    let kind = bound.str_at(&["kind"]).unwrap_or_default();
    let name = bound.str_at(&["name"]).unwrap_or_default();
    let (collection, namespace) = match kind {
        "Pod" => ("/pods", call.namespace()),
        "Secret" => ("/secrets", call.namespace()),
        "Node" => ("/nodes", ""),
        other => {
            return Err(Failure::bad_request(format!(
                "cannot bind token for serviceaccount {:?} to object of type {other:?}: Pod, Secret and Node are accepted",
                call.name()
            )));
        }
    };
    let plural = collection.trim_start_matches('/');
    let about = About { group: "", resource: plural, kind };
    let key = ObjectKey { namespace: namespace.into(), name: name.into() };
    let object =
        call.server.store.get(collection, &key).ok_or_else(|| Failure::not_found(about, name))?.value();
    let uid = object.str_at(&["metadata", "uid"]).unwrap_or_default();
    let asked = bound.str_at(&["uid"]).unwrap_or_default();
    if !asked.is_empty() && asked != uid {
        let why = format!(
            "the UID in the bound object reference ({asked}) does not match the UID in record ({uid})"
        );
        return Err(Failure::conflict(about, name, &why));
    }
    Ok(Some((kind.to_ascii_lowercase(), name.to_owned(), uid.to_owned())))
}

fn user_info(user: &UserInfo) -> Map {
    let list = |texts: &[String]| texts.iter().map(|text| Value::from(text.as_str())).collect::<Vec<_>>();
    let mut info = Map::new();
    info.insert("username", user.name.as_str());
    if !user.uid.is_empty() {
        info.insert("uid", user.uid.as_str());
    }
    if !user.groups.is_empty() {
        info.insert("groups", list(&user.groups));
    }
    if !user.extra.is_empty() {
        let extra: Map =
            user.extra.iter().map(|(key, values)| (key.as_str().into(), list(values).into())).collect();
        info.insert("extra", extra);
    }
    info
}
