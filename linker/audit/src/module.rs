//! The rules for a kernel module with the scanner in it, and for the purgatory stage.
//!
//! A contract beside the source lists the symbols of the kernel that the module may use, and which of them it may use in
//! a panic. A `#` starts a comment, and a name may end in `*`. Its lines:
//!
//! - `entry NAME BYTES`: the function runs in a panic. BYTES limits its stack, with that of its callees;
//! - `callback NAME`: the scanner calls the function through a pointer;
//! - `stack NAME`: the function switches to its own, empty stack;
//! - `panic NAME...`: symbols that entries, callbacks and their callees may use;
//! - `other NAME...`: symbols that all other functions may use in addition.
//!
//! The module has no other undefined symbol, and no x87, MMX, SSE or AVX instruction. The functions that run in a panic
//! have no trap, no recursion, and a bounded stack. The report lists what this cannot see: [`Report::not_covered`].

use crate::code::{Body, Fault, FaultKind, bodies};
use crate::object_file::{Program, Target};
use crate::report::{Entry, FunctionReport, Report};
use crate::rules::{relocation_kinds, sentence, users_of};
use crate::stack::{Chain, chains, reached};
use std::collections::BTreeSet;

/// The promises of a module.
#[derive(Debug, Default)]
pub struct Contract {
    /// Functions that run in a panic, each with the limit of its stack in bytes.
    entries: Vec<(String, u64)>,
    /// Functions that the scanner calls through pointers.
    callbacks: Vec<String>,
    /// Functions that switch to another stack.
    stacks: Vec<String>,
    /// Symbols of the kernel that these may use.
    panic: Vec<String>,
    /// Symbols that all other functions may use in addition.
    other: Vec<String>,
}

impl Contract {
    /// Reads a contract.
    ///
    /// # Errors
    /// A sentence that names the line that has another form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut contract = Self::default();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(first) = words.next() else { continue };
            let names: Vec<String> = words.map(str::to_owned).collect();
            match (first, names.as_slice()) {
                ("entry", [name, bytes]) if bytes.parse::<u64>().is_ok() => {
                    contract.entries.push((name.clone(), bytes.parse().unwrap_or_default()));
                }
                ("callback", [_, ..]) => contract.callbacks.extend(names),
                ("stack", [_, ..]) => contract.stacks.extend(names),
                ("panic", [_, ..]) => contract.panic.extend(names),
                ("other", [_, ..]) => contract.other.extend(names),
                _ => {
                    return Err(format!(
                        "line {}: not entry NAME BYTES, callback NAME, stack NAME, panic NAME, other NAME: {line}",
                        number + 1
                    ));
                }
            }
        }
        Ok(contract)
    }
}

/// Whether one of `patterns` is `name`, or the start of it followed by `*`.
fn is_named(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    })
}

/// Checks a module against its contract.
pub fn audit(program: &Program<'_>, contract: &Contract) -> Report {
    let mut bodies = bodies(program);
    join_cold_parts(program, &mut bodies);
    let mut report =
        Report { text_bytes: program.text_size, data_bytes: program.data_size, ..Report::default() };
    let violations = &mut report.violations;
    for symbol in &program.undefined {
        if !is_named(&contract.panic, symbol) && !is_named(&contract.other, symbol) {
            let users = users_of(program, symbol).join(", ");
            violations.push(format!("{symbol} is not in the contract, and is used by {users}"));
        }
    }
    relocation_kinds(program, violations);
    for (function, body) in program.functions.iter().zip(&bodies) {
        let vectors = body.faults.iter().filter(|fault| fault.kind == FaultKind::Vectors);
        violations.extend(vectors.map(|fault| sentence(function, fault)));
    }

    let mut index_of = |name: &str| {
        let index = program.functions.iter().position(|function| function.name == name);
        if index.is_none() {
            violations.push(format!("the contract names {name}, which is not there"));
        }
        index
    };
    let entries: Vec<(usize, u64)> =
        contract.entries.iter().filter_map(|(name, limit)| Some((index_of(name)?, *limit))).collect();
    let callbacks: Vec<usize> = contract.callbacks.iter().filter_map(|name| index_of(name)).collect();
    let in_panic: BTreeSet<usize> =
        entries.iter().map(|(entry, _)| entry).chain(&callbacks).flat_map(|f| reached(&bodies, *f)).collect();
    check_uses(program, &in_panic, contract, violations);
    for index in &in_panic {
        let (function, body) = (&program.functions[*index], &bodies[*index]);
        let own_stack = is_named(&contract.stacks, &function.name);
        let is_own = |fault: &&Fault| match fault.kind {
            FaultKind::Vectors => false,
            FaultKind::Stack => !own_stack,
            FaultKind::Trap | FaultKind::Flow => true,
        };
        let own = body.faults.iter().filter(is_own);
        violations.extend(own.map(|fault| sentence(function, fault)));
    }
    report.not_covered = not_covered(&bodies, &in_panic, contract);
    // A function that does not run in a panic may call itself.
    for (index, body) in bodies.iter_mut().enumerate() {
        if !in_panic.contains(&index) {
            body.callees.clear();
        }
    }
    match chains(&bodies) {
        Err(cycle) => {
            let names: Vec<&str> = cycle.iter().map(|f| program.functions[*f].name.as_str()).collect();
            violations.push(format!("recursion: {}", names.join(" calls ")));
        }
        Ok(chains) => {
            for (entry, limit) in entries {
                let entry = measure(program, &bodies, &chains, (entry, limit), &callbacks);
                if entry.stack_bytes > limit {
                    violations.push(format!(
                        "{} takes {} bytes of stack, more than {limit}",
                        entry.name, entry.stack_bytes
                    ));
                }
                report.entries.push(entry);
            }
        }
    }
    report.functions = in_panic
        .iter()
        .map(|index| FunctionReport {
            name: program.functions[*index].name.clone(),
            text_bytes: program.functions[*index].bytes.len() as u64,
            frame_bytes: bodies[*index].frame,
            calls_through_pointers: bodies[*index].indirect_calls,
        })
        .collect();
    report
}

