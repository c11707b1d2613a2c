//! An append-only file of checksummed records: the one on-disk shape of ledgers and raft logs.
//!
//! A record is `length (u32, little endian) | checksum (8 bytes) | payload`; the checksum is the head of SHA-256 over
//! length and payload. Invariant: what `append` returned for is on the disk (fsync) and is read back byte for byte or
//! not at all.
//! The trap: a crash may leave half a record, or zeros, at the end. That tail was never acknowledged and is cut off.
//! A *complete* record whose checksum does not match was acknowledged and then changed: this is never repaired here.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

const HEADER: u64 = 12;
/// No message of the protocol is larger than 100 MiB, so no record is.
const MAX_PAYLOAD: u64 = 128 * 1024 * 1024;

/// Why stored data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot use {path}: {source}")]
    Io {
        /// File or folder concerned.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Acknowledged bytes are not what was written.
    #[error("{path} is damaged at byte {offset}: {reason}; restore this file or let the node join anew")]
    Corrupt {
        /// File concerned.
        path: PathBuf,
        /// Where the damaged record starts.
        offset: u64,
        /// What does not fit.
        reason: String,
    },
    /// The caller asked to store something that does not follow what is there.
    #[error("{0}")]
    OutOfOrder(String),
}

impl StoreError {
    /// Wrap an I/O error with the path it is about.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// Where a record's payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    offset: u64,
    len: u32,
}

impl Span {
    /// Where the record starts in the file.
    pub fn start(self) -> u64 {
        self.offset - HEADER
    }
}

/// The open file. Appending needs `&mut`, reading does not.
#[derive(Debug)]
pub struct RecordFile {
    file: File,
    path: PathBuf,
    end: u64,
}

impl RecordFile {
    /// Open or create, cut a torn tail, and hand every whole record to `visit` in order.
    ///
    /// # Errors
    /// `Corrupt` for a damaged record or when `visit` refuses one (its text becomes the reason).
    pub fn open(path: &Path, mut visit: impl FnMut(Span, &[u8]) -> Result<(), String>) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|e| StoreError::io(path, e))?;
        let size = file.metadata().map_err(|e| StoreError::io(path, e))?.len();
        let mut this = Self { file, path: path.to_owned(), end: 0 };
        while let Some(span) = this.next_span(size)? {
            let payload = this.read(span)?;
            visit(span, &payload).map_err(|reason| this.corrupt(span.start(), reason))?;
            this.end = span.offset + u64::from(span.len);
        }
        if this.end < size {
            tracing::warn!(path = %path.display(), kept = this.end, cut = size - this.end, "cutting a torn record");
            this.file.set_len(this.end).and_then(|()| this.file.sync_all()).map_err(|e| this.io(e))?;
        }
        sync_parent(path)?;
        Ok(this)
    }

    /// The span of the record that starts at `end`, or `None` if only a torn tail is left.
    fn next_span(&self, size: u64) -> Result<Option<Span>, StoreError> {
        if size - self.end < HEADER {
            return Ok(None);
        }
        let mut len = [0; 4];
        self.file.read_exact_at(&mut len, self.end).map_err(|e| self.io(e))?;
        let len = u32::from_le_bytes(len);
        let offset = self.end + HEADER;
        if len == 0 || offset + u64::from(len) > size {
            return if len == 0 && !self.only_zeros(size)? {
                Err(self.corrupt(self.end, "a record without content".into()))
            } else {
                Ok(None)
            };
        }
        Ok(Some(Span { offset, len }))
    }

    /// Some file systems extend a file before its data arrives: the lost part then reads as zeros.
    fn only_zeros(&self, size: u64) -> Result<bool, StoreError> {
        let mut at = self.end;
        let mut chunk = vec![0; 64 * 1024];
        while at < size {
            let n = usize::try_from((size - at).min(chunk.len() as u64)).unwrap_or(chunk.len());
            self.file.read_exact_at(&mut chunk[..n], at).map_err(|e| self.io(e))?;
            if chunk[..n].iter().any(|b| *b != 0) {
                return Ok(false);
            }
            at += n as u64;
        }
        Ok(true)
    }

    /// Write the payloads as records and return once they are on the disk.
    ///
    /// # Errors
    /// `Io`; the file is then as before, up to a tail that the next `open` cuts.
    pub fn append<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Span>, StoreError> {
        let mut buffer = Vec::new();
        let mut spans = Vec::new();
        for payload in payloads {
            let len = u32::try_from(payload.len()).ok().filter(|len| u64::from(*len) <= MAX_PAYLOAD && *len > 0);
            let Some(len) = len else {
                return Err(StoreError::OutOfOrder(format!("a record of {} bytes is not storable", payload.len())));
            };
            buffer.extend_from_slice(&len.to_le_bytes());
            buffer.extend_from_slice(&checksum(payload));
            spans.push(Span { offset: self.end + buffer.len() as u64, len });
            buffer.extend_from_slice(payload);
        }
        let written = self.file.write_all_at(&buffer, self.end).and_then(|()| self.file.sync_data());
        written.map_err(|e| self.io(e))?;
        self.end += buffer.len() as u64;
        Ok(spans)
    }

    /// The payload at `span`, checked.
    ///
    /// # Errors
    /// `Corrupt` if the bytes changed since they were written.
    pub fn read(&self, span: Span) -> Result<Vec<u8>, StoreError> {
        let mut sum = [0; 8];
        self.file.read_exact_at(&mut sum, span.offset - 8).map_err(|e| self.io(e))?;
        let mut payload = vec![0; span.len as usize];
        self.file.read_exact_at(&mut payload, span.offset).map_err(|e| self.io(e))?;
        if checksum(&payload) == sum {
            Ok(payload)
        } else {
            Err(self.corrupt(span.start(), "its content does not match its checksum".into()))
        }
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn io(&self, source: io::Error) -> StoreError {
        StoreError::io(&self.path, source)
    }

    fn corrupt(&self, offset: u64, reason: String) -> StoreError {
        StoreError::Corrupt { path: self.path.clone(), offset, reason }
    }
}

