//! Logs on standard error: JSON for machines or lines for people.
//!
//! Invariant: a log line carries names and states, never a key, a certificate's private part or a record. Types that
//! hold keys have no `Debug` to print.

use std::io::IsTerminal;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::settings::LogFormat;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter is not one.
    #[error(
        "the log filter {filter:?} makes no sense: {source}; give a level such as `info` or directives such as `info,ehrnet_fabric=debug`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// Something else set up logging before.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Sets up logging for the whole process: `filter` as in [`EnvFilter`], for example `info` or `warn,ehrnet=debug`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LoggingError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|source| LoggingError::Filter { filter: filter.to_owned(), source })?;
    let layer = match format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
        LogFormat::Human => {
            fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused_with_its_text() {
        let error = init(LogFormat::Human, "ehrnet=loud").expect_err("no such level");
        assert!(error.to_string().contains("ehrnet=loud"), "{error}");
    }
}
