//! Support for the tests against a real kube-apiserver.

pub mod assets;
pub mod gate;
pub mod invariants;
pub mod kubelet;
pub mod ledger;
pub mod ledger_client;
pub mod logs;
pub mod objects;
pub mod operator;
pub mod outage;
pub mod process;
pub mod rules;
pub mod sample;
pub mod scene;
pub mod server;
pub mod snapshot;
pub mod subnet;
pub mod tls;

/// Resident memory of a process in MB; 0 if it is gone.
pub fn resident_mb(pid: u32, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default();
    kib * 1024.0 / 1e6
}
