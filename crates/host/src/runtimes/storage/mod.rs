//! containers/storage: the store of Podman, Buildah and CRI-O.
//!
//! The records on disk are the source: they cover every state, and there may be no daemon to ask. The
//! process table tells what runs, and what it contradicts is a gap.

mod chain;
mod composefs;
mod conf;
mod copies;
mod fuse;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod images;
mod injected;
mod locate;
mod manifests;
mod mounts;
mod pods;
mod record;
mod source;
mod state;
mod store;
mod user_ids;

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::rc::Rc;

use plimsoll_core::model::{
    Change, Container, ContainerId, Gap, Image, RuntimeKind, RuntimePath, escape,
};

use self::injected::{Owner, ROOT};
use self::locate::Wanted;
use self::record::{ContainerRecord, Spec};
pub(super) use self::source::MARK;
use self::store::{Store, container_id, shown};
use super::find::Sources;
use super::links::followed;
use super::lower::LayerName;
use super::{Located, Runtime, RuntimeError};
use crate::fs::Dir;
use crate::layers::LayerStack;
use crate::layers::stored::StoredImage;

/// The stores on this machine, or on a mounted disk.
#[derive(Debug)]
pub struct Storage {
    stores: Vec<Store>,
    /// Whether processes of the containers are on this machine.
    local: bool,
    gaps: Vec<Gap>,
    /// The graph roots, to show.
    paths: Vec<PathBuf>,
    /// Only containers of this runtime, when given.
    only: Option<RuntimeKind>,
}

impl Storage {
    /// Finds the stores: the one that `--data-root` names; else that of the system, where
    /// `/etc/containers/storage.conf` or the default says, and those of users.
    ///
    /// # Errors
    /// [`RuntimeError::Absent`] when there is none; [`RuntimeError::Unavailable`] when what was named
    /// cannot be used, or none can be read; the text says the way out.
    pub fn find(sources: &Sources) -> Result<Self, RuntimeError> {
        let found = source::find(sources)?;
        let mut gaps = found.gaps;
        let mut stores = Vec::new();
        let mut paths = Vec::new();
        for graph in found.graphs {
            let path = graph.path.clone();
            paths.push(path.clone());
            match Store::all(graph) {
                Ok(all) => stores.extend(all),
                Err(errno) => {
                    let path = path.as_os_str().as_bytes();
                    gaps.push(Gap::new(path, std::io::Error::from(errno).to_string()));
                }
            }
        }
        Ok(Self {
            stores,
            local: found.local,
            gaps,
            paths,
            only: sources.runtime,
        })
    }

    /// Returns the containers of which the records are `wanted`, and what could not be read.
    fn all(&self, wanted: &dyn Fn(&ContainerRecord) -> bool) -> (Vec<Container>, Vec<Gap>) {
        let mut gaps = self.gaps.clone();
        let mut found: Vec<Container> = Vec::new();
        let mut seen = HashSet::new();
        for store in &self.stores {
            let records = match store.containers() {
                Ok(records) => records,
                Err(why) => {
                    let path = store.graph.path.as_os_str().as_bytes();
                    gaps.push(Gap::new(path, why));
                    continue;
                }
            };
            let by_id = records.iter().map(|record| (record.id.as_str(), record));
            let by_id: HashMap<_, _> = by_id.collect();
            for record in records.iter().filter(|record| wanted(record)) {
                let Some(id) = container_id(&record.id) else {
                    let why = "a record of a container has this in the place of an id";
                    gaps.push(Gap::new(shown(&record.id).as_str(), why));
                    continue;
                };
                if !seen.insert((id.clone(), store.graph.user)) {
                    gaps.push(gap_of(&id, "there are two records of this container"));
                    continue;
                }
                found.push(self.container(store, &by_id, record, id, &mut gaps));
            }
        }
        found.retain(|one| self.only.is_none_or(|only| one.runtime == only));
        found.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        (found, gaps)
    }

    fn container(
        &self,
        store: &Store,
        by_id: &HashMap<&str, &ContainerRecord>,
        record: &ContainerRecord,
        id: ContainerId,
        gaps: &mut Vec<Gap>,
    ) -> Container {
        let metadata = record.metadata();
        let spec = store.spec(&id);
        let known = state::known(store, record, &id, &spec, self.local);
        gaps.extend(known.gap);
        let runtime = match metadata.is_of_crio() {
            true => RuntimeKind::CriO,
            false => RuntimeKind::Podman,
        };
        let name = record.names().first();
        let pod = pods::pod(
            &metadata,
            by_id,
            spec.as_ref().ok().and_then(Option::as_ref),
        );
        Container {
            name: name.map(|name| escape(name.as_bytes()).into_owned()),
            user: store.graph.user,
            pod,
            state: known.state,
            image: image(store, record, &metadata.image_name),
            pid: known.pid,
            ..Container::new(id, runtime)
        }
    }

