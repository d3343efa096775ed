//! Numbers of variable length in a bit stream, as histogram chunks use them (`docs/chunk-histogram.md`).

use crate::bits::{BitReader, BitWriter};

/// Bits of the number for each length of the prefix, which is as many ones and a zero.
const BITS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Whether `value` is in the (upwards skewed) range that the format gives to `bits` bits.
fn fits(value: i64, bits: u32) -> bool {
    let half = 1i64 << (bits - 1);
    -(half - 1) <= value && value <= half
}

fn put(out: &mut BitWriter, class: Option<usize>, value: u64) {
    match class {
        Some(class) => {
            let ones = class as u32 + 1;
            out.write_bits(((1u64 << ones) - 1) << 1, ones + 1);
            out.write_bits(value, BITS[class]);
        }
        None => {
            out.write_bits(0xff, 8);
            out.write_bits(value, 64);
        }
    }
}

pub(super) fn put_int(out: &mut BitWriter, value: i64) {
    if value == 0 {
        return out.write_bit(false);
    }
    put(out, BITS.iter().position(|bits| fits(value, *bits)), value as u64);
}

pub(super) fn put_uint(out: &mut BitWriter, value: u64) {
    if value == 0 {
        return out.write_bit(false);
    }
    put(out, BITS.iter().position(|bits| value >> bits == 0), value);
}

/// The number's bits and how many there are; 0 bits stand for the number 0.
fn get(input: &mut BitReader<'_>) -> Option<(u64, u32)> {
    let mut ones = 0;
    while ones < 8 && input.read_bit()? {
        ones += 1;
    }
    let bits = match ones {
        0 => 0,
        8 => 64,
        ones => BITS[ones as usize - 1],
    };
    Some((input.read_bits(bits)?, bits))
}

pub(super) fn get_uint(input: &mut BitReader<'_>) -> Option<u64> {
    get(input).map(|(value, _)| value)
}

pub(super) fn get_int(input: &mut BitReader<'_>) -> Option<i64> {
    let (value, bits) = get(input)?;
    if bits == 0 || bits == 64 || value <= 1 << (bits - 1) {
        return Some(value as i64);
    }
    Some(value as i64 - (1 << bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_comes_back() {
        let mut numbers = vec![0i64, 1, -1, i64::MAX, i64::MIN];
        for shift in 0..63 {
            for around in -1..=1 {
                numbers.extend([(1i64 << shift) + around, -(1i64 << shift) + around]);
            }
        }
        let mut out = BitWriter::default();
        for number in &numbers {
            put_int(&mut out, *number);
            put_uint(&mut out, *number as u64);
        }
        let mut input = BitReader::new(out.bytes());
        for number in &numbers {
            assert_eq!(get_int(&mut input), Some(*number));
            assert_eq!(get_uint(&mut input), Some(*number as u64));
        }
        assert_eq!(get_int(&mut BitReader::new(&[0xff])), None);
    }
}
