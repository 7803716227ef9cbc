//! The reader of EROFS images, held against the kernel: everything that it shows of an image that
//! composefs made must be told the same.

use std::collections::BTreeMap;
use std::path::Path;

use plimsoll_core::model::FileType;
use plimsoll_e2e::command::{run, shell};
use plimsoll_e2e::mounts::unmount_beneath;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_e2e::{next, require};
use plimsoll_host::fs::{Dir, Stat, open_regular, read_at};

/// Everything that can be told of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    stat: Stat,
    xattrs: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    target: Option<Vec<u8>>,
    content: Option<Vec<u8>>,
}

/// Adds everything beneath a directory, itself included.
fn walk(dir: &Dir, at: &[u8], told: &mut BTreeMap<Vec<u8>, Told>) {
    told.insert(at.to_vec(), tell(dir, b"", dir.stat_self().expect("stat")));
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut reader = dir.reader(0).expect("reader");
    while reader
        .next_portion(|name| names.push(name.to_vec()))
        .expect("names")
    {}
    for name in names {
        let path = [at, b"/", &name].concat();
        let stat = dir.stat(&name).expect("stat");
        if stat.file_type == FileType::Directory {
            walk(&dir.child(&name).expect("directory"), &path, told);
        } else {
            assert!(dir.child(&name).is_err());
            told.insert(path, tell(dir, &name, stat));
        }
    }
}

fn tell(dir: &Dir, name: &[u8], stat: Stat) -> Told {
    let mut buffer = Vec::new();
    let names = dir.xattr_names(name, &mut buffer).expect("names").to_vec();
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    let xattrs: BTreeMap<_, _> = names
        .map(|attribute| {
            let value = dir.xattr(name, attribute, &mut buffer).expect("value");
            (attribute.to_vec(), value)
        })
        .collect();
    let is = |file_type| (stat.file_type == file_type).then_some(());
    // What is elsewhere is not in the image.
    let own =
        is(FileType::File).filter(|()| !xattrs.contains_key(&b"trusted.overlay.metacopy"[..]));
    Told {
        target: is(FileType::Symlink).map(|()| dir.read_link(name).expect("link")),
        content: own.map(|()| {
            let (file, _) = open_regular(dir, name).expect("file");
            let mut content = vec![0; usize::try_from(stat.size).expect("small")];
            assert_eq!(read_at(&file, &mut content, 0), Ok(content.len()));
            content
        }),
        // Of which file system it is, and when the inode changed, is told otherwise; that it cannot be
        // written to, which the kernel calls immutable, is so of the whole file system.
        stat: Stat {
            dev: (0, 0),
            ctime: stat.mtime,
            immutable: false,
            ..stat
        },
        xattrs,
    }
}

/// A tree with some of everything.
fn tree(dir: &Path) {
    shell(&format!(
        r#"cd '{}'
        mkdir many deep special; seq -f 'many/a-name-of-some-length-%g' 4000 | xargs touch
        mkdir -p deep/$(printf 'd/%.0s' $(seq 100))
        cd special
        printf %s tiny > inline; head -c 64 /dev/urandom > inline-64; head -c 65 /dev/urandom > outside
        : > empty; truncate -s 3M sparse; ln outside other-name; ln -s "$(printf 'x%.0s' $(seq 4000))" long
        ln -s short link; mkfifo fifo; mknod char c 4095 1048575; mknod block b 7 300
        touch "$(printf 'n%.0s' $(seq 255))" $'not\xffutf8' $'line\nend'
        chown 70000:80000 empty; chmod 6755 inline; chmod 1777 .
        touch -d @-5.25 empty; touch -h -d '2100-01-01 00:00:00.123456789' link
        setfattr -n user.a -v one inline; setfattr -n user.b -v "$(head -c 2000 /dev/zero | tr '\0' v)" inline
        setfattr -n trusted.overlay.opaque -v y .; setfattr -n trusted.t -v t empty
        for n in $(seq 40); do setfattr -n user.shared -v everywhere ../many/a-name-of-some-length-$n; done
        setfacl -m u:1000:rw -d -m g:5:rx .; setfacl -m u:1:r outside; setcap cap_net_raw+ep inline
        "#,
        dir.display()
    ));
}

#[test]
fn as_the_kernel_reads_it() {
    require!(
        "busybox", "setpriv", "unshare", "mount", "setfacl", "setcap"
    );
    if let Some(why) = next::podman_missing() {
        eprintln!("SKIPPED {}: {why}", module_path!());
        return;
    }
    let rootfs = small_rootfs();
    tree(rootfs.path());
    let dir = tempfile::tempdir().expect("temporary directory");
    let image = dir.path().join("image");
    let mount = dir.path().join("mount");
    std::fs::create_dir(&mount).expect("mount point");
    for version in ["0", "1"] {
        let from = rootfs.path().display().to_string();
        let to = image.display().to_string();
        let make = [
            "mkcomposefs",
            "--min-version",
            version,
            "--max-version",
            version,
        ];
        let output = next::command(&[&make[..], &[&from, &to]].concat()).output();
        let output = output.expect("mkcomposefs");
        assert!(output.status.success(), "{output:?}");
        let at = mount.display().to_string();
        run("mount", &["-t", "erofs", "-o", "ro,loop", &to, &at]);
        let read = std::panic::catch_unwind(|| {
            let file = std::fs::File::open(&image).expect("image");
            let (mut ours, mut kernels) = (BTreeMap::new(), BTreeMap::new());
            walk(&Dir::of_image(file.into()).expect("image"), b"", &mut ours);
            walk(&Dir::open(&mount).expect("mount"), b"", &mut kernels);
            (ours, kernels)
        });
        unmount_beneath(&[dir.path()]);
        let (ours, kernels) = read.expect("read");
        assert!(kernels.len() > 4000);
        let paths = |told: &BTreeMap<Vec<u8>, Told>| told.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&ours), paths(&kernels));
        for (path, told) in &kernels {
            let path = String::from_utf8_lossy(path);
            assert_eq!(ours.get(path.as_bytes()).unwrap_or(told), told, "{path}");
        }
        assert_eq!(ours, kernels);
    }
}
