//! Describes in text what stopped a scan.

use scanner_core::info::ScanStatus;
use scanner_core::info::v2::{Cause, Header, PAGE_FAULT, Producer, State, exception_name};

/// Bits of a page fault's error code: a write access, and an instruction fetch.
const WRITE: u64 = 1 << 1;
const FETCH: u64 = 1 << 4;

/// Describes what stopped the scan. `None` if nothing did, or if the cause is not recorded.
pub(super) fn stopped_by(header: &Header) -> Option<String> {
    let failed = |what: &str| Some(format!("self-check failed: {what}"));
    match header.cause {
        Cause::NotSaid => by_state(header),
        Cause::Exception => Some(exception(header)),
        Cause::Parameters => failed("the parameters differ from those that were loaded"),
        Cause::Code => failed("the code differs from what was loaded"),
        Cause::Levels => failed("the number of page-table levels differs from the kernel's"),
        Cause::Tables => failed("the page tables do not fit into their memory"),
        Cause::Refused => Some(refusal(header.cause_number)),
    }
}

fn by_state(header: &Header) -> Option<String> {
    match header.state {
        State::OutOfBudget => Some("time budget used up".to_owned()),
        State::Fault if header.first_unreadable != 0 => {
            Some(format!("unreadable memory at {:#x}", header.first_unreadable))
        }
        _ => None,
    }
}

/// Describes an exception, for example `page fault reading 0x7000, at stage+0x1234`.
fn exception(header: &Header) -> String {
    let (number, error) = (header.cause_number, header.exception_error);
    let mut text = exception_name(number).map_or_else(|| format!("exception {number}"), str::to_owned);
    if number == PAGE_FAULT {
        let access = match error {
            error if error & FETCH != 0 => "executing",
            error if error & WRITE != 0 => "writing",
            _ => "reading",
        };
        text += &format!(" {access} {:#x}", header.exception_address);
    } else if error != 0 {
        text += &format!(" (error code {error:#x})");
    }
    let place = if header.producer == Producer::Purgatory { "stage" } else { "image" };
    text + &format!(", at {place}+{:#x}", header.exception_at)
}

/// Describes a refusal, for example `the scanner refuses: no memory section has struct pages`.
fn refusal(status: u32) -> String {
    let known = ScanStatus::C_NAMES.iter().find(|(_, value, _)| value.cast_unsigned() == status);
    match known {
        Some((_, _, meaning)) => format!("the scanner refuses: {meaning}"),
        None => format!("the scanner refuses: status {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scanner_core::Pfn;

    #[test]
    fn each_cause_has_its_text() {
        let base = Header { producer: Producer::Purgatory, ..Header::new(Pfn::new(0), 64, 40) };
        let caused = |cause, cause_number| Header { cause, cause_number, ..base };
        let faulted = |error| Header {
            exception_error: error,
            exception_at: 0x1234,
            exception_address: 0x7000,
            ..caused(Cause::Exception, PAGE_FAULT)
        };
        for (header, expected) in [
            (base, None),
            (Header { state: State::OutOfBudget, ..base }, Some("time budget used up")),
            (
                Header { state: State::Fault, first_unreadable: 0x5000, ..base },
                Some("unreadable memory at 0x5000"),
            ),
            (faulted(0), Some("page fault reading 0x7000, at stage+0x1234")),
            (faulted(2), Some("page fault writing 0x7000, at stage+0x1234")),
            (faulted(16), Some("page fault executing 0x7000, at stage+0x1234")),
            (caused(Cause::Exception, 6), Some("invalid opcode, at stage+0x0")),
            (caused(Cause::Exception, 99), Some("exception 99, at stage+0x0")),
            (
                Header { exception_error: 0x10, ..caused(Cause::Exception, 13) },
                Some("general protection fault (error code 0x10), at stage+0x0"),
            ),
            (
                Header { producer: Producer::Panic, ..caused(Cause::Exception, 18) },
                Some("machine check, at image+0x0"),
            ),
            (caused(Cause::Code, 0), Some("self-check failed: the code differs from what was loaded")),
            (
                caused(Cause::Refused, ScanStatus::NoSections as u32),
                Some("the scanner refuses: no memory section has struct pages"),
            ),
            (caused(Cause::Refused, 999), Some("the scanner refuses: status 999")),
        ] {
            assert_eq!(stopped_by(&header).as_deref(), expected);
        }
    }
}
