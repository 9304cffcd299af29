//! The ELF notes of a vmcore: VMCOREINFO, the registers of the CPUs, QEMU's CPU states, and notes of Xen.

use crate::{Error, Result};
use std::ops::Range;

/// Name of the kernel's VMCOREINFO note. Its type is 0. QEMU copies the note of a guest with the same name.
pub const VMCOREINFO: &[u8] = b"VMCOREINFO";
/// Name of the notes with a CPU's registers (the kernel's `CRASH_CORE_NOTE_NAME`).
const CORE: &[u8] = b"CORE";
/// Name of the notes with QEMU's state of a CPU.
const QEMU: &[u8] = b"QEMU";
/// Type of the notes with a `struct elf_prstatus`.
const NT_PRSTATUS: u32 = 1;
/// Type of the "Xen" note that a crashed hypervisor leaves.
const XEN_ELFNOTE_CRASH_INFO: u32 = 0x0100_0001;
/// Offset of `pr_reg` in x86_64's `struct elf_prstatus`, and its size: 27 registers of 8 bytes.
const PR_REG: Range<usize> = 112..112 + 27 * 8;

/// Bytes of a note's header: the size of the name, the size of the contents, and the type.
const HEADER_SIZE: usize = 12;

/// One ELF note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// The name, without the NUL at the end.
    pub name: &'a [u8],
    /// The type. Its meaning depends on the name.
    pub kind: u32,
    /// The contents.
    pub desc: &'a [u8],
}

/// The notes in `bytes`, the contents of a `PT_NOTE`.
///
/// The name and the contents of a note are padded to 4 bytes for any `p_align`, as the kernel, QEMU and makedumpfile do
/// for cores. The iterator ends with an error at a note that exceeds `bytes`. Zeros at the end count as padding.
pub fn notes(bytes: &[u8]) -> impl Iterator<Item = Result<Note<'_>>> {
    let used = bytes.len() - bytes.iter().rev().take_while(|&&b| b == 0).count();
    // A note can end with zeros. So the padding starts at the first note that starts after the last non-zero byte.
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= used {
            return None;
        }
        let found = note_at(&bytes[at..]).map_err(|what| {
            Error::unusable(format!("the ELF note at byte {at} of the notes is damaged: {what}")).with_hint(
                "The vmcore is damaged: copy it again, or give its VMCOREINFO with --vmcoreinfo FILE.",
            )
        });
        at = found.as_ref().map_or(usize::MAX, |(_, size)| at + size);
        Some(found.map(|(note, _)| note))
    })
}

/// The note at the start of `bytes`, and its size in bytes with the padding. The error describes the damage.
///
/// goblin's parser is not used, because it rejects names that are not UTF-8.
fn note_at(bytes: &[u8]) -> Result<(Note<'_>, usize), &'static str> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_SIZE>().ok_or("its header is cut off")?;
    let word = |index: usize| u32::from_le_bytes(std::array::from_fn(|byte| header[4 * index + byte]));
    let (name_size, desc_size) = (word(0) as usize, word(1) as usize);
    let name = rest.get(..name_size).ok_or("its name is cut off")?;
    let desc_at = name_size.next_multiple_of(4);
    let desc =
        rest.get(desc_at..).and_then(|rest| rest.get(..desc_size)).ok_or("its contents are cut off")?;
    let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let size = HEADER_SIZE + desc_at + desc_size.next_multiple_of(4);
    Ok((Note { name: &name[..end], kind: word(2), desc }, size))
}

/// The contents of a vmcore's notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoreNotes<'a> {
    /// The VMCOREINFO text. If there are several notes, this is the last one, as in makedumpfile.
    pub vmcoreinfo: Option<&'a [u8]>,
    /// The saved registers of the CPUs: `pr_reg` of each NT_PRSTATUS, 216 bytes, in the order of the file. Their number
    /// is makedumpfile's `nr_cpus`. `None` if the note is too short.
    pub registers: Vec<Option<&'a [u8]>>,
    /// QEMU's CPU states, in the order of the file.
    pub qemu: Vec<&'a [u8]>,
}

