//! The report of the audit, as text and as JSON.

use serde::Serialize;
use std::fmt;

/// The report of the audit.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The broken rules, each a sentence.
    pub violations: Vec<String>,
    /// Bytes of all code.
    pub text_bytes: u64,
    /// Bytes of all other sections that are loaded.
    pub data_bytes: u64,
    /// Code that can run after the crash and that the audit does not see.
    pub not_covered: Vec<String>,
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
    /// The most bytes of stack that it takes, without its callbacks.
    pub stack_bytes: u64,
    /// The limit of that.
    pub stack_limit: u64,
    /// Bytes of code that it reaches.
    pub text_bytes: u64,
    /// The limit of that; an entry of a kernel module has none.
    pub text_limit: Option<u64>,
    /// The functions on the deepest chain of calls, each with its frame in bytes.
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
        self.not_covered.iter().try_for_each(|code| writeln!(f, "not covered: {code}"))?;
        if self.violations.is_empty() {
            writeln!(f, "all rules hold")
        } else {
            self.violations.iter().try_for_each(|violation| writeln!(f, "VIOLATION: {violation}"))
        }
    }
}
