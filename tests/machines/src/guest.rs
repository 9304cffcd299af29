//! A machine that runs.

use crate::console::{Console, Line};
use crate::kit::{remove_files, succeeded};
use crate::qmp::Qmp;
use crate::{Kit, Machine};
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

/// How large the disk is that a guest brings its files out by.
const DISK_BYTES: u64 = 4 << 30;

/// What a command in the guest said.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its exit status.
    pub status: i32,
    /// What came over the console meanwhile.
    pub lines: Vec<Line>,
}

impl Reply {
    /// The rest of the first line that starts with `start`.
    pub fn after(&self, start: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.text.strip_prefix(start)).map(str::trim)
    }

    /// All lines.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }
}

/// A machine that runs; it ends with the value.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    orders: ChildStdin,
    console: Console,
    qmp: Qmp,
    directory: PathBuf,
    /// When QEMU was there.
    pub started: Instant,
}

impl Guest {
    /// Boots the machine until it takes commands. `directory` gets its console's log, `console.log`, and is where
    /// its disk is as long as it runs.
    ///
    /// # Errors
    /// It does not start, or does not get that far.
    pub fn boot(machine: &Machine, kit: &Kit, directory: &Path) -> Result<Self> {
        let mut guest = Self::start(machine, kit, directory, None)?;
        guest.wait_for("machine: serving", Duration::from_secs(180))?;
        Ok(guest)
    }

    /// Continues a machine at the snapshot that [`Guest::save`] took of it.
    ///
    /// # Errors
    /// It does not start.
    pub fn restore(machine: &Machine, kit: &Kit, directory: &Path, snapshot: &Path) -> Result<Self> {
        let mut guest = Self::start(machine, kit, directory, Some(snapshot))?;
        guest.qmp.resume()?;
        Ok(guest)
    }

