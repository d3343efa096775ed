//! Splits a command line into words the way a POSIX shell quotes them, without expanding anything.

/// Why a command line could not be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WordsError {
    #[error("unclosed {quote} quote that opens at byte {at}")]
    Unclosed { quote: char, at: usize },
    #[error("the line ends in a lone backslash")]
    TrailingBackslash,
}

/// The words of `line`: blanks separate, `'…'` is literal, `"…"` keeps `\"`, `\\`, `\$` and `` \` `` as escapes.
pub(crate) fn split(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some((_, '\'')) => break,
                        Some((_, c)) => into.push(c),
                        None => return Err(WordsError::Unclosed { quote: '\'', at }),
                    }
                }
            }
            '"' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some((_, '"')) => break,
                        Some((_, '\\')) => match chars.next() {
                            Some((_, c @ ('"' | '\\' | '$' | '`'))) => into.push(c),
                            Some((_, c)) => into.extend(['\\', c]),
                            None => return Err(WordsError::Unclosed { quote: '"', at }),
                        },
                        Some((_, c)) => into.push(c),
                        None => return Err(WordsError::Unclosed { quote: '"', at }),
                    }
                }
            }
            '\\' => match chars.next() {
                Some((_, c)) => word.get_or_insert_default().push(c),
                None => return Err(WordsError::TrailingBackslash),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_would() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  a  b\tc\n", &["a", "b", "c"]),
            ("a 'b c' d", &["a", "b c", "d"]),
            (r#"say "it \"is\" $HOME \n""#, &["say", r#"it "is" $HOME \n"#]),
            (r"a\ b '' c", &["a b", "", "c"]),
            ("x'y'\"z\"", &["xyz"]),
        ];
        for (line, words) in cases {
            assert_eq!(split(line).unwrap(), *words, "{line}");
        }
        assert_eq!(split("a 'b"), Err(WordsError::Unclosed { quote: '\'', at: 2 }));
        assert_eq!(split("a \"b\\"), Err(WordsError::Unclosed { quote: '"', at: 2 }));
        assert_eq!(split("a\\"), Err(WordsError::TrailingBackslash));
    }
}
