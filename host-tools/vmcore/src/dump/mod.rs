//! Sinks of memory: filtered dumps.

pub use page_codecs::Codec;

pub mod dumpable;
mod head;
pub mod kdump;
pub mod pipeline;
mod sink;
pub mod zero;
