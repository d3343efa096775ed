//! Lets only those in who say who they are, and adds the headers of the configuration to every answer.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use gantry_serve::ConnectInfo;
use http::StatusCode;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::WebConfig;
use super::bcrypt::Hash;

/// Who was let in, so that not every request costs a hash.
const MAX_KNOWN: usize = 100;
/// Hashes that are computed at the same time: a crowd of wrong passwords must not take all threads.
const MAX_HASHING: usize = 2;

type Fingerprint = [u8; 32];

struct Guard {
    config: Arc<WebConfig>,
    known: Mutex<VecDeque<Fingerprint>>,
    hashing: Semaphore,
}

/// The router behind its guard; as it is when the configuration asks for nothing.
pub(crate) fn guard(router: Router, config: &Arc<WebConfig>) -> Router {
    if config.users.is_empty() && config.headers.is_empty() && !config.needs_client_certificate {
        return router;
    }
    let guard =
        Guard { config: config.clone(), known: Mutex::default(), hashing: Semaphore::new(MAX_HASHING) };
    router.layer(from_fn_with_state(Arc::new(guard), check))
}

async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let has_certificate =
        request.extensions().get::<ConnectInfo>().is_some_and(|info| info.client_certificate.is_some());
    let mut response = match guard.admit(has_certificate, credentials(&request)).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    };
    for (name, value) in &guard.config.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}

fn unauthorized() -> Response {
    let mut response = (StatusCode::UNAUTHORIZED, "Unauthorized\n").into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, http::HeaderValue::from_static("Basic"));
    response
}

/// User and password of a request.
fn credentials(request: &Request) -> Option<(String, String)> {
    use base64::Engine as _;
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl Guard {
    async fn admit(
        &self,
        has_certificate: bool,
        credentials: Option<(String, String)>,
    ) -> Result<(), Response> {
        if self.config.needs_client_certificate && !has_certificate {
            return Err((StatusCode::UNAUTHORIZED, "a client certificate is needed\n").into_response());
        }
        if self.config.users.is_empty() {
            return Ok(());
        }
        let (user, password) = credentials.ok_or_else(unauthorized)?;
        // A user that is not there costs as much as a wrong password, so that nobody can tell which it was.
        let (hash, is_user) = match self.config.users.get(&user) {
            Some(hash) => (hash.clone(), true),
            None => (self.config.users.values().next().cloned().ok_or_else(unauthorized)?, false),
        };
        let fingerprint: Fingerprint = Sha256::digest(format!("{user}\0{password}").as_bytes()).into();
        if is_user && self.known.lock().contains(&fingerprint) {
            return Ok(());
        }
        if !self.matches(hash, password).await || !is_user {
            return Err(unauthorized());
        }
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.pop_front();
        }
        known.push_back(fingerprint);
        Ok(())
    }

    async fn matches(&self, hash: Hash, password: String) -> bool {
        let Ok(_permit) = self.hashing.acquire().await else { return false };
        tokio::task::spawn_blocking(move || hash.is_of(&password)).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    fn router(text: &str) -> Router {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("web.yml");
        std::fs::write(&file, text).unwrap();
        let config = Arc::new(WebConfig::load(&file).unwrap());
        guard(Router::new().route("/", get(async || "in")), &config)
    }

    async fn status(router: &Router, authorization: Option<&str>) -> (StatusCode, Response) {
        let mut request = http::Request::builder().uri("/");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        (response.status(), response)
    }

    #[tokio::test]
    async fn only_who_knows_the_password_gets_in() {
        use base64::Engine as _;
        let router = router(
            "basic_auth_users:\n  u: $2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\nhttp_server_config: {headers: {X-Frame-Options: deny}}\n",
        );
        let basic = |pair: &str| format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        let (code, response) = status(&router, None).await;
        assert_eq!(
            (code, &response.headers()["www-authenticate"]),
            (StatusCode::UNAUTHORIZED, &"Basic".parse().unwrap())
        );
        assert_eq!(response.headers()["x-frame-options"], "deny");
        for wrong in [basic("u:x"), basic("v:U*U"), basic("u"), "Bearer x".into(), "Basic ?".into()] {
            assert_eq!(status(&router, Some(&wrong)).await.0, StatusCode::UNAUTHORIZED, "{wrong}");
        }
        for _ in 0..2 {
            let (code, response) = status(&router, Some(&basic("u:U*U"))).await;
            assert_eq!(
                (code, &response.headers()["x-frame-options"]),
                (StatusCode::OK, &"deny".parse().unwrap())
            );
        }
    }
}
