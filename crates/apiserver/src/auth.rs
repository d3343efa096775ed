//! Who the caller is: a client certificate of our own authority, or a bearer token.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Extensions, HeaderMap, Request, Response, header};

use crate::doors::UserInfo;
use crate::response;
use crate::service::{ApiService, BoxError, ResponseBody};
use crate::status::Failure;
use crate::tokens;

const AUTHENTICATED: &str = "system:authenticated";

/// Knows the bearer tokens. Client certificates need no list: the listener has checked who signed them.
#[derive(Clone, Default)]
pub struct Authenticator {
    tokens: Vec<(String, UserInfo)>,
}

impl Authenticator {
    pub fn new() -> Authenticator {
        Authenticator::default()
    }

    /// Whoever shows `token` is `user`. Empty tokens are ignored.
    pub fn with_token(mut self, token: impl Into<String>, user: UserInfo) -> Authenticator {
        let token = token.into();
        if !token.is_empty() {
            self.tokens.push((token, user));
        }
        self
    }

    /// The caller; anonymous if the request shows neither certificate nor token. A wrong token is an error.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        client_certificate: Option<&[u8]>,
    ) -> Result<UserInfo, Failure> {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value
                .to_str()
                .ok()
                .and_then(|value| value.strip_prefix("Bearer "))
                .map(str::trim)
                .unwrap_or_default();
            return self.by_token(token).cloned().ok_or_else(Failure::unauthorized);
        }
        match client_certificate {
            Some(der) => user_of_certificate(der).ok_or_else(Failure::unauthorized),
            None => Ok(UserInfo::anonymous()),
        }
    }

    /// The user of a token.
    pub fn by_token(&self, token: &str) -> Option<&UserInfo> {
        let known = self
            .tokens
            .iter()
            .filter(|(known, _)| equal_in_constant_time(known.as_bytes(), token.as_bytes()));
        known.map(|(_, user)| user).next()
    }
}

/// Takes as long for a wrong token as for the right one, so that it cannot be guessed byte by byte.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// The common name is the user, every organisation a group.
fn user_of_certificate(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|group| group.as_str().ok().map(str::to_owned)).collect();
    groups.push(AUTHENTICATED.into());
    Some(UserInfo { name, groups, ..UserInfo::default() })
}

/// An [`ApiService`] for connections from outside: finds out who calls before it answers.
#[derive(Clone)]
pub struct AuthenticatedService {
    service: ApiService,
    authenticator: Arc<Authenticator>,
    certificate: fn(&Extensions) -> Option<Vec<u8>>,
}

impl AuthenticatedService {
    /// `certificate` finds the client's verified certificate (DER) where the listener has put it.
    pub(crate) fn new(
        service: ApiService,
        authenticator: Authenticator,
        certificate: fn(&Extensions) -> Option<Vec<u8>>,
    ) -> AuthenticatedService {
        AuthenticatedService { service, authenticator: Arc::new(authenticator), certificate }
    }
}

impl AuthenticatedService {
    /// The service account whose token the request shows.
    fn by_account_token(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let token = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.trim();
        let server = &self.service.server;
        let now_seconds = server.clock.now_ms().div_euclid(1000);
        let (user, audiences) = server.tokens.verify(token, &server.store, now_seconds)?;
        audiences.iter().any(|audience| audience == tokens::ISSUER).then_some(user)
    }
}

impl<B> tower::Service<Request<B>> for AuthenticatedService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let certificate = (self.certificate)(request.extensions());
        match self.authenticator.authenticate(request.headers(), certificate.as_deref()) {
            Ok(user) => {
                request.extensions_mut().insert(user);
                self.service.call(request)
            }
            Err(failure) => match self.by_account_token(request.headers()) {
                Some(user) => {
                    request.extensions_mut().insert(user);
                    self.service.call(request)
                }
                None => Box::pin(std::future::ready(Ok(response::failure(&failure)))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Authority;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    #[test]
    fn tokens_and_certificates_name_the_caller() {
        let authenticator = Authenticator::new()
            .with_token("secret", UserInfo::new("robot"))
            .with_token("", UserInfo::admin());
        assert_eq!(authenticator.authenticate(&headers("Bearer secret"), None).unwrap().name, "robot");
        for wrong in ["Bearer wrong", "Bearer ", "Basic secret", "Bearer secre"] {
            assert_eq!(authenticator.authenticate(&headers(wrong), None).unwrap_err().code, 401, "{wrong}");
        }
        assert!(authenticator.authenticate(&HeaderMap::new(), None).unwrap().is_anonymous());
        let authority = Authority::generate(0).unwrap();
        let client = authority.client("anna", "ops", 0).unwrap();
        let der = x509_parser::pem::parse_x509_pem(client.certificate.as_bytes()).unwrap().1.contents;
        let user = authenticator.authenticate(&HeaderMap::new(), Some(&der)).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups),
            ("anna", vec!["ops".to_owned(), AUTHENTICATED.to_owned()])
        );
        assert_eq!(authenticator.authenticate(&HeaderMap::new(), Some(b"junk")).unwrap_err().code, 401);
    }
}
