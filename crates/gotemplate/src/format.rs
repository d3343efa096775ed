//! Go's `fmt`: `Print`, `Println` and `Printf` of values.

use std::fmt::Write;

use crate::escape;
use crate::float;
use crate::value::{Map, Value};

/// Go refuses larger widths and precisions too.
const MOST_WIDTH: usize = 1_000_000;

/// As `fmt.Sprint`: a space between operands when neither is a string.
pub fn print(args: &[Value]) -> String {
    print_bounded(args, usize::MAX).unwrap_or_default()
}

/// Like [`print`], but an error as soon as the text gets longer than `most_bytes`: many operands may be the same long
/// text, and must not be in memory together before they are refused.
pub(crate) fn print_bounded(args: &[Value], most_bytes: usize) -> Result<String, String> {
    let mut out = String::new();
    let is_string = |value: &Value| matches!(value, Value::String(_));
    for (index, arg) in args.iter().enumerate() {
        if index > 0 && !is_string(arg) && !is_string(&args[index - 1]) {
            out.push(' ');
        }
        show(&mut out, arg, 'v', Flags::default());
        fits(&out, most_bytes)?;
    }
    Ok(out)
}

/// As `fmt.Sprintln`.
pub fn println(args: &[Value]) -> String {
    println_bounded(args, usize::MAX).unwrap_or_default()
}

/// Like [`println`], but an error as soon as the text gets longer than `most_bytes`.
pub(crate) fn println_bounded(args: &[Value], most_bytes: usize) -> Result<String, String> {
    let mut out = String::new();
    for (index, arg) in args.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        show(&mut out, arg, 'v', Flags::default());
        fits(&out, most_bytes)?;
    }
    out.push('\n');
    fits(&out, most_bytes)?;
    Ok(out)
}

fn fits(out: &str, most_bytes: usize) -> Result<(), String> {
    if out.len() > most_bytes {
        return Err(format!("more than {most_bytes} bytes of text"));
    }
    Ok(())
}

/// As `fmt.Sprintf`.
pub fn printf(text: &str, args: &[Value]) -> String {
    printf_bounded(text, args, usize::MAX).unwrap_or_default()
}

#[derive(Clone, Copy, Default)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Like [`printf`], but an error when the text gets longer than `most_bytes`.
pub(crate) fn printf_bounded(text: &str, args: &[Value], most_bytes: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut printer = Printer { rest: text, args, next: 0, reordered: false, good_index: true };
    while let Some(percent) = printer.rest.find('%') {
        out.push_str(&printer.rest[..percent]);
        printer.rest = &printer.rest[percent + 1..];
        printer.directive(&mut out);
        fits(&out, most_bytes)?;
    }
    out.push_str(printer.rest);
    if !printer.reordered && printer.next < args.len() {
        out.push_str("%!(EXTRA ");
        for (index, arg) in args[printer.next..].iter().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            match arg {
                Value::Missing | Value::Nil => out.push_str("<nil>"),
                arg => {
                    out.push_str(arg.type_name());
                    out.push('=');
                    show(&mut out, arg, 'v', Flags::default());
                }
            }
            fits(&out, most_bytes)?;
        }
        out.push(')');
    }
    fits(&out, most_bytes)?;
    Ok(out)
}

struct Printer<'a> {
    rest: &'a str,
    args: &'a [Value],
    next: usize,
    /// Whether an argument was named by its number, so that those left over are no error.
    reordered: bool,
    good_index: bool,
}

