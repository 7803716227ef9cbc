//! Containers whose layers containerd keeps: Docker with the containerd image store.
//!
//! The record is Docker's own; the layers are snapshots in a namespace of containerd, the container's own
//! called by its id and the layer beneath it by the id and `-init` (moby
//! `daemon/containerd/image_snapshot.go`). containerd's own record of a container is there only while it
//! runs, and does not name them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use plimsoll_core::model::{Container, ContainerId, DiffId, Gap, ImageId, escape};

use super::disk::DataRoot;
use super::locate::Driver;
use super::presence::Presence;
use super::record::Record;
use super::{Docker, expected_mounts, injected, mounts, state};
use crate::layers::stored::StoredImage;
use crate::runtimes::containerd::images;
use crate::runtimes::containerd::locate::{Wanted, locate};
use crate::runtimes::containerd::store::{Chain, Image, Store};
use crate::runtimes::containerd::{OF_DOCKER, source};
use crate::runtimes::find::Sources;
use crate::runtimes::lower::excerpt;
use crate::runtimes::{Located, RuntimeError};

/// Where a Docker daemon that starts a containerd of its own lets it keep things (moby
/// `cmd/dockerd`, `initContainerd`).
const MANAGED: &str = "containerd/daemon";

/// Who keeps the layers of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage<'r> {
    /// A classic storage driver.
    Graph(Driver),
    /// A snapshotter of containerd, by its name.
    Snapshots(&'r str),
}

impl<'r> Storage<'r> {
    /// Returns who keeps the layers of the container with this record.
    ///
    /// One storage driver and one snapshotter are both called `btrfs`: the manifest of an image is
    /// written down with the containerd store alone (moby `daemon/create.go`).
    pub(super) fn of(record: &'r Record) -> Self {
        match Driver::parse(&record.driver) {
            Some(Driver::Btrfs) if record.manifest.is_some() => Self::Snapshots(&record.driver),
            Some(driver) => Self::Graph(driver),
            None => Self::Snapshots(&record.driver),
        }
    }
}

/// The containerds that may keep layers of Docker's.
#[derive(Debug)]
pub(super) struct Snapshots {
    disk: Option<PathBuf>,
    /// Those of a data root, as far as it was looked for them.
    stores: RefCell<HashMap<PathBuf, Rc<[Store]>>>,
    /// How the snapshots are called that containers were compared by.
    compared: RefCell<HashMap<ContainerId, Vec<u8>>>,
}

/// Returns the namespace that the daemon of a data root has everything in.
fn namespace(root: &DataRoot) -> String {
    match root.is_remapped() {
        // moby `daemon/daemon.go`, `RemapContainerdNamespaces`.
        true => {
            let name = root.path().file_name().unwrap_or_default();
            format!("{OF_DOCKER}-{}", escape(name.as_bytes()))
        }
        false => OF_DOCKER.to_owned(),
    }
}

/// The snapshots of one container.
#[derive(Debug)]
pub(super) struct Kept {
    stores: Rc<[Store]>,
    at: usize,
    namespace: String,
    chain: Chain,
}

impl Snapshots {
    /// Takes note of where containerd is looked for: on a mounted disk, if there is one.
    pub(super) fn of(disk: Option<&Path>) -> Self {
        Self {
            disk: disk.map(Path::to_owned),
            stores: RefCell::default(),
            compared: RefCell::default(),
        }
    }

    /// Returns the containerds that a data root may have its layers in: one of its own, and that of the
    /// machine.
    fn stores(&self, root: &DataRoot) -> Result<Rc<[Store]>, RuntimeError> {
        if let Some(stores) = self.stores.borrow().get(root.path()) {
            return Ok(Rc::clone(stores));
        }
        let disk = self.disk.as_deref();
        let mut stores = Vec::new();
        let own = match root.is_remapped() {
            // It belongs to the data root that the one of the remapped daemon is in.
            true => {
                let path = root.path().parent().unwrap_or(root.path()).join(MANAGED);
                source::open_at(root.open_beside(MANAGED), &path, disk)
            }
            false => source::open_at(root.open(MANAGED), &root.show(MANAGED), disk),
        };
        let of_machine = source::find(&Sources {
            root: self.disk.clone(),
            ..Sources::default()
        });
        match own {
            Ok(own) => stores.push(own),
            Err(RuntimeError::Absent(_)) => {}
            Err(error) => return Err(error),
        }
        match of_machine {
            Ok(of_machine) => stores.extend(of_machine),
            Err(RuntimeError::Absent(_)) => {}
            // What the one has needs not be looked for in the other.
            Err(_) if !stores.is_empty() => {}
            Err(error) => return Err(error),
        }
        let stores: Rc<[Store]> = stores.into();
        let path = root.path().to_owned();
        self.stores.borrow_mut().insert(path, Rc::clone(&stores));
        Ok(stores)
    }

