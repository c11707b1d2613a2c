//! Which ledger the nodes run: the embedded one, or real Fabric where its binaries are given.

use std::path::PathBuf;

/// The folder of Fabric's binaries (`bin`, `config`), if `EHRNET_FABRIC_BIN` names one.
pub fn fabric() -> Option<PathBuf> {
    std::env::var_os("EHRNET_FABRIC_BIN").map(PathBuf::from)
}

/// The operator's arguments that choose what pods run: our contract, and where Fabric's binaries are not given, the
/// embedded ledger.
pub fn arguments() -> Vec<String> {
    let mut chosen = vec![["--contract-image", "ehrnet-contract"], ["--contract-command", "ehrnet-contract"]];
    let embedded = [
        ["--orderer-image", "ehrnet-devledger"],
        ["--orderer-command", "ehrnet-devledger orderer"],
        ["--peer-image", "ehrnet-devledger"],
        ["--peer-command", "ehrnet-devledger peer"],
    ];
    if fabric().is_none() {
        chosen.extend(embedded);
    }
    chosen.concat().into_iter().map(str::to_owned).collect()
}