/// The stack of an entry: its deepest chain, and below it the deepest chain of a callback.
fn measure(
    program: &Program<'_>,
    bodies: &[Body],
    chains: &[Chain],
    (entry, limit): (usize, u64),
    callbacks: &[usize],
) -> Entry {
    let frames = |chain: &Chain| -> Vec<(String, u64)> {
        chain.functions.iter().map(|f| (program.functions[*f].name.clone(), bodies[*f].frame)).collect()
    };
    let (chain, callback) = (&chains[entry], callbacks.iter().map(|c| &chains[*c]).max_by_key(|c| c.bytes));
    let mut deepest_chain = frames(chain);
    deepest_chain.extend(callback.map(frames).unwrap_or_default());
    let text: u64 = reached(bodies, entry).iter().map(|f| program.functions[*f].bytes.len() as u64).sum();
    Entry {
        name: program.functions[entry].name.clone(),
        stack_bytes: chain.bytes + callback.map_or(0, |chain| chain.bytes),
        stack_limit: limit,
        text_bytes: text,
        text_limit: None,
        deepest_chain,
    }
}

/// Checks that the functions that run in a panic use only the symbols that the contract lists for them.
fn check_uses(
    program: &Program<'_>,
    in_panic: &BTreeSet<usize>,
    contract: &Contract,
    violations: &mut Vec<String>,
) {
    let mut found = BTreeSet::new();
    for relocation in &program.relocations {
        let user = program.function_at(relocation.at.0, relocation.at.1);
        if let Target::Undefined(symbol) = &relocation.target
            && let Some(user) = user.filter(|user| in_panic.contains(user))
            && !is_named(&contract.panic, symbol)
        {
            found.insert((symbol, &program.functions[user].name));
        }
    }
    let sentences =
        found.iter().map(|(symbol, user)| format!("{user} uses {symbol} in a panic, against the contract"));
    violations.extend(sentences);
}

/// Joins the parts that GCC moves out of a function, as NAME.cold, with that function.
///
/// Jumps connect the two, and both run with the same frame. So the function calls what its part calls, and the stack
/// pointer is not followed in the part.
fn join_cold_parts(program: &Program<'_>, bodies: &mut [Body]) {
    for (cold, function) in program.functions.iter().enumerate() {
        let Some(name) = function.name.strip_suffix(".cold") else { continue };
        let Some(whole) = program.functions.iter().position(|f| f.name == name) else { continue };
        bodies[cold].frame = 0;
        bodies[cold].faults.retain(|fault| fault.kind != FaultKind::Stack);
        bodies[cold].callees.retain(|callee| *callee != whole);
    }
}

/// The code that can run in a panic and that the audit does not see.
fn not_covered(bodies: &[Body], in_panic: &BTreeSet<usize>, contract: &Contract) -> Vec<String> {
    let mut not_covered = Vec::new();
    let called: BTreeSet<&str> =
        in_panic.iter().flat_map(|index| &bodies[*index].foreign).map(String::as_str).collect();
    let (hooks, called): (Vec<&str>, Vec<&str>) =
        called.into_iter().partition(|name| *name == "__fentry__" || name.starts_with("__x86_"));
    if !called.is_empty() {
        not_covered.push(format!("functions of the kernel, and their stack: {}", called.join(", ")));
    }
    let traced = in_panic.iter().filter(|index| bodies[**index].foreign.iter().any(|f| f == "__fentry__"));
    let traced = traced.count();
    if traced > 0 {
        not_covered
            .push(format!("the code and the stack of tracers: ftrace can attach to {traced} functions"));
    }
    if !hooks.is_empty() || !called.is_empty() {
        not_covered
            .push("kprobes, and instructions that the kernel replaces when it loads the module".to_owned());
    }
    if !contract.stacks.is_empty() {
        let names = contract.stacks.join(", ");
        not_covered.push(format!("the stack pointer in functions that switch stacks: {names}"));
    }
    not_covered
}
