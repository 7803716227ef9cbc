//! Lines about what covers or bypasses a rootfs.

use anstyle::{AnsiColor, Style};
use plimsoll_core::model::{CodeOrigin, MountOrigin};
use plimsoll_core::report::v1;
use unicode_width::UnicodeWidthStr as _;

use super::table::{DIM, NOTES_AT};

/// Returns the lines about mounts and code; those that are held against the container, or all.
pub(super) fn lines(container: &v1::Container, all: bool) -> Vec<String> {
    let mounts = container
        .mounts
        .iter()
        .filter(|mount| all || !mount.allowed)
        .map(mount_line);
    let code = container
        .processes
        .iter()
        .filter(|code| all || !code.allowed)
        .map(code_line);
    mounts.chain(code).collect()
}

fn mount_line(mount: &v1::Mount) -> String {
    let v1::Mount { mount, allowed } = mount;
    let what = match mount.root.as_bytes() {
        b"/" => format!("{} {}", mount.fs_type, mount.source),
        _ => format!("{} {} of {}", mount.fs_type, mount.root, mount.source),
    };
    let by = match mount.origin {
        MountOrigin::Runtime => "the runtime's".to_owned(),
        MountOrigin::Declared => "declared".to_owned(),
        MountOrigin::Foreign => format!("foreign, seen by process {}", mount.pid),
    };
    let path = mount.path.to_string();
    line(
        'M',
        &path,
        &format!("mounted over: {what} ({by})"),
        *allowed,
    )
}

fn code_line(code: &v1::Code) -> String {
    let v1::Code { code, allowed } = code;
    let origin = match code.origin {
        CodeOrigin::Changed => "which differs from the image",
        CodeOrigin::Volume => "from a mount",
        CodeOrigin::Scratch => "from the runtime's scratch memory",
        CodeOrigin::Memfd => "from memory that never was a file",
        CodeOrigin::Deleted => "from a deleted file",
        CodeOrigin::Detached => "from a mount that is nowhere",
    };
    let what = if code.program { "runs" } else { "maps it" };
    let others = match code.processes {
        1 => String::new(),
        n => format!(" and {} more", n - 1),
    };
    let notes = format!("process {}{others} {what}, {origin}", code.pid);
    line('X', &code.path.to_string(), &notes, *allowed)
}

fn line(letter: char, path: &str, notes: &str, allowed: bool) -> String {
    let style = match allowed {
        true => DIM,
        false => Style::new().fg_color(Some(AnsiColor::Red.into())),
    };
    let pad = NOTES_AT.saturating_sub(path.width());
    format!(
        "{style}{letter}{style:#}  {path}{:pad$}  {DIM}{notes}{DIM:#}",
        ""
    )
}
