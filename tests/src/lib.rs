//! What the tests across crates share.

pub mod document;
pub mod fixture;
pub mod fuzz;
pub mod man;
pub mod measure;
pub mod memmap;
pub mod planted;
pub mod simulated;
pub mod stage;
pub mod synth;
pub mod trim;
