//! The machine that the figures are of, and its caches.

use std::fs::File;
use std::io::Write as _;

use plimsoll_core::model::{Bytes, escape};
use serde::Serialize;

use crate::error::CliError;

/// What the figures depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Machine {
    /// Its name, as it calls itself.
    pub(super) name: Bytes,
    /// Release of the kernel.
    pub(super) kernel: String,
    pub(super) cpu: Cpu,
    pub(super) memory_bytes: u64,
}

/// The processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cpu {
    pub(super) model: String,
    /// How many of them this program may use.
    pub(super) processors: usize,
    /// Whether it has instructions for SHA-256, which the digest engine then uses; null where that is
    /// not known.
    pub(super) sha_instructions: Option<bool>,
}

impl Machine {
    /// Returns what this machine says of itself.
    pub(super) fn this() -> Self {
        let system = rustix::system::uname();
        let facts = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = rustix::system::sysinfo();
        let unit = u64::from(memory.mem_unit.max(1));
        Self {
            name: Bytes::from(system.nodename().to_bytes()),
            kernel: escape(system.release().to_bytes()).into_owned(),
            cpu: Cpu {
                model: model(&facts).unwrap_or(std::env::consts::ARCH).to_owned(),
                processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                sha_instructions: sha_instructions(),
            },
            #[allow(
                clippy::useless_conversion,
                reason = "a word of the machine's size, not u64 on each"
            )]
            memory_bytes: u64::from(memory.totalram).saturating_mul(unit),
        }
    }
}

fn model(facts: &str) -> Option<&str> {
    let (_, model) = facts
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")?;
    Some(model.trim())
}

/// What the SHA-256 of the digest engine asks the processor for, at run time.
#[cfg(target_arch = "x86_64")]
fn sha_instructions() -> Option<bool> {
    Some(
        std::arch::is_x86_feature_detected!("sha") && std::arch::is_x86_feature_detected!("sse4.1"),
    )
}

#[cfg(target_arch = "aarch64")]
fn sha_instructions() -> Option<bool> {
    Some(std::arch::is_aarch64_feature_detected!("sha2"))
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn sha_instructions() -> Option<bool> {
    None
}

/// The caches of the whole machine: of file content, names and inodes.
#[derive(Debug)]
pub(super) struct Caches(File);

impl Caches {
    /// Returns them, when they may be dropped.
    ///
    /// # Errors
    /// [`CliError`] when they may not.
    pub(super) fn open() -> Result<Self, CliError> {
        const SWITCH: &str = "/proc/sys/vm/drop_caches";
        let opened = File::options().write(true).open(SWITCH);
        opened.map(Self).map_err(|error| {
            CliError::new(format!("the caches of this host cannot be dropped: {SWITCH}: {error}"))
                .hint("--drop-caches needs root on the host itself; without it the figures are those of warm caches")
        })
    }

    /// Drops them.
    ///
    /// # Errors
    /// [`CliError`] when the kernel refuses.
    pub(super) fn drop(&mut self) -> Result<(), CliError> {
        const CONTENT_AND_INODES: &[u8] = b"3";
        // What is not written out yet stays in the cache.
        rustix::fs::sync();
        self.0.write_all(CONTENT_AND_INODES).map_err(|error| {
            CliError::new(format!(
                "the caches of this host cannot be dropped: {error}"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_the_processor() {
        let facts = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: Some CPU: 9\n";
        assert_eq!(model(facts), Some("Some CPU: 9"));
        assert_eq!(model("Features : sha2\n"), None);
    }

    #[test]
    fn this_machine() {
        let machine = Machine::this();
        assert!(machine.memory_bytes > 1 << 20, "{machine:?}");
        assert!(machine.cpu.processors > 0 && !machine.kernel.is_empty());
    }
}
