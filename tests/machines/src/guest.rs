//! A running machine.

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

/// Size in bytes of the disk that a guest exports files through.
const DISK_BYTES: u64 = 4 << 30;

/// The result of a command in the guest.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its exit status.
    pub status: i32,
    /// The console's output during the command.
    pub lines: Vec<Line>,
}

impl Reply {
    /// The rest of the first line that starts with `start`.
    pub fn after(&self, start: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.text.strip_prefix(start)).map(str::trim)
    }

    /// All lines as one text.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.text)).collect()
    }
}

/// A running machine. Dropping the value ends QEMU.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    orders: ChildStdin,
    console: Console,
    qmp: Qmp,
    directory: PathBuf,
    /// When QEMU had started.
    pub started: Instant,
}

impl Guest {
    /// Boots the machine until it accepts commands. `directory` contains the console's log, `console.log`, and the disk
    /// while the machine runs.
    ///
    /// # Errors
    /// The machine does not start, or does not accept commands in time.
    pub fn boot(machine: &Machine, kit: &Kit, directory: &Path) -> Result<Self> {
        let mut guest = Self::start(machine, kit, directory, None)?;
        guest.wait_for("machine: serving", Duration::from_secs(180))?;
        Ok(guest)
    }

    /// Restores a machine from the snapshot of [`Guest::save`] and continues it.
    ///
    /// # Errors
    /// The machine does not start.
    pub fn restore(machine: &Machine, kit: &Kit, directory: &Path, snapshot: &Path) -> Result<Self> {
        let mut guest = Self::start(machine, kit, directory, Some(snapshot))?;
        guest.qmp.resume()?;
        Ok(guest)
    }

    fn start(machine: &Machine, kit: &Kit, directory: &Path, snapshot: Option<&Path>) -> Result<Self> {
        fs::create_dir_all(directory).map_err(|e| Error::io(directory, "cannot create the directory", e))?;
        let disk = directory.join("disk");
        let made = File::create(&disk).and_then(|file| file.set_len(DISK_BYTES));
        made.map_err(|e| Error::io(&disk, "cannot create the disk", e))?;
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
        let errors = File::create(&errors).map_err(|e| Error::io(&errors, "cannot create the log", e))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(|e| Error::failure("cannot start QEMU").because(e))?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::failure("QEMU has no console"));
        };
        let console = Console::new(output, &directory.join("console.log"))?;
        let qmp = Qmp::connect(&socket, || matches!(child.try_wait(), Ok(None)))
            .map_err(|e| e.with_hint(format!("See {}.", directory.join("qemu.log").display())));
        let mut child = Some(child);
        let qmp = qmp.inspect_err(|_| child.iter_mut().for_each(end))?;
        let child = child.take().ok_or_else(|| Error::failure("QEMU has ended"))?;
        Ok(Self { child, orders, console, qmp, directory: directory.to_owned(), started: Instant::now() })
    }

    /// Writes the machine's state to a file, and ends the machine.
    ///
    /// # Errors
    /// QEMU reports an error.
    pub fn save(mut self, snapshot: &Path) -> Result<()> {
        self.qmp.save(snapshot)
    }

    /// Plugs a memory module into the machine. The guest's kernel is notified.
    ///
    /// # Errors
    /// QEMU reports an error.
    pub fn plug(&mut self, mebibytes: u64) -> Result<()> {
        let memory = json!({ "qom-type": "memory-backend-ram", "id": "added", "size": mebibytes << 20 });
        self.qmp.execute("object-add", memory)?;
        self.qmp.execute("device_add", json!({ "driver": "pc-dimm", "id": "module", "memdev": "added" }))?;
        Ok(())
    }

    /// Runs a command in the guest's shell, and waits for its end.
    ///
    /// # Errors
    /// The command does not end in time, or the machine ends before.
    pub fn run(&mut self, command: &str, limit: Duration) -> Result<Reply> {
        self.order(command)?;
        let mut lines = self
            .wait_for("machine: status ", limit)
            .map_err(|e| Error::failure(format!("the command \"{command}\" did not end")).because(e))?;
        let status = lines.pop().and_then(|line| {
            let (_, status) = line.text.rsplit_once("machine: status ")?;
            status.trim().parse().ok()
        });
        Ok(Reply { status: status.unwrap_or(-1), lines })
    }

    /// Runs a command that must succeed.
    ///
    /// # Errors
    /// Those of [`Guest::run`], or the command's status is not 0.
    pub fn succeed(&mut self, command: &str, limit: Duration) -> Result<Reply> {
        let reply = self.run(command, limit)?;
        if reply.status != 0 {
            let last: Vec<_> =
                reply.lines.iter().rev().take(12).rev().map(|line| line.text.as_str()).collect();
            return Err(Error::failure(format!("\"{command}\" failed with status {}", reply.status))
                .with_hint(last.join("\n  ")));
        }
        Ok(reply)
    }

    /// Sends a command to the guest's shell without waiting for its end.
    ///
    /// # Errors
    /// The machine has ended.
    pub fn order(&mut self, command: &str) -> Result<()> {
        writeln!(self.orders, "{command}")
            .and_then(|()| self.orders.flush())
            .map_err(|e| Error::failure("the machine has ended").because(e))
    }

    /// Waits for a console line that contains `text`. Returns all lines up to that one.
    ///
    /// # Errors
    /// No such line appears in time, or the machine ends.
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

    /// Waits until the capture kernel accepts commands. Returns the console lines until then.
    ///
    /// # Errors
    /// It does not accept commands in time.
    pub fn wait_for_capture_kernel(&mut self) -> Result<Vec<Line>> {
        self.wait_for("machine: serving", Duration::from_secs(180))
    }

    /// Stores the standard output of a command in the guest as `file` on the host.
    ///
    /// # Errors
    /// The command fails, or does not end in time.
    pub fn stream(&mut self, command: &str, file: &Path, limit: Duration) -> Result<Reply> {
        // The file position on the disk is the size of the output, so nothing else has to read each byte.
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
        copied.map_err(|e| Error::io(file, "cannot copy it from the guest's disk", e))?;
        Ok(reply)
    }

    /// Copies files of the guest to `directory`. Names are relative to the guest's root directory.
    ///
    /// # Errors
    /// A file does not exist or cannot be copied.
    pub fn fetch(&mut self, files: &[&str], directory: &Path) -> Result<()> {
        let archive = self.directory.join("files.tar");
        let command = format!("tar -c -f - -C / {}", files.join(" "));
        let reply = self.stream(&command, &archive, Duration::from_secs(180))?;
        if reply.status != 0 {
            return Err(Error::failure(format!("\"{command}\" failed with status {}", reply.status)));
        }
        fs::create_dir_all(directory).map_err(|e| Error::io(directory, "cannot create the directory", e))?;
        let tar = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(directory).status();
        succeeded("tar", tar)?;
        remove_files(&[archive])
    }

    /// Stops the machine and writes its memory to an ELF file.
    ///
    /// # Errors
    /// QEMU reports an error.
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

/// Kills QEMU and waits for its end.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
