//! The real machine.
//!
//! kexec jumps to `stage_entry` in 64-bit mode, with interrupts off, with an identity map that covers the area, and
//! with empty descriptor tables. The stage restores all registers at its end, except the task register. A kernel loads
//! its own task register before it uses one.

use crate::machine::Machine;
use crate::parameters::{FaultInjection, Parameters};
use crate::stage::{self, End, Exception, Progress};
use core::arch::{asm, global_asm, x86_64};
use core::mem::offset_of;
use core::ptr::{addr_of, addr_of_mut};
use scanner_core::PAGE_SIZE;

/// Size of the stack in bytes. `linker/audit` checks the stack use of the stage.
const STACK_SIZE: usize = 16 << 10;
/// Size of the stack for exceptions, and of the stack for NMIs, in bytes.
const EXCEPTION_STACK_SIZE: usize = 1 << 10;

/// Number of exception vectors.
const VECTORS: usize = 32;
/// Distance of the entries of two vectors, in bytes.
const VECTOR_SPACE: usize = 16;

/// Bits of CPUID leaf 1, EDX: machine check exception and machine check architecture (Intel SDM volume 3, 16.2).
const CPUID_MCE: u32 = 1 << 7;
const CPUID_MCA: u32 = 1 << 14;
/// The model-specific register IA32_MCG_STATUS; bit 2 is MCIP.
const MCG_STATUS: u32 = 0x17a;

/// Selector of the code segment. It is that of Linux, which is loaded when kexec jumps to the stage.
const CODE: u16 = 0x10;
/// Selector of the task state segment.
const TASK: u16 = 0x20;

#[repr(C, align(4096))]
struct Stack {
    /// The guard page: not mapped, so a stack overflow causes an exception.
    guard: [u8; PAGE_SIZE],
    stack: [u8; STACK_SIZE],
}
#[repr(C, align(64))]
struct ExceptionStack([u8; EXCEPTION_STACK_SIZE]);

/// The operand of `lgdt` and `lidt`.
#[repr(C, packed)]
struct TablePointer {
    limit: u16,
    base: u64,
}

/// The registers at the entry of the stage.
#[repr(C)]
struct SavedRegisters {
    general: [u64; 16],
    flags: u64,
    cr0: u64,
    cr3: u64,
    cr4: u64,
    gdt: [u8; 16],
    idt: [u8; 16],
}

#[repr(C, align(64))]
struct Tables {
    gdt: [u64; 6],
    idt: [[u64; 2]; VECTORS],
    /// The task state segment: 104 bytes.
    tss: [u32; 26],
}

// Only one processor runs, and only one function uses these at a time.
static mut STACK: Stack = Stack { guard: [0; PAGE_SIZE], stack: [0; STACK_SIZE] };
static mut EXCEPTION_STACK: ExceptionStack = ExceptionStack([0; EXCEPTION_STACK_SIZE]);
static mut NMI_STACK: ExceptionStack = ExceptionStack([0; EXCEPTION_STACK_SIZE]);
static mut SAVED: SavedRegisters =
    SavedRegisters { general: [0; 16], flags: 0, cr0: 0, cr3: 0, cr4: 0, gdt: [0; 16], idt: [0; 16] };
static mut EXCEPTION: Exception = Exception::NONE;
static mut TABLES: Tables = Tables { gdt: [0; 6], idt: [[0; 2]; VECTORS], tss: [0; 26] };
static mut RECOVERY: u64 = 0;
static PROGRESS: Progress = Progress::new();

