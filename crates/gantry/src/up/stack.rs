//! Every engine and controller of `up`, started in the order they need one another and ended in the reverse.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gantry_apiserver::{AddressRange, ApiServer, Authenticator, UserInfo};
use gantry_applet_grafana::{Grafana, Local, LocalStore};
use gantry_autoscaler::keda::Keda;
use gantry_autoscaler::{Decision, Decisions};
use gantry_clock::{Clock, SystemClock};
use gantry_console::{Console, LoadControl};
use gantry_gateway::{Gateway, ScaleFromZero};
use gantry_node::{Node, PodNetworks, ServiceAddresses, Shutdown};
use gantry_operator::{InformerSettings, Operator};
use gantry_prom_model::Registry;
use gantry_serve::{BindError, ConnectInfo, ListenConfig, Listener, TlsConfig};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::custom_metrics::CustomMetricsPart;
use super::doors::{DrainFirst, PodDoor};
use super::load::LoadFromPage;
use super::metrics::Metrics;
use super::network::{self, Network};
use super::page::{Page, PageConfig};
use super::pod_network;
use super::ports::Ports;
use super::project::{LoadedProject, PodNetwork};
use super::scaling::{Scaling, in_words};
use super::sharing::Sharing;
use super::state::{Addresses, StateDir};
use super::state_metrics::StateMetrics;
use super::steps::Steps;
use super::type_docs::PublishedDocs;
use super::wake::Waker;

const NODE_NAME: &str = "gantry";
const CONTEXT_NAME: &str = "gantry";
/// A laptop's loop closes while someone watches, so crashed containers come back sooner than upstream's ten seconds.
const FIRST_RESTART: Duration = Duration::from_secs(1);
/// Requests in flight may take this long when everything ends.
const DRAIN: Duration = Duration::from_secs(10);
/// As `scrape.yaml` says; panels ask for no smaller step.
const SCRAPE_INTERVAL: &str = "1s";
/// From the gateway's port to the one on which it speaks TLS.
const TLS_PORT_OFFSET: u16 = 443;
const WATCH_DRAIN: Duration = Duration::from_millis(300);

pub(crate) struct StackConfig {
    pub node: gantry_node::Config,
    name: String,
    pod_network: PodNetwork,
    /// The kustomization's folder.
    dir: PathBuf,
    ports: Ports,
    pub(super) state_dir: StateDir,
    sharing: Sharing,
    metric_rules: gantry_autoscaler::custom::Rules,
}

/// Everything that runs. Ended by [`Stack::end`]; dropped, its tasks are aborted with the runtime.
pub(crate) struct Stack {
    client: Client,
    operator: Operator,
    gateway: Gateway,
    addresses: Addresses,
    decisions: Decisions,
    drain: Arc<DrainFirst>,
    load: Arc<LoadFromPage>,
    pub metrics: Metrics,
    parts: Vec<Part>,
}

/// A task and how it is told to end. Parts are ended last started, first ended.
struct Part {
    name: &'static str,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl StackConfig {
    pub(crate) fn new(
        state_dir: &StateDir,
        dir: &Path,
        project: &LoadedProject,
        ports: Ports,
    ) -> Result<StackConfig, Error> {
        let name = dir.display().to_string();
        let absolute = std::path::absolute(dir)?;
        let mut node = gantry_node::Config::new(NODE_NAME, state_dir.node());
        node.images = project.project.images.clone();
        node.base_dir = project.folder();
        node.self_exe = Some(std::env::current_exe()?);
        node.host_env = host_environment();
        node.images_file = match &project.file {
            Some(file) => file.display().to_string(),
            None => dir.join(super::project::FILE_NAME).display().to_string(),
        };
        node.backoff_initial = FIRST_RESTART;
        node.eager_probe_interval = Some(Duration::from_millis(50));
        let sharing = Sharing::of(&project.project, state_dir.root());
        let pod_network = project.project.pod_network;
        let metric_rules = super::custom_metrics::rules(project)?;
        let state_dir = state_dir.clone();
        Ok(StackConfig { node, name, pod_network, dir: absolute, ports, state_dir, sharing, metric_rules })
    }
}

