//! The instructions of a function: what they touch, where they go, and what they do to the stack pointer.

use crate::object_file::{Function, Program, Target};
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};
use std::collections::BTreeMap;

/// What a function does, as far as rules care.
#[derive(Debug, Default)]
pub struct Body {
    /// Functions of the object that it calls or jumps to, by index.
    pub callees: Vec<usize>,
    /// Symbols outside of the object that it calls or jumps to.
    pub foreign: Vec<String>,
    /// How many calls it makes through pointers.
    pub indirect_calls: usize,
    /// The most that it takes from the stack, its return address not counted.
    pub frame: u64,
    /// What it does that it must not.
    pub faults: Vec<Fault>,
}

/// What a function does that it must not.
#[derive(Debug)]
pub struct Fault {
    /// The instruction's offset in its section.
    pub at: u64,
    /// What kind of rule it breaks.
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
    /// The stack can't be followed, or is touched where it must not be.
    Stack,
    /// A call or jump that leads to no function, or bytes that are no instruction.
    Flow,
}

impl Body {
    /// Looks at all instructions of `function`.
    pub fn of(program: &Program<'_>, function: &Function<'_>) -> Self {
        let decoder = Decoder::with_ip(64, function.bytes, function.offset, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.into_iter().collect();
        let mut body = Self::default();
        let mut info = InstructionInfoFactory::new();
        for instruction in &instructions {
            if let Some((kind, what)) = forbidden(instruction, &mut info) {
                body.fault(instruction.ip(), kind, what);
            }
            body.follow(program, function, instruction);
        }
        body.measure(program, function, &instructions, &mut info);
        body.callees.sort_unstable();
        body.callees.dedup();
        body
    }

    fn fault(&mut self, at: u64, kind: FaultKind, what: impl Into<String>) {
        self.faults.push(Fault { at, kind, what: what.into() });
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
                // The kernel's own way to call through a register.
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

    /// Follows the stack pointer along all ways through the function.
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
        // The deepest point from which a jump through a table was made. Where such a jump leads is in data, so all
        // code that nothing else reaches is taken for its target.
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
                // A jump with a relocation leaves the function, wherever its bytes seem to lead.
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

/// What the relocation of `instruction`, if it has one, points to.
fn relocation_of(
    program: &Program<'_>,
    function: &Function<'_>,
    instruction: &Instruction,
) -> Option<Target> {
    let fields = instruction.ip()..instruction.next_ip();
    let relocated =
        program.relocations.iter().find(|r| r.at.0 == function.section && fields.contains(&r.at.1));
    relocated.map(|r| r.target.clone())
}

/// How much of the stack is taken at a point of a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Depth {
    bytes: u64,
    /// How much was taken when RBP became the frame pointer.
    frame_pointer: Option<u64>,
}

impl Depth {
    /// What `instruction` makes of it.
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
                // Down to a multiple of a power of two: at the worst one less than that.
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

/// What is forbidden about an instruction by itself.
fn forbidden(instruction: &Instruction, info: &mut InstructionInfoFactory) -> Option<(FaultKind, String)> {
    if instruction.is_invalid() {
        return Some((FaultKind::Flow, "can't be decoded".to_owned()));
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
