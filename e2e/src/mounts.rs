//! Mounts that runtimes leave.

use std::path::Path;
use std::process::{Command, Stdio};

/// Unmounts everything beneath these directories, the last mount first. The directories themselves
/// stay mounted.
pub fn unmount_beneath(directories: &[&Path]) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    for point in points.iter().rev().map(Path::new) {
        if directories
            .iter()
            .any(|dir| point.starts_with(dir) && point != *dir)
        {
            drop(
                Command::new("umount")
                    .args(["-l".as_ref(), point.as_os_str()])
                    .stderr(Stdio::null())
                    .status(),
            );
        }
    }
}