/// What a pod may inherit from the user's environment.
fn host_environment() -> BTreeMap<String, String> {
    let names = ["PATH", "HOME", "LANG", "TMPDIR"];
    names.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

impl Stack {
    /// Starts everything; when a part cannot be started, those before it are ended again.
    pub(crate) async fn start(config: StackConfig, steps: &mut Steps) -> Result<Stack, Error> {
        // All addresses first: a taken port is the likeliest failure, and nothing has been started yet.
        let sockets = Sockets::bind(&config).await?;
        let (networks, network) = pod_network::decide(&config, config.pod_network, steps).await?;
        let started = Stack::start_in(config, sockets, networks.clone(), network, steps).await;
        if let (Err(_), Some(networks)) = (&started, networks) {
            tokio::task::spawn_blocking(move || networks.end()).await?;
        }
        started
    }

    async fn start_in(
        config: StackConfig,
        sockets: Sockets,
        networks: Option<PodNetworks>,
        network: Network,
        steps: &mut Steps,
    ) -> Result<Stack, Error> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let joined = pod_network::joined(&networks);
        let server = open_api_server(&config, network, &clock).await?;
        let client = Client::new(server.service_as(UserInfo::admin()), "default");
        pod_network::move_services(&client, &config.state_dir, network).await?;
        for definitions in [
            gantry_autoscaler::keda::DEFINITIONS,
            gantry_autoscaler::vpa::DEFINITIONS,
            gantry_ingress::DEFINITIONS,
        ] {
            gantry_operator::install_definitions(&client, definitions).await?;
        }
        let operator = Operator::with_settings(client.clone(), clock.clone(), operator_settings());
        let api_server = sockets.api_server.local_addr();
        pod_network::publish_api_server(&client, api_server).await?;
        let root_ca = write_kubeconfig(&config, &sockets.credentials, api_server)?;

        let (waker, wakening) = Waker::pair(&operator);
        let gateway = start_gateway(&sockets, waker, joined.clone().map(|joined| joined as _))?;
        let ingress = gantry_ingress::Config {
            claims_classless: true,
            published_ips: vec![sockets.gateway.ip().to_string()],
            // 8443 beside the usual 8000.
            tls_listen: sockets
                .gateway
                .port()
                .checked_add(TLS_PORT_OFFSET)
                .map(|port| SocketAddr::new(sockets.gateway.ip(), port)),
            gateway_addresses: Some(gantry_ingress::GatewayAddresses {
                network: network::gateways(config.state_dir.root()),
                prefix: network::GATEWAYS_PREFIX,
            }),
            network: joined.clone().map(|joined| joined as _),
            ..gantry_ingress::Config::default()
        };
        let services = gantry_ingress::register(&operator, gateway.clone(), ingress);
        tokio::spawn(wakening.run(services.clone()));
        gantry_workloads::Controllers::register(
            &operator,
            gantry_workloads::Config { root_ca: Some(root_ca), ..gantry_workloads::Config::default() },
        );
        let drain = Arc::new(DrainFirst::new(&operator, gateway.clone()));
        let reached =
            ServiceAddresses::new(move |namespace, name, port| services.address(namespace, name, port));
        let node = gantry_node::Config {
            service_addresses: Some(reached),
            pod_cidr: gantry_node::Cidr { network: network.pods, prefix: network::PREFIX },
            networks: networks.clone(),
            ..config.node.clone()
        };
        let node = Node::new(node, &operator, Some(drain.clone()))?;
        server.set_type_docs(Arc::new(PublishedDocs));
        server.set_node_proxy(Arc::new(PodDoor::new(node.clone())));

        let metrics = Metrics::open(
            config.state_dir.metrics(),
            clock.clone(),
            &config.sharing,
            joined.map(|joined| joined as _),
        )?;
        let decisions = Decisions::default();
        let metrics_at = sockets.metrics.local_addr();
        let keda =
            super::keda::controllers(&operator, metrics.clone(), metrics_at, networks, decisions.clone());
        let objects = CustomMetricsPart::new(&operator, config.metric_rules.clone(), metrics.clone());
        let external = objects.external_after(keda.clone());
        server.add_api(super::keda::served(external.clone(), &operator));
        metrics.scrape(&operator, in_process_targets(&operator, &gateway, &node, &keda))?;
        let (scaling, metrics_api) = Scaling::new(
            &operator,
            node.clone(),
            metrics.clone(),
            &objects,
            &keda,
            external,
            decisions.clone(),
        );
        server.add_api(metrics_api);
        objects.serve(&server);
        let recommender = super::vpa::recommender(&operator, scaling.usage());
        let addresses = Addresses {
            api_server,
            gateway: sockets.gateway,
            metrics: sockets.metrics.local_addr(),
            console: sockets.console.local_addr(),
        };
        let page = Page::new(
            PageConfig {
                name: config.name.clone(),
                clock: clock.clone(),
                addresses: addresses.clone(),
                kubeconfig: config.state_dir.kubeconfig(),
                metrics: metrics.clone(),
            },
            &operator,
        );
        tokio::spawn(show_decisions(decisions.clone(), page.clone()));
        let grafana = open_dashboards(&config, &metrics, &clock)?;
        grafana.follow(operator.informer::<ConfigMap>());

        let mut parts = Vec::new();
        let mut spawn = |name: &'static str, cancel: CancellationToken, future: BoxFuture| {
            parts.push(Part { name, cancel, task: tokio::spawn(future) });
        };
        let serving = CancellationToken::new();
        let authenticated = server.authenticated_service(Authenticator::new(), |extensions| {
            extensions
                .get::<ConnectInfo>()?
                .client_certificate
                .as_ref()
                .map(|certificate| certificate.to_vec())
        });
        let (listener, cancel) = (sockets.api_server, serving.clone());
        spawn("api server", serving.clone(), Box::pin(listener.serve(authenticated, cancel)));
        let cancel = CancellationToken::new();
        let (running, token) = (operator.clone(), cancel.clone());
        spawn("controllers", cancel, Box::pin(async move { running.run(token).await }));
        let (listener, router, cancel) = (sockets.metrics, metrics.router(), CancellationToken::new());
        spawn("metrics", cancel.clone(), Box::pin(listener.serve(router, cancel)));
        let cancel = CancellationToken::new();
        let (running, token) = (node.clone(), cancel.clone());
        spawn(
            "node",
            cancel,
            Box::pin(async move { running.run(token, Shutdown::StopPods { grace: DRAIN }).await }),
        );
        let load = LoadFromPage::new(
            &config.dir,
            &std::path::absolute(&config.node.base_dir)?,
            sockets.gateway,
            metrics.registry(),
            clock.clone(),
        );
        let console = grafana.router().fallback_service(Console::new(page).with_load(load.clone()));
        let (listener, cancel) = (sockets.console, CancellationToken::new());
        spawn("console", cancel.clone(), Box::pin(listener.serve(console, cancel)));
        let cancel = CancellationToken::new();
        spawn("autoscaler", cancel.clone(), Box::pin(scaling.run(cancel)));
        let cancel = CancellationToken::new();
        spawn("vertical autoscaler", cancel.clone(), Box::pin(recommender.run(cancel)));
        let cancel = CancellationToken::new();
        spawn("custom metrics", cancel.clone(), Box::pin(objects.run(server.clone(), cancel)));
        steps.done("control plane", &format!("https://{api_server}"));
        Ok(Stack { client, operator, gateway, addresses, decisions, drain, load, metrics, parts })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// Changes whenever a pod does.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.operator.informer::<Pod>().changes()
    }

    /// Whether every ready endpoint of every Service can be reached through the gateway.
    pub(crate) fn routes_are_ready(&self) -> bool {
        let slices = self.operator.informer::<EndpointSlice>().list();
        slices
            .iter()
            .flat_map(|slice| ready_addresses(slice))
            .all(|address| self.gateway.serves_target(address))
    }

    /// Host and path of one of the Ingresses' routes, to try.
    pub(crate) fn first_route(&self) -> Option<(String, String)> {
        let ingresses = self.operator.informer::<Ingress>().list();
        let rules = ingresses.iter().filter_map(|ingress| ingress.spec.as_ref()?.rules.as_ref()).flatten();
        rules.into_iter().find_map(|rule| {
            let path = rule.http.as_ref()?.paths.first()?.path.clone();
            Some((rule.host.clone()?, path.unwrap_or_else(|| "/".to_owned())))
        })
    }

    /// What the autoscaler changed, oldest first.
    pub(crate) fn decisions(&self) -> Vec<ScaleDecision> {
        self.decisions.recent().iter().map(ScaleDecision::of).collect()
    }

    /// Ends everything: no new request, those in flight answered, every pod's processes ended, stores closed.
    pub(crate) async fn end(mut self) {
        self.load.stop();
        self.gateway.unlisten(self.addresses.gateway);
        // Services may still call one another to answer what is under way.
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.gateway.in_flight() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.drain.close();
        let cut = self.gateway.shutdown(DRAIN).await;
        if cut > 0 {
            tracing::warn!(connections = cut, "closed connections whose requests did not end in time");
        }
        while let Some(part) = self.parts.pop() {
            let began = tokio::time::Instant::now();
            part.cancel.cancel();
            if part.task.await.is_err() {
                tracing::error!(part = part.name, "ended with a panic");
            }
            tracing::debug!(part = part.name, took = ?began.elapsed(), "ended");
        }
        self.metrics.end().await;
    }
}