    /// Returns the store that holds a container, and its record.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when none does (any more).
    fn record(&self, container: &Container) -> Result<(&Store, Found), RuntimeError> {
        for store in &self.stores {
            if store.graph.user != container.user {
                continue;
            }
            let records = store.containers().map_err(RuntimeError::Inconsistent)?;
            let id = container.id.as_str();
            if let Some(at) = records.iter().position(|record| record.id == id) {
                return Ok((store, Found { records, at }));
            }
        }
        Err(RuntimeError::Gone)
    }

    /// Looks whether a container is still there, record and layers.
    fn presence(&self, container: &Container) -> Presence {
        let (store, found) = match self.record(container) {
            Ok(found) => found,
            Err(RuntimeError::Gone) => return Presence::Gone,
            Err(error) => return Presence::Unknown(error.to_string()),
        };
        let layers = match store.layers() {
            Ok(layers) => layers,
            Err(why) => return Presence::Unknown(why),
        };
        match found.get().map(|record| chain::chain(&layers, record)) {
            Some(Ok(_)) => Presence::Here,
            Some(Err(why)) => Presence::Unknown(why),
            None => Presence::Gone,
        }
    }
}

/// The record of a container, among all of them.
struct Found {
    records: Rc<Vec<ContainerRecord>>,
    at: usize,
}

impl Found {
    fn get(&self) -> Option<&ContainerRecord> {
        self.records.get(self.at)
    }
}

/// Whether a container is (still) there.
#[derive(Debug)]
enum Presence {
    /// It is.
    Here,
    /// It is not.
    Gone,
    /// Its records do not tell, and why: it may be being removed.
    Unknown(String),
}

impl Runtime for Storage {
    fn describe(&self) -> String {
        let paths = self.paths.iter();
        let paths: Vec<_> = paths
            .map(|path| escape(path.as_os_str().as_bytes()).into_owned())
            .collect();
        format!("podman and cri-o ({})", paths.join(", "))
    }

    fn images(&self) -> Result<(Vec<StoredImage>, Vec<Gap>), RuntimeError> {
        let mut gaps = self.gaps.clone();
        let stores = self.stores.iter();
        let images = stores.flat_map(|store| images::images(store, &mut gaps));
        Ok((images.collect(), gaps))
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        Ok(self.all(&|_| true))
    }

    fn named(&self, name: &str) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let exactly = |record: &ContainerRecord| {
            record.id == name || record.names().iter().any(|own| own == name)
        };
        let (exact, gaps) = self.all(&exactly);
        if !exact.is_empty() || name.is_empty() {
            return Ok((exact, gaps));
        }
        Ok(self.all(&|record| record.id.starts_with(name)))
    }

    fn locate(&self, container: &Container, plain: bool) -> Result<Located, RuntimeError> {
        let (store, found) = self.record(container)?;
        let record = found.get().ok_or(RuntimeError::Gone)?;
        // What is missing from a container that was removed meanwhile is no contradiction.
        let failed = |error| match self.presence(container) {
            Presence::Gone => RuntimeError::Gone,
            Presence::Here | Presence::Unknown(_) => error,
        };
        let inconsistent = |why| failed(RuntimeError::Inconsistent(why));
        let layers = store.layers().map_err(inconsistent)?;
        let mut chain = chain::chain(&layers, record).map_err(inconsistent)?;
        let known = chain::known(store, record, &mut chain);
        let spec = store.spec(&container.id);
        let state = state::known(store, record, &container.id, &spec, self.local);
        let mut gaps = known.gaps;
        let mounts = match (state.pid, &spec) {
            (Some(_), Ok(Some(spec))) => expected_mounts(store, &container.id, spec),
            (Some(_), Ok(None)) => {
                gaps.push(gap_of(&container.id, "it runs, and has no specification"));
                Vec::new()
            }
            (Some(_), Err(why)) => {
                gaps.push(gap_of(&container.id, why));
                Vec::new()
            }
            (None, _) => Vec::new(),
        };
        let wanted = Wanted {
            store,
            record,
            chain: &chain,
            pid: state.pid,
            mounts,
        };
        let mut located = locate::locate(&wanted, plain).map_err(failed)?;
        located.gaps.extend(gaps);
        Ok(located)
    }

    fn runtime_paths(
        &self,
        container: &Container,
        stack: &LayerStack,
        _: &[Change],
    ) -> (Vec<RuntimePath>, Vec<Gap>) {
        // That it is gone is told where it is looked for once more.
        let Ok((store, found)) = self.record(container) else {
            return Default::default();
        };
        let Some(record) = found.get() else {
            return Default::default();
        };
        let spec = match store.spec(&container.id) {
            Ok(spec) => spec.unwrap_or_default(),
            Err(why) => return (Vec::new(), vec![gap_of(&container.id, &why)]),
        };
        let root = root_of(store, record);
        let user = spec.process.as_ref().map(|process| process.user);
        let user = match store.graph.user {
            None => user.map_or(ROOT, |user| Owner {
                uid: user.uid,
                gid: user.gid,
            }),
            // Which id another user of the namespace is, the records do not say.
            Some(_) => root,
        };
        let mut paths = injected::made_by_runtime(&spec, root, user);
        paths.extend(led(store, stack, &paths));
        paths.extend(injected::root_directory(stack, root));
        (paths, Vec::new())
    }

    fn vanished(&self, container: &Container) -> Option<Gap> {
        match self.presence(container) {
            Presence::Here => None,
            Presence::Gone => Some(gap_of(
                &container.id,
                "the container was removed during the check",
            )),
            Presence::Unknown(why) => Some(gap_of(&container.id, &why)),
        }
    }
}

