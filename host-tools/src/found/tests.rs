//! Tests of bitmaps in memory.
