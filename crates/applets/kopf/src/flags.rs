//! Flags of `kopf run`, `kopf freeze` and `kopf resume`, and the environment variables that stand for them.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

/// The priority of an operator that a developer runs beside the deployed one.
const DEV_PRIORITY: i64 = 666;

/// How to log, here and in the worker process.
#[derive(Clone, Debug)]
pub(crate) struct LogFlags {
    pub(crate) verbose: bool,
    pub(crate) debug: bool,
    pub(crate) quiet: bool,
    /// `plain`, `full` or `json`.
    pub(crate) format: String,
    pub(crate) refkey: Option<String>,
    /// Nothing leaves it to the format.
    pub(crate) prefix: Option<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct RunFlags {
    pub(crate) log: LogFlags,
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) modules: Vec<String>,
    pub(crate) all_namespaces: bool,
    pub(crate) namespaces: Vec<String>,
    pub(crate) standalone: bool,
    pub(crate) liveness: Option<String>,
    pub(crate) peering: Option<String>,
    pub(crate) priority: Option<i64>,
    pub(crate) python: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct PeerFlags {
    pub(crate) log: LogFlags,
    pub(crate) all_namespaces: bool,
    pub(crate) namespaces: Vec<String>,
    pub(crate) id: Option<String>,
    pub(crate) peering: String,
    pub(crate) priority: i64,
    /// 0 takes the entry away.
    pub(crate) lifetime_seconds: i64,
}

pub(crate) fn command() -> Command {
    Command::new("kopf")
        .about(
            "Run operators written in Python for Kopf: handlers in a worker process, the engine in this one",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run_command())
        .subcommand(
            peer_command("freeze", "Pause the operators of a peering").args([
                flag("dev", None, "Priority 666"),
                value("priority", Some('p'), "N", "KOPF_FREEZE_PRIORITY")
                    .value_parser(value_parser!(i64))
                    .default_value("100")
                    .help("Operators with lower priority pause"),
                value("lifetime", Some('t'), "SECONDS", "KOPF_FREEZE_LIFETIME")
                    .value_parser(value_parser!(i64))
                    .required(true)
                    .help("How long the pause lasts"),
                value("message", Some('m'), "TEXT", "KOPF_FREEZE_MESSAGE").help("Accepted, as Kopf does"),
            ]),
        )
        .subcommand(peer_command("resume", "End the pause of the operators of a peering"))
}

fn run_command() -> Command {
    let paths = Arg::new("paths").value_name("FILE").num_args(0..).value_parser(value_parser!(PathBuf));
    logged(Command::new("run"))
        .about("Run the handlers of Python files or modules")
        .after_help(
            "The interpreter is that of --python, of the active virtual environment, or python3; the handlers import \
             what is installed for it. `import kopf` gives the package that this binary carries.",
        )
        .arg(paths.help("Python files with handlers"))
        .args([
            flag("all-namespaces", Some('A'), "Serve the whole cluster"),
            value("namespace", Some('n'), "GLOB", "KOPF_RUN_NAMESPACES")
                .action(ArgAction::Append)
                .value_delimiter(' ')
                .help("Serve these namespaces; globs, joined by commas, ! excludes"),
            flag("standalone", None, "Ignore other operators"),
            flag("dev", None, "Priority 666: deployed operators pause meanwhile"),
            value("liveness", Some('L'), "URL", "KOPF_RUN_LIVENESS")
                .help("Answer liveness probes, for example at http://0.0.0.0:8080/healthz"),
            value("peering", Some('P'), "NAME", "KOPF_RUN_PEERING").help("Name of the peering object"),
            value("priority", Some('p'), "N", "KOPF_RUN_PRIORITY")
                .value_parser(value_parser!(i64))
                .help("Operators of the same peering with lower priority pause"),
            value("module", Some('m'), "MODULE", "KOPF_RUN_MODULES")
                .action(ArgAction::Append)
                .help("A Python module with handlers"),
            value("python", None, "PATH", "GANTRY_KOPF_PYTHON")
                .value_parser(value_parser!(PathBuf))
                .help("The Python interpreter (3.10 or newer)"),
        ])
}

fn peer_command(name: &'static str, about: &'static str) -> Command {
    logged(Command::new(name)).about(about).args([
        flag("all-namespaces", Some('A'), "The cluster's peering object"),
        Arg::new("namespace").short('n').long("namespace").value_name("NAME").action(ArgAction::Append),
        Arg::new("id").short('i').long("id").value_name("ID").help("Under which name the entry is kept"),
        Arg::new("peering")
            .short('P')
            .long("peering")
            .value_name("NAME")
            .env(if name == "freeze" { "KOPF_FREEZE_PEERING" } else { "KOPF_RESUME_PEERING" })
            .required(true)
            .help("Name of the peering object"),
    ])
}

fn logged(command: Command) -> Command {
    command.args([
        flag("verbose", Some('v'), "Log what the engine does"),
        flag("debug", Some('d'), "Log everything"),
        flag("quiet", Some('q'), "Log warnings and errors only"),
        Arg::new("log-format")
            .long("log-format")
            .value_parser(["plain", "full", "json"])
            .ignore_case(true)
            .default_value("full")
            .help("How lines look"),
        Arg::new("log-refkey").long("log-refkey").value_name("KEY").help("Key of the object in JSON lines"),
        flag("log-prefix", None, "Begin lines with the object").overrides_with("no-log-prefix"),
        flag("no-log-prefix", None, "Do not").overrides_with("log-prefix"),
    ])
}

fn flag(name: &'static str, short: Option<char>, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).action(ArgAction::SetTrue).help(help)
}

fn value(name: &'static str, short: Option<char>, value: &'static str, variable: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).value_name(value).env(variable)
}

