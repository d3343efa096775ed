//! exec, attach, port-forward and cp, with the real kubectl and with the client in this process; ports that are taken.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::process::{Output, Stdio};

use async_trait::async_trait;
use bytes::Bytes;
use gantry_apiserver::{Failure, NodeProxy, PodRequest, ResponseBody, UserInfo};
use gantry_node::{Node, Shutdown};
use gantry_serve::{ListenConfig, Listener};
use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, PostParams};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::pods::{Cluster, Life, cluster, eventually, object};

struct Door(Node);

#[async_trait]
impl NodeProxy for Door {
    async fn pod(&self, target: PodRequest, request: Request<Bytes>) -> Response<ResponseBody> {
        let (namespace, pod) = (&target.namespace, &target.pod);
        let switched = match target.subresource.as_str() {
            "exec" => self.0.exec_stream(namespace, pod, request).await,
            "attach" => self.0.attach_stream(namespace, pod, request).await,
            _ => self.0.forward_stream(namespace, pod, request).await,
        };
        switched.map(|response| response.map(|()| gantry_apiserver::full(Bytes::new()))).unwrap_or_else(
            |error| {
                gantry_apiserver::failure_response(&Failure {
                    code: error.status(),
                    reason: "",
                    message: error.to_string(),
                    details: None,
                })
            },
        )
    }

    async fn node(&self, _: &str, _: &str, _: Request<Bytes>) -> Response<ResponseBody> {
        Response::new(gantry_apiserver::full(Bytes::new()))
    }
}