impl Printer<'_> {
    fn directive(&mut self, out: &mut String) {
        let mut flags = Flags::default();
        self.good_index = true;
        let mut after_index = false;
        loop {
            match self.rest.as_bytes().first() {
                Some(b'#') => flags.sharp = true,
                Some(b'0') => flags.zero = true,
                Some(b'+') => flags.plus = true,
                Some(b'-') => flags.minus = true,
                Some(b' ') => flags.space = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        after_index |= self.argument_number();
        if let Some(rest) = self.rest.strip_prefix('*') {
            self.rest = rest;
            match self.int_argument() {
                Some(width) => {
                    flags.minus |= width < 0;
                    flags.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            flags.width = self.digits();
            if after_index && flags.width.is_some() {
                self.good_index = false;
            }
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            if after_index {
                self.good_index = false;
            }
            after_index = self.argument_number();
            if let Some(rest) = self.rest.strip_prefix('*') {
                self.rest = rest;
                match self.int_argument() {
                    Some(precision) => flags.precision = usize::try_from(precision).ok(),
                    None => out.push_str("%!(BADPREC)"),
                }
                after_index = false;
            } else {
                flags.precision = Some(self.digits().unwrap_or(0));
            }
        }
        if !after_index {
            self.argument_number();
        }
        let Some(verb) = self.rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            return;
        };
        self.rest = &self.rest[verb.len_utf8()..];
        if flags.minus {
            flags.zero = false;
        }
        if verb == '%' {
            out.push('%');
        } else if !self.good_index {
            out.push_str(&format!("%!{verb}(BADINDEX)"));
        } else if let Some(arg) = self.args.get(self.next) {
            self.next += 1;
            show(out, arg, verb, flags);
        } else {
            out.push_str(&format!("%!{verb}(MISSING)"));
        }
    }

    fn digits(&mut self) -> Option<usize> {
        let length = self.rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, rest) = self.rest.split_at(length);
        self.rest = rest;
        if digits.is_empty() {
            return None;
        }
        digits.parse::<usize>().ok().filter(|number| *number <= MOST_WIDTH)
    }

    /// Takes `[n]` and goes to that argument.
    fn argument_number(&mut self) -> bool {
        let Some(rest) = self.rest.strip_prefix('[') else { return false };
        self.reordered = true;
        let Some((number, rest)) = rest.split_once(']') else {
            self.good_index = false;
            self.rest = rest;
            return false;
        };
        self.rest = rest;
        match number.parse::<usize>().ok().filter(|n| *n >= 1 && *n <= self.args.len()) {
            Some(number) => self.next = number - 1,
            None => self.good_index = false,
        }
        true
    }

    fn int_argument(&mut self) -> Option<i64> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        match arg {
            Value::Int(int) if int.unsigned_abs() <= MOST_WIDTH as u64 => Some(*int),
            _ => None,
        }
    }
}

fn show(out: &mut String, value: &Value, verb: char, flags: Flags) {
    if verb == 'T' {
        return pad(out, if value.is_nil() { "<nil>" } else { value.type_name() }, flags);
    }
    let is_go_syntax = verb == 'v' && flags.sharp;
    match value {
        Value::Missing | Value::Nil if verb == 'v' => pad(out, "<nil>", flags),
        Value::Missing | Value::Nil => out.push_str(&format!("%!{verb}(<nil>)")),
        Value::Bool(value) if matches!(verb, 't' | 'v') => {
            pad(out, if *value { "true" } else { "false" }, Flags { zero: false, ..flags });
        }
        Value::Int(int) => integer(out, *int, value, verb, flags),
        Value::Float(float) => match verb {
            'v' => show_float(out, *float, 'g', Flags { sharp: false, ..flags }, None),
            'b' | 'g' | 'G' | 'x' | 'X' => show_float(out, *float, verb, flags, None),
            'f' | 'F' | 'e' | 'E' => show_float(out, *float, verb, flags, Some(6)),
            _ => bad(out, value, verb),
        },
        Value::String(text) => match verb {
            'v' if is_go_syntax => pad(out, &escape::quote(text, false), flags),
            'v' | 's' => pad(out, truncated(text, flags), flags),
            'q' => {
                let text = truncated(text, flags);
                let raw = flags.sharp && !text.contains(['`', '\u{feff}']) && text.chars().all(can_be_raw);
                let quoted = if raw { format!("`{text}`") } else { escape::quote(text, flags.plus) };
                pad(out, &quoted, flags);
            }
            'x' | 'X' => pad(out, &hexadecimal(text.as_bytes(), verb, flags), flags),
            _ => bad(out, value, verb),
        },
        Value::List(items) => {
            let (open, separator, close) =
                if is_go_syntax { ("[]interface {}{", ", ", "}") } else { ("[", " ", "]") };
            out.push_str(open);
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(separator);
                }
                show(out, item, verb, flags);
            }
            out.push_str(close);
        }
        Value::Map(map) => show_map(out, map, value.type_name(), verb, flags),
        Value::Object(object) if matches!(verb, 'v' | 's') => {
            let text = object.text();
            pad(out, truncated(&text, flags), flags);
        }
        Value::Function(_) if verb == 'v' => pad(out, value.type_name(), flags),
        value => bad(out, value, verb),
    }
}

