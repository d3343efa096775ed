//! Kong's entities as plain values: the field names and defaults of its schemas, so that a declarative file, the Admin
//! API and a controller all speak of the same structs.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A protocol a route accepts or a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    Http,
    Https,
    Grpc,
    Grpcs,
    Tcp,
    Tls,
    TlsPassthrough,
    Udp,
    Ws,
    Wss,
}

impl Protocol {
    /// The scheme as written in a URL or an error.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::Https => "https",
            Protocol::Grpc => "grpc",
            Protocol::Grpcs => "grpcs",
            Protocol::Tcp => "tcp",
            Protocol::Tls => "tls",
            Protocol::TlsPassthrough => "tls_passthrough",
            Protocol::Udp => "udp",
            Protocol::Ws => "ws",
            Protocol::Wss => "wss",
        }
    }

    /// Whether requests of this protocol are HTTP messages (and so have a path to rewrite).
    pub fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http
                | Protocol::Https
                | Protocol::Grpc
                | Protocol::Grpcs
                | Protocol::Ws
                | Protocol::Wss
        )
    }
}

/// Where requests go: an upstream by name, a host name or an address, and how to speak to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    pub id: String,
    pub name: Option<String>,
    pub protocol: Protocol,
    /// The name of an [`Upstream`], otherwise a host name or an address.
    pub host: String,
    pub port: u16,
    pub path: Option<String>,
    /// Further attempts after the first one failed.
    pub retries: u16,
    /// Milliseconds, as are the two below.
    pub connect_timeout: u64,
    pub write_timeout: u64,
    pub read_timeout: u64,
    /// Id of the [`Certificate`] that is shown to the targets.
    pub client_certificate: Option<String>,
    /// Whether certificates of targets are checked; `None` stands for no, as nginx has it.
    pub tls_verify: Option<bool>,
    /// Intermediate certificates that a target may send; any number where absent.
    pub tls_verify_depth: Option<u16>,
    /// Ids of the [`CaCertificate`]s that targets are checked against.
    pub ca_certificates: Option<Vec<String>>,
    pub enabled: bool,
    pub tags: Vec<String>,
}

impl Default for Service {
    fn default() -> Service {
        Service {
            id: String::new(),
            name: None,
            protocol: Protocol::Http,
            host: String::new(),
            port: 80,
            path: None,
            retries: 5,
            connect_timeout: 60_000,
            write_timeout: 60_000,
            read_timeout: 60_000,
            client_certificate: None,
            tls_verify: None,
            tls_verify_depth: None,
            ca_certificates: None,
            enabled: true,
            tags: Vec::new(),
        }
    }
}

impl Service {
    /// The name by which routes, metrics and errors speak of the service.
    pub fn label(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(if self.id.is_empty() {
            &self.host
        } else {
            &self.id
        })
    }
}

/// How a path is joined to the service's; `v0` is the default, `v1` concatenates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathHandling {
    #[default]
    V0,
    V1,
}

/// One side of a stream connection: an address or a range, a port, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    pub ip: Option<String>,
    pub port: Option<u16>,
}

/// A query parameter and the value that its first occurrence has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryMatch {
    pub name: String,
    /// Decoded; a regular expression where `is_pattern`.
    pub value: String,
    pub is_pattern: bool,
}

/// Another service that gets a copy of a part of the requests; what it answers is nobody's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Id or name.
    pub service: String,
    /// The part: `numerator` of `denominator` requests.
    pub numerator: u32,
    pub denominator: u32,
}

/// A route that takes a share of another's requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The route's name.
    pub route: String,
    pub weight: u32,
}

/// What only controllers ask of a route; Kong's routes have none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteExtras {
    /// Where set, the place among the routes in Kong's stead: the higher goes first. For rules whose order is not Kong's,
    /// such as the Gateway API's; comparable with the 64 bits of `traditional_compatible`.
    pub priority: Option<u64>,
    /// Query parameters that must be there.
    pub queries: Vec<QueryMatch>,
    /// Names of the [`Entrance`]s through which the route is reached, besides the listeners for all routes.
    pub entrances: Vec<String>,
    /// Hosts that are another listener's: exact, or behind `*.` one or more labels.
    pub other_hosts: Vec<String>,
    /// Whether requests of other protocols go by, rather than being told to come over TLS.
    pub has_strict_protocols: bool,
    /// From the request's arrival to the end of its answer, in milliseconds.
    pub request_timeout: Option<u64>,
    pub mirrors: Vec<Mirror>,
    /// The routes of which one takes the request in this one's place.
    pub shares: Vec<Share>,
    /// Takes requests only in the place of a route that names it.
    pub is_share: bool,
}

