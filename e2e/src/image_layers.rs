//! An image of six layers, edits of their files on disk, and what `image verify` must say of these.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use plimsoll_core::model::{Aspect, LayerMeasurement};
use plimsoll_host::image;
use plimsoll_host::inspect::Sources;
use tempfile::TempDir;

use crate::command::shell;
use crate::rootfs::small_rootfs;

/// The name of the image.
pub const NAME: &str = "localhost/acme/web:1";

/// What the layers above the base do. They hold whiteouts, of files and of directories, hard links, and a
/// directory that was taken away and made again.
pub const DOCKERFILE: &str = r"FROM base
RUN rm -r /old && echo new > /app/f1 && chmod 600 /app/f2
RUN rm /app/f3 && mkdir -p /new/dir && echo x > /new/dir/x && ln /new/dir/x /new/dir/y
RUN rm -r /again && mkdir /again && echo again > /again/file
RUN echo '#!/bin/sh' > /usr/bin/run && chmod 755 /usr/bin/run
RUN mv /app/f4 /app/g4 && touch -t 200001010000 /app/f5
";

/// One edit of each kind, each in a place of its own, where each layer is a directory of an overlay.
pub const OWN_FILES: &str = r"
bit $L1/app/f10
chmod 644 $L1/app/capable; setfattr -x security.capability $L1/app/capable
chown 1 $L1/app/f12
keep $L1/app/f8 setfattr -n user.note -v 'b value' $L1/app/f8
keep $L1/app/f13 setfattr -n user.more -v 1 $L1/app/f13
touch -d 2001-01-01 $L1/app/f14
rm $L1/app/f15
printf 99 | dd of=$L1/app/f17 conv=notrunc status=none; chmod 600 $L1/app/f17
ln -sfn other $L1/usr/bin/link
rm $L1/app/f16; mkdir $L1/app/f16
echo planted > $L1/app/planted
rm $L1/app/null; mknod $L1/app/null c 1 5
bit $L1/app/f3
rm $L2/old; echo x > $L2/app/under
cp $L3/new/dir/x $L3/new/dir/z; mv $L3/new/dir/z $L3/new/dir/y
rm $L3/app/f3
setfattr -x trusted.overlay.opaque $L4/again
setfattr -n trusted.overlay.opaque -v y $L5/usr/bin
setfattr -n trusted.overlay.redirect -v /bin $L1/var/empty
mknod $L6/app/f20 c 0 0
";

/// What is told of them.
pub const OWN_FILES_TOLD: &str = "
1 C /app/capable mode,xattr
1 C /app/f10 content
1 C /app/f12 owner
1 C /app/f13 xattr
1 C /app/f14 times
1 C /app/f17 content,mode,times
1 C /app/f3 content
1 C /app/f8 xattr
1 C /app/null device,times
1 C /usr/bin/link target,times
1 C /var/empty xattr
1 D /app/f15
1 T /app/f16
1 A /app/planted
2 D /old
2 A /app/under
3 C /new/dir/y links
3 D /app/f3
4 C /again xattr
5 C /usr/bin xattr
6 A /app/f20
";

/// Edits of layers that are whole trees: each is told of the layer in whose tree it was made.
pub const WHOLE_TREES: &str = r"
bit $L1/app/f21
chmod 600 $L2/app/f1
mkdir $L2/old; echo back > $L2/old/back
echo planted > $L3/app/planted
bit $L4/app/f20
keep $L4/app/f22 setfattr -n user.more -v 1 $L4/app/f22
echo before > $L4/again/before
rm $L5/app/f31
bit $L5/usr/bin/run
chmod 777 $L6/app/f30
rm $L6/new/dir/y
";

/// What is told of them, but for `4 C /app/f22 xattr`, where copies have such attributes.
pub const WHOLE_TREES_TOLD: &str = "
1 C /app/f21 content
2 C /app/f1 mode
2 A /old
2 A /old/back
3 A /app/planted
4 A /again/before
4 C /app/f20 content
5 C /usr/bin/run content
5 D /app/f31
6 C /app/f30 mode
6 D /new/dir/y
";

/// Makes the rootfs of the base. Returns its directory.
///
/// # Panics
/// When a file cannot be made.
#[must_use]
pub fn rootfs() -> TempDir {
    let rootfs = small_rootfs();
    shell(&format!(
        r#"cd "{}"; mkdir -p app old/deep again
        for n in $(seq 60); do echo "$n" > app/f$n; done
        echo old > old/deep/file; echo before > again/before
        name=$(printf 'x%.0s' $(seq 200)); mkdir $name; echo long > $name/$name; ln -s $name/$name $name/link
        touch $'app/not\xfftext'; mkfifo app/fifo; mknod app/null c 1 3
        truncate -s 3M app/sparse; echo end >> app/sparse
        cp bin/busybox app/capable; chmod 4755 app/capable; chown 7:8 app/f7
        setcap cap_net_raw+ep app/capable; setfattr -n user.note -v 'a value' app/f8"#,
        rootfs.path().display()
    ));
    rootfs
}

