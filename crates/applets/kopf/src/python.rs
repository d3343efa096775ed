//! The user's Python interpreter, and the package that it is given.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// What the interpreter is started with; it takes the rest from its socket.
pub(crate) const BOOTSTRAP: &str = include_str!("../python/bootstrap.py");

macro_rules! modules {
    ($($name:literal),* $(,)?) => {
        &[$((concat!("kopf.", $name), include_str!(concat!("../python/kopf/", $name, ".py")))),*]
    };
}

const MODULES: &[(&str, &str)] = modules![
    "_activities",
    "_bodies",
    "_calls",
    "_context",
    "_dicts",
    "_diffs",
    "_embedding",
    "_errors",
    "_events",
    "_filters",
    "_hierarchies",
    "_indices",
    "_logins",
    "_logs",
    "_memos",
    "_patches",
    "_registry",
    "_resources",
    "_settings",
    "_stoppers",
    "_subhandlers",
    "_webhooks",
    "_worker",
    "lifecycles",
    "on",
];

/// The frame that carries the package to the worker.
pub(crate) fn sources() -> Value {
    let mut sources: Map<String, Value> =
        MODULES.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    sources.insert("kopf".to_owned(), json!(include_str!("../python/kopf/__init__.py")));
    json!({ "sources": sources })
}

/// The interpreter to use: the one that was named, that of the active virtual environment, or the first on the path.
pub(crate) fn interpreter(
    named: Option<&Path>,
    virtual_env: Option<&Path>,
    path: Option<&std::ffi::OsStr>,
) -> Result<PathBuf, String> {
    if let Some(named) = named {
        // A bare name is looked up like any command.
        if named.is_file() {
            return Ok(named.to_path_buf());
        }
        if named.components().count() > 1 {
            return Err(format!(
                "there is no Python interpreter at {}; name another with --python",
                named.display()
            ));
        }
    }
    let in_env = virtual_env.map(|env| env.join("bin/python"));
    if let Some(python) = in_env.filter(|python| named.is_none() && python.is_file()) {
        return Ok(python);
    }
    let names: Vec<&Path> =
        named.map_or_else(|| vec![Path::new("python3"), Path::new("python")], |name| vec![name]);
    let folders: Vec<PathBuf> = path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
    let found = names
        .iter()
        .find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()));
    found.ok_or_else(|| {
        let names: Vec<String> = names.iter().map(|name| name.display().to_string()).collect();
        format!(
            "no Python interpreter ({}) on the path: install Python 3.10 or newer (Debian: apt install python3), or \
             name one with --python",
            names.join(" or ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_of_the_package_is_carried() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/kopf");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the package")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".py").map(str::to_owned))
            .filter(|name| name != "__init__")
            .collect();
        files.sort();
        let carried: Vec<&str> = MODULES.iter().filter_map(|(name, _)| name.strip_prefix("kopf.")).collect();
        assert_eq!(files, carried);
    }

    #[test]
    fn the_interpreter_is_looked_for_in_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("env/bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        std::fs::write(bin.join("python"), "").expect("a file");
        std::fs::write(folder.path().join("python3"), "").expect("a file");
        let (env, path) = (folder.path().join("env"), folder.path().as_os_str());
        assert_eq!(interpreter(None, Some(&env), Some(path)), Ok(bin.join("python")));
        assert_eq!(interpreter(None, None, Some(path)), Ok(folder.path().join("python3")));
        assert_eq!(
            interpreter(Some(Path::new("python3")), Some(&env), Some(path)),
            Ok(folder.path().join("python3"))
        );
        let error = interpreter(None, None, Some(bin.join("none").as_os_str())).expect_err("nothing there");
        assert!(error.contains("apt install python3"), "{error}");
        let error = interpreter(Some(Path::new("/no/python")), None, Some(path)).expect_err("nothing there");
        assert!(error.contains("/no/python"), "{error}");
    }
}
