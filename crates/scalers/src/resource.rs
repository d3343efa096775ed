//! `cpu` and `memory`: resource metrics that the HorizontalPodAutoscaler reads itself; nothing is read here.

use async_trait::async_trait;

use crate::config::TriggerConfig;
use crate::parameters::{Field, Fields, META};
use crate::scaler::{Reading, Scaler, ScalerError};
use crate::spec::{MetricSpec, MetricType, ResourceTarget};

pub(crate) struct PodResource {
    name: &'static str,
    container: Option<String>,
    target: ResourceTarget,
}

impl PodResource {
    pub(crate) fn new(name: &'static str, config: &TriggerConfig) -> Result<PodResource, ScalerError> {
        let mut fields = Fields::of(config);
        let given: Option<String> = fields.optional(
            Field::new(&["type"], META)
                .announced("use the trigger's metricType instead")
                .one_of(&["Utilization", "AverageValue"]),
        );
        let value: String = fields.required(Field::new(&["value"], META));
        let container: Option<String> = fields.optional(Field::new(&["containerName"], META));
        let metric_type = match (config.metric_type, given.as_deref()) {
            (Some(metric_type), _) => Some(metric_type),
            (None, Some("Utilization")) => Some(MetricType::Utilization),
            (None, Some("AverageValue")) => Some(MetricType::AverageValue),
            (None, _) => None,
        };
        let mut target = ResourceTarget::Utilization(0);
        match metric_type {
            Some(MetricType::AverageValue) => {
                let is_quantity = gantry_apimachinery::quantity::milli(&value).is_some();
                fields.require(is_quantity || value.is_empty(), || {
                    format!("value {value:?} is not a quantity")
                });
                target = ResourceTarget::AverageValue(value);
            }
            Some(MetricType::Utilization) | None => {
                let percent = value.parse::<i32>().ok();
                fields.require(percent.is_some() || value.is_empty(), || {
                    format!("value {value:?} is not a whole number of percent")
                });
                target = ResourceTarget::Utilization(percent.unwrap_or(0));
            }
            Some(MetricType::Value) => fields.require(false, || {
                "unsupported metric type, allowed values are 'Utilization' or 'AverageValue'".into()
            }),
        }
        fields.finish()?;
        Ok(PodResource { name, container, target })
    }
}

#[async_trait]
impl Scaler for PodResource {
    async fn metrics(&self) -> Result<Vec<MetricSpec>, ScalerError> {
        let (container, target) = (self.container.clone(), self.target.clone());
        Ok(vec![MetricSpec::Resource { name: self.name, container, target }])
    }

    async fn read(&self, _metric: &str) -> Result<Reading, ScalerError> {
        Err(ScalerError::source(self.name, "a resource metric is not read as an external one"))
    }
}
