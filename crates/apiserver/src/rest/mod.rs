//! Requests: which one it is, whether the caller may make it, and the verb that answers it.

mod apply;
pub(crate) mod body;
mod create;
mod delete;
mod list;
mod nonresource;
mod owners;
mod patch;
mod pods;
mod present;
mod reviews;
mod scale;
mod selection;
mod update;
mod upgrade;
mod watch;
pub(crate) mod write;

use std::sync::Arc;

use bytes::Bytes;
use gantry_apimachinery::Value;
use http::request::Parts;
use http::{Method, Request, Response, header};
use parking_lot::Mutex;

use crate::doors::UserInfo;
use crate::impersonation;
use crate::negotiate::{self, Accepted};
use crate::path::{self, Parsed, ResourcePath};
use crate::query::Query;
use crate::rbac::Attributes;
use crate::resources::{Registry, Resource};
use crate::response;
use crate::server::Inner;
use crate::service::ResponseBody;
use crate::status::{About, Failure};
use crate::store::ObjectKey;

pub(crate) type Answer = Result<Response<ResponseBody>, Failure>;

/// One request for a resource.
pub(crate) struct Call {
    pub(crate) server: Arc<Inner>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) user: UserInfo,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) accepted: Accepted,
    pub(crate) parts: Parts,
    pub(crate) body: Bytes,
    /// What the answer's Warning headers say.
    pub(crate) warnings: Arc<Mutex<Vec<String>>>,
}

impl Call {
    pub(crate) fn about(&self) -> About<'_> {
        self.resource.about()
    }

    /// The namespace of the path, empty for a cluster-scoped resource.
    pub(crate) fn namespace(&self) -> &str {
        self.path.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn key(&self) -> ObjectKey {
        ObjectKey { namespace: self.namespace().into(), name: self.name().into() }
    }

    /// A call for the same object that can be given another resource, path or body.
    fn clone_for_write(&self) -> Call {
        Call {
            server: self.server.clone(),
            registry: self.registry.clone(),
            resource: self.resource.clone(),
            user: self.user.clone(),
            path: self.path.clone(),
            query: self.query.clone(),
            accepted: self.accepted,
            parts: self.parts.clone(),
            body: self.body.clone(),
            warnings: self.warnings.clone(),
        }
    }

    /// True if the body is a configuration to apply.
    pub(crate) fn is_apply(&self) -> bool {
        let content_type = self.header(header::CONTENT_TYPE).map_or("", negotiate::media_type);
        self.parts.method == Method::PATCH && content_type == apply::CONTENT_TYPE
    }

    /// Adds to what the answer's Warning headers say.
    pub(crate) fn warn(&self, texts: Vec<String>) {
        let mut warnings = self.warnings.lock();
        let room = MAX_WARNINGS.saturating_sub(warnings.len());
        warnings.extend(texts.into_iter().take(room));
    }

    /// Refuses a caller who may not create what the path names: to change it is another right.
    pub(crate) fn authorize_create(&self) -> Result<(), Failure> {
        authorize(&self.server, &self.user, "create", &self.resource, &self.path)
    }

    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }
}

pub(crate) async fn handle(server: Arc<Inner>, request: Request<Bytes>) -> Response<ResponseBody> {
    match answer(server, request).await {
        Ok(response) => response,
        Err(failure) => response::failure(&failure),
    }
}

