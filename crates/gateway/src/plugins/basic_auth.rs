//! `basic-auth`: a consumer is who knows a name and its password (RFC 7617).

use super::settings::Settings;
use super::{Answer, Plugin, Request, authenticate, fall_back};
use base64::Engine;
use gantry_kong_model::hash_basic_password;

pub(crate) struct BasicAuth {
    hides: bool,
    anonymous: Option<String>,
    realm: String,
}

fn credentials(value: &str) -> Option<(String, String)> {
    let (scheme, rest) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Compares in a time that does not depend on where the texts differ.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

impl BasicAuth {
    pub(crate) fn new(settings: &Settings<'_>) -> BasicAuth {
        BasicAuth {
            hides: settings.flag("hide_credentials", false),
            anonymous: settings.text("anonymous"),
            realm: settings.text("realm").unwrap_or_else(|| "service".to_owned()),
        }
    }
}

impl Plugin for BasicAuth {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        if self.anonymous.is_some() && request.identity.credential.is_some() {
            return Ok(());
        }
        let challenge = format!("Basic realm=\"{}\"", self.realm);
        let mut given = None;
        for name in ["proxy-authorization", "authorization"] {
            if let Some(found) = request.header(name).as_deref().and_then(credentials) {
                given = Some((name, found));
                break;
            }
        }
        let Some((header, (name, password))) = given else {
            let refusal = Answer::error(401, "Unauthorized").with("WWW-Authenticate", challenge);
            return fall_back(request, self.anonymous.as_deref(), refusal);
        };
        if self.hides {
            request.edits.remove(header);
        }
        let consumers = request.consumers;
        let known = consumers.basic(&name).filter(|credential| {
            let hash = hash_basic_password(&credential.consumer, &password);
            same(hash.as_bytes(), credential.password.as_bytes())
        });
        match known {
            Some(credential) => {
                authenticate(request, &credential.consumer, &credential.id, &credential.username);
                Ok(())
            }
            None => {
                let refusal = Answer::error(401, "Unauthorized").with("WWW-Authenticate", challenge);
                fall_back(request, self.anonymous.as_deref(), refusal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_the_rfc_has_them() {
        assert_eq!(
            credentials("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            Some(("Aladdin".to_owned(), "open sesame".to_owned()))
        );
        assert_eq!(credentials("basic bm9jb2xvbg=="), None);
        assert_eq!(credentials("Bearer x"), None);
        assert_eq!(credentials("Basic !"), None);
    }
}
