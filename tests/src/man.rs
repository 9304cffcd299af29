//! The man pages of section 1: made from the definition of the command line, with what no definition knows added by
//! hand.

use cdbitmap::commands::CommandLine;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};
use std::io;
use std::path::{Path, PathBuf};

/// An example: what it is for, and the command line behind `cdbitmap`.
pub type Example = (&'static str, &'static str);

/// The examples of each command; "" is for `cdbitmap` itself.
pub const EXAMPLES: &[(&str, &[Example])] = &[
    (
        "",
        &[
            (
                "In the capture kernel: leave out all that can be left out.",
                "dump /proc/vmcore /var/crash/vmcore -l -d 31",
            ),
            ("See beforehand how large a dump at each level would be.", "scan vmcore"),
            ("Ask why a page is missing.", "explain vmcore 0x4d2000"),
        ],
    ),
    (
        "scan",
        &[
            ("Counts per class, and the size of a dump at each level.", "scan vmcore"),
            ("Write the bitmap for dump level 17.", "scan vmcore -d 17 -o vmcore.bitmap"),
            (
                "Raw memory, with the map and the VMCOREINFO beside it.",
                "scan memory.raw --map iomem --vmcoreinfo info.txt --json",
            ),
        ],
    ),
    (
        "dump",
        &[
            ("What kdump does after a crash.", "dump /proc/vmcore /var/crash/vmcore -l -d 31"),
            ("To another machine, through a pipe.", "dump /proc/vmcore - --flattened -z -d 31"),
            (
                "Take the pages from the bitmap that the first kernel left in memory.",
                "dump /proc/vmcore /var/crash/vmcore -l -d 31 --bitmap auto",
            ),
            ("Take them from a bitmap file.", "dump vmcore out --bitmap vmcore.bitmap"),
            ("Filter a dump again, with two threads.", "dump vmcore.kdump smaller -d 31 -z --num-threads 2"),
        ],
    ),
    (
        "inspect",
        &[
            ("What is this file?", "inspect vmcore"),
            ("Save the VMCOREINFO for another dump of the same boot.", "inspect vmcore --vmcoreinfo-text"),
        ],
    ),
    (
        "verify",
        &[
            ("Structure and checksums.", "verify vmcore.bitmap"),
            ("Every bit, against the memory itself.", "verify vmcore.bitmap --image vmcore"),
        ],
    ),
    (
        "diff",
        &[
            ("Two bitmaps.", "diff a.bitmap b.bitmap"),
            (
                "A dump of makedumpfile's and one of ours, with the pages' contents.",
                "diff makedumpfile.kdump ours.kdump --contents",
            ),
        ],
    ),
    ("explain", &[("By frame number, and by physical address.", "explain vmcore 1234 0x4d2000")]),
    ("map", &[("A picture of memory by class.", "map vmcore -o map.png")]),
    (
        "extract",
        &[
            (
                "In the capture kernel: keep the first kernel's bitmap.",
                "extract /proc/vmcore -o /var/crash/bitmap",
            ),
            (
                "From a vmcore, with the address that its module printed.",
                "extract vmcore -o bitmap --bitmap-address 0x3fe00000",
            ),
        ],
    ),
    ("convert", &[("For a reader that knows version 1 only.", "convert new.bitmap old.bitmap --format 1")]),
    ("layout", &[("The C header.", "layout --as c")]),
    (
        "stage",
        &[
            (
                "Along with a capture kernel.",
                "stage exec -- /sbin/kexec -p /boot/vmlinuz --initrd=/boot/initrd.img --reuse-cmdline",
            ),
            ("What a crash would run.", "stage status"),
        ],
    ),
    (
        "synth",
        &[
            ("What kernels there are.", "synth --list"),
            ("A busy machine of 64 GiB.", "synth -o vmcore --memory 64G --profile busy --kernel 6.1"),
        ],
    ),
    ("demo", &[("All of it, on a small real vmcore.", "demo")]),
];

/// Where the pages are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../Documentation/man")
}

/// All pages of section 1, as file name and contents: `cdbitmap` and each of its commands.
///
/// # Errors
/// If a page can't be rendered, which would be a bug.
pub fn pages() -> io::Result<Vec<(String, String)>> {
    let mut root = CommandLine::command().disable_help_subcommand(true);
    root.build();
    let commands: Vec<&Command> = root.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let names: Vec<String> = commands.iter().map(|command| command.get_name().to_owned()).collect();
    std::iter::once(page(&root, "", &names))
        .chain(commands.into_iter().map(|command| page(command, command.get_name(), &names)))
        .collect()
}

/// The page of `command`, which is called `name` behind `cdbitmap`.
fn page(command: &Command, name: &str, all: &[String]) -> io::Result<(String, String)> {
    let full = if name.is_empty() { "cdbitmap".to_owned() } else { format!("cdbitmap-{name}") };
    // Without a version, so that a release doesn't change every page.
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
        "verify" => ("The bitmap holds.", "A check does not hold, or the job could not be finished."),
        "stage" => (
            "status: a crash would run the stage. exec ends with kexec's own exit status.",
            "status: a crash would not run the stage. exec: kexec could not be run.",
        ),
        "demo" => {
            ("Done; all bitmaps are makedumpfile's.", "A bit differs, or the job could not be finished.")
        }
        "diff" => ("There is no difference.", "They differ, or the job could not be finished."),
        "" => (
            "Done; all checks hold; there is no difference.",
            "The job could not be finished (a full disk, for one), a check does not hold, or there is a difference.",
        ),
        _ => ("Done.", "The job could not be finished: a full disk, for one."),
    };
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in [
        ("0", done),
        ("1", failed),
        ("2", "The command line or an input can't be used; standard error says why."),
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
            "An output NAME while it is written. It gets its name when it is whole, and is \
          removed when the job fails; one that is left behind, by a signal or a power failure, can be deleted.",
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
