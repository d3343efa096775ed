//! Who may do what, acting as others, and tokens; bodies in protobuf.

use gantry_apimachinery::{Value, protobuf};
use gantry_apiserver::UserInfo;
use http::Method;

use crate::harness::{Api, message};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn with_reader() -> Api {
    let api = Api::start().await;
    let role = r#"{"metadata":{"name":"reader"},"rules":[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]}]}"#;
    let binding = r#"{"metadata":{"name":"r"},"roleRef":{"kind":"Role","name":"reader","apiGroup":"rbac.authorization.k8s.io"},"subjects":[{"kind":"User","name":"bob","apiGroup":"rbac.authorization.k8s.io"},{"kind":"ServiceAccount","name":"robot","namespace":"default"}]}"#;
    for (resource, body) in [("roles", role), ("rolebindings", binding)] {
        let (code, object) = api.post(&format!("{RBAC}/namespaces/default/{resource}"), body).await;
        assert_eq!(code, 201, "{object:?}");
    }
    api
}

#[tokio::test]
async fn roles_say_what_a_user_may() {
    let api = with_reader().await;
    let bob = api.as_user(UserInfo::new("bob"));
    assert_eq!(bob.get("/api/v1/namespaces/default/pods").await.0, 200);
    let (code, refused) = bob.get("/api/v1/pods").await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&refused),
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    assert_eq!(bob.get("/version").await.0, 200);
    assert_eq!(bob.get("/apis").await.0, 200);
    let anonymous = api.as_user(UserInfo::anonymous());
    assert_eq!((anonymous.get("/version").await.0, anonymous.get("/apis").await.0), (200, 403));
    let role =
        r#"{"metadata":{"name":"more"},"rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]}"#;
    let grant = r#"{"metadata":{"name":"maker"},"rules":[{"verbs":["create"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["roles"]}]}"#;
    api.post(&format!("{RBAC}/clusterroles"), grant).await;
    let binding = r#"{"metadata":{"name":"maker"},"roleRef":{"kind":"ClusterRole","name":"maker","apiGroup":"rbac.authorization.k8s.io"},"subjects":[{"kind":"User","name":"bob","apiGroup":"rbac.authorization.k8s.io"}]}"#;
    api.post(&format!("{RBAC}/clusterrolebindings"), binding).await;
    let (code, refused) = bob.post(&format!("{RBAC}/namespaces/default/roles"), role).await;
    assert_eq!(code, 403, "{refused:?}");
    assert!(message(&refused).contains("is attempting to grant RBAC permissions not currently held"));
}

/// Lets bob do what `rules` say, everywhere.
async fn grant(api: &Api, name: &str, rules: &str) {
    let role = format!(r#"{{"metadata":{{"name":"{name}"}},"rules":{rules}}}"#);
    let (code, object) = api.post(&format!("{RBAC}/clusterroles"), &role).await;
    assert_eq!(code, 201, "{object:?}");
    let binding = binding_to("ClusterRole", name);
    let (code, object) = api.post(&format!("{RBAC}/clusterrolebindings"), &binding).await;
    assert_eq!(code, 201, "{object:?}");
}

/// A binding of bob to a role.
fn binding_to(kind: &str, role: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"to-{role}"}},"roleRef":{{"kind":"{kind}","name":"{role}","apiGroup":"rbac.authorization.k8s.io"}},"subjects":[{{"kind":"User","name":"bob","apiGroup":"rbac.authorization.k8s.io"}}]}}"#
    )
}

const NOT_HELD: &str = "is attempting to grant RBAC permissions not currently held";

