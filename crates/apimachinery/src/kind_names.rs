//! The names that people call built-in kinds by, as kubectl takes them: `deploy`, `deployments.apps`, `Deployment`.

/// What Kubernetes 1.36 serves: a row per resource, as its first line says.
pub const RESOURCES: &str = include_str!("../data/kubernetes@1.36/resources.tsv");

/// A built-in kind in one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindName {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    /// Separated by commas.
    pub short_names: &'static str,
}

/// Every kind, in order of discovery.
pub fn all() -> impl Iterator<Item = KindName> {
    RESOURCES.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut columns = line.split('\t');
        let (group, version, plural, singular) =
            (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
        let kind = columns.next()?;
        let short_names = columns.nth(2)?;
        (!plural.contains('/')).then_some(KindName { group, version, kind, plural, singular, short_names })
    })
}

/// Every kind that a word stands for, in any letter case: `TYPE`, `TYPE.GROUP` or `TYPE.VERSION.GROUP`.
pub fn named(word: &str) -> Vec<KindName> {
    let (name, rest) = word.split_once('.').unwrap_or((word, ""));
    all().filter(|kind| kind.is_called(name) && kind.is_in(rest)).collect()
}

impl KindName {
    fn is_called(&self, name: &str) -> bool {
        let same = |own: &str| !own.is_empty() && own.eq_ignore_ascii_case(name);
        same(self.kind) || same(self.plural) || same(self.singular) || self.short_names.split(',').any(same)
    }

    /// Whether the rest of a word, `GROUP` or `VERSION.GROUP`, fits.
    fn is_in(&self, rest: &str) -> bool {
        rest.is_empty()
            || rest == self.group
            || rest
                .strip_prefix(self.version)
                .is_some_and(|group| group.trim_start_matches('.') == self.group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_that_kubectl_takes() {
        let kinds = |word: &str| -> Vec<String> {
            named(word).iter().map(|kind| format!("{}/{} {}", kind.group, kind.version, kind.kind)).collect()
        };
        for word in
            ["deploy", "deployment", "deployments", "Deployment", "deployments.apps", "deployments.v1.apps"]
        {
            assert_eq!(kinds(word), ["apps/v1 Deployment"], "{word}");
        }
        assert_eq!(kinds("svc"), ["/v1 Service"]);
        assert_eq!(kinds("services.v1"), ["/v1 Service"]);
        assert_eq!(kinds("hpa.v2.autoscaling"), ["autoscaling/v2 HorizontalPodAutoscaler"]);
        assert_eq!(kinds("events").len(), 2, "of two groups");
        assert!(kinds("deployments.batch").is_empty() && kinds("").is_empty() && kinds("widgets").is_empty());
    }
}
