//! The flattened format: a dump as a stream of records, for pipes.
//!
//! A header of 4096 bytes (signature, type, version), then records of offset, size and data. A later record
//! overwrites an earlier one. Offset and size -1 end the stream. All numbers are big endian.
//! Source: makedumpfile's `struct makedumpfile_header` and `struct makedumpfile_data_header`.

/// The first bytes of the stream, padded with zeros.
pub const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
/// Bytes of the stream's header.
pub const HEADER_SIZE: usize = 4096;
/// Bytes of a record's header, before its data.
pub const RECORD_HEADER_SIZE: usize = 16;
/// The only type and version of the format.
const TYPE: i64 = 1;
const VERSION: i64 = 1;

/// The header of a stream.
pub fn header() -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    bytes[..16].copy_from_slice(SIGNATURE);
    bytes[16..24].copy_from_slice(&TYPE.to_be_bytes());
    bytes[24..32].copy_from_slice(&VERSION.to_be_bytes());
    bytes
}

/// Whether `bytes` starts with the signature of a flattened stream.
pub fn is_flattened(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// Whether the header at the start of `bytes` has the type and version that this crate supports.
pub fn is_known_version(bytes: &[u8]) -> bool {
    let known = header();
    bytes.len() >= HEADER_SIZE && bytes[..32] == known[..32]
}

/// The type and version in the header `bytes`.
pub fn type_and_version(bytes: &[u8; HEADER_SIZE]) -> (i64, i64) {
    let number = |at: usize| bytes[at..].first_chunk().map_or(0, |b| i64::from_be_bytes(*b));
    (number(16), number(24))
}

/// The header of a record with `size` bytes of data for `offset` of the dump.
pub fn record_header(offset: u64, size: u64) -> [u8; RECORD_HEADER_SIZE] {
    let mut bytes = [0; RECORD_HEADER_SIZE];
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes[8..].copy_from_slice(&size.to_be_bytes());
    bytes
}

/// The record that ends the stream.
pub const END_RECORD: [u8; RECORD_HEADER_SIZE] = [0xff; RECORD_HEADER_SIZE];

/// The offset and size in the record header `bytes`.
pub fn parse_record(bytes: &[u8; RECORD_HEADER_SIZE]) -> (i64, i64) {
    let number = |half: usize| bytes[half..].first_chunk().map_or(0, |b| i64::from_be_bytes(*b));
    (number(0), number(8))
}
