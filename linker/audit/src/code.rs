//! Reads the instructions of a function: what they touch, where they lead, and how they change the stack pointer.

use crate::object_file::{Function, Program, SectionIndex, Target};
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a function does, as far as the rules need it.
#[derive(Debug, Default)]
pub struct Body {
    /// Functions of the object that it calls or jumps to, by index.
    pub callees: Vec<usize>,
    /// Symbols outside of the object that it calls or jumps to.
    pub foreign: Vec<String>,
    /// How many calls it makes through pointers.
    pub indirect_calls: usize,
    /// The most bytes that it takes from the stack, without its return address.
    pub frame: u64,
    /// Where it breaks a rule.
    pub faults: Vec<Fault>,
}

/// An instruction that breaks a rule.
#[derive(Debug)]
pub struct Fault {
    /// The instruction's offset in its section.
    pub at: u64,
    /// The kind of rule that it breaks.
    pub kind: FaultKind,
    /// What the instruction does, as in "the instruction at +0x1f traps".
    pub what: String,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Floating point or vector registers.
    Vectors,
    /// A trap.
    Trap,
    /// The stack pointer cannot be followed, or memory below it is touched.
    Stack,
    /// A call or jump that leads to no function, bytes that are no instruction, or a function without an end.
    Flow,
}

/// The bodies of all functions of `program`, in their order.
pub fn bodies(program: &Program<'_>) -> Vec<Body> {
    let targets = Targets::of(program);
    program.functions.iter().map(|function| Body::of(program, function, &targets)).collect()
}

fn decode(function: &Function<'_>) -> Vec<Instruction> {
    Decoder::with_ip(64, function.bytes, function.offset, DecoderOptions::NONE).into_iter().collect()
}

/// All places that a branch, a jump table or another pointer leads to.
struct Targets(BTreeSet<(SectionIndex, u64)>);

impl Targets {
    fn of(program: &Program<'_>) -> Self {
        let mut places: BTreeSet<(SectionIndex, u64)> = program
            .relocations
            .iter()
            .filter_map(|relocation| match relocation.target {
                Target::Place(section, offset) => Some((section, offset)),
                _ => None,
            })
            .collect();
        for function in &program.functions {
            let branches = decode(function).into_iter().filter(|instruction| {
                instruction.near_branch_target() != 0
                    && relocation_of(program, function, instruction).is_none()
            });
            places.extend(branches.map(|branch| (function.section, branch.near_branch_target())));
        }
        Self(places)
    }

    /// For each of the instructions of `function`, whether it is an `int3` that no execution reaches.
    ///
    /// Such an `int3` follows an unconditional jump, a return or another unreachable `int3`, and nothing leads to it:
    /// compilers put it there against straight-line speculation. The entry of a relative jump table is not followed.
    fn padding(&self, function: &Function<'_>, instructions: &[Instruction]) -> Vec<bool> {
        let mut unreachable = false;
        let mut padding = Vec::with_capacity(instructions.len());
        for instruction in instructions {
            let is_target = self.0.contains(&(function.section, instruction.ip()));
            let is_padding = unreachable && !is_target && instruction.mnemonic() == Mnemonic::Int3;
            padding.push(is_padding);
            unreachable = is_padding
                || matches!(
                    instruction.flow_control(),
                    FlowControl::Return | FlowControl::UnconditionalBranch | FlowControl::IndirectBranch
                );
        }
        padding
    }
}

impl Body {
    /// Reads all instructions of `function`.
    fn of(program: &Program<'_>, function: &Function<'_>, targets: &Targets) -> Self {
        let instructions = decode(function);
        let padding = targets.padding(function, &instructions);
        let mut body = Self::default();
        let mut info = InstructionInfoFactory::new();
        for (instruction, padding) in instructions.iter().zip(padding) {
            if let Some((kind, what)) = forbidden(instruction, &mut info).filter(|_| !padding) {
                body.fault(instruction.ip(), kind, what);
            }
            body.follow(program, function, instruction);
        }
        body.check_end(&instructions);
        body.measure(program, function, &instructions, &mut info);
        body.callees.sort_unstable();
        body.callees.dedup();
        body
    }

    fn fault(&mut self, at: u64, kind: FaultKind, what: impl Into<String>) {
        self.faults.push(Fault { at, kind, what: what.into() });
    }

    /// Checks that no execution passes the last instruction. A call there is one that does not return.
    fn check_end(&mut self, instructions: &[Instruction]) {
        // Alignment after the end can be part of the function.
        let end = instructions.iter().rposition(|instruction| instruction.mnemonic() != Mnemonic::Nop);
        if let Some(last) = instructions.get(end.unwrap_or(0))
            && matches!(last.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch)
        {
            self.fault(last.ip(), FaultKind::Flow, "is the last one, and execution continues after it");
        }
    }

