//! What seals rely on: the clock, and that nobody writes to the raw disk.

use std::fs::File;
use std::path::Path;

use plimsoll_core::model::LayerTrust;
use plimsoll_e2e::command::shell;
use plimsoll_e2e::dockerd::Driver;
use plimsoll_e2e::image_store::Store;
use plimsoll_e2e::sealed::{Sealed, told};
use plimsoll_e2e::{require, require_docker_image};
use plimsoll_host::seal::Layers;

/// Returns what is told of the base.
fn base(sealed: &Sealed, layers: Layers) -> String {
    told(&sealed.check(layers).baseline.proofs[0])
}

/// A file that somebody has open for writing may be stored to after it was verified, by a write that was
/// let in before: no time would move then.
#[test]
fn a_layer_that_is_open_for_writing_is_not_sealed() {
    require_docker_image!();
    let sealed = Sealed::new(Store::of_docker(Driver::Overlay2));
    let path = sealed.store.layers[1].join("app/f1");
    let open = File::options().append(true).open(path).expect("open");
    let (layers, why) = sealed.seals.seal();
    assert_eq!(layers, [true, false, true, true, true, true]);
    assert_eq!(why.len(), 1);
    assert!(why[0].contains("/app/f1 is open for writing"), "{why:?}");
    drop(open);
    sealed.all_sealed();
}

/// Who writes to the disk beneath the file system changes a file without the file system's doing. A seal
/// cannot tell; rebuilding the layer does.
#[test]
fn raw_writes_pass_a_seal() {
    require_docker_image!();
    require!("filefrag", "losetup", "findmnt");
    let sealed = Sealed::new(Store::of_docker(Driver::Overlay2));
    sealed.all_sealed();
    let file = sealed.store.layers[0].join("app/f30");
    shell(&format!(
        r#"set -e; f='{}'; sync "$f"
        block=$(filefrag -v -b4096 "$f" | awk '$1 == "0:" {{ sub(/\.\..*/, "", $4); print $4 }}')
        disk=$(losetup -nO BACK-FILE "$(findmnt -nvo SOURCE -T "$f")")
        [ "$(dd if="$disk" bs=4096 skip="$block" count=1 status=none | head -c 3)" = 30 ]
        printf 31 | dd of="$disk" bs=1 seek=$((block * 4096)) conv=notrunc,fsync status=none
        python3 -c 'import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_DONTNEED)' "$f"
        [ "$(cat "$f")" = 31 ]"#,
        file.display()
    ));
    assert_eq!(base(&sealed, Layers::Sealed), "sealed");
    assert_eq!(base(&sealed, Layers::Digest), "violated C /app/f30 content");
}

/// Writes to a file with the clock set to exactly the time at which it was last touched, and returns
/// whether that is the time that the file has then.
fn write_at_its_own_time(file: &Path) -> bool {
    let done = shell(&format!(
        r"python3 - '{}' <<'END'
import os, sys, time
name = sys.argv[1]
was = os.stat(name)
content = open(name, 'rb').read()
for _ in range(200):
    # A time that was asked for gets a finer one the next time, unless the inode was forgotten meanwhile.
    os.sync()
    open('/proc/sys/vm/drop_caches', 'w').write('3')
    file = os.open(name, os.O_WRONLY)
    now, since = time.time_ns(), time.monotonic_ns()
    time.clock_settime_ns(time.CLOCK_REALTIME, was.st_ctime_ns)
    os.pwrite(file, b'#', 0)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    time.clock_settime_ns(time.CLOCK_REALTIME, now + time.monotonic_ns() - since)
    os.close(file)
    if os.stat(name).st_ctime_ns == was.st_ctime_ns:
        print('done')
        break
END",
        file.display()
    ));
    done.trim() == "done"
}

/// Who can set the clock can give a change the time that a file had before. A seal of a directory relies on
/// that time; that of a subvolume does not. One test, for there is one clock.
#[test]
fn a_clock_set_back_passes_a_seal_of_a_directory_alone() {
    require_docker_image!();
    let sealed = Sealed::new(Store::of_docker(Driver::Overlay2));
    sealed.all_sealed();
    let file = sealed.store.layers[0].join("app/f30");
    assert!(write_at_its_own_time(&file), "the time was never hit");
    assert_eq!(base(&sealed, Layers::Sealed), "sealed");
    assert_eq!(base(&sealed, Layers::Digest), "violated C /app/f30 content");

    let sealed = Sealed::new(Store::of_docker(Driver::Btrfs));
    sealed.all_sealed();
    let file = sealed.store.layers[5].join("app/f30");
    assert!(write_at_its_own_time(&file), "the time was never hit");
    let proofs = sealed.check(Layers::Sealed).baseline.proofs;
    assert_eq!(proofs[5].held, LayerTrust::Violated);
    assert_eq!(told(&proofs[5]), "violated, broken C /app/f30 content");
}
