//! Builds the page with npm and esbuild in `OUT_DIR`, never in the source tree, and lists its files for embedding.
//!
//! Without Node, or without a way to fetch the packages, the build goes on with a page that says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const SOURCES: [&str; 4] = ["package.json", "package-lock.json", "tsconfig.json", "build.mjs"];
/// What the build leaves of a page, by the end of its name.
const KINDS: [(&str, &str); 3] = [
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
];

fn main() -> io::Result<()> {
    let ui = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("ui");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    for watched in SOURCES.iter().chain(&["src"]) {
        println!("cargo:rerun-if-changed={}", ui.join(watched).display());
    }
    println!("cargo:rerun-if-env-changed=PATH");
    println!("cargo:rerun-if-changed=build.rs");
    let dist = match build(&ui, &out.join("ui")) {
        Ok(dist) => Some(dist),
        Err(reason) => {
            println!("cargo:warning=the web console is not built in: {reason}");
            None
        }
    };
    fs::write(out.join("assets.rs"), listing(dist.as_deref(), &out)?)
}

/// The folder with the finished files.
fn build(ui: &Path, work: &Path) -> Result<PathBuf, String> {
    let problem = |error: io::Error| error.to_string();
    fs::create_dir_all(work).map_err(problem)?;
    let lock = fs::read(ui.join("package-lock.json")).map_err(problem)?;
    let installed = work.join("installed.lock");
    let fresh = fs::read(&installed).is_ok_and(|before| before == lock);
    for file in SOURCES {
        fs::copy(ui.join(file), work.join(file)).map_err(|error| format!("{file}: {error}"))?;
    }
    let _ = fs::remove_dir_all(work.join("src"));
    // Names of parts change with their content: old ones would be embedded too.
    let _ = fs::remove_dir_all(work.join("dist"));
    copy_folder(&ui.join("src"), &work.join("src")).map_err(problem)?;
    if !fresh {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
        run(npm.current_dir(work), "npm")?;
        fs::write(&installed, &lock).map_err(problem)?;
    }
    run(Command::new("node").arg("build.mjs").current_dir(work), "node")?;
    Ok(work.join("dist"))
}

fn run(command: &mut Command, name: &str) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{name} cannot be started ({error}); install Node.js 20 or newer"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(5).collect();
    Err(format!("{name} failed: {}", lines.join(" / ")))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn listing(dist: Option<&Path>, out: &Path) -> io::Result<String> {
    let mut list = String::from("pub(crate) const ASSETS: &[Asset] = &[\n");
    match dist {
        Some(dist) => {
            let first = fs::read_to_string(dist.join("first.txt"))?;
            let mut names: Vec<String> = fs::read_dir(dist)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<_>>()?;
            names.sort();
            for name in &names {
                let Some((_, content_type)) =
                    KINDS.iter().find(|(end, _)| name.rsplit('.').next() == Some(end))
                else {
                    continue;
                };
                let is_first = first.lines().any(|line| line == name);
                let gzip = dist.join(format!("{name}.gz"));
                list.push_str(&entry(name, content_type, &dist.join(name), Some(&gzip), is_first)?);
            }
        }
        None => {
            let page = out.join("absent.html");
            fs::write(&page, ABSENT)?;
            list.push_str(&entry("index.html", KINDS[0].1, &page, None, true)?);
        }
    }
    list.push_str("];\n");
    Ok(list)
}

fn entry(
    name: &str,
    content_type: &str,
    plain: &Path,
    gzip: Option<&Path>,
    first: bool,
) -> io::Result<String> {
    let tag = fnv(&fs::read(plain)?);
    let gzip = gzip.map_or_else(|| "&[]".to_owned(), |path| format!("include_bytes!({path:?})"));
    Ok(format!(
        "    Asset {{ path: \"/{name}\", content_type: {content_type:?}, plain: include_bytes!({plain:?}), gzip: {gzip}, first: {first}, etag: \"\\\"{tag:016x}\\\"\" }},\n"
    ))
}

/// FNV-1a: tells versions of a file apart, nothing more.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const ABSENT: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\"><title>Gantry</title></head>
<body style=\"font: 14px/1.5 system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em\">
<h1 style=\"font-size: 20px\">This binary was built without the web console</h1>
<p>Node.js was not found (or its packages could not be fetched) when it was built. Everything else works.</p>
<p>Install Node.js 20 or newer, then build again: <code>cargo build --release</code>.
The data behind the page is here: <a href=\"/api/snapshot\">/api/snapshot</a>.</p>
</body></html>
";
