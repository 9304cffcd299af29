//! The audit passes an object that keeps the rules, and refuses one for each rule that it breaks.

use std::path::Path;
use std::process::{Command, Output};

/// A function `entry` of these instructions, in a section of its own.
fn entry(body: &str) -> String {
    format!(".globl entry\n{}", local("entry", body))
}

/// A function `name` that others of the same object can call.
fn local(name: &str, body: &str) -> String {
    format!(
        ".section .text.{name},\"ax\",@progbits\n.type {name},@function\n{name}:\n{body}\n.size {name},.-{name}\n"
    )
}

/// What the audit says about the object that `source` assembles to; `None` on a machine without an assembler.
fn audit(source: &str, arguments: &[&str]) -> Option<Output> {
    let directory = tempfile::tempdir().unwrap();
    let (source_file, object) = (directory.path().join("object.s"), directory.path().join("object.o"));
    std::fs::write(&source_file, source).unwrap();
    match Command::new("as").arg("--64").arg("-o").arg(&object).arg(&source_file).output() {
        Ok(done) => assert!(done.status.success(), "{}\n{source}", String::from_utf8_lossy(&done.stderr)),
        Err(error) => {
            eprintln!("not tested, since there is no assembler: {error}");
            return None;
        }
    }
    Some(run(&object, arguments))
}

fn run(object: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crash-scan-audit")).arg(object).args(arguments).output().unwrap()
}

#[track_caller]
fn refused(source: &str, because: &str) {
    let Some(output) = audit(source, &[]) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line.starts_with("VIOLATION: ") && line.contains(because)), "{text}");
}

#[track_caller]
fn passes(source: &str) -> String {
    let Some(output) = audit(source, &[]) else { return String::new() };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

#[test]
fn an_object_that_keeps_the_rules_passes() {
    let callee = local("callee", "push %rbx\nsub $100, %rsp\ncall memcpy@PLT\nadd $100, %rsp\npop %rbx\nret");
    let text = passes(
        &(entry("sub $24, %rsp\ncall callee@PLT\ncall *%rax\nadd $24, %rsp\njmp callee@PLT") + &callee),
    );
    // 24 and 108 bytes, and two return addresses.
    assert!(text.is_empty() || text.contains("entry: 148 bytes of stack"), "{text}");
    assert!(text.is_empty() || text.contains("callbacks are called by: entry\n"), "{text}");
}

#[test]
fn a_path_to_a_panic_is_refused() {
    refused(
        &entry("call a_panic_is_reachable@PLT\nret"),
        "a_panic_is_reachable is undefined, and is used by entry",
    );
    refused(&entry("ud2"), "traps (Ud2)");
}

#[test]
fn vector_and_floating_point_registers_are_refused() {
    for instruction in [
        "movaps %xmm0, (%rsp)",
        "vpxor %ymm1, %ymm1, %ymm1",
        "movq %mm0, %rax",
        "fld1",
        "fxsave (%rdi)",
        "ldmxcsr (%rdi)",
    ] {
        refused(&entry(&format!("{instruction}\nret")), "floating point or vector registers");
    }
}

#[test]
fn global_offset_tables_are_refused() {
    refused(&entry("call *memcpy@GOTPCREL(%rip)\nret"), "which loaders don't know");
    refused(&entry("mov memcpy@GOTPCREL(%rip), %rax\nret"), "which loaders don't know");
}

#[test]
fn the_red_zone_is_refused() {
    refused(&entry("mov %rax, -8(%rsp)\nret"), "red zone");
    refused(&entry("push %rbp\nmov %rsp, %rbp\nmov %rax, -8(%rbp)\npop %rbp\nret"), "red zone");
    passes(&entry(
        "push %rbp\nmov %rsp, %rbp\nsub $16, %rsp\nmov %rax, -8(%rbp)\nadd $16, %rsp\npop %rbp\nret",
    ));
    passes(&entry("lea -8(%rsp), %rax\nret"));
}

#[test]
fn the_stack_is_bounded() {
    refused(
        &entry("sub $1024, %rsp\nadd $1024, %rsp\nret"),
        "entry takes 1032 bytes of stack, more than 1024",
    );
    refused(&entry("sub %rax, %rsp\nret"), "stack frame of variable size");
    refused(&entry("test %eax, %eax\njz 1f\npush %rax\n1: ret"), "stack frames of different sizes");
    let callee = local("callee", "sub $600, %rsp\nadd $600, %rsp\nret");
    refused(
        &(entry("sub $600, %rsp\ncall callee@PLT\nadd $600, %rsp\nret") + &callee),
        "entry takes 1216 bytes",
    );
    // Both arms of a branch leave with what they took.
    let text = passes(&entry(
        "test %eax, %eax\njz 1f\npush %rax\npop %rax\nret\n1: sub $40, %rsp\nadd $40, %rsp\nret",
    ));
    assert!(text.is_empty() || text.contains("entry: 48 bytes of stack"), "{text}");
    // A jump to another function doesn't lead to what happens to be behind it.
    passes(
        &(entry("push %rax\ntest %eax, %eax\njz 1f\npop %rax\njmp callee@PLT\n1: pop %rax\nret") + &callee),
    );
}

#[test]
fn recursion_is_refused() {
    let callee = local("callee", "call entry@PLT\nret");
    refused(&(entry("call callee@PLT\nret") + &callee), "recursion: ");
    refused(&entry("push %rax\ncall entry@PLT\npop %rax\nret"), "recursion: entry");
}

#[test]
fn functions_whose_address_is_taken_are_refused() {
    let callee = local("callee", "ret");
    refused(
        &(entry("lea callee(%rip), %rax\ncall *%rax\nret") + &callee),
        "the address of callee is taken in entry",
    );
    let table = ".section .data.rel.ro,\"aw\"\n.quad callee\n";
    refused(&(entry("ret") + &callee + table), "the address of callee is taken in data");
    // A jump table leads into a function.
    passes(&(entry("jmp *table(,%rax,8)\n1: ret") + ".section .rodata,\"a\"\ntable: .quad 1b\n"));
}

#[test]
fn code_is_bounded() {
    refused(&entry(&("nop\n".repeat(17000) + "ret")), "reaches 17001 bytes of code, more than 16384");
    if let Some(output) = audit(&entry("nop\nnop\nret"), &["--text", "2", "--stack", "entry=4"]) {
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("reaches 3 bytes of code, more than 2"), "{text}");
        assert!(text.contains("entry takes 8 bytes of stack, more than 4"), "{text}");
    }
}

