//! Overlay mounts that no runtime names: the layers that are compared are those that are mounted, whatever
//! their paths look like and whatever has become of them.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{EngineKind, Measurement};
use plimsoll_e2e::brute::{self, Differences};
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::require;
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, move_mount, unmount,
};

/// An overlay, unmounted on drop.
struct At(PathBuf);

impl Drop for At {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

/// Layers on a file system of their own.
struct Layers {
    fs: LoopFs,
}

impl Layers {
    fn new() -> Self {
        Self {
            fs: LoopFs::new(Kind::Ext4, 256),
        }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.fs.path().join(name)
    }

    /// Makes a layer with a file of its own and one that each layer has.
    fn layer(&self, name: impl AsRef<Path>, number: usize) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.join("shared/deep")).unwrap();
        fs::write(
            path.join(format!("shared/deep/{number}")),
            format!("layer {number}\n"),
        )
        .unwrap();
        fs::write(path.join("shared/top"), format!("top of {number}\n")).unwrap();
        path
    }

    /// Makes so many layers with names of this length, the top one first.
    fn many(&self, count: usize, length: usize) -> Vec<PathBuf> {
        let name = |n: usize| format!("{n:04}-{}", "x".repeat(length - 5));
        (0..count).map(|n| self.layer(name(n), n)).collect()
    }

    fn upper(&self, name: &str) -> (PathBuf, PathBuf, At) {
        let [upper, work, merged] = ["upper", "work", "merged"].map(|what| {
            let path = self.path(format!("{name}-{what}"));
            fs::create_dir_all(&path).unwrap();
            path
        });
        (upper, work, At(merged))
    }
}

/// Mounts by the calls that Docker and others use today (fsopen(2) and on).
fn mount_new(lowers: &[PathBuf], upper: &Path, work: &Path, at: &Path) {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for lower in lowers {
        fsconfig_set_string(&context, "lowerdir+", lower).unwrap();
    }
    fsconfig_set_string(&context, "upperdir", upper).unwrap();
    fsconfig_set_string(&context, "workdir", work).unwrap();
    fsconfig_create(&context).unwrap();
    let made = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .unwrap();
    let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&made, "", rustix::fs::CWD, at, from_descriptor).unwrap();
}

/// Mounts by mount(2).
fn mount_old(options: &[u8], at: &Path) {
    let options = CString::new(options).unwrap();
    mount(
        "overlay",
        at,
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )
    .unwrap();
}

fn options(lowers: &[PathBuf], upper: &Path, work: &Path) -> Vec<u8> {
    let escaped = |path: &Path, what: &[u8]| -> Vec<u8> {
        let bytes = path.as_os_str().as_bytes().iter();
        bytes
            .flat_map(|b| match what.contains(b) {
                true => vec![b'\\', *b],
                false => vec![*b],
            })
            .collect()
    };
    let lowers: Vec<Vec<u8>> = lowers.iter().map(|path| escaped(path, b":,\\")).collect();
    let mut options = [b"lowerdir=", lowers.join(&b':').as_slice()].concat();
    for (key, path) in [("upperdir", upper), ("workdir", work)] {
        options.extend([b",", key.as_bytes(), b"=", &escaped(path, b",\\")].concat());
    }
    options
}

/// Changes what comes from the first layer, from the last, and what all have; edits keep size and time.
fn tamper(at: &Path, last: usize) -> Differences {
    shell(&format!(
        "cd '{}'
         for file in shared/deep/0 shared/deep/{last}; do
             touch -r $file /tmp/plimsoll-time.$$
             printf X | dd of=$file bs=1 conv=notrunc status=none
             touch -r /tmp/plimsoll-time.$$ $file; rm /tmp/plimsoll-time.$$
         done
         rm shared/top; echo new > new",
        at.display()
    ));
    let content = |n: usize| (format!("/shared/deep/{n}"), ('C', vec!["content"]));
    [
        content(0),
        content(last),
        ("/shared/top".into(), ('D', vec![])),
        ("/new".into(), ('A', vec![])),
    ]
    .into()
}

