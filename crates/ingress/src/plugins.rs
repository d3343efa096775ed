//! KongPlugins and KongClusterPlugins as plugins of routes, services and consumers.
//!
//! Invariant: a plugin that is asked for and cannot be had closes what asked for it; nothing is served without a plugin
//! that was meant to stand before it.

use crate::annotations::protocol;
use crate::class::Class;
use crate::grants::Reference;
use crate::kinds::{KONG_GROUP, PluginContent, SecretKey, label};
use crate::subject::{Kind, Subject, tags};
use crate::translate::{Building, INCOMPLETE};
use gantry_gateway::entities::Plugin;
use gantry_gateway::{SUPPORTED_PLUGINS, check_plugin};
use gantry_kong_model::{Context, Model, Seeded, entity_id};
use gantry_operator::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What a plugin is put on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// By the gateway's name.
    Route(String),
    Service(String),
    Consumer {
        id: String,
        /// The user name, or what stands for it.
        name: String,
    },
}

/// An object's wish for a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) subject: Subject,
    pub(crate) scope: Scope,
    /// `name` or `namespace:name`.
    pub(crate) reference: String,
}

/// A plugin object made ready.
#[derive(Clone)]
struct Resolved {
    subject: Subject,
    plugin: Plugin,
}

/// Everything that one plugin object is put on.
#[derive(Default)]
struct Relations {
    routes: BTreeMap<String, Subject>,
    services: BTreeMap<String, Subject>,
    consumers: BTreeMap<(String, String), Subject>,
}

/// One plugin entity's scope.
#[derive(Default)]
struct Placed {
    route: Option<String>,
    service: Option<String>,
    consumer: Option<(String, String)>,
    by: Option<Subject>,
}

impl Relations {
    /// With consumers, each of them together with each route and service; otherwise each alone.
    fn combinations(&self) -> Vec<Placed> {
        let mut out = Vec::new();
        let services = self.services.iter().map(|(name, by)| Placed {
            service: Some(name.clone()),
            by: Some(by.clone()),
            ..Placed::default()
        });
        let routes = self.routes.iter().map(|(name, by)| Placed {
            route: Some(name.clone()),
            by: Some(by.clone()),
            ..Placed::default()
        });
        let places: Vec<Placed> = services.chain(routes).collect();
        if self.consumers.is_empty() {
            return places;
        }
        for (consumer, by) in &self.consumers {
            if places.is_empty() {
                out.push(Placed {
                    consumer: Some(consumer.clone()),
                    by: Some(by.clone()),
                    ..Placed::default()
                });
            }
            out.extend(places.iter().map(|place| Placed {
                route: place.route.clone(),
                service: place.service.clone(),
                consumer: Some(consumer.clone()),
                by: place.by.clone(),
            }));
        }
        out
    }
}

impl Placed {
    /// As the entity's id and the hash of its instance's name tell it.
    fn id(&self, plugin: &str) -> String {
        let mut text = plugin.to_owned();
        for (kind, name) in [
            ("service", self.service.as_ref()),
            ("route", self.route.as_ref()),
            ("consumer", self.consumer.as_ref().map(|(name, _)| name)),
        ] {
            if let Some(name) = name {
                text.push_str(&format!(":{kind}/{name}"));
            }
        }
        entity_id("plugins", &text)
    }

    /// Instance names must differ, so each gets the start of its place's hash.
    fn instance_name(&self, name: &str) -> String {
        let place = match (&self.consumer, &self.route, &self.service) {
            (Some((consumer, _)), _, _) => format!("consumer-{consumer}"),
            (None, Some(route), _) => format!("route-{route}"),
            (None, None, service) => format!("service-{}", service.as_deref().unwrap_or_default()),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, place.as_bytes());
        let hexadecimal: String = digest.as_ref().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        format!("{name}-{}", &hexadecimal[..9])
    }
}