fn can_be_raw(c: char) -> bool {
    c == '\t' || (c >= ' ' && c != '\x7f')
}

fn show_map(out: &mut String, map: &Map, type_name: &str, verb: char, flags: Flags) {
    let is_go_syntax = verb == 'v' && flags.sharp;
    if is_go_syntax {
        out.push_str(type_name);
        out.push('{');
    } else {
        out.push_str("map[");
    }
    for (index, (key, value)) in map.entries.iter().enumerate() {
        if index > 0 {
            out.push_str(if is_go_syntax { ", " } else { " " });
        }
        show(out, &Value::String(key.clone()), verb, flags);
        out.push(':');
        show(out, value, verb, flags);
    }
    out.push(if is_go_syntax { '}' } else { ']' });
}

fn bad(out: &mut String, value: &Value, verb: char) {
    out.push_str(&format!("%!{verb}({}=", value.type_name()));
    match value {
        // Printed with a verb that it has, so that this ends.
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Object(_) => {
            show(out, value, 'v', Flags::default());
        }
        _ => out.push_str("..."),
    }
    out.push(')');
}

fn truncated(text: &str, flags: Flags) -> &str {
    let Some(most) = flags.precision else { return text };
    text.char_indices().nth(most).map_or(text, |(end, _)| &text[..end])
}

fn pad(out: &mut String, text: &str, flags: Flags) {
    let missing = flags.width.unwrap_or(0).saturating_sub(text.chars().count());
    if flags.minus {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else {
        out.extend(std::iter::repeat_n(if flags.zero { '0' } else { ' ' }, missing));
        out.push_str(text);
    }
}

fn hexadecimal(bytes: &[u8], verb: char, flags: Flags) -> String {
    let bytes = &bytes[..flags.precision.unwrap_or(bytes.len()).min(bytes.len())];
    let prefix = if verb == 'X' { "0X" } else { "0x" };
    let mut text = String::with_capacity(bytes.len() * 2);
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && flags.space {
            text.push(' ');
        }
        if flags.sharp && (index == 0 || flags.space) {
            text.push_str(prefix);
        }
        // Writing to a string cannot fail.
        let _ = if verb == 'X' { write!(text, "{byte:02X}") } else { write!(text, "{byte:02x}") };
    }
    text
}

