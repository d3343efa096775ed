//! File names with wildcards, as Go's `filepath.Glob` reads them: `*`, `?` and `[…]` within a name.

use std::path::{Component, Path, PathBuf};

/// More files than this are not returned.
const MAX_FILES: usize = 100_000;

/// The files that a pattern stands for, sorted; a name without wildcards stands for itself when it exists.
pub fn glob(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = match component {
            Component::Normal(name) => name.to_str().filter(|name| name.contains(['*', '?', '['])),
            _ => None,
        };
        found = match name {
            None => found.into_iter().map(|path| path.join(component)).collect(),
            Some(name) => found.iter().flat_map(|folder| entries(folder, name)).take(MAX_FILES).collect(),
        };
    }
    found.retain(|path| path.exists());
    found.sort();
    found
}

fn entries(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let read = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = std::fs::read_dir(read) else { return Vec::new() };
    let pattern: Vec<char> = pattern.chars().collect();
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| matches(&pattern, &name.chars().collect::<Vec<_>>()))
        })
        .map(|entry| folder.join(entry.file_name()))
        .collect()
}

/// Whether a name is of a pattern's form. Goes back to the last `*` only, so that it takes no more than the product of the
/// lengths.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        if pattern.get(at) == Some(&'*') {
            star = Some((at, in_name));
            at += 1;
            continue;
        }
        match one(&pattern[at..], name[in_name]) {
            Some(length) => {
                at += length;
                in_name += 1;
            }
            None => {
                let Some((star_at, star_in_name)) = star else { return false };
                at = star_at + 1;
                in_name = star_in_name + 1;
                star = Some((star_at, in_name));
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// How much of the pattern stands for a character, if its beginning does.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => {
            let close = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
            let (negated, inner) = match pattern[1] {
                '^' => (true, &pattern[2..close]),
                _ => (false, &pattern[1..close]),
            };
            let mut rest = inner;
            let mut is_in = false;
            while let Some(low) = rest.first() {
                let (high, used) = match rest {
                    [_, '-', high, ..] => (high, 3),
                    _ => (low, 1),
                };
                is_in |= (*low..=*high).contains(&c);
                rest = &rest[used..];
            }
            (is_in != negated).then_some(close + 1)
        }
        literal => (*literal == c).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_within_a_name() {
        let is = |pattern: &str, name: &str| {
            matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
        };
        for (pattern, name) in [
            ("*.yml", "a.yml"),
            ("a*b*c", "axxbyyc"),
            ("?.y", "x.y"),
            ("[a-c]1", "b1"),
            ("[^a]", "b"),
            ("a", "a"),
        ] {
            assert!(is(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*.yml", "a.yaml"), ("?", ""), ("[a-c]", "d"), ("a", "ab"), ("[", "["), ("a*b", "ac")]
        {
            assert!(!is(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn files_in_folders() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["x/a.yml", "y/a.yml", "y/b.yml", "y/c.txt"] {
            std::fs::create_dir_all(dir.path().join(file).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(file), "").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let base = dir.path().to_str().unwrap().len() + 1;
            glob(&dir.path().join(pattern))
                .iter()
                .map(|path| path.to_str().unwrap()[base..].to_owned())
                .collect()
        };
        assert_eq!(found("*/*.yml"), ["x/a.yml", "y/a.yml", "y/b.yml"]);
        assert_eq!(found("y/c.txt"), ["y/c.txt"]);
        assert!(found("z/*.yml").is_empty() && found("y/none").is_empty());
    }
}
