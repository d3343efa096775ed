//! Ids: how they look, and the ones that follow from an entity's name (RFC 9562, version 5).

use ring::digest;

/// The namespace of all entities.
const ENTITIES: [u8; 16] =
    [0xfd, 0x02, 0x80, 0x1f, 0x09, 0x57, 0x4a, 0x15, 0xa5, 0x5a, 0xc8, 0xd9, 0x60, 0x6f, 0x30, 0xb5];

/// Whether `text` has the form of a UUID.
pub fn is_uuid(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// The text of a UUID made of `bytes`, with its version and variant set.
pub(crate) fn uuid_text(bytes: [u8; 16], version: u8) -> String {
    let mut bytes = bytes;
    bytes[6] = (bytes[6] & 0x0f) | (version << 4);
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let mut out = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
    }
    out
}

fn version_5(namespace: &[u8; 16], name: &str) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(namespace);
    context.update(name.as_bytes());
    let hash = context.finish();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    bytes
}

/// The id of the entity that `key` names among those of `collection` (`services`, `routes` …).
pub fn entity_id(collection: &str, key: &str) -> String {
    uuid_text(version_5(&version_5(&ENTITIES, collection), key), 5)
}

/// What is kept of a basic-auth password: the hash Kong stores.
pub fn hash_basic_password(consumer_id: &str, password: &str) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(password.as_bytes());
    context.update(consumer_id.as_bytes());
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_names() {
        assert_eq!(entity_id("services", "foo"), "2933fbcc-9d7c-54a7-a984-fe2bde836cea");
        assert_eq!(entity_id("routes", "foo"), "fb94a9b8-3f5e-525c-b38d-61aa1cbaa69c");
        assert!(is_uuid("00000000-0000-0000-0000-000000000000") && !is_uuid("00000000_0000"));
    }

    #[test]
    fn passwords_are_hashed_with_their_consumer() {
        let hash = hash_basic_password("c", "p");
        assert_eq!(hash.len(), 40);
        assert_ne!(hash, hash_basic_password("d", "p"));
    }
}