impl Building<'_> {
    /// Makes the plugins that were asked for, and those for all requests.
    pub(crate) fn attach_plugins(&mut self, class: &Class<'_>) {
        let mut resolved: BTreeMap<Subject, (Resolved, Relations)> = BTreeMap::new();
        let mut broken: Vec<(Scope, Subject, String)> = Vec::new();
        for asked in std::mem::take(&mut self.asked) {
            let found = match self.resolve(&asked, class) {
                Ok(found) => found,
                Err(message) => {
                    broken.push((asked.scope, asked.subject, message));
                    continue;
                }
            };
            let (_, relations) =
                resolved.entry(found.subject.clone()).or_insert_with(|| (found, Relations::default()));
            match asked.scope {
                Scope::Route(name) => relations.routes.insert(name, asked.subject),
                Scope::Service(name) => relations.services.insert(name, asked.subject),
                Scope::Consumer { id, name } => relations.consumers.insert((name, id), asked.subject),
            };
        }
        for (found, relations) in resolved.into_values() {
            for place in relations.combinations() {
                if let Err(fault) = self.place(&found, place) {
                    broken.push(fault);
                }
            }
        }
        for (scope, subject, message) in broken {
            self.problem(&subject, message);
            match scope {
                Scope::Route(name) => self.close_route(&name, 503, INCOMPLETE),
                Scope::Service(name) => {
                    self.closed_services.insert(name);
                }
                Scope::Consumer { id, .. } => self.close_consumer(&id),
            }
        }
        self.add_global_plugins(class);
    }

    fn place(&mut self, found: &Resolved, place: Placed) -> Result<(), (Scope, Subject, String)> {
        let id = place.id(&found.plugin.name);
        let instance = found.plugin.instance_name.as_deref().map(|name| place.instance_name(name));
        let by = place.by.clone().unwrap_or_else(|| found.subject.clone());
        if self.plugins.contains_key(&id) {
            let plugin = &found.plugin.name;
            let message = format!(
                "{} {}: there is another {plugin} plugin in the same place",
                found.subject.kind.name(),
                found.subject.key
            );
            let scope = match (place.route, place.service, place.consumer) {
                (Some(name), _, _) => Scope::Route(name),
                (None, Some(name), _) => Scope::Service(name),
                (None, None, consumer) => {
                    let (name, id) = consumer.unwrap_or_default();
                    Scope::Consumer { id, name }
                }
            };
            return Err((scope, by, message));
        }
        self.put(Plugin {
            id,
            instance_name: instance,
            route: place.route,
            service: place.service,
            consumer: place.consumer.map(|(_, id)| id),
            ..found.plugin.clone()
        });
        Ok(())
    }

    /// The plugin object that is asked for: one of the namespace, otherwise a cluster-wide one.
    fn resolve(&mut self, asked: &Asked, class: &Class<'_>) -> Result<Resolved, String> {
        let own = asked.subject.key.namespace();
        let (namespace, name) = asked.reference.split_once(':').unwrap_or((own, &asked.reference));
        let (namespace, name) = (namespace.trim(), name.trim());
        let reference = Reference {
            from_group: asked.subject.kind.group(),
            from_kind: asked.subject.kind.name(),
            from_namespace: own,
            to_group: KONG_GROUP,
            to_kind: Kind::KongPlugin.name(),
            to_namespace: namespace,
            to_name: name,
        };
        if !reference.is_allowed(&self.input.reference_grants) {
            let kind = asked.subject.kind.name();
            return Err(format!("no grant found for {kind} in {own} to plugin {name} in {namespace}"));
        }
        let is_here = |meta: &ObjectMeta| {
            meta.name.as_deref() == Some(name) && meta.namespace.as_deref() == Some(namespace)
        };
        let (subject, content, meta) =
            if let Some(found) = self.input.plugins.iter().find(|plugin| is_here(&plugin.metadata)) {
                (Subject::of(Kind::KongPlugin, &found.metadata), &found.content, &found.metadata)
            } else if let Some(found) = self.input.cluster_plugins.iter().find(|plugin| {
                plugin.metadata.name.as_deref() == Some(name) && class.claims_annotated(&plugin.metadata)
            }) {
                (Subject::of(Kind::KongClusterPlugin, &found.metadata), &found.content, &found.metadata)
            } else {
                return Err(format!("no KongPlugin or KongClusterPlugin was found for {namespace}/{name}"));
            };
        match self.make(&subject, content, meta) {
            Ok(plugin) => Ok(Resolved { subject, plugin }),
            Err(message) => {
                let message = format!("{} {}: {message}", subject.kind.name(), subject.key);
                self.problem(&subject, message.clone());
                Err(message)
            }
        }
    }

    fn make(&self, subject: &Subject, content: &PluginContent, meta: &ObjectMeta) -> Result<Plugin, String> {
        if content.plugin.is_empty() {
            return Err("plugin: found nothing, expected the name of a plugin".to_owned());
        }
        if !content.consumer_ref.is_empty() {
            return Err(
                "consumerRef: not supported, name the plugin in an annotation of the KongConsumer".to_owned()
            );
        }
        if content.ordering.as_object().is_some_and(|ordering| !ordering.is_empty()) {
            return Err("ordering: not supported, plugins run in the order of their priorities".to_owned());
        }
        let config = self.config(subject, content)?;
        let mut protocols = Vec::new();
        for text in &content.protocols {
            let known = protocol(text);
            protocols
                .push(known.ok_or_else(|| format!("protocols: found {text:?}, expected http, https …"))?);
        }
        let holds_secrets = content.config_from.is_some() || !content.config_patches.is_empty();
        check(self.model, &content.plugin, &config, &content.protocols, holds_secrets)?;
        let mut plugin = Plugin {
            name: content.plugin.clone(),
            config,
            enabled: !content.disabled,
            instance_name: (!content.instance_name.is_empty()).then(|| content.instance_name.clone()),
            tags: tags(meta, subject.kind.name(), subject.kind.group()),
            ..Plugin::default()
        };
        if !protocols.is_empty() {
            plugin.protocols = protocols;
        }
        Ok(plugin)
    }

    /// The configuration with what comes from Secrets. No error tells what a Secret holds.
    fn config(&self, subject: &Subject, content: &PluginContent) -> Result<Value, String> {
        let mut config = match &content.config {
            Value::Null => Value::Object(Map::new()),
            Value::Object(map) => Value::Object(map.clone()),
            _ => return Err("config: found no object, expected the fields of the plugin".to_owned()),
        };
        for patch in &content.config_patches {
            let source = &patch.value_from.secret_key_ref;
            let text = self.secret_value(subject, source)?;
            let value: Value = serde_json::from_slice(&text)
                .map_err(|_| format!("configPatches: {} is not JSON", place(subject, source)))?;
            put_at(&mut config, &patch.path, value)
                .map_err(|reason| format!("configPatches: path {:?}: {reason}", patch.path))?;
        }
        let Some(from) = &content.config_from else { return Ok(config) };
        if config.as_object().is_some_and(|config| !config.is_empty()) {
            return Err("has both config and configFrom, expected one of them".to_owned());
        }
        let source = &from.secret_key_ref;
        let text = self.secret_value(subject, source)?;
        let value = serde_json::from_slice(&text).ok();
        let value = value.or_else(|| gantry_kong_model::read_yaml(std::str::from_utf8(&text).ok()?));
        match value {
            Some(Value::Object(config)) => Ok(Value::Object(config)),
            _ => Err(format!(
                "configFrom: {} is neither an object in JSON nor one in YAML",
                place(subject, source)
            )),
        }
    }

    fn secret_value(&self, subject: &Subject, source: &SecretKey) -> Result<Vec<u8>, String> {
        let namespace = secret_namespace(subject, source);
        let Some(secret) = self.secrets.get(&Key::new(namespace, &source.name)) else {
            return Err(format!("there is no secret {:?} in namespace {namespace:?}", source.name));
        };
        let value = secret.data.as_ref().and_then(|data| data.get(&source.key));
        let value = value.ok_or_else(|| format!("no key {:?} in {}", source.key, place(subject, source)))?;
        Ok(value.0.clone())
    }

    /// KongClusterPlugins labelled `global: "true"`. One that is broken may be what protects everything, so everything is
    /// closed.
    fn add_global_plugins(&mut self, class: &Class<'_>) {
        let mut taken = BTreeSet::new();
        let mut all: Vec<_> = self
            .input
            .cluster_plugins
            .iter()
            .filter(|plugin| label(&plugin.metadata, "global") == Some("true"))
            .filter(|plugin| class.claims_annotated(&plugin.metadata))
            .cloned()
            .collect();
        all.sort_by_key(|plugin| {
            let created = plugin.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
            (created, plugin.metadata.name.clone())
        });
        let mut is_broken = false;
        for found in all {
            let subject = Subject::of(Kind::KongClusterPlugin, &found.metadata);
            if !taken.insert(found.content.plugin.clone()) {
                let plugin = &found.content.plugin;
                self.problem(&subject, format!("there is an older global {plugin} plugin, which stays"));
                continue;
            }
            match self.make(&subject, &found.content, &found.metadata) {
                Ok(plugin) => self.put(Plugin { id: entity_id("plugins", &plugin.name), ..plugin }),
                Err(message) => {
                    is_broken = true;
                    let message = format!("{message}; it is global, so all routes answer 503");
                    self.problem(&subject, message);
                }
            }
        }
        if is_broken {
            for name in self.routes.keys().cloned().collect::<Vec<_>>() {
                self.close_route(&name, 503, INCOMPLETE);
            }
        }
    }
}

