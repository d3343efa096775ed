//! Serves a store.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::{HEALTH, INFO, LABEL_NAMES, LABEL_VALUES, MAX_MESSAGE_BYTES, SERIES};
use crate::storeapi::messages::{
    Frame, InfoRequest, InfoResponse, LabelNamesRequest, LabelNamesResponse, LabelSet, LabelValuesRequest,
    LabelValuesResponse, SeriesBatch, SeriesRequest, SeriesResponse, StoreDetails, TsdbInfo,
};
use crate::storeapi::translate::{
    answer_to_wire, labels_to_wire, names_from_wire, series_from_wire, values_from_wire,
};
use crate::storeapi::{LabelsAnswer, StoreApi, StoreError};

/// Frames that are made before the one that reads takes them.
const FRAMES_AHEAD: usize = 8;
/// Whatever is asked for, no more series than this go into one frame.
const MAX_BATCH: i64 = 1024;

/// gRPC requests about a store.
#[derive(Clone)]
pub struct StoreService {
    store: Arc<dyn StoreApi>,
}

/// Serves `store`; every call of it runs on a thread for blocking work.
pub fn service(store: Arc<dyn StoreApi>) -> StoreService {
    StoreService { store }
}

/// `grpc.health.v1`: 1 is serving.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

fn status(error: StoreError) -> Status {
    match error {
        StoreError::Invalid(reason) => Status::invalid_argument(reason),
        StoreError::Aborted(reason) => Status::aborted(reason),
        StoreError::Limit { .. } => Status::resource_exhausted(error.to_string()),
        StoreError::Unavailable { .. } => Status::unavailable(error.to_string()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer.map_err(status),
        Err(error) => Err(Status::internal(format!("the question failed: {error}"))),
    }
}

fn info(store: &dyn StoreApi) -> Result<InfoResponse, Status> {
    let info = store.info().ok_or_else(|| Status::unavailable("not ready"))?;
    let label_set = |labels| LabelSet { labels: labels_to_wire(labels) };
    Ok(InfoResponse {
        label_sets: info.label_sets.iter().map(label_set).collect(),
        component_type: info.component.clone(),
        store: Some(StoreDetails {
            min_time: info.min_ms,
            max_time: info.max_ms,
            supports_sharding: true,
            supports_without_replica_labels: true,
            tsdb_infos: info
                .label_sets
                .iter()
                .map(|labels| TsdbInfo {
                    labels: Some(label_set(labels)),
                    min_time: info.min_ms,
                    max_time: info.max_ms,
                })
                .collect(),
        }),
    })
}

type Frames = ReceiverStream<Result<SeriesResponse, Status>>;

/// Sends the answer in frames, as fast as they are taken.
fn series(store: Arc<dyn StoreApi>, request: SeriesRequest) -> Result<Frames, Status> {
    let query = series_from_wire(&request).map_err(status)?;
    if query.matchers.is_empty() {
        return Err(Status::invalid_argument("no matchers specified (excluding external labels)"));
    }
    let batch = request.response_batch_size.clamp(0, MAX_BATCH) as usize;
    let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
    tokio::task::spawn_blocking(move || {
        // The one that reads went away: so do we.
        let send = |frame| sender.blocking_send(Ok(SeriesResponse { frame: Some(frame) })).is_ok();
        let work = || -> Result<(), StoreError> {
            let mut stream = store.series(&query)?;
            let mut pending = Vec::new();
            while let Some(found) = stream.next()? {
                let found = answer_to_wire(&found);
                if batch <= 1 {
                    if !send(Frame::Series(found)) {
                        return Ok(());
                    }
                    continue;
                }
                pending.push(found);
                if pending.len() >= batch
                    && !send(Frame::Batch(SeriesBatch { series: std::mem::take(&mut pending) }))
                {
                    return Ok(());
                }
            }
            if !pending.is_empty() && !send(Frame::Batch(SeriesBatch { series: pending })) {
                return Ok(());
            }
            for warning in stream.warnings() {
                if !send(Frame::Warning(warning)) {
                    return Ok(());
                }
            }
            Ok(())
        };
        if let Err(error) = work() {
            let _ = sender.blocking_send(Err(status(error)));
        }
    });
    Ok(ReceiverStream::new(receiver))
}

impl<B> Service<http::Request<B>> for StoreService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let store = self.store.clone();
        Box::pin(async move { Ok(answer(store, request).await) })
    }
}

async fn answer<B>(store: Arc<dyn StoreApi>, request: http::Request<B>) -> http::Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    match request.uri().path() {
        INFO => {
            let method = service_fn(move |_: Request<InfoRequest>| {
                let store = store.clone();
                async move { info(store.as_ref()).map(Response::new) }
            });
            Grpc::new(ProstCodec::<InfoResponse, InfoRequest>::default()).unary(method, request).await
        }
        SERIES => {
            let method = service_fn(move |request: Request<SeriesRequest>| {
                let store = store.clone();
                async move { series(store, request.into_inner()).map(Response::new) }
            });
            Grpc::new(ProstCodec::<SeriesResponse, SeriesRequest>::default())
                .max_encoding_message_size(MAX_MESSAGE_BYTES)
                .server_streaming(method, request)
                .await
        }
        LABEL_NAMES => {
            let method = service_fn(move |request: Request<LabelNamesRequest>| {
                let store = store.clone();
                async move {
                    let query = names_from_wire(request.get_ref()).map_err(status)?;
                    let LabelsAnswer { values, warnings } =
                        blocking(move || store.label_names(&query)).await?;
                    Ok::<_, Status>(Response::new(LabelNamesResponse { names: values, warnings }))
                }
            });
            Grpc::new(ProstCodec::<LabelNamesResponse, LabelNamesRequest>::default())
                .unary(method, request)
                .await
        }
        LABEL_VALUES => {
            let method = service_fn(move |request: Request<LabelValuesRequest>| {
                let store = store.clone();
                async move {
                    let request = request.into_inner();
                    let query = values_from_wire(&request).map_err(status)?;
                    let work = move || store.label_values(&request.label, &query);
                    let LabelsAnswer { values, warnings } = blocking(work).await?;
                    Ok::<_, Status>(Response::new(LabelValuesResponse { values, warnings }))
                }
            });
            Grpc::new(ProstCodec::<LabelValuesResponse, LabelValuesRequest>::default())
                .unary(method, request)
                .await
        }
        HEALTH => {
            let method = service_fn(|_: Request<HealthRequest>| async {
                Ok::<_, Status>(Response::new(HealthResponse { status: 1 }))
            });
            Grpc::new(ProstCodec::<HealthResponse, HealthRequest>::default()).unary(method, request).await
        }
        _ => Status::unimplemented("no such method: info, store and health are served").into_http(),
    }
}
