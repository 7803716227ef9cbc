//! Btrfs: an image's subvolume, containers made from it, and the engine held against the referee.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{Change, EngineKind, Measurement, RootPath};
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};
use plimsoll_host::measure::Confirm;

use crate::brute::{self, Differences};
use crate::command::run;
use crate::conformance::Record;
use crate::loopfs::{Kind, LoopFs};
use crate::operations::build_flat_image;

/// An image's subvolume and containers made from it.
#[derive(Debug)]
pub struct Image {
    /// The file system that they are on, when it is one of this harness.
    pub fs: Option<LoopFs>,
    root: PathBuf,
}

impl Image {
    /// Makes a file system and in it an image with the files that the operations work on.
    ///
    /// # Panics
    /// When one cannot be made.
    #[must_use]
    pub fn new(mkfs: &[&str], mount: &str) -> Self {
        let fs = LoopFs::with(Kind::Btrfs, 4096, mkfs, mount);
        let image = Self::empty(&fs.path());
        build_flat_image(&image.path());
        image.commit();
        Self {
            fs: Some(fs),
            ..image
        }
    }

    /// Makes an image without files on a mounted file system.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn empty(root: &Path) -> Self {
        let image = Self {
            fs: None,
            root: root.to_owned(),
        };
        run("btrfs", &["-q", "subvolume", "create", text(&image.path())]);
        image
    }

    /// Writes out what is pending, as when a layer was unpacked some time before a container is made.
    pub fn commit(&self) {
        run("sync", &["-f", text(&self.root)]);
    }

    /// Unmounts the file system and mounts it again.
    ///
    /// # Panics
    /// When it is busy.
    pub fn remount(&self) {
        self.fs
            .as_ref()
            .expect("a file system of its own")
            .remount();
    }

    /// Returns where the file system is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the image's subvolume.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.root.join("image")
    }

    /// Makes a container: a snapshot of the image.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn container(&self, name: &str) -> PathBuf {
        let path = self.root.join(name);
        run(
            "btrfs",
            &[
                "-q",
                "subvolume",
                "snapshot",
                text(&self.path()),
                text(&path),
            ],
        );
        path
    }

    /// Checks a container as the program does.
    ///
    /// # Panics
    /// When nothing could be inspected.
    #[must_use]
    pub fn check(&self, container: &Path, paths: Vec<RootPath>, options: Options) -> Measurement {
        let request = Request {
            sources: Sources::default(),
            targets: vec![Target::Trees {
                image: self.path(),
                container: container.to_owned(),
            }],
            paths,
            options,
        };
        let mut found = None;
        inspect(&request, &mut |measurement| found = Some(measurement)).expect("inspect");
        found.expect("one measurement")
    }

    /// Holds the engine against the referee; returns what is wrong.
    #[must_use]
    pub fn judge(&self, name: &str, container: &Path) -> Vec<String> {
        let judgement = self.judgement(name, container);
        [judgement.wrong, judgement.digest_wrong].concat()
    }

    /// Holds the engine, and the digest engine, against the referee.
    #[must_use]
    pub fn judgement(&self, name: &str, container: &Path) -> Judgement {
        let measurement = self.check(container, Vec::new(), Options::default());
        let mut wrong = Vec::new();
        if measurement.engine != Some(EngineKind::Btrfs) {
            wrong.push(format!(
                "{name}: compared by {:?}: {:?}",
                measurement.engine, measurement.gaps
            ));
        }
        let always = self.check(
            container,
            Vec::new(),
            Options {
                confirm: Confirm::Always,
                ..Options::default()
            },
        );
        let never = self.check(
            container,
            Vec::new(),
            Options {
                confirm: Confirm::Never,
                ..Options::default()
            },
        );
        let one_by_one: Vec<(RootPath, Measurement)> = [
            "/bin/tool",
            "/etc/small",
            "/bin/hl2",
            "/tree/sub/file",
            "/etc/deep",
        ]
        .map(|path| RootPath::parse(path.as_bytes()).expect("path"))
        .into_iter()
        .map(|path| {
            (
                path.clone(),
                self.check(container, vec![path], Options::default()),
            )
        })
        .collect();
        let digest = Options {
            engine: Some(EngineKind::Digest),
            ..Options::default()
        };
        let digest = self.check(container, Vec::new(), digest);
        let expected = brute::compare(&self.path(), container);
        let hold = |way: &str, measurement: &Measurement| {
            let reported = brute::of_changes(&measurement.changes);
            (reported != expected || !measurement.gaps.is_empty()).then(|| {
                format!(
                    "{name}, {way}:\n  expected {expected:?}\n  reported {reported:?}\n  gaps {:?}",
                    measurement.gaps
                )
            })
        };
        wrong.extend(hold("exact", &measurement));
        wrong.extend(hold("always", &always));
        let digest_wrong: Vec<String> = hold("digest", &digest).into_iter().collect();
        let unconfirmed = never.changes.iter().filter(|change| !change.confirmed);
        let mut certain = never.clone();
        certain
            .changes
            .retain(|change| change.confirmed || expected.contains_key(&change.path.to_string()));
        if never.cost.bytes_read > 0 {
            wrong.push(format!("{name}: --confirm never read content"));
        }
        let paths = |changes: &[Change]| -> Vec<String> {
            let paths: BTreeSet<String> = changes
                .iter()
                .map(|change| change.path.to_string())
                .collect();
            paths.into_iter().collect()
        };
        if paths(&certain.changes) != expected.keys().cloned().collect::<Vec<_>>() {
            let unconfirmed: Vec<_> = unconfirmed.map(|change| change.path.to_string()).collect();
            wrong.push(format!(
                "{name}, never: {:?}, unconfirmed {unconfirmed:?}, expected {expected:?}",
                paths(&never.changes)
            ));
        }
        for (path, one) in one_by_one {
            let covers = |change: &&Change| path.is_within(&change.path);
            if measurement.changes.iter().any(|change| change.path == path)
                && !one.changes.iter().any(|change| covers(&change))
            {
                wrong.push(format!("{name}: {path} alone tells nothing"));
            }
            for change in &one.changes {
                if !measurement.changes.contains(change)
                    && !measurement
                        .changes
                        .iter()
                        .any(|whole| change.path.is_within(&whole.path))
                {
                    wrong.push(format!("{name}: a path alone tells {change:?}"));
                }
            }
        }
        Judgement {
            expected,
            wrong,
            digest_wrong,
        }
    }
}

