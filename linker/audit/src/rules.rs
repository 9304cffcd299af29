//! The rules for the scanner's object, and their limits.

use crate::code::{Fault, bodies};
use crate::object_file::{Function, Program, Relocation, Target};
use crate::report::{Entry, FunctionReport, Report};
use crate::stack::{chains, reached};
use goblin::elf::header::EM_X86_64;
use goblin::elf::reloc;
use std::collections::BTreeSet;

/// Symbols that may be undefined: compilers call them, and kernels and purgatories define them.
const ALLOWED_UNDEFINED: [&str; 4] = ["memcpy", "memset", "memcmp", "memmove"];

/// Relocations that both the kernel's loader of modules and kexec's loader of a purgatory accept.
const ALLOWED_RELOCATIONS: [u32; 6] = [
    reloc::R_X86_64_NONE,
    reloc::R_X86_64_64,
    reloc::R_X86_64_PC32,
    reloc::R_X86_64_PLT32,
    reloc::R_X86_64_32,
    reloc::R_X86_64_32S,
];

/// Relocations to a global offset table, which neither of these loaders makes.
const OFFSET_TABLE_RELOCATIONS: [u32; 9] = [
    reloc::R_X86_64_GOT32,
    reloc::R_X86_64_GOTPCREL,
    reloc::R_X86_64_GOTOFF64,
    reloc::R_X86_64_GOTPC32,
    reloc::R_X86_64_GOT64,
    reloc::R_X86_64_GOTPCREL64,
    reloc::R_X86_64_GOTPC64,
    reloc::R_X86_64_GOTPCRELX,
    reloc::R_X86_64_REX_GOTPCRELX,
];

/// Limits in bytes of stack and of code for entries that run after the crash.
const STACK_LIMIT: u64 = 1 << 10;
const TEXT_LIMIT: u64 = 16 << 10;
/// Limits for entries that run before the crash, or on a stack of their own.
const SET_UP_LIMITS: [(&str, u64, u64); 2] =
    [("crash_scan_setup", 10 << 10, 32 << 10), ("crash_direct_map", 2 << 10, 16 << 10)];

/// The limits of each entry.
#[derive(Debug)]
pub struct Limits {
    stack: Vec<(Option<String>, u64)>,
    text: Vec<(Option<String>, u64)>,
}

impl Limits {
    /// Reads limits of the form `BYTES` or `ENTRY=BYTES`. Entries without one have the defaults.
    ///
    /// # Errors
    /// A sentence that names the limit that has another form.
    pub fn parse(stack: &[String], text: &[String]) -> Result<Self, String> {
        let parse =
            |given: &[String]| given.iter().map(|text| parse_limit(text)).collect::<Result<Vec<_>, _>>();
        Ok(Self { stack: parse(stack)?, text: parse(text)? })
    }

    fn stack(&self, entry: &str) -> u64 {
        find(&self.stack, entry).unwrap_or_else(|| set_up(entry).map_or(STACK_LIMIT, |(_, stack, _)| *stack))
    }

    fn text(&self, entry: &str) -> u64 {
        find(&self.text, entry).unwrap_or_else(|| set_up(entry).map_or(TEXT_LIMIT, |(_, _, text)| *text))
    }
}

fn set_up(entry: &str) -> Option<&'static (&'static str, u64, u64)> {
    SET_UP_LIMITS.iter().find(|(name, ..)| *name == entry)
}

/// The limit of `entry`, else the limit of all.
fn find(given: &[(Option<String>, u64)], entry: &str) -> Option<u64> {
    let for_name =
        |name: Option<&str>| given.iter().rev().find(|(n, _)| n.as_deref() == name).map(|(_, bytes)| *bytes);
    for_name(Some(entry)).or_else(|| for_name(None))
}

fn parse_limit(text: &str) -> Result<(Option<String>, u64), String> {
    let (name, number) = match text.split_once('=') {
        Some((name, number)) => (Some(name.to_owned()), number),
        None => (None, text),
    };
    let bytes = number.parse().map_err(|_| format!("{text}: a limit is BYTES or ENTRY=BYTES"))?;
    Ok((name, bytes))
}