fn look(target: Target) -> Result<Measurement, String> {
    let request = Request {
        sources: Sources::default(),
        targets: vec![target],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut found = None;
    let gaps = inspect(&request, &mut |measurement| found = Some(measurement))
        .map_err(|error| error.to_string())?;
    assert_eq!(gaps, []);
    Ok(found.unwrap())
}

#[track_caller]
fn tells(at: &Path, expected: &Differences) {
    let found = look(Target::OverlayMount(at.to_owned())).unwrap();
    assert_eq!(found.gaps, []);
    assert_eq!(found.engine, Some(EngineKind::Overlay));
    assert_eq!(
        brute::of_changes(&found.changes),
        *expected,
        "{}",
        at.display()
    );
}

#[track_caller]
fn refuses(at: &Path, why: &str) {
    let told = look(Target::OverlayMount(at.to_owned())).map_or_else(
        |error| error,
        |found| {
            assert_eq!(found.engine, None);
            found.gaps[0].why.clone()
        },
    );
    assert!(told.contains(why), "{told}");
    assert!(!told.contains('\n'), "{told}");
}

fn line_of(at: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = format!(" {} ", at.display());
    mounts
        .lines()
        .find(|line| line.contains(&at))
        .unwrap()
        .to_owned()
}

#[test]
fn sixty_long_layers_of_the_new_mount_calls() {
    require!("mkfs.ext4");
    let layers = Layers::new();
    let lowers = layers.many(60, 120);
    let (upper, work, merged) = layers.upper("new");
    mount_new(&lowers, &upper, &work, &merged.0);
    assert!(line_of(&merged.0).len() > 8000, "more than a page");
    tells(&merged.0, &Differences::new());
    let changes = tamper(&merged.0, 59);
    tells(&merged.0, &changes);
}

#[test]
fn a_page_of_options_less_one_byte() {
    require!("mkfs.ext4");
    let layers = Layers::new();
    let (upper, work, merged) = layers.upper("old");
    let long = |length: usize| layers.many(20, length);
    let length = |lowers: &[PathBuf]| options(lowers, &upper, &work).len();
    // The kernel takes a page with the zero byte at its end.
    let fits = (20..250)
        .rfind(|name| length(&long(*name)) < 4096 - 1)
        .unwrap();
    for name in 20..250 {
        if name != fits {
            for lower in long(name) {
                fs::remove_dir_all(lower).unwrap();
            }
        }
    }
    let lowers = long(fits);
    let text = options(&lowers, &upper, &work);
    assert!((4070..4096).contains(&text.len()), "{}", text.len());
    mount_old(&text, &merged.0);
    tells(&merged.0, &Differences::new());
    let changes = tamper(&merged.0, 19);
    tells(&merged.0, &changes);
}

#[test]
fn names_with_every_special_character() {
    require!("mkfs.ext4");
    let layers = Layers::new();
    let odd = [
        "a:b",
        "c,d",
        "e\\f",
        "g h",
        "i\\:j\\,k",
        "l\nm\to#",
        "\u{e9}=x",
        "upperdir=q,w",
    ];
    let lowers: Vec<PathBuf> = odd
        .iter()
        .enumerate()
        .map(|(n, name)| layers.layer(name, n))
        .collect();
    let (upper, work, merged) = layers.upper("a,b\\:c d");
    mount_old(&options(&lowers, &upper, &work), &merged.0);
    tells(&merged.0, &Differences::new());
    let changes = tamper(&merged.0, odd.len() - 1);
    tells(&merged.0, &changes);
    drop(merged);

    // By the new calls a name is taken as it is, but for the upper one.
    let (upper, work, merged) = layers.upper("plain");
    mount_new(&lowers, &upper, &work, &merged.0);
    let changes = tamper(&merged.0, odd.len() - 1);
    tells(&merged.0, &changes);
}

#[test]
fn paths_relative_to_where_the_daemon_stood() {
    require!("mkfs.ext4");
    let layers = Layers::new();
    // As Docker and Podman lay it out.
    let store = layers.path("overlay2");
    for (n, link) in ["TOPTOPTOP", "BASEBASE"].iter().enumerate() {
        layers.layer(format!("overlay2/{n}/diff"), n);
        fs::create_dir_all(store.join("l")).unwrap();
        std::os::unix::fs::symlink(format!("../{n}/diff"), store.join("l").join(link)).unwrap();
    }
    let container = |name: &str| {
        for what in ["diff", "work", "merged"] {
            fs::create_dir_all(store.join(name).join(what)).unwrap();
        }
        At(store.join(name).join("merged"))
    };
    let mount_from = |options: &str, at: &Path| {
        shell(&format!(
            "cd '{}'; mount -i -t overlay overlay -o '{options}' '{}'",
            store.display(),
            at.display()
        ));
    };
    let docker = container("docker");
    let links = "lowerdir=l/TOPTOPTOP:l/BASEBASE";
    mount_from(
        &format!("{links},upperdir=docker/diff,workdir=docker/work"),
        &docker.0,
    );
    assert!(line_of(&docker.0).contains("=l/TOPTOPTOP:"));
    let changes = tamper(&docker.0, 1);
    tells(&docker.0, &changes);

    // As containerd does it: only the lowers are relative.
    let containerd = container("containerd");
    let elsewhere = At(layers.path("elsewhere"));
    fs::create_dir_all(&elsewhere.0).unwrap();
    let own = store.join("containerd");
    let upper = format!("upperdir={0}/diff,workdir={0}/work", own.display());
    mount_from(&format!("lowerdir=0/diff:1/diff,{upper}"), &elsewhere.0);
    let changes = tamper(&elsewhere.0, 1);
    tells(&elsewhere.0, &changes);
    drop(containerd);

    // A mount point that has nothing to do with where the layers lie.
    let lost = container("lost");
    let far = At(layers.path("far/away/merged"));
    fs::create_dir_all(&far.0).unwrap();
    mount_from(
        &format!("{links},upperdir=lost/diff,workdir=lost/work"),
        &far.0,
    );
    refuses(&far.0, "No such file or directory");
    // There something of the same names lies, which is not what is mounted.
    shell(&format!(
        "cp -a '{}'/. '{}'",
        store.display(),
        layers.path("far").display()
    ));
    refuses(&far.0, "is not what is mounted");
    drop(lost);
}

/// Does something to layers whose paths the mount names, and sees that nothing else is compared instead.
#[test]
fn layers_that_are_not_at_their_paths_any_more() {
    require!("mkfs.ext4");
    let layers = Layers::new();
    let lowers = layers.many(3, 20);
    let (upper, work, merged) = layers.upper("moved");
    mount_new(&lowers, &upper, &work, &merged.0);
    let changes = tamper(&merged.0, 2);
    tells(&merged.0, &changes);
    let away = layers.path("away");
    for layer in [&lowers[0], &lowers[1], &lowers[2], &upper] {
        // Renamed: the mount shows it still.
        fs::rename(layer, &away).unwrap();
        refuses(&merged.0, "No such file or directory");
        // Another one of the same content in its place.
        run(
            "cp",
            &[
                "-a",
                &away.display().to_string(),
                &layer.display().to_string(),
            ],
        );
        refuses(
            &merged.0,
            &format!("{} is not what is mounted", layer.display()),
        );
        fs::remove_dir_all(layer).unwrap();
        // One with other files.
        fs::create_dir(layer).unwrap();
        fs::write(layer.join("other"), "other\n").unwrap();
        refuses(
            &merged.0,
            &format!("{} is not what is mounted", layer.display()),
        );
        fs::remove_dir_all(layer).unwrap();
        fs::rename(&away, layer).unwrap();
        tells(&merged.0, &changes);
        // Something mounted over it.
        let over = At(layer.clone());
        mount("none", layer, "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(layer.join("other"), "other\n").unwrap();
        refuses(
            &merged.0,
            &format!("{} is not what is mounted", layer.display()),
        );
        drop(over);
        tells(&merged.0, &changes);
    }
}

#[test]
fn layers_on_several_file_systems() {
    require!("mkfs.ext4", "mkfs.btrfs", "mkfs.xfs");
    let [one, two, three] = [Kind::Xfs, Kind::Btrfs, Kind::Ext4].map(|kind| Layers {
        fs: LoopFs::new(kind, 512),
    });
    let lowers = [two.layer("middle", 0), one.layer("base", 1)];
    let (upper, work, merged) = three.upper("mixed");
    mount_new(&lowers, &upper, &work, &merged.0);
    let changes = tamper(&merged.0, 1);
    tells(&merged.0, &changes);
    for layer in [&lowers[0], &lowers[1], &upper] {
        let away = layer.with_extension("away");
        fs::rename(layer, &away).unwrap();
        run(
            "cp",
            &[
                "-a",
                &away.display().to_string(),
                &layer.display().to_string(),
            ],
        );
        refuses(
            &merged.0,
            &format!("{} is not what is mounted", layer.display()),
        );
        fs::remove_dir_all(layer).unwrap();
        fs::rename(&away, layer).unwrap();
        tells(&merged.0, &changes);
    }
}

#[test]
fn nothing_can_change_without_an_upper_layer() {
    require!("mkfs.ext4");
    let layers = Layers::new();
    let lowers = layers.many(2, 20);
    let (_, _, merged) = layers.upper("read-only");
    let paths: Vec<String> = lowers
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    mount_old(
        format!("lowerdir={}", paths.join(":")).as_bytes(),
        &merged.0,
    );
    refuses(&merged.0, "no upper layer");
    refuses(&lowers[0], "no overlay is mounted at");
}

/// The kernel writes to a directory of the upper layer that was made from outside, when it is first looked up
/// in the mount: so it is not looked up.
#[test]
fn holding_layers_against_a_mount_leaves_no_trace() {
    require!("mkfs.ext4", "inotifywait");
    let layers = Layers {
        fs: LoopFs::with(Kind::Ext4, 256, &[], ",strictatime"),
    };
    let lowers = layers.many(3, 20);
    let (upper, work, merged) = layers.upper("untouched");
    fs::create_dir_all(upper.join("shared/deep")).unwrap();
    fs::write(upper.join("shared/deep/0"), "LAYER 0\n").unwrap();
    mount_new(&lowers, &upper, &work, &merged.0);
    // Not of the mount itself: that would look everything up.
    let trace = || -> Vec<_> {
        let all = lowers.iter().chain([&upper, &work]);
        all.map(|path| brute::trace(path)).collect()
    };
    let before = trace();
    let check = || {
        let found = look(Target::OverlayMount(merged.0.clone())).unwrap();
        assert_eq!(found.gaps, []);
        let changes = [("/shared/deep/0".to_owned(), ('C', vec!["content"]))];
        assert_eq!(brute::of_changes(&found.changes), changes.into());
    };
    check();
    assert_eq!(trace(), before);
    let heard = layers.fs.path().with_file_name("heard");
    let mut watcher = std::process::Command::new("inotifywait")
        .args([
            "--monitor",
            "--recursive",
            "--outfile",
            &heard.display().to_string(),
        ])
        .arg(&merged.0)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It reads the directories itself, before it says that it is ready.
    let mut told = std::io::BufReader::new(watcher.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("established") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut told, &mut line).unwrap() > 0);
    }
    let watched = trace();
    assert_ne!(watched, before, "this kernel writes nothing");
    check();
    assert_eq!(trace(), watched);
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert_eq!(fs::read_to_string(&heard).unwrap_or_default(), "");
}