/// Which requests a service gets. A field that is absent matches everything; at least one must be present.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    pub id: String,
    pub name: Option<String>,
    pub protocols: Vec<Protocol>,
    pub methods: Option<Vec<String>>,
    /// Exact names, or with one `*` label at either end; an optional `:port`.
    pub hosts: Option<Vec<String>>,
    /// Prefixes, or regular expressions behind `~`.
    pub paths: Option<Vec<String>>,
    /// Header names to accepted values; one value beginning with `~*` is a regular expression.
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    pub snis: Option<Vec<String>>,
    pub sources: Option<Vec<Endpoint>>,
    pub destinations: Option<Vec<Endpoint>>,
    pub regex_priority: i64,
    pub strip_path: bool,
    pub path_handling: PathHandling,
    pub preserve_host: bool,
    pub https_redirect_status_code: u16,
    pub request_buffering: bool,
    pub response_buffering: bool,
    /// Seconds since the epoch; the older of two otherwise equal routes wins.
    pub created_at: Option<i64>,
    /// The service's id or name; a route without one answers only what plugins answer.
    pub service: Option<String>,
    #[serde(skip)]
    pub extras: RouteExtras,
    pub tags: Vec<String>,
}

impl Default for Route {
    fn default() -> Route {
        Route {
            id: String::new(),
            name: None,
            protocols: vec![Protocol::Http, Protocol::Https],
            methods: None,
            hosts: None,
            paths: None,
            headers: None,
            snis: None,
            sources: None,
            destinations: None,
            regex_priority: 0,
            strip_path: true,
            path_handling: PathHandling::V0,
            preserve_host: false,
            https_redirect_status_code: 426,
            request_buffering: true,
            response_buffering: true,
            created_at: None,
            service: None,
            extras: RouteExtras::default(),
            tags: Vec::new(),
        }
    }
}

impl Route {
    /// The name by which metrics and errors speak of the route.
    pub fn label(&self) -> &str {
        self.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.id)
    }
}

/// How an upstream chooses among its targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    #[default]
    RoundRobin,
    LeastConnections,
    ConsistentHashing,
    Latency,
}

/// What of a request decides its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    #[default]
    None,
    Consumer,
    Ip,
    Header,
    Cookie,
    Path,
    QueryArg,
    UriCapture,
}

/// A named set of targets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstream {
    pub id: String,
    pub name: String,
    pub algorithm: Algorithm,
    pub hash_on: HashOn,
    /// Where a request has nothing of the first.
    pub hash_fallback: HashOn,
    pub hash_on_header: Option<String>,
    pub hash_fallback_header: Option<String>,
    pub hash_on_cookie: Option<String>,
    pub hash_on_cookie_path: String,
    pub hash_on_query_arg: Option<String>,
    pub hash_fallback_query_arg: Option<String>,
    pub hash_on_uri_capture: Option<String>,
    pub hash_fallback_uri_capture: Option<String>,
    /// Kept for those who read the configuration; targets are not looked after by it here.
    pub healthchecks: Option<serde_json::Value>,
    pub slots: u32,
    /// Sent instead of the target's address when the route does not preserve the client's.
    pub host_header: Option<String>,
    /// Id of the [`Certificate`] that is shown to the targets of services that have none of their own.
    pub client_certificate: Option<String>,
    pub targets: Vec<Target>,
    pub tags: Vec<String>,
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream {
            id: String::new(),
            name: String::new(),
            algorithm: Algorithm::RoundRobin,
            hash_on: HashOn::None,
            hash_fallback: HashOn::None,
            hash_on_header: None,
            hash_fallback_header: None,
            hash_on_cookie: None,
            hash_on_cookie_path: "/".to_owned(),
            hash_on_query_arg: None,
            hash_fallback_query_arg: None,
            hash_on_uri_capture: None,
            hash_fallback_uri_capture: None,
            healthchecks: None,
            slots: 10_000,
            host_header: None,
            client_certificate: None,
            targets: Vec::new(),
            tags: Vec::new(),
        }
    }
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    pub id: String,
    /// `address[:port]`; the port is 8000 when absent, as Kong's is.
    pub target: String,
    /// 0 takes the target out of rotation.
    pub weight: u16,
    pub tags: Vec<String>,
}

impl Default for Target {
    fn default() -> Target {
        Target { id: String::new(), target: String::new(), weight: 100, tags: Vec::new() }
    }
}

