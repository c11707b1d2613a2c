//! Who may read: the one evaluator of consents, for admission, contract and command line alike.
//!
//! ```text
//!  FHIR Consent ──> fhir ───┐
//!                           ├─> tree ──> matching ──> rules ──> decision
//!  ConsentPolicy ─> policy ─┘              ▲            (evaluate)
//!                                       request
//! ```
//!
//! Pure and deterministic: no input or output, no clock, no floats, no order of hash maps. The work is bounded
//! ([`tree::MAX_PROVISIONS`], [`json::MAX_ENTRIES`], [`evaluate::MAX_CONSENTS`]); a failure inside is a denial with reason
//! `error`.

pub mod code;
pub mod decision;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod fhir;
pub mod json;
mod matching;
pub mod policy;
pub mod request;
pub mod rules;
pub mod time;
pub mod tree;
pub mod vocabulary;

#[cfg(test)]
mod tests;

pub use decision::Decision;
pub use error::FieldError;
pub use evaluate::decide;
pub use fhir::Consent;
pub use policy::{Policy, validate};
pub use request::Request;
