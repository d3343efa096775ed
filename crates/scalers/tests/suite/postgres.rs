//! The number of a query of a real PostgreSQL, and a NOTIFY as a push.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::server::{Server, eventually, free_port, program, scaler};

/// The newest PostgreSQL of Debian's folders.
fn folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.reverse();
    folders
}

fn start() -> Option<Server> {
    let postgres = program("postgres", &folders())?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    // PostgreSQL refuses to run as root.
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let given = Command::new("chown").arg("-R").arg("nobody").arg(folder.path()).status();
        assert!(given.is_ok_and(|status| status.success()), "the folder cannot be given away");
    }
    let run = |program: PathBuf| {
        let mut command = if is_root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(folder.path());
        command
    };
    let made = run(postgres.with_file_name("initdb"))
        .args(["-A", "trust", "-U", "scaler", "-N", "-D"])
        .arg(&data)
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let mut command = run(postgres);
    command.args(["-D", data.to_str().expect("UTF-8"), "-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
    Some(Server::start(&mut command, port, folder))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_is_a_number_and_a_notification_is_a_push() {
    let Some(server) = start() else { return };
    assert!(server.folder.path().exists());
    let connection =
        format!("host=127.0.0.1 port={} user=scaler dbname=postgres sslmode=disable", server.port);
    let of = |query: &str| {
        scaler(
            "postgresql",
            &[
                ("connection", &connection),
                ("query", query),
                ("targetQueryValue", "5"),
                ("listenChannel", "jobs"),
            ],
        )
    };
    let count = of("SELECT count(*) FROM jobs");
    eventually("the server answers", async || {
        count.read("").await.is_err_and(|error| error.to_string().contains("\"jobs\" does not exist"))
    })
    .await;
    let (client, driver) =
        tokio_postgres::connect(&connection, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(driver);
    client.batch_execute("CREATE TABLE jobs(id int); INSERT INTO jobs VALUES (1), (2)").await.expect("made");
    let reading = count.read("").await.expect("a reading");
    assert_eq!((reading.value, reading.active), (2.0, true));
    assert_eq!(of("SELECT 2.5::numeric").read("").await.expect("a reading").value, 2.5);
    let many = of("SELECT generate_series(7, 2000000)");
    assert_eq!(many.read("").await.expect("the first row").value, 7.0);
    assert_eq!(many.read("").await.expect("the first row again").value, 7.0);
    for wrong in ["SELECT NULL", "SELECT 'x'", "SELECT 1 WHERE false"] {
        assert!(of(wrong).read("").await.is_err(), "{wrong}");
    }
    let heard = Arc::new(AtomicU64::new(0));
    let counter = heard.clone();
    let _subscription = count.subscribe(Arc::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    eventually("it listens", async || heard.load(Ordering::SeqCst) > 0).await;
    let before = heard.load(Ordering::SeqCst);
    client.batch_execute("NOTIFY jobs").await.expect("notified");
    eventually("the push is heard", async || heard.load(Ordering::SeqCst) > before).await;
}
