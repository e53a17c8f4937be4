//! Reading a log: its last lines, and whatever is added from then on.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use eeveon_core::Untrusted;

use super::{MAX_LINE_BYTES, rotated};

/// How much one call of [`LogReader::poll`] reads at most, in bytes.
const POLL_BYTES: usize = 256 * 1024;

/// Returns the last `lines` lines of a log; none when there is no log.
///
/// # Errors
///
/// The log cannot be read.
pub fn tail(path: &Path, lines: usize) -> io::Result<Vec<Untrusted>> {
    let (mut last, reader) = LogReader::after_tail(path, lines)?;
    last.extend(reader.finish());
    let surplus = last.len().saturating_sub(lines);
    Ok(last.split_off(surplus))
}

/// Follows a log while it is written, also from one file to the next.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// The file being read; absent until there is one.
    file: Option<File>,
    /// The begun line.
    lines: Lines,
}

impl LogReader {
    /// Begins with the oldest line there is. The log need not exist yet.
    pub fn from_start(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, lines: Lines::default() }
    }

    /// Returns the last `lines` whole lines and a reader that goes on behind them.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn after_tail(path: &Path, lines: usize) -> io::Result<(Vec<Untrusted>, Self)> {
        let want = lines.saturating_add(1).saturating_mul(MAX_LINE_BYTES);
        let mut bytes = Vec::new();
        let mut file = open(path)?;
        let mut whole = true;
        if let Some(file) = &mut file {
            whole = read_last(file, want, &mut bytes)?;
        }
        if whole && let Some(mut older) = open(&rotated(path))? {
            let mut before = Vec::new();
            whole = read_last(&mut older, want.saturating_sub(bytes.len()), &mut before)?;
            before.append(&mut bytes);
            bytes = before;
        }
        if !whole {
            // What precedes the first line break is the end of a line, not a line.
            let begin = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
            bytes.drain(..begin);
        }
        let mut reader = Self { path: path.to_owned(), file, lines: Lines::default() };
        let mut last = Vec::new();
        reader.lines.split(&bytes, &mut last);
        let surplus = last.len().saturating_sub(lines);
        Ok((last.split_off(surplus), reader))
    }

    /// Returns the whole lines added since the last call, as many as fit a bounded buffer: call
    /// again at once until it returns none.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn poll(&mut self) -> io::Result<Vec<Untrusted>> {
        let mut found = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut budget = POLL_BYTES;
        while budget > 0 {
            let Some(file) = &mut self.file else {
                self.file = match open(&rotated(&self.path))? {
                    None => open(&self.path)?,
                    older => older,
                };
                match self.file {
                    Some(_) => continue,
                    None => break,
                }
            };
            // Asked before reading: what is no longer current grows no more, so that its end is final.
            let current = is_current(file, &self.path)?;
            let count = match file.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            };
            self.lines.split(buffer.get(..count).unwrap_or_default(), &mut found);
            budget = budget.saturating_sub(count);
            match count {
                0 if current => break,
                0 => self.file = self.next()?,
                _ => (),
            }
        }
        Ok(found)
    }

    /// Returns the line that was begun and never ended, if there is one.
    pub fn finish(self) -> Option<Untrusted> {
        (!self.lines.begun.is_empty()).then(|| shown(&self.lines.begun))
    }

    /// Opens the file that follows the complete one.
    fn next(&self) -> io::Result<Option<File>> {
        let older = rotated(&self.path);
        match &self.file {
            // Rotated twice since the last call: what came between is still there.
            Some(file) if !is_current(file, &older)? => open(&older),
            _ => open(&self.path),
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Tells whether `file` is what `path` names. So it is when there is nothing of that name: in the
/// midst of a rotation the next look sees more.
fn is_current(file: &File, path: &Path) -> io::Result<bool> {
    let named = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    let held = file.metadata()?;
    Ok((held.dev(), held.ino()) == (named.dev(), named.ino()))
}

/// Reads the last `want` bytes up to the end; tells whether that is all there is.
fn read_last(file: &mut File, want: usize, into: &mut Vec<u8>) -> io::Result<bool> {
    let size = file.metadata()?.len();
    let begin = size.saturating_sub(want as u64);
    file.seek(SeekFrom::Start(begin))?;
    // What is added meanwhile is left to the next call.
    file.by_ref().take(size.saturating_sub(begin)).read_to_end(into)?;
    Ok(begin == 0)
}

/// Cuts bytes into lines and keeps the one that has only begun.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn split(&mut self, bytes: &[u8], into: &mut Vec<Untrusted>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ended) = match piece {
                [content @ .., b'\n'] => (content, true),
                content => (content, false),
            };
            let mut content = content;
            while !content.is_empty() {
                let room = MAX_LINE_BYTES.saturating_sub(self.begun.len());
                let (fits, rest) = content.split_at(room.min(content.len()));
                self.begun.extend_from_slice(fits);
                content = rest;
                if !content.is_empty() {
                    into.push(shown(&self.begun));
                    self.begun.clear();
                }
            }
            if ended {
                into.push(shown(&self.begun));
                self.begun.clear();
            }
        }
    }
}

