//! Parses kexec's command line, and adds a parameter to the command line of the capture kernel.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The task that a command line gives to kexec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Load a capture kernel by `kexec_load`.
    LoadCapture,
    /// Load a capture kernel by `kexec_file_load`, which takes no segments.
    LoadCaptureByFile,
    /// Any other task.
    Other,
}

/// Short options that take a value.
const WITH_VALUE: &[u8] = b"t";

/// The task of kexec with these arguments, without the program's name.
pub fn task(arguments: &[OsString]) -> Task {
    let (mut panic, mut file, mut unload) = (false, false, false);
    for argument in arguments {
        let bytes = argument.as_bytes();
        match bytes {
            b"--" => break,
            b"--load-panic" => panic = true,
            b"--kexec-file-syscall" => file = true,
            b"--kexec-syscall" | b"--kexec-syscall-auto" => file = false,
            b"--unload" => unload = true,
            [b'-', letters @ ..] if !letters.starts_with(b"-") => {
                let end = letters.iter().position(|l| WITH_VALUE.contains(l)).unwrap_or(letters.len());
                for letter in &letters[..end] {
                    match letter {
                        b'p' => panic = true,
                        b's' => file = true,
                        b'c' | b'a' => file = false,
                        b'u' => unload = true,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    match (panic && !unload, file) {
        (true, false) => Task::LoadCapture,
        (true, true) => Task::LoadCaptureByFile,
        _ => Task::Other,
    }
}

/// The arguments, with `word` added at the end of the capture kernel's command line.
pub fn with_word(arguments: &[OsString], word: &str) -> Vec<OsString> {
    let mut arguments = arguments.to_vec();
    let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
    // kexec uses the last such option.
    for at in (0..end).rev() {
        let name_and_value = arguments[at].as_bytes();
        let (name, value) = match name_and_value.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&name_and_value[..equals], Some(equals)),
            None => (name_and_value, None),
        };
        if !is_command_line_option(name) {
            continue;
        }
        let place = if value.is_some() { at } else { at + 1 };
        if let Some(argument) = arguments.get_mut(place) {
            let mut bytes = std::mem::take(argument).into_vec();
            bytes.push(b' ');
            bytes.extend(word.as_bytes());
            *argument = OsString::from_vec(bytes);
            return arguments;
        }
    }
    arguments.insert(end, OsString::from(format!("--append={word}")));
    arguments
}

/// Whether `name` is `--append` or `--command-line`, or an abbreviation that kexec accepts.
fn is_command_line_option(name: &[u8]) -> bool {
    name.strip_prefix(b"--").is_some_and(|name| {
        (name.len() >= 2 && b"append".starts_with(name))
            || (name.len() >= 2 && b"command-line".starts_with(name))
    })
}

/// The command line as text, for a message.
pub fn shown(arguments: &[OsString]) -> String {
    arguments.iter().map(|argument| OsStr::to_string_lossy(argument)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split('|').map(OsString::from).collect()
    }

    #[test]
    fn task_of_a_command_line() {
        for (text, expected) in [
            ("-p|/vmlinuz", Task::LoadCapture),
            ("-c|--load-panic|/vmlinuz", Task::LoadCapture),
            ("-dcp|/vmlinuz", Task::LoadCapture),
            ("-sp|/vmlinuz", Task::LoadCaptureByFile),
            ("-s|-p|-c|/vmlinuz", Task::LoadCapture),
            ("-p|-u", Task::Other),
            ("-tpx|/vmlinuz", Task::Other),
            ("-l|/vmlinuz", Task::Other),
            ("-l|--|-p", Task::Other),
        ] {
            assert_eq!(task(&words(text)), expected, "{text}");
        }
    }

    #[test]
    fn the_word_is_added_to_the_last_command_line_option() {
        for (text, expected) in [
            ("-p|k|--append=a b", "-p|k|--append=a b w"),
            ("-p|--append|a b|k", "-p|--append|a b w|k"),
            ("-p|--command-line=a|--append=b|k", "-p|--command-line=a|--append=b w|k"),
            ("-p|--app=a|k", "-p|--app=a w|k"),
            ("-p|k|--reuse-cmdline", "-p|k|--reuse-cmdline|--append=w"),
            ("-p|--|k", "-p|--append=w|--|k"),
        ] {
            assert_eq!(with_word(&words(text), "w"), words(expected), "{text}");
        }
    }
}
