//! Files that several builds read, parsed once.
//!
//! Invariant: what comes out is what parsing the text would give. A file is known by its path and compared by its text,
//! so that one that changed is parsed again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gantry_yaml::{Data, FileId, Node, parse_documents};

/// Beyond so much text nothing more is kept.
const MOST_BYTES: usize = 256 << 20;

/// Shared by the builds of one process, also at the same time.
#[derive(Debug, Default)]
pub struct Documents {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    files: HashMap<PathBuf, Arc<Parsed>>,
    bytes: usize,
}

#[derive(Debug)]
struct Parsed {
    text: String,
    documents: Vec<Node>,
}

impl Documents {
    /// The documents of a file with this text, as if it was read as `file`.
    pub(crate) fn parse(
        &self,
        path: &Path,
        file: FileId,
        text: &str,
    ) -> Result<Vec<Node>, gantry_yaml::Error> {
        let known = self.known().files.get(path).cloned();
        if let Some(known) = known.filter(|known| known.text == text) {
            return Ok(known.documents.iter().map(|node| placed(node, file)).collect());
        }
        let documents = parse_documents(file, text)?;
        self.known().keep(path, text, &documents);
        Ok(documents)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keep(&mut self, path: &Path, text: &str, documents: &[Node]) {
        self.bytes -= self.files.remove(path).map_or(0, |old| old.text.len());
        if self.bytes + text.len() <= MOST_BYTES {
            self.bytes += text.len();
            let parsed = Parsed { text: text.to_owned(), documents: documents.to_vec() };
            self.files.insert(path.to_owned(), Arc::new(parsed));
        }
    }
}

/// The same tree, read as another file.
fn placed(node: &Node, file: FileId) -> Node {
    let data = match &node.data {
        Data::Scalar(scalar) => Data::Scalar(scalar.clone()),
        Data::Sequence(items) => Data::Sequence(items.iter().map(|item| placed(item, file)).collect()),
        Data::Mapping(entries) => Data::Mapping(
            entries.iter().map(|(key, value)| (placed(key, file), placed(value, file))).collect(),
        ),
    };
    Node::new(data, node.span.in_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_known_has_the_places_of_whoever_asks() {
        let documents = Documents::default();
        let path = Path::new("/a.yaml");
        let text = "a: [1]\n---\nb: 2\n";
        for file in [FileId(3), FileId(7)] {
            let found = documents.parse(path, file, text).unwrap();
            assert_eq!(found, parse_documents(file, text).unwrap());
            let span = found[1].get("b").unwrap().span;
            assert_eq!((span.file(), span.line(), span.column()), (file, 3, 4));
        }
        assert_eq!(documents.known().files.len(), 1);
    }

    #[test]
    fn a_file_that_changed_is_parsed_again() {
        let documents = Documents::default();
        for text in ["a: 1\n", "a: 22\n", "a: 1\n"] {
            let found = documents.parse(Path::new("/a.yaml"), FileId(0), text).unwrap();
            assert_eq!(found, parse_documents(FileId(0), text).unwrap());
            assert_eq!(documents.known().bytes, text.len());
        }
        assert!(documents.parse(Path::new("/a.yaml"), FileId(0), "a: [").is_err());
    }
}
