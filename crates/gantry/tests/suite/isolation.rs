//! Pods that know nothing of us: each with a network and mounts of its own where the machine allows it, else in the
//! machine's, with `POD_IP` and `PORT`.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Up, gantry, holder_of, start_up, wait_until};

/// Two web servers that were written without us in mind, and a place to look at them from.
const OBJECTS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: conf, namespace: shop}
data: {greeting: hello}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: catalog, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: catalog}}
  template:
    metadata: {labels: {app: catalog}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: sh
        command: [sh, -c, "hostname > index.html; exec python3 -m http.server 8080"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
        livenessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 60}
---
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  selector: {app: catalog}
  ports: [{name: http, port: 8080, targetPort: http}, {name: web, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: each, namespace: shop}
spec:
  clusterIP: None
  selector: {app: catalog}
  ports: [{name: http, port: 8080, targetPort: http}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: catalog, namespace: shop}
spec:
  rules:
  - host: shop.localhost
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: catalog, port: {name: http}}}}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: visitor, namespace: shop}
automountServiceAccountToken: false
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: visitor, namespace: shop}
spec:
  serviceName: visitors
  replicas: 1
  selector: {matchLabels: {app: visitor}}
  template:
    metadata: {labels: {app: visitor}}
    spec:
      serviceAccountName: visitor
      terminationGracePeriodSeconds: 2
      containers:
      - name: shell
        image: sh
        command: [sh, -c, "trap 'exit 0' TERM; python3 -m http.server 9000 --bind 127.0.0.1 & while :; do sleep 0.1; done"]
        readinessProbe: {exec: {command: [sh, -c, "test $(hostname) = visitor-0 && test -f /gantry-conf/greeting"]}, periodSeconds: 1}
        volumeMounts:
        - {name: conf, mountPath: /gantry-conf}
        - {name: conf, mountPath: /etc/gantry/greeting, subPath: greeting}
        - {name: scratch, mountPath: /var/lib/gantry-scratch}
      volumes:
      - {name: conf, configMap: {name: conf}}
      - {name: scratch, emptyDir: {}}
"#;

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new(pod_network: &str) -> Project {
        Project::with(pod_network, OBJECTS)
    }

    fn with(pod_network: &str, objects: &str) -> Project {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("gantry.yaml", &format!("podNetwork: {pod_network}\nimages:\n  sh: [sh]\n"));
        write("kustomization.yaml", "resources: [objects.yaml]\n");
        write("objects.yaml", objects);
        Project { folder }
    }

    fn set_pod_network(&self, pod_network: &str) {
        let text = format!("podNetwork: {pod_network}\nimages:\n  sh: [sh]\n");
        std::fs::write(self.folder.path().join("gantry.yaml"), text).expect("written");
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn args(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let dir = path(self.folder.path());
        ["up", &dir, "--data-dir", &path(&self.data_dir()), "--ports", "auto", "--output", "json"]
            .map(str::to_owned)
            .to_vec()
    }

    fn up(&self) -> Up {
        let mut command = gantry();
        command.args(self.args());
        start_up(command, &self.data_dir())
    }

    /// The process that holds the networks, when there is one.
    fn holder(&self) -> Option<u32> {
        holder_of(&self.data_dir())
    }
}

/// Whether this machine lets us make namespaces; says so when not.
fn namespaces_are_allowed() -> bool {
    let tried =
        Command::new("unshare").args(["--user", "--map-root-user", "--net", "--mount", "true"]).output();
    let allowed = tried.is_ok_and(|output| output.status.success());
    if !allowed {
        eprintln!("skipped: user namespaces are not allowed here");
    }
    allowed
}

fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} not found");
    }
    found
}

fn can_test() -> bool {
    namespaces_are_allowed() && has("python3") && has("kubectl")
}

fn exec(up: &Up, pod: &str, command: &[&str]) -> Output {
    up.kubectl(&[&["exec", "-n", "shop", pod, "--"], command].concat()).expect("kubectl was found")
}

