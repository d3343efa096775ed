//! The server as a user starts it: settings, a declarative file, entities that survive.

use gantry_applet_kong::{Kong, Listen, Settings};
use std::net::SocketAddr;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn settings(prefix: &Path) -> Settings {
    let free = |is_tls| Listen { address: "127.0.0.1:0".parse().unwrap(), is_tls };
    Settings {
        prefix: prefix.to_owned(),
        proxy_listen: vec![free(false), free(true)],
        admin_listen: vec![free(false)],
        ..Settings::default()
    }
}

fn address(kong: &Kong, what: &str) -> SocketAddr {
    kong.addresses().iter().find(|(name, _)| *name == what).map(|(_, address)| *address).unwrap()
}

async fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{head}\r\nHost: any\r\nConnection: close\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A target that answers `hello`.
async fn target() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = [0u8; 4096];
            let _ = stream.read(&mut seen).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
                .await;
        }
    });
    address
}

#[tokio::test]
async fn entities_of_the_admin_api_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let target = target().await;
    let kong = Kong::start(settings(folder.path())).await.unwrap();
    let admin = address(&kong, "admin");
    let service = format!("{{\"name\":\"shop\",\"url\":\"http://{target}\"}}");
    let made = ask(admin, "POST /services HTTP/1.1", &service).await;
    assert!(made.starts_with("HTTP/1.1 201 Created"), "{made}");
    let made = ask(admin, "POST /services/shop/routes HTTP/1.1", "{\"paths\":[\"/\"]}").await;
    assert!(made.starts_with("HTTP/1.1 201 Created"), "{made}");
    assert!(Kong::start(settings(folder.path())).await.is_err(), "the folder is in use");
    kong.shutdown().await;
    drop(kong);
    let kong = Kong::start(settings(folder.path())).await.unwrap();
    let answer = ask(address(&kong, "proxy"), "GET / HTTP/1.1", "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");
    let root = ask(address(&kong, "admin"), "GET / HTTP/1.1", "").await;
    assert!(root.contains("\"tagline\":\"Welcome to kong\""), "{root}");
    let metrics = ask(address(&kong, "admin"), "GET /metrics HTTP/1.1", "").await;
    assert!(metrics.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    let counted =
        |line: &str| line.starts_with("kong_http_requests_total{") && line.contains("service=\"shop\"");
    assert!(metrics.lines().any(counted), "{metrics}");
    kong.shutdown().await;
}

#[tokio::test]
async fn a_declarative_file_is_served_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let target = target().await;
    let file = folder.path().join("kong.yml");
    let text = format!(
        "_format_version: \"3.0\"\nservices:\n- name: shop\n  url: http://{target}\n  routes:\n  - name: all\n    paths: [/]\n"
    );
    std::fs::write(&file, &text).unwrap();
    let declared = || Settings {
        has_database: false,
        declarative_config: Some(file.clone()),
        ..settings(folder.path())
    };
    let kong = Kong::start(declared()).await.unwrap();
    let proxy = address(&kong, "proxy");
    assert!(ask(proxy, "GET / HTTP/1.1", "").await.ends_with("hello"));
    let refused = ask(address(&kong, "admin"), "POST /services HTTP/1.1", "{\"host\":\"a\"}").await;
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
    std::fs::write(&file, text.replace("[/]", "[\"a\"]")).unwrap();
    let reason = kong.reload().unwrap_err();
    assert!(reason.contains("kong.yml:7:"), "{reason}");
    assert!(ask(proxy, "GET / HTTP/1.1", "").await.ends_with("hello"), "the configuration before stays");
    std::fs::write(&file, text.replace("[/]", "[/moved]")).unwrap();
    kong.reload().unwrap();
    assert!(ask(proxy, "GET / HTTP/1.1", "").await.starts_with("HTTP/1.1 404"));
    kong.shutdown().await;
}
