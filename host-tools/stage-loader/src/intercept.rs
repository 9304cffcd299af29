//! Runs kexec under ptrace, and adds one segment to its `kexec_load` system call.

use super::area::Area;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use vmcore::{Error, Result};

/// A segment of `kexec_load`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address of the bytes in the memory of the calling process.
    pub buffer: u64,
    /// Number of bytes in the buffer.
    pub buffer_size: u64,
    /// Physical address of the segment.
    pub memory: u64,
    /// Size of the segment in physical memory, in bytes. The kernel fills the part after the buffer with zeros.
    pub memory_size: u64,
}

/// Largest number of segments that the kernel accepts: `KEXEC_SEGMENT_MAX`.
const MAX_SEGMENTS: u64 = 16;
/// `KEXEC_ON_CRASH`: the flag of `kexec_load` for a capture kernel.
const ON_CRASH: u64 = 1;
/// Size of the instruction `syscall` in bytes.
const SYSCALL_SIZE: u64 = 2;
/// The code segment selector of 64-bit programs (`__USER_CS`).
const USER_CS_64: u64 = 0x33;

/// The result of [`run`].
#[derive(Debug)]
pub enum Outcome {
    /// kexec exited.
    Ended {
        /// kexec's exit code; 128 plus the signal's number if a signal ended it.
        code: i32,
        /// What the kernel loaded; `None` if kexec loaded no capture kernel.
        loaded: Option<Loaded>,
    },
    /// The stage cannot be added, for this reason. kexec was killed before the kernel changed anything.
    Refused(String),
}

/// What the kernel loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The entry that kexec passed to `kexec_load`. The stage jumps to it at its end.
    pub entry: u64,
    /// The segments of kexec, without the stage's segment.
    pub segments: Vec<Segment>,
}

/// Runs `program` with `arguments`, and adds `area` to its `kexec_load`. With a `map`, the program sees that file in
/// place of `/proc/iomem`.
///
/// # Errors
/// If the program cannot be run or traced.
pub fn run(program: &OsString, arguments: &[OsString], area: &Area, map: Option<&Path>) -> Result<Outcome> {
    let map = map.map(|map| CString::new(map.as_os_str().as_bytes()));
    let map = map
        .transpose()
        .map_err(|error| Error::failure("the path of the memory map contains a NUL byte").because(error))?;
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: the closure runs after fork, where only async-signal-safe calls are permitted. It only makes the system
    // calls unshare, mount and ptrace. nix copies their short paths to the stack, and the errors are error numbers, so
    // nothing allocates memory or takes a lock.
    unsafe {
        command.pre_exec(move || {
            if let Some(map) = &map {
                show_map(map)?;
            }
            ptrace::traceme().map_err(std::io::Error::from)
        });
    }
    let child = command.spawn().map_err(|error| Error::io(Path::new(program), "cannot be run", error))?;
    let pid = Pid::from_raw(child.id() as i32);
    Tracee { pid, area, loaded: None }.follow().map_err(|errno| {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        let _ = waitpid(pid, None);
        Error::failure("cannot trace kexec").because(errno)
    })
}

/// Mounts `map` over `/proc/iomem`, in a new mount namespace of this process and its children.
fn show_map(map: &CString) -> std::io::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some(map.as_c_str()), "/proc/iomem", none, MsFlags::MS_BIND, none)?;
    Ok(())
}

/// The reason why the traced program stopped.
enum Stop {
    /// The entry to a system call, or the exit from it.
    SystemCall,
    /// The program exited with this code.
    Ended(i32),
}

/// What to do after a system call.
enum Step {
    Continue,
    Ended(i32),
    Refuse(String),
}

struct Tracee<'a> {
    pid: Pid,
    area: &'a Area,
    loaded: Option<Loaded>,
}