/// Checks all rules.
pub fn audit(program: &Program<'_>, limits: &Limits) -> Report {
    let bodies = bodies(program);
    let name = |index: usize| program.functions[index].name.clone();
    let mut report = Report {
        text_bytes: program.text_size,
        data_bytes: program.data_size,
        functions: program
            .functions
            .iter()
            .zip(&bodies)
            .map(|(f, body)| FunctionReport {
                name: f.name.clone(),
                text_bytes: f.bytes.len() as u64,
                frame_bytes: body.frame,
                calls_through_pointers: body.indirect_calls,
            })
            .collect(),
        ..Report::default()
    };
    let violations = &mut report.violations;
    for symbol in program.undefined.iter().filter(|name| !ALLOWED_UNDEFINED.contains(&name.as_str())) {
        let users: Vec<String> = users_of(program, symbol);
        violations.push(format!("{symbol} is undefined, and is used by {}", users.join(", ")));
    }
    for (section, bytes) in &program.stray {
        violations.push(format!("{bytes} bytes of code in {section} belong to no function"));
    }
    for (function, body) in program.functions.iter().zip(&bodies) {
        violations.extend(body.faults.iter().map(|fault| sentence(function, fault)));
    }
    relocation_kinds(program, violations);
    taken_addresses(program, violations);
    report.not_covered = vec!["the caller's callbacks, and their stack".to_owned()];
    let linked: Vec<&str> =
        ALLOWED_UNDEFINED.into_iter().filter(|name| program.undefined.iter().any(|u| u == name)).collect();
    if !linked.is_empty() {
        report.not_covered.push(format!("the code of {}, and its stack", linked.join(", ")));
    }
    match chains(&bodies) {
        Err(cycle) => {
            let names: Vec<String> = cycle.into_iter().map(name).collect();
            violations.push(format!("recursion: {}", names.join(" calls ")));
        }
        Ok(chains) => {
            for (index, function) in program.functions.iter().enumerate().filter(|(_, f)| f.global) {
                let chain = &chains[index];
                let text: u64 =
                    reached(&bodies, index).iter().map(|f| program.functions[*f].bytes.len() as u64).sum();
                let entry = Entry {
                    name: function.name.clone(),
                    stack_bytes: chain.bytes,
                    stack_limit: limits.stack(&function.name),
                    text_bytes: text,
                    text_limit: Some(limits.text(&function.name)),
                    deepest_chain: chain.functions.iter().map(|f| (name(*f), bodies[*f].frame)).collect(),
                };
                if entry.stack_bytes > entry.stack_limit {
                    violations.push(format!(
                        "{} takes {} bytes of stack, more than {}",
                        entry.name, entry.stack_bytes, entry.stack_limit
                    ));
                }
                if let Some(limit) = entry.text_limit.filter(|limit| entry.text_bytes > *limit) {
                    violations.push(format!(
                        "{} reaches {} bytes of code, more than {limit}",
                        entry.name, entry.text_bytes
                    ));
                }
                report.entries.push(entry);
            }
        }
    }
    report
}

/// The sentence that reports a fault.
pub fn sentence(function: &Function<'_>, fault: &Fault) -> String {
    format!("{}: the instruction at +{:#x} {}", function.name, fault.at - function.offset, fault.what)
}

/// The name of the function that a relocation changes.
fn place<'p>(program: &'p Program<'_>, relocation: &Relocation) -> &'p str {
    let place = program.function_at(relocation.at.0, relocation.at.1);
    place.map_or("data", |index| &program.functions[index].name)
}

/// Checks the types of relocations.
pub fn relocation_kinds(program: &Program<'_>, violations: &mut Vec<String>) {
    let name = |kind: u32| format!("R_{}", reloc::r_to_str(kind, EM_X86_64));
    let (mut count, mut places, mut kinds) = (0, BTreeSet::new(), BTreeSet::new());
    for relocation in &program.relocations {
        if ALLOWED_RELOCATIONS.contains(&relocation.kind) {
            continue;
        }
        if OFFSET_TABLE_RELOCATIONS.contains(&relocation.kind) {
            count += 1;
            places.insert(place(program, relocation));
            kinds.insert(name(relocation.kind));
            continue;
        }
        let allowed = ALLOWED_RELOCATIONS.map(name);
        violations.push(format!(
            "{}: relocation of type {}, which loaders do not know; they know {}",
            place(program, relocation),
            name(relocation.kind),
            allowed.join(", ")
        ));
    }
    if count > 0 {
        violations.push(format!(
            "{}: {count} relocations of type {}, but no loader of kernel modules makes a global offset table; a core \
             library that came prebuilt has such relocations: install its source, so that linker/crash-scan/build builds it along \
             (rustup component add rust-src, or apt-get install rustc-web rust-web-src)",
            Vec::from_iter(places).join(", "),
            Vec::from_iter(kinds).join(", ")
        ));
    }
}

/// Checks that no function's address is taken.
fn taken_addresses(program: &Program<'_>, violations: &mut Vec<String>) {
    for relocation in &program.relocations {
        // Only a call or a jump may hold the start of a function. From a table or a register, what looks like a call
        // of a callback could call it.
        let branch = matches!(relocation.kind, reloc::R_X86_64_PLT32 | reloc::R_X86_64_PC32)
            && program
                .function_at(relocation.at.0, relocation.at.1)
                .is_some_and(|index| is_branch(program, index, relocation.at.1));
        if let Target::Place(section, offset) = relocation.target
            && let Some(index) = program.function_at(section, offset)
            && program.functions[index].offset == offset
            && !branch
        {
            violations.push(format!(
                "the address of {} is taken in {}",
                program.functions[index].name,
                place(program, relocation)
            ));
        }
    }
}

/// Whether the field at `offset` belongs to a call or a jump.
fn is_branch(program: &Program<'_>, function: usize, offset: u64) -> bool {
    let function = &program.functions[function];
    let at = usize::try_from(offset - function.offset).unwrap_or(usize::MAX);
    let byte = |back: usize| at.checked_sub(back).and_then(|at| function.bytes.get(at)).copied();
    // call rel32, jmp rel32, jcc rel32
    matches!(byte(1), Some(0xe8 | 0xe9)) || (byte(2) == Some(0x0f) && matches!(byte(1), Some(0x80..=0x8f)))
}

/// The functions with a relocation to `symbol`.
pub fn users_of(program: &Program<'_>, symbol: &str) -> Vec<String> {
    let mut users: Vec<String> = program
        .relocations
        .iter()
        .filter(|r| matches!(&r.target, Target::Undefined(name) if name == symbol))
        .map(|r| {
            let function = program.function_at(r.at.0, r.at.1);
            function.map_or("data", |index| &program.functions[index].name).to_owned()
        })
        .collect();
    users.sort_unstable();
    users.dedup();
    if users.is_empty() {
        users.push("no function".to_owned());
    }
    users
}
