//! Prints the structures of `crash_dump_bitmap_info` as Markdown tables, as JSON and as a C header. All are generated
//! from the declarations in [`scanner_core::info`].

use scanner_core::info::v2::{self, Cause, ChunkEntry, Header, Producer, RecordedRules, State};
use scanner_core::info::{Code, Field, StructureLayout, Version, v1};
use serde_json::{Value, json};
use std::fmt::Write;

/// A field with named values.
struct Choices {
    field: &'static str,
    /// The heading of the table of values.
    title: &'static str,
    codes: &'static [Code],
}

/// A constant of the format.
struct Constant {
    c_name: &'static str,
    c_value: String,
    meaning: &'static str,
}

fn number(version: Version) -> u32 {
    match version {
        Version::V1 => v1::VERSION,
        Version::V2 => v2::VERSION,
    }
}

fn structures(version: Version) -> &'static [StructureLayout] {
    match version {
        Version::V1 => &[v1::Info::LAYOUT],
        Version::V2 => &[Header::LAYOUT, ChunkEntry::LAYOUT],
    }
}

fn choices(version: Version) -> &'static [Choices] {
    match version {
        Version::V1 => &[],
        Version::V2 => &[
            Choices { field: "producer", title: "Producers", codes: Producer::CODES },
            Choices { field: "state", title: "States", codes: State::CODES },
            Choices { field: "rules", title: "Rule sets", codes: RecordedRules::CODES },
            Choices { field: "cause", title: "Causes", codes: Cause::CODES },
        ],
    }
}

fn constants(version: Version) -> Vec<Constant> {
    let constant = |c_name, c_value, meaning| Constant { c_name, c_value, meaning };
    match version {
        Version::V1 => {
            vec![constant("V1_VERSION", v1::VERSION.to_string(), "The version field of version 1.")]
        }
        Version::V2 => vec![
            constant("V2_VERSION", v2::VERSION.to_string(), "The version field of version 2."),
            constant(
                "V2_MAGIC",
                format!("\"{}\"", String::from_utf8_lossy(&v2::MAGIC)),
                "The magic field, without the zero byte of a C string.",
            ),
            constant(
                "V2_HEADER_CRC_OFFSET",
                core::mem::offset_of!(Header, header_crc).to_string(),
                "The offset of header_crc, which counts as 0 in the checksum.",
            ),
            constant(
                "LEVEL_NOT_RECORDED",
                format!("{:#x}u", v2::LEVEL_NOT_RECORDED),
                "The dump_level if the producer did not record it.",
            ),
            constant(
                "NOT_COUNTED",
                format!("{:#x}ull", v2::NOT_COUNTED),
                "A count of pages that the producer did not determine.",
            ),
            constant("MIN_CHUNK_SHIFT", v2::MIN_CHUNK_SHIFT.to_string(), "The smallest chunk_shift."),
            constant("MAX_CHUNK_SHIFT", v2::MAX_CHUNK_SHIFT.to_string(), "The largest chunk_shift."),
            constant("MAX_CHUNKS", v2::MAX_CHUNKS.to_string(), "The largest chunk_count."),
            constant(
                "CHUNK_SEALED",
                format!("{}u", ChunkEntry::SEALED),
                "The flag of a chunk that is final and has a checksum.",
            ),
        ],
    }
}

/// Formats the structures of `versions` as Markdown tables.
pub fn tables(versions: &[Version]) -> String {
    let mut text = Vec::new();
    for version in versions {
        text.extend(structures(*version).iter().map(|layout| {
            format!("struct {}, {} bytes\n\n{}", layout.c_name, layout.size, field_table(layout))
        }));
        text.extend(
            choices(*version)
                .iter()
                .map(|choices| format!("{}\n\n{}", choices.title, code_table(choices.codes))),
        );
    }
    text.join("\n")
}

/// Formats the fields of one structure as a Markdown table.
pub fn field_table(layout: &StructureLayout) -> String {
    table(
        ["offset", "size", "field", "C type", "meaning"],
        layout.fields.iter().map(|field| {
            [
                field.offset.to_string(),
                field.size.to_string(),
                field.name.to_owned(),
                field.c_type.to_owned(),
                field.meaning.to_owned(),
            ]
        }),
    )
}

