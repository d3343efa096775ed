//! Ingress paths as route paths.

/// Marks an implementation-specific path as a regular expression.
const REGEX_PREFIX: &str = "/~";

/// The route paths of an Ingress path. A prefix matches whole segments only, hence the two forms.
pub(crate) fn route_paths(path: &str, path_type: &str) -> Vec<String> {
    let relative = path.trim_start_matches('/');
    match path_type {
        "Exact" => vec![format!("~/{relative}$")],
        "Prefix" => {
            let base = relative.trim_end_matches('/');
            if base.is_empty() {
                return vec!["/".to_owned()];
            }
            vec![format!("/{base}/"), format!("~/{base}$")]
        }
        _ => match path.strip_prefix(REGEX_PREFIX) {
            _ if path.is_empty() => vec!["/".to_owned()],
            Some(pattern) => vec![format!("~{pattern}")],
            None => vec![path.to_owned()],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::route_paths;

    #[test]
    fn each_path_type_has_its_form() {
        assert_eq!(route_paths("/shop", "Prefix"), ["/shop/", "~/shop$"]);
        assert_eq!(route_paths("/shop/", "Prefix"), ["/shop/", "~/shop$"]);
        assert_eq!(route_paths("/", "Prefix"), ["/"]);
        assert_eq!(route_paths("/shop", "Exact"), ["~/shop$"]);
        assert_eq!(route_paths("/", "Exact"), ["~/$"]);
        assert_eq!(route_paths("/shop", "ImplementationSpecific"), ["/shop"]);
        assert_eq!(route_paths("/~/shop/\\d+", "ImplementationSpecific"), ["~/shop/\\d+"]);
        assert_eq!(route_paths("", "ImplementationSpecific"), ["/"]);
    }
}
