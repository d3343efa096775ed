//! Which files `-f` names, and what a worker without them is sent.

use std::path::{Path, PathBuf};

use gantry_load::locust::LocustFile;

use crate::python::{SHIM, SHIM_NAME};

const MOST_FILES: usize = 1000;
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// The locustfiles that `-f` means: files and folders, separated by commas.
///
/// # Errors
/// What could not be found, and what is accepted.
pub(crate) fn find(option: &str) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for part in option.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if part == "-" {
            return Err(
                "locustfile was set to '-' (meaning to download from master) but --worker was not specified"
                    .to_owned(),
            );
        }
        if part.contains("://") {
            return Err(format!(
                "{part}: a locustfile from the network is not fetched; download it and name the file"
            ));
        }
        let path = Path::new(part);
        if path.is_dir() {
            let before = files.len();
            in_folder(path, &mut files)?;
            if files.len() == before {
                return Err(format!("Could not find any locustfiles in directory '{part}'"));
            }
        } else if path.is_file() && part.ends_with(".py") {
            files.push(std::path::absolute(path).map_err(|error| format!("{part}: {error}"))?);
        } else {
            return Err(format!(
                "Could not find '{part}'. Ensure your locustfile ends with '.py' or is a directory with locustfiles."
            ));
        }
    }
    if files.is_empty() { Err(format!("-f {option:?}: no locustfile is named")) } else { Ok(files) }
}

fn in_folder(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let problem = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(problem)? {
        entries.push(entry.map_err(problem)?.path());
    }
    entries.sort_unstable();
    for path in entries {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !path.is_symlink() && name != "__pycache__" {
            in_folder(&path, files)?;
        } else if name.ends_with(".py") && !name.starts_with('_') {
            files.push(std::path::absolute(&path).map_err(problem)?);
        }
        if files.len() > MOST_FILES {
            return Err(format!("{}: more than {MOST_FILES} locustfiles", folder.display()));
        }
    }
    Ok(())
}

/// The files as a master sends them, and the shim that describes them.
///
/// # Errors
/// Which file could not be read.
pub(crate) fn for_workers(files: &[PathBuf]) -> Result<Vec<LocustFile>, String> {
    let mut sent = Vec::with_capacity(files.len() + 1);
    let mut size = 0;
    for path in files {
        let contents =
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        size += contents.len() as u64;
        if size > MOST_BYTES {
            return Err("the locustfiles are larger than 16 MiB together".to_owned());
        }
        let filename = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        sent.push(LocustFile::Source { filename, contents });
    }
    sent.push(LocustFile::Source { filename: SHIM_NAME.to_owned(), contents: SHIM.to_owned() });
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.py", "a.py", "_hidden.py", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x = 1\n").unwrap();
        }
        let found = find(folder.path().to_str().unwrap()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.py", "b.py"]);
        let sent = for_workers(&found).unwrap();
        assert!(matches!(&sent[2], LocustFile::Source { filename, .. } if filename == SHIM_NAME));
        assert!(find("missing.py").unwrap_err().starts_with("Could not find 'missing.py'"));
        assert!(find("-").is_err() && find("").is_err());
    }
}
