//! `gantry diff` over folders on disk, and against the API server in process.

mod cluster;
mod folders;

use gantry_applet_diff::report::Report;

/// A folder of files.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new(files: &[(&str, &str)]) -> Project {
        let project = Project { folder: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(path, text)| project.write(path, text));
        project
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, below: &str) -> String {
        self.folder.path().canonicalize().unwrap().join(below).to_str().unwrap().to_owned()
    }

    /// Compares; a word that begins with `@` is a path in this folder.
    pub(crate) fn compare(&self, words: &[&str]) -> Result<Report, String> {
        let words = words
            .iter()
            .map(|word| word.strip_prefix('@').map_or((*word).to_owned(), |path| self.path(path)));
        let line = std::iter::once("diff".to_owned()).chain(words);
        let matches =
            gantry_applet_diff::command().try_get_matches_from(line).map_err(|error| error.to_string())?;
        gantry_applet_diff::compare(&matches)
    }

    pub(crate) fn told(&self, words: &[&str]) -> String {
        self.compare(words).unwrap_or_else(|error| panic!("{error}")).to_text(false)
    }
}