type BoxFuture = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The four listening sockets and what TLS needs, taken before anything starts.
struct Sockets {
    credentials: gantry_apiserver::pki::Credentials,
    api_server: Listener,
    gateway: SocketAddr,
    metrics: Listener,
    console: Listener,
}

impl Sockets {
    async fn bind(config: &StackConfig) -> Result<Sockets, Error> {
        let kubernetes = pod_network::kubernetes_addresses(config.state_dir.root());
        let mut hosts = vec![
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        hosts.extend(kubernetes.iter().map(String::as_str));
        let now_ms = SystemClock::new().now_ms();
        let credentials =
            gantry_apiserver::pki::credentials(&config.state_dir.root().join("pki"), &hosts, now_ms)?;
        let tls = TlsConfig::from_pem(
            &credentials.server.certificate,
            &credentials.server.key,
            Some(&credentials.authority_certificate),
        )?;
        let ports = config.ports;
        let mut listen = ListenConfig::tls(loopback(ports.apiserver), tls);
        // What is left at the end are watches, which never end by themselves.
        listen.limits.drain_timeout = WATCH_DRAIN;
        let api_server = bind("apiserver", listen).await?;
        let metrics = bind("metrics", ListenConfig::plain(loopback(ports.metrics))).await?;
        let console = bind("console", ListenConfig::plain(loopback(ports.console))).await?;
        // The gateway opens its own sockets; this finds out whether it will be able to.
        let gateway = bind("gateway", ListenConfig::plain(loopback(ports.gateway))).await?.local_addr();
        Ok(Sockets { credentials, api_server, gateway, metrics, console })
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

async fn bind(name: &str, config: ListenConfig) -> Result<Listener, String> {
    Listener::bind(config).await.map_err(|error| {
        let hint = match error {
            BindError::InUse { .. } | BindError::Denied { .. } => {
                format!("; choose another with --ports {name}=PORT, or a free one with --ports {name}=auto")
            }
            BindError::Io { .. } => String::new(),
        };
        format!("{name}: {error}{hint}")
    })
}

fn operator_settings() -> gantry_operator::Settings {
    gantry_operator::Settings {
        informers: InformerSettings::default(),
        ..gantry_operator::Settings::default()
    }
}

async fn open_api_server(
    config: &StackConfig,
    network: Network,
    clock: &Arc<dyn Clock>,
) -> Result<ApiServer, Error> {
    let mut server = gantry_apiserver::Config::ephemeral(clock.clone());
    server.data_dir = Some(config.state_dir.api_server());
    server.service_cidr = AddressRange::new(network.services, network::PREFIX);
    server.seed = random_seed();
    Ok(ApiServer::open(server).await?)
}

/// Uids must differ between machines and runs; the engines below are deterministic given this.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Gives the authority's certificate, which every namespace publishes.
fn write_kubeconfig(
    config: &StackConfig,
    credentials: &gantry_apiserver::pki::Credentials,
    api_server: SocketAddr,
) -> Result<String, Error> {
    let server = format!("https://{api_server}");
    let text = gantry_apiserver::pki::kubeconfig_yaml(CONTEXT_NAME, &server, credentials);
    gantry_apiserver::pki::write_private(&config.state_dir.kubeconfig(), &text)?;
    Ok(credentials.authority_certificate.clone())
}

/// Dashboards over the metric store, saved ones below the state folder.
fn open_dashboards(
    config: &StackConfig,
    metrics: &Metrics,
    clock: &Arc<dyn Clock>,
) -> Result<Grafana, Error> {
    let local = LocalStore {
        source: Local::new(metrics.engine(), metrics.storage()),
        api: metrics.router(),
        interval: SCRAPE_INTERVAL.to_owned(),
    };
    Ok(Grafana::open(Some(&config.state_dir.dashboards()), Some(local), clock.clone())?)
}

fn start_gateway(
    sockets: &Sockets,
    waker: Waker,
    network: Option<Arc<dyn gantry_gateway::Network>>,
) -> Result<Gateway, Error> {
    let gateway = gantry_gateway::Config {
        proxy_listen: vec![sockets.gateway],
        registry: Registry::new(),
        scale_from_zero: Some(ScaleFromZero::new(Arc::new(waker))),
        seed: random_seed(),
        network,
        ..gantry_gateway::Config::default()
    };
    Ok(Gateway::start(gateway)?)
}

fn in_process_targets(
    operator: &Operator,
    gateway: &Gateway,
    node: &Node,
    keda: &Keda,
) -> Vec<(String, Arc<dyn gantry_prom_model::Gather>)> {
    vec![
        ("keda".to_owned(), Arc::new(keda.registry())),
        ("controllers".to_owned(), Arc::new(operator.clone())),
        ("gateway".to_owned(), Arc::new(gateway.registry())),
        ("objects".to_owned(), Arc::new(StateMetrics::new(operator))),
        ("node".to_owned(), Arc::new(super::doors::NodeUsage(node.clone()))),
    ]
}

/// A change of replicas that the autoscaler made, in the words of the report and the console.
#[derive(Clone, Debug)]
pub(crate) struct ScaleDecision {
    pub at_ms: i64,
    pub namespace: String,
    /// `deployment/NAME`.
    pub target: String,
    pub from: i32,
    pub to: i32,
    /// Which metric, which value, which policy.
    pub reason: String,
}

impl ScaleDecision {
    fn of(decision: &Decision) -> ScaleDecision {
        let (target, reason) = in_words(decision);
        ScaleDecision {
            at_ms: decision.at_ms,
            namespace: decision.namespace.clone(),
            target,
            from: decision.from,
            to: decision.to,
            reason,
        }
    }
}

/// Ends with the autoscaler.
async fn show_decisions(decisions: Decisions, page: Arc<Page>) {
    let mut live = decisions.subscribe();
    drop(decisions);
    loop {
        match live.recv().await {
            Ok(decision) => page.decided(&ScaleDecision::of(&decision)),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn ready_addresses(slice: &EndpointSlice) -> Vec<SocketAddr> {
    let ports: Vec<u16> =
        slice.ports.iter().flatten().filter_map(|port| u16::try_from(port.port?).ok()).collect();
    let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
        endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true))
    });
    let addresses = ready.flat_map(|endpoint| &endpoint.addresses).filter_map(|text| text.parse().ok());
    addresses
        .flat_map(|ip: std::net::IpAddr| ports.iter().map(move |port| SocketAddr::new(ip, *port)))
        .collect()
}