/// What a command prints in the pod `visitor-0`.
fn visit(up: &Up, command: &str) -> String {
    let output = exec(up, "visitor-0", &["sh", "-c", command]);
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}: {out}{errors}");
    out.trim().to_owned()
}

fn python(up: &Up, program: &str) -> String {
    visit(up, &format!("python3 -c \"{program}\""))
}

fn fetch(url: &str) -> String {
    format!("import urllib.request as r; print(r.urlopen('{url}', timeout=20).read().decode().strip())")
}

fn pods(up: &Up) -> Vec<(String, String)> {
    let output = up.kubectl(&["get", "pods", "-n", "shop", "-o", "json"]).expect("kubectl was found");
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().expect("a list");
    items.iter().map(|pod| (text(&pod["metadata"]["name"]), text(&pod["status"]["podIP"]))).collect()
}

fn restarts(up: &Up) -> String {
    let counts = up.kubectl(&["get", "pods", "-n", "shop", "-o", "jsonpath={..restartCount}"]);
    String::from_utf8_lossy(&counts.expect("kubectl was found").stdout).into_owned()
}

#[test]
fn pods_find_one_another_by_name_and_have_their_ports_to_themselves() {
    if !can_test() {
        return;
    }
    let project = Project::new("isolated");
    let mut up = project.up();
    let replicas: Vec<(String, String)> =
        pods(&up).into_iter().filter(|(name, _)| name.starts_with("catalog")).collect();
    assert_eq!(replicas.len(), 2);
    assert!(replicas.iter().all(|(_, ip)| ip.starts_with("10.")), "{replicas:?}");

    // Both bind 8080, and both are reached: from outside, and from inside by every form of the name.
    for reached in ["outside", "inside"] {
        wait_until("both replicas answer", || {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..8 {
                seen.insert(match reached {
                    "outside" => up.get("gateway", "shop.localhost", "/index.html").1.trim().to_owned(),
                    _ => python(&up, &fetch("http://catalog:8080/index.html")),
                });
            }
            replicas.iter().all(|(name, _)| seen.contains(name)).then_some(())
        });
    }
    for name in ["catalog", "catalog.shop", "catalog.shop.svc", "catalog.shop.svc.cluster.local"] {
        let body = python(&up, &fetch(&format!("http://{name}/index.html")));
        assert!(body.starts_with("catalog-"), "{name}: {body}");
    }
    let (name, ip) = &replicas[0];
    assert_eq!(&python(&up, &fetch(&format!("http://{ip}:8080/index.html"))), name, "pod to pod");
    let all =
        python(&up, "import socket; print(sorted(a[4][0] for a in socket.getaddrinfo('each', 80, 2, 1)))");
    assert!(replicas.iter().all(|(_, ip)| all.contains(ip.as_str())), "{all}");
    let unknown = "import socket\ntry: socket.getaddrinfo('nobody.shop.svc.cluster.local', 80)\nexcept socket.gaierror: print('unknown')";
    assert_eq!(python(&up, unknown), "unknown");
    let own = visit(&up, "hostname; cat /etc/hostname; getent hosts visitor-0");
    assert!(own.starts_with("visitor-0\nvisitor-0\n10."), "{own}");

    // Files are where the container's author wants them, and nowhere on the machine.
    assert_eq!(visit(&up, "cat /gantry-conf/greeting /etc/gantry/greeting"), "hellohello");
    assert_eq!(visit(&up, "echo x > /gantry-conf/new 2>/dev/null || echo refused"), "refused");
    assert_eq!(visit(&up, "echo kept > /var/lib/gantry-scratch/x; cat /var/lib/gantry-scratch/x"), "kept");
    for path in ["/gantry-conf", "/etc/gantry", "/var/lib/gantry-scratch"] {
        assert!(!Path::new(path).exists(), "{path} was made on this machine");
    }
    assert_eq!(visit(&up, "test -x /usr/bin/env && test -e /etc/passwd && echo here"), "here");

    // A token of the cluster's, except where the service account gives none.
    let token = ["test", "-s", "/var/run/secrets/kubernetes.io/serviceaccount/token"];
    assert!(exec(&up, name, &token).status.success());
    assert!(!exec(&up, "visitor-0", &token).status.success());

    // What listens only on the pod's own 127.0.0.1 is forwarded too.
    assert_eq!(forwarded(&up, "visitor-0", 9000).0, 200);
    let (code, body) = forwarded(&up, name, 8080);
    assert!(code == 200 && !body.is_empty());

    up.signal(Signal::TERM);
    assert!(up.wait().success());
    assert_eq!(project.holder(), None);
    assert!(up.pods_processes().is_empty());
}

