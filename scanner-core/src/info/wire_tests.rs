use super::*;
use crate::info::codes::State;
use crate::info::{v1, v2};

#[test]
fn numbers_are_little_endian() {
    let mut bytes = [0; 16];
    0x0102_0304_u32.write(&mut bytes, 1);
    0x1112_1314_1516_1718_u64.write(&mut bytes, 6);
    0x21_u8.write(&mut bytes, 15);
    assert_eq!(bytes, [0, 4, 3, 2, 1, 0, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, 0, 0x21]);
    assert_eq!(u32::read(&bytes, 1).unwrap(), 0x0102_0304);
    assert_eq!(u64::read(&bytes, 6).unwrap(), 0x1112_1314_1516_1718);
    assert_eq!(u8::read(&bytes, 15).unwrap(), 0x21);
}

#[test]
fn arrays_are_their_bytes() {
    let mut bytes = [0; 5];
    [1_u8, 2, 3].write(&mut bytes, 1);
    assert_eq!(bytes, [0, 1, 2, 3, 0]);
    assert_eq!(<[u8; 3]>::read(&bytes, 1).unwrap(), [1, 2, 3]);
}

#[test]
fn a_choice_is_its_number_in_four_bytes() {
    let mut bytes = [0xff; 8];
    State::Fault.write(&mut bytes, 2);
    assert_eq!(bytes, [0xff, 0xff, 4, 0, 0, 0, 0xff, 0xff]);
    assert_eq!(State::read(&bytes, 2).unwrap(), State::Fault);
}

#[test]
fn a_number_that_is_no_choice_is_refused_with_the_choices() {
    let wrong = State::read(&[8, 0, 0, 0], 0).unwrap_err();
    assert_eq!((wrong.expected, wrong.found), (Expected::OneOf(State::CODES), 8));
    let error = read_field::<State>(&[0, 0, 0, 1], "state", 0).unwrap_err();
    assert_eq!((error.field, error.found), ("state", 1 << 24));
}

#[test]
fn bytes_outside_are_read_as_zeros_and_not_written() {
    let mut bytes = [0xff; 4];
    assert_eq!(array_at::<4>(&bytes, 1), [0; 4]);
    assert_eq!(array_at::<4>(&bytes, 9), [0; 4]);
    put_array(&mut bytes, 1, [1; 4]);
    put_array(&mut bytes, 9, [1; 4]);
    assert_eq!(bytes, [0xff; 4]);
    put_array(&mut bytes, 0, [1; 4]);
    assert_eq!(bytes, [1; 4]);
}

#[test]
fn fields_ascend_and_lie_inside_of_their_structure() {
    for layout in [v1::Info::LAYOUT, v2::Header::LAYOUT, v2::ChunkEntry::LAYOUT] {
        let mut end = 0;
        for field in layout.fields {
            assert!(field.offset >= end, "{}.{}", layout.c_name, field.name);
            assert!(!field.meaning.is_empty() && field.meaning == field.meaning.trim(), "{}", field.name);
            end = field.offset + field.size;
        }
        assert!(end <= layout.size, "{}", layout.c_name);
    }
    assert_eq!([v1::Info::SIZE, v2::Header::SIZE, v2::ChunkEntry::SIZE], [64, 512, 24]);
}
