//! containerd, with the containers of every client but Docker's: `ctr`, `nerdctl`, the CRI plugin of
//! Kubernetes.
//!
//! What is on disk is the source: its databases cover every state, with the daemon alive or dead. See
//! `docs/decisions/0003-containerd-metadata.md`.

mod config;
mod content;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(super) mod images;
pub(super) mod locate;
mod metadata;
mod pod;
mod snapshots;
pub(super) mod source;
mod spec;
mod state;
pub(super) mod store;

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use plimsoll_core::model::{Change, Container, ContainerId, Gap, RuntimeKind, RuntimePath, escape};

use self::locate::Wanted;
use self::metadata::Record;
use self::spec::Spec;
use self::store::Store;
use super::find::Sources;
use super::{Located, Runtime, RuntimeError};
use crate::layers::LayerStack;
use crate::layers::stored::StoredImage;

/// The directory of containerd's own database, which no other runtime has.
pub(super) const METADATA: &str = "io.containerd.metadata.v1.bolt";

/// What the names of the directories of snapshotters begin with.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.";

/// The namespace that Docker has its containers in; those of its plugins, and of daemons that remap users,
/// are called by it too (moby `daemon/config/config.go`).
pub(super) const OF_DOCKER: &str = "moby";

/// A label that Docker gives to each of its containers (moby `libcontainerd/remote/client.go`).
const DOCKER_BUNDLE: &str = "com.docker/engine.bundle.path";

/// A label by which nerdctl names a container (nerdctl `pkg/labels/labels.go`).
const NERDCTL_NAME: &str = "nerdctl/name";

/// containerd on this machine, or on a mounted disk.
#[derive(Debug)]
pub struct Containerd {
    stores: Vec<Store>,
    /// Whether nothing but this root was asked for.
    is_alone: bool,
    /// By namespace and id, how the snapshotter calls the snapshot that a container was compared by.
    compared: RefCell<HashMap<(String, String), Vec<u8>>>,
}

/// A record, and the root that it was found in.
type Recorded<'s> = (&'s Store, Record);

impl Containerd {
    /// Finds containerd's root: the one that is given; else what `/etc/containerd/config.toml` says, or
    /// `/var/lib/containerd`, and that of k3s.
    ///
    /// # Errors
    /// [`RuntimeError::Absent`] when nothing was said and there is none; [`RuntimeError::Unavailable`]
    /// when a root cannot be used; the text says the way out.
    pub fn find(sources: &Sources) -> Result<Self, RuntimeError> {
        Ok(Self {
            stores: source::find(sources)?,
            is_alone: sources.data_root.is_some(),
            compared: RefCell::default(),
        })
    }