/// A request through `kubectl port-forward`.
fn forwarded(up: &Up, pod: &str, port: u16) -> (u16, String) {
    let mut forward = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(&up.kubeconfig)
        .args(["port-forward", "-n", "shop", pod, &format!(":{port}")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl was found");
    let mut line = String::new();
    let out = forward.stdout.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("a line");
    let local = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u16>().ok());
    let address = ([127, 0, 0, 1], local.unwrap_or_else(|| panic!("no port in {line:?}"))).into();
    let answer = crate::harness::get(address, "x", "/");
    forward.kill().expect("it runs");
    forward.wait().expect("waited");
    answer
}

#[test]
fn pods_reach_this_machine_and_hear_refusals() {
    if !can_test() {
        return;
    }
    let project = Project::new("isolated");
    let up = project.up();
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = tcp.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in tcp.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let (mut reader, mut writer) = (&stream, &stream);
                let _ = std::io::copy(&mut reader, &mut writer);
            });
        }
    });
    // More than any buffer on the way, and back again.
    let echo = format!(
        "import socket, threading\ns = socket.create_connection(('host.gantry.internal', {port}), 30)\nd = bytes(range(256)) * 20000\nt = threading.Thread(target=lambda: (s.sendall(d), s.shutdown(1)))\nt.start()\nb = b''\nwhile True:\n  c = s.recv(65536)\n  if not c: break\n  b += c\nprint(b == d)"
    );
    assert_eq!(python(&up, &echo), "True");
    let many = format!(
        "import socket\nc = [socket.create_connection(('host.docker.internal', {port}), 30) for _ in range(50)]\nfor i, s in enumerate(c): s.sendall(b'%d;' % i)\nprint(all(s.recv(9) == b'%d;' % i for i, s in enumerate(c)))"
    );
    assert_eq!(python(&up, &many), "True");

    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = udp.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((count, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..count], from);
        }
    });
    let datagrams = format!(
        "import socket\ns = socket.socket(2, 2)\ns.settimeout(20)\ns.connect(('host.gantry.internal', {port}))\nfor n in (1, 1400, 9000, 40000): s.send(b'x' * n); print(len(s.recv(65536)), end=' ')"
    );
    assert_eq!(python(&up, &datagrams), "1 1400 9000 40000");

    // Nobody listens on port 1, and a program must learn that at once.
    for host in ["host.gantry.internal", "catalog"] {
        let refused = format!(
            "import socket\ntry: socket.create_connection(('{host}', 1), 20); print('accepted')\nexcept ConnectionRefusedError: print('refused')"
        );
        assert_eq!(python(&up, &refused), "refused", "{host}");
    }
}

