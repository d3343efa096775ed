//! `jwt`: a consumer is whose key signed the token (RFC 7519, RFC 7515).

use super::settings::Settings;
use super::{Answer, Plugin, Request, authenticate, fall_back, query};
use crate::entities::JwtCredential;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gantry_kong_model::read_public_key;
use ring::{hmac, signature};
use serde_json::Value;

pub(crate) struct Jwt {
    uri_params: Vec<String>,
    cookies: Vec<String>,
    headers: Vec<String>,
    key_claim: String,
    is_base64: bool,
    claims: Vec<String>,
    anonymous: Option<String>,
    on_preflight: bool,
    max_expiration: f64,
    realm: Option<String>,
}

struct Token {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

fn decode(text: &str) -> Option<Token> {
    let mut parts = text.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let json = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?).ok()
    };
    Some(Token {
        header: json(header)?,
        claims: json(claims)?,
        signed: format!("{header}.{claims}"),
        signature: URL_SAFE_NO_PAD.decode(signature.trim_end_matches('=')).ok()?,
    })
}

/// `Ok(false)` when the signature is another one, an error when the credential cannot check it.
fn is_signed(
    token: &Token,
    algorithm: &str,
    credential: &JwtCredential,
    is_base64: bool,
) -> Result<bool, ()> {
    let message = token.signed.as_bytes();
    let hmac_algorithm = match algorithm {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    };
    if let Some(hmac_algorithm) = hmac_algorithm {
        let secret = credential.secret.as_deref().ok_or(())?;
        let secret =
            if is_base64 { STANDARD.decode(secret).map_err(|_| ())? } else { secret.as_bytes().to_vec() };
        let key = hmac::Key::new(hmac_algorithm, &secret);
        return Ok(hmac::verify(&key, message, &token.signature).is_ok());
    }
    let verifier: &dyn signature::VerificationAlgorithm = match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
        "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
        "EdDSA" => &signature::ED25519,
        _ => return Err(()),
    };
    let key = read_public_key(credential.rsa_public_key.as_deref().ok_or(())?).map_err(|_| ())?;
    let key = signature::UnparsedPublicKey::new(verifier, key);
    Ok(key.verify(message, &token.signature).is_ok())
}

impl Jwt {
    pub(crate) fn new(settings: &Settings<'_>) -> Jwt {
        Jwt {
            uri_params: settings.texts("uri_param_names").unwrap_or_else(|| vec!["jwt".to_owned()]),
            cookies: settings.texts("cookie_names").unwrap_or_default(),
            headers: settings.texts("header_names").unwrap_or_else(|| vec!["authorization".to_owned()]),
            key_claim: settings.text("key_claim_name").unwrap_or_else(|| "iss".to_owned()),
            is_base64: settings.flag("secret_is_base64", false),
            claims: settings.texts("claims_to_verify").unwrap_or_default(),
            anonymous: settings.text("anonymous"),
            on_preflight: settings.flag("run_on_preflight", true),
            max_expiration: settings.number("maximum_expiration").unwrap_or(0.0),
            realm: settings.text("realm"),
        }
    }

    fn tokens(&self, request: &Request<'_>) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut note = |token: String| {
            if !token.is_empty() && !found.contains(&token) {
                found.push(token);
            }
        };
        for name in &self.uri_params {
            query::values(request.query(), name).into_iter().for_each(&mut note);
        }
        for cookie in request.headers("cookie").iter().flat_map(|line| line.split(';')) {
            if let Some((name, value)) = cookie.trim().split_once('=')
                && self.cookies.iter().any(|known| known == name)
            {
                note(value.to_owned());
            }
        }
        for name in &self.headers {
            for value in request.headers(&name.to_ascii_lowercase()) {
                if let Some((scheme, token)) = value.trim().split_once(' ')
                    && scheme.eq_ignore_ascii_case("bearer")
                {
                    note(token.trim().to_owned());
                }
            }
        }
        found
    }

    fn refusal(&self, status: u16, message: &str) -> Answer {
        let realm =
            self.realm.as_ref().map_or("Bearer".to_owned(), |realm| format!("Bearer realm=\"{realm}\""));
        let challenge = match message {
            "Unauthorized" => realm,
            _ => format!("{realm}{} error=\"invalid_token\"", if self.realm.is_some() { "," } else { "" }),
        };
        Answer::error(status, message).with("WWW-Authenticate", challenge)
    }

    /// The credential that signed the request's token.
    fn verify(&self, request: &Request<'_>) -> Result<(String, String, String), Answer> {
        let mut tokens = self.tokens(request);
        let text = match (tokens.pop(), tokens.is_empty()) {
            (None, _) => return Err(self.refusal(401, "Unauthorized")),
            (Some(_), false) => return Err(self.refusal(401, "Multiple tokens provided")),
            (Some(text), true) => text,
        };
        let token = decode(&text).ok_or_else(|| self.refusal(401, "Bad token; invalid JSON"))?;
        let key = token.claims.get(&self.key_claim).or_else(|| token.header.get(&self.key_claim));
        let key = key.and_then(Value::as_str).filter(|key| !key.is_empty());
        let key =
            key.ok_or_else(|| self.refusal(401, &format!("No mandatory '{}' in claims", self.key_claim)))?;
        let credential = request.consumers.jwt(key).ok_or_else(|| {
            self.refusal(401, &format!("No credentials found for given '{}'", self.key_claim))
        })?;
        let algorithm = credential.algorithm.as_deref().unwrap_or("HS256");
        if token.header["alg"].as_str() != Some(algorithm) {
            return Err(self.refusal(401, "Invalid algorithm"));
        }
        match is_signed(&token, algorithm, credential, self.is_base64) {
            Ok(true) => {}
            Ok(false) => return Err(self.refusal(401, "Invalid signature")),
            Err(()) => return Err(self.refusal(401, "Invalid key/secret")),
        }
        let now = request.clock.now_ms() as f64 / 1_000.0;
        let must_expire = self.max_expiration > 0.0;
        for claim in &self.claims {
            let value = token.claims.get(claim).and_then(Value::as_f64);
            let message = match (claim.as_str(), value) {
                (_, None) => Some("must be a number"),
                ("exp", Some(at)) if at <= now => Some("token expired"),
                ("nbf", Some(at)) if at > now => Some("token not valid yet"),
                _ => None,
            };
            if let Some(message) = message {
                return Err(self.refusal(401, &format!("{{\\\"{claim}\\\":\\\"{message}\\\"}}")));
            }
        }
        if must_expire && token.claims["exp"].as_f64().unwrap_or(0.0) - now > self.max_expiration {
            return Err(self.refusal(403, "exceeds maximum allowed expiration"));
        }
        Ok((credential.consumer.clone(), credential.id.clone(), credential.key.clone()))
    }
}

impl Plugin for Jwt {
    fn access(&self, request: &mut Request<'_>) -> Result<(), Answer> {
        if !self.on_preflight && request.method() == "OPTIONS" {
            return Ok(());
        }
        if self.anonymous.is_some() && request.identity.credential.is_some() {
            return Ok(());
        }
        match self.verify(request) {
            Ok((consumer, credential, key)) => {
                authenticate(request, &consumer, &credential, &key);
                Ok(())
            }
            Err(refusal) => fall_back(request, self.anonymous.as_deref(), refusal),
        }
    }
}