global_asm!(
    ".section .text.stage_entry,\"ax\",@progbits",
    ".globl stage_entry",
    ".type stage_entry,@function",
    "stage_entry:",
    // Save every register before it is used.
    "mov [rip + {saved} + 0x00], rax",
    "mov [rip + {saved} + 0x08], rbx",
    "mov [rip + {saved} + 0x10], rcx",
    "mov [rip + {saved} + 0x18], rdx",
    "mov [rip + {saved} + 0x20], rsi",
    "mov [rip + {saved} + 0x28], rdi",
    "mov [rip + {saved} + 0x30], rbp",
    "mov [rip + {saved} + 0x38], rsp",
    "mov [rip + {saved} + 0x40], r8",
    "mov [rip + {saved} + 0x48], r9",
    "mov [rip + {saved} + 0x50], r10",
    "mov [rip + {saved} + 0x58], r11",
    "mov [rip + {saved} + 0x60], r12",
    "mov [rip + {saved} + 0x68], r13",
    "mov [rip + {saved} + 0x70], r14",
    "mov [rip + {saved} + 0x78], r15",
    "lea rsp, [rip + {stack} + {stack_size}]",
    "pushfq",
    "pop [rip + {saved} + {flags}]",
    "cli",
    "cld",
    "mov rax, cr0",
    "mov [rip + {saved} + {cr0}], rax",
    "mov rax, cr3",
    "mov [rip + {saved} + {cr3}], rax",
    "mov rax, cr4",
    "mov [rip + {saved} + {cr4}], rax",
    "sgdt [rip + {saved} + {gdt}]",
    "sidt [rip + {saved} + {idt}]",
    // From here on, an exception jumps to the address in RECOVERY.
    "lea rax, [rip + 2f]",
    "mov [rip + {recovery}], rax",
    "lea rdi, [rip + stage_vectors]",
    "call {load_descriptor_tables}",
    "lea rax, [rip + 3f]",
    "mov [rip + {recovery}], rax",
    "lea rdi, [rip + stage_image]",
    "lea rsi, [rip + stage_parameters]",
    "call {scan}",
    "jmp 4f",
    "3:",
    "lea rsp, [rip + {stack} + {stack_size}]",
    "mov eax, {exception}",
    "4:",
    "lea rcx, [rip + 2f]",
    "mov [rip + {recovery}], rcx",
    "lea rdi, [rip + stage_image]",
    "lea rsi, [rip + stage_parameters]",
    "mov edx, eax",
    "call {finish}",
    // Restore all registers and continue to the capture kernel.
    "2:",
    "mov rax, [rip + {saved} + {cr3}]",
    "mov cr3, rax",
    "mov rax, [rip + {saved} + {cr4}]",
    "mov cr4, rax",
    "mov rax, [rip + {saved} + {cr0}]",
    "mov cr0, rax",
    "lgdt [rip + {saved} + {gdt}]",
    "lidt [rip + {saved} + {idt}]",
    "lea rsp, [rip + {stack} + {stack_size}]",
    "push [rip + {saved} + {flags}]",
    "popfq",
    "mov rax, [rip + {saved} + 0x00]",
    "mov rbx, [rip + {saved} + 0x08]",
    "mov rcx, [rip + {saved} + 0x10]",
    "mov rdx, [rip + {saved} + 0x18]",
    "mov rsi, [rip + {saved} + 0x20]",
    "mov rdi, [rip + {saved} + 0x28]",
    "mov rbp, [rip + {saved} + 0x30]",
    "mov rsp, [rip + {saved} + 0x38]",
    "mov r8, [rip + {saved} + 0x40]",
    "mov r9, [rip + {saved} + 0x48]",
    "mov r10, [rip + {saved} + 0x50]",
    "mov r11, [rip + {saved} + 0x58]",
    "mov r12, [rip + {saved} + 0x60]",
    "mov r13, [rip + {saved} + 0x68]",
    "mov r14, [rip + {saved} + 0x70]",
    "mov r15, [rip + {saved} + 0x78]",
    "jmp [rip + stage_parameters + {entry}]",
    ".size stage_entry, . - stage_entry",
    // One entry per vector. An exception without an error code pushes 0.
    ".section .text.stage_vectors,\"ax\",@progbits",
    ".globl stage_vectors",
    ".type stage_vectors,@function",
    ".balign 16",
    "stage_vectors:",
    ".set vector, 0",
    ".rept 32",
    ".balign 16",
    ".if vector == 2",
    // Ignore NMIs: they come from a watchdog, or from a processor that requests backtraces.
    "iretq",
    ".else",
    ".if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 || vector >= 29 && vector <= 30)",
    "push 0",
    ".endif",
    "push vector",
    "jmp stage_exception",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    ".size stage_vectors, . - stage_vectors",
    ".type stage_exception,@function",
    "stage_exception:",
    "pop [rip + {seen}]",
    "pop [rip + {seen} + 8]",
    "pop [rip + {seen} + 16]",
    "mov rax, cr2",
    "mov [rip + {seen} + 24], rax",
    // Clear MCG_STATUS.MCIP: a second machine check would otherwise reset the machine.
    "cmp dword ptr [rip + {seen}], 18",
    "jne 5f",
    "xor eax, eax",
    "xor edx, edx",
    "mov ecx, {mcg_status}",
    "wrmsr",
    "5:",
    "lea rsp, [rip + {stack} + {stack_size}]",
    "jmp [rip + {recovery}]",
    ".size stage_exception, . - stage_exception",
    mcg_status = const MCG_STATUS,
    saved = sym SAVED,
    flags = const offset_of!(SavedRegisters, flags),
    cr0 = const offset_of!(SavedRegisters, cr0),
    cr3 = const offset_of!(SavedRegisters, cr3),
    cr4 = const offset_of!(SavedRegisters, cr4),
    gdt = const offset_of!(SavedRegisters, gdt),
    idt = const offset_of!(SavedRegisters, idt),
    stack = sym STACK,
    stack_size = const size_of::<Stack>(),
    recovery = sym RECOVERY,
    seen = sym EXCEPTION,
    exception = const End::Exception as u32,
    entry = const offset_of!(Parameters, entry),
    load_descriptor_tables = sym load_descriptor_tables,
    scan = sym stage_scan,
    finish = sym stage_finish,
);

