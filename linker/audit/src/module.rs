//! The rules for a kernel module with the scanner in it, and for the purgatory stage.
//!
//! A contract beside its source says what it uses of the kernel, and how much of that when the kernel dies. Its lines, with comments from `#` on, and names that may end in `*`:
//!
//! - `entry NAME BYTES`: the function runs in a panic, and takes at most so much stack, what it calls included;
//! - `callback NAME`: the scanner calls the function through a pointer;
//! - `stack NAME`: the function goes over to a stack of its own, on which it starts from nothing;
//! - `panic NAME...`: what those and all that they reach may use of the kernel;
//! - `other NAME...`: what the rest may use besides.
//!
//! The module is held to it: it has no other undefined symbol, and nowhere an x87, MMX, SSE or AVX instruction; what runs
//! in a panic has no trap and no recursion, and keeps to its stack. The kernel's functions' own stack isn't counted.

use crate::code::{Body, Fault, FaultKind};
use crate::object_file::{Program, Target};
use crate::report::{Entry, FunctionReport, Report};
use crate::rules::{relocation_kinds, sentence, users_of};
use crate::stack::{Chain, chains, reached};
use std::collections::BTreeSet;

/// What a module promises.
#[derive(Debug, Default)]
pub struct Contract {
    /// Functions that run in a panic, with the bytes of stack that each may take.
    entries: Vec<(String, u64)>,
    /// Functions that are called through pointers then.
    callbacks: Vec<String>,
    /// Functions that go over to another stack.
    stacks: Vec<String>,
    /// What they may use of the kernel.
    panic: Vec<String>,
    /// What all others may use besides.
    other: Vec<String>,
}

impl Contract {
    /// Reads a contract.
    ///
    /// # Errors
    /// A sentence that names the line which is none.
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

/// Whether one of `patterns` is `name`, or its start with `*` behind it.
fn is_named(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    })
}

/// Holds a module to its contract.
pub fn audit(program: &Program<'_>, contract: &Contract) -> Report {
    let mut bodies: Vec<Body> =
        program.functions.iter().map(|function| Body::of(program, function)).collect();
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
            _ => !is_padding(&fault.what),
        };
        let own = body.faults.iter().filter(is_own);
        violations.extend(own.map(|fault| sentence(function, fault)));
    }
    // What doesn't run in a panic may call itself, for all that this proves.
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

/// The stack of an entry: its deepest chain, and below that the deepest one of a callback.
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

/// Checks that what runs in a panic uses nothing of the kernel but what the contract says.
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

/// GCC moves unlikely parts of a function elsewhere, as NAME.cold, with jumps to and fro. They run with the function's
/// frame: what they call counts as called by it, and what they do to the stack by themselves is not followed.
fn join_cold_parts(program: &Program<'_>, bodies: &mut [Body]) {
    for (cold, function) in program.functions.iter().enumerate() {
        let Some(name) = function.name.strip_suffix(".cold") else { continue };
        let Some(whole) = program.functions.iter().position(|f| f.name == name) else { continue };
        bodies[cold].frame = 0;
        bodies[cold].faults.retain(|fault| fault.kind != FaultKind::Stack);
        bodies[cold].callees.retain(|callee| *callee != whole);
    }
}

/// Whether a trap is the one that stands behind returns and jumps, where nothing leads to.
fn is_padding(what: &str) -> bool {
    what == "traps (Int3)"
}