async fn answer(server: Arc<Inner>, request: Request<Bytes>) -> Answer {
    let caller = request.extensions().get::<UserInfo>().cloned().unwrap_or_else(UserInfo::anonymous);
    let user = impersonation::effective_user(&server, caller, request.headers())?;
    let Some(parsed) = path::parse(request.uri().path()) else { return Ok(nonresource::page_not_found()) };
    let path = match parsed {
        Parsed::Other(segments) => {
            return nonresource::handle(&server, &user, &segments, &request);
        }
        Parsed::Resource(path) => path,
    };
    let registry = server.registry.load_full();
    let aggregated = server.aggregated.read().iter().find(|api| serves(&***api, &path)).cloned();
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let Some(resource) = registry.get(&path.group, &path.version, &path.resource).cloned() else {
        authorize_unknown(&server, &user, &parts.method, &path, &query)?;
        if let Some(api) = aggregated {
            // Resources that discovery does not list by themselves, such as the pods of a metric.
            let mut request = Request::from_parts(parts, body);
            request.extensions_mut().insert(user);
            return Ok(api.handle(request).await);
        }
        if registry.group_version(&path.group, &path.version).is_none() {
            return Ok(nonresource::page_not_found());
        }
        return Err(Failure::no_such_resource());
    };
    let verb = verb(&parts.method, &path, &query)?;
    authorize(&server, &user, verb, &resource, &path)?;
    if let Some(api) = aggregated {
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(user);
        return Ok(api.handle(request).await);
    }
    let outside = resource.namespaced && path.namespace.is_none() && path.name.is_some();
    if outside || (!resource.namespaced && path.namespace.is_some()) {
        // A namespaced object without a namespace, or the other way round.
        return Err(Failure::no_such_resource());
    }
    let verbs = match &path.subresource {
        Some(name) => resource.subresource(name).ok_or_else(Failure::no_such_resource)?.verbs,
        None => resource.verbs,
    };
    if !verbs.has(verb) {
        return Err(Failure::method_not_allowed());
    }
    let accept = parts.headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let streams =
        matches!(path.subresource.as_deref(), Some("log" | "exec" | "attach" | "portforward" | "proxy"));
    let accepted = match negotiate::accepted(accept, query.flag("pretty"), resource.custom.is_none()) {
        Some(accepted) => accepted,
        None if streams => {
            Accepted { shape: negotiate::Shape::Object, format: negotiate::Format::Json, pretty: false }
        }
        None => return Err(Failure::not_acceptable()),
    };
    let warnings = Arc::new(Mutex::new(Vec::new()));
    warn_deprecated(&resource, &warnings);
    let call = Call {
        server,
        registry,
        resource,
        user,
        path,
        query,
        accepted,
        parts,
        body,
        warnings: warnings.clone(),
    };
    let mut response = dispatch(call, verb).await?;
    for warning in warnings.lock().iter() {
        // A warning may repeat what the request said, and a client refuses an answer whose head is too long.
        let text: String = warning
            .chars()
            .take(MAX_WARNING_CHARS)
            .filter(|c| !c.is_control())
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .collect();
        if let Ok(value) = header::HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    Ok(response)
}

/// More than this many warnings help nobody.
const MAX_WARNINGS: usize = 16;
const MAX_WARNING_CHARS: usize = 256;

fn warn_deprecated(resource: &Resource, warnings: &Mutex<Vec<String>>) {
    if resource.id() == "/endpoints" {
        warnings
            .lock()
            .push("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into());
    }
    if resource.plural == "componentstatuses" {
        warnings.lock().push("v1 ComponentStatus is deprecated in v1.19+".into());
    }
}

async fn dispatch(call: Call, verb: &'static str) -> Answer {
    match call.path.subresource.as_deref() {
        Some("scale") => return scale::handle(&call, verb).await,
        Some("log" | "exec" | "attach" | "portforward" | "proxy") => return pods::proxy(call).await,
        Some("binding") => return pods::bind(&call).await,
        Some("eviction") => return pods::evict(&call).await,
        Some("token") => return reviews::token_request(&call),
        _ => {}
    }
    if call.resource.collection.is_empty() {
        return match (verb, call.resource.plural.as_str()) {
            ("create", "bindings") => pods::bind(&call).await,
            ("create", _) => reviews::create(&call),
            _ => list::empty(&call),
        };
    }
    match verb {
        "get" => list::get(&call),
        "list" => list::list(&call),
        "watch" => watch::watch(call),
        "create" => create::create(&call).await,
        "update" => update::replace(&call).await,
        "patch" if call.is_apply() => apply::apply(&call).await,
        "patch" => patch::patch(&call).await,
        "delete" => delete::delete(&call).await,
        "deletecollection" => delete::delete_collection(&call).await,
        _ => Err(Failure::method_not_allowed()),
    }
}

fn serves(api: &dyn crate::doors::AggregatedApi, path: &ResourcePath) -> bool {
    api.group_version().is_some_and(|(group, version)| group == path.group && version == path.version)
}

/// Those who may not ask for a resource do not learn that there is none.
fn authorize_unknown(
    server: &Inner,
    user: &UserInfo,
    method: &Method,
    path: &ResourcePath,
    query: &Query,
) -> Result<(), Failure> {
    let attributes = Attributes {
        verb: verb(method, path, query)?,
        group: &path.group,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        name: path.name.as_deref().unwrap_or_default(),
        namespace: path.namespace.as_deref().unwrap_or_default(),
        path: None,
    };
    if server.authorizer.decide(&server.store, user, &attributes).allowed {
        return Ok(());
    }
    let about = About { group: &path.group, resource: &path.resource, kind: "" };
    Err(forbidden(user, attributes.verb, about, path))
}

fn verb(method: &Method, path: &ResourcePath, query: &Query) -> Result<&'static str, Failure> {
    let named = path.name.is_some();
    Ok(match *method {
        Method::GET if path.watch || query.flag("watch") && path.subresource.is_none() => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT if named => "update",
        Method::PATCH if named => "patch",
        Method::DELETE if named => "delete",
        Method::DELETE => "deletecollection",
        _ => return Err(Failure::method_not_allowed()),
    })
}

fn authorize(
    server: &Inner,
    user: &UserInfo,
    verb: &str,
    resource: &Resource,
    path: &ResourcePath,
) -> Result<(), Failure> {
    let attributes = Attributes {
        verb,
        group: &resource.group,
        resource: &resource.plural,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        name: path.name.as_deref().unwrap_or_default(),
        // A namespace is an object of its own namespace.
        namespace: match path.namespace.as_deref() {
            None if resource.id() == "/namespaces" => path.name.as_deref().unwrap_or_default(),
            namespace => namespace.unwrap_or_default(),
        },
        path: None,
    };
    if server.authorizer.decide(&server.store, user, &attributes).allowed {
        return Ok(());
    }
    Err(forbidden(user, verb, resource.about(), path))
}

fn forbidden(user: &UserInfo, verb: &str, about: About<'_>, path: &ResourcePath) -> Failure {
    let name = match &path.subresource {
        Some(subresource) => format!("{}/{subresource}", about.resource),
        None => about.resource.to_owned(),
    };
    let scope = match &path.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".into(),
    };
    let why = format!(
        "User \"{}\" cannot {verb} resource \"{name}\" in API group \"{}\" {scope}",
        user.name, about.group
    );
    Failure::forbidden(about, path.name.as_deref().unwrap_or_default(), &why)
}

/// A fresh object tree for an answer that is not stored.
pub(crate) use present::{metadata_only as present_metadata, object_json};

pub(crate) fn respond(call: &Call, code: u16, object: &Value) -> Response<ResponseBody> {
    response::negotiated(code, call.accepted, response::to_json(object).into())
}
