//! Kong's Admin API over the entities of a gateway: collections, nested collections, tags, schemas, `/config`, `/status`.
//!
//! Invariant: what is answered with success has been applied to the gateway and, where there is a store, has been
//! written to it first. A change that the gateway refuses leaves everything as it was.

mod body;
mod collections;
mod problem;
mod store;

pub use store::Persist;

use crate::Gateway;
use crate::entities::Snapshot;
use bytes::Bytes;
use gantry_kong_model::{
    Declarative, Entities, Generate, Model, PLUGIN_PRIORITIES, ParseError, Parsed, VERSION, flattened_errors,
};
use http::{Method, Request, Response, StatusCode, header};
use parking_lot::Mutex;
use problem::Problem;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::Store;

/// How the API is served.
pub struct AdminConfig {
    pub gateway: Gateway,
    /// Where changes are kept; without one entities come from `/config` alone and cannot be changed one by one.
    pub store: Option<Arc<dyn Persist>>,
    pub generate: Box<dyn Generate + Send>,
    /// Shown by `/`.
    pub node_id: String,
    pub hostname: String,
    /// Settings as `/` shows them.
    pub settings: Map<String, Value>,
}

struct State {
    store: Store,
    generate: Box<dyn Generate + Send>,
    /// The declarative configuration as it was given.
    declared: Option<String>,
    /// Of what was applied last; 32 zeros before the first.
    hash: String,
    /// Whether passwords of the entities still have to be hashed.
    transform: bool,
}

/// The Admin API of one gateway.
pub struct Admin {
    model: Model,
    gateway: Gateway,
    persist: Option<Arc<dyn Persist>>,
    node_id: String,
    hostname: String,
    settings: Map<String, Value>,
    /// Held from reading what is to be changed until the change is stored; taken before `state`.
    writing: Mutex<()>,
    state: Mutex<State>,
}

/// The hash of nothing.
const NO_HASH: &str = "00000000000000000000000000000000";

fn hash_of(value: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, value.as_bytes());
    digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Where a request goes: its path taken apart.
fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(body::percent_decoded).collect()
}

fn answer(status: StatusCode, value: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, header::HeaderValue::from_static("*"));
    headers.insert(header::SERVER, header::HeaderValue::from_static(crate::SERVER));
    response
}

impl Admin {
    /// Starts with what the store holds.
    pub fn new(config: AdminConfig) -> Result<Admin, String> {
        let model = Model::load();
        let entities = match &config.store {
            Some(store) => store.load()?,
            None => Entities::default(),
        };
        let admin = Admin {
            gateway: config.gateway,
            persist: config.store,
            node_id: config.node_id,
            hostname: config.hostname,
            settings: config.settings,
            writing: Mutex::new(()),
            state: Mutex::new(State {
                store: Store::new(entities.clone()),
                generate: config.generate,
                declared: None,
                hash: NO_HASH.to_owned(),
                transform: false,
            }),
            model,
        };
        admin.apply(&entities, false)?;
        Ok(admin)
    }

    fn apply(&self, entities: &Entities, transform: bool) -> Result<(), String> {
        let snapshot = Snapshot::from_entities(entities, transform).map_err(|error| error.to_string())?;
        self.gateway.apply(snapshot).map(drop).map_err(|error| error.to_string())
    }

    /// Loads a declarative file; errors name file, line and column.
    pub fn load_declarative(&self, file_name: &str, text: &str) -> Result<(), String> {
        let _writing = self.writing.lock();
        let mut state = self.state.lock();
        let reader = Declarative::new(&self.model);
        let parsed =
            reader.parse(file_name, text, &mut *state.generate).map_err(|error| error.to_string())?;
        self.take(&mut state, parsed, text).map_err(|problem| problem.message)
    }

    fn take(&self, state: &mut State, parsed: Parsed, text: &str) -> Result<(), Problem> {
        let transform = parsed.meta.get("_transform").and_then(Value::as_bool).unwrap_or(true);
        self.apply(&parsed.entities, transform).map_err(Problem::refused)?;
        state.store = Store::new(parsed.entities);
        state.declared = Some(text.to_owned());
        state.hash = hash_of(text);
        state.transform = transform;
        Ok(())
    }