#[test]
fn code_without_a_name_is_refused() {
    refused(&(entry("ret") + &"nop\n".repeat(40)), "belong to no function");
}

/// What the audit says about a module with the contract `lines`.
fn module(source: &str, lines: &str) -> Option<(Option<i32>, String)> {
    let contract = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(contract.path(), lines).unwrap();
    let output = audit(source, &["--module", contract.path().to_str().unwrap()])?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// A module: a notifier that calls the scanner, which calls back, and code that runs before.
fn a_module(callback: &str) -> String {
    local(
        "on_panic",
        "sub $24, %rsp\ncall scan@PLT\ntest %eax, %eax\njnz on_panic.cold\nadd $24, %rsp\njmp __x86_return_thunk",
    ) + &local("on_panic.cold", "call _printk@PLT\njmp on_panic+9")
        + &local("scan", "push %rax\ncall __x86_indirect_thunk_rax@PLT\npop %rax\nret")
        + &local("callback", callback)
        + &local("init", "lea callback(%rip), %rax\ncall kmalloc@PLT\ncall init\nud2")
}

const CONTRACT: &str =
    "# The notifier.\nentry on_panic 200\ncallback callback\npanic _printk __x86_*\nother kmalloc\n";

#[test]
fn a_module_that_keeps_its_contract_passes() {
    let Some((code, text)) = module(&a_module("sub $40, %rsp\nadd $40, %rsp\nret\nint3"), CONTRACT) else {
        return;
    };
    assert_eq!(code, Some(0), "{text}");
    // 24, 8 and 40 bytes, and three return addresses.
    assert!(text.contains("on_panic: 96 bytes of stack (limit 200)"), "{text}");
    assert!(text.contains("callbacks are called by: scan\n"), "{text}");
}

#[test]
fn a_module_that_breaks_its_contract_is_refused() {
    for (callback, because) in [
        ("call kmalloc@PLT\nret", "callback uses kmalloc in a panic, against the contract"),
        ("call schedule@PLT\nret", "schedule is not in the contract, and is used by callback"),
        ("ud2", "callback: the instruction at +0x0 traps (Ud2)"),
        ("push %rax\ncall callback\npop %rax\nret", "recursion: callback"),
        ("sub $1000, %rsp\nadd $1000, %rsp\nret", "on_panic takes 1056 bytes of stack, more than 200"),
        ("movaps %xmm0, (%rsp)\nret", "floating point or vector registers"),
    ] {
        let Some((code, text)) = module(&a_module(callback), CONTRACT) else { return };
        assert_eq!(code, Some(1), "{text}");
        assert!(text.lines().any(|line| line.starts_with("VIOLATION: ") && line.contains(because)), "{text}");
    }
    let Some((_, text)) = module(&a_module("ret"), "entry on_oops 1\n") else { return };
    assert!(text.contains("the contract names on_oops, which is not there"), "{text}");
    let Some((code, text)) = module(&a_module("ret"), "entry on_panic\n") else { return };
    assert_eq!(code, Some(2));
    assert!(text.contains("line 1: not entry NAME BYTES"), "{text}");
}

#[test]
fn the_report_is_also_json() {
    let Some(output) = audit(&entry("ret"), &["--json"]) else { return };
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["violations"], serde_json::json!([]));
    assert_eq!(report["entries"][0]["stack_bytes"], 8);
}

#[test]
fn what_is_no_object_is_unusable() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (arguments, words) in
        [(&[][..], "not an ELF object"), (&["--stack", "x"][..], "BYTES or ENTRY=BYTES")]
    {
        let output = run(file.path(), arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(words));
    }
}

#[test]
fn a_stack_of_its_own_has_to_be_in_the_contract() {
    let source = entry("lea place(%rip), %rsp\nret") + ".bss\nplace: .skip 8\n";
    let Some((_, text)) = module(&source, "entry entry 100\n") else { return };
    assert!(text.contains("makes a stack frame of variable size"), "{text}");
    let Some((_, text)) = module(&source, "entry entry 100\nstack entry\n") else { return };
    assert!(text.contains("all rules hold"), "{text}");
}
