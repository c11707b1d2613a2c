//! Graceful end: one signal, heard by everyone who asks.
//!
//! The first SIGTERM or SIGINT asks everything to finish. Signals after it are swallowed: the kubelet's SIGKILL is the
//! hard end, and a finish cut short is one more crash to recover from.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The wish to end. Clones share it; once wished it stays.
#[derive(Clone, Debug)]
pub struct Shutdown {
    wish: watch::Sender<bool>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// One that nobody has wished for yet and that listens to no signal.
    pub fn new() -> Self {
        Self { wish: watch::Sender::new(false) }
    }

    /// One that SIGTERM and SIGINT wish for. Must be called inside a Tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let wisher = shutdown.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "finishing what is under way, then ending");
            wisher.begin();
        });
        Ok(shutdown)
    }

    /// Wishes the end.
    pub fn begin(&self) {
        self.wish.send_replace(true);
    }

    /// Resolves as soon as the end is wished; at once if it is already.
    pub fn wished(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut wish = self.wish.subscribe();
        // Held, so that the channel cannot close while someone waits.
        let keep = self.wish.clone();
        async move {
            while !*wish.borrow_and_update() {
                if wish.changed().await.is_err() {
                    break;
                }
            }
            drop(keep);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everyone_who_waits_hears_of_the_end_and_so_do_latecomers() {
        let shutdown = Shutdown::new();
        let waiters: Vec<_> = (0..3).map(|_| tokio::spawn(shutdown.wished())).collect();
        assert!(!*shutdown.wish.borrow());
        shutdown.clone().begin();
        for waiter in waiters {
            waiter.await.expect("a waiter ends by itself");
        }
        shutdown.wished().await;
        assert!(*shutdown.wish.borrow());
    }
}
