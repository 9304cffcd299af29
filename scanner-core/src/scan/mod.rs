//! The scan of a machine's `struct page`s.
//!
//! - [`engine`]: [`Scan`], the walk over all sections.
//! - [`observer`]: receives the decisions of a scan.
//! - [`checkpoint`]: lets a caller stop a scan.
//! - [`recorder`]: the observer that clears bits in a bitmap and counts.

pub mod checkpoint;
pub mod engine;
pub mod observer;
pub mod recorder;

pub use checkpoint::{CHECKPOINT_FRAMES, Checkpoint, Outcome, RunToCompletion};
pub use engine::{SCRATCH_BYTES, Scan};
pub use observer::Observer;
pub use recorder::{BitmapRecorder, Tally};
