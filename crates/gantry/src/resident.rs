//! Gives the code that only a start needs back to the kernel, so that a server at rest holds what it uses.
//!
//! A start touches most of the binary once, and the kernel keeps those pages mapped (and counted as resident) for as long
//! as nobody needs the memory. They are clean pages of a file: taken out of the map, they come back by themselves with the
//! next use, a page fault each. Invariant: no mapping is touched that could have been written to.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::mm::{Advice, madvise};

/// When: a quick start is over at the first, a slow one at the second.
const AFTER: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(13)];

/// One whole mapping of the binary that the kernel can read again from the file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: usize,
    length: usize,
}

/// Begins to wait for the end of the start, on a thread of its own. Failures are of no consequence: the pages stay.
pub(crate) fn give_back_after_the_start() {
    let _ = std::thread::Builder::new().name("start-code".to_owned()).stack_size(256 * 1024).spawn(|| {
        for wait in AFTER {
            std::thread::sleep(wait);
            if give_back().is_err() {
                return;
            }
        }
    });
}

fn give_back() -> io::Result<()> {
    let binary = std::fs::read_link("/proc/self/exe")?;
    for mapping in unwritten(&std::fs::read_to_string("/proc/self/smaps")?, &binary) {
        drop_pages(&mapping)?;
    }
    Ok(())
}

#[allow(unsafe_code)]
fn drop_pages(mapping: &Mapping) -> io::Result<()> {
    // SAFETY: the range is one mapping of this program's own file, read-only, and no page of it is a private copy; what is
    // dropped is read again from the same file, which the kernel does not let anyone write while it is executed.
    unsafe {
        madvise(std::ptr::without_provenance_mut(mapping.start), mapping.length, Advice::LinuxDontNeed)
    }?;
    Ok(())
}

/// The mappings of `binary` in a text of /proc/PID/smaps that are its code or lie at its very beginning (read-only data),
/// cannot be written, and have no page of their own (a file that was just built has dirty pages, which are not that). Pages of relocated data are copies: they are never among these.
fn unwritten(smaps: &str, binary: &Path) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut current: Option<Mapping> = None;
    for line in smaps.lines() {
        if let Some(head) = head(line) {
            found.extend(current.take());
            let code = head.permissions == "r-xp";
            let first = head.permissions == "r--p" && head.offset == 0;
            if Path::new(head.path) == binary && (code || first) {
                current = Some(Mapping { start: head.start, length: head.end - head.start });
            }
        } else if let Some(("Anonymous" | "Swap", size)) = line.split_once(':')
            && size.trim() != "0 kB"
        {
            current = None;
        }
    }
    found.extend(current);
    found
}

struct Head<'a> {
    start: usize,
    end: usize,
    permissions: &'a str,
    offset: u64,
    path: &'a str,
}

/// `55d0…-55d1… r-xp 01a2b000 fe:00 1234   /path with spaces`
fn head(line: &str) -> Option<Head<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let mut rest = rest.splitn(5, ' ');
    let permissions = rest.next()?;
    let offset = u64::from_str_radix(rest.next()?, 16).ok()?;
    let path = rest.nth(2)?.trim_start();
    (end > start).then_some(Head { start, end, permissions, offset, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
00400000-00500000 r--p 00000000 fe:00 12                         /opt/a tool/gantry
Private_Dirty:         0 kB
Anonymous:             0 kB
Swap:                  0 kB
00500000-02500000 r-xp 000ff000 fe:00 12                         /opt/a tool/gantry
Private_Dirty:         0 kB
Anonymous:             0 kB
Swap:                  0 kB
02500000-02600000 r--p 020ff000 fe:00 12                         /opt/a tool/gantry
Private_Dirty:       900 kB
Anonymous:           900 kB
Swap:                  0 kB
02600000-02601000 rw-p 021ff000 fe:00 12                         /opt/a tool/gantry
Private_Dirty:         0 kB
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00026000 fe:00 13                 /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000200000-7f0000201000 r-xp 00000000 00:00 0                  [vdso]
";

    #[test]
    fn only_code_and_constants_of_the_binary_are_given_back() {
        let mappings = unwritten(SMAPS, Path::new("/opt/a tool/gantry"));
        let expected = [
            Mapping { start: 0x40_0000, length: 0x10_0000 },
            Mapping { start: 0x50_0000, length: 0x200_0000 },
        ];
        assert_eq!(mappings, expected);
    }

    #[test]
    fn a_mapping_with_a_page_of_its_own_stays() {
        for field in ["Anonymous", "Swap"] {
            let written = SMAPS.replacen(
                &format!("{field}:             0 kB"),
                &format!("{field}:             4 kB"),
                1,
            );
            let written =
                written.replacen(&format!("{field}:         0 kB"), &format!("{field}:         4 kB"), 1);
            let written = written.replacen(
                &format!("{field}:                  0 kB"),
                &format!("{field}:                  4 kB"),
                1,
            );
            let mappings = unwritten(&written, Path::new("/opt/a tool/gantry"));
            assert!(
                !mappings.contains(&Mapping { start: 0x40_0000, length: 0x10_0000 }),
                "{field}: {mappings:?}"
            );
        }
    }

    #[test]
    fn a_process_runs_on_after_it_gave_its_code_back() {
        let resident = || {
            let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let binary = std::fs::read_link("/proc/self/exe").unwrap();
            assert!(!unwritten(&smaps, &binary).is_empty(), "the code of this process is not in its own map");
            let mut of_binary = false;
            let mut kilobytes = 0;
            for line in smaps.lines() {
                if let Some(head) = head(line) {
                    of_binary = Path::new(head.path) == binary && head.permissions == "r-xp";
                } else if let Some(size) = line.strip_prefix("Rss:").filter(|_| of_binary) {
                    kilobytes += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                }
            }
            kilobytes
        };
        let _ = crate::cli::run(["gantry", "--version"].map(Into::into).to_vec());
        let before = resident();
        give_back().unwrap();
        let after = resident();
        assert!(after < before, "{before} kB of code were resident, and {after} kB afterwards");
    }
}
