//! Resources that are questions: who am I, may I, is this token good.

use gantry_apimachinery::{Map, Value, time};

use crate::doors::UserInfo;
use crate::rest::{Answer, Call, body, respond};
use crate::status::Failure;

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
        "selfsubjectaccessreviews" => allowed(true),
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            let user = review.str_at(&["spec", "user"]).unwrap_or_default();
            let groups = review.at(&["spec", "groups"]).and_then(Value::as_array);
            let in_masters = groups
                .is_some_and(|groups| groups.iter().any(|group| group.as_str() == Some("system:masters")));
            // Everyone who can log in may do everything; nobody else can have logged in.
            allowed(in_masters || user == call.user.name)
        }
        "selfsubjectrulesreviews" => {
            let everything = |field: &str| {
                let mut rule = Map::new();
                rule.insert("verbs", vec![Value::from("*")]);
                if field == "resources" {
                    rule.insert("apiGroups", vec![Value::from("*")]);
                }
                rule.insert(field, vec![Value::from("*")]);
                vec![Value::from(rule)]
            };
            let mut status = Map::new();
            status.insert("resourceRules", everything("resources"));
            status.insert("nonResourceRules", everything("nonResourceURLs"));
            status.insert("incomplete", false);
            status
        }
        "tokenreviews" => {
            let mut status = Map::new();
            status.insert("user", Value::object());
            status.insert("error", "invalid bearer token");
            status
        }
        _ => return Err(Failure::method_not_allowed()),
    };
    if let Some(map) = review.as_object_mut() {
        map.insert("status", status);
    }
    Ok(respond(call, 201, &review))
}

/// Service-account tokens are not issued: there is no key to sign them with yet, and saying so beats a token that
/// nobody accepts.
pub(crate) fn token_request(call: &Call) -> Answer {
    call.server
        .store
        .get(&call.resource.collection, &call.key())
        .ok_or_else(|| Failure::not_found(call.about(), call.name()))?;
    Err(Failure::unavailable("this server does not issue service account tokens yet"))
}

fn allowed(allowed: bool) -> Map {
    let mut status = Map::new();
    status.insert("allowed", allowed);
    status
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
