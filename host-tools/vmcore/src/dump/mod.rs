//! Sinks of memory: filtered dumps.

pub mod dumpable;
mod head;
pub mod kdump;
pub mod pipeline;
mod sink;
pub mod zero;
