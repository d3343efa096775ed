//! Certificates, keys and authorities in Secrets and ConfigMaps. No message tells what one holds.

use crate::subject::tags;
use crate::translate::{Building, Input};
use gantry_gateway::check_certificate;
use gantry_gateway::entities::{CaCertificate, Certificate};
use gantry_kong_model::{entity_id, read_certificates};
use gantry_operator::Key;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";
/// Under which an authority lies, the first that is there.
const AUTHORITY: [&str; 2] = ["cert", "ca.crt"];

/// The fields of a Secret or a ConfigMap by their names.
type Field<'f> = Box<dyn Fn(&str) -> Option<String> + 'f>;

/// The id of an entity that is made of one object, which Kong's controller takes from the object.
fn id_of(meta: &ObjectMeta, collection: &str) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    meta.uid.clone().unwrap_or_else(|| entity_id(collection, &format!("{namespace}/{name}")))
}

fn text(secret: &Secret, name: &str) -> Option<String> {
    let value = secret.data.as_ref()?.get(name)?;
    std::str::from_utf8(&value.0).ok().map(str::to_owned).filter(|text| !text.is_empty())
}

/// The certificate in a Secret, for no name yet.
pub(crate) fn certificate_of(input: &Input<'_>, key: &Key) -> Result<Certificate, String> {
    let place = format!("secret {:?} in namespace {:?}", key.name(), key.namespace());
    let secret = input.secrets.iter().find(|secret| Key::of(&***secret) == *key);
    let secret = secret.ok_or_else(|| format!("there is no {place}"))?;
    let field = |name: &str| text(secret, name).ok_or_else(|| format!("{place} has no {name}"));
    let (cert, secret_key) = (field(CERTIFICATE)?, field(PRIVATE_KEY)?);
    check_certificate(&cert, &secret_key)
        .map_err(|reason| format!("{place}: {CERTIFICATE} and {PRIVATE_KEY} cannot be used: {reason}"))?;
    Ok(Certificate {
        id: id_of(&secret.metadata, "certificates"),
        cert,
        key: secret_key,
        snis: Vec::new(),
        tags: tags(&secret.metadata, "Secret", ""),
    })
}

/// Authorities in PEM, in a ConfigMap or a Secret.
pub(crate) fn authorities_of(input: &Input<'_>, kind: &str, key: &Key) -> Result<String, String> {
    authority_of(input, kind, key).map(|found| found.cert)
}

/// An authority as an entity of its own; the object may say which id it has.
pub(crate) fn authority_of(input: &Input<'_>, kind: &str, key: &Key) -> Result<CaCertificate, String> {
    let place = format!("{kind} {:?} in namespace {:?}", key.name(), key.namespace());
    let missing = || format!("there is no {place}");
    let (meta, field): (&ObjectMeta, Field<'_>) = if kind == "ConfigMap" {
        let found = input.config_maps.iter().find(|map| Key::of(&***map) == *key).ok_or_else(missing)?;
        (&found.metadata, Box::new(|name| found.data.as_ref()?.get(name).cloned()))
    } else {
        let found = input.secrets.iter().find(|secret| Key::of(&***secret) == *key).ok_or_else(missing)?;
        (&found.metadata, Box::new(|name| text(found, name)))
    };
    let cert = AUTHORITY.iter().find_map(|name| field(name));
    let cert = cert.ok_or_else(|| format!("{place} has neither {}", AUTHORITY.join(" nor ")))?;
    read_certificates(&cert).map_err(|_| format!("{place} holds no certificate in PEM"))?;
    let id = field("id").unwrap_or_else(|| id_of(meta, "ca_certificates"));
    Ok(CaCertificate { id, cert, tags: tags(meta, kind, "") })
}

impl Building<'_> {
    /// Presents the certificate of a Secret for names that nobody has one for yet; gives its id.
    pub(crate) fn present(&mut self, certificate: Certificate, names: &[String]) -> String {
        let id = certificate.id.clone();
        let taken: Vec<String> = self.certificates.values().flat_map(|one| one.snis.clone()).collect();
        let entry = self.certificates.entry(id.clone()).or_insert(certificate);
        for name in names {
            if !taken.contains(name) && !entry.snis.contains(name) {
                entry.snis.push(name.clone());
            }
        }
        id
    }
}
