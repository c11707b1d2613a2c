//! Who may read: the one evaluator of consents, for admission, contract and command line alike.
//!
//! ```text
//!  FHIR Consent ──> fhir, roots, modules ───┐
//!                                           ├─> tree ──> matching ──> rules ──> decision
//!  ConsentPolicy ─> policy, context ────────┘              ▲            (evaluate)
//!                                                       request
//! ```
//!
//! Denials are read wide, permits narrow, and what cannot be read is refused with the element named.
//!
//! Pure and deterministic: no input or output, no clock, no floats, no order of hash maps. The work is bounded
//! ([`tree::MAX_PROVISIONS`], [`json::MAX_BYTES`], [`json::MAX_ENTRIES`], [`evaluate::MAX_CONSENTS`]); a failure inside is a
//! denial with reason `error`.

mod actors;
mod admission;
pub mod code;
pub mod context;
mod datatypes;
pub mod decision;
mod denials;
pub mod diff;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod fhir;
pub mod json;
mod matching;
mod modules;
mod placed;
pub mod policy;
mod provisions;
pub mod reference;
pub mod request;
mod roots;
pub mod rules;
pub mod subject;
pub mod time;
pub mod tree;
pub mod vocabulary;
pub mod words;

#[cfg(test)]
mod tests;

pub use decision::Decision;
pub use error::{FieldError, said};
pub use evaluate::decide;
pub use fhir::Consent;
pub use policy::{Policy, validate};
pub use request::Request;
