//! The part of the QEMU Machine Protocol (QMP) that the tests need.

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
    /// Connects to the socket of a starting QEMU, as soon as it exists.
    ///
    /// # Errors
    /// QEMU does not create the socket, or does not answer.
    pub fn connect(socket: &Path, mut is_alive: impl FnMut() -> bool) -> Result<Self> {
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(error) if !is_alive() => return Err(Error::io(socket, "QEMU did not start", error)),
                Err(_) => sleep(Duration::from_millis(20)),
            }
        };
        let writer = stream.try_clone().map_err(|e| Error::io(socket, "cannot duplicate the socket", e))?;
        let mut qmp = Self { reader: BufReader::new(stream), writer };
        qmp.message()?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes a command and returns its result.
    ///
    /// # Errors
    /// QEMU rejects the command, or has ended.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").map_err(|e| Error::failure("QEMU has ended").because(e))?;
        loop {
            let mut message = self.message()?;
            if let Some(error) = message.get("error") {
                return Err(Error::failure(format!("QEMU rejects {command}: {error}")));
            }
            if let Some(result) = message.get_mut("return") {
                return Ok(result.take());
            }
        }
    }

    /// Stops the machine and writes its state to a file.
    ///
    /// # Errors
    /// QEMU reports an error, or does not finish in time.
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
                    return Err(Error::failure("the snapshot did not finish in time").at(file));
                }
                _ => sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until the saved state is loaded, then continues the machine.
    ///
    /// # Errors
    /// The state cannot be loaded.
    pub fn resume(&mut self) -> Result<()> {
        while self.execute("query-status", json!({}))?["status"] == "inmigrate" {
            sleep(Duration::from_millis(10));
        }
        self.execute("cont", json!({})).map(drop)
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err(Error::failure("QEMU has ended")),
            Ok(_) => serde_json::from_str(&line)
                .map_err(|e| Error::failure("QEMU's answer is not valid JSON").because(e)),
            Err(error) => Err(Error::failure("QEMU has ended").because(error)),
        }
    }
}