    /// Notes where a call or jump leads.
    fn follow(&mut self, program: &Program<'_>, function: &Function<'_>, instruction: &Instruction) {
        let is_call = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        let is_jump = matches!(
            instruction.flow_control(),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
        );
        if instruction.flow_control() == FlowControl::IndirectCall {
            self.indirect_calls += 1;
        } else if is_call || is_jump {
            let relocated = relocation_of(program, function, instruction);
            match relocated.unwrap_or(Target::Place(function.section, instruction.near_branch_target())) {
                Target::Place(section, offset) => match program.function_at(section, offset) {
                    Some(index)
                        if is_jump
                            && program.functions[index].offset == function.offset
                            && section == function.section => {}
                    Some(index) => self.callees.push(index),
                    None => {
                        self.fault(
                            instruction.ip(),
                            FaultKind::Flow,
                            "leads to code that belongs to no function",
                        );
                    }
                },
                // The kernel calls through a register by these.
                Target::Undefined(name) if name.starts_with("__x86_indirect_thunk_") => {
                    self.indirect_calls += 1;
                    self.foreign.push(name);
                }
                Target::Undefined(name) => self.foreign.push(name),
                Target::Absolute => {
                    self.fault(instruction.ip(), FaultKind::Flow, "leads to an absolute address");
                }
            }
        }
    }

    /// Follows the stack pointer along all paths through the function.
    fn measure(
        &mut self,
        program: &Program<'_>,
        function: &Function<'_>,
        instructions: &[Instruction],
        info: &mut InstructionInfoFactory,
    ) {
        let index: BTreeMap<u64, usize> = instructions.iter().enumerate().map(|(n, i)| (i.ip(), n)).collect();
        let mut depths: Vec<Option<Depth>> = vec![None; instructions.len()];
        let mut work = vec![(0, Depth::default())];
        // The deepest point with a jump through a table. The targets of such a jump are data, so all code that no
        // other path reaches is taken for a target.
        let mut table_jump: Option<Depth> = None;
        loop {
            while let Some((at, depth)) = work.pop() {
                let (Some(instruction), Some(known)) = (instructions.get(at), depths.get_mut(at)) else {
                    continue;
                };
                if let Some(known) = known {
                    if known.bytes != depth.bytes {
                        let what = "is reached with stack frames of different sizes";
                        self.fault(instruction.ip(), FaultKind::Stack, what);
                    }
                    continue;
                }
                *known = Some(depth);
                let after = match depth.after(instruction) {
                    Ok(after) => after,
                    Err(fault) => {
                        self.fault(instruction.ip(), FaultKind::Stack, fault);
                        continue;
                    }
                };
                self.frame = self.frame.max(after.bytes);
                // A jump with a relocation leaves the function; the target in its bytes means nothing.
                let target = match relocation_of(program, function, instruction) {
                    Some(_) => None,
                    None => index.get(&instruction.near_branch_target()).copied(),
                };
                match instruction.flow_control() {
                    FlowControl::Return | FlowControl::Exception | FlowControl::Interrupt => {}
                    FlowControl::UnconditionalBranch => work.extend(target.map(|t| (t, after))),
                    FlowControl::ConditionalBranch => {
                        work.extend(target.map(|t| (t, after)));
                        work.push((at + 1, after));
                    }
                    FlowControl::IndirectBranch => {
                        table_jump = table_jump.max(Some(after));
                    }
                    _ => work.push((at + 1, after)),
                }
            }
            let next = depths.iter().position(Option::is_none);
            match (next, table_jump) {
                (Some(next), Some(depth)) => work.push((next, depth)),
                _ => break,
            }
        }
        for (instruction, depth) in instructions.iter().zip(&depths) {
            let Some(depth) = depth else { continue };
            for memory in info.info(instruction).used_memory() {
                let below = match memory.base() {
                    Register::RSP => memory.displacement().cast_signed() < 0,
                    // Below what has been taken from the stack since the frame pointer was set.
                    Register::RBP => depth.frame_pointer.is_some_and(|at| {
                        memory.displacement().cast_signed() < 0
                            && memory.displacement().wrapping_neg() > self.frame.saturating_sub(at)
                    }),
                    _ => false,
                };
                let implicit =
                    matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Call | Mnemonic::Pushfq);
                if below && !implicit && memory.access() != OpAccess::NoMemAccess {
                    let what = "touches memory below the stack pointer (red zone)";
                    self.fault(instruction.ip(), FaultKind::Stack, what);
                }
            }
        }
        if instructions.is_empty() {
            self.fault(function.offset, FaultKind::Flow, "has no instruction");
        }
    }
}

