//! What the operators of this binary have logged, for the test that no key is in it.

use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Memory;

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps everything that is logged; `RUST_LOG=ehrnet=info` shows it as well.
pub fn keep() {
    let shown = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    let kept = EnvFilter::new("info,ehrnet=trace");
    tracing_subscriber::registry()
        .with(fmt::layer().with_writer(io::stderr).with_filter(shown))
        .with(fmt::layer().with_ansi(false).with_writer(|| Memory).with_filter(kept))
        .init();
}

/// All of it.
pub fn text() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}
