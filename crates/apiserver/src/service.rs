//! The server as a `tower::Service` over any request body.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};

use crate::doors::UserInfo;
use crate::response;
use crate::rest;
use crate::server::Inner;
use crate::status::Failure;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of every answer: one piece, or a stream for watches and logs.
pub type ResponseBody = UnsyncBoxBody<Bytes, BoxError>;

/// A body in one piece.
pub fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Answers API requests. The caller is the request extension [`UserInfo`], else the user this service was made for,
/// else anonymous.
#[derive(Clone)]
pub struct ApiService {
    pub(crate) server: Arc<Inner>,
    pub(crate) user: Option<Arc<UserInfo>>,
}

impl<B> tower::Service<Request<B>> for ApiService
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.answer(request).await) })
    }
}

impl ApiService {
    async fn answer<B>(self, request: Request<B>) -> Response<ResponseBody>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        if parts.extensions.get::<UserInfo>().is_none() {
            let user = self.user.as_deref().cloned().unwrap_or_else(UserInfo::anonymous);
            parts.extensions.insert(user);
        }
        let limit = self.server.limits.body_bytes;
        // A request that asks for an upgrade has no body: what follows belongs to the new protocol.
        let body = if parts.headers.contains_key(http::header::UPGRADE) {
            Bytes::new()
        } else {
            match Limited::new(body, limit).collect().await {
                Ok(body) => body.to_bytes(),
                Err(error) if error.is::<LengthLimitError>() => {
                    return response::failure(&Failure::too_large(limit));
                }
                Err(error) => {
                    return response::failure(&Failure::bad_request(format!(
                        "reading the request body failed: {error}"
                    )));
                }
            }
        };
        rest::handle(self.server, Request::from_parts(parts, body)).await
    }
}
