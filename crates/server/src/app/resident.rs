//! Memory that only the start has used.
#![expect(
    unsafe_code,
    reason = "it takes two thirds off the resident memory of an idle server: bench/run --modes start"
)]

use std::{fs, io, ops::Range, ptr, time::Duration};

use rustix::mm::{Advice, madvise};

/// The time after which tasks that the start has spawned are idle.
const SETTLED: Duration = Duration::from_secs(1);

/// Unmaps the code and the constants of the program and its libraries.
///
/// The start runs some of every part of the program, and the kernel maps 64 KiB around each page that it
/// touches: most of the program. It maps the pages that are needed again, from its page cache. Called after each phase of
/// the start, it keeps the most memory that the process ever has near what a running server has.
pub(crate) fn unmap_used_pages() {
    // Fails where /proc is missing.
    if let Err(error) = unmap() {
        tracing::debug!(%error, "failed to unmap pages of the start");
    }
}

/// Unmaps them after a second, too.
pub(super) async fn unmap_startup_pages() {
    tokio::time::sleep(SETTLED).await;
    unmap_used_pages();
}

fn unmap() -> io::Result<()> {
    for range in clean_mappings(&fs::read_to_string("/proc/self/smaps")?) {
        let start = ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the range is a private, read-only mapping of a file, without changed pages
        // (`Anonymous: 0 kB`). The next access reads the same bytes from the file.
        unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// Returns the read-only, private mappings of files without changed pages.
fn clean_mappings(smaps: &str) -> Vec<Range<usize>> {
    let mut mapping = None;
    let mut clean = Vec::new();
    for line in smaps.lines() {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        match name {
            "Anonymous:" if rest.trim() == "0 kB" => clean.extend(mapping.take()),
            _ if !name.ends_with(':') => mapping = file_mapping(name, rest),
            _ => {}
        }
    }
    clean
}

/// Parses `7f8a1000-7f8a2000 r-xp 00001000 fe:00 1234   /usr/bin/landfall`.
fn file_mapping(addresses: &str, rest: &str) -> Option<Range<usize>> {
    let mut fields = rest.split_ascii_whitespace();
    let is_private = matches!(fields.next()?, "r-xp" | "r--p");
    let is_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
    if !is_private || !is_file {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r-xp 00001000 fe:00 12                         /usr/bin/landfall
Rss:                   8 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
3000-4000 r-xp 00001000 fe:00 12                         /usr/bin/landfall
Anonymous:             4 kB
4000-5000 r--p 00003000 fe:00 12                         /usr/bin/landfall
Anonymous:             0 kB
5000-6000 rw-p 00003000 fe:00 12                         /usr/bin/landfall
Anonymous:             0 kB
6000-7000 r--s 00003000 fe:00 12                         /usr/bin/landfall
Anonymous:             0 kB
7000-8000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
8000-9000 r--p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_unchanged_private_files_are_unmapped() {
        assert_eq!(clean_mappings(SMAPS), [0x1000..0x3000, 0x4000..0x5000]);
        assert!(clean_mappings("").is_empty());
    }

    #[test]
    fn the_program_runs_on_without_its_pages() {
        let text = String::from("in memory");
        let resident = || {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("RssFile:"));
            let kib = line.unwrap().split_ascii_whitespace().nth(1).unwrap();
            kib.parse::<u64>().unwrap()
        };
        let before = resident();
        unmap().unwrap();
        let after = resident();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert_eq!(text, "in memory");
    }
}