/// Formats the named values of a field as a Markdown table.
pub fn code_table(codes: &[Code]) -> String {
    table(
        ["value", "name", "meaning"],
        codes.iter().map(|code| [code.value.to_string(), code.name.to_owned(), code.meaning.to_owned()]),
    )
}

/// Formats a Markdown table with aligned columns.
fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in widths {
                let _ = write!(text, "|{:-<1$}", "", width + 2);
            }
            text.push_str("|\n");
        }
    }
    text
}

/// The structures of `versions` as JSON: `[{version, structures: [{name, size, fields}], choices: {field: codes}}]`.
pub fn json(versions: &[Version]) -> Value {
    let field = |field: &Field| {
        json!({
            "name": field.name, "offset": field.offset, "size": field.size,
            "c_type": field.c_type, "meaning": field.meaning,
        })
    };
    let code = |code: &Code| json!({ "value": code.value, "name": code.name, "meaning": code.meaning });
    let version = |version: &Version| {
        let structures: Vec<Value> = structures(*version)
            .iter()
            .map(|layout| {
                let fields: Vec<Value> = layout.fields.iter().map(field).collect();
                json!({ "name": layout.c_name, "size": layout.size, "fields": fields })
            })
            .collect();
        let choices: serde_json::Map<String, Value> = choices(*version)
            .iter()
            .map(|choices| (choices.field.to_owned(), choices.codes.iter().map(code).collect()))
            .collect();
        json!({ "version": number(*version), "structures": structures, "choices": choices })
    };
    versions.iter().map(version).collect()
}

/// Formats the structures of `versions` as a C header for the kernel and for user space. The header checks sizes and
/// offsets at compile time. `linker/crash-scan/include/crash_dump_bitmap.h` is the header for all versions.
pub fn c_header(versions: &[Version]) -> String {
    let mut text = String::from(C_HEAD);
    for version in versions {
        let _ = writeln!(text, "\n/* Version {}. */\n", number(*version));
        for Constant { c_name, c_value, meaning } in constants(*version) {
            let _ = writeln!(text, "/* {meaning} */\n#define CRASH_DUMP_BITMAP_{c_name} {c_value}");
        }
        for choices in choices(*version) {
            text.push('\n');
            for code in choices.codes {
                let (prefix, name) = (c_constant(choices.field), c_constant(code.name));
                let _ = writeln!(
                    text,
                    "/* {} */\n#define CRASH_DUMP_BITMAP_{prefix}_{name} {}u",
                    code.meaning, code.value
                );
            }
        }
        structures(*version).iter().for_each(|layout| c_struct(&mut text, layout));
    }
    text.push_str(C_TAIL);
    text
}

const C_HEAD: &str = "\
/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * crash_dump_bitmap_info: location and description of a crash dump bitmap.
 * Specification: Documentation/reference/bitmap-format.md.
 *
 * Generated by `cdbitmap layout --as c`; a test compares the two. All numbers
 * are little-endian, and the machine is LP64.
 */
#ifndef CRASH_DUMP_BITMAP_H
#define CRASH_DUMP_BITMAP_H

#ifdef __KERNEL__
#include <linux/stddef.h>
#include <linux/types.h>
#else
#include <stddef.h>
#include <stdint.h>
#endif

/* Compiles only if the field is at the offset. */
#define CRASH_DUMP_BITMAP_AT(structure, field, offset) \\
\t_Static_assert(offsetof(struct structure, field) == (offset), #structure \".\" #field)
";

const C_TAIL: &str = "\n#undef CRASH_DUMP_BITMAP_AT\n\n#endif /* CRASH_DUMP_BITMAP_H */\n";

fn c_constant(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn c_struct(text: &mut String, layout: &StructureLayout) {
    let tag = layout.c_name;
    let _ = writeln!(text, "\nstruct {tag} {{");
    for field in layout.fields {
        // In C, the length of an array follows the field name.
        let (element, length) = field.c_type.split_at(field.c_type.find('[').unwrap_or(field.c_type.len()));
        let _ = writeln!(text, "\t/* {} */\n\t{element} {}{length};", field.meaning, field.name);
    }
    text.push_str("};\n");
    let size = layout.size;
    let _ = writeln!(text, "_Static_assert(sizeof(struct {tag}) == {size}, \"size of {tag}\");");
    for Field { name, offset, .. } in layout.fields {
        let _ = writeln!(text, "CRASH_DUMP_BITMAP_AT({tag}, {name}, {offset});");
    }
}
