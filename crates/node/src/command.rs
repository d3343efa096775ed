//! From a container's image, command and args to the local command line that stands for it.
//!
//! Order: annotation `gantry.dev/command.<container>`, then `gantry.dev/command`, then the `images` table (exact
//! reference first, then without digest, without tag, then the last path segment). A table entry is the image's
//! entrypoint: the container's `command` replaces it, `args` are appended or put where `{args}` stands. An
//! annotation also replaces `command`, because that names paths inside the image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::words::{self, WordsError};

pub const COMMAND_ANNOTATION: &str = "gantry.dev/command";
const ARGS: &str = "{args}";

/// Why no local command could be found; the text is the container's waiting message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error(
        "image \"{image}\" of container \"{container}\" has no local command; add it to {file}:\nimages:\n  {name}: [\"./path/to/program\", \"{{args}}\"]\nor annotate the pod template with {COMMAND_ANNOTATION}.{container}: \"./path/to/program\""
    )]
    NotMapped { image: String, name: String, container: String, file: String },
    #[error(
        "image \"{image}\" is mapped to an empty command, so container \"{container}\" must have a `command` of its own"
    )]
    NoCommand { image: String, container: String },
    #[error("annotation {annotation} is not a command line: {reason}")]
    Annotation { annotation: String, reason: String },
    #[error(
        "container \"{container}\": program \"{program}\" was not found{searched}; install it, or name another in the `images:` of gantry.yaml"
    )]
    MissingBinary { container: String, program: String, searched: String },
    #[error("container \"{container}\": \"{program}\" is not an executable file")]
    NotExecutable { container: String, program: String },
}

impl CommandError {
    /// The waiting reason of the container.
    pub fn reason(&self) -> &'static str {
        match self {
            CommandError::NotMapped { .. } | CommandError::NoCommand { .. } => "ImageNotMapped",
            CommandError::Annotation { .. } => "InvalidCommandAnnotation",
            CommandError::MissingBinary { .. } | CommandError::NotExecutable { .. } => "BinaryNotFound",
        }
    }
}

/// The part of a container that decides its command line.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub container: &'a str,
    pub image: &'a str,
    pub command: &'a [String],
    pub args: &'a [String],
    pub annotations: &'a BTreeMap<String, String>,
}

/// The words to run, before `$(VAR)` expansion and path lookup.
pub fn resolve(wanted: Wanted<'_>, config: &Config) -> Result<Vec<String>, CommandError> {
    let specific = format!("{COMMAND_ANNOTATION}.{}", wanted.container);
    for annotation in [specific.as_str(), COMMAND_ANNOTATION] {
        if let Some(text) = wanted.annotations.get(annotation) {
            let entrypoint = parse_annotation(annotation, text)?;
            return Ok(splice(&entrypoint, wanted.args));
        }
    }
    let Some(entrypoint) = lookup(&config.images, wanted.image) else {
        return Err(CommandError::NotMapped {
            image: wanted.image.into(),
            name: without_tag(wanted.image).into(),
            container: wanted.container.into(),
            file: config.images_file.clone(),
        });
    };
    if !wanted.command.is_empty() {
        return Ok(wanted.command.iter().chain(wanted.args).cloned().collect());
    }
    if entrypoint.is_empty() {
        return Err(CommandError::NoCommand {
            image: wanted.image.into(),
            container: wanted.container.into(),
        });
    }
    Ok(splice(entrypoint, wanted.args))
}

/// The program's absolute path: `gantry` itself, a path below `base_dir`, or a name found on `PATH`.
pub fn locate(program: &str, container: &str, config: &Config) -> Result<PathBuf, CommandError> {
    let not_executable =
        || CommandError::NotExecutable { container: container.into(), program: program.into() };
    if let ("gantry", Some(exe)) = (program, &config.self_exe) {
        return Ok(exe.clone());
    }
    if program.contains('/') {
        let path = absolute(&config.base_dir).join(program);
        return match executable(&path) {
            Some(true) => Ok(path),
            Some(false) => Err(not_executable()),
            None => Err(CommandError::MissingBinary {
                container: container.into(),
                program: program.into(),
                searched: match Path::new(program).is_absolute() {
                    true => String::new(),
                    false => format!(" under {}", absolute(&config.base_dir).display()),
                },
            }),
        };
    }
    let path = config.host_env.get("PATH").map(String::as_str).unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let found = path
        .split(':')
        .filter(|d| !d.is_empty())
        .map(|d| Path::new(d).join(program))
        .find(|p| executable(p) == Some(true));
    found.ok_or_else(|| CommandError::MissingBinary {
        container: container.into(),
        program: program.into(),
        searched: format!(" on PATH ({path})"),
    })
}

fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf())
}

/// `None` when there is no such file.
fn executable(path: &Path) -> Option<bool> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn parse_annotation(annotation: &str, text: &str) -> Result<Vec<String>, CommandError> {
    let wrong = |reason: String| CommandError::Annotation { annotation: annotation.into(), reason };
    let words = if text.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<String>>(text)
            .map_err(|e| wrong(format!("a JSON array of strings: {e}")))?
    } else {
        words::split(text).map_err(|e: WordsError| wrong(e.to_string()))?
    };
    if words.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    Ok(words)
}

