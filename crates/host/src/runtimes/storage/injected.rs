//! What Podman and CRI-O themselves make in the writable layer: targets of mounts, the working
//! directory, and the link `/etc/mtab`.
//!
//! There is no layer between image and container. Podman makes the link and the working directory
//! (`libpod/container_internal_linux.go`, `makePlatformMtabLink`; `container_internal_common.go`,
//! `resolveWorkDir`), CRI-O the link (`server/container_create.go`), and the OCI runtime whatever is
//! missing of the targets of the mounts. A line that Podman adds to `/etc/passwd` or `/etc/group` for
//! a user that the image does not know stays a change: it says who may log in.

use plimsoll_core::model::{RootPath, RuntimePath, RuntimePathKind};

use super::record::Spec;
use crate::layers::LayerStack;
use crate::runtimes::made::{Made, clean};

/// Links that are made where the image has nothing.
const LINKS: [(&str, &str); 1] = [("/etc/mtab", "/proc/mounts")];

/// Whom what is made belongs to, as on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Root, of the machine.
pub(super) const ROOT: Owner = Owner { uid: 0, gid: 0 };

/// Returns what is made. `root` is the root of the container's user namespace, and `user` whom the
/// container runs as, who is given the working directory.
///
/// Whether a target becomes a file or a directory depends on what is mounted there, so both are
/// named. Paths that the specification gives in another form than a clean one are left out: what is
/// not named here is held against the container.
pub(super) fn made_by_runtime(spec: &Spec, root: Owner, user: Owner) -> Vec<RuntimePath> {
    let mut made = Made::default();
    for mount in spec.mounts.iter().flatten() {
        if let Some(path) = clean(&mount.destination) {
            made.directory(path.clone());
            made.file(path);
        }
    }
    for (path, _) in LINKS {
        if let Some(parent) = clean(path).and_then(|path| path.parent()) {
            made.directory(parent);
        }
    }
    let working_dir = spec
        .process
        .as_ref()
        .and_then(|process| clean(&process.cwd));
    if let Some(path) = working_dir.clone() {
        made.directory(path);
    }
    let links = LINKS.iter().filter_map(|(path, to)| {
        Some(RuntimePath {
            path: RootPath::parse(path.as_bytes()).ok()?,
            kind: RuntimePathKind::Symlink((*to).into()),
        })
    });
    let mut all = made.paths();
    all.extend(links);
    let mut paths: Vec<RuntimePath> = all.into_iter().map(|made| owned(made, root)).collect();
    // The working directory is made from outside, by root: those above it keep that owner.
    let mut above = working_dir.clone();
    while let Some(path) = above.filter(|path| path.as_bytes() != b"/") {
        above = path.parent();
        paths.extend(directory(path, ROOT, root));
    }
    paths.extend(working_dir.and_then(|path| directory(path, user, root)));
    paths
}

/// A directory of this owner, unless it was told already.
fn directory(path: RootPath, owner: Owner, known: Owner) -> Option<RuntimePath> {
    let made = RuntimePath {
        path,
        kind: RuntimePathKind::Directory,
    };
    (owner != known).then(|| owned(made, owner))
}

/// Returns the root directory of a container that gets other permissions than its image's, or another
/// owner.
///
/// The overlay driver makes it like the directory of the layer beneath, also where that holds data alone
/// (overlay.go, `create`). The vfs driver leaves the root directory of a copy of the image for other ids
/// to the machine's root, and Podman gives the container's to its root as it mounts it.
pub(super) fn root_directory(stack: &LayerStack, root: Owner) -> Option<RuntimePath> {
    let like = match stack {
        LayerStack::Overlay(stack) => {
            let composed = stack.image.first().filter(|top| top.dir.is_of_image());
            composed.and(stack.data_only.first())
        }
        LayerStack::Plain(stack) => (root != ROOT).then_some(&stack.image),
        LayerStack::Btrfs(_) => None,
    };
    let made = RuntimePath {
        path: RootPath::root(),
        kind: RuntimePathKind::Root {
            mode: like?.dir.stat_self().ok()?.mode,
        },
    };
    Some(owned(made, root))
}

fn owned(made: RuntimePath, owner: Owner) -> RuntimePath {
    let Owner { uid, gid } = owner;
    match owner == ROOT {
        true => made,
        false => RuntimePath {
            path: made.path,
            kind: RuntimePathKind::OwnedBy {
                uid,
                gid,
                form: Box::new(made.kind),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::storage::record;

    /// `config.json` as Podman 4.3.1 wrote it for `podman run --user 1234 -v ..:/mnt/x:ro --tmpfs /t`.
    const SPEC: &[u8] = include_bytes!("testdata/config.json");

    fn kinds(made: &[RuntimePath], path: &str) -> Vec<RuntimePathKind> {
        let at = made
            .iter()
            .filter(|made| made.path.as_bytes() == path.as_bytes());
        at.map(|made| made.kind.clone()).collect()
    }

    #[test]
    fn what_a_real_specification_lets_podman_make() {
        let spec: Spec = record::parse(SPEC).unwrap();
        let user = Owner { uid: 1234, gid: 0 };
        let made = made_by_runtime(&spec, ROOT, user);
        // The list that `find` printed of the writable layer of that container.
        for path in [
            "/proc", "/dev", "/sys", "/mnt", "/mnt/x", "/srv", "/t", "/run", "/etc",
        ] {
            assert!(
                kinds(&made, path).contains(&RuntimePathKind::Directory),
                "{path}"
            );
        }
        for path in ["/run/.containerenv", "/etc/hostname", "/etc/hosts"] {
            assert!(
                kinds(&made, path).contains(&RuntimePathKind::EmptyFile),
                "{path}"
            );
        }
        assert_eq!(
            kinds(&made, "/etc/mtab"),
            [RuntimePathKind::Symlink("/proc/mounts".into())]
        );
        let of_user = RuntimePathKind::OwnedBy {
            uid: 1234,
            gid: 0,
            form: Box::new(RuntimePathKind::Directory),
        };
        assert!(kinds(&made, "/srv/app").contains(&of_user));
        assert!(!kinds(&made, "/srv").contains(&of_user));
        assert!(kinds(&made, "/etc/passwd").is_empty() && kinds(&made, "/").is_empty());
    }

    #[test]
    fn owners_of_a_user_namespace() {
        let spec: Spec =
            record::parse(br#"{"mounts":[{"destination":"/a"}],"process":{"cwd":"/w"}}"#).unwrap();
        let root = Owner {
            uid: 100_000,
            gid: 100_000,
        };
        let made = made_by_runtime(&spec, root, root);
        assert!(
            kinds(&made, "/a")
                .iter()
                .all(|kind| matches!(kind, RuntimePathKind::OwnedBy { uid: 100_000, .. }))
        );
        assert!(kinds(&made, "/w").contains(&RuntimePathKind::Directory));
    }

    #[test]
    fn paths_in_a_strange_form_are_left_out() {
        let spec: Spec = record::parse(
            br#"{"mounts":[{"destination":"x"},{"destination":"/a/../b"},{}],"process":{"cwd":"/"}}"#,
        )
        .unwrap();
        let made = made_by_runtime(&spec, ROOT, ROOT);
        let paths: Vec<String> = made.iter().map(|made| made.path.to_string()).collect();
        assert_eq!(paths, ["/etc", "/etc/mtab"]);
    }
}