#[tokio::test]
async fn a_binding_gives_no_more_than_its_writer_has() {
    let api = Api::start().await;
    let rule = r#"[{"verbs":["create"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["rolebindings","clusterrolebindings"]}]"#;
    grant(&api, "binder", rule).await;
    let bob = api.as_user(UserInfo::new("bob"));
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    // What `admin` allows comes from the roles that it aggregates.
    for role in ["admin", "view", "cluster-admin"] {
        let (code, refused) = bob.post(&bindings, &binding_to("ClusterRole", role)).await;
        assert_eq!((code, message(&refused).contains(NOT_HELD)), (403, true), "{role}: {refused:?}");
    }
    let (code, refused) =
        bob.post(&format!("{RBAC}/clusterrolebindings"), &binding_to("Role", "cluster-admin")).await;
    assert_eq!((code, message(&refused).contains(NOT_HELD)), (403, true), "{refused:?}");
    let (code, refused) = bob.post(&bindings, &binding_to("Role", "later")).await;
    assert_eq!(code, 404, "{refused:?}");
    assert_eq!(bob.post(&bindings, &binding_to("ClusterRole", "binder")).await.0, 201);
    grant(&api, "any", r#"[{"verbs":["bind"],"apiGroups":["*"],"resources":["*"]}]"#).await;
    assert_eq!(bob.post(&bindings, &binding_to("ClusterRole", "admin")).await.0, 201);
    assert_eq!(bob.post(&bindings, &binding_to("Role", "later")).await.0, 201);
}

#[tokio::test]
async fn only_who_may_do_everything_says_what_a_role_aggregates() {
    let api = Api::start().await;
    let rule = r#"[{"verbs":["create","update","patch","get"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"]}]"#;
    grant(&api, "author", rule).await;
    let bob = api.as_user(UserInfo::new("bob"));
    let roles = format!("{RBAC}/clusterroles");
    let gathering =
        r#"{"metadata":{"name":"all"},"aggregationRule":{"clusterRoleSelectors":[{}]},"rules":[]}"#;
    assert_eq!(bob.post(&roles, gathering).await.0, 403);
    assert_eq!(bob.post(&roles, r#"{"metadata":{"name":"plain"},"rules":[]}"#).await.0, 201);
    let change = r#"{"aggregationRule":{"clusterRoleSelectors":[{}]}}"#;
    assert_eq!(bob.patch(&format!("{roles}/plain"), "merge", change).await.0, 403);
    assert_eq!(api.post(&roles, gathering).await.0, 201);
    let label = r#"{"metadata":{"labels":{"a":"b"}}}"#;
    assert_eq!(bob.patch(&format!("{roles}/all"), "merge", label).await.0, 200);
}

#[tokio::test]
async fn to_change_is_not_to_create() {
    let api = Api::start().await;
    let rule = r#"[{"verbs":["get","patch","update"],"apiGroups":["","coordination.k8s.io"],"resources":["configmaps","leases"]}]"#;
    grant(&api, "editor", rule).await;
    let bob = api.as_user(UserInfo::new("bob"));
    let config = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"1"}}"#;
    let path = "/api/v1/namespaces/default/configmaps/c";
    let apply = async |api: &Api| {
        let path = format!("{path}?fieldManager=me");
        let (status, text) =
            api.send(Method::PATCH, &path, "application/apply-patch+yaml", "application/json", config).await;
        (status.as_u16(), text)
    };
    let (code, text) = apply(&bob).await;
    assert_eq!(code, 403, "{text}");
    assert!(text.contains("cannot create resource"), "{text}");
    assert_eq!(api.get(path).await.0, 404);
    assert_eq!(apply(&api).await.0, 201);
    assert_eq!(apply(&bob).await.0, 200);
    let lease = r#"{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"}}"#;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let (code, refused) = bob.put(path, lease).await;
    assert_eq!(code, 403, "{refused:?}");
    assert_eq!(api.put(path, lease).await.0, 201);
    assert_eq!(bob.put(path, lease).await.0, 200);
}

#[tokio::test]
async fn whoever_acts_as_another_is_never_themselves() {
    let api = Api::start().await;
    let rule =
        r#"[{"verbs":["impersonate"],"apiGroups":[""],"resources":["users"],"resourceNames":["jürgen"]}]"#;
    grant(&api, "actor", rule).await;
    let bob = api.as_user(UserInfo::new("bob"));
    let who = async |api: &Api, headers: &[(&'static str, &[u8])]| {
        let mut all: Vec<(&'static str, &[u8])> = vec![("content-type", b"application/json".as_slice())];
        all.extend(headers);
        let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
        let (status, body) = api.send_with(Method::POST, path, &all, b"{}").await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let name = answer.str_at(&["status", "userInfo", "username"]).unwrap_or_default().to_owned();
        (status.as_u16(), name)
    };
    assert_eq!(who(&bob, &[]).await, (201, "bob".into()));
    assert_eq!(who(&bob, &[("impersonate-user", "jürgen".as_bytes())]).await, (201, "jürgen".into()));
    assert_eq!(who(&bob, &[("impersonate-user", b"alice")]).await.0, 403);
    assert_eq!(who(&bob, &[("impersonate-user", b"j\xfcrgen")]).await.0, 400);
    let group: (&str, &[u8]) = ("impersonate-group", b"\xff");
    assert_eq!(who(&api, &[("impersonate-user", b"alice"), group]).await.0, 400);
    assert_eq!(who(&api, &[("impersonate-user", b"alice")]).await, (201, "alice".into()));
}

#[tokio::test]
async fn reviews_answer_for_others() {
    let api = with_reader().await;
    let review = |user: &str, verb: &str| {
        format!(
            r#"{{"spec":{{"user":"{user}","resourceAttributes":{{"namespace":"default","verb":"{verb}","resource":"pods"}}}}}}"#
        )
    };
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (_, yes) = api.post(path, &review("bob", "get")).await;
    assert_eq!(yes.at(&["status", "allowed"]).and_then(Value::as_bool), Some(true));
    assert_eq!(
        yes.str_at(&["status", "reason"]),
        Some("RBAC: allowed by RoleBinding \"r/default\" of Role \"reader\" to User \"bob\"")
    );
    let (_, no) = api.post(path, &review("bob", "delete")).await;
    assert_eq!(no.at(&["status", "allowed"]).and_then(Value::as_bool), Some(false));
}

#[tokio::test]
async fn an_account_gets_a_token_that_says_who_it_is() {
    let api = with_reader().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.post(accounts, r#"{"metadata":{"name":"robot"}}"#).await;
    let (code, answer) = api.post(&format!("{accounts}/robot/token"), r#"{"spec":{}}"#).await;
    assert_eq!(code, 201, "{answer:?}");
    let token = answer.str_at(&["status", "token"]).unwrap();
    let body = format!(r#"{{"spec":{{"token":"{token}"}}}}"#);
    let (_, review) = api.post("/apis/authentication.k8s.io/v1/tokenreviews", &body).await;
    assert_eq!(
        review.str_at(&["status", "user", "username"]),
        Some("system:serviceaccount:default:robot"),
        "{review:?}"
    );
    let (code, refused) =
        api.post(&format!("{accounts}/robot/token"), r#"{"spec":{"expirationSeconds":5}}"#).await;
    assert_eq!(code, 422);
    assert!(message(&refused).contains("may not specify a duration less than 10 minutes"));
}

#[tokio::test]
async fn built_in_kinds_come_and_go_in_protobuf() {
    const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
    let api = Api::start().await;
    let object: Value = serde_json::from_str(
        r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"p"},"data":{"a":"1"}}"#,
    )
    .unwrap();
    let path = "/api/v1/namespaces/default/configmaps";
    let body = protobuf::encode(&object).unwrap();
    let (status, answer) = api.send_bytes(Method::POST, path, PROTOBUF, PROTOBUF, &body).await;
    assert_eq!(status.as_u16(), 201);
    let created = protobuf::decode(&answer, "", "").unwrap();
    assert_eq!(created.str_at(&["data", "a"]), Some("1"));
    assert!(created.at(&["metadata", "managedFields"]).is_some());
    let (_, list) = api.send_bytes(Method::GET, path, "", &format!("{PROTOBUF},application/json"), b"").await;
    assert!(list.starts_with(b"k8s\0"));
    let watch = format!("{path}?watch=1&timeoutSeconds=1");
    let (_, frames) = api.send_bytes(Method::GET, &watch, "", PROTOBUF, b"").await;
    let length = u32::from_be_bytes(frames[..4].try_into().unwrap()) as usize;
    assert_eq!(&frames[4..11], b"\x0a\x05ADDED");
    assert!(length <= frames.len() - 4);
}
