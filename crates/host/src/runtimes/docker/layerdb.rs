//! Docker's layer database: from a container's id to the directories of its layers.
//!
//! Layout: moby `daemon/internal/layer/filestore.go`. `image/<driver>/layerdb/mounts/<id>` holds
//! `mount-id`, `init-id` and `parent`; `image/<driver>/layerdb/sha256/<chainID>` holds `cache-id`,
//! `diff` and `parent`. A cache id is the name of a directory of the storage driver.

use plimsoll_core::model::{ChainId, ContainerId, DiffId, Digest};
use plimsoll_core::trust::chain_ids;

use super::disk::{DataRoot, RecordError};
use super::memo::{Chain, ImageLayers};
use crate::fs::{Dir, RECORD_LIMIT};
use crate::runtimes::lower::{LayerName, excerpt};

/// Most layers that an image can have: 125 in moby (`daemon/internal/layer/layer_store.go`), twice
/// that to be sure that it is not this reader that gives up first.
const LAYERS_MAX: usize = 250;

/// The layers of one container as the layer database names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountLayers {
    /// Directory of the writable layer.
    pub(super) mount: LayerName,
    /// Directory of the layer that Docker puts between image and container.
    pub(super) init: LayerName,
    /// Directories of the image's layers, the base first.
    pub(super) image: ImageLayers,
}

/// Reads where a container's layers lie. `chain` are its image's layers.
///
/// # Errors
/// [`RecordError::Absent`] when the container has no layers (any more).
pub(super) fn mount_layers(
    root: &DataRoot,
    driver: &str,
    id: &ContainerId,
    chain: &Chain,
) -> Result<MountLayers, RecordError> {
    let mounts = root.mounts(driver)?;
    let read = |file: &str| read_of_mount(&mounts, id, file);
    let named = |file: &str| named_by(&read(file)?, || path_of_mount(driver, id, file));
    let mount = named("mount-id")?;
    let init = named("init-id").map_err(must_exist("init-id"))?;
    let parent = parent_by(read("parent"))?;
    let top = chain.chain_ids.last();
    if parent.as_ref() != top {
        return Err(RecordError::Broken(format!(
            "the layer database puts it on {}, its image ends with {}",
            shown(parent.as_ref()),
            shown(top),
        )));
    }
    let image = match top {
        Some(top) => root.memo.chain(top, || image_layers(root, driver, chain))?,
        None => ImageLayers::default(),
    };
    Ok(MountLayers { mount, init, image })
}

/// Reads where the layers of a chain lie.
fn image_layers(root: &DataRoot, driver: &str, chain: &Chain) -> Result<ImageLayers, RecordError> {
    let mut image = Vec::with_capacity(chain.chain_ids.len());
    for (n, (chain_id, diff_id)) in chain.chain_ids.iter().zip(&chain.diff_ids).enumerate() {
        let entry = Entry::read(root, driver, chain_id).map_err(must_exist("an image layer"))?;
        let below = n
            .checked_sub(1)
            .and_then(|below| chain.chain_ids.get(below));
        if entry.diff_id != *diff_id || entry.parent.as_ref() != below {
            return Err(RecordError::Broken(format!(
                "the layer database says that {chain_id} is {} on {}, its image says {diff_id} on {}",
                entry.diff_id,
                shown(entry.parent.as_ref()),
                shown(below),
            )));
        }
        image.push((entry.cache, *diff_id));
    }
    Ok(image.into())
}

/// Reads a file of a container's record.
fn read_of_mount(mounts: &Dir, id: &ContainerId, file: &str) -> Result<Vec<u8>, RecordError> {
    Ok(mounts.read_file(format!("{id}/{file}").as_bytes(), RECORD_LIMIT)?)
}

/// Returns where that file lies, to show.
fn path_of_mount(driver: &str, id: &ContainerId, file: &str) -> String {
    format!("image/{driver}/layerdb/mounts/{id}/{file}")
}

/// Returns the name of a container's writable layer.
pub(super) fn mount_name(
    root: &DataRoot,
    driver: &str,
    id: &ContainerId,
) -> Result<LayerName, RecordError> {
    const FILE: &str = "mount-id";
    let bytes = read_of_mount(&*root.mounts(driver)?, id, FILE)?;
    named_by(&bytes, || path_of_mount(driver, id, FILE))
}

/// Whether the layer database has a container.
pub(super) fn has_mount(root: &DataRoot, driver: &str, id: &ContainerId) -> bool {
    let path = format!("{id}/mount-id");
    root.mounts(driver)
        .is_ok_and(|mounts| mounts.has(path.as_bytes()))
}

