//! Request paths: normalisation before matching, and the path that is sent to the service.
//!
//! Normalisation follows RFC 3986 section 6 with Kong's choices: unreserved and other harmless characters are decoded,
//! reserved ones keep their (upper-cased) escapes, dot segments are removed and slashes merged.

use crate::entities::PathHandling;
use std::borrow::Cow;

const fn class_table(chars: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut i = 0;
    while i < chars.len() {
        table[chars[i] as usize] = true;
        i += 1;
    }
    table
}

/// Characters whose escapes carry meaning and are therefore never decoded.
static RESERVED: [bool; 256] = class_table(b"!*'();:@&=+$,/?%#[]");

/// Characters that go into a request line as they are.
static PLAIN: [bool; 256] = {
    let mut table = class_table(b"!#$&'()*+,/:;=?@[\\]-_.~%");
    let mut i = 0;
    while i < 256 {
        if (i as u8).is_ascii_alphanumeric() {
            table[i] = true;
        }
        i += 1;
    }
    table
};

fn hex_value(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Whether `path` is already in normal form and needs no escaping, so that it can be used byte for byte.
pub fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0u8;
    for &byte in path {
        if byte == b'%' || !PLAIN[byte as usize] || (previous == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        previous = byte;
    }
    path.first() == Some(&b'/')
}

fn decode(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(h), Some(l)) = (hex_value(*high), hex_value(*low))
        {
            let value = h * 16 + l;
            if RESERVED[value as usize] {
                out.extend_from_slice(&[b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
            } else {
                out.push(value);
            }
            rest = after;
            continue;
        }
        out.push(byte);
        rest = tail;
    }
    out
}

/// The normal form of a path (without its query).
pub fn normalize(path: &[u8]) -> Cow<'_, [u8]> {
    if path.is_empty() || is_plain(path) {
        return Cow::Borrowed(path);
    }
    let decoded = if path.contains(&b'%') { Cow::Owned(decode(path)) } else { Cow::Borrowed(path) };
    let has_double_slash = decoded.windows(2).any(|pair| pair == b"//");
    if !decoded.contains(&b'.') && !has_double_slash {
        return decoded;
    }
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments: Vec<usize> = Vec::new();
    let mut rest: &[u8] = &decoded;
    while !rest.is_empty() {
        if rest == b"/." {
            rest = b"/";
        } else if rest == b"/.." {
            rest = b"/";
            if let Some(start) = segments.pop() {
                out.truncate(start);
            }
        } else if rest == b"." || rest == b".." {
            rest = b"";
        } else if let Some(tail) = rest.strip_prefix(b"../") {
            rest = tail;
        } else if let Some(tail) = rest.strip_prefix(b"./") {
            rest = tail;
        } else if rest.starts_with(b"/./") {
            rest = &rest[2..];
        } else if rest.starts_with(b"/../") {
            rest = &rest[3..];
            if let Some(start) = segments.pop() {
                out.truncate(start);
            }
        } else if rest.starts_with(b"//") {
            rest = &rest[1..];
        } else {
            let end =
                rest.iter().skip(1).position(|&byte| byte == b'/').map_or(rest.len(), |found| found + 1);
            segments.push(out.len());
            out.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
    }
    Cow::Owned(out)
}

/// Appends `path` to `out` with everything escaped that may not stand in a request line.
pub fn escape_into(path: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in path {
        if PLAIN[byte as usize] {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]);
        }
    }
}

/// What follows the matched prefix, with a dot segment at its start removed so that it cannot climb out of the service.
pub(crate) fn sanitize_postfix(postfix: &[u8]) -> &[u8] {
    match postfix {
        b"." | b".." => b"",
        [b'.', b'/', rest @ ..] => rest,
        [b'.', b'.', b'/', rest @ ..] => rest,
        _ => postfix,
    }
}

