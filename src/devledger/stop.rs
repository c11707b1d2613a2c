//! Graceful stop: one switch, many who wait for it.

use tokio::sync::watch;

/// Turns the switch; dropping it does, too.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Waits for the switch.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A switch that is not turned yet.
pub fn switch() -> (Stopper, Stop) {
    let (tx, rx) = watch::channel(false);
    (Stopper(tx), Stop(rx))
}

impl Stopper {
    /// Ask everyone to stop.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once stopping was asked for.
    pub async fn requested(&mut self) {
        // An error means that the stopper is gone, which is a request as well.
        let _gone = self.0.wait_for(|stop| *stop).await.is_err();
    }

    /// Whether it was asked for.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}
