//! Generates the man pages of section 1 from the definition of the command line. Examples, exit status, files and
//! cross references are added here.

use cdbitmap::commands::CommandLine;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::io;
use std::path::{Path, PathBuf};

/// An example: its purpose, and the arguments of `cdbitmap`.
pub type Example = (&'static str, &'static str);

/// The examples of each command; "" is for `cdbitmap` itself.
pub const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            (
                "In the capture kernel: exclude everything that can be excluded.",
                "dump /proc/vmcore /var/crash/vmcore -l -d 31",
            ),
            ("Show the size of the dump at each level without writing it.", "scan vmcore"),
            ("Explain why a page is missing.", "explain vmcore 0x4d2000"),
        ],
    ),
    (
        "scan",
        &[
            ("Count the pages of each class, and show the size of a dump at each level.", "scan vmcore"),
            ("Write the bitmap for dump level 17.", "scan vmcore -d 17 -o vmcore.bitmap"),
            (
                "Scan raw memory with a separate memory map and VMCOREINFO.",
                "scan memory.raw --map iomem --vmcoreinfo info.txt --json",
            ),
        ],
    ),
    (
        "dump",
        &[
            (
                "Save a dump in the capture kernel, as kdump does.",
                "dump /proc/vmcore /var/crash/vmcore -l -d 31",
            ),
            ("Send a dump to another machine through a pipe.", "dump /proc/vmcore - --flattened -z -d 31"),
            (
                "Use the bitmap that the first kernel left in memory.",
                "dump /proc/vmcore /var/crash/vmcore -l -d 31 --bitmap auto",
            ),
            ("Use a bitmap file.", "dump vmcore out --bitmap vmcore.bitmap"),
            ("Filter a dump again, with two threads.", "dump vmcore.kdump smaller -d 31 -z --num-threads 2"),
        ],
    ),
    (
        "inspect",
        &[
            ("Show what a file contains.", "inspect vmcore"),
            ("Save the VMCOREINFO for another dump of the same boot.", "inspect vmcore --vmcoreinfo-text"),
        ],
    ),
    (
        "verify",
        &[
            ("Check structure and checksums.", "verify vmcore.bitmap"),
            ("Check every bit against the memory image.", "verify vmcore.bitmap --image vmcore"),
        ],
    ),
    (
        "diff",
        &[
            ("Compare two bitmaps.", "diff a.bitmap b.bitmap"),
            (
                "Compare a dump by makedumpfile with one by cdbitmap, including page contents.",
                "diff makedumpfile.kdump ours.kdump --contents",
            ),
        ],
    ),
    (
        "explain",
        &[("Explain pages given by frame number and by physical address.", "explain vmcore 1234 0x4d2000")],
    ),
    ("map", &[("Draw the memory map by page class.", "map vmcore -o map.png")]),
    (
        "extract",
        &[
            (
                "In the capture kernel: save the first kernel's bitmap.",
                "extract /proc/vmcore -o /var/crash/bitmap",
            ),
            (
                "Extract the bitmap from a vmcore, by the address that the module printed.",
                "extract vmcore -o bitmap --bitmap-address 0x3fe00000",
            ),
        ],
    ),
    ("convert", &[("Convert to version 1 for an old reader.", "convert new.bitmap old.bitmap --format 1")]),
    ("layout", &[("Print the C header.", "layout --as c")]),
    (
        "stage",
        &[
            (
                "Load the stage together with a capture kernel.",
                "stage exec -- /sbin/kexec -p /boot/vmlinuz --initrd=/boot/initrd.img --reuse-cmdline",
            ),
            ("Show whether a crash would run the stage.", "stage status"),
        ],
    ),
    (
        "synth",
        &[
            ("List the kernel generations.", "synth --list"),
            (
                "Simulate a busy machine of 64 GiB.",
                "synth -o vmcore --memory 64G --profile busy --kernel 6.1",
            ),
        ],
    ),
    ("demo", &[("Run all steps on a small real vmcore.", "demo")]),
];

/// The directory of the man pages.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../Documentation/man")
}

/// All pages of section 1, as file name and contents: `cdbitmap` and each of its commands.
///
/// # Errors
/// A page cannot be rendered, which would be a bug.
pub fn pages() -> io::Result<Vec<(String, String)>> {
    let mut root = CommandLine::command().disable_help_subcommand(true);
    root.build();
    let commands: Vec<&Command> = root.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let names: Vec<String> = commands.iter().map(|command| command.get_name().to_owned()).collect();
    std::iter::once(page(&root, "", &names))
        .chain(commands.into_iter().map(|command| page(command, command.get_name(), &names)))
        .collect()
}

