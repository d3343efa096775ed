//! One Redis endpoint and credential: a pooled connection that is opened when it is needed and again after it broke.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, Value,
};

use super::keyspace::{Keyspace, KeyspaceEvents};
use super::{Connection, Tls, Topology};
use crate::http::Resolve;
use crate::scaler::{Hear, ScalerError, Subscription};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(5);
/// Endpoints that may be in use at once.
const MOST_ENDPOINTS: usize = 4096;

/// Elements of whatever has elements; a key that is not there has none.
const LENGTH_SCRIPT: &str = "local kind = redis.call('TYPE', KEYS[1])['ok'] \
     if kind == 'set' then return redis.call('SCARD', KEYS[1]) end \
     if kind == 'zset' then return redis.call('ZCARD', KEYS[1]) end \
     if kind == 'hash' then return redis.call('HLEN', KEYS[1]) end \
     return redis.call('LLEN', KEYS[1])";

/// Endpoints by what they connect to; those nobody uses any more are forgotten.
pub(crate) struct EndpointPool {
    resolve: Option<Arc<dyn Resolve>>,
    events: KeyspaceEvents,
    endpoints: Mutex<HashMap<Connection, Weak<Endpoint>>>,
}

pub(crate) struct Endpoint {
    to: Connection,
    resolve: Option<Arc<dyn Resolve>>,
    open: tokio::sync::Mutex<Option<Open>>,
    keyspace: Option<Arc<Keyspace>>,
}

#[derive(Clone)]
enum Open {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl EndpointPool {
    pub(crate) fn new(resolve: Option<Arc<dyn Resolve>>, events: KeyspaceEvents) -> EndpointPool {
        EndpointPool { resolve, events, endpoints: Mutex::default() }
    }

    pub(crate) fn endpoint(&self, to: Connection) -> Result<Arc<Endpoint>, ScalerError> {
        let mut endpoints = self.endpoints.lock();
        if let Some(known) = endpoints.get(&to).and_then(Weak::upgrade) {
            return Ok(known);
        }
        endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        if endpoints.len() >= MOST_ENDPOINTS {
            return Err(ScalerError::source(
                "redis",
                format!("more than {MOST_ENDPOINTS} endpoints are in use"),
            ));
        }
        // The nodes of a cluster each tell only of their own keys.
        let hears = to.topology != Topology::Cluster && self.events != KeyspaceEvents::Off;
        let keyspace = hears.then(|| Keyspace::new(to.clone(), self.resolve.clone(), self.events));
        let endpoint = Arc::new(Endpoint {
            to: to.clone(),
            resolve: self.resolve.clone(),
            open: tokio::sync::Mutex::default(),
            keyspace,
        });
        endpoints.insert(to, Arc::downgrade(&endpoint));
        Ok(endpoint)
    }
}

impl Endpoint {
    pub(crate) async fn length(&self, key: &str) -> RedisResult<i64> {
        self.ask(redis::cmd("EVAL").arg(LENGTH_SCRIPT).arg(1).arg(key)).await
    }

    pub(crate) async fn stream_length(&self, key: &str) -> RedisResult<i64> {
        self.ask(redis::cmd("XLEN").arg(key)).await
    }

    pub(crate) async fn pending(&self, key: &str, group: &str) -> RedisResult<i64> {
        let answer: Value = self.ask(redis::cmd("XPENDING").arg(key).arg(group)).await?;
        match answer {
            Value::Array(parts) => {
                redis::from_redis_value(parts.into_iter().next().unwrap_or(Value::Nil)).map_err(Into::into)
            }
            _ => Err(unexpected("XPENDING answered no list")),
        }
    }

    pub(crate) async fn lag(&self, key: &str, group: &str) -> RedisResult<i64> {
        let groups: Vec<HashMap<String, Value>> =
            self.ask(redis::cmd("XINFO").arg("GROUPS").arg(key)).await?;
        for mut found in groups {
            let name = found.remove("name").unwrap_or(Value::Nil);
            if redis::from_redis_value::<String>(name).ok().as_deref() != Some(group) {
                continue;
            }
            return match found.remove("lag") {
                Some(Value::Nil) => {
                    Err(unexpected("the server cannot tell the lag of the consumer group now"))
                }
                Some(lag) => redis::from_redis_value(lag).map_err(Into::into),
                None => Err(unexpected("the server tells no lag, which needs Redis 7 or later")),
            };
        }
        Err(unexpected("the stream has no such consumer group"))
    }

    pub(crate) fn hear(&self, key: &str, hear: Hear) -> Option<Subscription> {
        Some(self.keyspace.as_ref()?.hear(key, hear))
    }

    /// Asks once, and once more over a new connection when the old one turns out to be broken.
    async fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> RedisResult<T> {
        let (mut open, was_open) = self.open().await?;
        match open.ask(command).await {
            Err(error) if is_broken(&error) => {
                *self.open.lock().await = None;
                if !was_open {
                    return Err(error);
                }
                let (mut open, _) = self.open().await?;
                open.ask(command).await
            }
            answer => answer,
        }
    }

