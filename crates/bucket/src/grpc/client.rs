//! A store in another process.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::{INFO, LABEL_NAMES, LABEL_VALUES, MAX_MESSAGE_BYTES, SERIES};
use crate::storeapi::messages::{
    Frame, InfoRequest, InfoResponse, LabelNamesRequest, LabelNamesResponse, LabelValuesRequest,
    LabelValuesResponse, SeriesRequest, SeriesResponse,
};
use crate::storeapi::translate::{
    answer_from_wire, labels_from_wire, names_to_wire, series_to_wire, values_to_wire,
};
use crate::storeapi::{
    LabelsAnswer, LabelsQuery, Ready, SeriesQuery, SeriesStream, StoreApi, StoreError, StoreInfo,
    StoreSeries, relabel,
};

/// Series asked for in one frame.
const BATCH: i64 = 64;
/// Frames that wait to be read.
const FRAMES_AHEAD: usize = 8;

/// How a [`GrpcStore`] is asked.
#[derive(Debug, Clone, Copy)]
pub struct GrpcStoreOptions {
    /// A store that sends no frame for this long has failed; `None` waits for ever.
    pub response_timeout: Option<Duration>,
    /// What the store has must be told within this.
    pub info_timeout: Duration,
    /// A store that has not told for this long is not asked.
    pub unhealthy_after_ms: i64,
}

impl Default for GrpcStoreOptions {
    fn default() -> GrpcStoreOptions {
        GrpcStoreOptions {
            response_timeout: None,
            info_timeout: Duration::from_secs(5),
            unhealthy_after_ms: 5 * 60 * 1000,
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Heard {
    info: Option<StoreInfo>,
    at_ms: i64,
    last_error: Option<String>,
}

/// A store over gRPC. What it has is asked by [`poll`](Self::poll).
#[derive(Debug)]
pub struct GrpcStore {
    address: String,
    channel: Channel,
    runtime: Handle,
    options: GrpcStoreOptions,
    heard: RwLock<Heard>,
}

impl GrpcStore {
    /// The store at `address` (`host:port`); connects when it is first asked. Within a runtime.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn new(address: &str, runtime: Handle, options: GrpcStoreOptions) -> Result<Arc<GrpcStore>, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| format!("address {address:?}: {error}; host:port is expected"))?
            .connect_timeout(Duration::from_secs(5))
            .keep_alive_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(10));
        let channel = {
            let _within = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Arc::new(GrpcStore {
            address: address.to_owned(),
            channel,
            runtime,
            options,
            heard: RwLock::default(),
        }))
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// When the store last told what it has, in milliseconds since the epoch, and why it last did not.
    pub fn last_heard(&self) -> (i64, Option<String>) {
        let heard = self.heard.read();
        (heard.at_ms, heard.last_error.clone())
    }

    fn grpc(&self) -> Grpc<Channel> {
        Grpc::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Asks what the store has.
    pub async fn poll(&self, now_ms: i64) {
        let mut grpc = self.grpc();
        let ask = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
            grpc.unary(Request::new(InfoRequest {}), PathAndQuery::from_static(INFO), codec).await
        };
        let answer = match tokio::time::timeout(self.options.info_timeout, ask).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {:?}", self.options.info_timeout)),
        };
        let mut heard = self.heard.write();
        match answer {
            Ok(InfoResponse { label_sets, component_type, store: Some(details) }) => {
                *heard = Heard {
                    info: Some(StoreInfo {
                        component: component_type,
                        label_sets: label_sets.iter().map(|set| labels_from_wire(&set.labels)).collect(),
                        min_ms: details.min_time,
                        max_ms: details.max_time,
                        supports_without: details.supports_without_replica_labels,
                    }),
                    at_ms: now_ms,
                    last_error: None,
                };
            }
            Ok(_) => {
                *heard = Heard { info: None, at_ms: now_ms, last_error: Some("it offers no store".into()) };
            }
            Err(reason) => {
                if now_ms.saturating_sub(heard.at_ms) > self.options.unhealthy_after_ms {
                    heard.info = None;
                }
                heard.last_error = Some(reason);
            }
        }
    }

    fn failed(&self, status: &Status) -> StoreError {
        match status.code() {
            Code::InvalidArgument => StoreError::Invalid(format!("{}: {}", self.address, status.message())),
            Code::Aborted => StoreError::Aborted(format!("{}: {}", self.address, status.message())),
            _ => StoreError::Unavailable { store: self.address.clone(), reason: status.message().to_owned() },
        }
    }

    /// One question with one answer; waits here while the runtime asks.
    fn unary<Q, A>(&self, path: &'static str, question: Q) -> Result<A, StoreError>
    where
        Q: prost::Message + Default + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc();
        let timeout = self.options.response_timeout;
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let ask = async {
                grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                let codec = ProstCodec::<Q, A>::default();
                grpc.unary(Request::new(question), PathAndQuery::from_static(path), codec).await
            };
            let _ = sender.send(within(timeout, ask).await);
        });
        match receiver.recv() {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(self.failed(&Status::unavailable("the program is ending"))),
        }
    }
}

