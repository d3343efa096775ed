//! Service account tokens: JSON web tokens (RFC 7519) signed with ES256, for accounts that exist.
//!
//! Invariant: a token is good only while its account, and the pod it is bound to, are the very ones it was made for.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use gantry_apimachinery::{Map, Value};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use sha2::{Digest, Sha256};

use crate::doors::UserInfo;
use crate::pki;
use crate::store::{ObjectKey, Store};

/// Who issues the tokens, and whom they are for unless they say otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";
/// Longer texts are no tokens of ours.
const TOKEN_MAX_BYTES: usize = 16 << 10;

/// The key that signs tokens.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
}

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the key that signs service account tokens: {0}")]
    Key(String),
}

/// What a token is made for.
pub(crate) struct Request<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
    pub(crate) account_uid: &'a str,
    /// Kind (`pod`, `secret`, `node`), name and uid of what the token ends with.
    pub(crate) bound_to: Option<(String, String, String)>,
    pub(crate) audiences: Vec<String>,
    pub(crate) id: String,
    pub(crate) now_seconds: i64,
    pub(crate) lifetime_seconds: i64,
}

impl Issuer {
    /// The key kept in `folder`, made if there is none; one that is forgotten where there is no folder.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Issuer, TokenError> {
        let error = |why: &dyn std::fmt::Display| TokenError::Key(why.to_string());
        let random = SystemRandom::new();
        let make = || -> Result<Vec<u8>, TokenError> {
            let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
                .map_err(|why| error(&why))?;
            Ok(document.as_ref().to_vec())
        };
        let document = match folder {
            None => make()?,
            Some(folder) => {
                let path = folder.join("service-account.key");
                match std::fs::read_to_string(&path) {
                    Ok(text) => BASE64_URL_SAFE_NO_PAD.decode(text.trim()).map_err(|why| error(&why))?,
                    Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
                        let document = make()?;
                        std::fs::create_dir_all(folder).map_err(|why| error(&why))?;
                        let text = BASE64_URL_SAFE_NO_PAD.encode(&document);
                        pki::write_private(&path, &text).map_err(|why| error(&why))?;
                        document
                    }
                    Err(why) => return Err(error(&format!("{}: {why}", path.display()))),
                }
            }
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &random)
            .map_err(|why| error(&why))?;
        let key_id = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(key.public_key().as_ref()));
        Ok(Issuer { key, random, key_id })
    }

    /// A signed token; `None` if signing failed.
    pub(crate) fn issue(&self, request: &Request<'_>) -> Option<String> {
        let mut header = Map::new();
        header.insert("alg", "ES256");
        header.insert("kid", self.key_id.as_str());
        let text = |text: &str| Value::from(text);
        let mut own = Value::object();
        *own.entry_at(&["namespace"]) = text(request.namespace);
        if let Some((kind, name, uid)) = &request.bound_to {
            *own.entry_at(&[kind, "name"]) = text(name);
            *own.entry_at(&[kind, "uid"]) = text(uid);
        }
        *own.entry_at(&["serviceaccount", "name"]) = text(request.account);
        *own.entry_at(&["serviceaccount", "uid"]) = text(request.account_uid);
        let mut claims = Map::new();
        claims.insert("aud", request.audiences.iter().map(|audience| text(audience)).collect::<Vec<_>>());
        claims.insert("exp", request.now_seconds + request.lifetime_seconds);
        claims.insert("iat", request.now_seconds);
        claims.insert("iss", ISSUER);
        claims.insert("jti", request.id.as_str());
        claims.insert("kubernetes.io", own);
        claims.insert("nbf", request.now_seconds);
        claims.insert("sub", format!("system:serviceaccount:{}:{}", request.namespace, request.account));
        let part = |map: Map| BASE64_URL_SAFE_NO_PAD.encode(crate::response::to_json(&map.into()));
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).ok()?;
        Some(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The user a token stands for, and for whom it was made.
    pub(crate) fn verify(
        &self,
        token: &str,
        store: &Store,
        now_seconds: i64,
    ) -> Option<(UserInfo, Vec<String>)> {
        if token.len() > TOKEN_MAX_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (_, claims) = signed.split_once('.')?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let seconds = |field: &str| claims.get(field).and_then(Value::as_i64);
        if claims.str_at(&["iss"]) != Some(ISSUER)
            || seconds("exp")? <= now_seconds
            || seconds("nbf")? > now_seconds
        {
            return None;
        }
        let audiences = claims.get("aud").and_then(Value::as_array)?;
        let audiences =
            audiences.iter().filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
        let own = claims.get("kubernetes.io")?;
        let namespace = own.str_at(&["namespace"])?;
        let account = own.str_at(&["serviceaccount", "name"])?;
        let uid = own.str_at(&["serviceaccount", "uid"])?;
        let is_same = |collection: &str, namespace: &str, name: &str, uid: &str| {
            let key = ObjectKey { namespace: namespace.into(), name: name.into() };
            let object = store.get(collection, &key);
            object.is_some_and(|object| object.value().str_at(&["metadata", "uid"]) == Some(uid))
        };
        if !is_same("/serviceaccounts", namespace, account, uid) {
            return None;
        }
        let mut extra = Vec::new();
        if let Some(id) = claims.str_at(&["jti"]) {
            extra.push(("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={id}")]));
        }
        for (kind, collection, scope) in
            [("pod", "/pods", namespace), ("secret", "/secrets", namespace), ("node", "/nodes", "")]
        {
            let Some(bound) = own.get(kind) else { continue };
            let (name, uid) = (bound.str_at(&["name"])?, bound.str_at(&["uid"])?);
            if !is_same(collection, scope, name, uid) {
                return None;
            }
            if kind == "pod" {
                extra.push(("authentication.kubernetes.io/pod-name".to_owned(), vec![name.to_owned()]));
                extra.push(("authentication.kubernetes.io/pod-uid".to_owned(), vec![uid.to_owned()]));
            }
        }
        let user = UserInfo {
            name: format!("system:serviceaccount:{namespace}:{account}"),
            uid: uid.to_owned(),
            groups: account_groups(namespace),
            extra,
        };
        Some((user, audiences))
    }

    /// The public key as a JSON web key set.
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: a byte that says so, then both coordinates.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..65).map_or((&[][..], &[][..]), |both| both.split_at(32));
        let mut key = Map::new();
        for (field, text) in [
            ("use", "sig".to_owned()),
            ("kty", "EC".to_owned()),
            ("kid", self.key_id.clone()),
            ("crv", "P-256".to_owned()),
            ("alg", "ES256".to_owned()),
            ("x", BASE64_URL_SAFE_NO_PAD.encode(x)),
            ("y", BASE64_URL_SAFE_NO_PAD.encode(y)),
        ] {
            key.insert(field, text);
        }
        let mut set = Map::new();
        set.insert("keys", vec![Value::from(key)]);
        set.into()
    }

    /// Where the key set is and what it signs with.
    pub(crate) fn configuration(&self) -> Value {
        let one = |text: &str| vec![Value::from(text)];
        let mut configuration = Map::new();
        configuration.insert("issuer", ISSUER);
        configuration.insert("jwks_uri", format!("{ISSUER}/openid/v1/jwks"));
        configuration.insert("response_types_supported", one("id_token"));
        configuration.insert("subject_types_supported", one("public"));
        configuration.insert("id_token_signing_alg_values_supported", one("ES256"));
        configuration.into()
    }
}

