//! A running `gantry up` on a copy of the example, and what a test asks of it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Generous: it only ends a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn gantry() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.env_remove("GANTRY_DATA_DIR").env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A copy of `examples/shop`, or of another example, that a test may change.
pub(crate) struct Shop {
    folder: tempfile::TempDir,
    example: &'static str,
    overlay: &'static str,
}

/// A `gantry up` that is ready. Dropping it kills it and what it left.
pub(crate) struct Up {
    process: Child,
    pub addresses: Value,
    pub kubeconfig: PathBuf,
    data_dir: PathBuf,
    said: Arc<Mutex<Vec<Value>>>,
}

// === impl Shop ===

impl Shop {
    pub(crate) fn copy() -> Shop {
        Shop::example("shop", "overlays/dev")
    }

    /// A copy of `examples/<example>`, of which `overlay` is brought up.
    pub(crate) fn example(example: &'static str, overlay: &'static str) -> Shop {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(example);
        copy_tree(&source, &folder.path().join(example));
        let shop = Shop { folder, example, overlay };
        // The whole suite can be run with pods in either kind of network.
        if let Ok(kind) = std::env::var("GANTRY_TEST_POD_NETWORK") {
            let file = shop.file("gantry.yaml");
            let text = std::fs::read_to_string(&file).expect("the example has a gantry.yaml");
            std::fs::write(&file, format!("{text}podNetwork: {kind}\n")).expect("the copy is writable");
        }
        shop
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(self.example).join(path)
    }

    pub(crate) fn overlay(&self) -> PathBuf {
        self.file(self.overlay)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Replaces text in a file; a text that is not there is the test's mistake.
    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let path = self.file(path);
        let text = std::fs::read_to_string(&path).expect("the example has this file");
        assert!(text.contains(from), "{} does not contain {from:?}", path.display());
        std::fs::write(&path, text.replace(from, to)).expect("the copy is writable");
    }

    pub(crate) fn up_command(&self) -> Command {
        let mut command = gantry();
        command.arg("up").arg(self.overlay()).arg("--data-dir").arg(self.data_dir());
        command.args(["--ports", "auto", "--output", "json"]);
        command
    }

    /// Starts `up` and waits until it says that everything is ready.
    pub(crate) fn up(&self) -> Up {
        self.up_with(self.up_command())
    }

    /// The same with a command of the test's own around it.
    pub(crate) fn up_with(&self, command: Command) -> Up {
        start_up(command, &self.data_dir())
    }
}

/// Runs a command line of `up --output json` and waits until it says that everything is ready.
pub(crate) fn start_up(mut command: Command, data_dir: &Path) -> Up {
    let mut process =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
    let mut seen = Vec::new();
    let report = loop {
        let Some(Ok(line)) = lines.next() else {
            let mut errors = String::new();
            let _ = process.stderr.take().expect("piped").read_to_string(&mut errors);
            let _ = process.wait();
            panic!("up ended before it was ready\n{}\n{errors}", seen.join("\n"));
        };
        let value: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        seen.push(line);
        if value["ready"] == true {
            break value;
        }
    };
    // Whatever it still prints must not fill the pipes.
    let said = Arc::new(Mutex::new(Vec::new()));
    let saying = said.clone();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            saying.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
        }
    });
    let mut errors = process.stderr.take().expect("piped");
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::stderr()));
    Up {
        process,
        addresses: report["addresses"].clone(),
        kubeconfig: report["kubeconfig"].as_str().expect("kubeconfig").into(),
        data_dir: std::fs::canonicalize(data_dir).expect("up made it"),
        said,
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("make a folder");
    for entry in std::fs::read_dir(from).expect("the example is there").flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("file type").is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copy a file");
        }
    }
}

// === impl Up ===

impl Up {
    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let text =
            self.addresses[name].as_str().unwrap_or_else(|| panic!("no address {name}: {}", self.addresses));
        text.parse().expect("an address")
    }

    /// A GET of one path; the status code and the body.
    pub(crate) fn get(&self, listener: &str, host: &str, path: &str) -> (u16, String) {
        get(self.address(listener), host, path)
    }

    /// The value of an instant query whose result has exactly one element.
    pub(crate) fn query(&self, promql: &str, at_seconds: Option<f64>) -> Option<f64> {
        let mut path = format!("/api/v1/query?query={}", percent_encode(promql));
        if let Some(at) = at_seconds {
            path.push_str(&format!("&time={at}"));
        }
        let (code, body) = self.get("metrics", "localhost", &path);
        assert_eq!(code, 200, "{promql}: {body}");
        let value: Value = serde_json::from_str(&body).expect("JSON");
        let result = value["data"]["result"].as_array().expect("a result");
        assert!(result.len() <= 1, "{promql} gave {} series", result.len());
        result.first().map(|series| series["value"][1].as_str().expect("a value").parse().expect("a number"))
    }

    /// `kubectl` against this server, if it is on PATH.
    pub(crate) fn kubectl(&self, args: &[&str]) -> Option<Output> {
        match Command::new("kubectl").arg("--kubeconfig").arg(&self.kubeconfig).args(args).output() {
            Ok(output) => Some(output),
            Err(_) => {
                eprintln!("skipped: kubectl not found ({})", args.join(" "));
                None
            }
        }
    }

    /// Waits for a line on standard output, after it was ready, for which `wanted` holds.
    pub(crate) fn says(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = || self.said.lock().unwrap().iter().find(|line| wanted(line)).cloned();
        wait_until(what, found).expect("waited for")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Processes (other than `up` itself) that work below the state folder.
    pub(crate) fn pods_processes(&self) -> Vec<u32> {
        processes_below(&self.data_dir).into_iter().filter(|pid| *pid != self.pid()).collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("the process is there");
    }

    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        wait_until("the process ends", || self.process.try_wait().expect("wait")).expect("checked")
    }

    pub(crate) fn kill_9(mut self) -> PathBuf {
        self.process.kill().expect("kill");
        self.process.wait().expect("wait");
        self.data_dir.clone()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Pods outlive a killed `up` so that the next one may adopt them; here there is none.
        for pid in processes_below(&self.data_dir).into_iter().chain(holder_of(&self.data_dir)) {
            if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The process that holds the networks of a state folder's pods, when there is one.
pub(crate) fn holder_of(data_dir: &Path) -> Option<u32> {
    let text = std::fs::read(data_dir.join("node/networks.json")).ok()?;
    let record: Value = serde_json::from_slice(&text).expect("a record");
    let pid = record["process"]["pid"].as_u64().expect("a pid");
    Path::new(&format!("/proc/{pid}/exe")).exists().then(|| u32::try_from(pid).expect("a pid"))
}

/// Polls until `probe` gives something; panics with `what` when it never does.
pub(crate) fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        assert!(Instant::now() < deadline, "waited {} s in vain: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Living processes whose working directory lies in or below `folder`.
pub(crate) fn processes_below(folder: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let below = std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if below {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn get(addr: SocketAddr, host: &str, path: &str) -> (u16, String) {
    try_get(addr, host, path).unwrap_or_else(|error| panic!("GET http://{addr}{path}: {error}"))
}

pub(crate) fn try_get(addr: SocketAddr, host: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let code = answer.split_ascii_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((code, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

pub(crate) fn percent_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
