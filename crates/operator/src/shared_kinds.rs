//! Kubernetes' own kinds that several rooms read and write: their code, compiled here once.
//!
//! A generic function is compiled wherever it is used with a type, unless a crate below has that very instance and both
//! are built for size. Reading and writing a pod is hundreds of functions, so this room has the instances; nothing calls
//! through the tables below.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Result;

struct Uses<K: 'static> {
    _read: fn(&str) -> Result<K>,
    _write: fn(&K) -> Result<Vec<u8>>,
}

macro_rules! compiled_here {
    ($($kind:ty),+ $(,)?) => {
        $(const _: () = {
            #[used]
            static USES: Uses<$kind> = Uses {
                _read: |text| serde_json::from_str(text),
                _write: |object| serde_json::to_vec(object),
            };
        };)+
    };
}

compiled_here!(ConfigMap, Deployment, EndpointSlice, Namespace, Node, Pod, Secret, Service);
