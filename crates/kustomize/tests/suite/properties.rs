//! What must hold for any input, as functions of bytes: seeded tests run them here, `cargo fuzz` runs them in `fuzz/`.

use gantry_kustomize::parts;
use gantry_kustomize::remote::Repository;
use gantry_yaml::{Data, FileId, Node, Span, emit, parse_documents};

/// Bytes as a source of choices; all the same once they are used up.
struct Choices<'a>(&'a [u8]);

/// What texts are made of: the parts that mean something somewhere.
const FRAGMENTS: [&str; 48] = [
    "a",
    "b",
    "name",
    "metadata",
    "spec",
    "containers",
    "app",
    "0",
    "1",
    "-1",
    "1.5",
    "0x1F",
    "1e3",
    "1:30",
    "true",
    "yes",
    "null",
    "~",
    "<<",
    "2020-01-01",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    ":",
    ": ",
    "- ",
    "#",
    " #",
    "'",
    "\"",
    "\\",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "!",
    "|",
    ">",
    "%",
    "é",
    "😀",
    "\u{feff}",
    "\u{7f}",
];
/// Names of fields, some of which have merge rules.
const NAMES: [&str; 16] = [
    "metadata",
    "name",
    "spec",
    "template",
    "containers",
    "ports",
    "containerPort",
    "protocol",
    "env",
    "args",
    "labels",
    "a.b",
    "c/d",
    "$patch",
    "x",
    "finalizers",
];
const MOST_DEPTH: usize = 6;

impl Choices<'_> {
    fn next(&mut self) -> usize {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    fn text(&mut self) -> String {
        (0..self.next() % 9).map(|_| FRAGMENTS[self.next() % FRAGMENTS.len()]).collect()
    }

    /// A tree whose texts a writer can write.
    fn node(&mut self, depth: usize) -> Node {
        let most = if depth >= MOST_DEPTH { 3 } else { 8 };
        match self.next() % most {
            0 => Node::string(self.text().replace('\u{7f}', ""), Span::NONE),
            1 => Node::plain((self.next() as i64 - 100).to_string(), Span::NONE),
            2 => Node::plain(["true", "null", "1.5", "x"][self.next() % 4], Span::NONE),
            3 | 4 => {
                let items = (0..self.next() % 4).map(|_| self.node(depth + 1)).collect();
                Node::new(Data::Sequence(items), Span::NONE)
            }
            _ => self.mapping(depth),
        }
    }

    fn mapping(&mut self, depth: usize) -> Node {
        let mut mapping = Node::mapping(Span::NONE);
        for _ in 0..self.next() % 5 {
            let name = NAMES[self.next() % NAMES.len()];
            let value = match name {
                "$patch" => Node::string(["delete", "replace", "merge", "?"][self.next() % 4], Span::NONE),
                _ => self.node(depth + 1),
            };
            mapping.set(name, value);
        }
        mapping
    }

    /// An object of a kind whose lists merge.
    fn object(&mut self) -> Node {
        let mut object = self.mapping(0);
        object.set("apiVersion", Node::string("apps/v1", Span::NONE));
        object.set("kind", Node::string("Deployment", Span::NONE));
        object.remove("$patch");
        object
    }
}

/// The reader ends with documents or an error that has a place, and what it has read can be written.
pub(crate) fn yaml_reader(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let made = (0..bytes.len() / 2).map(|_| FRAGMENTS[choices.next() % FRAGMENTS.len()]).collect::<String>();
    for text in [String::from_utf8_lossy(bytes).into_owned(), made] {
        match parse_documents(FileId(0), &text) {
            Ok(documents) => documents.iter().for_each(|document| drop(emit(document))),
            Err(error) => {
                let lines = text.lines().count() + 1;
                assert!(error.span().line() <= lines, "{error} of {text:?}");
                assert!(!error.in_file("f", &text).to_string().is_empty());
            }
        }
    }
}

/// What is written reads back as the same and is written the same again.
pub(crate) fn yaml_emitter(bytes: &[u8]) {
    let node = Choices(bytes).node(0);
    let written = emit(&node);
    let read = parse_documents(FileId(0), &written).unwrap_or_else(|error| panic!("{error}\n{written}"));
    assert_eq!(read.len(), 1, "{written}");
    assert_eq!(read[0], node, "{written}");
    assert_eq!(emit(&read[0]), written);
}

/// A patch arrives or is refused; nothing of it but its values is left, and an empty one changes nothing but lists.
pub(crate) fn strategic_merge(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (object, patch) = (choices.object(), choices.object());
    let Ok(merged) = parts::strategic_merge(object.clone(), &patch) else { return };
    if let Some(merged) = &merged {
        for (key, value) in patch.as_mapping().unwrap_or_default() {
            let name = key.text().unwrap_or_default();
            if value.as_scalar().is_some() && !value.is_null() && !name.starts_with('$') {
                assert_eq!(merged.get(name), Some(value), "{name} of\n{}", emit(&patch));
            }
        }
        drop(emit(merged));
    }
    let unchanged = parts::strategic_merge(object.clone(), &Node::mapping(Span::NONE));
    let unchanged = unchanged.expect("an empty patch is a patch").expect("it deletes nothing");
    let scalars = |node: &Node| -> Vec<(String, Node)> {
        let entries = node.as_mapping().unwrap_or_default().iter();
        entries
            .filter(|(_, value)| value.as_scalar().is_some())
            .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), value.clone()))
            .collect()
    };
    assert_eq!(scalars(&unchanged), scalars(&object));
}

