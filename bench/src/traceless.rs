//! The tools that take milliseconds and leave no trace in what they look at: they are asked in every
//! state of a container.

use std::path::Path;
use std::process::Command;

use plimsoll_e2e::dockerd::Dockerd;

use crate::measure::Stand;
use crate::subject::{Container, Elsewhere, Runtimes};
use crate::told;
use crate::tool::Task;

/// Returns plimsoll with these arguments, asked about a container by Docker's data root.
pub(crate) fn plimsoll(program: &Path, docker: &Dockerd, name: &str, more: &[&str]) -> Command {
    let mut command = Command::new(program);
    command
        .args(["check", name, "--format", "json", "--data-root"])
        .arg(docker.data_root())
        .args(more);
    command
}

/// Returns the tasks at one container.
pub(crate) fn tasks(
    stand: &Stand,
    program: &Path,
    runtimes: &Runtimes,
    container: &Container,
    elsewhere: Option<&Elsewhere>,
) -> Vec<Task> {
    let docker = &runtimes.docker;
    let check = |more: &[&str]| plimsoll(program, docker, &container.name, more);
    let mut start = Command::new(program);
    start.arg("--version");
    let mut tasks = vec![
        Task::new("plimsoll", check(&[]))
            .told(told::plimsoll)
            .exits(1),
        Task::new("plimsoll-never", check(&["--confirm", "never"]))
            .told(told::plimsoll)
            .exits(1),
        Task::new("plimsoll-socket", by_socket(program, docker, container))
            .told(told::plimsoll)
            .exits(1),
        Task::new("start", start),
        Task::new("get-bare", get_bare(stand, docker, container)),
        Task::new("get-curl", get_curl(docker, container)),
    ];
    if let Some((id, made)) = container.subvolume {
        let layer = &container.layer;
        let mut floor = stand.floor("floor-btrfs");
        floor.arg(layer).arg(id.to_string());
        let mut no_sync = stand.floor("floor-btrfs");
        no_sync.arg("-n").arg(layer).arg(id.to_string());
        let mut find_new = Command::new("btrfs");
        find_new
            .args(["subvolume", "find-new"])
            .arg(layer)
            .arg((made + 1).to_string());
        tasks.push(Task::new("floor-btrfs", floor));
        tasks.push(Task::new("floor-btrfs-nosync", no_sync));
        tasks.push(Task::new("find-new", find_new).told(told::find_new));
    } else {
        let mut floor = stand.floor("floor-overlay");
        floor.arg(&container.layer);
        let mut find = Command::new("find");
        find.arg(&container.layer).args(["-mindepth", "1"]);
        let beneath = container.layer.display().to_string();
        tasks.push(Task::new("floor-overlay", floor));
        tasks.push(Task::new("find-upper", find).told(move |out| told::paths(out, &beneath)));
    }
    if let Some(elsewhere) = elsewhere {
        let diff = runtimes.podman.command(&["diff", &elsewhere.podman]);
        tasks.push(Task::new("podman-diff", diff).told(told::letters));
    }
    tasks
}

fn by_socket(program: &Path, docker: &Dockerd, container: &Container) -> Command {
    let mut command = Command::new(program);
    command
        .args([
            "check",
            &container.name,
            "--format",
            "json",
            "--docker-host",
        ])
        .arg(docker.socket());
    command
}

fn get_bare(stand: &Stand, docker: &Dockerd, container: &Container) -> Command {
    let mut command = stand.floor("floor-get");
    command
        .arg(docker.socket())
        .arg(format!("/containers/{}/json", container.id));
    command
}

fn get_curl(docker: &Dockerd, container: &Container) -> Command {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--fail", "--unix-socket"])
        .arg(docker.socket())
        .arg(format!("http://docker/containers/{}/json", container.id));
    command
}
