//! What the tests against a real kube-apiserver stand on.

pub mod assets;
pub mod kubelet;
pub mod objects;
pub mod process;
pub mod server;
pub mod subnet;
pub mod tls;

/// Resident memory of a process in MB; 0 if it is gone.
pub fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}