impl LogFlags {
    fn read(matches: &ArgMatches) -> LogFlags {
        let prefix = match (matches.get_flag("log-prefix"), matches.get_flag("no-log-prefix")) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        };
        LogFlags {
            verbose: matches.get_flag("verbose"),
            debug: matches.get_flag("debug"),
            quiet: matches.get_flag("quiet"),
            format: matches.get_one::<String>("log-format").map_or("full", String::as_str).to_lowercase(),
            refkey: matches.get_one::<String>("log-refkey").cloned(),
            prefix,
        }
    }

    /// Whether lines about an object begin with its name.
    pub(crate) fn prefixed(&self) -> bool {
        self.prefix.unwrap_or(self.format != "json")
    }
}

impl RunFlags {
    pub(crate) fn read(matches: &ArgMatches) -> Result<RunFlags, String> {
        let flags = RunFlags {
            log: LogFlags::read(matches),
            paths: many(matches, "paths"),
            modules: many(matches, "module"),
            all_namespaces: matches.get_flag("all-namespaces"),
            namespaces: many(matches, "namespace"),
            standalone: matches.get_flag("standalone"),
            liveness: matches.get_one::<String>("liveness").cloned(),
            peering: matches.get_one::<String>("peering").cloned(),
            priority: match matches.get_flag("dev") {
                true => Some(DEV_PRIORITY),
                false => matches.get_one::<i64>("priority").copied(),
            },
            python: matches.get_one::<PathBuf>("python").cloned(),
        };
        if flags.all_namespaces && !flags.namespaces.is_empty() {
            return Err("either --namespace or --all-namespaces can be used, not both".into());
        }
        if let Some(pattern) = flags.namespaces.iter().find(|pattern| pattern.contains(['[', ']'])) {
            return Err(format!(
                "--namespace {pattern}: sets of letters are not understood yet, expected names with * and ?"
            ));
        }
        if flags.paths.is_empty() && flags.modules.is_empty() {
            return Err("nothing to run: name a Python file, or a module with -m".into());
        }
        if let Some(missing) = flags.paths.iter().find(|path| !path.is_file()) {
            return Err(format!("cannot load {}: there is no such file", missing.display()));
        }
        Ok(flags)
    }
}

impl PeerFlags {
    pub(crate) fn read(matches: &ArgMatches, resume: bool) -> Result<PeerFlags, String> {
        let peering = matches.get_one::<String>("peering").cloned();
        Ok(PeerFlags {
            log: LogFlags::read(matches),
            all_namespaces: matches.get_flag("all-namespaces"),
            namespaces: many(matches, "namespace"),
            id: matches.get_one::<String>("id").cloned(),
            peering: peering.ok_or("--peering is needed")?,
            priority: match resume {
                true => 0,
                false if matches.get_flag("dev") => DEV_PRIORITY,
                false => matches.get_one::<i64>("priority").copied().unwrap_or(100),
            },
            lifetime_seconds: match resume {
                true => 0,
                false => matches.get_one::<i64>("lifetime").copied().unwrap_or(0),
            },
        })
    }
}

