//! Lua's patterns, as the schemas write them: classes, sets, anchors and the four repetitions; no captures, no balances.
//!
//! Format: section 6.4.1 of the Lua 5.3 reference manual. A pattern is parsed once; matching backtracks over single
//! characters only and is bounded by pattern length times text length per starting point.

/// A parsed pattern.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    items: Vec<Item>,
    from_start: bool,
    to_end: bool,
}

#[derive(Clone, Debug)]
struct Item {
    class: Class,
    repeat: Repeat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Once,
    Many,
    ManyOnce,
    Few,
    Maybe,
}

#[derive(Clone, Debug)]
enum Class {
    Any,
    Byte(u8),
    Named(u8),
    Set { is_negated: bool, members: Vec<Member> },
}

#[derive(Clone, Debug)]
enum Member {
    Byte(u8),
    Named(u8),
    Range(u8, u8),
}

fn in_named(class: u8, byte: u8) -> bool {
    let inside = match class.to_ascii_lowercase() {
        b'a' => byte.is_ascii_alphabetic(),
        b'c' => byte.is_ascii_control(),
        b'd' => byte.is_ascii_digit(),
        b'l' => byte.is_ascii_lowercase(),
        b'p' => byte.is_ascii_punctuation(),
        b's' => byte.is_ascii_whitespace() || byte == 0x0b,
        b'u' => byte.is_ascii_uppercase(),
        b'w' => byte.is_ascii_alphanumeric(),
        b'x' => byte.is_ascii_hexdigit(),
        _ => return byte == class,
    };
    inside != class.is_ascii_uppercase()
}

impl Class {
    fn contains(&self, byte: u8) -> bool {
        match self {
            Class::Any => true,
            Class::Byte(known) => *known == byte,
            Class::Named(class) => in_named(*class, byte),
            Class::Set { is_negated, members } => {
                let inside = members.iter().any(|member| match member {
                    Member::Byte(known) => *known == byte,
                    Member::Named(class) => in_named(*class, byte),
                    Member::Range(low, high) => (*low..=*high).contains(&byte),
                });
                inside != *is_negated
            }
        }
    }
}

fn escaped(byte: u8) -> Class {
    if byte.is_ascii_alphabetic() { Class::Named(byte) } else { Class::Byte(byte) }
}

/// Reads a set behind its `[`; returns it and the position behind its `]`.
fn parse_set(text: &[u8], start: usize) -> (Class, usize) {
    let mut at = start;
    let is_negated = text.get(at) == Some(&b'^');
    if is_negated {
        at += 1;
    }
    let mut members = Vec::new();
    let first = at;
    while let Some(&byte) = text.get(at) {
        if byte == b']' && at > first {
            break;
        }
        if byte == b'%' {
            if let Some(&next) = text.get(at + 1) {
                members.push(if next.is_ascii_alphabetic() {
                    Member::Named(next)
                } else {
                    Member::Byte(next)
                });
            }
            at += 2;
        } else if text.get(at + 1) == Some(&b'-') && text.get(at + 2).is_some_and(|&last| last != b']') {
            members.push(Member::Range(byte, text[at + 2]));
            at += 3;
        } else {
            members.push(Member::Byte(byte));
            at += 1;
        }
    }
    (Class::Set { is_negated, members }, at + 1)
}

impl Pattern {
    pub(crate) fn new(source: &str) -> Pattern {
        let text = source.as_bytes();
        let from_start = text.first() == Some(&b'^');
        let mut at = usize::from(from_start);
        let mut items = Vec::new();
        let mut to_end = false;
        while let Some(&byte) = text.get(at) {
            if byte == b'$' && at + 1 == text.len() {
                to_end = true;
                break;
            }
            let class = match byte {
                b'.' => Class::Any,
                b'%' => {
                    at += 1;
                    text.get(at).map_or(Class::Byte(b'%'), |&next| escaped(next))
                }
                b'[' => {
                    let (class, end) = parse_set(text, at + 1);
                    at = end - 1;
                    class
                }
                _ => Class::Byte(byte),
            };
            at += 1;
            let repeat = match text.get(at) {
                Some(b'*') => Repeat::Many,
                Some(b'+') => Repeat::ManyOnce,
                Some(b'-') => Repeat::Few,
                Some(b'?') => Repeat::Maybe,
                _ => Repeat::Once,
            };
            if repeat != Repeat::Once {
                at += 1;
            }
            items.push(Item { class, repeat });
        }
        Pattern { items, from_start, to_end }
    }

    /// Whether the pattern is found in `text`.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let text = text.as_bytes();
        if self.from_start {
            return self.matches(0, text);
        }
        (0..=text.len()).any(|start| self.matches(0, &text[start..]))
    }

    fn matches(&self, item: usize, text: &[u8]) -> bool {
        let Some(Item { class, repeat }) = self.items.get(item) else {
            return !self.to_end || text.is_empty();
        };
        let fits = |text: &[u8]| text.first().is_some_and(|&byte| class.contains(byte));
        match repeat {
            Repeat::Once => fits(text) && self.matches(item + 1, &text[1..]),
            Repeat::Maybe => {
                (fits(text) && self.matches(item + 1, &text[1..])) || self.matches(item + 1, text)
            }
            Repeat::Many | Repeat::ManyOnce => {
                let least = usize::from(*repeat == Repeat::ManyOnce);
                let most = text.iter().take_while(|&&byte| class.contains(byte)).count();
                (least..=most).rev().any(|count| self.matches(item + 1, &text[count..]))
            }
            Repeat::Few => {
                let mut rest = text;
                loop {
                    if self.matches(item + 1, rest) {
                        return true;
                    }
                    if !fits(rest) {
                        return false;
                    }
                    rest = &rest[1..];
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_the_schemas_are_understood() {
        let is = |pattern: &str, text: &str| Pattern::new(pattern).is_match(text);
        assert!(is("^%u+$", "GET") && !is("^%u+$", "GEt") && !is("^%u+$", ""));
        assert!(is("^%*%.", "*.shop.org") && !is("^%*%.", "shop.*"));
        assert!(is("%.%*$", "shop.*") && !is("%.%*$", "shop.*.org"));
        assert!(is("^[^*]*%*?[^*]*$", "a*b") && !is("^[^*]*%*?[^*]*$", "a*b*c"));
        assert!(is("//", "a//b") && !is("//", "a/b"));
        assert!(is("^[a-z][a-z%d-]-[a-z%d]+$", "my-vault1") && !is("^[a-z][a-z%d-]-[a-z%d]+$", "My"));
        assert!(is("^%d+[%.%d]*%-?.*$", "3.9.0-rc1"));
        assert!(is("^[^:]+:.*$", "a:b") && !is("^[^:]+:.*$", "ab"));
    }

    #[test]
    fn no_pattern_and_no_text_makes_a_panic() {
        for pattern in ["", "^", "$", "%", "[", "[^", "[]", "[a-", "*", "a-", "%%", "[%", "[a-%]"] {
            for text in ["", "a", "]", "%", "é"] {
                let _ = Pattern::new(pattern).is_match(text);
            }
        }
    }
}
