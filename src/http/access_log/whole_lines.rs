//! Writes whole lines only: a disk that fills up accepts only a part of a write.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};

/// The error of a write that did not write all lines.
#[derive(Debug)]
pub(super) struct IncompleteWrite {
    pub error: io::Error,
    /// lines that are not in the file
    pub lost: usize,
    /// the file ends in half a line, which could not be removed
    pub(super) is_mid_line: bool,
}

/// Appends whole lines to a file that was opened to append.
pub fn write(file: &mut File, lines: &str) -> Result<(), IncompleteWrite> {
    let bytes = lines.as_bytes();
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return Err(incomplete(file, bytes, written, io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(incomplete(file, bytes, written, error)),
        }
    }
    Ok(())
}

fn incomplete(file: &mut File, bytes: &[u8], written: usize, error: io::Error) -> IncompleteWrite {
    let (done, _) = bytes.split_at(written.min(bytes.len()));
    let whole = memchr::memrchr(b'\n', done).map_or(0, |end| end + 1);
    let half = u64::try_from(done.len() - whole).unwrap_or_default();
    let lost = memchr::memchr_iter(b'\n', bytes.get(whole..).unwrap_or_default()).count();
    IncompleteWrite { error, lost, is_mid_line: half > 0 && !cut_back(file, half) }
}

/// Removes the bytes that were appended last, unless another process has appended more. Returns whether it did.
fn cut_back(file: &mut File, bytes: u64) -> bool {
    let (Ok(end), Ok(metadata)) = (file.stream_position(), file.metadata()) else { return false };
    let is_last = metadata.is_file() && metadata.len() == end;
    is_last && end.checked_sub(bytes).is_some_and(|end| file.set_len(end).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_full_loses_every_line() {
        let mut file = std::fs::OpenOptions::new().append(true).open("/dev/full").unwrap();
        let incomplete = write(&mut file, "one\ntwo\n").unwrap_err();
        assert_eq!((incomplete.lost, incomplete.is_mid_line), (2, false));
        assert_eq!(incomplete.error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn only_a_trailing_partial_line_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let open = || std::fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let error = || io::Error::from(io::ErrorKind::StorageFull);
        let (mut file, lines) = (open(), b"one\ntwo\nthree\n");
        file.write_all(b"one\ntw").unwrap();
        let stopped = incomplete(&mut file, lines, 6, error());
        assert_eq!((stopped.lost, stopped.is_mid_line), (2, false));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
        file.write_all(b"tw").unwrap();
        open().write_all(b"another\n").unwrap();
        let stopped = incomplete(&mut file, b"two\n", 2, error());
        assert_eq!((stopped.lost, stopped.is_mid_line), (1, true));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwanother\n");
    }
}