/// What an operation adds is there, and a patch that fails changes no type of failure: it is an error.
pub(crate) fn json_patch(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut document = choices.object();
    let mut operations = Vec::new();
    let text = |text: &str| Node::string(text, Span::NONE);
    for _ in 0..1 + choices.next() % 4 {
        let path: String = (0..1 + choices.next() % 3)
            .map(|_| match choices.next() % 4 {
                0 => format!("/{}", choices.next() % 4),
                1 => "/-".to_owned(),
                2 => format!("/{}", choices.text()),
                _ => {
                    format!("/{}", NAMES[choices.next() % NAMES.len()].replace('~', "~0").replace('/', "~1"))
                }
            })
            .collect();
        let mut operation = Node::mapping(Span::NONE);
        operation
            .set("op", text(["add", "remove", "replace", "move", "copy", "test", "no"][choices.next() % 7]));
        operation.set("path", text(&path));
        operation.set("from", text(&format!("/{}", NAMES[choices.next() % NAMES.len()])));
        operation.set("value", choices.node(3));
        operations.push(operation);
    }
    let patch = Node::new(Data::Sequence(operations), Span::NONE);
    drop(parts::json_patch(&mut document, &patch));
    drop(emit(&document));
    // Whatever became of it, a field of the object can be set and taken away again.
    let value = choices.node(3);
    let operation = |op: &str, path: &str| {
        let mut operation = Node::mapping(Span::NONE);
        operation.set("op", text(op));
        operation.set("path", text(path));
        operation.set("value", value.clone());
        operation
    };
    if document.as_mapping().is_some() {
        document.remove("new");
        let before = document.clone();
        let list = |operations: Vec<Node>| Node::new(Data::Sequence(operations), Span::NONE);
        let add = list(vec![operation("add", "/new"), operation("test", "/new")]);
        parts::json_patch(&mut document, &add).unwrap_or_else(|error| panic!("{error}\n{}", emit(&value)));
        parts::json_patch(&mut document, &list(vec![operation("remove", "/new")])).expect("it is there");
        assert_eq!(document, before);
    }
}

/// A path leads where it was made to lead; any text is a path that leads somewhere or nowhere.
pub(crate) fn field_paths(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut object = choices.object();
    let garbage = choices.text();
    drop(parts::split_path(&garbage));
    let _ = parts::lookup(&object, &garbage);
    let value = Node::string("set", Span::NONE);
    drop(parts::set_each(&mut object, &garbage, choices.next() % 2 == 0, &value));
    let names: Vec<&str> = (0..1 + choices.next() % 4).map(|_| NAMES[choices.next() % NAMES.len()]).collect();
    let path: Vec<String> = names.iter().map(|name| name.replace('.', "\\.")).collect();
    let path = path.join(".");
    assert_eq!(parts::split_dotted(&path), names, "{path}");
    let mut made = Node::mapping(Span::NONE);
    let count = parts::set_each(&mut made, &path, true, &value).expect("nothing is in the way");
    assert_eq!((count, parts::lookup(&made, &path)), (1, Some(&value)), "{path} in\n{}", emit(&made));
}

/// What is taken for a repository cannot be taken for an option or a command by git, and leads into the repository.
pub(crate) fn git_addresses(bytes: &[u8]) {
    const PARTS: [&str; 36] = [
        "github.com",
        "git@",
        "https://",
        "ssh://",
        "file://",
        "git::",
        "ext::",
        "-",
        "--upload-pack=x",
        "/",
        "//",
        ":",
        "..",
        ".git",
        "_git/",
        "org",
        "repo",
        "?ref=",
        "&timeout=",
        "1s",
        "&submodules=0",
        "%0a",
        "%2d",
        "\n",
        "\0",
        " ",
        "me:s3cret@",
        "example.com",
        ".",
        "#",
        "?",
        "=",
        "+",
        "*",
        "é",
        "-oProxyCommand=x",
    ];
    let mut choices = Choices(bytes);
    let made = (0..bytes.len() / 2).map(|_| PARTS[choices.next() % PARTS.len()]).collect::<String>();
    for address in [String::from_utf8_lossy(bytes).into_owned(), made] {
        let Ok(found) = Repository::parse(&address) else { continue };
        let (url, reference, root) = (found.url(), found.reference(), found.root());
        for text in [url.as_str(), reference, root] {
            assert!(!text.chars().any(char::is_control), "{address:?}: {text:?}");
        }
        assert!(!url.starts_with('-') && !reference.starts_with('-'), "{address:?}: {url:?} {reference:?}");
        let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = authority.split(['/', ':']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        assert!(url.starts_with("file://") || !host.starts_with('-'), "{address:?}: {url:?}");
        assert!(!url.to_lowercase().starts_with("ext::"), "{address:?}: {url:?}");
        let leads_out = root.starts_with('/') || std::path::Path::new(root).starts_with("..");
        assert!(!leads_out, "{address:?}: {root:?}");
        assert!(!found.shown().contains("://me:s3cret@") || !url.starts_with("http"), "{address:?}");
    }
}

/// Runs a property over inputs of many lengths, the same ones every time.
#[cfg(test)]
fn run(property: fn(&[u8]), seed: u64) {
    // xorshift64*
    let mut state = seed;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    };
    for round in 0..1500 {
        let length = (next() % (1 + round / 4)) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| (next() >> 32) as u8).collect();
        property(&bytes);
    }
}

#[test]
fn the_reader_ends_whatever_it_reads() {
    run(yaml_reader, 1);
}

#[test]
fn what_is_written_reads_back_as_the_same() {
    run(yaml_emitter, 2);
}

#[test]
fn a_merge_takes_what_the_patch_says() {
    run(strategic_merge, 3);
}

#[test]
fn a_json_patch_is_applied_or_refused() {
    run(json_patch, 4);
}

#[test]
fn a_field_path_leads_where_it_was_made_to_lead() {
    run(field_paths, 5);
}

#[test]
fn no_address_is_an_option_or_a_command() {
    run(git_addresses, 6);
}
