//! `postgresql`: the one number of a query, over one pooled connection per server and credential.
//!
//! With `listenChannel` in the metadata (our addition) a `NOTIFY` on that channel pushes; polling goes on beside it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cluster::external_type;
use crate::config::{Secret, TriggerConfig};
use crate::http::{HttpTls, Resolve, chain, tls_config};
use crate::parameters::{AUTH_ENV, AUTH_META, Field, Fields, META};
use crate::scaler::{Hear, Reading, Scaler, ScalerError, Subscription};
use crate::spec::{Amount, MetricSpec, MetricType, metric_name};

const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// Servers that may be in use at once.
const MOST_SERVERS: usize = 1024;
/// Pauses after a lost connection grow from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// The name of a host that the driver would not find, or not there, and where it is.
type Place = Option<(String, SocketAddr)>;

/// Servers by connection string; those nobody uses any more are forgotten.
pub(crate) struct ServerPool {
    resolve: Option<Arc<dyn Resolve>>,
    servers: Mutex<HashMap<Secret, Weak<Server>>>,
}

pub(crate) struct Server {
    connection: Secret,
    resolve: Option<Arc<dyn Resolve>>,
    client: tokio::sync::Mutex<Option<Arc<Client>>>,
}

pub(crate) struct Postgres {
    name: String,
    metric_type: MetricType,
    query: String,
    target: f64,
    activation: f64,
    channel: Option<String>,
    server: Arc<Server>,
}

/// The connection string that separate parameters make, for people who compare it with the reference's.
pub(crate) fn connection_string(config: &TriggerConfig, fields: &mut Fields<'_>) -> Secret {
    let given: Option<Secret> = fields.optional(Field::new(&["connection"], AUTH_ENV));
    if let Some(given) = given {
        return given;
    }
    // The reference documents `connection` for authentication only, and reads it from the metadata all the same.
    let in_metadata: Option<Secret> = fields.optional(Field::new(&["connection"], META));
    if let Some(given) = in_metadata {
        return given;
    }
    let part = |fields: &mut Fields<'_>, name: &'static str| -> String {
        fields.required(Field::new(&[name], AUTH_META))
    };
    let (host, port) = (part(fields, "host"), part(fields, "port"));
    let (user, database, mode) = (part(fields, "userName"), part(fields, "dbName"), part(fields, "sslmode"));
    let password: Option<String> = fields.optional(Field::new(&["password"], AUTH_ENV));
    fields.require(config.pod_identity.is_none(), || {
        format!("pod identity {:?} is not supported for postgresql", config.pod_identity.0)
    });
    Secret::new(format!(
        "host={} port={} user={} dbname={} sslmode={} password={}",
        quoted(&host),
        quoted(&port),
        quoted(&user),
        quoted(&database),
        quoted(&mode),
        quoted(&password.unwrap_or_default())
    ))
}

/// A value as a connection string holds it.
fn quoted(text: &str) -> String {
    // The parser takes nothing for an empty value only in quotes.
    if text.is_empty() || text.contains([' ', '\'', '\\']) {
        format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
    } else {
        text.to_owned()
    }
}

impl Postgres {
    pub(crate) fn new(config: &TriggerConfig, pool: &ServerPool) -> Result<Postgres, ScalerError> {
        let mut fields = Fields::of(config);
        let query: String = fields.required(Field::new(&["query"], META));
        let target: f64 = fields.required(Field::new(&["targetQueryValue"], META));
        let activation: f64 = fields.required(Field::new(&["activationTargetQueryValue"], META).default("0"));
        let channel = fields.optional(Field::new(&["listenChannel"], META));
        let connection = connection_string(config, &mut fields);
        let metric_type = external_type(&mut fields, config);
        fields.finish()?;
        let name = metric_name(config.index, "postgresql");
        let server = pool.server(connection)?;
        Ok(Postgres { name, metric_type, query, target, activation, channel, server })
    }
}