/// What is known of the image that a container was made from. What is wrong with it is told where its
/// layers are located.
fn image(store: &Store, record: &ContainerRecord, reference: &str) -> Image {
    let images = store.images().ok();
    let found = images.as_ref().and_then(|images| images.get(&record.image));
    let proved = found.and_then(|(image, home)| store.image_layers(image, *home).ok());
    let of_records = || {
        let mut chain = chain::chain(&*store.layers().ok()?, record).ok()?;
        Some(chain::known(store, record, &mut chain).ids)
    };
    Image {
        reference: (!reference.is_empty()).then(|| reference.into()),
        id: proved
            .as_ref()
            .and_then(|_| format!("sha256:{}", record.image).parse().ok()),
        manifest: found.and_then(|(image, _)| image.digest.as_ref()?.parse().ok()),
        layers: match proved {
            Some(layers) => layers.to_vec(),
            None => of_records().unwrap_or_default(),
        },
    }
}

/// Returns the mounts that the specification accounts for.
fn expected_mounts(
    store: &Store,
    id: &ContainerId,
    spec: &Spec,
) -> Vec<plimsoll_core::model::ExpectedMount> {
    let relative = format!("{}-containers/{id}/userdata", store.driver);
    let own = store.show(&relative);
    let mut dirs = vec![own.as_path()];
    let run = state::run_dirs(store, id, Some(spec));
    dirs.extend(run.iter().map(|dir| dir.path.as_path()));
    mounts::expected(spec, &dirs)
}

/// Returns who is root in a container, as on disk.
fn root_of(store: &Store, record: &ContainerRecord) -> Owner {
    if let Some(user) = store.graph.user {
        // The directory around a container's own layer is given to its root, and is in no container.
        let overlay = store.graph.dir.open_beneath(b"overlay");
        let own = overlay.and_then(|overlay| match LayerName::parse(record.layer.as_bytes()) {
            Some(name) => overlay.stat(name.as_str().as_bytes()),
            None => overlay.stat_self(),
        });
        let own = own.or_else(|_| store.graph.dir.stat_self());
        return own.map_or(
            Owner {
                uid: user,
                gid: user,
            },
            |stat| Owner {
                uid: stat.uid,
                gid: stat.gid,
            },
        );
    }
    if fuse::maps(store, record) {
        return ROOT;
    }
    let first = |map: &[record::IdMapping]| {
        let root = map.iter().find(|range| range.container_id == 0);
        root.map_or(0, |range| range.host_id)
    };
    record.id_maps().map_or(ROOT, |(users, groups)| Owner {
        uid: first(users),
        gid: first(groups),
    })
}

/// Returns the paths that `made` become as the links of the image lead them: there they are made.
fn led(store: &Store, stack: &LayerStack, made: &[RuntimePath]) -> Vec<RuntimePath> {
    match stack {
        LayerStack::Overlay(stack) => {
            let layers: Vec<&Dir> = stack.image.iter().map(|layer| &*layer.dir).collect();
            followed(made, &layers)
        }
        LayerStack::Btrfs(stack) => {
            let relative = stack.image.path.strip_prefix(&store.graph.path);
            let opened = relative.ok().and_then(|path| {
                store
                    .graph
                    .dir
                    .open_beneath(path.as_os_str().as_bytes())
                    .ok()
            });
            opened.map_or_else(Vec::new, |image| followed(made, &[&image]))
        }
        LayerStack::Plain(stack) => followed(made, &[&stack.image.dir]),
    }
}

fn gap_of(id: &ContainerId, why: &str) -> Gap {
    Gap::new(id.as_str(), why)
}