/// What came out of holding the engines against the referee.
#[derive(Debug)]
pub struct Judgement {
    /// What the referee says.
    pub expected: Differences,
    /// What is wrong with what the Btrfs engine says.
    pub wrong: Vec<String>,
    /// What is wrong with what the digest engine says.
    pub digest_wrong: Vec<String>,
}

impl Judgement {
    /// Writes both down, and returns what is wrong.
    #[must_use]
    pub fn record(self, column: &str, scenario: &str, worked: bool) -> Vec<String> {
        let exact = self.wrong.is_empty();
        Record::of(column).engine(scenario, worked, &self.expected, exact);
        let exact = self.digest_wrong.is_empty();
        Record::of("digest").engine(scenario, worked, &self.expected, exact);
        [self.wrong, self.digest_wrong].concat()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A Btrfs over several loop devices, unmounted and detached on drop.
#[derive(Debug)]
pub struct Disks {
    dir: tempfile::TempDir,
    devices: Vec<String>,
}

impl Disks {
    /// Makes a file system over `count` devices of 300 MiB and mounts it.
    ///
    /// # Panics
    /// When one cannot be made or mounted.
    #[must_use]
    pub fn new(count: usize, mkfs: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plimsoll-disks-")
            .tempdir()
            .expect("temporary directory");
        let mut disks = Self {
            dir,
            devices: Vec::new(),
        };
        for n in 0..count {
            let file = disks.file(n);
            std::fs::File::create(&file)
                .and_then(|file| file.set_len(300 << 20))
                .expect("file of a disk");
            let device = run("losetup", &["--find", "--show", text(&file)]);
            disks.devices.push(device.trim().to_owned());
        }
        let devices: Vec<&str> = disks.devices.iter().map(String::as_str).collect();
        run("mkfs.btrfs", &[&["-q", "-f"], mkfs, &devices].concat());
        run("btrfs", &[&["-q", "device", "scan"][..], &devices].concat());
        std::fs::create_dir(disks.path()).expect("mount point");
        let first = devices.first().copied().unwrap_or_default();
        run("mount", &["-t", "btrfs", first, text(&disks.path())]);
        disks
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Returns the file behind a device.
    #[must_use]
    pub fn file(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("disk{n}"))
    }

    /// Overwrites every place on a disk that holds these 4096 bytes, and returns how many there were.
    ///
    /// # Panics
    /// When the disk cannot be read or written.
    pub fn damage(&self, n: usize, sector: &[u8]) -> usize {
        use std::os::unix::fs::FileExt as _;

        assert_eq!(sector.len(), 4096);
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(self.file(n))
            .expect("disk");
        let mut buffer = vec![0; 1 << 20];
        let mut damaged = 0;
        for portion in (0..300u64 << 20).step_by(buffer.len()) {
            file.read_exact_at(&mut buffer, portion).expect("read");
            for (index, found) in buffer.chunks(4096).enumerate() {
                if found == sector {
                    let at = portion + index as u64 * 4096;
                    file.write_all_at(&[0xdb; 4096], at).expect("write");
                    damaged += 1;
                }
            }
        }
        damaged
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        let quietly = |program: &str, arguments: &[&str]| {
            let mut command = std::process::Command::new(program);
            let command = command.args(arguments).stderr(std::process::Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let path = self.path();
        if !quietly("umount", &[text(&path)]) {
            quietly("umount", &["-l", text(&path)]);
        }
        for device in &self.devices {
            // The kernel remembers devices of file systems by their paths.
            quietly("btrfs", &["device", "scan", "--forget", device]);
            quietly("losetup", &["--detach", device]);
        }
    }
}