/// A plugin: what it is, how it is set, and which requests it sees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plugin {
    pub id: String,
    pub name: String,
    pub config: serde_json::Value,
    /// Ids or names; a scope that is absent restricts nothing.
    pub service: Option<String>,
    pub route: Option<String>,
    pub consumer: Option<String>,
    pub enabled: bool,
    pub protocols: Vec<Protocol>,
    /// A name of the user's for this instance; nothing depends on it here.
    pub instance_name: Option<String>,
    pub tags: Vec<String>,
}

impl Default for Plugin {
    fn default() -> Plugin {
        Plugin {
            id: String::new(),
            name: String::new(),
            config: serde_json::Value::Null,
            service: None,
            route: None,
            consumer: None,
            enabled: true,
            protocols: vec![Protocol::Grpc, Protocol::Grpcs, Protocol::Http, Protocol::Https],
            instance_name: None,
            tags: Vec::new(),
        }
    }
}

/// Somebody who is known by a credential.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Consumer {
    pub id: String,
    pub username: Option<String>,
    pub custom_id: Option<String>,
    pub tags: Vec<String>,
}

/// A key of a consumer (`key-auth`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyCredential {
    pub id: String,
    pub consumer: String,
    pub key: String,
    pub tags: Vec<String>,
}

/// A name and the hash of a password (`basic-auth`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BasicCredential {
    pub id: String,
    pub consumer: String,
    pub username: String,
    /// As Kong stores it: SHA-1 over the password and the consumer's id, in hexadecimal.
    pub password: String,
    pub tags: Vec<String>,
}

/// What signs a consumer's tokens (`jwt`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct JwtCredential {
    pub id: String,
    pub consumer: String,
    pub key: String,
    pub secret: Option<String>,
    pub algorithm: Option<String>,
    pub rsa_public_key: Option<String>,
    pub tags: Vec<String>,
}

/// A group a consumer is in (`acl`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    pub id: String,
    pub consumer: String,
    pub group: String,
    pub tags: Vec<String>,
}

/// A certificate and the names it is presented for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Certificate {
    pub id: String,
    pub cert: String,
    pub key: String,
    pub snis: Vec<String>,
    pub tags: Vec<String>,
}

/// Whom certificates of targets may be signed by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaCertificate {
    pub id: String,
    pub cert: String,
    pub tags: Vec<String>,
}

/// Who may come in over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientValidation {
    /// Authorities in PEM; a client's certificate must be signed by one of them.
    pub authorities: Vec<String>,
    /// Whether a client without a certificate, or with another's, is turned away.
    pub is_required: bool,
}

/// TLS of an entrance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntranceTls {
    /// By their `snis`; one without any is presented where no other fits.
    pub certificates: Vec<Certificate>,
    pub clients: Option<ClientValidation>,
}

/// Connections that are passed on as they are, by the name that they ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passthrough {
    /// Exact, or behind `*.`; empty for every name.
    pub hostname: String,
    /// Id or name.
    pub service: String,
}

/// A way in that leads to its own routes only: a port of one of several gateways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entrance {
    pub name: String,
    /// Host names of its listeners, exact or behind `*.`; empty for one that takes every name.
    pub hostnames: Vec<String>,
    pub tls: Option<EntranceTls>,
    /// Looked at before TLS is terminated.
    pub passthrough: Vec<Passthrough>,
}

/// A whole configuration, swapped at once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    pub services: Vec<Service>,
    pub routes: Vec<Route>,
    pub upstreams: Vec<Upstream>,
    pub plugins: Vec<Plugin>,
    pub consumers: Vec<Consumer>,
    pub keyauth_credentials: Vec<KeyCredential>,
    pub basicauth_credentials: Vec<BasicCredential>,
    pub jwt_secrets: Vec<JwtCredential>,
    pub acls: Vec<Group>,
    pub certificates: Vec<Certificate>,
    pub ca_certificates: Vec<CaCertificate>,
    #[serde(skip)]
    pub entrances: Vec<Entrance>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_take_the_schema_defaults() {
        assert_eq!(Service::default().retries, 5);
        assert_eq!(Service::default().read_timeout, 60_000);
        assert!(Route::default().strip_path);
        assert_eq!(Route::default().path_handling, PathHandling::V0);
        assert_eq!(Target::default().weight, 100);
    }

    #[test]
    fn a_service_without_a_name_is_called_by_its_id_and_then_by_its_host() {
        let mut service = Service { host: "shop.internal".into(), ..Service::default() };
        assert_eq!(service.label(), "shop.internal");
        service.id = "b3".into();
        assert_eq!(service.label(), "b3");
        service.name = Some("shop".into());
        assert_eq!(service.label(), "shop");
    }
}
