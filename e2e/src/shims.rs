//! The shims of a containerd, which outlive it, and what runs in their containers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for processes to go away.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a containerd leaves running when it is killed.
#[derive(Debug)]
pub(crate) struct Shims {
    processes: Vec<i32>,
    sockets: Vec<PathBuf>,
}

impl Shims {
    /// Finds them by containerd's state directory, and by its socket, which they have on their command
    /// lines.
    pub(crate) fn of(state: &Path, socket: &Path) -> Self {
        let mut processes = Vec::new();
        let mut sockets = Vec::new();
        let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
        for namespace in entries(&state.join("io.containerd.runtime.v2.task")) {
            for task in entries(&namespace.path()) {
                let read = |name: &str| std::fs::read_to_string(task.path().join(name));
                let pid = read("init.pid").unwrap_or_default();
                processes.extend(pid.trim().parse::<i32>());
                let address = read("address").ok().or_else(|| {
                    // Newer ones write it down with more.
                    let text = read("bootstrap.json").ok()?;
                    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
                    value["address"].as_str().map(str::to_owned)
                });
                let address = address.unwrap_or_default();
                sockets.extend(address.strip_prefix("unix://").map(PathBuf::from));
            }
        }
        let socket = socket.as_os_str().as_encoded_bytes();
        for process in entries(Path::new("/proc")) {
            let name = process.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            if line.split(|b| *b == 0).any(|argument| argument == socket) {
                processes.push(pid);
            }
        }
        Self { processes, sockets }
    }

    /// Ends them, and removes their sockets from the directory that all containerds share.
    pub(crate) fn end(mut self) {
        let start = Instant::now();
        while !self.processes.is_empty() && start.elapsed() < PATIENCE {
            self.processes.iter().copied().for_each(thaw);
            for pid in self.processes.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                // It may have ended by itself.
                kill_process(pid, Signal::KILL).ok();
            }
            std::thread::sleep(Duration::from_millis(20));
            let runs = |pid: &i32| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok();
            self.processes.retain(runs);
        }
        for socket in &self.sockets {
            drop(std::fs::remove_file(socket));
        }
    }
}

/// Thaws a process that a paused container froze: with cgroup v1 not even a kill reaches it before.
fn thaw(pid: i32) {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let group = groups
        .lines()
        .find_map(|line| line.split_once(":freezer:"))
        // Never the root group, which others are in as well.
        .filter(|(_, group)| group.len() > 1);
    if let Some((_, group)) = group {
        let state = format!("/sys/fs/cgroup/freezer{group}/freezer.state");
        drop(std::fs::write(state, "THAWED"));
    }
}
