//! Hyperledger's own libraries for Node.js, and the scripts of `tests/official_clients` that use them.
//!
//! Needs `node` (20 or newer) and `npm`; the libraries are installed once, as the lock file says, into the cache
//! (`EHRNET_CACHE`, by default `~/.cache/ehrnet`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// The folder with the libraries and the scripts; `None`, with a word about it, if there is no Node.js here. In CI that
/// is a failure.
pub fn libraries() -> Option<PathBuf> {
    let missing = |program: &&&str| !Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if let Some(program) = ["node", "npm"].iter().find(missing) {
        assert!(std::env::var_os("CI").is_none(), "{program} is not installed, and in CI this may not be left out");
        eprintln!("SKIPPED: {program} is not installed");
        return None;
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official_clients");
    let lock = fs::read(source.join("package-lock.json")).expect("lock file");
    let version = &hex::encode(Sha256::digest(&lock))[..12];
    let folder = cache().join(format!("official-clients-{version}"));
    fs::create_dir_all(&folder).expect("cache");
    // Two tests at once must not both install.
    let guard = fs::File::create(folder.join(".lock")).expect("cache");
    guard.lock().expect("lock");
    for file in ["package.json", "package-lock.json", "client.mjs", "chaincode.cjs", "from_secret.mjs"] {
        fs::copy(source.join(file), folder.join(file)).expect("script");
    }
    if !folder.join(".installed").exists() {
        let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        let installed = Command::new("npm").args(npm).current_dir(&folder).status().expect("npm");
        assert!(installed.success(), "npm could not install the libraries into {}", folder.display());
        fs::write(folder.join(".installed"), "").expect("cache");
    }
    Some(folder)
}

/// Runs one of the scripts with these arguments to its end, which must be a good one; what it said.
pub async fn run(libraries: &Path, script: &str, arguments: &[&str]) -> String {
    let mut node = tokio::process::Command::new("node");
    let output = node.arg(libraries.join(script)).args(arguments).kill_on_drop(true).output().await.expect("node");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} ended with {}:\n{said}", output.status);
    said
}

fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").expect("HOME"));
    let own = std::env::var_os("EHRNET_CACHE").map(PathBuf::from);
    let users = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    own.unwrap_or_else(|| users.join("ehrnet"))
}