/// The groups of every service account of a namespace.
pub(crate) fn account_groups(namespace: &str) -> Vec<String> {
    vec![
        "system:serviceaccounts".into(),
        format!("system:serviceaccounts:{namespace}"),
        "system:authenticated".into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Change, Encoded, Expect, Write};

    #[tokio::test]
    async fn a_token_is_good_while_its_account_is_there() {
        let store = Store::ephemeral();
        let account: Value = serde_json::from_str(r#"{"metadata":{"name":"a","uid":"u1"}}"#).unwrap();
        let write = Write {
            collection: "/serviceaccounts".into(),
            key: ObjectKey { namespace: "ns".into(), name: "a".into() },
            expect: Expect::Absent,
            change: Change::Put(Encoded::new(&account)),
        };
        store.commit(write).await.unwrap();
        let issuer = Issuer::open(None).unwrap();
        let issue = |uid: &str| {
            issuer
                .issue(&Request {
                    namespace: "ns",
                    account: "a",
                    account_uid: uid,
                    bound_to: None,
                    audiences: vec![ISSUER.into()],
                    id: "j".into(),
                    now_seconds: 100,
                    lifetime_seconds: 600,
                })
                .unwrap()
        };
        let token = issue("u1");
        let (user, audiences) = issuer.verify(&token, &store, 200).unwrap();
        assert_eq!(user.name, "system:serviceaccount:ns:a");
        assert_eq!(audiences, [ISSUER]);
        assert!(issuer.verify(&token, &store, 700).is_none(), "expired");
        assert!(issuer.verify(&token, &store, 50).is_none(), "not yet");
        assert!(issuer.verify(&issue("u2"), &store, 200).is_none(), "another account of the name");
        assert!(Issuer::open(None).unwrap().verify(&token, &store, 200).is_none(), "another key");
        for broken in ["", ".", "a.b.c", &token[..token.len() - 2], &token.replace('.', "..")] {
            assert!(issuer.verify(broken, &store, 200).is_none(), "{broken}");
        }
    }
}