impl<'a> CoreNotes<'a> {
    /// Parses the notes in `bytes`.
    ///
    /// # Errors
    /// If a note is damaged, or the vmcore comes from a Xen hypervisor.
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut found = Self::default();
        for note in notes(bytes) {
            let note = note?;
            match (note.name, note.kind) {
                (VMCOREINFO, 0) if !note.desc.is_empty() => found.vmcoreinfo = Some(text(note.desc)),
                (CORE, NT_PRSTATUS) => found.registers.push(note.desc.get(PR_REG)),
                (QEMU, 0) => found.qemu.push(note.desc),
                (b"VMCOREINFO_XEN", _) | (b"Xen", XEN_ELFNOTE_CRASH_INFO) => {
                    return Err(Error::unusable("Xen dumps are not supported").with_hint(
                        "This is the vmcore of a Xen hypervisor. Use makedumpfile to filter it.",
                    ));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The VMCOREINFO text in the `bytes` of a file, which are the text itself or an ELF note.
///
/// The kernel has such a note in memory, at the address in `/sys/kernel/vmcoreinfo`.
///
/// # Errors
/// If `bytes` is neither.
pub fn vmcoreinfo_text(bytes: &[u8]) -> Result<&[u8]> {
    if let Some(Ok(note)) = notes(bytes).next()
        && note.name == VMCOREINFO
    {
        return Ok(text(note.desc));
    }
    let text = text(bytes);
    let first = text.split(|&b| b == b'\n').find(|line| !line.is_empty());
    if !text.contains(&0) && first.is_some_and(|line| line.contains(&b'=')) {
        return Ok(text);
    }
    Err(Error::unusable("is not VMCOREINFO: neither lines of KEY=VALUE nor an ELF note named VMCOREINFO")
        .with_hint("Create such a file with `makedumpfile -g FILE -x vmlinux`."))
}

/// `bytes` without the zeros at the end.
fn text(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().rev().take_while(|&&b| b == 0).count();
    &bytes[..bytes.len() - zeros]
}

#[cfg(test)]
mod tests {
    use super::super::testing::note;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn notes_of_the_kernel_and_qemu_are_parsed() {
        let mut prstatus = vec![0; 336];
        prstatus[112] = 0x15;
        prstatus[327] = 0x33;
        let bytes = [
            note("CORE", 1, &prstatus),
            note("CORE", 1, b"short"),
            note("QEMU", 0, &[1, 0, 0, 0]),
            note("VMCOREINFO", 0, b"OSRELEASE=old\n"),
            note("VMCOREINFO", 0, b"OSRELEASE=new\n"),
            vec![0; 7],
        ]
        .concat();
        let found = CoreNotes::parse(&bytes).unwrap();
        assert_eq!(found.vmcoreinfo.unwrap(), b"OSRELEASE=new\n");
        assert_eq!(found.registers.len(), 2);
        let registers = found.registers[0].unwrap();
        assert_eq!((registers.len(), registers[0], registers[215]), (216, 0x15, 0x33));
        assert_eq!(found.registers[1], None);
        assert_eq!(found.qemu, [[1, 0, 0, 0]]);
    }

    #[test]
    fn contents_of_zeros_are_not_padding() {
        let bytes = [note("QEMU", 0, &[0; 8]), note("X", 3, &[0; 3])].concat();
        let all: Vec<Note> = notes(&bytes).map(|n| n.unwrap()).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[1], Note { name: b"X", kind: 3, desc: &[0; 3] });
    }

    #[test]
    fn xen_notes_are_an_error() {
        for bytes in [note("VMCOREINFO_XEN", 0, b"x=y"), note("Xen", 0x1000001, &[0; 8])] {
            assert!(CoreNotes::parse(&bytes).unwrap_err().report().contains("Xen dumps are not supported"));
        }
    }

    #[test]
    fn the_error_names_the_note_that_is_cut_off() {
        let bytes = [note("CORE", 1, b"1234"), note("VMCOREINFO", 0, b"OSRELEASE=6.1\n")].concat();
        let error = CoreNotes::parse(&bytes[..bytes.len() - 4]).unwrap_err().report();
        assert!(error.contains("note at byte 24"), "{error}");
    }

    #[test]
    fn vmcoreinfo_is_text_or_a_note() {
        assert_eq!(vmcoreinfo_text(b"OSRELEASE=6.1\n").unwrap(), b"OSRELEASE=6.1\n");
        let mut page = note("VMCOREINFO", 0, b"OSRELEASE=6.1\n");
        page.resize(4096, 0);
        assert_eq!(vmcoreinfo_text(&page).unwrap(), b"OSRELEASE=6.1\n");
        assert!(vmcoreinfo_text(b"").is_err());
        assert!(vmcoreinfo_text(b"\x7fELF\x02=\0\0=").is_err());
        assert!(vmcoreinfo_text(b"Dear reader,\nx=y\n").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CoreNotes::parse(&bytes);
            let _ = vmcoreinfo_text(&bytes);
        }
    }
}
