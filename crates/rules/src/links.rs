//! Links to a Prometheus' pages for an expression.

use gantry_gotemplate::url_query;

/// The path of the table view of an expression.
pub fn table_link(query: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=1", url_query(query))
}

/// The path of the graph view of an expression.
pub fn graph_link(query: &str) -> String {
    format!("/graph?g0.expr={}&g0.tab=0", url_query(query))
}

/// The path of a URL, as `pathPrefix` gives it.
pub(crate) fn path_of(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = after_scheme.find('/').map_or("", |slash| &after_scheme[slash..]);
    path.split(['?', '#']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_escaped() {
        assert_eq!(table_link("up == 0"), "/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
        assert_eq!(graph_link("a{b=\"c\"}"), "/graph?g0.expr=a%7Bb%3D%22c%22%7D&g0.tab=0");
    }

    #[test]
    fn paths_of_urls() {
        assert_eq!(path_of("http://h:9090/prom"), "/prom");
        assert_eq!(path_of("http://h:9090"), "");
        assert_eq!(path_of("http://h/a/b?x=1"), "/a/b");
    }
}