/// Loads the stage's descriptor tables, and enables machine check exceptions.
extern "C" fn load_descriptor_tables(vectors: u64) {
    let tables = addr_of_mut!(TABLES);
    // SAFETY: only this processor runs, and nothing else uses the tables yet. The descriptors are those of Linux' code
    // and data segments, and each gate points to the entry of its vector. The stacks are the stage's own.
    unsafe {
        let top = |stack: *mut ExceptionStack| (stack as u64).wrapping_add(EXCEPTION_STACK_SIZE as u64);
        let tss = addr_of_mut!((*tables).tss);
        // Entries 1 and 2 of the interrupt stack table start at byte 36.
        let stacks = [top(addr_of_mut!(EXCEPTION_STACK)), top(addr_of_mut!(NMI_STACK))];
        for (index, stack) in stacks.into_iter().enumerate() {
            (tss as *mut u8).add(36).cast::<u64>().add(index).write_unaligned(stack);
        }
        let base = tss as u64;
        (*tables).gdt = [
            0,
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x0000_8900_0000_0067 | (base & 0x00ff_ffff) << 16 | (base >> 24 & 0xff) << 56,
            base >> 32,
        ];
        for vector in 0..VECTORS {
            let entry = vectors.wrapping_add(vector.wrapping_mul(VECTOR_SPACE) as u64);
            let stack = if vector == 2 { 2 } else { 1 };
            // A present interrupt gate with that entry of the interrupt stack table.
            let low = entry & 0xffff
                | (CODE as u64) << 16
                | stack << 32
                | 0x8e << 40
                | (entry >> 16 & 0xffff) << 48;
            addr_of_mut!((*tables).idt).cast::<[u64; 2]>().add(vector).write([low, entry >> 32]);
        }
        let pointer = |base: u64, size: usize| TablePointer { limit: size.wrapping_sub(1) as u16, base };
        let gdt = pointer(addr_of!((*tables).gdt) as u64, size_of::<[u64; 6]>());
        let idt = pointer(addr_of!((*tables).idt) as u64, size_of::<[[u64; 2]; VECTORS]>());
        asm!(
            "lgdt [{gdt}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov {scratch:e}, 0x18",
            "mov ss, {scratch:e}",
            "mov ds, {scratch:e}",
            "mov es, {scratch:e}",
            "mov {scratch:e}, {task}",
            "ltr {scratch:x}",
            "lidt [{idt}]",
            gdt = in(reg) &raw const gdt,
            idt = in(reg) &raw const idt,
            code = const CODE,
            task = const TASK,
            scratch = out(reg) _,
        );
        // Enable machine check exceptions if the processor supports them. First clear MCG_STATUS.MCIP, which stays set if the
        // kernel panicked in a machine check: with MCIP set, another machine check shuts the processor down.
        let features = x86_64::__cpuid(1).edx;
        if features & CPUID_MCA != 0 {
            asm!("wrmsr", in("ecx") MCG_STATUS, in("eax") 0, in("edx") 0, options(nostack, preserves_flags));
        }
        if features & CPUID_MCE != 0 {
            asm!("mov {cr4}, cr4", "or {cr4}, 0x40", "mov cr4, {cr4}", cr4 = out(reg) _, options(nostack));
        }
    }
}