/// The page of the subcommand `name`, or of `cdbitmap` itself if `name` is empty.
fn page(command: &Command, name: &str, all: &[String]) -> io::Result<(String, String)> {
    let full = if name.is_empty() { "cdbitmap".to_owned() } else { format!("cdbitmap-{name}") };
    // No version, so that a release does not change every page.
    let man = Man::new(command.clone().version(None::<&'static str>))
        .title(full.to_uppercase())
        .source("cdbitmap")
        .manual("Crash dump bitmaps");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if name.is_empty() {
        commands(command).to_writer(&mut out)?;
    }
    for part in command.get_subcommands().filter(|part| !name.is_empty() && part.get_name() != "help") {
        let part_of = Man::new(part.clone().version(None::<&'static str>));
        let title = format!("{name} {}", part.get_name()).to_uppercase();
        let mut heading = Roff::new();
        heading.control("SH", [title.as_str()]);
        heading.to_writer(&mut out)?;
        part_of.render_synopsis_section(&mut out)?;
        part_of.render_options_section(&mut out)?;
    }
    exit_status(name).to_writer(&mut out)?;
    files().to_writer(&mut out)?;
    examples(name).to_writer(&mut out)?;
    see_also(name, all).to_writer(&mut out)?;
    let text = String::from_utf8(out).map_err(io::Error::other)?;
    Ok((format!("{full}.1"), text))
}

fn commands(root: &Command) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        roff.control("TP", []);
        roff.text([bold(format!("cdbitmap-{}", command.get_name())), roman("(1)")]);
        roff.text([roman(about)]);
    }
    roff
}

fn exit_status(name: &str) -> Roff {
    let (done, failed) = match name {
        "verify" => ("The bitmap is valid.", "A check failed, or the command could not finish."),
        "stage" => (
            "status: a crash would run the stage. exec returns kexec's exit status.",
            "status: a crash would not run the stage. exec: kexec could not be run.",
        ),
        "demo" => ("All bitmaps equal makedumpfile's.", "A bit differs, or the command could not finish."),
        "diff" => ("The inputs are equal.", "The inputs differ, or the command could not finish."),
        "" => (
            "Success: all checks passed, no difference was found.",
            "The command could not finish (for example, disk full), a check failed, or a difference was found.",
        ),
        _ => ("Success.", "The command could not finish (for example, disk full)."),
    };
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", done),
        ("1", failed),
        ("2", "The command line or an input is invalid; see the message on standard error."),
    ] {
        roff.control("TP", []);
        roff.text([bold(code)]);
        roff.text([roman(meaning)]);
    }
    roff
}

fn files() -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["FILES"]);
    for (file, what) in [
        ("/proc/vmcore", "The crashed kernel's memory, in the capture kernel."),
        (
            ".NAME.XXXXXX.partial",
            "The output NAME while it is being written. The file is renamed to NAME when it is complete, and \
          removed if the command fails. One that remains after a signal or a power failure can be deleted.",
        ),
    ] {
        roff.control("TP", []);
        roff.text([italic(file)]);
        roff.text([roman(what)]);
    }
    roff
}

fn examples(name: &str) -> Roff {
    let mut roff = Roff::new();
    let examples = EXAMPLES.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, examples)| *examples);
    if examples.is_empty() {
        return roff;
    }
    roff.control("SH", ["EXAMPLES"]);
    for (what, arguments) in examples {
        roff.control("PP", []);
        roff.text([roman(*what)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([bold(format!("cdbitmap {arguments}"))]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
    roff
}

fn see_also(name: &str, all: &[String]) -> Roff {
    let mut pages: Vec<(String, &str)> = if name.is_empty() {
        all.iter().map(|other| (format!("cdbitmap-{other}"), "1")).collect()
    } else {
        vec![("cdbitmap".to_owned(), "1")]
    };
    for (page, section) in
        [("kdump.conf", "5"), ("crash_dump_bitmap", "5"), ("crash", "8"), ("makedumpfile", "8")]
    {
        pages.push((page.to_owned(), section));
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    let last = pages.len() - 1;
    let line = pages.into_iter().enumerate().flat_map(|(index, (page, section))| {
        [bold(page), roman(format!("({section}){}", if index < last { ", " } else { "" }))]
    });
    roff.text(line.collect::<Vec<_>>());
    roff
}