fn many<T: Clone + Send + Sync + 'static>(matches: &ArgMatches, name: &str) -> Vec<T> {
    matches.get_many::<T>(name).into_iter().flatten().cloned().collect()
}

/// Whether a namespace is meant by a pattern: globs joined by commas, of which those with `!` exclude again.
pub(crate) fn namespace_matches(name: &str, pattern: &str) -> bool {
    let mut globs: Vec<&str> = pattern.split(',').map(str::trim).collect();
    if globs.first().is_none_or(|first| first.starts_with('!')) {
        globs.insert(0, "*");
    }
    let first = globs.first().is_some_and(|glob| glob_matches(name, glob));
    globs.iter().skip(1).fold(first, |matches, glob| match glob.strip_prefix('!') {
        Some(excluded) => matches && !glob_matches(name, excluded),
        None => matches || (first && glob_matches(name, glob)),
    })
}

/// Whether a pattern names exactly one namespace.
pub(crate) fn is_exact(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ',', '!'])
}

/// `*` stands for anything, `?` for one character.
fn glob_matches(name: &str, glob: &str) -> bool {
    let (name, glob): (Vec<char>, Vec<char>) = (name.chars().collect(), glob.chars().collect());
    // Where to go back to when what follows a star does not fit.
    let (mut at, mut part, mut star) = (0, 0, None);
    while at < name.len() {
        match glob.get(part) {
            Some('*') => {
                star = Some((part, at));
                part += 1;
            }
            Some(letter) if *letter == '?' || Some(letter) == name.get(at) => {
                at += 1;
                part += 1;
            }
            _ => match star {
                Some((star_part, star_at)) => {
                    part = star_part + 1;
                    at = star_at + 1;
                    star = Some((star_part, at));
                }
                None => return false,
            },
        }
    }
    glob.get(part..).unwrap_or_default().iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_chosen_by_globs() {
        for (pattern, name, expected) in [
            ("default", "default", true),
            ("default", "other", false),
            ("app-*", "app-1", true),
            ("*-pr-?", "my-pr-7", true),
            ("*-pr-?", "my-pr-77", false),
            ("!*-pr-*, *pr-123", "my-pr-123", true),
            ("!*-pr-*, *pr-123", "my-pr-456", false),
            ("!kube-*", "kube-system", false),
            ("!kube-*", "default", true),
        ] {
            assert_eq!(namespace_matches(name, pattern), expected, "{pattern} {name}");
        }
        assert!(is_exact("default") && !is_exact("app-*"));
    }

    #[test]
    fn flags_are_read_and_refused() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("UTF-8");
        let read = |arguments: &[&str]| {
            let matches = command().try_get_matches_from([&["kopf", "run"], arguments].concat());
            let matches = matches.map_err(|error| error.to_string())?;
            RunFlags::read(matches.subcommand().expect("run").1)
        };
        let flags = read(&["-A", "--dev", "-v", "--log-format=JSON", path]).expect("good flags");
        assert!(
            flags.all_namespaces && flags.log.verbose && flags.log.format == "json" && !flags.log.prefixed()
        );
        assert_eq!(flags.priority, Some(666));
        let flags = read(&["-n", "a", "-n", "b-*", "-p", "7", "-m", "mod"]).expect("good flags");
        assert_eq!((flags.namespaces, flags.priority), (vec!["a".to_owned(), "b-*".to_owned()], Some(7)));
        for (arguments, message) in [
            (&["-A", "-n", "x", path][..], "not both"),
            (&[], "nothing to run"),
            (&["/no/such/file.py"], "there is no such file"),
            (&["--log-format", "xml", path], "xml"),
            (&["-n", "app-[ab]", path], "sets of letters are not understood"),
        ] {
            let error = read(arguments).expect_err("refused");
            assert!(error.contains(message), "{error}");
        }
    }
}
