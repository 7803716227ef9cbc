//! Mounts of overlays with names of all kinds, their marks and their index.

use plimsoll_e2e::command::shell;
use plimsoll_e2e::loopfs::{Kind, LoopFs};

use super::Seeds;

/// Names of directories that a list of mounts has to escape.
const NAMES: &[&str] = &[
    "plain",
    "with space",
    "colon:comma,backslash\\",
    "line\nend",
    "tab\there#",
    "octal\\054",
    "gr\u{fc}n",
];

/// What a container does to an overlay with every feature on.
const CHANGE: &str = r#"
cd "$FS"
mkdir -p low/dir/below upper work mnt
printf a > low/dir/file
printf b > low/dir/one
ln low/dir/one low/dir/other
printf c > low/gone
mount -t overlay overlay -o lowerdir=low,upperdir=upper,workdir=work,$OPTIONS mnt
printf x >> mnt/dir/one
chmod 600 mnt/dir/file
rm mnt/gone
mkdir mnt/gone
mv mnt/dir/below mnt/renamed
setfattr -n user.seen -v yes mnt/dir/file
setfattr -n trusted.overlay.redirect -v /etc mnt/dir/file
chattr +i mnt/dir/other || true
chattr -i mnt/dir/other || true
umount mnt
"#;

/// Takes seeds of everything that is decoded of overlays.
pub(super) fn take(seeds: &mut Seeds) {
    let mut lines = Vec::new();
    for (kind, options) in [
        (Kind::Ext4, "index=on,metacopy=on,redirect_dir=on"),
        (Kind::Xfs, "nfs_export=on,redirect_dir=on"),
        (Kind::Btrfs, "index=on,metacopy=on,redirect_dir=on"),
        (Kind::Ext4, "userxattr"),
    ] {
        let fs = LoopFs::new(kind, 512);
        let path = fs.path();
        shell(&format!(
            "FS='{}'\nOPTIONS='{options}'\n{CHANGE}",
            path.display()
        ));
        for entry in std::fs::read_dir(path.join("work/index"))
            .into_iter()
            .flatten()
        {
            let name = entry.unwrap().file_name();
            seeds.add("overlay_index", name.as_encoded_bytes());
        }
        marks(seeds, &path.join("upper"), options == "userxattr");
    }
    let fs = LoopFs::new(Kind::Ext4, 64);
    for name in NAMES {
        let base = fs.path().join(name);
        for part in ["low", "data", "up", "work", "mnt"] {
            std::fs::create_dir_all(base.join(part)).unwrap();
        }
        let escaped = |part: &str| {
            let path = base.join(part).to_str().unwrap().to_owned();
            path.replace('\\', "\\\\")
                .replace(':', "\\:")
                .replace(',', "\\,")
        };
        let options = format!(
            "metacopy=on,lowerdir={}::{},upperdir={},workdir={}",
            escaped("low"),
            escaped("data"),
            escaped("up"),
            escaped("work")
        );
        let mounted = base.join("mnt");
        rustix::mount::mount(
            "overlay",
            &mounted,
            "overlay",
            rustix::mount::MountFlags::empty(),
            Some(std::ffi::CString::new(options).unwrap().as_c_str()),
        )
        .unwrap();
        let text = std::fs::read("/proc/self/mountinfo").unwrap();
        rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::empty()).unwrap();
        let line = text
            .split(|b| *b == b'\n')
            .rfind(|line| line.windows(11).any(|part| part == b" - overlay "))
            .unwrap()
            .to_vec();
        let options = line.rsplit(|b| *b == b' ').next().unwrap().to_vec();
        // The first byte says how a second list is printed.
        seeds.add("overlay_options", &options);
        lines.push(line);
    }
    for line in &lines {
        seeds.add("mountinfo", line);
    }
    seeds.add("mountinfo", lines.join(&b'\n'));
    seeds.add("mountinfo", std::fs::read("/proc/1/mountinfo").unwrap());
    for count in [2u8, 7] {
        let mut seed = vec![count];
        for name in NAMES {
            seed.extend(name.as_bytes());
            seed.push(0);
        }
        seeds.add("overlay_options", &seed);
    }
    let hostile = [
        "/a/b",
        "name",
        "",
        "/",
        "//a",
        "/../../etc",
        "..",
        "a/b",
        "/a/",
    ];
    for value in hostile {
        let length = u8::try_from(value.len()).unwrap();
        let mut seed = b"\x02@redirect\0".to_vec();
        seed.push(length);
        seed.extend(value.as_bytes());
        seeds.add("overlay_marks", seed);
    }
}

/// Takes the attributes of everything in an upper layer.
fn marks(seeds: &mut Seeds, upper: &std::path::Path, user: bool) {
    let mut todo = vec![upper.to_owned()];
    while let Some(path) = todo.pop() {
        let kind = path.symlink_metadata().unwrap().file_type();
        let mode = u8::from(user) | u8::from(kind.is_dir()) << 1;
        let mut seed = vec![mode];
        for name in xattr::list(&path).unwrap() {
            let value = xattr::get(&path, &name).unwrap().unwrap_or_default();
            seed.extend(name.as_encoded_bytes());
            seed.push(0);
            seed.push(u8::try_from(value.len()).unwrap());
            seed.extend(value);
        }
        seeds.add("overlay_marks", seed);
        if kind.is_dir() {
            todo.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
        }
    }
}
