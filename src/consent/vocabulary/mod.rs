//! The words in which consent is declared: FHIR's (Consent, R4 or R5), and what the hospitals agree on around it.
//!
//! The rules of a policy form a tree; Rust says so with one recursive type, a Kubernetes schema cannot, so `schema` writes
//! the tree out down to [`MAX_DEPTH`]. Closed code sets are enums in the schema: an enum costs nothing against the budget of
//! CEL, a rule on a deep node does. Schemas are made with the feature `schemars` only: the contract needs none.

pub mod code_systems;
mod duration;
mod policy;
mod provision;
mod reading;
#[cfg(feature = "schemars")]
mod schema;
pub mod systems;

pub use duration::{GoDuration, NotADuration};
pub use policy::{
    BasePolicy, BreakGlassMode, BreakGlassSpec, Combining, ConsentScope, FhirVersion, LabelSpec, LocalRef,
    OrganizationMapping, PolicySpec, RetentionSpec,
};
pub use provision::{
    Actor, Attribute, Coding, DataMeaning, DataReference, Doubt, Identifier, MAX_DEPTH, Period, Provision,
    ProvisionType,
};
pub use reading::{ActorRoleSpec, CitedPolicySpec, CodeSystemSpec, ModuleElement, ModuleSpec, Part, UntypedRoot};
