//! Processes, a target that counts, and the little HTTP a test needs.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Generous: it only ends a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The applet's own program, which cargo builds with the tests of this crate.
pub(crate) fn applet() -> Command {
    let tests = std::env::current_exe().expect("a test knows its program");
    let program = tests.ancestors().nth(2).expect("target/debug/deps").join("examples/gantry-locust");
    assert!(
        program.exists(),
        "{} is not built: cargo build -p gantry-applet-locust --example gantry-locust",
        program.display()
    );
    let mut command = Command::new(program);
    command.env_remove("VIRTUAL_ENV").env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// An interpreter with Locust, or `None` after saying that the test is skipped.
pub(crate) fn python() -> Option<PathBuf> {
    let path = std::env::var_os("GANTRY_TEST_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let found = Command::new(&path)
        .args(["-c", "import importlib.metadata as m; m.version('locust')"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        println!(
            "skipped: locust not found ({} has no package of that name; GANTRY_TEST_PYTHON names another)",
            path.display()
        );
    }
    found.then_some(path)
}

/// A process that is killed when the test is over.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) log: PathBuf,
}

impl Process {
    /// Its output goes to a file, which a failing test prints.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Process {
        let file = std::fs::File::create(&log).expect("the log can be made");
        let other = file.try_clone().expect("a descriptor can be doubled");
        let child = command.stdout(file).stderr(other).spawn().expect("the program starts");
        Process { child, log }
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn wait(&mut self) -> i32 {
        let code = until("the process ends", || self.child.try_wait().expect("it can be waited for"));
        code.code().unwrap_or(-1)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a process has an id");
        rustix::process::kill_process(id, signal).expect("the process is there");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.said());
        }
    }
}

/// Asks again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free").port()
}

/// Answers every request; `/fail…` with 500.
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Target {
    pub(crate) fn start() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let requests = Arc::new(AtomicU64::new(0));
        let counter = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = counter.clone();
                std::thread::spawn(move || answer(stream, &counter));
            }
        });
        Target { addr, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(mut stream: TcpStream, requests: &AtomicU64) {
    let mut seen: Vec<u8> = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
            let length: usize = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(0);
            if seen.len() < end + 4 + length {
                break;
            }
            let first = head.lines().next().unwrap_or_default().to_owned();
            seen.drain(..end + 4 + length);
            requests.fetch_add(1, Ordering::SeqCst);
            let status = if first.contains(" /fail") { "500 Internal Server Error" } else { "200 OK" };
            let body = "{\"ok\":true}";
            let text = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => seen.extend_from_slice(&buffer[..count]),
        }
    }
}

/// One request on a connection of its own: status, head and body.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let kind = if body.is_empty() { "" } else { "content-type: application/x-www-form-urlencoded\r\n" };
    let text = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{kind}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_owned(), body.to_owned()))
}

pub(crate) fn get_json(port: u16, path: &str) -> Option<Value> {
    let (status, _, body) = http(port, "GET", path, "")?;
    (status == 200).then(|| serde_json::from_str(&body).expect("the answer is JSON"))
}

/// A locustfile in its folder.
pub(crate) fn locustfile(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("locustfile.py");
    std::fs::write(&path, text).expect("the locustfile can be written");
    path
}

/// Rows of a CSV file that has no quoted field, without its header.
pub(crate) fn csv(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split("\r\n")
        .skip(1)
        .filter(|line| !line.is_empty())
        .map(|line| line.split(',').map(str::to_owned).collect())
        .collect()
}
