//! Errors as the API shows them: `Status` objects with Kubernetes' reasons, messages, details and causes.

use gantry_apimachinery::{Map, Value};

/// A request that failed, or a success that is answered with a `Status`.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub code: u16,
    /// Empty where Kubernetes gives none.
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Details>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    pub name: String,
    pub group: String,
    /// The resource (`pods`) or, for validation, the kind (`Pod`).
    pub kind: String,
    pub uid: String,
    pub causes: Vec<Cause>,
    pub retry_after_seconds: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cause {
    pub reason: &'static str,
    pub message: String,
    pub field: String,
}

/// What a failure is about: names the group and resource (or kind) in messages and details.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    pub group: &'a str,
    pub resource: &'a str,
    pub kind: &'a str,
}

impl About<'_> {
    /// `deployments.apps`, or `pods` in the core group.
    pub fn qualified_resource(&self) -> String {
        qualified(self.resource, self.group)
    }

    pub fn qualified_kind(&self) -> String {
        qualified(self.kind, self.group)
    }

    fn details(&self, name: &str) -> Option<Details> {
        Some(Details {
            name: name.into(),
            group: self.group.into(),
            kind: self.resource.into(),
            ..Details::default()
        })
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.into() } else { format!("{name}.{group}") }
}

// === impl Failure ===

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, reason, message: message.into(), details: None }
    }

    pub fn bad_request(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    pub fn unauthorized() -> Failure {
        Failure::new(401, "Unauthorized", "Unauthorized")
    }

    pub fn forbidden(about: About<'_>, name: &str, why: &str) -> Failure {
        let resource = about.qualified_resource();
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {why}")
        };
        Failure { details: about.details(name), ..Failure::new(403, "Forbidden", message) }
    }

    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Failure {
        let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
        Failure { details: Some(Details::default()), ..Failure::new(403, "Forbidden", message) }
    }

    pub fn not_found(about: About<'_>, name: &str) -> Failure {
        let message = format!("{} \"{name}\" not found", about.qualified_resource());
        Failure { details: about.details(name), ..Failure::new(404, "NotFound", message) }
    }

    pub fn no_such_resource() -> Failure {
        let message = "the server could not find the requested resource";
        Failure { details: Some(Details::default()), ..Failure::new(404, "NotFound", message) }
    }

    pub fn method_not_allowed() -> Failure {
        let message = "the server does not allow this method on the requested resource";
        Failure { details: Some(Details::default()), ..Failure::new(405, "MethodNotAllowed", message) }
    }

    pub fn not_acceptable() -> Failure {
        let message = "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Failure { details: Some(Details::default()), ..Failure::new(406, "NotAcceptable", message) }
    }

    pub fn already_exists(about: About<'_>, name: &str) -> Failure {
        let message = format!("{} \"{name}\" already exists", about.qualified_resource());
        Failure { details: about.details(name), ..Failure::new(409, "AlreadyExists", message) }
    }

    pub fn conflict(about: About<'_>, name: &str, why: &str) -> Failure {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", about.qualified_resource());
        Failure { details: about.details(name), ..Failure::new(409, "Conflict", message) }
    }

    /// The object was changed by someone else since the writer read it.
    pub fn modified(about: About<'_>, name: &str) -> Failure {
        Failure::conflict(
            about,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    pub fn expired(message: impl Into<String>) -> Failure {
        Failure::new(410, "Expired", message)
    }

    pub fn too_large(limit: usize) -> Failure {
        Failure::new(413, "RequestEntityTooLarge", format!("limit is {limit}"))
    }

    pub fn unsupported_media_type(message: impl Into<String>) -> Failure {
        Failure::new(415, "UnsupportedMediaType", message)
    }

    pub fn invalid(about: About<'_>, name: &str, errors: Vec<FieldError>) -> Failure {
        let message = format!("{} \"{name}\" is invalid: {}", about.qualified_kind(), aggregate(&errors));
        let causes = errors.into_iter().map(FieldError::into_cause).collect();
        let details = Details {
            name: name.into(),
            group: about.group.into(),
            kind: about.kind.into(),
            causes,
            ..Details::default()
        };
        Failure { details: Some(details), ..Failure::new(422, "Invalid", message) }
    }

    /// A patch that does not fit the object.
    pub fn unprocessable(message: impl Into<String>) -> Failure {
        Failure { details: Some(Details::default()), ..Failure::new(422, "Invalid", message) }
    }

    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Failure {
        let details = Details { retry_after_seconds, ..Details::default() };
        Failure { details: Some(details), ..Failure::new(429, "TooManyRequests", message) }
    }

    /// A failure without a reason: Kubernetes' answer to an error that no one classified.
    pub fn unclassified(message: impl Into<String>) -> Failure {
        Failure::new(500, "", message)
    }

    pub fn internal(message: impl std::fmt::Display) -> Failure {
        let cause = Cause { message: message.to_string(), ..Cause::default() };
        let details = Details { causes: vec![cause], ..Details::default() };
        Failure {
            details: Some(details),
            ..Failure::new(500, "InternalError", format!("Internal error occurred: {message}"))
        }
    }

    pub fn unavailable(message: impl Into<String>) -> Failure {
        Failure::new(503, "ServiceUnavailable", message)
    }

    pub fn future_revision(asked: u64, current: u64) -> Failure {
        let cause = Cause {
            reason: "ResourceVersionTooLarge",
            message: "Too large resource version".into(),
            field: String::new(),
        };
        let details = Details { causes: vec![cause], retry_after_seconds: 1, ..Details::default() };
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        Failure { details: Some(details), ..Failure::new(504, "Timeout", message) }
    }

    pub fn to_value(&self) -> Value {
        let mut status = Map::with_capacity(8);
        status.insert("kind", "Status");
        status.insert("apiVersion", "v1");
        status.insert("metadata", Value::object());
        status.insert("status", "Failure");
        status.insert("message", self.message.as_str());
        if !self.reason.is_empty() {
            status.insert("reason", self.reason);
        }
        if let Some(details) = &self.details {
            status.insert("details", details.to_value());
        }
        status.insert("code", i64::from(self.code));
        status.into()
    }
}

/// The answer to a deletion that left nothing behind.
pub(crate) fn success(details: Details) -> Value {
    let mut status = Map::with_capacity(5);
    status.insert("kind", "Status");
    status.insert("apiVersion", "v1");
    status.insert("metadata", Value::object());
    status.insert("status", "Success");
    status.insert("details", details.to_value());
    status.into()
}

impl Details {
    fn to_value(&self) -> Value {
        let mut details = Map::new();
        for (field, text) in
            [("name", &self.name), ("group", &self.group), ("kind", &self.kind), ("uid", &self.uid)]
        {
            if !text.is_empty() {
                details.insert(field, text.as_str());
            }
        }
        if !self.causes.is_empty() {
            details.insert("causes", self.causes.iter().map(Cause::to_value).collect::<Vec<Value>>());
        }
        if self.retry_after_seconds > 0 {
            details.insert("retryAfterSeconds", i64::from(self.retry_after_seconds));
        }
        details.into()
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut cause = Map::new();
        for (field, text) in
            [("reason", self.reason), ("message", self.message.as_str()), ("field", self.field.as_str())]
        {
            if !text.is_empty() {
                cause.insert(field, text);
            }
        }
        cause.into()
    }
}

// === field errors ===

/// One thing wrong with one field of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    pub reason: &'static str,
    pub field: String,
    /// Without the field: `Required value: …`.
    pub message: String,
}