fn integer(out: &mut String, int: i64, value: &Value, verb: char, flags: Flags) {
    let magnitude = int.unsigned_abs();
    let as_char = || u32::try_from(int).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let (digits, prefix) = match verb {
        'v' | 'd' => (magnitude.to_string(), ""),
        'b' => (format!("{magnitude:b}"), if flags.sharp { "0b" } else { "" }),
        'o' => (format!("{magnitude:o}"), ""),
        'O' => (format!("{magnitude:o}"), "0o"),
        'x' => (format!("{magnitude:x}"), if flags.sharp { "0x" } else { "" }),
        'X' => (format!("{magnitude:X}"), if flags.sharp { "0X" } else { "" }),
        'c' => return pad(out, as_char().encode_utf8(&mut [0; 4]), flags),
        'q' => {
            let mut quoted = String::from("'");
            escape::push_quoted(&mut quoted, as_char(), '\'', flags.plus);
            quoted.push('\'');
            return pad(out, &quoted, flags);
        }
        'U' => {
            let mut text = format!("U+{int:04X}");
            if flags.sharp && escape::is_print(as_char()) {
                text.push_str(&format!(" '{}'", as_char()));
            }
            return pad(out, &text, Flags { zero: false, ..flags });
        }
        _ => return bad(out, value, verb),
    };
    if flags.precision == Some(0) && int == 0 {
        return pad(out, "", Flags { zero: false, ..flags });
    }
    let sign = match () {
        () if int < 0 => "-",
        () if flags.plus => "+",
        () if flags.space => " ",
        () => "",
    };
    let least = match (flags.precision, flags.width) {
        (Some(precision), _) => precision,
        (None, Some(width)) if flags.zero => width.saturating_sub(sign.len()),
        _ => 0,
    };
    let mut text = format!("{sign}{prefix}");
    text.extend(std::iter::repeat_n('0', least.saturating_sub(digits.len())));
    if verb == 'o' && flags.sharp && !digits.starts_with('0') && least <= digits.len() {
        text.push('0');
    }
    text.push_str(&digits);
    pad(out, &text, Flags { zero: false, ..flags });
}

fn show_float(out: &mut String, value: f64, verb: char, flags: Flags, default: Option<usize>) {
    let mut text = float::format(value, verb, flags.precision.or(default));
    if !value.is_finite() {
        let text = match () {
            () if text == "+Inf" && flags.space && !flags.plus => " Inf".to_owned(),
            () if text == "NaN" && flags.plus => "+NaN".to_owned(),
            () if text == "NaN" && flags.space => " NaN".to_owned(),
            () => text,
        };
        return pad(out, &text, Flags { zero: false, ..flags });
    }
    if flags.sharp && !matches!(verb, 'b' | 'x' | 'X') {
        let significant = match verb {
            'g' | 'G' => flags.precision.or(Some(6)),
            _ => None,
        };
        text = with_point(&text, significant);
    }
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None if flags.plus => ("+", text.as_str()),
        None if flags.space => (" ", text.as_str()),
        None => ("", text.as_str()),
    };
    let width = flags.width.unwrap_or(0);
    if flags.zero && !sign.is_empty() && width > sign.len() + digits.len() {
        out.push_str(sign);
        return pad(out, digits, Flags { width: Some(width - sign.len()), ..flags });
    }
    pad(out, &format!("{sign}{digits}"), flags);
}