extern "C" fn stage_scan(image: *mut u8, block: *const u8) -> End {
    // SAFETY: the area is at `image`, with the parameters after the image. If not, an exception ends this function.
    unsafe { stage::scan::<Bare>(image, block, &PROGRESS) }
}

extern "C" fn stage_finish(image: *mut u8, block: *const u8, end: End) {
    // SAFETY: as above.
    unsafe {
        let exception = addr_of!(EXCEPTION).read();
        stage::finish::<Bare>(image, block, &PROGRESS, end, &exception);
    }
}

/// The processor that runs the stage.
struct Bare;

/// Instructions for fault injection only: `ud2`; `int 18`, which enters the machine check handler; an endless loop of
/// `push rax`. They are data, so that the code contains no trap instruction.
static FAULT_CODE: [[u8; 3]; 3] = [[0x0f, 0x0b, 0x90], [0xcd, 0x12, 0x90], [0x50, 0xeb, 0xfd]];

impl Machine for Bare {
    fn ticks() -> u64 {
        // SAFETY: every processor with 64-bit mode has the instruction, and kexec leaves CR4.TSD clear.
        unsafe { x86_64::_rdtsc() }
    }

    fn at(addr: u64) -> *mut u8 {
        addr as *mut u8
    }

    fn address_of(place: *const u8) -> u64 {
        place as u64
    }

    fn guard() -> *const u8 {
        addr_of!(STACK).cast()
    }

    fn has_five_levels() -> bool {
        let cr4: u64;
        // SAFETY: only reads a register.
        unsafe { asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags)) };
        cr4 & 1 << 12 != 0
    }

    unsafe fn use_page_tables(root: u64) {
        // SAFETY: the caller's promise.
        unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags)) };
    }

    fn inject_fault(fault: u64) {
        let is = |kind: FaultInjection| fault == kind as u64;
        let code = if is(FaultInjection::InvalidOpcode) {
            addr_of!(FAULT_CODE[0])
        } else if is(FaultInjection::MachineCheck) {
            addr_of!(FAULT_CODE[1])
        } else if is(FaultInjection::StackOverflow) {
            addr_of!(FAULT_CODE[2])
        } else {
            // An address in the upper half, which is not mapped, or a non-canonical address.
            let address: u64 = if is(FaultInjection::PageFault) { !0xfff } else { 1 << 63 };
            // SAFETY: unsound on purpose: the exception is the purpose of this read.
            unsafe { asm!("mov {0}, [{0}]", inout(reg) address => _, options(nostack)) };
            return;
        };
        // SAFETY: unsound on purpose: the exception is the purpose of this jump.
        unsafe { asm!("jmp {}", in(reg) code) }
    }

    fn print(port: u16, byte: u8) {
        // A byte takes 0.1 s at 110 baud, and a port access takes more than a microsecond.
        let mut polls = 100_000_u32;
        while polls > 0 && in_byte(port.wrapping_add(5)) & 0x20 == 0 {
            polls = polls.wrapping_sub(1);
        }
        // SAFETY: the user configured a serial console at this port.
        unsafe { asm!("out dx, al", in("dx") port, in("al") byte, options(nomem, nostack, preserves_flags)) };
    }
}

fn in_byte(port: u16) -> u8 {
    let byte;
    // SAFETY: the user configured a serial console at this port; reading its state changes nothing.
    unsafe { asm!("in al, dx", in("dx") port, out("al") byte, options(nomem, nostack, preserves_flags)) };
    byte
}
