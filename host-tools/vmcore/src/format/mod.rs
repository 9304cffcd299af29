//! Dump file formats, shared by their readers and writers.

pub mod flattened;
pub mod kdump;
