//! Role `ingress`: a target for each path of each rule.

use gantry_scrape::TargetGroup;
use k8s_openapi::api::networking::v1::Ingress;

use crate::labels::Meta;

/// The targets of an ingress.
pub(crate) fn group(ingress: &Ingress) -> TargetGroup {
    let mut shared = Meta::default();
    shared.object("ingress", &ingress.metadata);
    let spec = ingress.spec.as_ref();
    shared.set_some("ingress_class_name", spec.and_then(|spec| spec.ingress_class_name.as_deref()));
    let secure: Vec<&str> = spec
        .into_iter()
        .flat_map(|spec| spec.tls.iter().flatten())
        .flat_map(|tls| tls.hosts.iter().flatten())
        .map(String::as_str)
        .collect();
    let mut targets = Vec::new();
    for rule in spec.into_iter().flat_map(|spec| spec.rules.iter().flatten()) {
        let host = rule.host.as_deref().unwrap_or("");
        let scheme = if secure.iter().any(|pattern| covers(pattern, host)) { "https" } else { "http" };
        let paths: Vec<&str> = rule
            .http
            .iter()
            .flat_map(|http| &http.paths)
            .map(|path| path.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/"))
            .collect();
        for path in if paths.is_empty() { vec!["/"] } else { paths } {
            let mut meta = Meta::default();
            meta.plain("__address__", host)
                .set("ingress_scheme", scheme)
                .set("ingress_host", host)
                .set("ingress_path", path);
            targets.push(meta.build().into());
        }
    }
    TargetGroup { source: String::new(), labels: shared.build(), targets }
}

/// Whether a TLS host, whose first part may be `*`, is that of a rule.
fn covers(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return true;
    }
    let rest = host.split_once('.').map(|(_, rest)| rest);
    pattern.strip_prefix("*.").is_some_and(|suffix| rest == Some(suffix))
}
