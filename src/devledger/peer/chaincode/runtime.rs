//! Which chaincode runs where: one connection per package, made when it is first needed and anew after it was lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::packages::Packages;
use super::stream::Stream;
use crate::hosts::Hosts;

/// A package's connection; the lock lets one caller connect while the others wait.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Stream>>>>;

/// Connections to chaincodes.
pub struct Runtime {
    /// Installed packages.
    pub packages: Packages,
    hosts: Hosts,
    startup_limit: Duration,
    slots: Mutex<HashMap<String, Slot>>,
}

impl Runtime {
    /// No connections yet. `startup_limit`: how long a chaincode may take to connect and register.
    pub fn new(packages: Packages, hosts: Hosts, startup_limit: Duration) -> Self {
        Self { packages, hosts, startup_limit, slots: Mutex::default() }
    }

    /// The connection to the chaincode of an installed package.
    ///
    /// # Errors
    /// Fabric's words.
    pub async fn launch(&self, id: &str) -> Result<Arc<Stream>, String> {
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(stream) = slot.as_ref().filter(|stream| !stream.is_closed()) {
            return Ok(stream.clone());
        }
        let failed = |e: String| format!("could not launch chaincode {id}: {e}");
        let installed = self.packages.get(id).ok_or_else(|| failed("the package is not installed".into()))?;
        let stream = Stream::connect(id, &installed.connection, &self.hosts, self.startup_limit).await;
        Ok(slot.insert(stream.map_err(failed)?).clone())
    }
}