async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(timeout) = timeout else { return work.await };
    match tokio::time::timeout(timeout, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded(format!("no answer within {timeout:?}"))),
    }
}

/// The frames of an answer.
struct Frames {
    receiver: mpsc::Receiver<Result<SeriesResponse, Status>>,
    store: Arc<str>,
    ready: std::vec::IntoIter<StoreSeries>,
    warnings: Vec<String>,
}

impl SeriesStream for Frames {
    fn next(&mut self) -> Result<Option<StoreSeries>, StoreError> {
        loop {
            if let Some(series) = self.ready.next() {
                return Ok(Some(series));
            }
            match self.receiver.blocking_recv() {
                None => return Ok(None),
                Some(Ok(SeriesResponse { frame })) => match frame {
                    Some(Frame::Series(series)) => return Ok(Some(answer_from_wire(series))),
                    Some(Frame::Batch(batch)) => {
                        let series: Vec<StoreSeries> =
                            batch.series.into_iter().map(answer_from_wire).collect();
                        self.ready = series.into_iter();
                    }
                    Some(Frame::Warning(warning)) => self.warnings.push(warning),
                    Some(Frame::Hints(_)) | None => {}
                },
                Some(Err(status)) => {
                    let reason = status.message().to_owned();
                    return Err(match status.code() {
                        Code::InvalidArgument => StoreError::Invalid(format!("{}: {reason}", self.store)),
                        Code::Aborted => StoreError::Aborted(format!("{}: {reason}", self.store)),
                        _ => StoreError::Unavailable { store: self.store.to_string(), reason },
                    });
                }
            }
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}

/// An answer of a store that does not take labels off itself: read whole, and put in order.
fn without_labels(mut frames: Frames, without: &[String]) -> Result<Ready, StoreError> {
    let mut all = Vec::new();
    while let Some(series) = frames.next()? {
        let labels = relabel(&series.labels, &gantry_prom_model::Labels::empty(), without);
        all.push(StoreSeries { labels, ..series });
    }
    all.sort_by(|left, right| left.labels.cmp(&right.labels));
    Ok(Ready { series: all.into_iter() })
}

impl StoreApi for GrpcStore {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn info(&self) -> Option<StoreInfo> {
        self.heard.read().info.clone()
    }

    fn series(&self, query: &SeriesQuery) -> Result<Box<dyn SeriesStream>, StoreError> {
        let mut grpc = self.grpc();
        let (request, timeout) = (series_to_wire(query, BATCH), self.options.response_timeout);
        let (sender, receiver) = mpsc::channel(FRAMES_AHEAD);
        self.runtime.spawn(async move {
            let work = async {
                let ask = async {
                    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                    let codec = ProstCodec::<SeriesRequest, SeriesResponse>::default();
                    let path = PathAndQuery::from_static(SERIES);
                    grpc.server_streaming(Request::new(request), path, codec).await
                };
                let mut frames = within(timeout, ask).await?.into_inner();
                while let Some(frame) = within(timeout, frames.message()).await? {
                    // Nobody reads any more: the stream is dropped, which ends the question over there.
                    if sender.send(Ok(frame)).await.is_err() {
                        break;
                    }
                }
                Ok::<_, Status>(())
            };
            if let Err(status) = work.await {
                let _ = sender.send(Err(status)).await;
            }
        });
        let frames = Frames {
            receiver,
            store: Arc::from(self.address.as_str()),
            ready: Vec::new().into_iter(),
            warnings: Vec::new(),
        };
        let supports_without = self.info().is_some_and(|info| info.supports_without);
        if query.without.is_empty() || supports_without {
            return Ok(Box::new(frames));
        }
        Ok(Box::new(without_labels(frames, &query.without)?))
    }

    fn label_names(&self, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        let answer: LabelNamesResponse =
            self.unary::<LabelNamesRequest, _>(LABEL_NAMES, names_to_wire(query))?;
        Ok(LabelsAnswer { values: answer.names, warnings: answer.warnings })
    }

    fn label_values(&self, name: &str, query: &LabelsQuery) -> Result<LabelsAnswer, StoreError> {
        let answer: LabelValuesResponse =
            self.unary::<LabelValuesRequest, _>(LABEL_VALUES, values_to_wire(name, query))?;
        Ok(LabelsAnswer { values: answer.values, warnings: answer.warnings })
    }
}