fn splice(entrypoint: &[String], args: &[String]) -> Vec<String> {
    let mut words = Vec::with_capacity(entrypoint.len() + args.len());
    let mut placed = false;
    for word in entrypoint {
        if word == ARGS {
            words.extend_from_slice(args);
            placed = true;
        } else {
            words.push(word.clone());
        }
    }
    if !placed {
        words.extend_from_slice(args);
    }
    words
}

fn lookup<'a>(images: &'a BTreeMap<String, Vec<String>>, image: &str) -> Option<&'a Vec<String>> {
    let without_digest = image.split('@').next().unwrap_or(image);
    let name = without_tag(image);
    let short = name.rsplit('/').next().unwrap_or(name);
    let short_tagged = without_digest.rsplit('/').next().unwrap_or(without_digest);
    [image, without_digest, name, short_tagged, short].into_iter().find_map(|key| images.get(key))
}

/// The repository of an image reference: no digest, no tag; a registry's port is kept.
fn without_tag(image: &str) -> &str {
    let repository = image.split('@').next().unwrap_or(image);
    match repository.rfind(':') {
        Some(colon) if !repository[colon..].contains('/') => &repository[..colon],
        _ => repository,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(images: &[(&str, &[&str])]) -> Config {
        let mut config = Config::new("n", "/nowhere");
        for (image, words) in images {
            config.images.insert(image.to_string(), words.iter().map(|w| w.to_string()).collect());
        }
        config
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| w.to_string()).collect()
    }

    fn run(
        config: &Config,
        image: &str,
        command: &[&str],
        args: &[&str],
        annotations: &[(&str, &str)],
    ) -> Result<Vec<String>, CommandError> {
        let annotations = annotations.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let (command, args) = (strings(command), strings(args));
        resolve(
            Wanted { container: "web", image, command: &command, args: &args, annotations: &annotations },
            config,
        )
    }

    #[test]
    fn command_replaces_the_entrypoint_and_args_follow_it() {
        let config = config(&[("shop/web", &["./web", "--listen", "x"]), ("tool", &["t", "{args}", "end"])]);
        let ok = |image, command: &[&str], args: &[&str]| run(&config, image, command, args, &[]).unwrap();
        assert_eq!(ok("shop/web:v1", &[], &[]), ["./web", "--listen", "x"]);
        assert_eq!(ok("shop/web:v1", &[], &["-v"]), ["./web", "--listen", "x", "-v"]);
        assert_eq!(ok("shop/web:v1", &["/bin/sh"], &["-c", "true"]), ["/bin/sh", "-c", "true"]);
        assert_eq!(ok("registry:5000/a/tool:2@sha256:00", &[], &["1", "2"]), ["t", "1", "2", "end"]);
    }

    #[test]
    fn the_most_exact_table_entry_wins() {
        let config = config(&[("web", &["short"]), ("shop/web", &["name"]), ("shop/web:v2", &["exact"])]);
        let first = |image| run(&config, image, &[], &[], &[]).unwrap().remove(0);
        assert_eq!(first("shop/web:v2"), "exact");
        assert_eq!(first("shop/web:v1"), "name");
        assert_eq!(first("other/web:v1"), "short");
        assert_eq!(without_tag("localhost:5000/web"), "localhost:5000/web");
    }

    #[test]
    fn annotations_win_and_are_shell_words_or_json() {
        let config = config(&[("web", &["table"])]);
        let both =
            [("gantry.dev/command", "all 'a b'"), ("gantry.dev/command.web", r#"["one", "{args}", "x"]"#)];
        assert_eq!(run(&config, "web", &["/app"], &["-v"], &both).unwrap(), ["one", "-v", "x"]);
        assert_eq!(run(&config, "web", &["/app"], &[], &both[..1]).unwrap(), ["all", "a b"]);
        let wrong = run(&config, "web", &[], &[], &[("gantry.dev/command", "'x")]).unwrap_err();
        assert_eq!(wrong.reason(), "InvalidCommandAnnotation");
        assert!(run(&config, "web", &[], &[], &[("gantry.dev/command", " ")]).is_err());
    }

    #[test]
    fn an_unmapped_image_says_what_to_write() {
        let error = run(&config(&[]), "ghcr.io/acme/web:v1", &[], &[], &[]).unwrap_err();
        assert_eq!(error.reason(), "ImageNotMapped");
        let text = error.to_string();
        for part in ["gantry.yaml", "ghcr.io/acme/web: [", "gantry.dev/command.web"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_missing_program_is_named() {
        let mut config = config(&[]);
        config.host_env.insert("PATH".into(), "/bin:/usr/bin".into());
        assert!(locate("sh", "web", &config).unwrap().ends_with("sh"));
        let error = locate("no-such-program", "web", &config).unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("/bin:/usr/bin"), "{error}");
        assert!(matches!(locate("./nope", "web", &config), Err(CommandError::MissingBinary { .. })));
        assert!(matches!(locate("/etc", "web", &config), Err(CommandError::NotExecutable { .. })));
        config.self_exe = Some("/opt/gantry".into());
        assert_eq!(locate("gantry", "web", &config).unwrap(), Path::new("/opt/gantry"));
    }
}
