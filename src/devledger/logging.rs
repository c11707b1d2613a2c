//! Log output of a node, with Fabric's way to name levels: `info`, or `logger,logger=level:default`.
//!
//! Fabric's logger names mean nothing here: only the default level of a spec is used; the whole spec is kept and given
//! back by `/logspec`.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

/// Handle to read and change the level while running.
#[derive(Clone)]
pub struct LogLevels {
    spec: Arc<Mutex<String>>,
    filter: reload::Handle<Targets, Registry>,
}

/// Why a spec is refused; the text is Fabric's.
#[derive(Debug, thiserror::Error)]
#[error("invalid logging specification '{spec}': bad segment '{segment}'")]
pub struct BadSpec {
    spec: String,
    segment: String,
}

impl LogLevels {
    /// Start logging to standard error as `spec` says.
    ///
    /// # Errors
    /// The spec is malformed.
    pub fn install(spec: &str) -> Result<Self, BadSpec> {
        let (layer, filter) = reload::Layer::new(targets(default_level(spec)?));
        let output = tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .with_target(false);
        if let Err(error) = tracing_subscriber::registry().with(layer).with(output).try_init() {
            // Several nodes in one process (tests) share the first one's output.
            tracing::debug!(%error, "logging was set up before");
        }
        Ok(Self { spec: Arc::new(Mutex::new(spec.to_owned())), filter })
    }

    /// The spec in force, as it was given.
    pub fn spec(&self) -> String {
        self.spec.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Use another one.
    ///
    /// # Errors
    /// The spec is malformed; nothing changed.
    pub fn set(&self, spec: &str) -> Result<(), BadSpec> {
        let level = default_level(spec)?;
        spec.clone_into(&mut self.spec.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::debug!(%error, "this node does not own the process's log output");
        }
        Ok(())
    }
}

/// The raft crate repeats every message that fails: it is heard only when debugging.
fn targets(level: LevelFilter) -> Targets {
    let raft = if level >= LevelFilter::DEBUG { LevelFilter::INFO } else { LevelFilter::OFF };
    Targets::new().with_default(level).with_target("openraft", raft)
}

fn default_level(spec: &str) -> Result<LevelFilter, BadSpec> {
    let bad = |segment: &str| BadSpec { spec: spec.to_owned(), segment: segment.to_owned() };
    let mut default = LevelFilter::INFO;
    for segment in spec.split(':').filter(|s| !s.is_empty()) {
        match segment.split_once('=') {
            Some((loggers, level)) if !loggers.is_empty() => {
                level_of(level).ok_or_else(|| bad(segment))?;
            }
            Some(_) => return Err(bad(segment)),
            None => default = level_of(segment).ok_or_else(|| bad(segment))?,
        }
    }
    Ok(default)
}

fn level_of(name: &str) -> Option<LevelFilter> {
    Some(match name.to_ascii_lowercase().as_str() {
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warn" | "warning" => LevelFilter::WARN,
        "error" | "dpanic" | "panic" | "fatal" => LevelFilter::ERROR,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_default_of_fabrics_specs_and_refuses_others() {
        assert_eq!(default_level("warn").ok(), Some(LevelFilter::WARN));
        assert_eq!(default_level("gossip=debug:error").ok(), Some(LevelFilter::ERROR));
        assert_eq!(default_level("msp,gossip=info").ok(), Some(LevelFilter::INFO));
        let refused = default_level("loud").map_err(|e| e.to_string());
        assert_eq!(refused, Err("invalid logging specification 'loud': bad segment 'loud'".into()));
    }
}