/// The path sent to the service. `postfix` is what followed the matched path, or everything after the first slash when
/// the route has no path.
pub fn upstream_path(
    service_path: &[u8],
    request_path: &[u8],
    postfix: &[u8],
    strip_path: bool,
    handling: PathHandling,
) -> Vec<u8> {
    let after_slash = request_path.get(1..).unwrap_or_default();
    let base_ends_in_slash = service_path.last() == Some(&b'/');
    let without_slash = &service_path[..service_path.len().saturating_sub(1)];
    if !strip_path {
        return match handling {
            PathHandling::V1 => [service_path, after_slash].concat(),
            PathHandling::V0 if base_ends_in_slash => [service_path, after_slash].concat(),
            PathHandling::V0 if request_path == b"/" => service_path.to_vec(),
            PathHandling::V0 => [service_path, request_path].concat(),
        };
    }
    let postfix_has_slash = postfix.first() == Some(&b'/');
    if handling == PathHandling::V1 {
        return if base_ends_in_slash && postfix_has_slash {
            [without_slash, postfix].concat()
        } else {
            [service_path, postfix].concat()
        };
    }
    let request_ends_in_slash = request_path.last() == Some(&b'/');
    match (base_ends_in_slash, postfix) {
        (true, b"") if service_path == b"/" || request_ends_in_slash => service_path.to_vec(),
        (true, b"") => without_slash.to_vec(),
        (true, _) if postfix_has_slash => [without_slash, postfix].concat(),
        (true, _) => [service_path, postfix].concat(),
        (false, b"") if request_path.len() > 1 && request_ends_in_slash => [service_path, b"/"].concat(),
        (false, b"") => service_path.to_vec(),
        (false, _) if postfix_has_slash => [service_path, postfix].concat(),
        (false, _) => [service_path, b"/", postfix].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_form_decodes_the_harmless_and_keeps_the_reserved() {
        let cases: [(&str, &str); 10] = [
            ("/a/b", "/a/b"),
            ("/%61%2fb", "/a%2Fb"),
            ("/a%20b", "/a b"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../etc", "/etc"),
            ("/a/..", "/"),
            ("/%2e%2e/x", "/x"),
            ("/a%zz", "/a%zz"),
            ("", ""),
        ];
        for (given, wanted) in cases {
            assert_eq!(normalize(given.as_bytes()).as_ref(), wanted.as_bytes(), "{given}");
        }
    }

    #[test]
    fn a_plain_path_is_its_own_normal_form_and_escape() {
        for path in ["/", "/shop/items;v=1", "/a.b/c", "/a..b"] {
            assert!(is_plain(path.as_bytes()), "{path}");
            assert_eq!(normalize(path.as_bytes()).as_ref(), path.as_bytes());
        }
        for path in ["/a b", "/a/.b", "//", "/%41", ""] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn escaping_is_undone_by_normalising() {
        for byte in 0..=255u8 {
            if byte == b'%' || byte == b'.' || byte == b'/' {
                continue;
            }
            let path = [b'/', byte, b'x'];
            let mut escaped = Vec::new();
            escape_into(&path, &mut escaped);
            assert_eq!(normalize(&escaped).as_ref(), path);
        }
    }

    #[test]
    fn stripped_paths_meet_the_service_path_with_one_slash() {
        let join = |service: &str, request: &str, postfix: &str| {
            let path = upstream_path(
                service.as_bytes(),
                request.as_bytes(),
                postfix.as_bytes(),
                true,
                PathHandling::V0,
            );
            String::from_utf8(path).unwrap()
        };
        assert_eq!(join("/", "/shop", ""), "/");
        assert_eq!(join("/api", "/shop/1", "/1"), "/api/1");
        assert_eq!(join("/api/", "/shop/1", "/1"), "/api/1");
        assert_eq!(join("/api/", "/shop", ""), "/api");
        assert_eq!(join("/api", "/shop/", ""), "/api/");
    }
}