    fn start(machine: &Machine, kit: &Kit, directory: &Path, snapshot: Option<&Path>) -> Result<Self> {
        fs::create_dir_all(directory)
            .map_err(|e| Error::io(directory, "no such directory can be made", e))?;
        let disk = directory.join("disk");
        let made = File::create(&disk).and_then(|file| file.set_len(DISK_BYTES));
        made.map_err(|e| Error::io(&disk, "the disk can't be made", e))?;
        let socket = directory.join("qmp");
        let _ = fs::remove_file(&socket);

        let mut command = machine.qemu(&kit.kernel, &kit.initramfs, &disk, &kit.files);
        command
            .args(["-serial", "stdio", "-qmp"])
            .arg(format!("unix:{},server=on,wait=off", socket.display()));
        if let Some(snapshot) = snapshot {
            command.arg("-incoming").arg(format!("file:{}", snapshot.display()));
        }
        let errors = directory.join("qemu.log");
        let errors = File::create(&errors).map_err(|e| Error::io(&errors, "the log can't be made", e))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(|e| Error::failure("QEMU can't be started").because(e))?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::failure("QEMU has no console"));
        };
        let console = Console::new(output, &directory.join("console.log"))?;
        let qmp = Qmp::connect(&socket, || matches!(child.try_wait(), Ok(None)))
            .map_err(|e| e.with_hint(format!("See {}.", directory.join("qemu.log").display())));
        let mut child = Some(child);
        let qmp = qmp.inspect_err(|_| child.iter_mut().for_each(end))?;
        let child = child.take().ok_or_else(|| Error::failure("QEMU is gone"))?;
        Ok(Self { child, orders, console, qmp, directory: directory.to_owned(), started: Instant::now() })
    }

    /// Writes the machine's state to a file, and ends it.
    ///
    /// # Errors
    /// QEMU can't.
    pub fn save(mut self, snapshot: &Path) -> Result<()> {
        self.qmp.save(snapshot)
    }

    /// Plugs memory into the machine; the guest's kernel learns of it.
    ///
    /// # Errors
    /// QEMU can't.
    pub fn plug(&mut self, mebibytes: u64) -> Result<()> {
        let memory = json!({ "qom-type": "memory-backend-ram", "id": "added", "size": mebibytes << 20 });
        self.qmp.execute("object-add", memory)?;
        self.qmp.execute("device_add", json!({ "driver": "pc-dimm", "id": "module", "memdev": "added" }))?;
        Ok(())
    }

    /// Has a command executed by the guest's shell, and waits for its end.
    ///
    /// # Errors
    /// It does not end in time, or the machine ends meanwhile.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Reply> {
        self.order(command)?;
        let mut lines = self
            .wait_for("machine: status ", limit)
            .map_err(|e| Error::failure(format!("the command \"{command}\" does not end")).because(e))?;
        let status = lines.pop().and_then(|line| {
            let (_, status) = line.text.rsplit_once("machine: status ")?;
            status.trim().parse().ok()
        });
        Ok(Reply { status: status.unwrap_or(-1), lines })
    }

    /// Has a command executed that has to succeed.
    ///
    /// # Errors
    /// As of [`Guest::run`], and if its status is not 0.
    pub fn succeed(&mut self, command: &str, limit: Duration) -> Result<Reply> {
        let reply = self.run(command, limit)?;
        if reply.status != 0 {
            let last: Vec<_> =
                reply.lines.iter().rev().take(12).rev().map(|line| line.text.as_str()).collect();
            return Err(Error::failure(format!("\"{command}\" ends with {}", reply.status))
                .with_hint(last.join("\n  ")));
        }
        Ok(reply)
    }

    /// Gives a command to the guest's shell, and doesn't wait.
    ///
    /// # Errors
    /// The machine is gone.
    pub fn order(&mut self, command: &str) -> Result<()> {
        writeln!(self.orders, "{command}")
            .and_then(|()| self.orders.flush())
            .map_err(|e| Error::failure("the machine is gone").because(e))
    }

    /// Waits for a line that has `text` in it; returns all lines up to that one.
    ///
    /// # Errors
    /// None comes in time, or the machine ends.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Vec<Line>> {
        let until = Instant::now() + limit;
        let mut lines: Vec<Line> = Vec::new();
        loop {
            let line = self.console.next(until).map_err(|e| {
                let last: Vec<_> = lines.iter().rev().take(12).rev().map(|line| line.text.as_str()).collect();
                Error::failure(format!("waiting for \"{text}\"")).because(e).with_hint(last.join("\n  "))
            })?;
            let found = line.text.contains(text);
            lines.push(line);
            if found {
                return Ok(lines);
            }
        }
    }

    /// Waits until the capture kernel takes commands; returns all lines from now up to there.
    ///
    /// # Errors
    /// It doesn't come so far.
    pub fn wait_for_capture_kernel(&mut self) -> Result<Vec<Line>> {
        self.wait_for("machine: serving", Duration::from_secs(180))
    }

    /// Brings what a command writes to its standard output out of the guest, as `file`.
    ///
    /// # Errors
    /// The command fails, or does not end in time.
    pub fn stream(&mut self, command: &str, file: &Path, limit: Duration) -> Result<Reply> {
        // How far the disk is written says how much it was: nothing else has to look at each byte.
        let command_to_disk = format!(
            "exec 3> /dev/vda; {{ {command}; }} >&3; status=$?; sync; \
             sed -n 's/^pos:[^0-9]*/machine: written /p' /proc/self/fdinfo/3; exec 3>&-; (exit $status)"
        );
        let reply = self.run(&command_to_disk, limit)?;
        let bytes = reply.after("machine: written ").and_then(|bytes| bytes.parse().ok());
        let bytes: u64 = bytes.ok_or_else(|| Error::failure(format!("\"{command}\" wrote nothing")))?;
        let disk = self.directory.join("disk");
        let copied =
            File::open(&disk).and_then(|disk| std::io::copy(&mut disk.take(bytes), &mut File::create(file)?));
        copied.map_err(|e| Error::io(file, "it can't be copied from the guest's disk", e))?;
        Ok(reply)
    }

    /// Brings files of the guest out of it, into `directory`, with their names in the guest's root directory.
    ///
    /// # Errors
    /// One of them isn't there, or doesn't come.
    pub fn fetch(&mut self, files: &[&str], directory: &Path) -> Result<()> {
        let archive = self.directory.join("files.tar");
        let command = format!("tar -c -f - -C / {}", files.join(" "));
        let reply = self.stream(&command, &archive, Duration::from_secs(180))?;
        if reply.status != 0 {
            return Err(Error::failure(format!("\"{command}\" ends with {}", reply.status)));
        }
        fs::create_dir_all(directory)
            .map_err(|e| Error::io(directory, "no such directory can be made", e))?;
        let tar = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(directory).status();
        succeeded("tar", tar)?;
        remove_files(&[archive])
    }

    /// Stands still from now on, and writes all of its memory to an ELF file.
    ///
    /// # Errors
    /// QEMU can't.
    pub fn dump_memory(&mut self, file: &Path) -> Result<()> {
        self.qmp.execute("stop", json!({}))?;
        let protocol = format!("file:{}", file.display());
        self.qmp.execute("dump-guest-memory", json!({ "paging": false, "protocol": protocol })).map(drop)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        end(&mut self.child);
        let _ = fs::remove_file(self.directory.join("disk"));
        let _ = fs::remove_file(self.directory.join("qmp"));
    }
}

/// Ends a QEMU, and waits for that.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
