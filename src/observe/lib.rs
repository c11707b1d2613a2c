//! The one room that reads the cluster: watches, caches, and which resource a change concerns.

pub mod affected;
pub mod cache;
pub mod kept;
pub mod target;
pub mod world;

pub use target::{Kind, Target};
pub use world::{News, World};
