//! The tools that read everything, and leave times of access in what they look at: they are asked about
//! a container of their own, with the same changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::Stand;
use crate::subject::{Container, Elsewhere, Runtimes};
use crate::told;
use crate::tool::Task;
use crate::traceless::plimsoll;

/// The programs that make lists of digests.
const SUMS: &[(&str, &str, &str)] = &[
    // The first of each program makes the list that the others are held against too.
    (
        "sha256sum-2",
        "sha256sum",
        "find . -xdev -type f -print0 | xargs -0 -r -n 512 -P 2 sha256sum",
    ),
    (
        "sha256sum-1",
        "sha256sum",
        "find . -xdev -type f -print0 | xargs -0 -r -n 512 sha256sum",
    ),
    (
        "md5sum-2",
        "md5sum",
        "find . -xdev -type f -print0 | xargs -0 -r -n 512 -P 2 md5sum",
    ),
    (
        "md5sum-1",
        "md5sum",
        "find . -xdev -type f -print0 | xargs -0 -r -n 512 md5sum",
    ),
    (
        "b3sum-2",
        "b3sum",
        "find . -xdev -type f -print0 | xargs -0 -r -n 512 -P 2 b3sum --num-threads 1",
    ),
];

/// What is taken of the image beforehand, from a container without changes.
#[derive(Debug)]
pub(crate) struct Before {
    /// The root of that container: the image's tree.
    tree: PathBuf,
    sums: BTreeMap<&'static str, BTreeMap<String, String>>,
    dir: PathBuf,
}

impl Before {
    /// Takes it.
    pub(crate) fn take(
        stand: &Stand,
        program: &Path,
        runtimes: &Runtimes,
        unchanged: &Container,
        image: &str,
    ) -> Self {
        let dir = stand.dir().join(format!(
            "before-{}-{image}",
            runtimes.docker.driver().as_str()
        ));
        std::fs::create_dir(&dir).expect("directory");
        let mut sums = BTreeMap::new();
        for (_, program, script) in SUMS {
            if !sums.contains_key(program) {
                let run = stand.run(&in_tree(&unchanged.root, script), None, true);
                assert_eq!(run.status, 0, "{program}: {}", run.talk);
                sums.insert(*program, told::digests(&run.output));
            }
        }
        let before = Self {
            tree: unchanged.root.clone(),
            sums,
            dir,
        };
        let run = stand.run(&before.aide("--init", &unchanged.root), None, true);
        assert_eq!(run.status, 0, "aide --init: {}", run.talk);
        std::fs::rename(before.dir.join("aide.new"), before.dir.join("aide.db")).expect("database");

        let mut keep = Command::new(program);
        keep.args([
            "bench",
            &unchanged.name,
            "--runs",
            "1",
            "--format",
            "json",
            "--data-root",
        ])
        .arg(runtimes.docker.data_root())
        .arg("--keep")
        .arg(&before.dir);
        let run = stand.run(&keep, None, true);
        assert_eq!(run.status, 0, "plimsoll bench --keep: {}", run.talk);
        before
    }

    /// Writes a configuration that judges by what Plimsoll judges by, and no times.
    fn aide(&self, action: &str, root: &Path) -> Command {
        let configuration = self.dir.join(format!("aide{action}.conf"));
        let text = format!(
            "database_in=file:{0}/aide.db\ndatabase_out=file:{0}/aide.new\ngzip_dbout=no\n\
             root_prefix={1}\nnum_workers=2\nlog_level=error\nreport_level=list_entries\n\
             / ftype+p+u+g+s+l+acl+xattrs+sha256\n",
            self.dir.display(),
            root.display(),
        );
        std::fs::write(&configuration, text).expect("configuration");
        let mut command = Command::new("aide");
        command
            .arg(format!("--config={}", configuration.display()))
            .arg(action);
        command
    }
}

fn in_tree(tree: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("cd '{}' && {script}", tree.display()));
    command
}

/// Returns the tasks at one container.
pub(crate) fn tasks(
    program: &Path,
    runtimes: &Runtimes,
    container: &Container,
    elsewhere: &Elsewhere,
    before: &Before,
) -> Vec<Task> {
    let docker = &runtimes.docker;
    let mut tasks = vec![
        Task::new("docker-diff", docker.command(&["diff", &container.name])).told(told::letters),
        Task::new("ctr-diff", elsewhere.ctr_diff(runtimes)).told(told::layer),
        // One to seven: what was found.
        Task::new("aide", before.aide("--check", &container.root))
            .told(told::aide)
            .exits(7),
        Task::new("rsync", rsync(container, before)).told(told::rsync),
    ];
    for (tool, program, script) in SUMS {
        let list = before.sums[program].clone();
        tasks.push(
            Task::new(tool, in_tree(&container.root, script))
                .told(move |out| told::between(&list, &told::digests(out))),
        );
    }
    for (tool, algorithm) in [
        ("plimsoll-blake3", "blake3"),
        ("plimsoll-sha256", "sha256"),
        ("plimsoll-md5", "md5"),
    ] {
        let mut command = plimsoll(program, docker, &container.name, &["--engine", "digest"]);
        command
            .args(["--algorithm", algorithm, "--jobs", "2", "--baseline"])
            .arg(before.dir.join(algorithm));
        tasks.push(Task::new(tool, command).told(told::plimsoll).exits(1));
    }
    tasks
}

fn rsync(container: &Container, before: &Before) -> Command {
    let image = match container.subvolume {
        Some(_) => &container.init,
        None => &before.tree,
    };
    let mut command = Command::new("rsync");
    command
        .args(["-anc", "--delete", "-i"])
        .arg(format!("{}/", container.root.display()))
        .arg(format!("{}/", image.display()));
    command
}
