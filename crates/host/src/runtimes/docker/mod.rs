//! Docker Engine, with its classic storage drivers and with the containerd image store.
//!
//! What is on disk is the source: it covers every state, with the daemon alive or dead. The process
//! table and the daemon are held against it, and what they contradict is a gap.

mod daemons;
mod disk;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod images;
mod injected;
mod layerdb;
mod live;
mod locate;
mod memo;
mod mounts;
mod names;
mod presence;
mod record;
mod several;
mod snapshots;
mod source;
mod state;

use std::num::NonZero;
use std::rc::Rc;

use plimsoll_core::model::{
    Change, Container, ContainerId, ExpectedMount, Gap, Image, RuntimeKind, RuntimePath, escape,
};

use self::disk::{DataRoot, RecordError};
use self::live::ApiError;
use self::locate::{Driver, Wanted};
use self::memo::Chain;
use self::presence::Presence;
use self::record::{HostConfig, Record};
pub use self::several::Dockers;
use self::snapshots::{Snapshots, Storage};
use self::source::{Daemon, Source};
use super::containerd::images::Owner;
use super::find::Sources;
use super::lower::excerpt;
use super::made;
use super::{Located, Runtime, RuntimeError};
use crate::layers::LayerStack;
use crate::layers::stored::StoredImage;

/// Returns whose images those are that containerd keeps for Docker.
pub(super) fn owner() -> Owner {
    Owner {
        kind: RuntimeKind::Docker,
        between: injected::init_layer(),
    }
}

/// Docker on this machine, or on a mounted disk.
#[derive(Debug)]
pub struct Docker {
    source: Source,
    snapshots: Snapshots,
    /// How many threads may read records.
    jobs: Option<NonZero<usize>>,
}

impl Docker {
    /// Finds Docker's data root, and the daemon if there is one to be asked. With `name` a container of
    /// this name or id is all that is asked for.
    ///
    /// A data root that is given is used alone, unless a socket is given as well. Else the daemon is
    /// asked where its data root is; else `/etc/docker/daemon.json` says it; else it is
    /// `/var/lib/docker`.
    ///
    /// # Errors
    /// [`RuntimeError::Absent`] when nothing was said and there is no Docker;
    /// [`RuntimeError::Unavailable`] when its data root cannot be used, or a socket that was given does
    /// not answer; the text says the way out.
    pub fn find(sources: &Sources, name: Option<&str>) -> Result<Self, RuntimeError> {
        let source = source::find(sources, name)?;
        Ok(Self {
            snapshots: Snapshots::of(sources.root.as_deref()),
            source,
            jobs: sources.jobs,
        })
    }

    /// Reads one container with this record, or nothing when it went away meanwhile.
    fn container(
        &self,
        root: &DataRoot,
        id: &ContainerId,
        record: Result<Rc<Record>, RecordError>,
        gaps: &mut Vec<Gap>,
    ) -> Result<Option<(Container, Rc<Record>)>, RecordError> {
        let record = match record {
            Err(RecordError::Absent) if !root.has(id)? => return Ok(None),
            Err(RecordError::Absent) => {
                return Err(RecordError::Broken("config.v2.json is missing".into()));
            }
            other => other?,
        };
        let known = state::known(&record, id, self.source.local);
        gaps.extend(known.gap);
        // Told again, and more exactly, when the container is located.
        let (image, layers) = match Storage::of(&record) {
            Storage::Graph(driver) => {
                let layers = layers(root, driver, id, &record);
                let layers = layers.map_or_else(|_| Vec::new(), |l| l.chain.diff_ids.to_vec());
                (record.image_id(), layers)
            }
            // There the record names another thing than the configuration.
            Storage::Snapshots(of) => self.snapshots.image(root, id, of, &record),
        };
        let name = bare(&record.name);
        let config = record.config.as_ref();
        let container = Container {
            name: (!name.is_empty()).then(|| escape(name.as_bytes()).into_owned()),
            state: known.state,
            image: Image {
                reference: config
                    .map(|config| config.image.as_str())
                    .filter(|reference| !reference.is_empty())
                    .map(Into::into),
                id: image,
                manifest: record.manifest.as_ref().map(|manifest| manifest.digest),
                layers,
            },
            pid: known.pid,
            ..Container::new(id.clone(), RuntimeKind::Docker)
        };
        Ok(Some((container, record)))
    }

