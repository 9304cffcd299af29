//! What the audit has found, for people and for programs.

use serde::Serialize;
use std::fmt;

/// What the audit has found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Rules that don't hold, each a sentence.
    pub violations: Vec<String>,
    /// Bytes of all code.
    pub text_bytes: u64,
    /// Bytes of all other sections that are loaded.
    pub data_bytes: u64,
    /// Functions that other objects can call.
    pub entries: Vec<Entry>,
    /// All functions.
    pub functions: Vec<FunctionReport>,
}

/// A function that other objects can call.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Bytes of stack that it takes at the most, its callbacks not counted.
    pub stack_bytes: u64,
    /// How much it may take.
    pub stack_limit: u64,
    /// Bytes of code that it reaches.
    pub text_bytes: u64,
    /// How much it may reach; a kernel module's may reach any.
    pub text_limit: Option<u64>,
    /// The functions on the deepest way, with their stack frames.
    pub deepest_chain: Vec<(String, u64)>,
}

/// A function.
#[derive(Debug, Serialize)]
pub struct FunctionReport {
    /// Its name.
    pub name: String,
    /// Bytes of code.
    pub text_bytes: u64,
    /// Bytes of stack, without the return address.
    pub frame_bytes: u64,
    /// Calls to the caller's callbacks.
    pub calls_through_pointers: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} bytes of code, {} bytes of data, {} functions",
            self.text_bytes,
            self.data_bytes,
            self.functions.len()
        )?;
        for entry in &self.entries {
            let limit = entry.text_limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
            writeln!(
                f,
                "{}: {} bytes of stack (limit {}), {} bytes of code{limit}",
                entry.name, entry.stack_bytes, entry.stack_limit, entry.text_bytes
            )?;
            for (name, frame) in &entry.deepest_chain {
                writeln!(f, "  {frame:6} {name}")?;
            }
        }
        let callers: Vec<&str> =
            self.functions.iter().filter(|f| f.calls_through_pointers > 0).map(|f| f.name.as_str()).collect();
        writeln!(f, "callbacks are called by: {}", callers.join(", "))?;
        if self.violations.is_empty() {
            writeln!(f, "all rules hold")
        } else {
            self.violations.iter().try_for_each(|violation| writeln!(f, "VIOLATION: {violation}"))
        }
    }
}
