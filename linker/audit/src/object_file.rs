//! The object as the audit sees it: functions with their bytes, and relocations with what they point to.

use object::read::elf::{ElfFile64, FileHeader as _};
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget,
    SectionFlags, SectionIndex, SymbolKind, elf,
};
use std::collections::BTreeMap;

/// A relocatable object.
#[derive(Debug)]
pub struct Program<'b> {
    /// Its functions, by section and offset.
    pub functions: Vec<Function<'b>>,
    /// Relocations of all sections that are loaded.
    pub relocations: Vec<Relocation>,
    /// Symbols that it doesn't define.
    pub undefined: Vec<String>,
    /// Executable bytes that belong to no function, by section name.
    pub stray: BTreeMap<String, u64>,
    /// Bytes of all executable sections, and of all other sections that are loaded.
    pub text_size: u64,
    /// See [`text_size`](Self::text_size).
    pub data_size: u64,
}

/// A function.
#[derive(Clone, Debug)]
pub struct Function<'b> {
    /// Its name, demangled.
    pub name: String,
    /// Whether other objects can call it.
    pub global: bool,
    /// Its section.
    pub section: SectionIndex,
    /// Its offset in the section.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'b [u8],
}

/// A relocation.
#[derive(Clone, Debug)]
pub struct Relocation {
    /// The section that it changes, and the offset there.
    pub at: (SectionIndex, u64),
    /// Its ELF type.
    pub kind: elf::RelocationType,
    /// What it points to.
    pub target: Target,
}

/// What a relocation points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A place in a section of the object, counted from the section's start. For a relative relocation the four bytes
    /// to the end of the field are taken off, as in a call's target.
    Place(SectionIndex, u64),
    /// A symbol that the object doesn't define.
    Undefined(String),
    /// An absolute number.
    Absolute,
}

impl<'b> Program<'b> {
    /// Reads an object.
    ///
    /// # Errors
    /// A sentence, if it is not a relocatable x86_64 ELF object.
    pub fn read(bytes: &'b [u8]) -> Result<Self, String> {
        let file =
            ElfFile64::<LittleEndian>::parse(bytes).map_err(|error| format!("not an ELF object: {error}"))?;
        let header = file.elf_header();
        if header.e_machine(LittleEndian) != elf::EM_X86_64 || header.e_type(LittleEndian) != elf::ET_REL {
            return Err("not a relocatable object for x86_64".to_owned());
        }
        let mut functions = Vec::new();
        for symbol in file.symbols().filter(|s| s.kind() == SymbolKind::Text && s.is_definition()) {
            let Some(section) = symbol.section_index() else { continue };
            let data =
                file.section_by_index(section).and_then(|s| s.data()).map_err(|error| error.to_string())?;
            let name = demangled(symbol.name().unwrap_or("?"));
            let range = usize::try_from(symbol.address()).ok().zip(usize::try_from(symbol.size()).ok());
            let bytes = range
                .and_then(|(at, size)| data.get(at..)?.get(..size))
                .ok_or_else(|| format!("the function {name} lies outside of its section"))?;
            let (global, offset) = (symbol.is_global(), symbol.address());
            functions.push(Function { name, global, section, offset, bytes });
        }
        functions.sort_by_key(|f| (f.section.0, f.offset));
        functions.dedup_by_key(|f| (f.section.0, f.offset));

        let undefined: Vec<String> = file
            .symbols()
            .filter(|s| s.is_undefined())
            .filter_map(|s| s.name().ok())
            .map(demangled)
            .collect();
        let mut program = Self {
            functions,
            relocations: Vec::new(),
            undefined: undefined.into_iter().filter(|name| !name.is_empty()).collect(),
            stray: BTreeMap::new(),
            text_size: 0,
            data_size: 0,
        };
        for section in file.sections() {
            let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
            if !sh_flags.contains(elf::SHF_ALLOC) {
                continue;
            }
            if !sh_flags.contains(elf::SHF_EXECINSTR) {
                program.data_size += section.size();
            } else {
                program.text_size += section.size();
                let named: u64 = program
                    .functions
                    .iter()
                    .filter(|f| f.section == section.index())
                    .map(|f| f.bytes.len() as u64)
                    .sum();
                // What aligns one function behind another is less than 16 bytes.
                let count = program.functions.iter().filter(|f| f.section == section.index()).count() as u64;
                let rest = section.size().saturating_sub(named);
                if rest > count * 15 {
                    program.stray.insert(section.name().unwrap_or("?").to_owned(), rest);
                }
            }
            for (offset, relocation) in section.relocations() {
                let RelocationFlags::Elf { r_type } = relocation.flags() else { continue };
                let relative = matches!(r_type, elf::R_X86_64_PC32 | elf::R_X86_64_PLT32);
                let addend = relocation.addend() + if relative { 4 } else { 0 };
                let target = match relocation.target() {
                    RelocationTarget::Symbol(index) => {
                        let symbol = file.symbol_by_index(index).map_err(|error| error.to_string())?;
                        match symbol.section_index() {
                            Some(section) => {
                                Target::Place(section, symbol.address().wrapping_add_signed(addend))
                            }
                            None if symbol.is_undefined() => {
                                Target::Undefined(demangled(symbol.name().unwrap_or("?")))
                            }
                            None => Target::Absolute,
                        }
                    }
                    _ => Target::Absolute,
                };
                program.relocations.push(Relocation { at: (section.index(), offset), kind: r_type, target });
            }
        }
        Ok(program)
    }

    /// The function at a place in a section.
    pub fn function_at(&self, section: SectionIndex, offset: u64) -> Option<usize> {
        let behind = self.functions.partition_point(|f| (f.section.0, f.offset) <= (section.0, offset));
        let index = behind.checked_sub(1)?;
        let function = self.functions.get(index)?;
        let inside =
            function.section == section && offset - function.offset < (function.bytes.len() as u64).max(1);
        inside.then_some(index)
    }
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