/// Replace `path` by `content` in one step that survives a crash: temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// `Io`; the old content then still stands.
pub fn replace_file(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let temporary = path.with_extension("new");
    let write = || -> io::Result<()> {
        let file = File::create(&temporary)?;
        file.write_all_at(content, 0)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| StoreError::io(path, e))?;
    sync_parent(path)
}

/// Make a created, renamed or removed directory entry durable.
///
/// # Errors
/// `Io` if the folder cannot be opened or synced.
pub fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(|e| StoreError::io(parent, e))
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let digest = Sha256::new().chain_update((payload.len() as u64).to_le_bytes()).chain_update(payload).finalize();
    let mut head = [0; 8];
    head.copy_from_slice(&digest[..8]);
    head
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reopen(path: &Path) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut seen = Vec::new();
        RecordFile::open(path, |_, payload| {
            seen.push(payload.to_vec());
            Ok(())
        })?;
        Ok(seen)
    }

    fn two_records(dir: &Path) -> PathBuf {
        let path = dir.join("records");
        let mut file = RecordFile::open(&path, |_, _| Ok(())).unwrap();
        file.append([b"first".as_slice(), b"second"]).unwrap();
        path
    }

    #[test]
    fn every_cut_of_the_last_record_leaves_the_first_and_can_be_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = two_records(dir.path());
        let whole = std::fs::read(&path).unwrap();
        let first = HEADER as usize + 5;
        for cut in first..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(reopen(&path).unwrap(), [b"first".to_vec()], "cut at {cut}");
            assert_eq!(std::fs::metadata(&path).unwrap().len(), first as u64);
        }
        let mut file = RecordFile::open(&path, |_, _| Ok(())).unwrap();
        file.append([b"third".as_slice()]).unwrap();
        assert_eq!(reopen(&path).unwrap(), [b"first".to_vec(), b"third".to_vec()]);
    }

    #[test]
    fn a_tail_of_zeros_is_torn_not_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = two_records(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&[0; 4096]);
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(reopen(&path).unwrap().len(), 2);
    }

    #[test]
    fn an_edited_byte_is_reported_with_its_place_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = two_records(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = reopen(&path).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { offset: 17, .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
