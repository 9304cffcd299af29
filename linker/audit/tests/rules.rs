//! The audit passes an object that keeps the rules, and refuses an object that breaks one of them.

use std::path::Path;
use std::process::{Command, Output};

/// A function `entry` with these instructions, in its own section.
fn entry(body: &str) -> String {
    format!(".globl entry\n{}", local("entry", body))
}

/// A function `name` that others of the same object can call.
fn local(name: &str, body: &str) -> String {
    format!(
        ".section .text.{name},\"ax\",@progbits\n.type {name},@function\n{name}:\n{body}\n.size {name},.-{name}\n"
    )
}

/// Runs the audit on the object that `source` assembles to; `None` on a machine without an assembler.
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
    // Assemblers write the types that a linker may relax; `.reloc` writes the older one.
    for (instruction, kind) in [
        ("call *memcpy@GOTPCREL(%rip)", "R_X86_64_GOTPCRELX"),
        ("mov memcpy@GOTPCREL(%rip), %rax", "R_X86_64_REX_GOTPCRELX"),
        (".reloc .+2, R_X86_64_GOTPCREL, memcpy-4\ncall *0(%rip)", "R_X86_64_GOTPCREL"),
    ] {
        let because = format!(
            "entry: 1 relocations of type {kind}, but no loader of kernel modules makes a global offset table"
        );
        refused(&entry(&format!("{instruction}\nret")), &because);
        refused(&entry(&format!("{instruction}\nret")), "rustup component add rust-src");
    }
    let two = local("callee", "call *memcpy@GOTPCREL(%rip)\ncall *memset@GOTPCREL(%rip)\nret");
    let one = entry("mov memcpy@GOTPCREL(%rip), %rax\njmp callee");
    let types = "callee, entry: 3 relocations of type R_X86_64_GOTPCRELX, R_X86_64_REX_GOTPCRELX, but";
    refused(&(one.clone() + &two), types);
    // A kernel module is refused for the same reason.
    let Some((code, text)) = module(&(one + &two), "entry entry 100\npanic mem*\n") else { return };
    assert_eq!(code, Some(1));
    assert!(text.contains(types), "{text}");
}

#[test]
fn relocations_that_loaders_do_not_know_are_refused() {
    refused(
        &entry("mov x@tpoff, %eax\nret"),
        "relocation of type R_X86_64_TPOFF32, which loaders do not know",
    );
}

/// Bodies of a function in which an `int3` can run.
const REACHABLE_INT3: [(&str, &str); 8] = [
    ("int3\nret", "+0x0 traps (Int3)"),
    // After an instruction, a call and a jump that may not be taken.
    ("nop\nint3", "+0x1 traps (Int3)"),
    ("call callee\nint3", "+0x5 traps (Int3)"),
    ("test %eax, %eax\njz 1f\nint3\n1: ret", "+0x4 traps (Int3)"),
    // A jump leads to it.
    ("test %eax, %eax\njz 1f\nret\n1: int3", "+0x5 traps (Int3)"),
    ("jmp 1f\nint3\n1: int3", "+0x3 traps (Int3)"),
    // A jump table leads to it, and another function.
    (
        "jmp *table(,%rax,8)\nint3\n1: int3\n.section .rodata,\"a\"\ntable: .quad 1b\n.previous",
        "+0x8 traps (Int3)",
    ),
    ("jmp callee\nint3\n.globl inside\ninside: int3", "+0x6 traps (Int3)"),
];

#[test]
fn an_int3_that_can_run_is_a_trap() {
    for (body, because) in REACHABLE_INT3 {
        let leads = if body.contains("inside:") { "jz inside" } else { "nop" };
        let source = entry(body) + &local("callee", &format!("test %eax, %eax\n{leads}\nret"));
        let Some(output) = audit(&source, &[]) else { return };
        let text = String::from_utf8_lossy(&output.stdout);
        let traps: Vec<&str> = text.lines().filter(|line| line.contains("traps")).collect();
        assert_eq!(traps.len(), 1, "{body}\n{text}");
        assert!(traps[0].ends_with(because), "{body}\n{text}");
        // In a module, for a function that runs in a panic.
        let (code, text) = module(&source, "entry entry 100\n").unwrap();
        assert_eq!(code, Some(1));
        assert!(text.contains(because), "{body}\n{text}");
        // And for no other one.
        let (code, text) = module(&(source + &local("init", "ret")), "entry init 100\n").unwrap();
        assert_eq!(code, Some(0), "{body}\n{text}");
    }
}

