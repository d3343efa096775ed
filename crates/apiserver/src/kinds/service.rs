//! Services: defaults and cluster addresses.

use std::net::Ipv4Addr;
use std::sync::Arc;

use gantry_apimachinery::Value;

use super::default_at;
use crate::addresses::cluster_ip;
use crate::rest::Call;
use crate::server::Inner;
use crate::status::{Failure, FieldError};

pub(super) fn default_service(object: &mut Value) {
    if object.get("spec").is_none() {
        return;
    }
    default_at(object, &["spec", "sessionAffinity"], "None");
    default_at(object, &["spec", "type"], "ClusterIP");
    if object.str_at(&["spec", "sessionAffinity"]) == Some("ClientIP") {
        default_at(object, &["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"], 10800i64);
    }
    for port in object.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut).into_iter().flatten() {
        default_at(port, &["protocol"], "TCP");
        let number = port.get("port").cloned().unwrap_or_default();
        let target = port.entry_at(&["targetPort"]);
        if target.is_null() || target.as_i64() == Some(0) || target.as_str() == Some("") {
            *target = number;
        }
    }
    let kind = object.str_at(&["spec", "type"]).unwrap_or_default().to_owned();
    if kind != "ExternalName" {
        default_at(object, &["spec", "internalTrafficPolicy"], "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default_at(object, &["spec", "externalTrafficPolicy"], "Cluster");
    }
    if kind == "LoadBalancer" {
        default_at(object, &["spec", "allocateLoadBalancerNodePorts"], true);
    }
}

/// What the server decides about addresses before it gives one.
pub(super) fn set_families(object: &mut Value) {
    let kind = object.str_at(&["spec", "type"]);
    if object.get("spec").is_some() && kind != Some("ExternalName") {
        default_at(object, &["spec", "ipFamilyPolicy"], "SingleStack");
        default_at(object, &["spec", "ipFamilies"], vec![Value::from("IPv4")]);
    }
}

/// Gives the Service its cluster address: the one it asks for, or a free one.
pub(super) fn assign_address(call: &Call, object: &mut Value, dry_run: bool) -> Result<(), Failure> {
    if object.str_at(&["spec", "type"]) == Some("ExternalName") {
        return Ok(());
    }
    let addresses = &call.server.addresses;
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    let asked = object.str_at(&["spec", "clusterIP"]).unwrap_or_default().to_owned();
    let address = match asked.as_str() {
        "None" => "None".to_owned(),
        "" => {
            let address = addresses
                .allocate()
                .ok_or_else(|| Failure::internal("failed to allocate a serviceIP: range is full"))?;
            if dry_run {
                addresses.release(address);
            }
            address.to_string()
        }
        text => {
            let invalid = |why: &str| {
                let value = Value::from(text);
                Failure::invalid(
                    call.about(),
                    &name,
                    vec![FieldError::invalid("spec.clusterIPs", &vec![value].into(), why)],
                )
            };
            let address: Ipv4Addr = text
                .parse()
                .map_err(|_| invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))?;
            if !addresses.range.contains(address) {
                let range = addresses.range;
                return Err(invalid(&format!(
                    "failed to allocate IP {address}: the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
                )));
            }
            if !dry_run && !addresses.take(address) {
                return Err(invalid(&format!(
                    "failed to allocate IP {address}: provided IP is already allocated"
                )));
            }
            address.to_string()
        }
    };
    *object.entry_at(&["spec", "clusterIP"]) = address.as_str().into();
    *object.entry_at(&["spec", "clusterIPs"]) = vec![Value::from(address)].into();
    Ok(())
}

/// A changed Service keeps its address unless it gives it up; one that needs one gets it.
pub(super) fn keep_address(call: &Call, object: &mut Value, old: &Value) -> Result<(), Failure> {
    let external = |service: &Value| service.str_at(&["spec", "type"]) == Some("ExternalName");
    match (external(old), external(object)) {
        (_, true) => {
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
                for field in
                    ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]
                {
                    spec.remove(field);
                }
            }
            Ok(())
        }
        (true, false) => assign_address(call, object, false),
        (false, false) => {
            for field in ["clusterIP", "clusterIPs"] {
                if let Some(kept) = old.at(&["spec", field]) {
                    let slot = object.entry_at(&["spec", field]);
                    if slot.is_null() || slot.as_str() == Some("") {
                        *slot = kept.clone();
                    }
                }
            }
            Ok(())
        }
    }
}

pub(super) fn release_address(server: &Inner, service: &Value) {
    if let Some(address) = cluster_ip(service) {
        server.addresses.release(address);
    }
}

pub(super) fn release_changed(server: &Arc<Inner>, old: &Value, new: &Value) {
    if let Some(address) = cluster_ip(old)
        && cluster_ip(new) != Some(address)
    {
        server.addresses.release(address);
    }
}
