//! A radix tree over byte prefixes: all stored prefixes of a path are found in one walk of it.

/// Prefixes with the entries that want them.
#[derive(Debug, Default)]
pub(crate) struct Radix {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    label: Box<[u8]>,
    values: Vec<u32>,
    /// Ordered by the first byte of their labels, which differ.
    children: Vec<Node>,
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

impl Radix {
    pub(crate) fn insert(&mut self, prefix: &[u8], value: u32) {
        let mut node = &mut self.root;
        let mut rest = prefix;
        while let Some(&first) = rest.first() {
            let slot = node.children.binary_search_by_key(&first, |child| child.label[0]);
            let at = match slot {
                Ok(at) => at,
                Err(at) => {
                    let leaf = Node { label: rest.into(), values: vec![value], children: Vec::new() };
                    node.children.insert(at, leaf);
                    return;
                }
            };
            let child = &mut node.children[at];
            let shared = common_length(&child.label, rest);
            if shared < child.label.len() {
                let lower = Node {
                    label: child.label[shared..].into(),
                    values: std::mem::take(&mut child.values),
                    children: std::mem::take(&mut child.children),
                };
                child.label = child.label[..shared].into();
                child.children.push(lower);
            }
            rest = &rest[shared..];
            node = &mut node.children[at];
        }
        node.values.push(value);
    }

    /// Calls `found` with every value whose prefix begins `path`, shorter prefixes first.
    pub(crate) fn walk(&self, path: &[u8], mut found: impl FnMut(u32)) {
        let mut node = &self.root;
        let mut rest = path;
        loop {
            for &value in &node.values {
                found(value);
            }
            let Some(&first) = rest.first() else { return };
            let Ok(at) = node.children.binary_search_by_key(&first, |child| child.label[0]) else { return };
            let child = &node.children[at];
            match rest.strip_prefix(&child.label[..]) {
                Some(after) => rest = after,
                None => return,
            }
            node = child;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stored_prefix_of_the_path_is_found_and_nothing_else() {
        let stored = ["", "/", "/a", "/ab", "/abc/d", "/abd", "/b", "/a"];
        let mut radix = Radix::default();
        for (i, prefix) in stored.iter().enumerate() {
            radix.insert(prefix.as_bytes(), i as u32);
        }
        for path in ["", "/", "/a", "/ab", "/abc", "/abc/d/e", "/abd", "/abx", "/c", "x", "/b/a"] {
            let mut found = Vec::new();
            radix.walk(path.as_bytes(), |value| found.push(value));
            found.sort_unstable();
            let wanted: Vec<u32> = stored
                .iter()
                .enumerate()
                .filter(|(_, prefix)| path.starts_with(*prefix))
                .map(|(i, _)| i as u32)
                .collect();
            assert_eq!(found, wanted, "{path}");
        }
    }
}
