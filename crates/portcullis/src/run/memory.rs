//! Gives back the program's own pages that only the start needed.
//!
//! Starting touches most of the program once: every schema, every plugin's configuration, the database. The kernel maps 64 KiB
//! around each place that runs, so an idle node would show some 10 MiB of code that never runs again. Once it serves, those
//! mappings are dropped; what runs after that comes back from the page cache at a minor fault per 64 KiB.

use std::ffi::c_void;
use std::fs;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Drops the mappings of the program's code. Nothing happens where the system doesn't say where the code lies.
pub fn give_back_code() {
    let (Ok(maps), Ok(program)) = (fs::read_to_string("/proc/self/maps"), fs::read_link("/proc/self/exe")) else { return };
    for range in maps.lines().filter_map(|line| code_of(line, &program.to_string_lossy())) {
        drop_mapping(range);
    }
}

/// The addresses of a line of `/proc/self/maps` when it is code of this program: mapped from its file, private, never writable.
fn code_of(line: &str, program: &str) -> Option<Range<usize>> {
    // "55d0-55e0 r-xp 00001000 fe:00 1234    /usr/bin/portcullis" (proc_pid_maps(5))
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (permissions, _offset, _device, _inode) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let path = line.find('/').map(|at| &line[at..])?;
    (permissions == "r-xp" && path == program)
        .then(|| Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?))
        .flatten()
}

#[expect(unsafe_code, reason = "madvise takes addresses; see the proof inside")]
fn drop_mapping(range: Range<usize>) {
    let start = std::ptr::without_provenance_mut::<c_void>(range.start);
    // SAFETY: `range` is one of this process's own mappings, private, of the program's file and not writable (code_of), so no page
    // of it differs from the file. After MADV_DONTNEED (madvise(2)) such a page is read from the file again when it is next used:
    // no memory that Rust knows of changes its contents. A failure leaves everything as it was.
    let _ = unsafe { madvise(start, range.end - range.start, Advice::LinuxDontNeed) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_counts() {
        let line = |permissions: &str, path: &str| format!("1000-3000 {permissions} 00001000 fe:00 1234    {path}");
        assert_eq!(code_of(&line("r-xp", "/opt/a b/gateway"), "/opt/a b/gateway"), Some(0x1000..0x3000));
        assert_eq!(code_of(&line("rw-p", "/opt/gateway"), "/opt/gateway"), None);
        assert_eq!(code_of(&line("rwxp", "/opt/gateway"), "/opt/gateway"), None);
        assert_eq!(code_of(&line("r-xp", "/usr/lib/libc.so.6"), "/opt/gateway"), None);
        assert_eq!(code_of("1000-3000 r-xp 00000000 00:00 0    [vdso]", "/opt/gateway"), None);
        assert_eq!(code_of("what", "/opt/gateway"), None);
    }

    #[test]
    fn code_that_was_given_back_runs_on() {
        let program = fs::read_link("/proc/self/exe").expect("a Linux process");
        let resident = || {
            let maps = fs::read_to_string("/proc/self/smaps").expect("a Linux process");
            let mut lines = maps.lines().skip_while(|line| code_of(line, &program.to_string_lossy()).is_none());
            let line = lines.find(|line| line.starts_with("Rss:")).expect("a resident size");
            line.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number")
        };
        // Something big runs first, so that there is code to give back.
        let schema = serde_json::from_str::<serde_json::Value>(r#"{"a": [1, {"b": null}]}"#).expect("JSON");
        let before = resident();
        give_back_code();
        assert!(resident() < before, "{before} KiB of code were resident and as many are");
        assert_eq!(schema.to_string(), r#"{"a":[1,{"b":null}]}"#);
    }
}
