//! `correlation-id`: one id for a request on all its ways.

use super::settings::Settings;
use super::{Answer, Plugin, Request};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Generator {
    Uuid,
    UuidCounter,
    Tracker,
}

pub(crate) struct CorrelationId {
    header: String,
    generator: Generator,
    echoes: bool,
    counter: AtomicU64,
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn uuid(seed: u64) -> String {
    let (high, low) = (mix(seed), mix(seed ^ 0x9e37_79b9_7f4a_7c15));
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(0b11 << 62)) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

impl CorrelationId {
    pub(crate) fn new(settings: &Settings<'_>) -> CorrelationId {
        let generator = match settings.text("generator").as_deref() {
            Some("uuid") => Generator::Uuid,
            Some("tracker") => Generator::Tracker,
            _ => Generator::UuidCounter,
        };
        CorrelationId {
            header: settings.text("header_name").unwrap_or_else(|| "Kong-Request-ID".to_owned()),
            generator,
            echoes: settings.flag("echo_downstream", false),
            counter: AtomicU64::new(0),
        }
    }

    /// The part before a counter stays the same for the life of the configuration.
    fn next(&self, request: &Request<'_>) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let of_request = request.request_id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        match self.generator {
            Generator::Uuid => uuid(of_request ^ request.id_seed),
            Generator::UuidCounter => format!("{}#{number}", uuid(request.id_seed)),
            Generator::Tracker => {
                let now = request.clock.now_ms();
                format!(
                    "{}-{}-{}-{number}-{}-{}",
                    request.client_ip,
                    request.port,
                    std::process::id(),
                    request.head.fields.len(),
                    now as f64 / 1_000.0
                )
            }
        }
    }
}

impl Plugin for CorrelationId {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        let id = match request.header(&self.header.to_ascii_lowercase()).filter(|id| !id.trim().is_empty()) {
            Some(id) => id,
            None => {
                let id = self.next(request);
                request.edits.set(&self.header, &id);
                id
            }
        };
        if self.echoes {
            request.response.set(&self.header, &id);
        }
        Ok(())
    }
}
