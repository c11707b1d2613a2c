//! Installed packages: on disk, with the connection that was made of each when it was installed.
//!
//! As in Fabric, templates are filled in at installation: a changed builder configuration counts for packages installed
//! after it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use crate::store::records::replace_file;
use ehrnet_fabric::package::{self, Connection, Contents};

/// The installed packages of a peer.
pub struct Packages {
    folder: PathBuf,
    builder_config: String,
    installed: RwLock<BTreeMap<String, Installed>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its label.
    pub label: String,
    /// Where its chaincode listens.
    pub connection: Connection,
}

impl Packages {
    /// Open the folder, creating it if it is not there.
    ///
    /// # Errors
    /// What is there cannot be read; the text says what.
    pub fn open(folder: PathBuf, builder_config: String) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let mut installed = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !path.to_string_lossy().ends_with(".tar.gz") {
                continue;
            }
            let damaged = |e: String| format!("{}: {e}; remove the file and install the package again", path.display());
            let bytes = std::fs::read(&path).map_err(failed)?;
            let label = package::open(&bytes).map_err(damaged)?.label;
            let id = package::id(&label, &bytes);
            let built = std::fs::read(folder.join(file(&id, "json"))).map_err(failed)?;
            let connection = serde_json::from_slice(&built).map_err(|e| damaged(e.to_string()))?;
            installed.insert(id, Installed { label, connection });
        }
        Ok(Self { folder, builder_config, installed: RwLock::new(installed) })
    }

    /// Install a package, and return its id and label.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn install(&self, bytes: &[u8]) -> Result<(String, String), String> {
        let contents =
            package::open(bytes).map_err(|e| format!("could not parse as a chaincode install package: {e}"))?;
        let (id, label) = (package::id(&contents.label, bytes), contents.label.clone());
        let mut installed = self.installed.write().unwrap_or_else(PoisonError::into_inner);
        if installed.contains_key(&id) {
            return Err(format!("chaincode already successfully installed (package ID '{id}')"));
        }
        let connection = build(&contents, &self.builder_config)
            .map_err(|e| format!("could not build chaincode: external builder failed: {e}"))?;
        let failed = |e: String| format!("could not save cc install package: {e}");
        let built = serde_json::to_vec(&connection).map_err(|e| failed(e.to_string()))?;
        // The package comes last: with it the installation is there.
        for (kind, content) in [("json", built.as_slice()), ("tar.gz", bytes)] {
            replace_file(&self.folder.join(file(&id, kind)), content).map_err(|e| failed(e.to_string()))?;
        }
        installed.insert(id.clone(), Installed { label: label.clone(), connection });
        tracing::info!(package = id, "installed a chaincode package");
        Ok((id, label))
    }

    /// A package's file.
    ///
    /// # Errors
    /// Fabric's words.
    pub fn bytes(&self, id: &str) -> Result<Vec<u8>, String> {
        let failed = |e: String| format!("could not load cc install package: {e}");
        if self.get(id).is_none() {
            return Err(failed(format!("chaincode install package '{id}' not found")));
        }
        std::fs::read(self.folder.join(file(id, "tar.gz"))).map_err(|e| failed(e.to_string()))
    }

    /// An installed package.
    pub fn get(&self, id: &str) -> Option<Installed> {
        self.installed.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All of them by id, with their labels.
    pub fn list(&self) -> Vec<(String, String)> {
        let installed = self.installed.read().unwrap_or_else(PoisonError::into_inner);
        installed.iter().map(|(id, installed)| (id.clone(), installed.label.clone())).collect()
    }
}

/// What Fabric's builder makes of a package: the connection with everything filled in.
fn build(contents: &Contents, config: &str) -> Result<Connection, String> {
    if !contents.kind.eq_ignore_ascii_case("ccaas") {
        return Err(format!("chaincode type should be ccaas, it is {}", contents.kind));
    }
    let connection = contents.connection()?.expanded(config)?;
    let missing = [
        (connection.address.is_empty(), "chaincode address not provided"),
        (connection.client_auth_required && connection.client_key.is_empty(), "chaincode tls key not provided"),
        (connection.client_auth_required && connection.client_cert.is_empty(), "chaincode tls cert not provided"),
        (connection.tls_required && connection.root_cert.is_empty(), "chaincode tls root cert not provided"),
    ];
    match missing.iter().find(|(missing, _)| *missing) {
        Some((_, what)) => Err((*what).to_owned()),
        None => Ok(connection),
    }
}

/// Fabric's name of a package's file.
fn file(id: &str, kind: &str) -> String {
    format!("{}.{kind}", id.replacen(':', ".", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ehrnet_fabric::package::Package;

    fn package(connection: &Connection) -> Package {
        Package::ccaas("a", connection, &BTreeMap::new()).expect("package")
    }

    #[test]
    fn packages_stay_installed_as_they_were_built() {
        let dir = tempfile::tempdir().expect("folder");
        let open = |config: &str| Packages::open(dir.path().into(), config.into()).expect("packages");
        let package = package(&Connection { address: "{{.host}}:1".into(), ..Default::default() });
        let (id, label) = open(r#"{"host":"h"}"#).install(&package.bytes).expect("installed");
        assert_eq!(id, package.id);
        let packages = open(r#"{"host":"other"}"#);
        assert_eq!(packages.list(), [(id.clone(), label)]);
        assert_eq!(packages.get(&id).expect("installed").connection.address, "h:1");
        assert_eq!(packages.bytes(&id).expect("bytes"), package.bytes);
        let again = packages.install(&package.bytes).expect_err("installed already");
        assert_eq!(again, format!("chaincode already successfully installed (package ID '{id}')"));
        assert!(packages.bytes("b:1").expect_err("absent").contains("chaincode install package 'b:1' not found"));
    }

    #[test]
    fn what_cannot_be_built_is_not_installed() {
        let dir = tempfile::tempdir().expect("folder");
        let packages = Packages::open(dir.path().into(), String::new()).expect("packages");
        let tls = Connection { address: "a:1".into(), tls_required: true, ..Default::default() };
        let template = Connection { address: "{{.host}}:1".into(), ..Default::default() };
        for (connection, words) in
            [(tls, "chaincode tls root cert not provided"), (template, "map has no entry for key \"host\"")]
        {
            let refusal = packages.install(&package(&connection).bytes).expect_err("refused");
            assert!(refusal.starts_with("could not build chaincode: ") && refusal.ends_with(words), "{refusal}");
        }
        assert_eq!(packages.list(), []);
    }
}