#[async_trait]
impl Scaler for Postgres {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let target = Amount::of(self.target);
        Ok(vec![MetricSpec::External { name: self.name.clone(), metric_type: self.metric_type, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        let value = self
            .server
            .number(&self.query)
            .await
            .map_err(|error| ScalerError::source("postgresql", error))?;
        Ok(Reading { value, active: value > self.activation })
    }

    fn subscribe(&self, hear: Hear) -> Option<Subscription> {
        let cancel = CancellationToken::new();
        let guard: DropGuard = cancel.clone().drop_guard();
        tokio::spawn(listen(self.server.clone(), self.channel.clone()?, hear, cancel));
        Some(Subscription::new(move || drop(guard)))
    }
}

impl ServerPool {
    pub(crate) fn new(resolve: Option<Arc<dyn Resolve>>) -> ServerPool {
        ServerPool { resolve, servers: Mutex::default() }
    }

    fn server(&self, connection: Secret) -> Result<Arc<Server>, ScalerError> {
        let mut servers = self.servers.lock();
        if let Some(known) = servers.get(&connection).and_then(Weak::upgrade) {
            return Ok(known);
        }
        servers.retain(|_, server| server.strong_count() > 0);
        if servers.len() >= MOST_SERVERS {
            return Err(ScalerError::source(
                "postgresql",
                format!("more than {MOST_SERVERS} servers are in use"),
            ));
        }
        let server = Arc::new(Server {
            connection: connection.clone(),
            resolve: self.resolve.clone(),
            client: tokio::sync::Mutex::default(),
        });
        servers.insert(connection, Arc::downgrade(&server));
        Ok(server)
    }
}

impl Server {
    async fn number(&self, query: &str) -> Result<f64, String> {
        let client = self.client().await?;
        let asked = tokio::time::timeout(ANSWER, first_row(&client, query)).await;
        let row = match asked {
            Ok(Ok(row)) => row,
            Ok(Err(error)) => {
                if error.is_closed() {
                    *self.client.lock().await = None;
                }
                return Err(described(&error));
            }
            Err(_) => {
                // The answer may still come, and must not be taken for that of another query.
                *self.client.lock().await = None;
                return Err(format!("no answer within {ANSWER:?}"));
            }
        };
        let row = row.ok_or("the query returned no row")?;
        let text =
            row.try_get(0).map_err(|_| "the query returned no column")?.ok_or("the query returned NULL")?;
        text.trim()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .ok_or_else(|| "the query returned no number".to_owned())
    }

    async fn client(&self) -> Result<Arc<Client>, String> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let (client, mut messages) = self.connect().await?;
        tokio::spawn(async move { while messages.next().await.is_some() {} });
        let client = Arc::new(client);
        *slot = Some(client.clone());
        Ok(client)
    }

    /// A new connection and its messages, which must be read for it to work.
    async fn connect(&self) -> Result<(Client, Messages), String> {
        let (config, mode, place) = self.config()?;
        let text = |error: tokio_postgres::Error| described(&error);
        let connecting = async {
            // The driver takes another address for a host, but no other port, so a Service is connected to here.
            let placed = match place {
                Some((host, address)) => {
                    let failed = |error: std::io::Error| format!("error connecting to server: {error}");
                    let stream = TcpStream::connect(address).await.map_err(failed)?;
                    stream.set_nodelay(true).map_err(failed)?;
                    Some((host, stream))
                }
                None => None,
            };
            if config.get_ssl_mode() == SslMode::Disable {
                if let Some((_, stream)) = placed {
                    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(text)?;
                    return Ok((client, messages(connection)));
                }
                let (client, connection) = config.connect(NoTls).await.map_err(text)?;
                return Ok((client, messages(connection)));
            }
            // As the reference's driver has it: `require` encrypts and does not ask who answers.
            let tls =
                HttpTls { is_unsafe: mode != "verify-ca" && mode != "verify-full", ..HttpTls::default() };
            let mut tls = MakeRustlsConnect::new(tls_config(&tls)?);
            if let Some((host, stream)) = placed {
                let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, &host)
                    .map_err(|error| error.to_string())?;
                let (client, connection) = config.connect_raw(stream, tls).await.map_err(text)?;
                return Ok((client, messages(connection)));
            }
            let (client, connection) = config.connect(tls).await.map_err(text)?;
            Ok((client, messages(connection)))
        };
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(format!("no connection within {CONNECT:?}")),
        }
    }

    /// The configuration, the `sslmode` that was asked for, of which the driver knows three, and where the host is when
    /// the resolver knows it.
    fn config(&self) -> Result<(Config, String, Place), String> {
        let text = self.connection.expose();
        let mut mode = String::new();
        let mut known = text.to_owned();
        for name in ["verify-full", "verify-ca", "allow"] {
            if text.contains(&format!("sslmode={name}")) {
                mode = name.to_owned();
                let driver = if name == "allow" { "prefer" } else { "require" };
                known = text.replace(&format!("sslmode={name}"), &format!("sslmode={driver}"));
            }
        }
        let config: Config = known.parse().map_err(|_| "the connection string is not valid".to_owned())?;
        let place = match (&self.resolve, config.get_hosts(), config.get_ports()) {
            (Some(resolve), [Host::Tcp(host)], ports @ ([] | [_])) => {
                let port = ports.first().copied().unwrap_or(5432);
                let known = resolve.resolve(host, port);
                // What the driver finds by itself it connects to with all its settings.
                let is_as_given = |at: &SocketAddr| at.port() == port && at.ip().to_string() == *host;
                known.filter(|at| !is_as_given(at)).map(|at| (host.clone(), at))
            }
            _ => None,
        };
        Ok((config, mode, place))
    }
}