    /// Answers a request of the API; its body was read as a whole.
    pub fn respond(&self, request: &Request<Bytes>) -> Response<Bytes> {
        if request.method() == Method::OPTIONS {
            let mut response = answer(StatusCode::NO_CONTENT, &Value::Null);
            *response.body_mut() = Bytes::new();
            response.headers_mut().insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                header::HeaderValue::from_static("GET, HEAD, PUT, PATCH, POST, DELETE"),
            );
            return response;
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        if reads && request.uri().path().trim_end_matches('/') == "/metrics" {
            return self.metrics(request.method());
        }
        let mut response = match self.route(request) {
            Ok((StatusCode::NO_CONTENT, _)) => {
                let mut response = answer(StatusCode::NO_CONTENT, &Value::Null);
                *response.body_mut() = Bytes::new();
                response
            }
            Ok((status, value)) => answer(status, &value),
            Err(problem) => answer(problem.status, &problem.body()),
        };
        if request.method() == Method::HEAD {
            *response.body_mut() = Bytes::new();
        }
        response
    }

    fn route(&self, request: &Request<Bytes>) -> Result<(StatusCode, Value), Problem> {
        let parts = segments(request.uri().path());
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = body::query(request.uri().query().unwrap_or_default());
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let read_only =
            |value: Value| if is_read { Ok((StatusCode::OK, value)) } else { Err(Problem::method()) };
        match parts.as_slice() {
            [] => read_only(self.root()),
            ["status"] => read_only(self.status()),
            ["status", "ready"] => read_only(json!({"message": "ready"})),
            ["endpoints"] => read_only(self.endpoints()),
            ["plugins", "enabled"] => {
                let names: Vec<&str> = PLUGIN_PRIORITIES.iter().map(|(name, _)| *name).collect();
                read_only(json!({"enabled_plugins": names}))
            }
            ["config"] => self.config(request, &query),
            ["schemas", "plugins", "validate"] => self.validate("plugins", request),
            ["schemas", "plugins", name] => match self.model.plugin(name) {
                Some(schema) => read_only(
                    json!({"fields": schema["fields"], "entity_checks": schema.get("entity_checks")}),
                ),
                None => Err(Problem::not_found_named(format!("No plugin named '{name}'"))),
            },
            ["schemas", name] => match self.model.schema(name) {
                Some(schema) => read_only(schema.definition()),
                None => Err(Problem::not_found_named(format!("No entity named '{name}'"))),
            },
            ["schemas", name, "validate"] => self.validate(name, request),
            ["tags"] => read_only(self.tags(None)),
            ["tags", tag] => read_only(self.tags(Some(tag))),
            _ => self.collection(&parts, request, &query),
        }
    }

    /// What the plugin prometheus serves here: the one answer that is not JSON.
    fn metrics(&self, method: &Method) -> Response<Bytes> {
        let mut response = answer(StatusCode::OK, &Value::Null);
        let text = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        *response.body_mut() = match *method {
            Method::HEAD => Bytes::new(),
            _ => Bytes::from(self.gateway.metrics_text()),
        };
        response
    }

    fn root(&self) -> Value {
        let mut available = Map::new();
        for (name, priority) in PLUGIN_PRIORITIES {
            available.insert(name.to_owned(), json!({"version": VERSION, "priority": priority}));
        }
        let state = self.state.lock();
        let mut enabled: Vec<&str> =
            state.store.entities().of("plugins").filter_map(|plugin| plugin["name"].as_str()).collect();
        enabled.sort_unstable();
        enabled.dedup();
        json!({
            "tagline": "Welcome to kong",
            "version": VERSION,
            "edition": "community",
            "hostname": self.hostname,
            "node_id": self.node_id,
            "plugins": {"available_on_server": available, "enabled_in_cluster": enabled},
            "configuration": self.settings,
        })
    }