/// Verifies an image of which everything must be seen, and returns what its layers came to.
///
/// # Panics
/// When it is not found or something could not be seen.
#[must_use]
pub fn verify(sources: &Sources, name: &str) -> Vec<LayerMeasurement> {
    let (images, gaps) = image::images(sources, &[name.to_owned()]).expect("images");
    assert_eq!(gaps, []);
    let verified = image::verify(images, NonZero::new(2).expect("two"), &|_| {});
    let [(image, layers)] = &verified.images[..] else {
        panic!("one image: {:?}", verified.images);
    };
    assert_eq!(image.gaps, []);
    assert_eq!(*layers, (0..image.image.layers.len()).collect::<Vec<_>>());
    verified.layers
}

/// Asserts that each digest was reproduced, and that nothing was found to differ.
///
/// # Panics
/// When that is not so.
pub fn assert_reproduced(layers: &[LayerMeasurement]) {
    assert_eq!(layers.len(), 6);
    for (n, layer) in (1..).zip(layers) {
        assert_eq!(
            (&layer.changes[..], &layer.gaps[..]),
            (&[][..], &[][..]),
            "{n}"
        );
        assert_eq!(layer.rebuilt.as_ref(), Some(layer.diff_id.digest()), "{n}");
        assert!(layer.bytes > 0);
    }
}

/// Runs a script in which `$L1` and on are the directories of the layers, the base first.
///
/// # Panics
/// When it fails.
pub fn edit(layers: &[PathBuf], script: &str) {
    let names: String = (1..)
        .zip(layers)
        .map(|(n, path)| format!("L{n}='{}'\n", path.display()))
        .collect();
    shell(&format!(
        "{names}
        # keep FILE COMMAND...: the time of a file stays what it was.
        keep() {{ file=$1; shift; touch -r \"$file\" /tmp/plimsoll-time.$$; \"$@\"; touch -r /tmp/plimsoll-time.$$ \"$file\"; rm /tmp/plimsoll-time.$$; }}
        bit() {{ keep \"$1\" python3 -c 'import sys; f = open(sys.argv[1], \"r+b\"); b = f.read(1); f.seek(0); f.write(bytes([b[0] ^ 1]))' \"$1\"; }}
        {script}"
    ));
}

/// Returns what was found, a string each: layer, letter, path, aspects. That directories have other times
/// since something in them was changed is left out.
///
/// # Panics
/// When one is told of another layer than its own.
#[must_use]
pub fn told(layers: &[LayerMeasurement]) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for (n, layer) in (1..).zip(layers) {
        for change in &layer.changes {
            assert_eq!(change.origin.as_deref(), Some(&layer.diff_id));
            let is_directory = change
                .after()
                .is_some_and(|after| after.file_type.has_entries());
            let aspects: Vec<&str> = change.aspects.iter().map(Aspect::as_str).collect();
            if is_directory && aspects == ["times"] {
                continue;
            }
            let line = format!(
                "{n} {} {} {}",
                change.kind.letter(),
                change.path,
                aspects.join(",")
            );
            told.insert(line.trim_end().to_owned());
        }
    }
    told
}

/// Returns the lines of a text, without empty ones.
#[must_use]
pub fn lines(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(str::to_owned).collect()
}

/// Returns where the layers of an image of containers/storage lie, the base first.
///
/// # Panics
/// When there is no image of a name that has this in it.
#[must_use]
pub fn storage_layers(graph_root: &Path, driver: &str, name: &str) -> Vec<PathBuf> {
    let records = |file: String| -> Vec<serde_json::Value> {
        let bytes = std::fs::read(graph_root.join(file)).expect("records");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let layers = records(format!("{driver}-layers/layers.json"));
    let images = records(format!("{driver}-images/images.json"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut images = images.iter();
    let image = images.find(|image| image["names"].to_string().contains(name));
    let mut next = text(&image.expect("the image")["layer"]);
    let mut found = Vec::new();
    while !next.is_empty() {
        found.push(graph_root.join(match driver {
            "overlay" => format!("overlay/{next}/diff"),
            "btrfs" => format!("btrfs/subvolumes/{next}"),
            _ => format!("vfs/dir/{next}"),
        }));
        let record = layers.iter().find(|record| record["id"] == *next);
        next = text(&record.expect("a layer")["parent"]);
    }
    found.reverse();
    found
}