/// `#`: always a point, and for `%g` its trailing zeros up to the precision.
fn with_point(text: &str, significant: Option<usize>) -> String {
    let (mantissa, tail) = match text.find(['e', 'E']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let mut out = mantissa.to_owned();
    let digits = mantissa.trim_start_matches(['-', '0', '.']).bytes().filter(u8::is_ascii_digit).count();
    let digits = if digits == 0 { 1 } else { digits };
    if !mantissa.contains('.') {
        out.push('.');
    }
    let missing = significant.unwrap_or(0).saturating_sub(digits);
    out.extend(std::iter::repeat_n('0', missing));
    out + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, &[Value], &str)]) {
        for (format, args, expected) in cases {
            assert_eq!(printf(format, args), *expected, "{format}");
        }
    }

    #[test]
    fn verbs() {
        let (int, text) = (Value::Int, Value::from);
        check(&[
            (
                "%d|%5d|%-5d|%05d|%+d|% d",
                &[int(42), int(42), int(42), int(-42), int(42), int(42)],
                "42|   42|42   |-0042|+42| 42",
            ),
            (
                "%b %o %O %x %X %#x %#o",
                &[int(5), int(8), int(8), int(255), int(255), int(255), int(8)],
                "101 10 0o10 ff FF 0xff 010",
            ),
            (
                "%c %q %U %#U",
                &[int(0x4e16), int(0x78), int(0x4e16), int(0x4e16)],
                "世 'x' U+4E16 U+4E16 '世'",
            ),
            (
                "%s|%10s|%-10s|%.2s|%q|%x|% X|%#q",
                &[
                    text("hé"),
                    text("hi"),
                    text("hi"),
                    text("héé"),
                    text("a\"b"),
                    text("hi"),
                    text("hi"),
                    text("a\"b"),
                ],
                "hé|        hi|hi        |hé|\"a\\\"b\"|6869|68 69|`a\"b`",
            ),
            (
                "%f %.2f %8.3f|%-8.1f|%08.3f",
                &[
                    Value::Float(1.5),
                    Value::Float(2.25),
                    Value::Float(1.0),
                    Value::Float(1.0),
                    Value::Float(-1.0),
                ],
                "1.500000 2.25    1.000|1.0     |-001.000",
            ),
            (
                "%e %g %G %v %+.1f %#g",
                &[
                    Value::Float(1e6),
                    Value::Float(1e21),
                    Value::Float(1e-7),
                    Value::Float(1e6),
                    Value::Float(2.0),
                    Value::Float(1.0),
                ],
                "1.000000e+06 1e+21 1E-07 1e+06 +2.0 1.00000",
            ),
            ("%t %v %5t", &[Value::Bool(true), Value::Bool(false), Value::Bool(true)], "true false  true"),
            (
                "%v %d %q",
                &[Value::list([int(1), int(2)]), Value::list([int(1), int(2)]), Value::list([text("a")])],
                "[1 2] [1 2] [\"a\"]",
            ),
            (
                "%v %#v",
                &[Value::map([("b", int(1)), ("a", text("x"))]), Value::string_map([("k", "v")])],
                "map[a:x b:1] map[string]string{\"k\":\"v\"}",
            ),
            ("%T %T %T", &[int(1), Value::Nil, Value::list([])], "int <nil> []interface {}"),
            ("%[2]d %[1]d", &[int(1), int(2)], "2 1"),
            ("%*d|%.*f", &[int(5), int(7), int(1), Value::Float(2.5)], "    7|2.5"),
        ]);
    }

    #[test]
    fn mistakes_are_shown() {
        let (int, text) = (Value::Int, Value::from);
        check(&[
            ("%d", &[text("hi")], "%!d(string=hi)"),
            ("%d %d", &[int(1)], "1 %!d(MISSING)"),
            ("x", &[int(1), text("y")], "x%!(EXTRA int=1, string=y)"),
            ("%z", &[int(3)], "%!z(int=3)"),
            ("100%", &[], "100%!(NOVERB)"),
            ("%[5]d", &[int(1)], "%!d(BADINDEX)"),
            ("%s", &[Value::Nil], "%!s(<nil>)"),
            ("%%", &[], "%"),
        ]);
    }

    #[test]
    fn operands_beyond_the_bound_are_not_shown() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};

        struct Counted(AtomicUsize);
        impl crate::value::Object for Counted {
            fn type_name(&self) -> &str {
                "counted"
            }

            fn member(&self, _name: &str) -> Option<crate::value::Member> {
                None
            }

            fn text(&self) -> String {
                self.0.fetch_add(1, Ordering::Relaxed);
                "0123456789".into()
            }
        }
        let shown = |write: &dyn Fn(&[Value]) -> Result<String, String>| {
            let counted = Arc::new(Counted(AtomicUsize::new(0)));
            let args = vec![Value::Object(counted.clone()); 100];
            assert!(write(&args).is_err());
            counted.0.load(Ordering::Relaxed)
        };
        assert_eq!(shown(&|args| print_bounded(args, 15)), 2);
        assert_eq!(shown(&|args| println_bounded(args, 15)), 2);
        assert_eq!(shown(&|args| printf_bounded("", args, 40)), 2);
        assert_eq!(println_bounded(&["abc".into()], 4).as_deref(), Ok("abc\n"));
        assert!(println_bounded(&["abc".into()], 3).is_err());
    }

    #[test]
    fn print_puts_spaces_where_go_does() {
        let (int, text) = (Value::Int, Value::from);
        assert_eq!(print(&[int(1), int(2), text("a"), text("b"), int(3)]), "1 2ab3");
        assert_eq!(println(&[text("a"), int(1), Value::Nil]), "a 1 <nil>\n");
    }
}