/// Returns the layers that a container lies on, the base first, by the layer database alone: for an
/// image whose configuration is gone. Each step is proved by the arithmetic of chainIDs.
pub(super) fn diff_ids_of_mount(
    root: &DataRoot,
    driver: &str,
    id: &ContainerId,
) -> Result<Vec<DiffId>, RecordError> {
    let mut diff_ids = Vec::new();
    let mut next = parent_by(read_of_mount(&*root.mounts(driver)?, id, "parent"))?;
    let top = next;
    while let Some(chain_id) = next {
        if diff_ids.len() == LAYERS_MAX {
            return Err(RecordError::Broken(format!(
                "its chain of layers has more than {LAYERS_MAX}"
            )));
        }
        let entry = Entry::read(root, driver, &chain_id).map_err(must_exist("an image layer"))?;
        diff_ids.push(entry.diff_id);
        next = entry.parent;
    }
    diff_ids.reverse();
    if chain_ids(&diff_ids).last().copied() != top {
        return Err(RecordError::Broken(
            "its chain of layers does not add up to its own name".into(),
        ));
    }
    Ok(diff_ids)
}

/// One layer of an image.
pub(super) struct Entry {
    pub(super) cache: LayerName,
    pub(super) diff_id: DiffId,
    parent: Option<ChainId>,
}

impl Entry {
    pub(super) fn read(
        root: &DataRoot,
        driver: &str,
        chain_id: &ChainId,
    ) -> Result<Self, RecordError> {
        let layers = root.layers(driver)?;
        let hex = chain_id.digest().hex();
        let read = |file: &str| {
            let path = format!("{hex}/{file}");
            Ok(layers.read_file(path.as_bytes(), RECORD_LIMIT)?)
        };
        let diff_id = digest(&read("diff")?, "diff")?.into();
        Ok(Self {
            cache: named_by(&read("cache-id")?, || {
                format!("{}/cache-id", layer_dir(driver, chain_id))
            })?,
            diff_id,
            parent: parent_by(read("parent"))?,
        })
    }
}

/// Returns where the record of a layer lies.
pub(super) fn layer_dir(driver: &str, chain_id: &ChainId) -> String {
    format!("image/{driver}/layerdb/sha256/{}", chain_id.digest().hex())
}

/// Decodes the `parent` of a record; `None` when it has none.
fn parent_by(read: Result<Vec<u8>, RecordError>) -> Result<Option<ChainId>, RecordError> {
    match read {
        Ok(bytes) => Ok(Some(digest(&bytes, "parent")?.into())),
        Err(RecordError::Absent) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Decodes the name of a layer, which a file at this path holds.
fn named_by(bytes: &[u8], path: impl FnOnce() -> String) -> Result<LayerName, RecordError> {
    LayerName::parse(bytes).ok_or_else(|| {
        RecordError::Broken(format!(
            "{} does not name a layer: \"{}\"",
            path(),
            excerpt(bytes)
        ))
    })
}

pub(super) fn digest(bytes: &[u8], file: &str) -> Result<Digest, RecordError> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            RecordError::Broken(format!(
                "its {file} is not a digest: \"{}\"",
                excerpt(bytes)
            ))
        })
}

/// Makes a missing part of an existing record a broken record.
fn must_exist(what: &str) -> impl Fn(RecordError) -> RecordError + use<'_> {
    move |error| match error {
        RecordError::Absent => {
            RecordError::Broken(format!("the layer database does not have {what} of it"))
        }
        broken @ RecordError::Broken(_) => broken,
    }
}

