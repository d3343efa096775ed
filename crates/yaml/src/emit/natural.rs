//! The order of keys in go-yaml v2: numbers inside keys count as numbers.

use std::cmp::Ordering;

/// The entries in natural order.
///
/// The comparison is not a total order for every set of keys, so this is a merge sort that cannot be upset by that.
pub(super) fn sorted<'a, T>(entries: &[(&'a str, &'a T)]) -> Vec<(&'a str, &'a T)> {
    let mut entries = entries.to_vec();
    let mut width = 1;
    while width < entries.len() {
        let mut merged = Vec::with_capacity(entries.len());
        for pair in entries.chunks(2 * width) {
            let (mut left, mut right) = pair.split_at(width.min(pair.len()));
            while let (Some(a), Some(b)) = (left.first(), right.first()) {
                if compare(b.0, a.0) == Ordering::Less {
                    merged.push(*b);
                    right = &right[1..];
                } else {
                    merged.push(*a);
                    left = &left[1..];
                }
            }
            merged.extend_from_slice(left);
            merged.extend_from_slice(right);
        }
        entries = merged;
        width *= 2;
    }
    entries
}

/// At the first difference: two letters by code point, a letter after anything else, digits by the number they form.
fn compare(a: &str, b: &str) -> Ordering {
    let common = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    if common == a.len() || common == b.len() {
        return a.len().cmp(&b.len());
    }
    // Step back to the start of a character that only begins alike.
    let start = (0..=common).rev().find(|&i| a.is_char_boundary(i) && b.is_char_boundary(i)).unwrap_or(0);
    let (rest_a, rest_b) = (&a[start..], &b[start..]);
    let (Some(first_a), Some(first_b)) = (rest_a.chars().next(), rest_b.chars().next()) else {
        return a.len().cmp(&b.len());
    };
    match (first_a.is_alphabetic(), first_b.is_alphabetic()) {
        (true, true) => return first_a.cmp(&first_b),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    // A zero inside a number counts: 10 comes after 1.
    let inside_number = (first_a == '0' || first_b == '0')
        && a[..start].bytes().rev().take_while(u8::is_ascii_digit).any(|digit| digit != b'0');
    let lead = i64::from(inside_number);
    let (number_a, length_a) = number(rest_a, lead);
    let (number_b, length_b) = number(rest_b, lead);
    number_a.cmp(&number_b).then(length_a.cmp(&length_b)).then(first_a.cmp(&first_b))
}

/// The number that the leading digits form after `lead`, wrapping as Go's does, and how many there are.
fn number(text: &str, lead: i64) -> (i64, usize) {
    let digits = text.bytes().take_while(u8::is_ascii_digit);
    digits.fold((lead, 0), |(number, length), digit| {
        (number.wrapping_mul(10).wrapping_add(i64::from(digit - b'0')), length + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::sorted;

    #[test]
    fn numbers_in_keys_count() {
        let keys = ["f10", "f2", "f1", "é", "k1a", "k12", "B", "a", "A", "1", "_", "f", "x01", "x1", "_y"];
        let entries: Vec<(&str, &())> = keys.iter().map(|key| (*key, &())).collect();
        let order: Vec<&str> = sorted(&entries).into_iter().map(|(key, ())| key).collect();
        assert_eq!(
            order,
            ["_", "_y", "1", "A", "B", "a", "f", "f1", "f2", "f10", "k12", "k1a", "x1", "x01", "é"]
        );
    }
}
