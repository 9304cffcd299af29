use super::*;
use std::string::ToString;

/// Checks that the numbers of `$name` are those of the format, from 0 on, and that each leads to its own name.
macro_rules! check_codes {
    ($name:ident, $($text:literal),+) => {
        let names = [$($text),+];
        for (number, name) in (0..).zip(names) {
            let choice = $name::from_code(number).unwrap();
            assert_eq!((choice.code(), choice.name(), choice.to_string().as_str()), (number, name, name));
        }
        for number in [names.len() as u32, 100, u32::MAX] {
            assert_eq!($name::from_code(number), None, "{number}");
        }
        let codes = $name::CODES.iter().map(|code| (code.value, code.name));
        assert!(codes.eq((0..).zip(names)));
        assert!($name::CODES.iter().all(|code| !code.meaning.is_empty()));
    };
}

#[test]
fn producers_have_the_numbers_of_the_format() {
    check_codes!(Producer, "not-recorded", "panic", "purgatory", "host");
}

#[test]
fn states_have_the_numbers_of_the_format() {
    check_codes!(
        State,
        "empty",
        "scanning",
        "complete",
        "out-of-budget",
        "fault",
        "corrupt",
        "cancelled",
        "not-recorded"
    );
}

#[test]
fn rule_sets_have_the_numbers_of_the_format() {
    check_codes!(RecordedRules, "makedumpfile", "kernel", "not-recorded");
    assert_eq!(RecordedRules::from(RuleSet::Makedumpfile), RecordedRules::Makedumpfile);
    assert_eq!(RecordedRules::from(RuleSet::Kernel), RecordedRules::Kernel);
}

#[test]
fn causes_have_the_numbers_of_the_format() {
    check_codes!(Cause, "not-said", "exception", "parameters", "code", "levels", "tables", "refused");
}

#[test]
fn exceptions_that_processors_raise_have_names() {
    for number in 0..300 {
        // 9 is of the 80387; 15, 22 to 27 and 31 are reserved, as is all from 32 on. 28 is of hypervisors.
        let is_named = number < 32 && ![9, 15, 22, 23, 24, 25, 26, 27, 28, 31].contains(&number);
        assert_eq!(exception_name(number).is_some(), is_named, "{number}");
    }
    assert_eq!(exception_name(0), Some("divide error"));
    assert_eq!(exception_name(PAGE_FAULT), Some("page fault"));
    assert_eq!(exception_name(MACHINE_CHECK), Some("machine check"));
    assert_eq!((PAGE_FAULT, MACHINE_CHECK), (14, 18));
}
