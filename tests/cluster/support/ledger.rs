//! Which ledger the nodes run: the embedded one, or real Fabric where its binaries are given.

use std::path::PathBuf;

/// The folder of Fabric's binaries (`bin`, `config`), if `EHRNET_FABRIC_BIN` names one.
pub fn fabric() -> Option<PathBuf> {
    std::env::var_os("EHRNET_FABRIC_BIN").map(PathBuf::from)
}

/// The operator's arguments that choose the ledger: none for real Fabric, whose images are the default.
pub fn arguments() -> Vec<String> {
    if fabric().is_some() {
        return Vec::new();
    }
    let embedded = [
        ["--orderer-image", "ehrnet"],
        ["--orderer-command", "ehrnet devledger orderer"],
        ["--peer-image", "ehrnet"],
        ["--peer-command", "ehrnet devledger peer"],
    ];
    embedded.concat().into_iter().map(str::to_owned).collect()
}
