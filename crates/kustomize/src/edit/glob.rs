//! File patterns as the originals read them: `*` and `?` within one directory, `[a-z]`, `\` before a plain character.

use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

use crate::error::{Error, Result};
use crate::fs::{FileSystem, normal};

/// A pattern that matches more is refused.
const MAX_MATCHES: usize = 100_000;
/// Directories in one pattern.
const MAX_DEPTH: usize = 64;

/// Whether the whole of `name` fits the pattern.
pub(super) fn matches(pattern: &str, name: &str) -> Result<bool> {
    let steps = steps(pattern)?;
    let name: Vec<char> = name.chars().collect();
    let (mut step, mut at) = (0, 0);
    // Where the last `*` stands, and how much of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match steps.get(step) {
            Some(Step::Any) => {
                star = Some((step, at));
                step += 1;
                continue;
            }
            Some(wanted) if name.get(at).is_some_and(|c| wanted.fits(*c)) => {
                step += 1;
                at += 1;
                continue;
            }
            None if at == name.len() => return Ok(true),
            _ => {}
        }
        match star {
            Some((star_step, taken)) if name.get(taken).is_some_and(|c| *c != '/') => {
                star = Some((star_step, taken + 1));
                step = star_step + 1;
                at = taken + 1;
            }
            _ => return Ok(false),
        }
    }
}

enum Step {
    Any,
    One,
    Exactly(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Step {
    fn fits(&self, c: char) -> bool {
        match self {
            Step::Any => false,
            Step::One => c != '/',
            Step::Exactly(wanted) => *wanted == c,
            Step::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

fn bad(pattern: &str) -> Error {
    Error::new(format!("syntax error in pattern '{pattern}': check its brackets and backslashes"))
}

fn steps(pattern: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        steps.push(match c {
            '*' => Step::Any,
            '?' => Step::One,
            '\\' => Step::Exactly(chars.next().ok_or_else(|| bad(pattern))?),
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let low = class_char(&mut chars).ok_or_else(|| bad(pattern))?;
                    let high = match chars.next_if_eq(&'-') {
                        Some(_) => class_char(&mut chars).ok_or_else(|| bad(pattern))?,
                        None => low,
                    };
                    ranges.push((low, high));
                }
                Step::Class { negated, ranges }
            }
            other => Step::Exactly(other),
        });
    }
    Ok(steps)
}

/// One end of a range.
fn class_char(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '\\' => chars.next(),
        '-' | ']' => None,
        c => Some(c),
    }
}

/// The files and directories that fit a pattern relative to `root`, sorted. Hidden ones only when the pattern names them.
pub(super) fn files(fs: &dyn FileSystem, root: &Path, pattern: &str) -> Result<Vec<String>> {
    let mut found = expand(fs, root, pattern, 0)?;
    let base = |path: &str| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    if !base(pattern).starts_with('.') {
        found.retain(|path| !base(path).starts_with('.'));
    }
    Ok(found)
}

fn has_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

fn expand(fs: &dyn FileSystem, root: &Path, pattern: &str, depth: usize) -> Result<Vec<String>> {
    if depth > MAX_DEPTH {
        return Err(Error::new(format!("pattern names more than {MAX_DEPTH} directories")));
    }
    // The pattern itself may be wrong even where no file is.
    matches(pattern, "")?;
    if !has_pattern(pattern) {
        let exists = !pattern.is_empty() && fs.canonical(&normal(&root.join(pattern))).is_ok();
        return Ok(if exists { vec![pattern.to_owned()] } else { Vec::new() });
    }
    let (dir, last) = match pattern.rfind('/') {
        Some(at) => (&pattern[..at], &pattern[at + 1..]),
        None => ("", pattern),
    };
    let dirs = if has_pattern(dir) { expand(fs, root, dir, depth + 1)? } else { vec![dir.to_owned()] };
    let mut found = Vec::new();
    for dir in dirs {
        // A leading slash is the root directory's.
        let listed = match dir.as_str() {
            "" if pattern.starts_with('/') => fs.list(Path::new("/")),
            "" => fs.list(root),
            dir => fs.list(&normal(&root.join(dir))),
        };
        for name in listed.unwrap_or_default() {
            if !matches(last, &name)? {
                continue;
            }
            found.push(match dir.as_str() {
                "" if pattern.starts_with('/') => format!("/{name}"),
                "" => name,
                dir => format!("{dir}/{name}"),
            });
            if found.len() > MAX_MATCHES {
                return Err(Error::new(format!("pattern '{pattern}' matches more than {MAX_MATCHES} files")));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Memory;

    #[track_caller]
    fn fits(pattern: &str, name: &str) -> bool {
        matches(pattern, name).expect("a pattern")
    }

    #[test]
    fn a_star_stays_in_its_directory() {
        assert!(fits("foo/*", "foo/a.yaml"));
        assert!(!fits("foo/*", "foo/bar/a.yaml"));
        assert!(fits("*/*.y*l", "foo/a.b.yaml"));
        assert!(!fits("*", "a/b"));
        assert!(fits("a*b*c", "axxbyybzc"));
        assert!(!fits("a?c", "a/c"));
    }

    #[test]
    fn classes_ranges_and_escapes() {
        assert!(fits("[a-c]x", "bx"));
        assert!(!fits("[^a-c]x", "bx"));
        assert!(fits("\\*", "*"));
        assert!(fits("[\\]]", "]"));
        for bad in ["[", "[a", "a\\", "[]a]", "[-x]", "[a-]"] {
            assert!(matches(bad, "a").is_err(), "{bad}");
        }
    }

    #[test]
    fn hidden_files_are_named_or_left_out() {
        let mut fs = Memory::default();
        for path in ["/app/a.yaml", "/app/.b.yaml", "/app/sub/c.yaml", "/d.yaml"] {
            fs.insert(path, "");
        }
        let files = |pattern: &str| files(&fs, Path::new("/app"), pattern).expect("a pattern");
        assert_eq!(files("*.yaml"), ["a.yaml"]);
        assert_eq!(files(".*.yaml"), [".b.yaml"]);
        assert_eq!(files("s*/*"), ["sub/c.yaml"]);
        assert_eq!(files("../*.yaml"), ["../d.yaml"]);
        assert_eq!(files("sub"), ["sub"]);
        assert!(files("gone.yaml").is_empty());
    }
}
