//! Private data of endorsed transactions whose block has not come yet: one file per transaction and collection, so that
//! it is forgotten by removing the file.
//!
//! It is not forced to the disk: after a power cut it is pulled from another member.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::peer::state::{Collection, sha256};

/// Blocks after which data of a transaction that never came is forgotten (Fabric: `transientstoreMaxBlockRetention`).
const RETENTION: u64 = 1000;

/// What waits for its block.
pub struct Transient {
    folder: PathBuf,
    waiting: Mutex<HashMap<(String, Collection), Vec<Waiting>>>,
}

struct Waiting {
    file: PathBuf,
    hash: Vec<u8>,
    height: u64,
}

impl Transient {
    /// Open the folder, creating it if it is not there.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(folder: PathBuf) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let mut waiting: HashMap<_, Vec<_>> = HashMap::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            let content = std::fs::read(&file).map_err(failed)?;
            let Some((key, data, height)) = parse(&content) else {
                tracing::warn!(file = %file.display(), "removing private data that was not written to its end");
                std::fs::remove_file(&file).map_err(failed)?;
                continue;
            };
            waiting.entry(key).or_default().push(Waiting { file, hash: sha256(data), height });
        }
        Ok(Self { folder, waiting: Mutex::new(waiting) })
    }

    /// Keep data of a transaction endorsed at `height`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, tx_id: &str, collection: &Collection, data: &[u8], height: u64) -> Result<(), String> {
        let hash = sha256(data);
        let key = (tx_id.to_owned(), collection.clone());
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.entry(key).or_default();
        if waiting.iter().any(|known| known.hash == hash) {
            return Ok(());
        }
        let name = sha256(format!("{tx_id} {} {} {}", collection.0, collection.1, hex::encode(&hash)).as_bytes());
        let file = self.folder.join(hex::encode(name));
        let written = std::fs::write(&file, render(tx_id, collection, data, height));
        written.map_err(|e| format!("{}: {e}", file.display()))?;
        waiting.push(Waiting { file, hash, height });
        Ok(())
    }

    /// Data with this hash; with none given, any.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, tx_id: &str, collection: &Collection, hash: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.get(&(tx_id.to_owned(), collection.clone()));
        let found = waiting.and_then(|waiting| waiting.iter().find(|known| known.hash == hash));
        let Some(found) = found else { return Ok(None) };
        let content = std::fs::read(&found.file).map_err(|e| format!("{}: {e}", found.file.display()))?;
        Ok(parse(&content).map(|(_, data, _)| data.to_vec()))
    }

    /// Forget the data of transactions whose block has come, and of those that wait for too long.
    pub fn forget(&self, tx_ids: &[&str], height: u64) {
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(tx_id, _), waiting| {
            let came = tx_ids.contains(&tx_id.as_str());
            waiting.retain(|entry| {
                let keep = !came && entry.height.saturating_add(RETENTION) > height;
                if !keep && let Err(error) = std::fs::remove_file(&entry.file) {
                    tracing::error!(file = %entry.file.display(), %error, "cannot remove transient private data");
                }
                keep
            });
            !waiting.is_empty()
        });
    }
}

/// A line with height, transaction and collection, a checksum, then the data.
fn render(tx_id: &str, collection: &Collection, data: &[u8], height: u64) -> Vec<u8> {
    let sum = hex::encode(sha256(data));
    let head = format!("{height} {sum} {tx_id} {} {}\n", collection.0, collection.1);
    [head.as_bytes(), data].concat()
}

#[allow(clippy::type_complexity)]
fn parse(content: &[u8]) -> Option<((String, Collection), &[u8], u64)> {
    let end = content.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&content[..end]).ok()?;
    let data = &content[end + 1..];
    let mut words = head.split(' ');
    let height = words.next()?.parse().ok()?;
    let sum = words.next()?;
    let (tx_id, namespace, collection) = (words.next()?, words.next()?, words.next()?);
    let key = (tx_id.to_owned(), (namespace.to_owned(), collection.to_owned()));
    (hex::encode(sha256(data)) == sum).then_some((key, data, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection() -> Collection {
        ("cc".into(), "secrets".into())
    }

    #[test]
    fn data_waits_through_a_restart_and_goes_with_its_block() {
        let dir = tempfile::tempdir().expect("folder");
        let open = || Transient::open(dir.path().join("transient")).expect("store");
        open().put("tx1", &collection(), b"one\ntwo", 5).expect("kept");
        let store = open();
        let get = |store: &Transient| store.get("tx1", &collection(), &sha256(b"one\ntwo")).expect("read");
        assert_eq!(get(&store), Some(b"one\ntwo".to_vec()));
        assert_eq!(store.get("tx1", &collection(), &sha256(b"other")).expect("read"), None);
        store.forget(&["tx1"], 6);
        assert_eq!(get(&store), None);
        assert_eq!(std::fs::read_dir(dir.path().join("transient")).expect("folder").count(), 0);
    }

    #[test]
    fn data_of_a_transaction_that_never_comes_is_forgotten_in_time() {
        let dir = tempfile::tempdir().expect("folder");
        let store = Transient::open(dir.path().into()).expect("store");
        store.put("tx1", &collection(), b"one", 5).expect("kept");
        store.forget(&[], 1004);
        assert!(store.get("tx1", &collection(), &sha256(b"one")).expect("read").is_some());
        store.forget(&[], 1005);
        assert!(store.get("tx1", &collection(), &sha256(b"one")).expect("read").is_none());
    }

    #[test]
    fn half_a_file_is_removed() {
        let dir = tempfile::tempdir().expect("folder");
        let whole = render("tx1", &collection(), b"one", 5);
        std::fs::write(dir.path().join("x"), &whole[..whole.len() - 1]).expect("file");
        let store = Transient::open(dir.path().into()).expect("store");
        assert!(store.get("tx1", &collection(), &sha256(b"one")).expect("read").is_none());
        assert_eq!(std::fs::read_dir(dir.path()).expect("folder").count(), 0);
    }
}
