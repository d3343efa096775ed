//! BLAKE2b (RFC 7693) without a key, for digests of up to 64 bytes: annotation names carry four.

const IV: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

const BLOCK: usize = 128;

/// The digest of `data` with `N` bytes; `N` is at most 64.
pub(crate) fn digest<const N: usize>(data: &[u8]) -> [u8; N] {
    const { assert!(N >= 1 && N <= 64) };
    let mut state = IV;
    state[0] ^= 0x0101_0000 ^ N as u64;
    let mut blocks = data.chunks(BLOCK).peekable();
    let mut length: u128 = 0;
    loop {
        let block = blocks.next().unwrap_or_default();
        length += block.len() as u128;
        let last = blocks.peek().is_none();
        let mut padded = [0u8; BLOCK];
        padded[..block.len()].copy_from_slice(block);
        compress(&mut state, &padded, length, last);
        if last {
            break;
        }
    }
    let mut bytes = [0u8; 64];
    for (slot, word) in bytes.chunks_exact_mut(8).zip(state) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    let mut digest = [0u8; N];
    digest.copy_from_slice(&bytes[..N]);
    digest
}

fn compress(state: &mut [u64; 8], block: &[u8; BLOCK], length: u128, last: bool) {
    let mut message = [0u64; 16];
    for (word, bytes) in message.iter_mut().zip(block.chunks_exact(8)) {
        let mut eight = [0u8; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    let mut work = [0u64; 16];
    work[..8].copy_from_slice(state);
    work[8..].copy_from_slice(&IV);
    work[12] ^= length as u64;
    work[13] ^= (length >> 64) as u64;
    if last {
        work[14] = !work[14];
    }
    for round in 0..12 {
        let order = &SIGMA[round % SIGMA.len()];
        let columns_then_diagonals = [
            [0, 4, 8, 12],
            [1, 5, 9, 13],
            [2, 6, 10, 14],
            [3, 7, 11, 15],
            [0, 5, 10, 15],
            [1, 6, 11, 12],
            [2, 7, 8, 13],
            [3, 4, 9, 14],
        ];
        for (index, lane) in columns_then_diagonals.iter().enumerate() {
            mix(&mut work, *lane, message[order[2 * index]], message[order[2 * index + 1]]);
        }
    }
    for index in 0..8 {
        state[index] ^= work[index] ^ work[index + 8];
    }
}

fn mix(work: &mut [u64; 16], [a, b, c, d]: [usize; 4], x: u64, y: u64) {
    work[a] = work[a].wrapping_add(work[b]).wrapping_add(x);
    work[d] = (work[d] ^ work[a]).rotate_right(32);
    work[c] = work[c].wrapping_add(work[d]);
    work[b] = (work[b] ^ work[c]).rotate_right(24);
    work[a] = work[a].wrapping_add(work[b]).wrapping_add(y);
    work[d] = (work[d] ^ work[a]).rotate_right(16);
    work[c] = work[c].wrapping_add(work[d]);
    work[b] = (work[b] ^ work[c]).rotate_right(63);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        let digest: [u8; 64] = digest(b"abc");
        let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ba80a53f981c4d0d");
    }

    #[test]
    fn whole_blocks_and_their_neighbours_differ() {
        let data = [7u8; 2 * BLOCK + 1];
        let digests: std::collections::HashSet<[u8; 4]> =
            [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1]
                .map(|length| digest(&data[..length]))
                .into();
        assert_eq!(digests.len(), 7);
    }
}
