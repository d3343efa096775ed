//! Reading: one object, and lists with limits, continuation and exact revisions.

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use gantry_apimachinery::Value;

use crate::query::{self, ListOptions, VersionMatch};
use crate::rest::selection::Selection;
use crate::rest::{Answer, Call, present};
use crate::status::Failure;
use crate::store::{Listing, ObjectKey};
use crate::table::ListMeta;

pub(crate) fn get(call: &Call) -> Answer {
    let version = query::parse_revision(call.query.get("resourceVersion"))?;
    check_not_future(call, version)?;
    match call.server.store.get(&call.resource.collection, &call.key()) {
        Some(object) => Ok(present::object(call, 200, &object)),
        None => Err(Failure::not_found(call.about(), call.name())),
    }
}

/// A list of a kind that never has objects.
pub(crate) fn empty(call: &Call) -> Answer {
    if call.path.name.is_some() {
        return Err(Failure::not_found(call.about(), call.name()));
    }
    let meta = ListMeta { revision: call.server.store.revision().to_string(), ..ListMeta::default() };
    Ok(present::list(call, &[], &meta))
}

pub(crate) fn check_not_future(call: &Call, version: Option<u64>) -> Result<(), Failure> {
    let current = call.server.store.revision();
    match version {
        Some(version) if version > current => Err(Failure::future_revision(version, current)),
        _ => Ok(()),
    }
}

pub(crate) fn list(call: &Call) -> Answer {
    let options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(&call.query, &call.resource)?;
    check_not_future(call, options.resource_version)?;
    let namespace = call.path.namespace.as_deref();
    let store = &call.server.store;
    let collection = &call.resource.collection;
    let token = options.continuation.as_deref().map(|text| Continue::decode(text, namespace)).transpose()?;
    let exact = match (&token, options.version_match) {
        (Some(token), _) => token.revision,
        (None, Some(VersionMatch::Exact)) => options.resource_version,
        _ => None,
    };
    let after = token.as_ref().map(|token| &token.after);
    let (mut listing, remaining) = match exact {
        Some(revision) => {
            check_not_future(call, exact)?;
            let mut listing = store
                .list_at(collection, namespace, after, revision)
                .map_err(|_| too_old(after, namespace))?;
            let mut remaining = 0;
            let mut kept = Vec::new();
            for object in listing.objects {
                if kept.len() >= options.limit {
                    remaining += 1;
                } else if selection.matches(&object) {
                    kept.push(object);
                }
            }
            listing.objects = kept;
            (listing, remaining)
        }
        None => store.list(collection, namespace, after, options.limit, |object| selection.matches(object)),
    };
    if matches!(&token, Some(Continue { revision: None, .. })) {
        listing.revision = store.revision();
    }
    let meta = list_meta(&listing, remaining, &selection, namespace);
    Ok(present::list(call, &listing.objects, &meta))
}

fn list_meta(
    listing: &Listing,
    remaining: usize,
    selection: &Selection,
    namespace: Option<&str>,
) -> ListMeta {
    let mut meta = ListMeta { revision: listing.revision.to_string(), ..ListMeta::default() };
    if let Some(last) = listing.objects.last().filter(|_| remaining > 0) {
        meta.continuation =
            Continue { revision: Some(listing.revision), after: last.key.clone() }.encode(namespace);
        // With a selector the rest would have to be read to be counted.
        meta.remaining = selection.is_everything().then_some(remaining);
    }
    meta
}

/// As Go decodes: the bits after the last byte may be anything.
const LENIENT_URL_SAFE: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Where a list goes on. Reads as Kubernetes' tokens do.
struct Continue {
    /// The revision of the first page; `None` to go on with what is there now.
    revision: Option<u64>,
    after: ObjectKey,
}

impl Continue {
    fn encode(&self, namespace: Option<&str>) -> String {
        let mut start = if namespace.is_none() && !self.after.namespace.is_empty() {
            format!("{}/", self.after.namespace)
        } else {
            String::new()
        };
        start.push_str(&self.after.name);
        start.push('\0');
        let revision = self.revision.map_or(-1, |revision| revision as i64);
        let mut token = Value::object();
        *token.entry_at(&["v"]) = "meta.k8s.io/v1".into();
        *token.entry_at(&["rv"]) = revision.into();
        *token.entry_at(&["start"]) = start.into();
        BASE64_URL_SAFE_NO_PAD.encode(crate::response::to_json(&token))
    }

    fn decode(text: &str, namespace: Option<&str>) -> Result<Continue, Failure> {
        let invalid = |why: String| {
            Failure::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        };
        let unpadded = text.trim_end_matches('=');
        let bytes = LENIENT_URL_SAFE
            .decode(unpadded)
            .or_else(|_| BASE64_STANDARD_NO_PAD.decode(unpadded))
            .map_err(|error| invalid(error.to_string()))?;
        let token: Value = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(crate::go_json::syntax_error(&bytes, &error)))?;
        if token.str_at(&["v"]) != Some("meta.k8s.io/v1") {
            return Err(invalid("server does not recognize this encoded version".into()));
        }
        let start = token.str_at(&["start"]).unwrap_or_default().trim_end_matches('\0');
        let after = match (namespace, start.split_once('/')) {
            (Some(namespace), _) => ObjectKey { namespace: namespace.into(), name: start.into() },
            (None, Some((namespace, name))) => ObjectKey { namespace: namespace.into(), name: name.into() },
            (None, None) => ObjectKey { namespace: "".into(), name: start.into() },
        };
        let revision = token
            .get("rv")
            .and_then(Value::as_i64)
            .and_then(|revision| u64::try_from(revision).ok())
            .filter(|revision| *revision > 0);
        Ok(Continue { revision, after })
    }
}

/// The revision of a token is out of the window: the client may start anew, or go on without consistency.
fn too_old(after: Option<&ObjectKey>, namespace: Option<&str>) -> Failure {
    match after {
        Some(after) => {
            let token = Continue { revision: None, after: after.clone() }.encode(namespace);
            Failure::expired(format!(
                "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list: {token}"
            ))
        }
        None => Failure::expired("The resourceVersion for the provided list is too old."),
    }
}
