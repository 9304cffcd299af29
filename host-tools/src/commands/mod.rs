//! The commands of `cdbitmap`, one file per verb: arguments in, library calls, text out.
