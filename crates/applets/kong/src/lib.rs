//! `gantry kong`: the gateway with Kong's settings, files and Admin API.
//!
//! `kong start` serves in the foreground until SIGTERM; SIGHUP reads the declarative file again. Settings come from
//! `kong.conf` (`-c`) and from `KONG_*`, which win.
#![forbid(unsafe_code)]

mod settings;
mod store;

pub use settings::{Listen, Settings};

use bytes::Bytes;
use clap::{Arg, ArgMatches, Command};
use gantry_gateway::admin::{Admin, AdminConfig, Persist};
use gantry_gateway::{Config, Gateway, Listener as ProxyListener, Mode};
use gantry_kong_model::Generate;
use gantry_serve::{ListenConfig, Listener};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use ring::rand::SecureRandom;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use store::FileStore;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Largest body the Admin API reads.
const MAX_ADMIN_BODY_BYTES: usize = 64 << 20;
const GRACE: Duration = Duration::from_secs(10);

/// The command line of the applet.
pub fn command() -> Command {
    let conf = || {
        Arg::new("conf").short('c').long("conf").value_name("FILE").help("kong.conf; settings as KONG_* win")
    };
    let prefix =
        || Arg::new("prefix").short('p').long("prefix").value_name("DIR").help("Where state is kept");
    Command::new("kong")
        .about("Kong: proxy and Admin API")
        .subcommand_required(true)
        .subcommand(Command::new("start").about("Serve until told to end").arg(conf()).arg(prefix()))
        .subcommand(
            Command::new("config")
                .about("Work with declarative configurations")
                .subcommand_required(true)
                .subcommand(
                    Command::new("parse")
                        .about("Check a declarative configuration")
                        .arg(Arg::new("file").required(true)),
                ),
        )
        .subcommand(Command::new("check").about("Check kong.conf").arg(Arg::new("file").required(true)))
        .subcommand(Command::new("version").about("Print the version"))
}

/// Runs the applet.
pub fn run(matches: &ArgMatches) -> ExitCode {
    let outcome = match matches.subcommand() {
        Some(("start", start)) => start_command(start),
        Some(("config", config)) => match config.subcommand() {
            Some(("parse", parse)) => parse_command(parse),
            _ => Err("config needs a subcommand, which is parse".to_owned()),
        },
        Some(("check", check)) => {
            let file = check.get_one::<String>("file").map(PathBuf::from).unwrap_or_default();
            Settings::read(Some(&file), std::iter::empty()).map(|settings| {
                for (name, place) in &settings.ignored {
                    eprintln!("gantry kong: {place}: {name}: this setting has no effect");
                }
                println!("configuration at {} is valid", file.display());
            })
        }
        _ => {
            println!("{}", gantry_kong_model::VERSION);
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("gantry kong: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn parse_command(matches: &ArgMatches) -> Result<(), String> {
    let file = matches.get_one::<String>("file").cloned().unwrap_or_default();
    let text = std::fs::read_to_string(&file).map_err(|error| format!("cannot read {file}: {error}"))?;
    let model = gantry_kong_model::Model::load();
    let reader = gantry_kong_model::Declarative::new(&model);
    let parsed = reader.parse(&file, &text, &mut Random::new()?).map_err(|error| error.to_string())?;
    gantry_gateway::entities::Snapshot::from_entities(&parsed.entities, true)
        .map_err(|error| format!("{file}: {error}"))?;
    for plugin in parsed.entities.of("plugins") {
        let name = plugin["name"].as_str().unwrap_or_default();
        gantry_gateway::check_plugin(name, &plugin["config"])
            .map_err(|reason| format!("{file}: plugin {name:?}: {reason}"))?;
    }
    println!("parse successful");
    Ok(())
}

fn start_command(matches: &ArgMatches) -> Result<(), String> {
    let file = matches.get_one::<String>("conf").map(PathBuf::from);
    let mut settings = Settings::read(file.as_deref(), std::env::vars())?;
    if let Some(prefix) = matches.get_one::<String>("prefix") {
        settings.prefix = PathBuf::from(prefix);
    }
    let filter = tracing_subscriber::EnvFilter::new(&settings.log_level);
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A larger program may have set up logging already: then that stays.
    let _ = logging.try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    runtime.map_err(|error| format!("cannot start the runtime: {error}"))?.block_on(async {
        let kong = Kong::start(settings).await?;
        for (what, address) in kong.addresses() {
            // Printed, not logged: whoever started us reads where we are from it.
            eprintln!("{what} on {address}");
        }
        wait(&kong).await?;
        kong.shutdown().await;
        Ok(())
    })
}

/// Returns when the server is to end; reads the declarative file again at SIGHUP.
async fn wait(kong: &Kong) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
    let mut hangup = listen(SignalKind::hangup())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut quit = listen(SignalKind::quit())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = quit.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => {
                if let Err(reason) = kong.reload() {
                    tracing::error!(%reason, "the configuration was not loaded; the one before stays");
                }
            }
        }
    }
}

/// Ids and secrets nobody can guess.
struct Random {
    source: ring::rand::SystemRandom,
}

impl Random {
    fn new() -> Result<Random, String> {
        let source = ring::rand::SystemRandom::new();
        let mut probe = [0u8; 1];
        source.fill(&mut probe).map_err(|_| "the system has no random numbers".to_owned())?;
        Ok(Random { source })
    }

    fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0u8; N];
        // `new` has seen that the source works; it does not stop.
        let _ = self.source.fill(&mut bytes);
        bytes
    }
}

impl Generate for Random {
    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs() as i64)
    }

    fn uuid(&mut self) -> String {
        let mut bytes: [u8; 16] = self.bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    fn secret(&mut self) -> String {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let bytes: [u8; 64] = self.bytes();
        // Bytes beyond a multiple of 62 would favour the first letters.
        let fair = bytes.iter().filter(|byte| **byte < 248).take(32);
        fair.map(|byte| LETTERS[usize::from(*byte) % 62] as char).collect()
    }
}

/// A running proxy with its Admin API.
pub struct Kong {
    gateway: Gateway,
    admin: Arc<Admin>,
    settings: Settings,
    addresses: Vec<(&'static str, std::net::SocketAddr)>,
    stop: CancellationToken,
    tasks: tokio::sync::Mutex<tokio::task::JoinSet<()>>,
}

impl Kong {
    /// Binds everything and loads what there is to load.
    pub async fn start(settings: Settings) -> Result<Kong, String> {
        for (setting, place) in &settings.ignored {
            tracing::warn!(setting, place, "this setting has no effect");
        }
        let random = Random::new()?;
        let config = Config {
            flavour: settings.flavour,
            trusted_ips: settings.trusted_ips.clone(),
            upstream_keepalive: settings.keepalive,
            trusted_certificates: settings.trusted_certificates()?,
            seed: u64::from_le_bytes(random.bytes()),
            ..Config::default()
        };
        let gateway = Gateway::start(config).map_err(|error| error.to_string())?;
        let persist: Option<Arc<dyn Persist>> = match settings.has_database {
            true => Some(Arc::new(FileStore::open(&settings.prefix)?)),
            false => None,
        };
        let mut generate = random;
        let node_id = generate.uuid();
        let admin = Admin::new(AdminConfig {
            gateway: gateway.clone(),
            store: persist,
            generate: Box::new(generate),
            node_id,
            hostname: std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned(),
            settings: settings.shown.clone(),
        })?;
        let admin = Arc::new(admin);
        let mut kong = Kong {
            gateway,
            admin,
            settings,
            addresses: Vec::new(),
            stop: CancellationToken::new(),
            tasks: tokio::sync::Mutex::default(),
        };
        kong.reload()?;
        kong.listen().await?;
        Ok(kong)
    }

    async fn listen(&mut self) -> Result<(), String> {
        let needs_tls = self.settings.proxy_listen.iter().any(|listen| listen.is_tls);
        let tls = match needs_tls {
            true => {
                let (cert, key) = self.settings.certificate()?;
                Some(self.gateway.tls(Some((&cert, &key))).map_err(|error| error.to_string())?)
            }
            false => None,
        };
        for listen in &self.settings.proxy_listen {
            let listener = ProxyListener {
                address: listen.address,
                mode: Mode::Proxy,
                tls: tls.clone().filter(|_| listen.is_tls),
            };
            let address = self.gateway.listen(listener).map_err(|error| format!("proxy_listen: {error}"))?;
            self.addresses.push((if listen.is_tls { "proxy (tls)" } else { "proxy" }, address));
        }
        let mut tasks = self.tasks.lock().await;
        for listen in &self.settings.admin_listen {
            if listen.is_tls {
                return Err(format!(
                    "admin_listen: {}: ssl is not supported for the admin api",
                    listen.address
                ));
            }
            let bound = Listener::bind(ListenConfig::plain(listen.address)).await;
            let listener = bound.map_err(|error| format!("admin_listen: {error}"))?;
            self.addresses.push(("admin", listener.local_addr()));
            let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&self.admin));
            let stop = self.stop.clone();
            tasks.spawn(async move { listener.serve(router, stop).await });
        }
        Ok(())
    }

    /// Reads the declarative file, if there is one.
    pub fn reload(&self) -> Result<(), String> {
        let Some(file) = &self.settings.declarative_config else { return Ok(()) };
        let text = read(file)?;
        self.admin.load_declarative(&file.display().to_string(), &text)
    }

    /// What listens where: `proxy`, `proxy (tls)`, `admin`.
    pub fn addresses(&self) -> &[(&'static str, std::net::SocketAddr)] {
        &self.addresses
    }

    /// Lets requests finish, then ends.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.gateway.shutdown(GRACE).await;
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file)
        .map_err(|error| format!("declarative_config: cannot read {}: {error}", file.display()))
}

async fn answer(
    axum::extract::State(admin): axum::extract::State<Arc<Admin>>,
    request: Request<axum::body::Body>,
) -> Response<axum::body::Body> {
    let (parts, body) = request.into_parts();
    let plain = |status: StatusCode, text: &'static str| {
        let mut response = Response::new(axum::body::Body::from(format!("{{\"message\":\"{text}\"}}")));
        *response.status_mut() = status;
        response
    };
    let Ok(body) = Limited::new(body, MAX_ADMIN_BODY_BYTES).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large");
    };
    let request: Request<Bytes> = Request::from_parts(parts, body.to_bytes());
    // A change waits for the disk.
    match tokio::task::spawn_blocking(move || admin.respond(&request)).await {
        Ok(response) => response.map(axum::body::Body::from),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred"),
    }
}
