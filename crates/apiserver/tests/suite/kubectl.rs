//! The real kubectl over TLS. Skipped, and saying so, where kubectl is not installed.

use std::path::PathBuf;
use std::sync::Arc;

use gantry_apiserver::{ApiServer, Authenticator, Config, pki};
use gantry_clock::{Clock, SystemClock};
use gantry_serve::{ConnectInfo, ListenConfig, Listener, TlsConfig};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

struct Cluster {
    kubeconfig: PathBuf,
    _folder: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Cluster {
    async fn start() -> Option<Cluster> {
        if Command::new("kubectl").args(["version", "--client"]).output().await.is_err() {
            println!("skipped: kubectl not found");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::new());
        let credentials =
            pki::credentials(&folder.path().join("pki"), &["127.0.0.1"], clock.now_ms()).unwrap();
        let config = Config { data_dir: Some(folder.path().to_owned()), ..Config::ephemeral(clock) };
        let server = ApiServer::open(config).await.unwrap();
        let tls = TlsConfig::from_pem(
            &credentials.server.certificate,
            &credentials.server.key,
            Some(&credentials.authority_certificate),
        )
        .unwrap();
        let listener = Listener::bind(ListenConfig::tls("127.0.0.1:0".parse().unwrap(), tls)).await.unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let url = format!("https://{}", listener.local_addr());
        pki::write_private(&kubeconfig, &pki::kubeconfig_yaml("test", &url, &credentials)).unwrap();
        let service = server.authenticated_service(Authenticator::new(), |extensions| {
            Some(extensions.get::<ConnectInfo>()?.client_certificate.as_ref()?.to_vec())
        });
        let shutdown = CancellationToken::new();
        tokio::spawn(listener.serve(service, shutdown.clone()));
        Some(Cluster { kubeconfig, _folder: folder, shutdown })
    }

    async fn run(&self, line: &str, stdin: &str) -> (bool, String) {
        let mut child = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--cache-dir"])
            .arg(self.kubeconfig.with_extension("cache"))
            .args(line.split(' '))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(stdin.as_bytes()).await.unwrap();
        drop(input);
        let output = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    async fn ok(&self, line: &str, stdin: &str) -> String {
        let (success, text) = self.run(line, stdin).await;
        assert!(success, "kubectl {line}: {text}");
        text
    }
}

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: 'web:1', ports: [{containerPort: 80}]}
";

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_applied_read_changed_and_deleted() {
    let Some(cluster) = Cluster::start().await else { return };
    assert!(cluster.ok("api-resources", "").await.contains("deployments"));
    assert_eq!(cluster.ok("apply -f -", DEPLOYMENT).await.trim(), "deployment.apps/web created");
    assert_eq!(cluster.ok("apply -f -", DEPLOYMENT).await.trim(), "deployment.apps/web unchanged");
    let changed = DEPLOYMENT.replace("replicas: 2", "replicas: 3");
    assert_eq!(cluster.ok("apply -f -", &changed).await.trim(), "deployment.apps/web configured");
    let table = cluster.ok("get deploy web -o wide", "").await;
    assert!(table.starts_with("NAME   READY   UP-TO-DATE   AVAILABLE   AGE"), "{table}");
    assert!(table.contains("0/3") && table.contains("web:1") && table.contains("app=web"), "{table}");
    assert!(cluster.ok("get deploy web -o yaml", "").await.contains("last-applied-configuration"));
    assert!(
        cluster
            .ok("describe deploy web", "")
            .await
            .contains("RollingUpdateStrategy:  25% max unavailable, 25% max surge")
    );
    cluster.ok("scale deploy/web --replicas=4", "").await;
    assert_eq!(cluster.ok("get deploy web -o jsonpath={.spec.replicas}", "").await, "4");
    cluster.ok("label deploy web x=y", "").await;
    cluster.ok("annotate deploy web why=because", "").await;
    cluster.ok("set image deploy/web main=web:2", "").await;
    for (kind, patch) in [
        ("strategic", r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"side:1"}]}}}}"#),
        ("merge", r#"{"metadata":{"annotations":{"why":null}}}"#),
        ("json", r#"[{"op":"replace","path":"/spec/replicas","value":1}]"#),
    ] {
        cluster.ok(&format!("patch deploy web --type={kind} -p {patch}"), "").await;
    }
    assert_eq!(
        cluster.ok("get deploy web -o jsonpath={.spec.template.spec.containers[*].name}", "").await,
        "side main"
    );
    cluster.ok("wait deploy/web --for=jsonpath={.spec.replicas}=1 --timeout=5s", "").await;
    let (success, text) = cluster
        .run(
            "apply -f -",
            &DEPLOYMENT.replace("replicas: 2", "replica: 2").replace("name: web,", "name: odd,"),
        )
        .await;
    assert!(!success && text.contains("unknown field \"spec.replica\""), "{text}");
    assert_eq!(cluster.ok("delete deploy web", "").await.trim(), "deployment.apps \"web\" deleted");
    let (success, text) = cluster.run("get deploy web", "").await;
    assert!(!success && text.contains("deployments.apps \"web\" not found"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_creation_sends_protobuf() {
    let Some(cluster) = Cluster::start().await else { return };
    for (line, answer) in [
        ("create namespace shop", "namespace/shop created"),
        ("create configmap settings -n shop --from-literal=level=info", "configmap/settings created"),
        ("create secret generic creds -n shop --from-literal=password=hunter2", "secret/creds created"),
        ("create serviceaccount robot -n shop", "serviceaccount/robot created"),
        ("create deployment quick -n shop --image=busybox --replicas=2", "deployment.apps/quick created"),
        ("create job once -n shop --image=busybox -- true", "job.batch/once created"),
        ("create service clusterip web -n shop --tcp=80:8080", "service/web created"),
        (
            "create ingress web -n shop --rule=shop.example.com/*=web:80",
            "ingress.networking.k8s.io/web created",
        ),
    ] {
        assert_eq!(cluster.ok(line, "").await.trim(), answer);
    }
    assert_eq!(cluster.ok("get cm settings -n shop -o jsonpath={.data.level}", "").await, "info");
    assert_eq!(cluster.ok("get secret creds -n shop -o jsonpath={.data.password}", "").await, "aHVudGVyMg==");
    assert_eq!(cluster.ok("get deploy quick -n shop -o jsonpath={.spec.replicas}", "").await, "2");
    assert_eq!(cluster.ok("get svc web -n shop -o jsonpath={.spec.ports[0].targetPort}", "").await, "8080");
    assert_eq!(cluster.ok("auth can-i create pods", "").await.trim(), "yes");
    let (success, text) = cluster.run("create namespace Bad_Name", "").await;
    assert!(!success && text.contains("a lowercase RFC 1123 label must consist of"), "{text}");
}