    fn status(&self) -> Value {
        let state = self.state.lock();
        let mut status = json!({
            "database": {"reachable": true},
            "server": {
                "connections_active": self.gateway.connections(),
                "requests_in_flight": self.gateway.in_flight(),
            },
        });
        if self.persist.is_none() {
            status["configuration_hash"] = Value::from(state.hash.clone());
        }
        status
    }

    fn endpoints(&self) -> Value {
        let mut all: Vec<String> = [
            "/",
            "/config",
            "/endpoints",
            "/plugins/enabled",
            "/schemas/:name",
            "/status",
            "/tags",
            "/tags/:tags",
        ]
        .map(str::to_owned)
        .to_vec();
        for schema in self.model.schemas() {
            let name = collections::path_of(schema);
            all.push(format!("/{name}"));
            all.push(format!("/{name}/:{name}"));
        }
        all.sort();
        json!({"data": all})
    }

    fn tags(&self, wanted: Option<&str>) -> Value {
        let state = self.state.lock();
        let mut data = Vec::new();
        for (collection, entities) in &state.store.entities().0 {
            for (id, entity) in entities {
                for tag in entity["tags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    if wanted.is_none_or(|wanted| wanted == tag) {
                        data.push(json!({"tag": tag, "entity_name": collection, "entity_id": id}));
                    }
                }
            }
        }
        json!({"data": data, "next": null})
    }

    fn validate(&self, collection: &str, request: &Request<Bytes>) -> Result<(StatusCode, Value), Problem> {
        if request.method() != Method::POST {
            return Err(Problem::method());
        }
        let schema = self.model.schema(collection).ok_or_else(Problem::not_found)?;
        let mut entity = body::parse(request, schema)?;
        let mut state = self.state.lock();
        schema.fill(&mut entity, gantry_kong_model::Context::Insert, &mut *state.generate);
        schema.validate(&Value::Object(entity)).map_err(|faults| Problem::schema(&faults))?;
        Ok((StatusCode::OK, json!({"message": "schema validation successful"})))
    }

    fn config(
        &self,
        request: &Request<Bytes>,
        query: &[(String, String)],
    ) -> Result<(StatusCode, Value), Problem> {
        if self.persist.is_some() {
            return Err(Problem::message(
                StatusCode::BAD_REQUEST,
                "this endpoint is only available when Kong is configured to not use a database",
            ));
        }
        let flag = |name: &str| query.iter().any(|(key, value)| key == name && value == "1");
        match *request.method() {
            Method::GET | Method::HEAD => {
                let state = self.state.lock();
                Ok((StatusCode::OK, json!({"config": state.declared.clone().unwrap_or_default()})))
            }
            Method::POST => {
                let text = body::declarative(request)?;
                let mut state = self.state.lock();
                if flag("check_hash") && state.hash == hash_of(&text) {
                    return Ok((StatusCode::NOT_MODIFIED, Value::Null));
                }
                let reader = Declarative::new(&self.model);
                let parsed = match reader.parse("config", &text, &mut *state.generate) {
                    Ok(parsed) => parsed,
                    Err(ParseError::Syntax(message)) => {
                        return Err(Problem::declarative(&message, json!({"error": message})));
                    }
                    Err(ParseError::Invalid { faults, input, .. }) => {
                        if flag("flatten_errors") {
                            let (flattened, rest) = flattened_errors(&self.model, &input, &faults);
                            let mut problem = Problem::declarative("{}", rest.to_json());
                            problem.flattened = Some(flattened);
                            return Err(problem);
                        }
                        let fields = faults.to_json();
                        return Err(Problem::declarative(&fields.to_string(), fields));
                    }
                };
                self.take(&mut state, parsed, &text)?;
                let all = state.store.entities().0.clone();
                let shown: Map<String, Value> =
                    all.into_iter().map(|(name, entities)| (name, Value::Object(entities))).collect();
                Ok((StatusCode::CREATED, Value::Object(shown)))
            }
            _ => Err(Problem::method()),
        }
    }
}