    /// Whether a container of this id has a record here.
    fn has(&self, id: &ContainerId) -> bool {
        let mut roots = self.source.roots.iter();
        roots.any(|root| root.has(id).is_ok_and(|has| has))
    }

    /// Returns the data root that holds a container.
    fn root_of(&self, id: &ContainerId) -> Result<&DataRoot, RuntimeError> {
        if let [root] = self.source.roots.as_slice() {
            // What is not in it is told where it is read.
            return Ok(root);
        }
        for root in &self.source.roots {
            match root.has(id) {
                Ok(true) => return Ok(root),
                Ok(false) => {}
                Err(error) => return Err(inconsistent(error)),
            }
        }
        Err(RuntimeError::Gone)
    }

    /// Holds the containers found against those that the daemon lists.
    fn compare_lists(&self, found: &[(Container, String)], gaps: &mut Vec<Gap>) {
        let Some(Daemon { api, storage, .. }) = &self.source.daemon else {
            return;
        };
        let listed = match api.list() {
            Ok(listed) => listed,
            Err(error) => {
                gaps.push(Gap::new("docker", api.explain(&error)));
                return;
            }
        };
        for container in &listed {
            let known = found.iter().any(|(c, _)| c.id.as_str() == container.id);
            // It may have been made, or be broken and told of, since the directory was read.
            let told = gaps
                .iter()
                .any(|gap| gap.what.as_bytes() == container.id.as_bytes());
            if !known && !told && api.has(&container.id) {
                gaps.push(Gap::new(
                    container.id.as_str(),
                    "the daemon has this container, its data root does not",
                ));
            }
        }
        for (container, driver) in found {
            // A daemon knows nothing of containers of a storage driver that it does not use.
            let is_listed = listed.iter().any(|l| l.id == container.id.as_str());
            if !is_listed
                && driver == storage
                && !matches!(self.presence(&container.id), Presence::Leaving)
            {
                gaps.push(gap_of(
                    &container.id,
                    "its data root has this container, the daemon does not",
                ));
            }
        }
    }

    /// Holds what the records say of one container against what the daemon says.
    fn compare_record(&self, root: &DataRoot, container: &Container, mount: &str) -> Vec<Gap> {
        let Some(Daemon {
            api, storage, told, ..
        }) = &self.source.daemon
        else {
            return Vec::new();
        };
        let mut gaps = Vec::new();
        // The container may change between the two questions: then they are asked again.
        for last in [false, true] {
            gaps.clear();
            let record = match root.record(&container.id) {
                Ok(record) if record.driver == *storage => record,
                _ => return gaps,
            };
            let first = told.take().filter(|told| told.id == container.id.as_str());
            let answer = first.map_or_else(|| api.inspect(container.id.as_str()), Ok);
            let told = match answer {
                Ok(told) => told,
                Err(ApiError::Status(404, _)) if !last => continue,
                Err(error) => {
                    gaps.push(Gap::new("docker", api.explain(&error)));
                    continue;
                }
            };
            let state = state::known(&record, &container.id, self.source.local).state;
            if told.state.status != state.as_str() {
                gaps.push(contradiction("state", state.as_str(), &told.state.status));
            }
            if told.image != record.image {
                gaps.push(contradiction("image", &record.image, &told.image));
            }
            if let Some(upper) = told.upper_dir()
                && !upper.ends_with(&format!("/{mount}/diff"))
            {
                gaps.push(contradiction("writable layer", mount, upper));
            }
            if gaps.is_empty() {
                break;
            }
        }
        gaps
    }
}

impl Runtime for Docker {
    fn describe(&self) -> String {
        use std::os::unix::ffi::OsStrExt as _;
        let roots = &self.source.roots;
        let paths: Vec<_> = roots
            .iter()
            .map(|root| escape(root.path().as_os_str().as_bytes()).into_owned())
            .collect();
        format!("docker ({})", paths.join(", "))
    }

