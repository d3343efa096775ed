//! `ip-restriction`: which addresses may come in.

use super::settings::Settings;
use super::{Answer, Plugin, Request};
use crate::net::IpRange;
use std::net::IpAddr;

pub(crate) struct IpRestriction {
    allow: Vec<IpRange>,
    deny: Vec<IpRange>,
    status: u16,
    message: Option<String>,
}

fn ranges(settings: &Settings<'_>, name: &str) -> Result<Vec<IpRange>, String> {
    let texts = settings.texts(name).unwrap_or_default();
    texts.iter().map(|text| text.parse().map_err(|error| format!("{name}: {error}"))).collect()
}

impl IpRestriction {
    pub(crate) fn new(settings: &Settings<'_>) -> Result<IpRestriction, String> {
        let status = settings.number("status").map_or(403, |status| status as u16);
        Ok(IpRestriction {
            allow: ranges(settings, "allow")?,
            deny: ranges(settings, "deny")?,
            status: if (100..600).contains(&status) { status } else { 403 },
            message: settings.text("message"),
        })
    }

    fn may_pass(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_in = |list: &[IpRange]| list.iter().any(|range| range.contains(ip));
        !is_in(&self.deny) && (self.allow.is_empty() || is_in(&self.allow))
    }
}

impl Plugin for IpRestriction {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        if self.may_pass(request.client_ip) {
            return Ok(());
        }
        let message = match &self.message {
            Some(message) => message.clone(),
            None => format!("IP address not allowed: {}", request.client_ip),
        };
        Err(Answer::error(self.status, message))
    }
}
