//! The command line of `cdbitmap`.

fn main() {}