    fn places(&self) -> Vec<String> {
        let asked = match &self.source.daemon {
            Some(daemon) => format!("asked at {}", daemon.api.shown()),
            None if self.source.local => "by its records alone: no daemon is asked".into(),
            None => "by its records alone".into(),
        };
        vec![format!("{}, {asked}", self.describe())]
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        let mut gaps = self.source.gaps.clone();
        let mut found = Vec::new();
        for root in &self.source.roots {
            let (ids, others) = root.container_ids().map_err(inconsistent)?;
            gaps.extend(others.into_iter().map(stray));
            let records = root.records(&ids, self.jobs);
            for (id, record) in ids.into_iter().zip(records) {
                match self.container(root, &id, record, &mut gaps) {
                    Ok(Some((container, record))) => {
                        found.push((container, record.driver.clone()));
                    }
                    Ok(None) => {}
                    Err(RecordError::Absent) => gaps.push(gap_of(&id, "the record is missing")),
                    Err(RecordError::Broken(why)) => gaps.push(gap_of(&id, &why)),
                }
            }
        }
        self.compare_lists(&found, &mut gaps);
        found.sort_by(|(a, _), (b, _)| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok((
            found.into_iter().map(|(container, _)| container).collect(),
            gaps,
        ))
    }

    fn named(&self, name: &str) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        self.meant_by(name)
    }

    fn images(&self) -> Result<(Vec<StoredImage>, Vec<Gap>), RuntimeError> {
        let mut gaps = self.source.gaps.clone();
        let mut found = Vec::new();
        for root in &self.source.roots {
            found.extend(images::images(root, &mut gaps));
            found.extend(self.snapshots.images(root, &mut gaps));
        }
        Ok((found, gaps))
    }

    fn locate(&self, container: &Container, plain: bool) -> Result<Located, RuntimeError> {
        let id = &container.id;
        let root = self.root_of(id)?;
        // What is missing from a container that is being removed is no contradiction.
        let failed = |error| match self.presence(id) {
            Presence::Leaving => RuntimeError::Gone,
            Presence::Here | Presence::Unknown(_) => inconsistent(error),
        };
        let record = root.record(id).map_err(failed)?;
        let driver = match Storage::of(&record) {
            Storage::Graph(driver) if plain || driver != Driver::Vfs => driver,
            Storage::Graph(driver) => {
                return Err(RuntimeError::UnsupportedDriver {
                    driver: driver.as_str().into(),
                });
            }
            Storage::Snapshots(of) => {
                return self.in_snapshots(root, container, of, &record, plain);
            }
        };
        let layers = layers(root, driver, id, &record).map_err(failed)?;
        let mount =
            layerdb::mount_layers(root, driver.as_str(), id, &layers.chain).map_err(failed)?;
        let pid = state::process(&record, container, self.source.local);
        let mut gaps = Vec::new();
        let wanted = Wanted {
            root,
            layers: &mount,
            pid,
            mounts: expected_mounts(root, id, &record, pid, &mut gaps),
        };
        let mut located = locate::locate(driver, &wanted).map_err(failed)?;
        located.gaps.extend(gaps);
        located.gaps.extend(layers.gap);
        located
            .gaps
            .extend(self.compare_record(root, container, mount.mount.as_str()));
        Ok(located)
    }

    fn further_mounts(&self, container: &Container, stack: &LayerStack) -> Vec<ExpectedMount> {
        let id = &container.id;
        let Ok(root) = self.root_of(id) else {
            // That it is gone is told where it is looked for once more.
            return Vec::new();
        };
        // Told where its layers were found.
        let host = root.host_config(id).unwrap_or_default();
        locate::mounts_led(root, stack, &mounts::init_program(&host))
    }

