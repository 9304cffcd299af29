//! QEMU's machine protocol, as far as it is needed here.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};
use vmcore::{Error, Result};

/// A connection to one QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Qmp {
    /// Connects to the socket that a starting QEMU makes, as soon as it is there.
    ///
    /// # Errors
    /// It doesn't come, or nobody answers there.
    pub fn connect(socket: &Path, mut is_alive: impl FnMut() -> bool) -> Result<Self> {
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if !is_alive() => return Err(Error::io(socket, "QEMU did not start", error)),
                Err(_) => sleep(Duration::from_millis(20)),
            }
        };
        let writer = stream.try_clone().map_err(|e| Error::io(socket, "no second handle", e))?;
        let mut qmp = Self { reader: BufReader::new(stream), writer };
        qmp.message()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Has a command executed, and returns its result.
    ///
    /// # Errors
    /// QEMU refuses it, or is gone.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").map_err(|e| Error::failure("QEMU is gone").because(e))?;
        loop {
            let mut message = self.message()?;
            if let Some(error) = message.get("error") {
                return Err(Error::failure(format!("QEMU refuses {command}: {error}")));
            }
            if let Some(result) = message.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    /// Writes the state of the machine, which stands still from now on, to a file.
    ///
    /// # Errors
    /// QEMU can't.
    pub fn save(&mut self, file: &Path) -> Result<()> {
        self.execute("stop", json!({}))?;
        self.execute("migrate-set-parameters", json!({ "max-bandwidth": 1_u64 << 40 }))?;
        self.execute("migrate", json!({ "uri": format!("file:{}", file.display()) }))?;
        let started = Instant::now();
        loop {
            let answer = self.execute("query-migrate", json!({}))?;
            match answer["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(Error::failure(format!("the snapshot failed: {answer}")).at(file));
                }
                _ if started.elapsed() > Duration::from_secs(120) => {
                    return Err(Error::failure("the snapshot does not end").at(file));
                }
                _ => sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Lets the machine, which starts from a saved state, go on as soon as that is loaded.
    ///
    /// # Errors
    /// The state can't be loaded.
    pub fn resume(&mut self) -> Result<()> {
        while self.execute("query-status", json!({}))?["status"] == "inmigrate" {
            sleep(Duration::from_millis(10));
        }
        self.execute("cont", json!({})).map(drop)
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(Error::failure("QEMU is gone")),
            Ok(_) => {
                serde_json::from_str(&line).map_err(|e| Error::failure("QEMU's answer is no JSON").because(e))
            }
            Err(error) => Err(Error::failure("QEMU is gone").because(error)),
        }
    }
}
