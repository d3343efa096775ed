//! What pods and nodes use: rates from cumulative readings, and the API that shows them.

mod api;
mod store;

pub(crate) use api::decode;
pub use api::{Answer, GROUP, MetricsApi, RESOURCES, ServedResource, VERSION};
pub use store::{
    ContainerPoint, Cumulative, MetricsStore, NodeMetrics, PodMetrics, PodPoint, ResourceMetrics,
    StoreSettings, UsagePoint, Use,
};