impl FieldError {
    fn new(reason: &'static str, field: impl Into<String>, title: &str, detail: &str) -> FieldError {
        let message = if detail.is_empty() { title.to_owned() } else { format!("{title}: {detail}") };
        FieldError { reason, field: field.into(), message }
    }

    pub fn required(field: impl Into<String>, detail: &str) -> FieldError {
        FieldError::new("FieldValueRequired", field, "Required value", detail)
    }

    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> FieldError {
        FieldError::new("FieldValueInvalid", field, &format!("Invalid value: {}", shown(value)), detail)
    }

    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> FieldError {
        let title = format!("Unsupported value: {}", shown(value));
        let supported: Vec<String> = supported.iter().map(|value| format!("\"{value}\"")).collect();
        FieldError::new(
            "FieldValueNotSupported",
            field,
            &title,
            &format!("supported values: {}", supported.join(", ")),
        )
    }

    pub fn duplicate(field: impl Into<String>, value: &Value) -> FieldError {
        FieldError::new("FieldValueDuplicate", field, &format!("Duplicate value: {}", shown(value)), "")
    }

    pub fn forbidden(field: impl Into<String>, detail: &str) -> FieldError {
        FieldError::new("FieldValueForbidden", field, "Forbidden", detail)
    }

    pub fn too_long(field: impl Into<String>, max: usize) -> FieldError {
        FieldError::new("FieldValueTooLong", field, "Too long", &format!("may not be more than {max} bytes"))
    }

    pub fn too_many(field: impl Into<String>, found: usize, max: usize) -> FieldError {
        let title = format!("Too many: {found}");
        FieldError::new("FieldValueTooMany", field, &title, &format!("must have at most {max} items"))
    }

    pub fn wrong_type(field: impl Into<String>, value: &Value, detail: &str) -> FieldError {
        FieldError::new("FieldValueTypeInvalid", field, &format!("Invalid value: {}", shown(value)), detail)
    }

    pub fn not_found(field: impl Into<String>, value: &Value) -> FieldError {
        FieldError::new("FieldValueNotFound", field, &format!("Not found: {}", shown(value)), "")
    }

    fn into_cause(self) -> Cause {
        Cause { reason: self.reason, message: self.message, field: self.field }
    }
}

fn shown(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// One error as it is, several in brackets, each only once.
fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = format!("{}: {}", error.field, error.message);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_object_lists_every_cause_and_says_each_once() {
        let about = About { group: "apps", resource: "deployments", kind: "Deployment" };
        let errors = vec![
            FieldError::required("spec.x", ""),
            FieldError::invalid("spec.y", &Value::from(-1), "must be positive"),
            FieldError::required("spec.x", ""),
        ];
        let failure = Failure::invalid(about, "web", errors);
        assert_eq!(
            failure.message,
            "Deployment.apps \"web\" is invalid: [spec.x: Required value, spec.y: Invalid value: -1: must be positive]"
        );
        assert_eq!(failure.details.unwrap().causes.len(), 3);
    }
}
