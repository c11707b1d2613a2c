//! What every controller uses: settings, client, lease, events, metrics, health, logs, shutdown, backoff.
//!
//! Invariants:
//! - Every request that changes something goes through the layer in [`client`], which asks the [`lease::Fence`] first:
//!   no write path can forget it.
//! - Only the leader writes; who loses the lease to another ends the process.
//!
//! The trap: a process that slept (a stopped virtual machine, a long pause) still believes what it believed before.
//! That is why the fence compares clocks at every write instead of trusting a flag that a task sets.

pub mod backoff;
pub mod client;
pub mod events;
pub mod fence;
pub mod health;
pub mod lease;
pub mod logging;
pub mod metrics;
pub mod settings;
pub mod shutdown;

pub use settings::Settings;