    /// Returns every record, with its root, and what is recorded strangely or cannot be read.
    fn records(&self) -> Result<(Vec<Recorded<'_>>, Vec<Gap>), RuntimeError> {
        let mut found = Vec::new();
        let mut gaps = Vec::new();
        let mut failed = None;
        for store in &self.stores {
            match store.ask(|metadata| metadata.containers()) {
                Ok((records, strays)) => {
                    found.extend(records.into_iter().map(|record| (store, record)));
                    gaps.extend(strays.into_iter().map(|name| {
                        let why = "is recorded as a container and does not have the name of one";
                        Gap::new(name, why)
                    }));
                }
                // One that cannot be read keeps no other from being told.
                Err(error) if self.stores.len() > 1 && failed.is_none() => {
                    gaps.push(Gap::new("containerd", error.to_string()));
                    failed = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok((found, gaps))
    }

    /// Describes one container, of those that `all` are.
    fn container(
        &self,
        store: &Store,
        record: &Record,
        all: &[Recorded<'_>],
        gaps: &mut Vec<Gap>,
    ) -> Container {
        let known = state::known(store, record);
        gaps.extend(known.gap);
        let other = |id: &str| {
            let is = |(of, other): &&Recorded<'_>| {
                std::ptr::eq(*of, store) && other.namespace == record.namespace && other.id == id
            };
            all.iter().find(is).map(|(_, record)| record)
        };
        let pod = pod::pod(record, other);
        let named = record.labels.get(NERDCTL_NAME).cloned();
        let named = named.or_else(|| pod.as_ref().and_then(|pod| pod.container.clone()));
        let reference = record.image.as_slice();
        let mut container = Container {
            name: named
                .filter(|name| !name.is_empty())
                .map(|name| escape(name.as_bytes()).into_owned()),
            namespace: Some(record.namespace.clone()),
            pod,
            state: known.state,
            pid: known.pid,
            ..Container::new(ContainerId::new(record.id.clone()), RuntimeKind::Containerd)
        };
        container.image.reference = (!reference.is_empty()).then(|| reference.into());
        // What is wrong with it is told when the container is located.
        let chain = store.chain(&record.namespace, &record.snapshotter, &record.snapshot);
        if let Ok(chain) = chain
            && let Some(found) = store.image_of(record, &chain).found
        {
            container.image.id = found.id;
            container.image.manifest = found.manifest;
            container.image.layers = found.layers;
        }
        container
    }

    fn described(
        &self,
        is_wanted: impl Fn(&Record) -> bool,
    ) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let (records, mut gaps) = self.records()?;
        let wanted = records
            .iter()
            .filter(|(_, record)| !is_of_docker(record) && is_wanted(record));
        let mut found: Vec<Container> = Vec::new();
        for (store, record) in wanted {
            found.push(self.container(store, record, &records, &mut gaps));
        }
        found.sort_by(|a, b| (&a.name, &a.id, &a.namespace).cmp(&(&b.name, &b.id, &b.namespace)));
        Ok((found, gaps))
    }

    /// Finds the record of a container that was described.
    fn record(&self, container: &Container) -> Result<(&Store, Record), RuntimeError> {
        let namespace = container.namespace.as_deref().unwrap_or_default();
        let mut outcome = Err(RuntimeError::Gone);
        for store in &self.stores {
            match store.ask(|metadata| metadata.container(namespace, container.id.as_str())) {
                Ok(Some(record)) => return Ok((store, record)),
                Ok(None) => {}
                // It may be in another one.
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Reads what a container is to run; what cannot be read of it is a gap.
    fn spec(&self, store: &Store, record: &Record, gaps: &mut Vec<Gap>) -> Spec {
        let spec = store.ask(|metadata| metadata.spec(&record.namespace, &record.id));
        let spec = match spec {
            Ok(Some(spec)) => Spec::decode(&spec),
            // That it is gone is told where it is looked for once more.
            Ok(None) => return Spec::default(),
            Err(error) => Err(error.to_string()),
        };
        spec.unwrap_or_else(|why| {
            gaps.push(Gap::new(record.id.as_str(), why));
            Spec::default()
        })
    }
}

impl Runtime for Containerd {
    fn describe(&self) -> String {
        let shown = |path: &Path| escape(path.as_os_str().as_bytes()).into_owned();
        let paths: Vec<String> = self
            .stores
            .iter()
            .map(|store| shown(store.path()))
            .collect();
        format!("containerd ({})", paths.join(", "))
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        self.described(|_| true)
    }

    fn images(&self) -> Result<(Vec<StoredImage>, Vec<Gap>), RuntimeError> {
        let mut gaps = Vec::new();
        let mut found = Vec::new();
        for store in &self.stores {
            let owner = |namespace: &str| match is_docker(namespace) {
                false => Some(images::Owner {
                    kind: RuntimeKind::Containerd,
                    between: Vec::new(),
                }),
                // Else Docker itself tells of them.
                true => self.is_alone.then(super::docker::owner),
            };
            match images::images(store, owner, &mut gaps) {
                Ok(images) => found.extend(images),
                // One that cannot be read keeps no other from being told.
                Err(error) if self.stores.len() > 1 => {
                    gaps.push(Gap::new("containerd", error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((found, gaps))
    }

    fn named(&self, name: &str) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let (mut found, gaps) = self.described(|record| may_be_called(record, name))?;
        if found.iter().any(|container| container.is_called(name)) {
            found.retain(|container| container.is_called(name));
        }
        Ok((found, gaps))
    }

    fn locate(&self, container: &Container, plain: bool) -> Result<Located, RuntimeError> {
        let (store, record) = self.record(container)?;
        if record.snapshot.is_empty() || record.snapshotter.is_empty() {
            return Err(RuntimeError::Unavailable(
                "its record names no snapshot: containerd did not make its rootfs, compare it with tree:IMAGE_DIR:CONTAINER_DIR".into(),
            ));
        }
        let chain = store.chain(&record.namespace, &record.snapshotter, &record.snapshot);
        let chain = chain.map_err(|error| match error {
            // The record goes before the snapshot: with the record there it is missing.
            RuntimeError::Gone if matches!(self.record(container), Ok((_, again)) if again == record) => {
                RuntimeError::Inconsistent(format!(
                    "its snapshot \"{}\" is missing",
                    excerpt(&record.snapshot)
                ))
            }
            error => error,
        })?;
        let key = (record.namespace.clone(), record.id.clone());
        self.compared
            .borrow_mut()
            .insert(key, chain.name().to_vec());
        let mut gaps = Vec::new();
        let known = state::known(store, &record);
        let mut places = vec![store.path()];
        places.extend(store.states.iter().flatten().map(|path| path.as_path()));
        let mounts = match known.pid {
            Some(_) => self.spec(store, &record, &mut gaps).expected(&places),
            None => Vec::new(),
        };
        let image = store.image_of(&record, &chain);
        let mut located = locate::locate(&Wanted {
            store,
            chain: &chain,
            image: &image,
            injected_paths: Vec::new(),
            pid: known.pid,
            mounts,
            plain,
        })?;
        located.gaps.extend(gaps);
        Ok(located)
    }

    fn runtime_paths(
        &self,
        container: &Container,
        stack: &LayerStack,
        _: &[Change],
    ) -> (Vec<RuntimePath>, Vec<Gap>) {
        let mut gaps = Vec::new();
        let Ok((store, record)) = self.record(container) else {
            // That it is gone is told where it is looked for once more.
            return (Vec::new(), gaps);
        };
        let mut unread = Vec::new();
        let mut paths = self.spec(store, &record, &mut unread).made();
        if container.pid.is_none() {
            // Else it was told where its layers were found.
            gaps.extend(unread);
        }
        paths.extend(locate::led(stack, &paths));
        (paths, gaps)
    }

    fn vanished(&self, container: &Container) -> Option<Gap> {
        let gap = |why: &str| Some(Gap::new(container.id.as_str(), why));
        let removed = "the container was removed during the check";
        let (store, record) = match self.record(container) {
            Ok(found) => found,
            Err(RuntimeError::Gone) => return gap(removed),
            Err(error) => return gap(&error.to_string()),
        };
        let key = (record.namespace.clone(), record.id.clone());
        match store.chain(&record.namespace, &record.snapshotter, &record.snapshot) {
            Ok(chain) => match self.compared.borrow().get(&key) {
                Some(name) if name.as_slice() != chain.name() => {
                    gap("the container was made anew during the check")
                }
                _ => None,
            },
            Err(RuntimeError::Gone) => gap(removed),
            Err(error) => gap(&error.to_string()),
        }
    }
}

/// Whether a container is one that Docker shows: it keeps its own record of it.
fn is_of_docker(record: &Record) -> bool {
    is_docker(&record.namespace)
        && (record.labels.contains_key(DOCKER_BUNDLE) || record.snapshot.is_empty())
}

/// Whether a namespace is called as those of Docker are.
fn is_docker(namespace: &str) -> bool {
    let name = namespace.strip_prefix("plugins.").unwrap_or(namespace);
    let rest = name.strip_prefix(OF_DOCKER);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Whether a container can be meant by a name: by its id or the beginning of it, with its namespace, or by
/// a name that somebody gave it.
fn may_be_called(record: &Record, name: &str) -> bool {
    let rest = name.strip_prefix(record.namespace.as_str());
    let in_namespace = rest.and_then(|rest| rest.strip_prefix('/'));
    !name.is_empty() && record.id.starts_with(in_namespace.unwrap_or(name))
        || in_namespace.is_some_and(|id| record.id == id)
        || record
            .labels
            .get(NERDCTL_NAME)
            .is_some_and(|label| label == name)
        || pod::pod(record, |_| None).is_some_and(|pod| pod.container.as_deref() == Some(name))
}

/// The beginning of what a record holds, to show.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    escape(bytes.get(..100).unwrap_or(bytes)).into_owned()
}