#[test]
fn killed_it_finds_its_pods_again_and_another_network_ends_them() {
    if !can_test() {
        return;
    }
    let project = Project::new("isolated");
    let up = project.up();
    let before = pods(&up);
    let restarts_before = restarts(&up);
    let holder = project.holder().expect("a holder");
    up.kill_9();
    assert_eq!(project.holder(), Some(holder), "it keeps the pods' networks");

    let up = project.up();
    assert_eq!(project.holder(), Some(holder));
    assert_eq!(pods(&up), before);
    assert!(python(&up, &fetch("http://catalog:8080/index.html")).starts_with("catalog-"));
    assert_eq!(up.get("gateway", "shop.localhost", "/index.html").0, 200);
    assert_eq!(restarts(&up), restarts_before);
    up.kill_9();

    // The holder is gone as well: its pods lead nowhere and are started anew.
    let pid = rustix::process::Pid::from_raw(holder.cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
    let mut up = project.up();
    assert_ne!(project.holder(), Some(holder));
    assert!(python(&up, &fetch("http://catalog:8080/index.html")).starts_with("catalog-"));
    up.signal(Signal::TERM);
    assert!(up.wait().success());
    assert_eq!(project.holder(), None);
}

/// Programs that do know us: what runs where the machine allows no namespaces.
const COOPERATIVE: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: catalog, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: catalog}}
  template:
    metadata: {labels: {app: catalog}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: sh
        command: [sh, -c, "echo $POD_IP > index.html; exec python3 -m http.server $PORT --bind $POD_IP"]
        ports: [{name: http, containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: default}
spec:
  selector: {app: catalog}
  ports: [{name: http, port: 8080, targetPort: http}]
"#;

fn service_address(up: &Up) -> Option<String> {
    let output =
        up.kubectl(&["get", "service", "catalog", "-n", "default", "-o", "jsonpath={.spec.clusterIP}"])?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn where_namespaces_are_refused_pods_share_the_machine_and_are_told_so() {
    if !can_test() {
        return;
    }
    let project = Project::with("auto", COOPERATIVE);
    // A user namespace in which no more may be made, as on a machine that forbids them.
    let forbidding = |args: Vec<String>| {
        let mut command = Command::new("unshare");
        let script = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
        command.args(["--user", "--map-root-user", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_gantry")]);
        command.args(args).env_remove("GANTRY_DATA_DIR").env("NO_COLOR", "1").stdin(Stdio::null());
        command
    };
    let mut up = start_up(forbidding(project.args()), &project.data_dir());
    assert_eq!(project.holder(), None);
    let ip = service_address(&up).expect("kubectl was found");
    assert!(ip.starts_with("127."), "{ip}");
    let address = format!("{ip}:8080").parse().expect("an address");
    assert!(crate::harness::get(address, "catalog", "/index.html").1.starts_with("127."));
    up.signal(Signal::TERM);
    assert!(up.wait().success());

    project.set_pod_network("isolated");
    let refused = forbidding(project.args()).output().expect("it runs");
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    for part in ["cannot have networks of their own", "make a user namespace", "user.max_user_namespaces"] {
        assert!(errors.contains(part), "{errors}");
    }

    // The same state where they are allowed: Services move to the other addresses, and back.
    let mut up = project.up();
    assert!(service_address(&up).expect("kubectl was found").starts_with("10."));
    up.signal(Signal::TERM);
    assert!(up.wait().success());
    project.set_pod_network("host");
    let up = project.up();
    assert_eq!(service_address(&up), Some(ip));
    assert_eq!(crate::harness::get(address, "catalog", "/index.html").0, 200);
}

#[test]
fn a_pod_that_cannot_be_isolated_says_why() {
    if !can_test() {
        return;
    }
    let wrong = OBJECTS.replace("mountPath: /gantry-conf}", "mountPath: /etc/passwd}");
    let project = Project::with("isolated", &wrong);
    let mut command = gantry();
    command.args(project.args()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().expect("the binary starts");
    let kubeconfig = project.data_dir().join("kubeconfig");
    let message = wait_until("a message about the mount", || {
        std::thread::sleep(Duration::from_millis(200));
        let output = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["get", "pod", "visitor-0", "-n", "shop", "-o", "jsonpath={..waiting.message}"])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("/etc/passwd").then_some(text)
    });
    assert!(message.expect("waited for").contains("/etc/passwd is a file, and a folder is mounted"));
    let pid = rustix::process::Pid::from_raw(process.id().cast_signed()).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("it runs");
    process.wait().expect("waited");
    assert_eq!(project.holder(), None);
}