fn secret_namespace<'s>(subject: &'s Subject, source: &'s SecretKey) -> &'s str {
    match subject.kind {
        Kind::KongClusterPlugin => &source.namespace,
        _ => subject.key.namespace(),
    }
}

fn place(subject: &Subject, source: &SecretKey) -> String {
    format!("secret {}/{}", secret_namespace(subject, source), source.name)
}

/// Whether Kong would take such a plugin and this gateway can run it.
fn check(
    model: &Model,
    name: &str,
    config: &Value,
    protocols: &[String],
    holds_secrets: bool,
) -> Result<(), String> {
    let Some(schema) = model.schema("plugins") else { return Ok(()) };
    let mut entity = Map::new();
    entity.insert("name".to_owned(), json!(name));
    entity.insert("config".to_owned(), config.clone());
    if !protocols.is_empty() {
        entity.insert("protocols".to_owned(), json!(protocols));
    }
    schema.fill(&mut entity, Context::Insert, &mut Seeded::new(0, 1));
    let entity = Value::Object(entity);
    if let Err(faults) = schema.validate(&entity) {
        let told = faults.messages().into_iter().map(|(field, message)| {
            // Kong's messages may quote what was found.
            if holds_secrets { format!("{field}: invalid") } else { format!("invalid {field}: {message}") }
        });
        return Err(told.collect::<Vec<_>>().join("; "));
    }
    check_plugin(name, &entity["config"]).map_err(|reason| {
        if holds_secrets && SUPPORTED_PLUGINS.contains(&name) {
            "config: asks for what this gateway does not do".to_owned()
        } else {
            reason
        }
    })
}