fn shown(chain_id: Option<&ChainId>) -> String {
    chain_id.map_or_else(|| "nothing".into(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "48c94983d096b04e83d4a31c44763b2a70396ff0a1f5b186d7f524c2ed21b694";

    /// A data root whose layer database holds a container on these layers, the base first.
    fn root_of(diff_ids: &[DiffId]) -> (tempfile::TempDir, DataRoot) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: String, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("containers/keep".into(), "");
        let mounts = format!("image/overlay2/layerdb/mounts/{ID}");
        write(format!("{mounts}/mount-id"), "aa11");
        write(format!("{mounts}/init-id"), "aa11-init");
        let chain = chain_ids(diff_ids);
        if let Some(top) = chain.last() {
            write(format!("{mounts}/parent"), &top.to_string());
        }
        for (n, (chain_id, diff_id)) in chain.iter().zip(diff_ids).enumerate() {
            let layer = layer_dir("overlay2", chain_id);
            write(format!("{layer}/diff"), &diff_id.to_string());
            write(format!("{layer}/cache-id"), &format!("c{n}"));
            if n > 0 {
                write(format!("{layer}/parent"), &chain[n - 1].to_string());
            }
        }
        let root = DataRoot::open_all(dir.path()).unwrap().remove(0);
        (dir, root)
    }

    fn diff_ids(count: u8) -> Vec<DiffId> {
        (0..count)
            .map(|n| {
                format!("sha256:{}", format!("{n:02x}").repeat(32))
                    .parse()
                    .unwrap()
            })
            .collect()
    }

    fn read(root: &DataRoot, ids: &[DiffId]) -> Result<MountLayers, RecordError> {
        let chain = Chain::of(ids.to_vec());
        mount_layers(root, "overlay2", &ContainerId::new(ID.into()), &chain)
    }

    #[test]
    fn a_sound_database() {
        for count in [0, 1, 3] {
            let ids = diff_ids(count);
            let (_dir, root) = root_of(&ids);
            let layers = read(&root, &ids).unwrap();
            assert_eq!(layers.mount.as_str(), "aa11");
            assert_eq!(layers.init.as_str(), "aa11-init");
            assert_eq!(layers.image.len(), ids.len());
            let id = ContainerId::new(ID.into());
            assert_eq!(diff_ids_of_mount(&root, "overlay2", &id).unwrap(), ids);
        }
    }

    #[test]
    fn a_lying_database() {
        let ids = diff_ids(3);
        let chain = chain_ids(&ids);
        let mounts = format!("image/overlay2/layerdb/mounts/{ID}");
        let top = layer_dir("overlay2", &chain[2]);
        for (file, text, why) in [
            (
                format!("{mounts}/mount-id"),
                "../../../etc",
                "does not name a layer",
            ),
            (format!("{mounts}/mount-id"), "", "does not name a layer"),
            (
                format!("{mounts}/init-id"),
                "x\u{1b}[2J",
                "does not name a layer: \"x\\x1b[2J\"",
            ),
            (format!("{mounts}/parent"), "sha256:12", "not a digest"),
            (
                format!("{mounts}/parent"),
                &chain[1].to_string(),
                "its image ends with",
            ),
            (format!("{top}/cache-id"), "/etc", "does not name a layer"),
            (format!("{top}/diff"), &ids[0].to_string(), "its image says"),
            (
                format!("{top}/parent"),
                &chain[0].to_string(),
                "its image says",
            ),
            (format!("{top}/diff"), "sha256:\u{fffd}", "not a digest"),
        ] {
            let (dir, root) = root_of(&ids);
            std::fs::write(dir.path().join(&file), text).unwrap();
            match read(&root, &ids) {
                Err(RecordError::Broken(told)) => assert!(told.contains(why), "{file}: {told}"),
                other => panic!("{file}: {other:?}"),
            }
        }
    }

    #[test]
    fn pieces_that_are_missing_or_links() {
        let ids = diff_ids(2);
        let top = layer_dir("overlay2", &chain_ids(&ids)[1]);
        let mounts = format!("image/overlay2/layerdb/mounts/{ID}");
        for file in [
            format!("{mounts}/init-id"),
            format!("{top}/cache-id"),
            format!("{top}/parent"),
        ] {
            let (dir, root) = root_of(&ids);
            let file = dir.path().join(file);
            std::fs::remove_file(&file).unwrap();
            assert!(
                matches!(read(&root, &ids), Err(RecordError::Broken(_))),
                "{file:?}"
            );
            std::os::unix::fs::symlink("/etc/hostname", &file).unwrap();
            assert!(
                matches!(read(&root, &ids), Err(RecordError::Broken(_))),
                "{file:?}"
            );
        }
        let (dir, root) = root_of(&ids);
        std::fs::remove_dir_all(dir.path().join(mounts)).unwrap();
        assert_eq!(read(&root, &ids), Err(RecordError::Absent));
    }

    #[test]
    fn a_chain_that_runs_in_a_circle_ends() {
        let ids = diff_ids(2);
        let chain = chain_ids(&ids);
        let (dir, root) = root_of(&ids);
        let base = dir
            .path()
            .join(layer_dir("overlay2", &chain[0]))
            .join("parent");
        std::fs::write(base, chain[1].to_string()).unwrap();
        let told = diff_ids_of_mount(&root, "overlay2", &ContainerId::new(ID.into()));
        assert!(matches!(told, Err(RecordError::Broken(why)) if why.contains("more than")));
    }
}