/// The target of the relocation of `instruction`; `None` if it has no relocation.
fn relocation_of(
    program: &Program<'_>,
    function: &Function<'_>,
    instruction: &Instruction,
) -> Option<Target> {
    let from = (function.section, instruction.ip());
    let first = program.relocations.partition_point(|relocation| relocation.at < from);
    let relocation = program.relocations.get(first)?;
    (relocation.at < (function.section, instruction.next_ip())).then(|| relocation.target.clone())
}

/// The bytes of stack in use at a point of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Depth {
    bytes: u64,
    /// The bytes in use when RBP became the frame pointer.
    frame_pointer: Option<u64>,
}

impl Depth {
    /// The depth after `instruction`.
    fn after(self, instruction: &Instruction) -> Result<Self, String> {
        let to_rsp =
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
        let variable = || Err("makes a stack frame of variable size".to_owned());
        let immediate = instruction.try_immediate(1).ok();
        let grown = |bytes: u64| Self { bytes: self.bytes.wrapping_add(bytes), ..self };
        Ok(match instruction.mnemonic() {
            Mnemonic::Push | Mnemonic::Pushfq => grown(8),
            Mnemonic::Pop | Mnemonic::Popfq if self.bytes >= 8 => Self {
                frame_pointer: self.frame_pointer.filter(|_| instruction.op0_register() != Register::RBP),
                ..grown(8_u64.wrapping_neg())
            },
            Mnemonic::Sub if to_rsp => match immediate {
                Some(bytes) => grown(bytes),
                None => return variable(),
            },
            Mnemonic::Add if to_rsp => match immediate {
                Some(bytes) => grown(bytes.wrapping_neg()),
                None => return variable(),
            },
            Mnemonic::And if to_rsp => match immediate {
                // Rounds down to a multiple of a power of two, which takes at most that power less 8.
                Some(mask) => grown(mask.wrapping_neg().saturating_sub(8)),
                None => return variable(),
            },
            Mnemonic::Lea if to_rsp => match (instruction.memory_base(), instruction.memory_index()) {
                (Register::RSP, Register::None) => grown(instruction.memory_displacement64().wrapping_neg()),
                (Register::RBP, Register::None) => match self.frame_pointer {
                    Some(at) => Self { bytes: at.wrapping_sub(instruction.memory_displacement64()), ..self },
                    None => return variable(),
                },
                _ => return variable(),
            },
            Mnemonic::Mov
                if instruction.code() == Code::Mov_rm64_r64 || instruction.code() == Code::Mov_r64_rm64 =>
            {
                match (instruction.op0_register(), instruction.op1_register()) {
                    (Register::RBP, Register::RSP) => Self { frame_pointer: Some(self.bytes), ..self },
                    (Register::RSP, Register::RBP) => match self.frame_pointer {
                        Some(at) => Self { bytes: at, ..self },
                        None => return variable(),
                    },
                    (Register::RSP, _) => return variable(),
                    _ => self,
                }
            }
            Mnemonic::Leave => match self.frame_pointer {
                Some(at) => Self { bytes: at.saturating_sub(8), frame_pointer: None },
                None => return variable(),
            },
            Mnemonic::Xchg if to_rsp => return variable(),
            _ => self,
        })
    }
}

/// The rule that an instruction breaks by itself.
fn forbidden(instruction: &Instruction, info: &mut InstructionInfoFactory) -> Option<(FaultKind, String)> {
    if instruction.is_invalid() {
        return Some((FaultKind::Flow, "cannot be decoded".to_owned()));
    }
    let mnemonic = instruction.mnemonic();
    let of_vectors = |register: Register| {
        register.is_xmm()
            || register.is_ymm()
            || register.is_zmm()
            || register.is_mm()
            || register.is_st()
            || register.is_k()
            || register.is_tmm()
    };
    let state = [
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU387,
        CpuidFeature::MMX,
        CpuidFeature::FXSR,
        CpuidFeature::XSAVE,
    ];
    if info.info(instruction).used_registers().iter().any(|used| of_vectors(used.register()))
        || instruction.cpuid_features().iter().any(|feature| state.contains(feature))
        || matches!(mnemonic, Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr | Mnemonic::Emms)
    {
        let what = format!("uses floating point or vector registers ({mnemonic:?})");
        return Some((FaultKind::Vectors, what));
    }
    match mnemonic {
        Mnemonic::Ud2 | Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Int | Mnemonic::Int3 | Mnemonic::Hlt => {
            Some((FaultKind::Trap, format!("traps ({mnemonic:?})")))
        }
        _ => None,
    }
}