/// The first row of an answer. The others are let go as they come: a query without a LIMIT must not fill the memory.
async fn first_row(client: &Client, query: &str) -> Result<Option<SimpleQueryRow>, tokio_postgres::Error> {
    let mut answer = std::pin::pin!(client.simple_query_raw(query).await?);
    while let Some(message) = answer.next().await {
        if let SimpleQueryMessage::Row(row) = message? {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

type Messages = futures::stream::BoxStream<'static, AsyncMessage>;

fn messages<S, T>(mut connection: tokio_postgres::Connection<S, T>) -> Messages
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    futures::stream::poll_fn(move |context| {
        connection.poll_message(context).map(|message| message.and_then(Result::ok))
    })
    .boxed()
}

/// The error with its causes, and without anything of the connection string.
fn described(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{}: {}", error.severity(), error.message()),
        None => chain(error),
    }
}

/// Calls `hear` for every notification on `channel`, and whenever some may have been missed, until `cancel`.
async fn listen(server: Arc<Server>, channel: String, hear: Hear, cancel: CancellationToken) {
    let mut pause = PAUSES.0;
    loop {
        let listening = async {
            let (client, mut messages) = server.connect().await?;
            let command = format!("LISTEN \"{}\"", channel.replace('"', "\"\""));
            let mut asked = std::pin::pin!(client.batch_execute(&command));
            let mut is_listening = false;
            loop {
                tokio::select! {
                    done = &mut asked, if !is_listening => {
                        done.map_err(|error| described(&error))?;
                        is_listening = true;
                        hear();
                    }
                    message = messages.next() => match message {
                        Some(AsyncMessage::Notification(_)) => hear(),
                        Some(_) => {}
                        None => return Ok::<(), String>(()),
                    }
                }
            }
        };
        let began = tokio::time::Instant::now();
        match cancel.run_until_cancelled(listening).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "listening to postgresql ended"),
        }
        if began.elapsed() > PAUSES.1 {
            pause = PAUSES.0;
        }
        if cancel.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_parameters_make_the_connection_string() {
        let mut config = TriggerConfig::new("postgresql");
        for (name, value) in [
            ("host", "h"),
            ("port", "1"),
            ("userName", "u"),
            ("dbName", "d"),
            ("sslmode", "disable"),
            ("passwordFromEnv", "P"),
        ] {
            config.metadata.insert(name.into(), value.into());
        }
        config.env.insert("P".into(), "a b'c".into());
        let mut fields = Fields::of(&config);
        let text = connection_string(&config, &mut fields);
        fields.finish().unwrap();
        assert_eq!(text.expose(), "host=h port=1 user=u dbname=d sslmode=disable password='a b\\'c'");
        assert_eq!(format!("{text:?}"), "Secret(…)");
        let server = Server { connection: text, resolve: None, client: tokio::sync::Mutex::default() };
        let (parsed, _, _) = server.config().unwrap();
        assert_eq!(parsed.get_password(), Some(&b"a b'c"[..]));
    }

    fn server(connection: String, resolve: Option<Arc<dyn Resolve>>) -> Server {
        Server { connection: Secret::new(connection), resolve, client: tokio::sync::Mutex::default() }
    }

    #[test]
    fn a_server_that_asks_for_no_password_needs_none() {
        let mut config = TriggerConfig::new("postgresql");
        for (name, value) in
            [("host", "h"), ("port", "1"), ("userName", "u"), ("dbName", "d"), ("sslmode", "disable")]
        {
            config.metadata.insert(name.into(), value.into());
        }
        let mut fields = Fields::of(&config);
        let text = connection_string(&config, &mut fields);
        fields.finish().unwrap();
        let (parsed, _, _) = server(text.expose().to_owned(), None).config().unwrap();
        assert_eq!(parsed.get_user(), Some("u"));
    }

    struct Elsewhere(SocketAddr);

    impl Resolve for Elsewhere {
        fn resolve(&self, host: &str, port: u16) -> Option<SocketAddr> {
            (host == "db.shop.svc" && port == 5432).then_some(self.0)
        }
    }

    #[tokio::test]
    async fn a_service_is_connected_to_where_its_pod_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A pod with a network of its own is reached at another port than the Service has.
        let elsewhere: Arc<dyn Resolve> = Arc::new(Elsewhere(listener.local_addr().unwrap()));
        for mode in ["disable", "prefer", "allow", "verify-full"] {
            let server = server(format!("host=db.shop.svc user=u sslmode={mode}"), Some(elsewhere.clone()));
            let (connected, accepted) = tokio::join!(server.connect(), async {
                let (stream, _) = listener.accept().await.unwrap();
                stream.local_addr().unwrap()
            });
            assert!(connected.is_err(), "{mode}: nobody answered");
            assert_eq!(accepted, listener.local_addr().unwrap(), "{mode}");
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_connected_to_is_told_with_its_cause() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!("host=127.0.0.1 port={} user=u password=hidden sslmode=disable", free.port());
        let Err(error) = server(text, None).connect().await else { panic!("connected") };
        assert!(error.contains("refused"), "{error}");
        assert!(!error.contains("hidden"), "{error}");
    }
}