impl Tracee<'_> {
    /// Traces the program until it exits.
    fn follow(mut self) -> nix::Result<Outcome> {
        // exec causes the first stop, before the program's first instruction.
        if let WaitStatus::Exited(_, code) = waitpid(self.pid, None)? {
            return Ok(Outcome::Ended { code, loaded: None });
        }
        ptrace::setoptions(
            self.pid,
            ptrace::Options::PTRACE_O_TRACESYSGOOD
                | ptrace::Options::PTRACE_O_TRACEEXEC
                | ptrace::Options::PTRACE_O_EXITKILL,
        )?;
        loop {
            let step = match self.advance()? {
                Stop::SystemCall => self.enter()?,
                Stop::Ended(code) => Step::Ended(code),
            };
            match step {
                Step::Continue => {}
                Step::Ended(code) => return Ok(Outcome::Ended { code, loaded: self.loaded }),
                Step::Refuse(reason) => {
                    ptrace::kill(self.pid)?;
                    waitpid(self.pid, None)?;
                    return Ok(Outcome::Refused(reason));
                }
            }
        }
    }

    /// Lets the program run to its next system call stop. Signals are passed on to the program.
    fn advance(&self) -> nix::Result<Stop> {
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal.take())?;
            match waitpid(self.pid, None)? {
                WaitStatus::PtraceSyscall(_) => return Ok(Stop::SystemCall),
                WaitStatus::Exited(_, code) => return Ok(Stop::Ended(code)),
                WaitStatus::Signaled(_, signal, _) => return Ok(Stop::Ended(128 + signal as i32)),
                WaitStatus::Stopped(_, other) => signal = Some(other),
                _ => {}
            }
        }
    }

    /// Handles a system call from its entry to its exit. Adds the stage's segment if the call is a `kexec_load` of a
    /// capture kernel.
    fn enter(&mut self) -> nix::Result<Step> {
        let given = ptrace::getregs(self.pid)?;
        let number = given.orig_rax.cast_signed();
        let is_64_bit = given.cs == USER_CS_64;
        if number == libc::SYS_kexec_file_load && is_64_bit {
            return Ok(Step::Refuse("kexec uses kexec_file_load, which takes no segments".to_owned()));
        }
        if number != libc::SYS_kexec_load || !is_64_bit || given.r10 & ON_CRASH == 0 || given.rsi == 0 {
            return Ok(match self.advance()? {
                Stop::SystemCall => Step::Continue,
                Stop::Ended(code) => Step::Ended(code),
            });
        }
        let segments = match self.segments(given.rdx, given.rsi) {
            Ok(segments) => segments,
            Err(reason) => return Ok(Step::Refuse(reason)),
        };
        let (list, count) = match self.add_segment(given, &segments)? {
            Ok(added) => added,
            Err(reason) => return Ok(Step::Refuse(reason)),
        };
        // `make_room` replaced the system call. Execute the instruction again, with the longer list of segments.
        let mut changed = given;
        changed.rip = given.rip - SYSCALL_SIZE;
        changed.rax = given.orig_rax;
        changed.orig_rax = u64::MAX;
        changed.rdi = self.area.entry();
        changed.rsi = count;
        changed.rdx = list;
        ptrace::setregs(self.pid, changed)?;
        for _ in ["entry", "exit"] {
            if let Stop::Ended(code) = self.advance()? {
                return Ok(Step::Ended(code));
            }
        }
        let mut after = ptrace::getregs(self.pid)?;
        let result = after.rax.cast_signed();
        if result < 0 {
            let error = std::io::Error::from_raw_os_error(result.wrapping_neg() as i32);
            return Ok(Step::Refuse(format!("the kernel rejected the segments: {error}")));
        }
        (after.rdi, after.rsi, after.rdx) = (given.rdi, given.rsi, given.rdx);
        ptrace::setregs(self.pid, after)?;
        self.loaded = Some(Loaded { entry: given.rdi, segments });
        Ok(Step::Continue)
    }

    /// Writes the stage and a list of all segments, `segments` and the stage's own, to new memory of the program. The
    /// program is at the entry to a system call, with the registers `given`. Returns the list's address and its length.
    fn add_segment(
        &self,
        given: libc::user_regs_struct,
        segments: &[Segment],
    ) -> nix::Result<Result<(u64, u64), String>> {
        let bytes = self.area.bytes_for(given.rdi);
        let list_size = (segments.len() as u64 + 1) * size_of::<Segment>() as u64;
        let Some(list) = self.make_room(given, bytes.len() as u64 + list_size)? else {
            return Ok(Err("cannot allocate memory for the stage in kexec".to_owned()));
        };
        let ours = Segment {
            buffer: list + list_size,
            buffer_size: bytes.len() as u64,
            memory: self.area.start(),
            memory_size: self.area.size(),
        };
        let all: Vec<u8> = segments.iter().copied().chain([ours]).flat_map(Segment::to_bytes).collect();
        let memory = File::options().write(true).open(format!("/proc/{}/mem", self.pid));
        let written = memory.and_then(|memory| {
            memory.write_all_at(&all, list)?;
            memory.write_all_at(&bytes, ours.buffer)
        });
        Ok(match written {
            Ok(()) => Ok((list, segments.len() as u64 + 1)),
            Err(error) => Err(format!("cannot write kexec's memory: {error}")),
        })
    }

    /// Reads kexec's segments. Fails if the stage's segment cannot be added to them.
    fn segments(&self, list: u64, count: u64) -> Result<Vec<Segment>, String> {
        if count >= MAX_SEGMENTS {
            return Err(format!(
                "kexec has {count} segments already; the kernel accepts at most {MAX_SEGMENTS}"
            ));
        }
        let mut bytes = vec![0; count as usize * size_of::<Segment>()];
        let memory = File::open(format!("/proc/{}/mem", self.pid));
        memory
            .and_then(|memory| memory.read_exact_at(&mut bytes, list))
            .map_err(|error| format!("cannot read kexec's segments: {error}"))?;
        let segments: Vec<Segment> =
            bytes.as_chunks::<{ size_of::<Segment>() }>().0.iter().map(Segment::from_bytes).collect();
        let (start, end) = (self.area.start(), self.area.start() + self.area.size());
        match segments.iter().find(|s| s.memory < end && s.memory.saturating_add(s.memory_size) > start) {
            Some(segment) => Err(format!(
                "kexec wants {:#x} bytes at {:#x}, which overlaps the stage at {start:#x}",
                segment.memory_size, segment.memory
            )),
            None => Ok(segments),
        }
    }

    /// Maps `size` bytes of memory in the program. The program is at the entry to a system call, which is replaced by
    /// `mmap`. Returns the address; `None` if `mmap` fails or the program exits.
    fn make_room(&self, given: libc::user_regs_struct, size: u64) -> nix::Result<Option<u64>> {
        let mut changed = given;
        changed.orig_rax = libc::SYS_mmap.cast_unsigned();
        changed.rdi = 0;
        changed.rsi = size;
        changed.rdx = (libc::PROT_READ | libc::PROT_WRITE) as u64;
        changed.r10 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
        changed.r8 = u64::MAX;
        changed.r9 = 0;
        ptrace::setregs(self.pid, changed)?;
        if let Stop::Ended(_) = self.advance()? {
            return Ok(None);
        }
        let address = ptrace::getregs(self.pid)?.rax;
        // The last 4095 values are error numbers, and -4096 is no address of user space.
        Ok((address < (-4096_i64).cast_unsigned()).then_some(address))
    }
}

impl Segment {
    fn to_bytes(self) -> [u8; size_of::<Self>()] {
        let mut bytes = [0; size_of::<Self>()];
        let words = [self.buffer, self.buffer_size, self.memory, self.memory_size];
        for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_ne_bytes();
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; size_of::<Self>()]) -> Self {
        let word =
            |index: usize| bytes.as_chunks::<8>().0.get(index).map_or(0, |word| u64::from_ne_bytes(*word));
        Self { buffer: word(0), buffer_size: word(1), memory: word(2), memory_size: word(3) }
    }
}