/// Returns what a terminal would leave of the line: a carriage return begins it anew, which is how
/// programs draw progress.
fn shown(line: &[u8]) -> Untrusted {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Untrusted::from_bytes(line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use eeveon_core::{DeploymentId, StepKey};

    use super::*;
    use crate::log::{LogWriter, StepLog};

    fn log() -> (tempfile::TempDir, StepLog) {
        let folder = tempfile::tempdir().unwrap();
        let log = StepLog::new(folder.path(), DeploymentId(1), &StepKey::new("build/local"));
        (folder, log)
    }

    fn text(lines: &[Untrusted]) -> Vec<&str> {
        lines.iter().map(Untrusted::as_raw).collect()
    }

    fn all(reader: &mut LogReader) -> Vec<Untrusted> {
        let mut found = Vec::new();
        loop {
            let more = reader.poll().unwrap();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    #[test]
    fn the_tail_is_the_last_lines_whole_or_not() {
        let (_folder, log) = log();
        assert!(tail(&log.path(), 3).unwrap().is_empty(), "there is no log yet");
        let mut writer = LogWriter::open(&log, 1000).unwrap();
        writer.write(b"one\ntwo\n\nfour\r\n10%\r55%\r100%\nlast").unwrap();
        assert_eq!(text(&tail(&log.path(), 3).unwrap()), ["four", "100%", "last"]);
        assert_eq!(text(&tail(&log.path(), 99).unwrap()), ["one", "two", "", "four", "100%", "last"]);
        assert!(tail(&log.path(), 0).unwrap().is_empty());
    }

    #[test]
    fn the_tail_reaches_back_over_a_rotation() {
        let (_folder, log) = log();
        let mut writer = LogWriter::open(&log, 10).unwrap();
        for n in 0..9 {
            writer.write(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(text(&tail(&log.path(), 9).unwrap()), ["line 7", "line 8"]);
    }

    #[test]
    fn the_tail_of_a_long_log_begins_with_a_whole_line() {
        let (_folder, log) = log();
        let mut writer = LogWriter::open(&log, u64::MAX).unwrap();
        for n in 0..20_000 {
            writer.write(format!("line {n}\n").as_bytes()).unwrap();
        }
        let found = tail(&log.path(), 2).unwrap();
        assert_eq!(text(&found), ["line 19998", "line 19999"]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces() {
        let (_folder, log) = log();
        let mut writer = LogWriter::open(&log, u64::MAX).unwrap();
        writer.write(&vec![b'x'; 2 * MAX_LINE_BYTES + 5]).unwrap();
        writer.write(b"\n").unwrap();
        let mut reader = LogReader::from_start(&log.path());
        let lengths: Vec<_> = all(&mut reader).iter().map(|line| line.as_raw().len()).collect();
        assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 5]);
        assert!(reader.finish().is_none());
    }

    #[test]
    fn a_line_of_just_the_limit_is_one_line() {
        let mut lines = (Lines::default(), Vec::new());
        lines.0.split(&[vec![b'x'; MAX_LINE_BYTES], b"\ny\n".to_vec()].concat(), &mut lines.1);
        assert_eq!(lines.1.len(), 2);
    }

    #[test]
    fn following_misses_nothing_over_rotations() {
        let (_folder, log) = log();
        let mut reader = LogReader::from_start(&log.path());
        assert!(reader.poll().unwrap().is_empty(), "there is no log yet");
        let mut writer = LogWriter::open(&log, 30).unwrap();
        let mut found = Vec::new();
        for n in 0..50 {
            // Cut in mid-line, so that halves come to lie in different files.
            writer.write(format!("{n} be").as_bytes()).unwrap();
            // Between two looks the log is rotated once, or twice.
            if n % 4 == 0 {
                found.extend(all(&mut reader));
            }
            writer.write(format!("gun {n}\n").as_bytes()).unwrap();
        }
        found.extend(all(&mut reader));
        let expected: Vec<_> = (0..50).map(|n| format!("{n} begun {n}")).collect();
        assert_eq!(text(&found), expected);
    }

    #[test]
    fn following_goes_on_behind_the_tail() {
        let (_folder, log) = log();
        let mut writer = LogWriter::open(&log, 1000).unwrap();
        writer.write(b"a\nb\nc").unwrap();
        let (last, mut reader) = LogReader::after_tail(&log.path(), 1).unwrap();
        assert_eq!(text(&last), ["b"]);
        writer.write(b"c\nd").unwrap();
        assert_eq!(text(&all(&mut reader)), ["cc"]);
        assert_eq!(reader.finish().unwrap().as_raw(), "d");
    }

    #[test]
    fn logs_are_private_and_bounded() {
        let (folder, log) = log();
        let mut writer = LogWriter::open(&log, 1000).unwrap();
        for _ in 0..100 {
            writer.write(&[b'x'; 99]).unwrap();
        }
        drop(writer);
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&folder.path().join("1")), 0o700);
        let files: Vec<_> =
            fs::read_dir(folder.path().join("1")).unwrap().map(|it| it.unwrap().path()).collect();
        assert_eq!(files.len(), 2);
        for file in &files {
            assert_eq!(mode(file), 0o600);
            assert!(fs::metadata(file).unwrap().len() <= 1000);
        }
        // A later attempt adds to what is there, and keeps to the bound.
        let mut writer = LogWriter::open(&log, 1000).unwrap();
        writer.write(&[b'y'; 99]).unwrap();
        writer.note("a note").unwrap();
        assert_eq!(text(&tail(&log.path(), 1).unwrap()), ["eeveon: a note"]);
    }

    #[test]
    fn bytes_of_any_kind_are_kept_and_made_harmless() {
        let (_folder, log) = log();
        let mut writer = LogWriter::open(&log, 1000).unwrap();
        writer.write(b"\x1b]0;x\x07 \xff\xfe\n").unwrap();
        assert_eq!(fs::read(log.path()).unwrap(), b"\x1b]0;x\x07 \xff\xfe\n");
        let line = tail(&log.path(), 1).unwrap().remove(0).for_terminal();
        assert!(!line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn a_log_cut_short_by_hand_does_no_harm() {
        let (_folder, log) = log();
        let mut writer = LogWriter::open(&log, 1000).unwrap();
        writer.write(b"a\n").unwrap();
        let mut reader = LogReader::from_start(&log.path());
        assert_eq!(text(&all(&mut reader)), ["a"]);
        OpenOptions::new().write(true).truncate(true).open(log.path()).unwrap().write_all(b"").unwrap();
        assert!(reader.poll().unwrap().is_empty());
    }
}
