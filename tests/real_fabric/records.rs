//! The health-record contract on a network.

use crate::contract::{decides_who_reads, deploy, keeps_secrets_out_of_blocks, takes_requests_at_once};
use crate::network::Network;
use crate::{REQUESTS_AT_ONCE, site};

/// Resident memory that the contract may take, in KiB.
const MEMORY: u64 = 20 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_decides_who_reads() {
    let Some(site) = site() else { return };
    let network = Network::raft(site).await;
    let contracts = deploy(&network).await;
    decides_who_reads(&network).await;
    keeps_secrets_out_of_blocks(&network);
    takes_requests_at_once(&network, REQUESTS_AT_ONCE).await;
    for contract in &contracts {
        let resident = contract.resident();
        eprintln!("resident: {resident} KiB");
        assert!(resident < MEMORY, "{resident} KiB");
    }
}
