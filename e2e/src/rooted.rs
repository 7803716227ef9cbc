//! Processes with an overlay or a subvolume as their root, started by no runtime.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for it to have its root.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process in a mount namespace of its own, killed on drop with the shell that started it: what the shell
/// mounted goes with the namespace.
#[derive(Debug)]
pub struct Rooted {
    shell: Child,
    pid: u32,
}

impl Rooted {
    /// Runs a script in a mount namespace of its own, and then a program that waits, with `root` as its root
    /// directory: there must be a static busybox at `/busybox` in it. The shell stays its parent.
    ///
    /// # Panics
    /// When the program does not come up.
    #[must_use]
    pub fn start(script: &str, root: &Path) -> Self {
        let script = format!(
            "set -e; {script}\nchroot '{}' /busybox sleep 1000 & wait",
            root.display()
        );
        let shell = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--mount",
                "--propagation",
                "private",
            ])
            .args(["--", "bash", "-c", &script])
            .env("PATH", crate::command::PATH)
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare");
        // From here on it is killed whatever comes.
        let mut rooted = Self { shell, pid: 0 };
        let start = Instant::now();
        let children = format!("/proc/{0}/task/{0}/children", rooted.shell.id());
        let is_up = |pid: &u32| {
            let program = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            program.starts_with(b"/busybox\0sleep\0")
        };
        loop {
            let told = std::fs::read_to_string(&children).unwrap_or_default();
            let pids = told
                .split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok());
            if let Some(pid) = pids.into_iter().find(is_up) {
                rooted.pid = pid;
                return rooted;
            }
            assert!(start.elapsed() < PATIENCE, "{script}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the number of the process with the root.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Rooted {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.pid)
            .ok()
            .and_then(rustix::process::Pid::from_raw)
        {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}
