//! Formats of dumps, as their readers and writers share them.

pub mod flattened;
pub mod kdump;
