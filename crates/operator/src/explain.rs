//! What an error says to a person, in one line: the server's own words without the structure around them.

use std::error::Error;

/// The error and its causes, each said once. A server's refusal is the last: what lies below only spells it out.
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(current) = next {
        let refusal = refusal(current);
        let words = refusal.map_or_else(|| current.to_string(), str::to_owned);
        if !text.contains(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        next = if refusal.is_some() { None } else { current.source() };
    }
    text
}

fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a str> {
    match error.downcast_ref::<kube::Error>()? {
        kube::Error::Api(status) if !status.message.is_empty() => Some(&status.message),
        _ => None,
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
