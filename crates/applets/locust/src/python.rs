//! The user's Python: where it is, whether it has Locust, and worker processes that run it.

use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

/// Variables of the environment that this process has acted on already.
const OURS: &[&str] = &[
    "AUTOQUIT",
    "AUTOSTART",
    "CSV",
    "CSV_FULL_HISTORY",
    "HEADLESS",
    "HTML",
    "LOCUSTFILE",
    "LOGFILE",
    "MODE_MASTER",
    "MODE_WORKER",
    "PROCESSES",
    "RUN_TIME",
    "SPAWN_RATE",
    "USERS",
    "USER_CLASSES",
];

/// What a worker would take from a `locust.conf` beside the locustfile, where this process has acted on it already: it
/// would fork once more, and write over our files.
const NOT_AGAIN: &[&str] = &["--processes", "0", "--csv", "", "--html", ""];

/// What runs beside every locustfile.
pub(crate) const SHIM: &str = include_str!("shim.py");
pub(crate) const SHIM_NAME: &str = "gantry_describe.py";
/// Tells the only worker of a run where to write the exit code that the locustfile has set.
const EXIT_CODE_VARIABLE: &str = "GANTRY_LOCUST_EXIT_CODE";
const EXIT_CODE_NAME: &str = "exit-code";
/// After its master told a worker to quit.
const EXIT_WAIT: Duration = Duration::from_secs(5);

/// An interpreter with the locust package.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    path: PathBuf,
    pub(crate) locust: String,
}

/// Worker processes; ended when dropped.
pub(crate) struct Workers {
    children: Vec<Child>,
    /// Holds the shim, and what the shim writes.
    folder: tempfile::TempDir,
}

// === impl Python ===

impl Python {
    /// The interpreter that was named, else that of the active virtual environment, else `python3`.
    ///
    /// # Errors
    /// Which interpreters were tried, and what each lacks.
    pub(crate) fn find(named: Option<&Path>, virtual_env: Option<&Path>) -> Result<Python, String> {
        let candidates: Vec<PathBuf> = match (named, virtual_env) {
            (Some(path), _) => vec![path.to_owned()],
            (None, Some(folder)) => vec![folder.join("bin/python")],
            (None, None) => vec!["python3".into(), "python".into()],
        };
        let mut problems = Vec::new();
        for path in candidates {
            match locust_version(&path) {
                Ok(locust) => return Ok(Python { path, locust }),
                Err(problem) => problems.push(format!("{}: {problem}", path.display())),
            }
        }
        Err(problems.join("; "))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Hands over to the locust command itself, and gives its exit code.
    pub(crate) fn run_locust(&self, arguments: &[String]) -> Result<i32, String> {
        let status = StdCommand::new(&self.path).args(["-m", "locust"]).args(arguments).status();
        let status = status.map_err(|error| format!("cannot run {}: {error}", self.path.display()))?;
        Ok(status.code().unwrap_or(1))
    }

    /// Starts workers that join a master, each with these arguments besides. With `is_whole_run` no others join it, and
    /// a single one judges the run.
    pub(crate) fn start_workers(
        &self,
        count: u32,
        locustfiles: &[PathBuf],
        master: (&str, u16),
        arguments: &[String],
        is_whole_run: bool,
    ) -> Result<Workers, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        let shim = folder.path().join(SHIM_NAME);
        std::fs::write(&shim, SHIM).map_err(|error| format!("{}: {error}", shim.display()))?;
        let files: Vec<String> =
            locustfiles.iter().chain([&shim]).map(|path| path.to_string_lossy().into_owned()).collect();
        let exit_code = (is_whole_run && count == 1).then(|| folder.path().join(EXIT_CODE_NAME));
        self.start(count, &files.join(","), master, arguments, folder, exit_code)
    }