struct Rig {
    cluster: Cluster,
    life: Life,
    address: SocketAddr,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Rig {
        let cluster = cluster().await;
        let dir = tempfile::tempdir().unwrap();
        let life = cluster.live(dir.path(), Shutdown::StopPods { grace: Duration::from_secs(1) });
        cluster.server.set_node_proxy(std::sync::Arc::new(Door(life.node.clone())));
        let listener = Listener::bind(ListenConfig::plain("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let (address, stop) = (listener.local_addr(), CancellationToken::new());
        tokio::spawn(listener.serve(cluster.server.service_as(UserInfo::admin()), stop.clone()));
        Rig { cluster, life, address, stop, _dir: dir }
    }

    async fn pod(&self, name: &str, container: serde_json::Value) -> Pod {
        let mut spec = json!({"name": "c", "image": "shell:1"});
        spec.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        let pod: Pod = object(json!({
            "metadata": {"name": name},
            "spec": {"containers": [spec], "terminationGracePeriodSeconds": 1},
        }));
        self.cluster.api().create(&PostParams::default(), &pod).await.unwrap();
        pod
    }

    async fn ready(&self, name: &str) -> Pod {
        eventually("a ready pod", async || {
            self.cluster.ready().await.into_iter().find(|pod| pod.metadata.name.as_deref() == Some(name))
        })
        .await
    }

    /// `None` where there is no kubectl.
    fn kubectl(&self, args: &[&str]) -> Option<tokio::process::Command> {
        let found = std::process::Command::new("kubectl").args(["version", "--client"]).output().is_ok();
        if !found {
            println!("skipped: kubectl not found ({})", args.join(" "));
            return None;
        }
        let mut command = tokio::process::Command::new("kubectl");
        command.arg("--server").arg(format!("http://{}", self.address)).args(args).kill_on_drop(true);
        command.env("KUBECONFIG", "/dev/null").stdin(Stdio::null());
        Some(command)
    }

    async fn end(self) {
        self.stop.cancel();
        self.life.end().await;
    }
}

async fn output(command: &mut tokio::process::Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await.unwrap().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_runs_commands_in_a_pod() {
    let rig = Rig::start().await;
    rig.pod(
        "web",
        json!({"args": ["echo from here; sleep 300"], "env": [{"name": "COLOR", "value": "green"}]}),
    )
    .await;
    let pod = rig.ready("web").await;
    let ip = pod.status.unwrap().pod_ip.unwrap();
    let Some(mut exec) =
        rig.kubectl(&["exec", "web", "--", "sh", "-c", "echo $COLOR $POD_IP; echo no >&2; exit 3"])
    else {
        return rig.end().await;
    };
    let result = output(&mut exec, "").await;
    assert_eq!(text(&result.stdout), format!("green {ip}\n"), "{}", text(&result.stderr));
    assert!(text(&result.stderr).contains("no\n"));
    assert_eq!(result.status.code(), Some(3), "{}", text(&result.stderr));

    let long = "x".repeat(300_000);
    let result = output(&mut rig.kubectl(&["exec", "-i", "web", "--", "cat"]).unwrap(), &long).await;
    assert!(text(&result.stdout) == long, "{} bytes came back", result.stdout.len());

    let result = output(&mut rig.kubectl(&["exec", "web", "--", "no-such-program"]).unwrap(), "").await;
    assert!(!result.status.success() && text(&result.stderr).contains("no-such-program"), "{result:?}");

    // A terminal, given by script(1).
    let command = format!(
        "kubectl --server http://{} exec -it web -- sh -c 'test -t 0 && stty size && stty -echo && read line && echo got $line'",
        rig.address
    );
    let mut script = tokio::process::Command::new("script");
    script
        .args(["-qec", &format!("stty rows 33 cols 77; {command}"), "/dev/null"])
        .env("KUBECONFIG", "/dev/null");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    match script.spawn() {
        Err(_) => println!("skipped: script not found"),
        Ok(mut child) => {
            let mut stdin = child.stdin.take().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            let mut seen = Vec::new();
            let wanted = async |seen: &mut Vec<u8>, stdout: &mut tokio::process::ChildStdout, what: &str| {
                while !text(seen).contains(what) {
                    let read = tokio::time::timeout(Duration::from_secs(30), stdout.read_buf(seen)).await;
                    assert!(read.is_ok_and(|n| n.is_ok_and(|n| n > 0)), "{what} in {}", text(seen));
                }
            };
            wanted(&mut seen, &mut stdout, "33 77").await;
            stdin.write_all(b"typed\n").await.unwrap();
            wanted(&mut seen, &mut stdout, "got typed").await;
            let _ = child.wait().await;
        }
    }

    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(b"copied").unwrap();
    let local = file.path().to_str().unwrap();
    let result = output(&mut rig.kubectl(&["cp", local, "web:there.txt"]).unwrap(), "").await;
    assert!(result.status.success(), "{}", text(&result.stderr));
    let result = output(&mut rig.kubectl(&["exec", "web", "--", "cat", "there.txt"]).unwrap(), "").await;
    assert_eq!(text(&result.stdout), "copied");
    let back = format!("{local}.back");
    let result = output(&mut rig.kubectl(&["cp", "web:there.txt", &back]).unwrap(), "").await;
    assert!(result.status.success(), "{}", text(&result.stderr));
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "copied");
    std::fs::remove_file(back).unwrap();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_attaches_to_a_container() {
    let rig = Rig::start().await;
    let args = json!({"args": ["while read line; do echo heard $line; done; echo over"], "stdin": true, "stdinOnce": true});
    rig.pod("echo", args).await;
    rig.ready("echo").await;
    let Some(mut attach) = rig.kubectl(&["attach", "-i", "echo"]) else { return rig.end().await };
    let result = output(&mut attach, "one\ntwo\n").await;
    let heard = text(&result.stdout);
    assert!(heard.contains("heard one\nheard two\n"), "{heard} {}", text(&result.stderr));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_forwards_ports() {
    let rig = Rig::start().await;
    rig.pod("web", json!({"args": ["sleep 300"]})).await;
    let ip: std::net::Ipv4Addr = rig.ready("web").await.status.unwrap().pod_ip.unwrap().parse().unwrap();
    // What the pod would serve: the address is of this machine, so anybody can.
    let served = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let port = served.local_addr().unwrap().port();
    let free = {
        let closed = TcpListener::bind((ip, 0)).unwrap();
        closed.local_addr().unwrap().port()
    };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = served.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                all.reverse();
                stream.write_all(&all).await.unwrap();
            });
        }
    });
    let Some(mut forward) =
        rig.kubectl(&["port-forward", "pod/web", &format!(":{port}"), &format!(":{free}")])
    else {
        return rig.end().await;
    };
    let mut child = forward.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    while text(&lines).matches("127.0.0.1:").count() < 2 {
        let read = tokio::time::timeout(Duration::from_secs(30), stdout.read_buf(&mut lines)).await;
        if !read.is_ok_and(|n| n.is_ok_and(|n| n > 0)) {
            let mut errors = String::new();
            child.start_kill().unwrap();
            child.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
            panic!("{} {errors}", text(&lines));
        }
    }
    let said = text(&lines);
    let locals: Vec<u16> = said
        .lines()
        .filter_map(|line| line.split("127.0.0.1:").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    let ask = async |local: u16, data: Vec<u8>| {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", local)).await.unwrap();
        stream.write_all(&data).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read =
            tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap();
        (read.is_ok(), answer)
    };
    let (a, b) = tokio::join!(ask(locals[0], b"abc".to_vec()), ask(locals[0], vec![7; 200_000]));
    if !a.0 {
        let mut errors = Vec::new();
        let mut stderr = child.stderr.take().unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(3), stderr.read_to_end(&mut errors)).await;
        panic!("{said} {}", text(&errors));
    }
    assert_eq!(a, (true, b"cba".to_vec()));
    assert!(b.0 && b.1.len() == 200_000, "{} bytes", b.1.len());
    let (_, nothing) = ask(locals[1], b"x".to_vec()).await;
    assert!(nothing.is_empty());
    let mut errors = Vec::new();
    let mut stderr = child.stderr.take().unwrap();
    while !text(&errors).contains("connection refused") {
        let read = tokio::time::timeout(Duration::from_secs(30), stderr.read_buf(&mut errors)).await;
        assert!(read.is_ok_and(|n| n.is_ok_and(|n| n > 0)), "{}", text(&errors));
    }
    child.kill().await.unwrap();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_in_this_process_does_the_same() {
    let rig = Rig::start().await;
    rig.pod("web", json!({"args": ["sleep 300"]})).await;
    let ip: std::net::Ipv4Addr = rig.ready("web").await.status.unwrap().pod_ip.unwrap().parse().unwrap();
    let pods = rig.cluster.api::<Pod>();
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.exec("web", ["sh", "-c", "tr a-z A-Z; exit 4"], &params).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    let mut said = String::new();
    process.stdout().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "HELLO");
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));

    let served = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    let port = served.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = served.accept().await.unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(b"and back").await.unwrap();
    });
    let mut forwarder = pods.portforward("web", &[port]).await.unwrap();
    let mut stream = forwarder.take_stream(port).unwrap();
    stream.write_all(b"there").await.unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"and back");
    drop(stream);
    let missing = pods.exec("none", ["true"], &AttachParams::default()).await;
    assert!(missing.is_err());
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_another_pod_has_taken_names_both_and_the_remedy() {
    if std::process::Command::new("perl").arg("-v").output().is_err() {
        return println!("skipped: perl not found");
    }
    let rig = Rig::start().await;
    let port = {
        let free = TcpListener::bind("0.0.0.0:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let listen = format!(
        "exec perl -MIO::Socket::INET -e 'my $s = IO::Socket::INET->new(LocalAddr => \"0.0.0.0\", LocalPort => {port}, Listen => 5, ReuseAddr => 1) or die; sleep 300 while 1'"
    );
    let container = json!({"args": [listen], "ports": [{"containerPort": port}],
        "readinessProbe": {"tcpSocket": {"port": port}}});
    rig.pod("first", container.clone()).await;
    rig.ready("first").await;
    rig.pod("second", container).await;
    let message = eventually("the conflict as a condition", async || {
        let pod = rig.cluster.api::<Pod>().get("second").await.unwrap();
        let conditions = pod.status?.conditions?;
        let found = conditions.into_iter().find(|c| c.type_ == "PortsAvailable" && c.status == "False")?;
        assert_eq!(found.reason.as_deref(), Some("PortInUse"));
        found.message
    })
    .await;
    for part in ["default/second", "default/first", &format!(":{port}"), "$POD_IP:$PORT"] {
        assert!(message.contains(part), "{part} in {message}");
    }
    // The remedy is taken by itself once the port is free.
    rig.cluster.api::<Pod>().delete("first", &Default::default()).await.unwrap();
    rig.ready("second").await;
    rig.end().await;
}