    fn runtime_paths(
        &self,
        container: &Container,
        stack: &LayerStack,
        changes: &[Change],
    ) -> (Vec<RuntimePath>, Vec<Gap>) {
        let mut gaps = Vec::new();
        let id = &container.id;
        let Ok(root) = self.root_of(id) else {
            // That it is gone is told where it is looked for once more.
            return (Vec::new(), gaps);
        };
        let Ok(record) = root.record(id) else {
            return (Vec::new(), gaps);
        };
        let host = match container.pid {
            // Told where its layers were found.
            Some(_) => root.host_config(id).unwrap_or_default(),
            None => host_config(root, id, &mut gaps),
        };
        let mut paths = injected::made_by_runtime(&record, &host);
        // Where links lead is looked for only if something could be explained by it.
        if changes.iter().any(made::may_be_made) {
            paths.extend(locate::led(root, stack, &paths));
        }
        (paths, gaps)
    }

    fn vanished(&self, container: &Container) -> Option<Gap> {
        if self.is_as_compared(&container.id) {
            return None;
        }
        match self.presence(&container.id) {
            Presence::Here => None,
            Presence::Leaving => Some(gap_of(
                &container.id,
                "the container was removed during the check",
            )),
            Presence::Unknown(why) => Some(gap_of(&container.id, &why)),
        }
    }
}

/// An image's layers, and what is wrong with how they are known.
struct Layers {
    chain: Rc<Chain>,
    gap: Option<Gap>,
}

/// Returns the layers of the image that a container was created from.
///
/// Docker forgets an image's configuration when the image is removed with force, and keeps the
/// layers while a container lies on them: then the layer database alone names them.
fn layers(
    root: &DataRoot,
    driver: Driver,
    id: &ContainerId,
    record: &Record,
) -> Result<Layers, RecordError> {
    let image = record.image_id().ok_or_else(|| {
        RecordError::Broken(format!(
            "its image is \"{}\", which is no image id",
            excerpt(record.image.as_bytes())
        ))
    })?;
    let why = match root.image_layers(driver.as_str(), &image) {
        Ok(chain) => return Ok(Layers { chain, gap: None }),
        Err(RecordError::Absent) => "is gone".into(),
        Err(RecordError::Broken(why)) => format!("cannot be used, {why}"),
    };
    let diff_ids = layerdb::diff_ids_of_mount(root, driver.as_str(), id)?;
    let gap = Gap::new(
        image.to_string().as_str(),
        format!(
            "the configuration of the image {why}: its layers are those that the layer database names"
        ),
    );
    Ok(Layers {
        chain: Rc::new(Chain::of(diff_ids)),
        gap: Some(gap),
    })
}

/// Returns the mounts of a container while it runs.
fn expected_mounts(
    root: &DataRoot,
    id: &ContainerId,
    record: &Record,
    pid: Option<u32>,
    gaps: &mut Vec<Gap>,
) -> Vec<ExpectedMount> {
    if pid.is_none() {
        return Vec::new();
    }
    let host = host_config(root, id, gaps);
    mounts::expected(root.path(), record, &host)
}

/// Returns what the host was asked to do for a container; what cannot be read of it is a gap.
fn host_config(root: &DataRoot, id: &ContainerId, gaps: &mut Vec<Gap>) -> HostConfig {
    match root.host_config(id) {
        Ok(host) => host,
        Err(RecordError::Absent) => HostConfig::default(),
        Err(RecordError::Broken(why)) => {
            gaps.push(gap_of(id, &format!("hostconfig.json: {why}")));
            HostConfig::default()
        }
    }
}

/// Returns a name as people give it: records have it with a slash before it.
fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// The gap for what lies among the records of containers and is none.
fn stray(name: Vec<u8>) -> Gap {
    Gap::new(
        name,
        "lies among the records of containers and does not have the name of one",
    )
}

fn gap_of(id: &ContainerId, why: &str) -> Gap {
    Gap::new(id.as_str(), why)
}

fn contradiction(what: &str, record: &str, daemon: &str) -> Gap {
    Gap::new(
        what,
        format!(
            "the records say {}, the daemon says {}",
            excerpt(record.as_bytes()),
            excerpt(daemon.as_bytes())
        ),
    )
}

fn inconsistent(error: RecordError) -> RuntimeError {
    RuntimeError::Inconsistent(match error {
        RecordError::Absent => "the layer database does not have it".into(),
        RecordError::Broken(why) => why,
    })
}
