//! How strings are written: which styles their characters allow, and the bytes of each style.

use super::{Emitter, INDENT, WIDTH};

/// Which block-context styles a text allows.
pub(super) struct Analysis {
    pub(super) multiline: bool,
    pub(super) plain_allowed: bool,
    pub(super) single_quoted_allowed: bool,
    pub(super) block_allowed: bool,
}

/// The line breaks of YAML 1.1.
fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

pub(super) fn has_break(text: &str) -> bool {
    text.contains(is_break)
}

/// What may stand in the output as it is. Nothing beyond U+FFFF does.
fn is_printable(c: char) -> bool {
    match c {
        '\n' | ' '..='~' => true,
        '\u{feff}' => false,
        _ => ('\u{a0}'..='\u{fffd}').contains(&c),
    }
}

impl Analysis {
    pub(super) fn of(text: &str) -> Analysis {
        if text.is_empty() {
            return Analysis {
                multiline: false,
                plain_allowed: true,
                single_quoted_allowed: true,
                block_allowed: false,
            };
        }
        let mut indicators = text.starts_with("---") || text.starts_with("...");
        let (mut line_breaks, mut special) = (false, false);
        let (mut break_space, mut space_break) = (false, false);
        let (mut previous_space, mut previous_break) = (false, false);
        let mut after_blank = true;
        let mut chars = text.chars().peekable();
        let mut first = true;
        while let Some(c) = chars.next() {
            let blank_follows = chars.peek().is_none_or(|next| matches!(next, ' ' | '\t') || is_break(*next));
            indicators |= match c {
                '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
                | '`'
                    if first =>
                {
                    true
                }
                '?' | '-' if first => blank_follows,
                ':' => blank_follows,
                '#' => after_blank,
                _ => false,
            };
            special |= !is_printable(c);
            if c == ' ' {
                break_space |= previous_break;
                (previous_space, previous_break) = (true, false);
            } else if is_break(c) {
                line_breaks = true;
                space_break |= previous_space;
                (previous_space, previous_break) = (false, true);
            } else {
                (previous_space, previous_break) = (false, false);
            }
            after_blank = c == ' ' || c == '\t' || is_break(c);
            first = false;
        }
        let edge = |c: Option<char>| c.is_some_and(|c| c == ' ' || is_break(c));
        let at_edges = edge(text.chars().next()) || edge(text.chars().next_back());
        let hopeless = space_break || special;
        Analysis {
            multiline: line_breaks,
            plain_allowed: !(indicators || at_edges || line_breaks || hopeless),
            single_quoted_allowed: !(break_space || hopeless),
            block_allowed: !(text.ends_with(' ') || hopeless),
        }
    }
}

impl Emitter<'_> {
    fn write_char(&mut self, c: char) {
        self.put(c);
        self.indention = false;
    }

    /// A line break that belongs to the text.
    fn write_break(&mut self, c: char) {
        self.out.push(c);
        self.column = 0;
        self.indention = true;
    }

    pub(super) fn plain(&mut self, text: &str, indent: isize, may_fold: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        let mut after_space = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let space_follows = chars.peek() == Some(&' ');
            if c == ' ' && may_fold && !after_space && self.column > WIDTH && !space_follows {
                self.new_line(indent);
            } else {
                self.put(c);
            }
            after_space = c == ' ';
            if !after_space {
                self.indention = false;
            }
        }
        self.whitespace = false;
        self.indention = false;
    }

    pub(super) fn single_quoted(&mut self, text: &str, indent: isize, may_fold: bool) {
        self.indicator("'", true, false, false);
        let (mut after_space, mut after_break) = (false, false);
        let mut first = true;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if c == ' ' {
                let inside = !first && chars.peek().is_some_and(|next| *next != ' ');
                if may_fold && !after_space && self.column > WIDTH && inside {
                    self.new_line(indent);
                } else {
                    self.put(c);
                }
                after_space = true;
            } else if is_break(c) {
                if !after_break && c == '\n' {
                    self.line_break();
                }
                self.write_break(c);
                after_break = true;
            } else {
                if after_break {
                    self.new_line(indent);
                }
                if c == '\'' {
                    self.put(c);
                }
                self.write_char(c);
                (after_space, after_break) = (false, false);
            }
            first = false;
        }
        self.indicator("'", false, false, false);
    }

    pub(super) fn double_quoted(&mut self, text: &str, indent: isize, may_fold: bool) {
        self.indicator("\"", true, false, false);
        // go-yaml asks for a byte order mark at the start of the text, whichever character it looks at.
        let escape_all = text.starts_with('\u{feff}');
        let mut after_space = false;
        let mut first = true;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            if escape_all || !is_printable(c) || is_break(c) || matches!(c, '"' | '\\') {
                self.escaped(c);
                after_space = false;
            } else if c == ' ' {
                let next = chars.peek().copied();
                if may_fold && !after_space && self.column > WIDTH && !first && next.is_some() {
                    self.new_line(indent);
                    if next == Some(' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                after_space = true;
            } else {
                self.put(c);
                after_space = false;
            }
            first = false;
        }
        self.indicator("\"", false, false, false);
    }

    fn escaped(&mut self, c: char) {
        self.put('\\');
        let letter = match c {
            '\0' => '0',
            '\x07' => 'a',
            '\x08' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\x0b' => 'v',
            '\x0c' => 'f',
            '\r' => 'r',
            '\x1b' => 'e',
            '"' | '\\' => c,
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => {
                let code = c as u32;
                let hex = match code {
                    0..=0xff => format!("x{code:02X}"),
                    0x100..=0xffff => format!("u{code:04X}"),
                    _ => format!("U{code:08X}"),
                };
                self.out.push_str(&hex);
                self.column += hex.len();
                return;
            }
        };
        self.put(letter);
    }

    pub(super) fn literal(&mut self, text: &str, indent: isize) {
        self.indicator("|", true, false, false);
        if text.starts_with(|c: char| c == ' ' || is_break(c)) {
            self.indicator(&INDENT.to_string(), false, false, false);
        }
        let mut from_end = text.chars().rev();
        let last_breaks = from_end.next().is_some_and(is_break);
        let before_breaks = from_end.next().is_none_or(is_break);
        match (last_breaks, before_breaks) {
            (false, _) => self.indicator("-", false, false, false),
            (true, true) => self.indicator("+", false, false, false),
            (true, false) => {}
        }
        self.line_break();
        self.indention = true;
        self.whitespace = true;
        let mut after_break = true;
        for c in text.chars() {
            if is_break(c) {
                self.write_break(c);
                after_break = true;
            } else {
                if after_break {
                    self.new_line(indent);
                }
                self.write_char(c);
                after_break = false;
            }
        }
    }
}