/// RFC 6902's `add`, which makes the objects and lists on the way.
fn put_at(config: &mut Value, pointer: &str, value: Value) -> Result<(), String> {
    if pointer.is_empty() {
        *config = value;
        return Ok(());
    }
    let path = pointer.strip_prefix('/').ok_or("a path begins with /")?;
    let tokens: Vec<String> =
        path.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    let mut at = config;
    for (i, token) in tokens.iter().enumerate() {
        let next = tokens.get(i + 1);
        let empty = || match next {
            Some(next) if next == "-" || next.parse::<usize>().is_ok() => Value::Array(Vec::new()),
            _ => Value::Object(Map::new()),
        };
        match at {
            Value::Object(map) => {
                if next.is_none() {
                    map.insert(token.clone(), value);
                    return Ok(());
                }
                at = map.entry(token.clone()).or_insert_with(empty);
            }
            Value::Array(items) => {
                let position = if token == "-" { Some(items.len()) } else { token.parse().ok() };
                let position = position
                    .filter(|position| *position <= items.len())
                    .ok_or_else(|| format!("{token:?} is no position in a list of {}", items.len()))?;
                if next.is_none() {
                    items.insert(position, value);
                    return Ok(());
                }
                if position == items.len() {
                    items.push(empty());
                }
                at = &mut items[position];
            }
            _ => return Err(format!("{token:?} is below something that is neither an object nor a list")),
        }
    }
    Ok(())
}