    /// The connection, and whether it had been open before.
    async fn open(&self) -> RedisResult<(Open, bool)> {
        let mut slot = self.open.lock().await;
        if let Some(open) = &*slot {
            return Ok((open.clone(), true));
        }
        let open = match self.to.topology {
            Topology::Cluster => Open::Cluster(cluster(&self.to, self.resolve.as_deref()).await?),
            _ => {
                let client = client(&self.to, self.resolve.as_deref()).await?;
                Open::Single(client.get_multiplexed_async_connection_with_config(&timeouts()).await?)
            }
        };
        *slot = Some(open.clone());
        Ok((open, false))
    }
}

impl Open {
    async fn ask<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> RedisResult<T> {
        let answer = match self {
            Open::Single(connection) => connection.req_packed_command(command).await?,
            Open::Cluster(connection) => connection.req_packed_command(command).await?,
        };
        redis::from_redis_value(answer.extract_error()?).map_err(Into::into)
    }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || error.is_timeout()
}

pub(super) fn timeouts() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER))
}

fn unexpected(message: &'static str) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, message))
}

fn split(address: &str) -> RedisResult<(&str, u16)> {
    let wrong = || {
        RedisError::from((ErrorKind::InvalidClientConfig, "an address must be host:port", address.to_owned()))
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "localhost" } else { host };
    Ok((host, port.parse().map_err(|_| wrong())?))
}

/// Where an address leads; names of Services lead to one of their pods where a resolver knows them.
fn place(address: &str, tls: Option<&Tls>, resolve: Option<&dyn Resolve>) -> RedisResult<ConnectionAddr> {
    let (host, port) = split(address)?;
    match tls {
        // The certificate names the host, so it is kept.
        Some(tls) => {
            Ok(ConnectionAddr::TcpTls { host: host.into(), port, insecure: tls.is_unsafe, tls_params: None })
        }
        None => Ok(match resolve.and_then(|resolve| resolve.resolve(host, port)) {
            Some(known) => ConnectionAddr::Tcp(known.ip().to_string(), known.port()),
            None => ConnectionAddr::Tcp(host.into(), port),
        }),
    }
}

fn login(username: &str, password: &str, database: i64) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_db(database).set_skip_set_lib_name();
    if !username.is_empty() {
        login = login.set_username(username);
    }
    if !password.is_empty() {
        login = login.set_password(password);
    }
    login
}

fn certificates(tls: &Tls) -> redis::TlsCertificates {
    let bytes = |secret: &crate::config::Secret| secret.expose().as_bytes().to_vec();
    redis::TlsCertificates {
        client_tls: (!tls.certificate.is_empty()).then(|| redis::ClientTlsConfig {
            client_cert: bytes(&tls.certificate),
            client_key: bytes(&tls.key),
        }),
        root_cert: (!tls.authority.is_empty()).then(|| bytes(&tls.authority)),
    }
}

fn open_client(
    address: ConnectionAddr,
    login: RedisConnectionInfo,
    tls: Option<&Tls>,
) -> RedisResult<Client> {
    let info = address
        .into_connection_info()?
        .set_redis_settings(login)
        .set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true));
    match tls {
        Some(tls) => Client::build_with_tls(info, certificates(tls)),
        None => Client::open(info),
    }
}

/// A client of the single server, or of the master that the sentinels name.
pub(super) async fn client(to: &Connection, resolve: Option<&dyn Resolve>) -> RedisResult<Client> {
    let tls = to.tls.as_ref();
    let main_login = login(&to.username, to.password.expose(), to.database);
    if to.topology != Topology::Sentinel {
        let address = to.addresses.first().map(String::as_str).unwrap_or_default();
        return open_client(place(address, tls, resolve)?, main_login, tls);
    }
    let mut last = unexpected("no sentinel is given");
    for address in &to.addresses {
        let sentinel = open_client(
            place(address, tls, resolve)?,
            login(&to.sentinel_username, to.sentinel_password.expose(), 0),
            tls,
        )?;
        let asked = async {
            let mut connection = sentinel.get_multiplexed_async_connection_with_config(&timeouts()).await?;
            let mut command = redis::cmd("SENTINEL");
            command.arg("GET-MASTER-ADDR-BY-NAME").arg(&to.sentinel_master);
            command.query_async::<Option<(String, u16)>>(&mut connection).await
        };
        match asked.await {
            Ok(Some((host, port))) => {
                return open_client(place(&format!("{host}:{port}"), tls, resolve)?, main_login, tls);
            }
            Ok(None) => last = unexpected("the sentinel knows no master of that name"),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn cluster(to: &Connection, resolve: Option<&dyn Resolve>) -> RedisResult<ClusterConnection> {
    let tls = to.tls.as_ref();
    let mut nodes = Vec::with_capacity(to.addresses.len());
    for address in &to.addresses {
        nodes.push(place(address, tls, resolve)?.into_connection_info()?);
    }
    let mut builder = redis::cluster::ClusterClientBuilder::new(nodes)
        .connection_timeout(CONNECT)
        .response_timeout(ANSWER)
        .retries(2);
    if !to.username.is_empty() {
        builder = builder.username(&to.username);
    }
    if !to.password.is_empty() {
        builder = builder.password(to.password.expose());
    }
    if let Some(tls) = tls {
        let mode =
            if tls.is_unsafe { redis::cluster::TlsMode::Insecure } else { redis::cluster::TlsMode::Secure };
        builder = builder.tls(mode).certs(certificates(tls));
    }
    builder.build()?.get_async_connection().await
}
