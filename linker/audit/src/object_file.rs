//! Reads the object: its functions with their bytes, and its relocations with their targets.

use goblin::elf::header::{EM_X86_64, ET_REL};
use goblin::elf::reloc::{R_X86_64_PC32, R_X86_64_PLT32};
use goblin::elf::section_header::{SHF_ALLOC, SHF_EXECINSTR, SHN_LORESERVE, SHN_UNDEF};
use goblin::elf::sym::{STB_LOCAL, STT_FUNC, STT_GNU_IFUNC};
use goblin::elf::{Elf, SectionHeader, Sym};
use std::collections::BTreeMap;

/// The index of a section in the section header table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SectionIndex(pub usize);

/// A relocatable object.
#[derive(Debug)]
pub struct Program<'b> {
    /// Its functions, by section and offset.
    pub functions: Vec<Function<'b>>,
    /// Relocations of all sections that are loaded, by place.
    pub relocations: Vec<Relocation>,
    /// Symbols that it does not define.
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
    pub kind: u32,
    /// What it points to.
    pub target: Target,
}

/// What a relocation points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An offset in a section of the object. In a relative relocation it is the target of a call: the four bytes of the
    /// field are already taken off.
    Place(SectionIndex, u64),
    /// A symbol that the object does not define.
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
        let elf = Elf::parse(bytes).map_err(|error| format!("not an ELF object: {error}"))?;
        if !elf.is_64
            || !elf.little_endian
            || elf.header.e_machine != EM_X86_64
            || elf.header.e_type != ET_REL
        {
            return Err("not a relocatable object for x86_64".to_owned());
        }
        let name_of = |symbol: &Sym| demangled(elf.strtab.get_at(symbol.st_name).unwrap_or("?"));
        let mut functions = Vec::new();
        for symbol in elf.syms.iter().filter(|s| matches!(s.st_type(), STT_FUNC | STT_GNU_IFUNC)) {
            let Some(section) = section_of(&symbol)? else { continue };
            let name = name_of(&symbol);
            let range = usize::try_from(symbol.st_value).ok().zip(usize::try_from(symbol.st_size).ok());
            let bytes = elf
                .section_headers
                .get(section.0)
                .and_then(|header| contents(bytes, header))
                .and_then(|data| range.and_then(|(at, size)| data.get(at..)?.get(..size)))
                .ok_or_else(|| format!("the function {name} lies outside of its section"))?;
            let (global, offset) = (symbol.st_bind() != STB_LOCAL, symbol.st_value);
            functions.push(Function { name, global, section, offset, bytes });
        }
        functions.sort_by_key(|f| (f.section.0, f.offset));
        functions.dedup_by_key(|f| (f.section.0, f.offset));

        let undefined = elf.syms.iter().filter(is_undefined).map(|symbol| name_of(&symbol));
        let mut program = Self {
            functions,
            relocations: Vec::new(),
            undefined: undefined.filter(|name| !name.is_empty()).collect(),
            stray: BTreeMap::new(),
            text_size: 0,
            data_size: 0,
        };
        for (index, header) in elf.section_headers.iter().enumerate() {
            let index = SectionIndex(index);
            if header.sh_flags & u64::from(SHF_ALLOC) == 0 {
                continue;
            }
            if header.sh_flags & u64::from(SHF_EXECINSTR) == 0 {
                program.data_size += header.sh_size;
            } else {
                program.text_size += header.sh_size;
                program.count_stray(index, header, elf.shdr_strtab.get_at(header.sh_name));
            }
            // A relocation section names the section that it changes in sh_info.
            let relocations = elf
                .shdr_relocs
                .iter()
                .filter(|(table, _)| {
                    elf.section_headers.get(*table).is_some_and(|table| table.sh_info as usize == index.0)
                })
                .flat_map(|(_, relocations)| relocations.iter());
            for relocation in relocations {
                let relative = matches!(relocation.r_type, R_X86_64_PC32 | R_X86_64_PLT32);
                let addend = relocation.r_addend.unwrap_or(0) + if relative { 4 } else { 0 };
                let symbol = elf.syms.get(relocation.r_sym).filter(|_| relocation.r_sym != 0);
                let target = match symbol {
                    None => Target::Absolute,
                    Some(symbol) => match section_of(&symbol)? {
                        Some(section) => Target::Place(section, symbol.st_value.wrapping_add_signed(addend)),
                        None if is_undefined(&symbol) => Target::Undefined(name_of(&symbol)),
                        None => Target::Absolute,
                    },
                };
                program.relocations.push(Relocation {
                    at: (index, relocation.r_offset),
                    kind: relocation.r_type,
                    target,
                });
            }
        }
        program.relocations.sort_by_key(|relocation| relocation.at);
        Ok(program)
    }

    /// Notes the executable bytes of a section that belong to no function.
    fn count_stray(&mut self, section: SectionIndex, header: &SectionHeader, name: Option<&str>) {
        let functions = self.functions.iter().filter(|f| f.section == section);
        let (count, named) =
            functions.fold((0, 0), |(count, bytes), f| (count + 1, bytes + f.bytes.len() as u64));
        let rest = header.sh_size.saturating_sub(named);
        // What aligns the function after another is less than 16 bytes.
        if rest > count * 15 {
            self.stray.insert(name.unwrap_or("?").to_owned(), rest);
        }
    }

    /// The function at a place in a section.
    pub fn function_at(&self, section: SectionIndex, offset: u64) -> Option<usize> {
        let after = self.functions.partition_point(|f| (f.section.0, f.offset) <= (section.0, offset));
        let index = after.checked_sub(1)?;
        let function = self.functions.get(index)?;
        let inside =
            function.section == section && offset - function.offset < (function.bytes.len() as u64).max(1);
        inside.then_some(index)
    }
}

/// The section that a symbol is defined in; `None` if it is undefined or absolute.
fn section_of(symbol: &Sym) -> Result<Option<SectionIndex>, String> {
    const EXTENDED: usize = 0xffff;
    match symbol.st_shndx {
        EXTENDED => Err("the object has more sections than this reads".to_owned()),
        index if index == SHN_UNDEF as usize || index >= SHN_LORESERVE as usize => Ok(None),
        index => Ok(Some(SectionIndex(index))),
    }
}

fn is_undefined(symbol: &Sym) -> bool {
    symbol.st_shndx == SHN_UNDEF as usize
}

/// The bytes of a section; empty if it takes no space in the file.
fn contents<'b>(file: &'b [u8], header: &SectionHeader) -> Option<&'b [u8]> {
    header.file_range().map_or(Some(&[]), |range| file.get(range))
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
