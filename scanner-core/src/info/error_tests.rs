use super::*;
use std::string::ToString;

fn refused(result: Result<(), InfoError>) -> Expected {
    let error = result.unwrap_err();
    assert_eq!((error.field, error.chunk), ("field", None));
    error.expected
}

#[test]
fn exactly_accepts_one_number() {
    assert!(exactly("field", 7, 7).is_ok());
    assert_eq!(refused(exactly("field", 7, 6)), Expected::Exactly(7));
    assert_eq!(refused(exactly("field", 7, 8)), Expected::Exactly(7));
}

#[test]
fn between_accepts_both_ends() {
    for (found, accepted) in [(2, false), (3, true), (4, true), (5, true), (6, false), (u64::MAX, false)] {
        let result = between("field", 3, 5, found);
        assert_eq!(result.is_ok(), accepted, "{found}");
        if let Err(error) = result {
            assert_eq!((error.expected, error.found), (Expected::Between(3, 5), found));
        }
    }
}

#[test]
fn multiples_are_of_the_unit() {
    for (found, accepted) in
        [(0, true), (1, false), (4, false), (7, false), (8, true), (9, false), (16, true)]
    {
        assert_eq!(multiple_of("field", 8, found).is_ok(), accepted, "{found}");
    }
    assert_eq!(refused(multiple_of("field", 8, 12)), Expected::MultipleOf(8));
}

#[test]
fn only_a_larger_version_is_a_newer_one() {
    let version = |found| InfoError::new("version", Expected::Version(2), found);
    assert_eq!([1, 2, 3].map(|found| version(found).is_newer_version()), [false, false, true]);
    assert!(!InfoError::new("version", Expected::Exactly(2), 3).is_newer_version());
}

#[test]
fn only_missing_bytes_are_a_truncation() {
    assert!(InfoError::new("header_size", Expected::Bytes(512), 3).is_truncated());
    assert!(!InfoError::new("header_size", Expected::Exactly(512), 3).is_truncated());
}

const CODES: &[Code] =
    &[Code { value: 0, name: "no", meaning: "" }, Code { value: 70, name: "yes", meaning: "" }];

#[test]
fn errors_say_what_is_expected_and_what_is_found() {
    for (expected, found, text) in [
        (Expected::Exactly(7), 8, "field: expected 7, found 8"),
        (Expected::Version(2), 3, "field: expected 2, found 3"),
        (Expected::Between(8, 100), 4, "field: expected 8 to 100 (0x64), found 4"),
        (Expected::MultipleOf(8), 12, "field: expected a multiple of 8, found 12"),
        (Expected::OneOf(CODES), 5, "field: expected one of 0 (no) 70 (yes), found 5"),
        (Expected::Bytes(512), 3, "field: expected at least 512 bytes, found 3"),
        (Expected::Rule("words"), 1, "field: expected words, found 1"),
    ] {
        assert_eq!(InfoError::new("field", expected, found).to_string(), text);
    }
}

#[test]
fn numbers_from_64_on_are_in_hexadecimal_too() {
    assert_eq!(Number(63).to_string(), "63");
    assert_eq!(Number(64).to_string(), "64 (0x40)");
}

#[test]
fn an_error_in_the_chunk_table_names_the_chunk() {
    let error = InfoError::new("size", Expected::Exactly(8), 9).in_chunk(3);
    assert_eq!(error.chunk, Some(3));
    assert_eq!(error.to_string(), "chunk 3, size: expected 8, found 9");
}

#[test]
fn an_invalid_value_becomes_an_error_of_its_field() {
    let wrong = InvalidValue { expected: Expected::OneOf(CODES), found: 9 };
    assert_eq!(wrong.in_field("state"), InfoError::new("state", Expected::OneOf(CODES), 9));
}
