//! `btrfs send`: it needs a snapshot each time, which is written and removed again. So it is asked about
//! a container of its own, which nobody reads, in rounds of its own, which nobody else's commits are in.

use std::path::Path;
use std::process::Command;

use plimsoll_e2e::command::shell;

use crate::subject::Container;
use crate::told;
use crate::tool::Task;

/// A stream needs snapshots that cannot be written to: that of the image is made once, that of the
/// container in each run, and removed after it.
pub(crate) fn task(dir: &Path, container: &Container) -> Task {
    let image = dir.join(format!("{}-image", container.name));
    let snapshot = dir.join(&container.name);
    shell(&format!(
        "mkdir -p '{}'; btrfs -q subvolume snapshot -r '{}' '{}'",
        dir.display(),
        container.init.display(),
        image.display()
    ));
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!(
        "btrfs -q subvolume snapshot -r '{}' '{snapshot}' && exec btrfs -q send --no-data -p '{}' '{snapshot}'",
        container.layer.display(),
        image.display(),
        snapshot = snapshot.display(),
    ));
    let stream = dir.join(format!("{}.stream", container.name));
    let mut task = Task::new("btrfs-send", command).told(move |output| {
        std::fs::write(&stream, output).expect("stream");
        let dump = shell(&format!("btrfs receive --dump -f '{}'", stream.display()));
        told::stream(dump.as_bytes())
    });
    let beneath = dir.to_owned();
    task.undo = Some(Box::new(move || {
        shell(&format!(
            "btrfs -q subvolume delete -c '{0}'; btrfs -q subvolume sync '{1}'",
            snapshot.display(),
            beneath.display()
        ));
    }));
    task
}
