//! What an error says to a person, in one line: the server's own words without the structure around them.

use std::error::Error;

/// The error and its causes, each said once.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = own_words(error);
    let mut source = error.source();
    while let Some(cause) = source {
        let words = own_words(cause);
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

fn own_words(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if !status.message.is_empty() => status.message.clone(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_servers_words() {
        let status = kube::core::Status::failure("pods \"a\" is forbidden", "Forbidden").with_code(403);
        let error = kube::Error::Api(Box::new(status));
        assert_eq!(explain(&error), "pods \"a\" is forbidden");
    }

    #[test]
    fn a_cause_that_is_already_told_is_not_told_again() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start: {0}")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(explain(&Outer(std::io::Error::other("no room"))), "cannot start: no room");
    }
}
