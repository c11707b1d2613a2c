//! Where etcd and kube-apiserver come from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder that holds `etcd` and `kube-apiserver`, or the reason why there is none.
///
/// `KUBEBUILDER_ASSETS` wins; otherwise `deploy/local/cluster tools api` builds them once (minutes, cached).
pub fn find() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("KUBEBUILDER_ASSETS") {
        return complete(PathBuf::from(given)).map_err(|e| format!("KUBEBUILDER_ASSETS: {e}"));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/local/cluster");
    let output = Command::new(&script)
        .args(["tools", "api"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| format!("{}: {e}", script.display()))?;
    if !output.status.success() {
        return Err(format!("`deploy/local/cluster tools api` failed ({}): its last line says why", output.status));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    complete(PathBuf::from(printed.trim()))
}

fn complete(folder: PathBuf) -> Result<PathBuf, String> {
    match ["etcd", "kube-apiserver"].iter().find(|name| !folder.join(name).is_file()) {
        Some(missing) => Err(format!("{} holds no {missing}", folder.display())),
        None => Ok(folder),
    }
}
