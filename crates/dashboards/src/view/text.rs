//! A text panel: the part of Markdown and HTML that dashboards use, as blocks without any markup left in them.

use serde::Serialize;

use super::is_safe_url;
use crate::json::str_at;
use crate::model::Panel;
use crate::scope::{Purpose, Scope};

const MOST_BLOCKS: usize = 500;

/// A paragraph, heading, list item or piece of code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Block {
    Heading { level: u8, inlines: Vec<Inline> },
    Paragraph { inlines: Vec<Inline> },
    Item { inlines: Vec<Inline> },
    Code { text: String },
}

/// A run of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inline {
    pub text: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bold: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub code: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

pub(super) fn blocks(panel: &Panel, scope: &Scope) -> Vec<Block> {
    let content = scope.expand(str_at(&panel.options, "/content").unwrap_or_default(), None, Purpose::Text);
    match str_at(&panel.options, "/mode") {
        Some("code") => vec![Block::Code { text: content }],
        Some("html") => markdown(&without_tags(&content)),
        _ => markdown(&without_tags(&content)),
    }
}

/// HTML as the Markdown that looks like it; tags that mean nothing here are dropped.
fn without_tags(html: &str) -> String {
    if !html.contains('<') {
        return html.to_owned();
    }
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    let mut address: Option<String> = None;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let begins = after.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '/' || c == '!');
        let Some(end) = after.find('>').filter(|_| begins) else {
            out.push('<');
            rest = after;
            continue;
        };
        let tag = &after[..end];
        rest = &after[end + 1..];
        let name =
            tag.split(|c: char| c.is_whitespace() || c == '/').find(|part| !part.is_empty()).unwrap_or("");
        let closes = tag.starts_with('/');
        match name.to_ascii_lowercase().as_str() {
            "br" | "p" | "div" | "ul" | "ol" | "tr" | "center" => out.push_str("\n\n"),
            "li" if !closes => out.push_str("\n- "),
            "b" | "strong" => out.push_str("**"),
            "code" => out.push('`'),
            name @ ("h1" | "h2" | "h3" | "h4" | "h5" | "h6") => {
                out.push_str("\n\n");
                if !closes {
                    let level = name[1..].parse().unwrap_or(1);
                    out.push_str(&"#".repeat(level));
                    out.push(' ');
                }
            }
            "a" if closes => {
                if let Some(url) = address.take() {
                    out.push_str(&format!("]({url})"));
                }
            }
            "a" => {
                address = attribute(tag, "href");
                if address.is_some() {
                    out.push('[');
                }
            }
            "script" | "style" if !closes => {
                let close = format!("</{name}");
                let lower = rest.to_ascii_lowercase();
                rest = lower.find(&close).map_or("", |at| &rest[at..]);
            }
            _ => {}
        }
    }
    out.push_str(rest);
    out.replace("&nbsp;", " ").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let after = tag.split_once(&format!("{name}="))?.1;
    let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''));
    match quote {
        Some(quote) => after[1..].split(quote).next().map(str::to_owned),
        None => after.split_whitespace().next().map(str::to_owned),
    }
}