#[test]
fn an_int3_that_cannot_run_is_padding() {
    for body in ["ret\nint3\nint3", "jmp *%rax\nint3", "jmp callee\nint3", "jmp 1f\nint3\n1: ret"] {
        passes(&(entry(body) + &local("callee", "ret\nint3")));
    }
    // Between two functions it belongs to none.
    passes(&(entry("ret") + "int3\nint3\n"));
}

#[test]
fn a_function_that_does_not_end_is_refused() {
    for body in ["nop", "push %rax\npop %rax", "test %eax, %eax\njz entry", "1: test %eax, %eax\njnz 1b\nnop"]
    {
        refused(&entry(body), "is the last one, and execution continues after it");
    }
    passes(&entry("ret\nnop\nnop"));
    // A call of a function that does not return.
    passes(&(entry("push %rax\ncall callee") + &local("callee", "1: jmp 1b")));
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
    // Both arms of a branch give back what they took.
    let text = passes(&entry(
        "test %eax, %eax\njz 1f\npush %rax\npop %rax\nret\n1: sub $40, %rsp\nadd $40, %rsp\nret",
    ));
    assert!(text.is_empty() || text.contains("entry: 48 bytes of stack"), "{text}");
    // A jump to another function does not lead to the code after the jump.
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

/// Runs the audit on a module with the contract `lines`.
fn module(source: &str, lines: &str) -> Option<(Option<i32>, String)> {
    let contract = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(contract.path(), lines).unwrap();
    let output = audit(source, &["--module", contract.path().to_str().unwrap()])?;
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// A module: a notifier that calls the scanner, which calls back, and code that runs before the crash.
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
fn the_report_names_what_the_audit_does_not_see() {
    let not_covered = |text: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("not covered: ")).map(str::to_owned).collect()
    };
    let text = passes(&entry("call memcpy@PLT\ncall memset@PLT\nret"));
    if text.is_empty() {
        return;
    }
    assert_eq!(
        not_covered(&text),
        ["the caller's callbacks, and their stack", "the code of memcpy, memset, and its stack"]
    );

    let source = a_module("call __fentry__@PLT\nret") + &local("traced", "call __fentry__@PLT\nret");
    let (code, text) = module(&source, &CONTRACT.replace("__x86_*", "__x86_* __fentry__")).unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(
        not_covered(&text),
        [
            "functions of the kernel, and their stack: _printk",
            "the code and the stack of tracers: ftrace can attach to 1 functions",
            "kprobes, and instructions that the kernel replaces when it loads the module",
        ]
    );
    // A purgatory has no kernel.
    let (_, text) = module(&entry("ret"), "entry entry 100\nstack entry\n").unwrap();
    assert_eq!(not_covered(&text), ["the stack pointer in functions that switch stacks: entry"]);
}

#[test]
fn the_report_is_also_json() {
    let Some(output) = audit(&entry("ret"), &["--json"]) else { return };
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["violations"], serde_json::json!([]));
    assert_eq!(report["entries"][0]["stack_bytes"], 8);
    assert_eq!(report["not_covered"], serde_json::json!(["the caller's callbacks, and their stack"]));
}

#[test]
fn a_file_that_is_no_object_is_unusable() {
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
fn a_function_that_switches_stacks_has_to_be_in_the_contract() {
    let source = entry("lea place(%rip), %rsp\nret") + ".bss\nplace: .skip 8\n";
    let Some((_, text)) = module(&source, "entry entry 100\n") else { return };
    assert!(text.contains("makes a stack frame of variable size"), "{text}");
    let Some((_, text)) = module(&source, "entry entry 100\nstack entry\n") else { return };
    assert!(text.contains("all rules hold"), "{text}");
}