    /// Finds the snapshots of a container.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when no containerd has them (any more); else what is wrong.
    pub(super) fn find(
        &self,
        root: &DataRoot,
        id: &ContainerId,
        snapshotter: &str,
    ) -> Result<Kept, RuntimeError> {
        let stores = self.stores(root)?;
        let namespace = namespace(root);
        for (at, store) in stores.iter().enumerate() {
            match store.chain(&namespace, snapshotter, id.as_str().as_bytes()) {
                Ok(chain) => {
                    return Ok(Kept {
                        stores: Rc::clone(&stores),
                        at,
                        namespace,
                        chain,
                    });
                }
                Err(RuntimeError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        match stores.is_empty() {
            true => Err(RuntimeError::UnsupportedDriver {
                driver: escape(snapshotter.as_bytes()).into_owned(),
            }),
            false => Err(RuntimeError::Gone),
        }
    }

    /// Returns the images that containerd keeps for the daemon of a data root.
    pub(super) fn images(&self, root: &DataRoot, gaps: &mut Vec<Gap>) -> Vec<StoredImage> {
        let told = |error: &RuntimeError| Gap::new("containerd", error.to_string());
        let stores = match self.stores(root) {
            Ok(stores) => stores,
            Err(error) => {
                gaps.push(told(&error));
                return Vec::new();
            }
        };
        let own = namespace(root);
        let owner = |namespace: &str| (namespace == own).then(super::owner);
        let mut found = Vec::new();
        for store in stores.iter() {
            match images::images(store, owner, gaps) {
                Ok(images) => found.extend(images),
                Err(error) => gaps.push(told(&error)),
            }
        }
        found
    }

    /// Returns configuration and layers of the image that a container lies on, as far as they are proved.
    pub(super) fn image(
        &self,
        root: &DataRoot,
        id: &ContainerId,
        snapshotter: &str,
        record: &Record,
    ) -> (Option<ImageId>, Vec<DiffId>) {
        // What is wrong is told when the container is located.
        let kept = self.find(root, id, snapshotter);
        match kept.ok().and_then(|kept| kept.image(record).found) {
            Some(found) => (found.id, found.layers),
            None => (None, Vec::new()),
        }
    }

    /// Whether a container has other snapshots than those that it was compared by.
    pub(super) fn was_made_anew(&self, root: &DataRoot, id: &ContainerId, of: &str) -> bool {
        let compared = self.compared.borrow();
        compared.get(id).is_some_and(|name| {
            let kept = self.find(root, id, of);
            kept.is_ok_and(|kept| kept.chain.name() != name.as_slice())
        })
    }

    /// Whether a container has the snapshots that it was compared by.
    pub(super) fn is_as_compared(&self, root: &DataRoot, id: &ContainerId, of: &str) -> bool {
        self.find(root, id, of).is_ok() && !self.was_made_anew(root, id, of)
    }
}

impl Kept {
    fn store(&self) -> Option<&Store> {
        self.stores.get(self.at)
    }

    /// Returns the image, by what the record says of it.
    fn image(&self, record: &Record) -> Image {
        let (Some(store), Some(top)) = (self.store(), self.chain.image_top()) else {
            return Image::default();
        };
        let manifest = record.manifest.as_ref().map(|manifest| manifest.digest);
        let told = manifest.map_or_else(|| record.image.clone(), |digest| digest.to_string());
        let name = record.config.as_ref().map(|config| config.image.as_bytes());
        let snapshotter = self.chain.snapshotter.as_str();
        store.image(
            &self.namespace,
            name.unwrap_or_default(),
            &told,
            snapshotter,
            top,
        )
    }
}

impl Docker {
    /// Finds the layers of a container that are snapshots.
    pub(super) fn in_snapshots(
        &self,
        root: &DataRoot,
        container: &Container,
        snapshotter: &str,
        record: &Record,
        plain: bool,
    ) -> Result<Located, RuntimeError> {
        let id = &container.id;
        let kept = self
            .snapshots
            .find(root, id, snapshotter)
            .map_err(|error| match (error, self.presence(id)) {
                (RuntimeError::Gone, Presence::Here | Presence::Unknown(_)) => {
                    RuntimeError::Inconsistent("its snapshots are missing from containerd".into())
                }
                (error, _) => error,
            })?;
        let store = kept.store().ok_or(RuntimeError::Gone)?;
        let init = format!("{id}-init");
        let between: Vec<&[u8]> = kept.chain.between_keys().collect();
        if between != [init.as_bytes()] {
            let told: Vec<String> = between.iter().map(|key| excerpt(key)).collect();
            return Err(RuntimeError::Inconsistent(format!(
                "between its image and its own snapshot lie \"{}\", and not \"{init}\" alone",
                told.join("\", \"")
            )));
        }
        let name = kept.chain.name().to_vec();
        self.snapshots
            .compared
            .borrow_mut()
            .insert(id.clone(), name);
        let mut gaps = Vec::new();
        let pid = state::known(record, id, self.source.local).pid;
        let mut mounts = expected_mounts(root, id, record, pid, &mut gaps);
        if pid.is_some() {
            // What cannot be read of it was told.
            mounts.extend(mounts::init_program(
                &root.host_config(id).unwrap_or_default(),
            ));
        }
        let mut located = locate(&Wanted {
            store,
            chain: &kept.chain,
            image: &kept.image(record),
            injected_paths: injected::init_layer(),
            pid,
            mounts,
            plain,
        })?;
        located.gaps.extend(gaps);
        // Of a layer the daemon says nothing here.
        located
            .gaps
            .extend(self.compare_record(root, container, ""));
        Ok(located)
    }
}