fn markdown(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut paragraph = String::new();
    let mut code: Option<String> = None;
    let flush = |paragraph: &mut String, blocks: &mut Vec<Block>| {
        if !paragraph.trim().is_empty() {
            blocks.push(Block::Paragraph { inlines: inlines(paragraph.trim()) });
        }
        paragraph.clear();
    };
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            match code.take() {
                Some(text) => blocks.push(Block::Code { text }),
                None => {
                    flush(&mut paragraph, &mut blocks);
                    code = Some(String::new());
                }
            }
            continue;
        }
        if let Some(code) = &mut code {
            code.push_str(line);
            code.push('\n');
            continue;
        }
        let level = trimmed.bytes().take_while(|byte| *byte == b'#').count();
        if (1..=6).contains(&level) && trimmed[level..].starts_with(' ') {
            flush(&mut paragraph, &mut blocks);
            let inlines = inlines(trimmed[level..].trim().trim_end_matches('#'));
            blocks.push(Block::Heading { level: level as u8, inlines });
        } else if let Some(item) = trimmed.strip_prefix("- ").or_else(|| trimmed.strip_prefix("* ")) {
            flush(&mut paragraph, &mut blocks);
            blocks.push(Block::Item { inlines: inlines(item) });
        } else if trimmed.is_empty() || trimmed.chars().all(|c| c == '-') && trimmed.len() >= 3 {
            flush(&mut paragraph, &mut blocks);
        } else {
            if !paragraph.is_empty() {
                paragraph.push(' ');
            }
            paragraph.push_str(trimmed);
        }
        if blocks.len() >= MOST_BLOCKS {
            break;
        }
    }
    if let Some(text) = code {
        blocks.push(Block::Code { text });
    }
    flush(&mut paragraph, &mut blocks);
    blocks
}

/// Bold, code, links; an image is its description.
fn inlines(text: &str) -> Vec<Inline> {
    let mut out: Vec<Inline> = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    let mut bold = false;
    let inline = |text: String, bold, code, url| Inline { text, bold, code, url };
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("**") || rest.starts_with("__") {
            if !plain.is_empty() {
                out.push(inline(std::mem::take(&mut plain), bold, false, None));
            }
            bold = !bold;
            rest = &rest[2..];
            continue;
        }
        if c == '`'
            && let Some(end) = rest[1..].find('`')
        {
            if !plain.is_empty() {
                out.push(inline(std::mem::take(&mut plain), bold, false, None));
            }
            out.push(inline(rest[1..=end].to_owned(), bold, true, None));
            rest = &rest[end + 2..];
            continue;
        }
        let bracket = if rest.starts_with("![") { Some(2) } else { rest.starts_with('[').then_some(1) };
        if let Some(open) = bracket
            && let Some((label, url, length)) = link(&rest[open..])
        {
            if !plain.is_empty() {
                out.push(inline(std::mem::take(&mut plain), bold, false, None));
            }
            let url = (open == 1 && is_safe_url(url)).then(|| url.to_owned());
            out.push(inline(label.to_owned(), bold, false, url));
            rest = &rest[open + length..];
            continue;
        }
        plain.push(c);
        rest = &rest[c.len_utf8()..];
    }
    if !plain.is_empty() {
        out.push(inline(plain, bold, false, None));
    }
    out
}

/// `label](url)` with its length.
fn link(text: &str) -> Option<(&str, &str, usize)> {
    let middle = text.find("](")?;
    let end = text[middle..].find(')')? + middle;
    let url = text[middle + 2..end].split_whitespace().next().unwrap_or("");
    Some((&text[..middle], url, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> String {
        format!("{:?}", markdown(&without_tags(text)))
    }

    #[test]
    fn markdown_and_html_become_blocks() {
        let blocks = markdown(&without_tags(
            "# Title\n\nSome **bold** and `code`.\n- [a](https://x.org)\n<h2>Two</h2><a href=\"/d/x\">in</a>",
        ));
        assert_eq!(blocks.len(), 5);
        assert_eq!(blocks[3], Block::Heading { level: 2, inlines: inlines("Two") });
        let Block::Paragraph { inlines } = &blocks[4] else { panic!("{blocks:?}") };
        assert_eq!(inlines[0].url.as_deref(), Some("/d/x"));
    }

    #[test]
    fn no_script_and_no_odd_address_gets_through() {
        let shown = words("<script>alert(1)</script>[x](javascript:alert(1)) <a href='//evil.org'>y</a>");
        assert!(!shown.contains("alert(1)</") && !shown.contains("url: Some"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_some_blocks(text in "[-<>a-z!\\[\\]()`*_# /\n\"'=é]{0,80}") {
            words(&text);
        }
    }
}
