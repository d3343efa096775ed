//! Content types: what a client accepts, and what a body is.

/// The shape of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    /// Metadata alone: `PartialObjectMetadata`, or its list.
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    /// Only of built-in kinds.
    Protobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) shape: Shape,
    pub(crate) format: Format,
    pub(crate) pretty: bool,
}

/// The first form in `accept` that we can make; `None` if there is none.
pub(crate) fn accepted(accept: Option<&str>, pretty: bool, protobuf: bool) -> Option<Accepted> {
    let accept = accept.map(str::trim).filter(|accept| !accept.is_empty()).unwrap_or("*/*");
    accept.split(',').find_map(|clause| {
        let (media_type, parameters) = split_parameters(clause);
        let format = match media_type {
            "application/json" | "*/*" | "application/*" => Format::Json,
            "application/yaml" => Format::Yaml,
            "application/vnd.kubernetes.protobuf" if protobuf => Format::Protobuf,
            _ => return None,
        };
        let parameter = |name: &str| parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let shape = match parameter("as") {
            None => Shape::Object,
            Some(_) if parameter("g").is_some_and(|group| group != "meta.k8s.io") => return None,
            Some("Table") if parameter("v").is_none_or(|version| version == "v1" || version == "v1beta1") => {
                Shape::Table
            }
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Shape::Metadata,
            Some(_) => return None,
        };
        if format == Format::Protobuf && shape == Shape::Table {
            return None;
        }
        Some(Accepted { shape, format, pretty })
    })
}

/// True if the client asks for aggregated discovery in its final version.
pub(crate) fn wants_aggregated_discovery(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| {
        accept.split(',').any(|clause| {
            let (media_type, parameters) = split_parameters(clause);
            let is = |name: &str, wanted: &str| {
                parameters.iter().any(|(key, value)| *key == name && *value == wanted)
            };
            media_type == "application/json"
                && is("as", "APIGroupDiscoveryList")
                && is("g", "apidiscovery.k8s.io")
                && is("v", "v2")
        })
    })
}

/// `application/json` of `application/json; charset=utf-8`.
pub(crate) fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn split_parameters(clause: &str) -> (&str, Vec<(&str, &str)>) {
    let mut parts = clause.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    (media_type, parts.filter_map(|part| part.split_once('=')).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_we_can_make_wins() {
        let shape =
            |accept| accepted(Some(accept), false, true).map(|accepted| (accepted.shape, accepted.format));
        assert_eq!(
            shape("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
            Some((Shape::Table, Format::Json))
        );
        assert_eq!(
            shape("application/vnd.kubernetes.protobuf,application/json"),
            Some((Shape::Object, Format::Protobuf))
        );
        assert_eq!(
            shape("application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json"),
            Some((Shape::Object, Format::Json))
        );
        assert_eq!(
            shape("application/json;as=Nope;v=v1;g=meta.k8s.io,application/yaml"),
            Some((Shape::Object, Format::Yaml))
        );
        assert_eq!(
            shape("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"),
            Some((Shape::Metadata, Format::Json))
        );
        assert_eq!(shape("text/html"), None);
        assert_eq!(accepted(None, false, true).map(|accepted| accepted.shape), Some(Shape::Object));
        assert!(wants_aggregated_discovery(Some(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
        )));
        assert!(!wants_aggregated_discovery(Some("application/json")));
    }
}
