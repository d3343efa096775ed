//! The files of the page, as `build.rs` made them: each with a compressed twin and a version of its content.

/// One embedded file.
pub(crate) struct Asset {
    pub(crate) path: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) plain: &'static [u8],
    /// Empty when compression would not help.
    pub(crate) gzip: &'static [u8],
    /// Loaded with the page, not when a part of it is first used.
    pub(crate) first: bool,
    /// Quoted, as an ETag is.
    pub(crate) etag: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

pub(crate) fn find(path: &str) -> Option<&'static Asset> {
    // The page itself reads which dashboard its address names.
    let is_page =
        path == "/" || path == "/dashboards" || path.starts_with("/d/") || path.starts_with("/dashboards/");
    let path = if is_page { "/index.html" } else { path };
    ASSETS.iter().find(|asset| asset.path == path)
}