    /// Starts workers that ask their master for the locustfile.
    pub(crate) fn start_downloading_workers(
        &self,
        count: u32,
        master: (&str, u16),
        arguments: &[String],
    ) -> Result<Workers, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
        self.start(count, "-", master, arguments, folder, None)
    }

    fn start(
        &self,
        count: u32,
        files: &str,
        master: (&str, u16),
        arguments: &[String],
        folder: tempfile::TempDir,
        exit_code: Option<PathBuf>,
    ) -> Result<Workers, String> {
        let mut children = Vec::new();
        for _ in 0..count {
            let mut command = self.worker(files, master, arguments);
            if let Some(file) = &exit_code {
                command.env(EXIT_CODE_VARIABLE, file);
            }
            let child =
                command.spawn().map_err(|error| format!("cannot run {}: {error}", self.path.display()))?;
            children.push(child);
        }
        Ok(Workers { children, folder })
    }

    fn worker(&self, files: &str, master: (&str, u16), arguments: &[String]) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(["-m", "locust", "--worker", "-f"])
            .arg(files)
            .args(["--master-host", master.0, "--master-port", &master.1.to_string()])
            .args(NOT_AGAIN)
            .args(arguments)
            .stdin(Stdio::null())
            // Ctrl-C is the master's business: it asks for last reports before workers go.
            .process_group(0)
            .kill_on_drop(true);
        // What steers this process must not make a master or a second run of the worker.
        for name in OURS {
            command.env_remove(format!("LOCUST_{name}"));
        }
        command
    }
}

fn locust_version(path: &Path) -> Result<String, String> {
    // Importing the package itself would patch the standard library and take most of a second.
    let script = "import importlib.metadata as m, sys; sys.stdout.write(m.version('locust'))";
    let output = StdCommand::new(path).args(["-c", script]).stdin(Stdio::null()).output();
    match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err("not found".to_owned()),
        Err(error) => Err(error.to_string()),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(_) => Err("has no package locust (pip install locust)".to_owned()),
    }
}

// === impl Workers ===

impl Workers {
    /// The exit code of the first that has ended, if one has.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let mut ended = self.children.iter_mut().filter_map(|child| child.try_wait().ok().flatten());
        ended.next().map(|status| status.code().unwrap_or(1))
    }

    /// The exit code that the locustfile has set, once its worker has ended.
    pub(crate) fn chosen_exit_code(&self) -> Option<u8> {
        std::fs::read_to_string(self.folder.path().join(EXIT_CODE_NAME)).ok()?.trim().parse().ok()
    }

    /// Waits for all of them; the greatest exit code.
    pub(crate) async fn wait(&mut self) -> i32 {
        let mut code = 0;
        for child in &mut self.children {
            let ended = child.wait().await;
            code = code.max(ended.ok().and_then(|status| status.code()).unwrap_or(1));
        }
        code
    }

    /// Asks them to end (as Ctrl-C does), and ends those that do not.
    pub(crate) async fn end(&mut self) {
        if tokio::time::timeout(EXIT_WAIT, self.wait()).await.is_ok() {
            return;
        }
        self.interrupt();
        if tokio::time::timeout(EXIT_WAIT, self.wait()).await.is_err() {
            self.end_now().await;
        }
    }

    pub(crate) async fn end_now(&mut self) {
        for child in &mut self.children {
            let _ = child.kill().await;
        }
    }

    pub(crate) fn interrupt(&self) {
        for child in &self.children {
            let id =
                child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
            if let Some(id) = id {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_does_not_do_again_what_a_config_file_says() {
        let python = Python { path: "python3".into(), locust: String::new() };
        let command = python.worker("a.py", ("127.0.0.1", 5557), &["--reset-stats".to_owned()]);
        let given: Vec<_> = command.as_std().get_args().map(|given| given.to_string_lossy()).collect();
        for (flag, value) in [("--processes", "0"), ("--csv", ""), ("--html", "")] {
            assert!(given.windows(2).any(|pair| pair == [flag, value]), "{given:?}");
        }
    }
}
