//! Whatever is written is read back as the same, and no input makes the reader panic.

use gantry_yaml::{Data, FileId, Node, Span, emit, parse_documents};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[a-z #:'\"\\n\\t-]{0,30}",
        "(the |quick: |brown |fox |'|\\\\|\\n){0,40}",
        "[0-9.eExob_+:-]{1,8}",
        "\\PC{0,8}",
        "[\\n \u{a0}é😀\u{2028}\u{feff}\u{1}a]{0,8}",
    ]
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        text().prop_map(|text| Node::string(text, Span::NONE)),
        any::<i64>().prop_map(|int| Node::plain(int.to_string(), Span::NONE)),
        Just(Node::plain("true", Span::NONE)),
        Just(Node::plain("null", Span::NONE)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| Node::new(Data::Sequence(items), Span::NONE)),
            prop::collection::vec((text(), inner), 0..5).prop_map(|entries| {
                let mut mapping = Node::mapping(Span::NONE);
                for (key, value) in entries {
                    mapping.set(&key, value);
                }
                mapping
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back(node in tree()) {
        let written = emit(&node);
        let read = parse_documents(FileId(0), &written);
        let read = read.map_err(|error| TestCaseError::fail(format!("{error}\n{written}")))?;
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(&read[0], &node, "{}", written);
        prop_assert_eq!(emit(&read[0]), written);
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(garbage in "[-a:?\\[\\]{}&*!|>'\"%#,\\n \\t<1.\\\\]{0,80}") {
        if let Ok(documents) = parse_documents(FileId(0), &garbage) {
            for document in &documents {
                emit(document);
            }
        }
    }

    #[test]
    fn any_text_is_an_error_and_no_panic(garbage in "\\PC*|(?s).{0,60}") {
        if let Err(error) = parse_documents(FileId(0), &garbage) {
            prop_assert!(!error.in_file("f", &garbage).to_string().is_empty());
        }
    }
}
