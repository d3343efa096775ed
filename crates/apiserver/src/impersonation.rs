//! Acting as somebody else: the `Impersonate-*` headers, and whether the caller may.

use http::HeaderMap;

use crate::doors::UserInfo;
use crate::path::percent_decode;
use crate::rbac::Attributes;
use crate::server::Inner;
use crate::status::{About, Failure};
use crate::tokens::account_groups;

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// Who the request is made as: the caller, or whom its headers name if the caller may be them.
pub(crate) fn effective_user(
    server: &Inner,
    caller: UserInfo,
    headers: &HeaderMap,
) -> Result<UserInfo, Failure> {
    // Whoever asks to be somebody else must never act as themselves: what cannot be read is no header to pass over.
    let all = |name: &str| -> Result<Vec<String>, Failure> {
        let values = headers.get_all(name).iter().map(|value| std::str::from_utf8(value.as_bytes()));
        let texts: Result<Vec<String>, _> = values.map(|value| value.map(str::to_owned)).collect();
        texts.map_err(|_| Failure::bad_request(format!("the value of the header {name} is not UTF-8")))
    };
    let name = all("impersonate-user")?.into_iter().next().unwrap_or_default();
    let groups = all("impersonate-group")?;
    let uid = all("impersonate-uid")?.into_iter().next().unwrap_or_default();
    let mut extra: Vec<(String, Vec<String>)> = Vec::new();
    for header in headers.keys().filter_map(|name| name.as_str().strip_prefix(EXTRA_PREFIX)) {
        let key = percent_decode(header, false).unwrap_or_else(|| header.to_owned());
        extra.push((key, all(&format!("{EXTRA_PREFIX}{header}"))?));
    }
    if name.is_empty() {
        if !groups.is_empty() || !uid.is_empty() || !extra.is_empty() {
            return Err(Failure::internal(
                "requested groups or extra without impersonating a user: Impersonate-User is missing",
            ));
        }
        return Ok(caller);
    }
    let account = name.strip_prefix(ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => {
            allowed(server, &caller, "", "serviceaccounts", account, namespace, "")?
        }
        None => allowed(server, &caller, "", "users", &name, "", "")?,
    }
    for group in &groups {
        allowed(server, &caller, "", "groups", group, "", "")?;
    }
    const AUTHENTICATION: &str = "authentication.k8s.io";
    if !uid.is_empty() {
        allowed(server, &caller, AUTHENTICATION, "uids", &uid, "", "")?;
    }
    for (key, values) in &extra {
        for value in values {
            allowed(server, &caller, AUTHENTICATION, "userextras", value, "", key)?;
        }
    }
    let mut all_groups = groups;
    if let Some((namespace, _)) = account
        && all_groups.is_empty()
    {
        all_groups = account_groups(namespace);
    }
    let everyone = if name == "system:anonymous" { "system:unauthenticated" } else { "system:authenticated" };
    if !all_groups.iter().any(|group| group == everyone) {
        all_groups.push(everyone.into());
    }
    Ok(UserInfo { name, uid, groups: all_groups, extra })
}

fn allowed(
    server: &Inner,
    caller: &UserInfo,
    group: &str,
    resource: &str,
    name: &str,
    namespace: &str,
    subresource: &str,
) -> Result<(), Failure> {
    let attributes =
        Attributes { verb: "impersonate", group, resource, subresource, name, namespace, path: None };
    if server.authorizer.decide(&server.store, caller, &attributes).allowed {
        return Ok(());
    }
    let scope = match namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let why = format!(
        "User \"{}\" cannot impersonate resource \"{resource}\" in API group \"{group}\" {scope}",
        caller.name
    );
    Err(Failure::forbidden(About { group, resource, kind: "" }, name, &why))
}
