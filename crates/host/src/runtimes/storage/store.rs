//! One store: what one storage driver keeps beneath one graph root.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plimsoll_core::model::{ContainerId, DiffId, escape};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::record::{self, ContainerRecord, ImageRecord, LayerRecord, Records, Spec};
use super::source::Graph;
use crate::fs::{Dir, RECORD_LIMIT, Stat};
use crate::runtimes::image_config::ImageConfig;
use crate::runtimes::image_manifest::sha256;
use crate::runtimes::lower::excerpt;

/// How often is looked for a specification that is being replaced, and how long is waited each time.
const SPEC_LOOKS: usize = 40;
const SPEC_WAIT: Duration = Duration::from_millis(5);

/// A store.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) graph: Rc<Graph>,
    /// The driver, whose name begins those of its directories.
    pub(super) driver: String,
    containers: Memo<Vec<ContainerRecord>>,
    layers: Memo<Layers>,
    images: Memo<Images>,
    configs: RefCell<HashMap<String, ImageLayers>>,
    /// Views of the directories that hold overlay layers, one for each place; `None` where none is
    /// needed, or can be had.
    views: RefCell<HashMap<Home, Option<Rc<Dir>>>>,
}

/// The layers that an image's configuration names, the base first, or why it cannot be used.
pub(super) type ImageLayers = Result<Rc<[DiffId]>, String>;

/// The layers of a store by their ids, each with the place that holds it.
pub(super) type Layers = HashMap<String, (LayerRecord, Home)>;

/// The images of a store by their ids, each with the place that holds it.
pub(super) type Images = HashMap<String, (ImageRecord, Home)>;

/// Which place holds something: 0 is the graph root, the others are image stores.
pub(super) type Home = usize;

/// What was read of files, with what the files were.
type Memo<T> = RefCell<Option<(Vec<Option<Stat>>, Rc<T>)>>;

impl Store {
    /// Returns the stores beneath a graph root: one for each driver that was ever used there.
    ///
    /// # Errors
    /// That of listing it.
    pub(super) fn all(graph: Graph) -> rustix::io::Result<Vec<Self>> {
        let graph = Rc::new(graph);
        let mut drivers = Vec::new();
        let mut reader = graph.dir.reader(0)?;
        while reader.next_portion(|name| {
            let driver = name.strip_suffix(b"-containers");
            let good =
                |name: &&[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric);
            if let Some(driver) = driver.filter(good) {
                drivers.push(String::from_utf8_lossy(driver).into_owned());
            }
        })? {}
        drivers.sort();
        let store = |driver| Self {
            graph: Rc::clone(&graph),
            driver,
            containers: Memo::default(),
            layers: Memo::default(),
            images: Memo::default(),
            configs: RefCell::default(),
            views: RefCell::default(),
        };
        Ok(drivers.into_iter().map(store).collect())
    }

    /// Returns the path of something beneath the graph root, to show.
    pub(super) fn show(&self, relative: &str) -> PathBuf {
        self.graph.path.join(relative)
    }

    /// Returns a place that holds images, and its path.
    pub(super) fn home(&self, home: Home) -> Option<(&Dir, &PathBuf)> {
        match home.checked_sub(1) {
            None => Some((&self.graph.dir, &self.graph.path)),
            Some(n) => self
                .graph
                .image_stores
                .get(n)
                .map(|(dir, path)| (dir, path)),
        }
    }

    /// Opens a directory of an overlay layer, beneath `overlay`. All of them are seen through one view, in
    /// which reading a link leaves no access time behind: each container has one, `/etc/mtab`.
    ///
    /// # Errors
    /// That of opening it.
    pub(super) fn overlay_dir(&self, home: Home, relative: &str) -> rustix::io::Result<Dir> {
        let (place, _) = self.home(home).ok_or(Errno::NOENT)?;
        let whole = format!("overlay/{relative}");
        let mut views = self.views.borrow_mut();
        let view = views.entry(home).or_insert_with(|| {
            let driver = place.open_beneath(b"overlay").ok()?;
            // Without one, what needs it says so.
            driver.view().unwrap_or_default().map(Rc::new)
        });
        let Some(view) = view else {
            return place.open_beneath(whole.as_bytes());
        };
        let dir = view.open_beneath(relative.as_bytes())?;
        // What is mounted over it is not in the view.
        match place.leads_to(whole.as_bytes(), &dir) {
            Ok(true) => Ok(dir),
            Ok(false) | Err(_) => place.open_beneath(whole.as_bytes()),
        }
    }

    fn homes(&self) -> impl Iterator<Item = (Home, &Dir)> {
        let others = self.graph.image_stores.iter().map(|(dir, _)| dir);
        std::iter::once(&self.graph.dir).chain(others).enumerate()
    }

    /// Returns the records of all containers.
    ///
    /// # Errors
    /// One clause that names the file.
    pub(super) fn containers(&self) -> Result<Rc<Vec<ContainerRecord>>, String> {
        let dir = format!("{}-containers", self.driver);
        let run = self.run_root();
        let files = [
            (Some(&self.graph.dir), format!("{dir}/containers.json")),
            (
                Some(&self.graph.dir),
                format!("{dir}/volatile-containers.json"),
            ),
            // With `transient_store`.
            (run.as_ref(), format!("{dir}/volatile-containers.json")),
        ];
        remembered(&self.containers, &files, |read| {
            let all = read.into_iter().flat_map(|(_, Records(records))| records);
            all.collect()
        })
    }

    /// Returns the layers.
    ///
    /// # Errors
    /// One clause that names the file.
    pub(super) fn layers(&self) -> Result<Rc<Layers>, String> {
        let dir = format!("{}-layers", self.driver);
        let run = self.run_root();
        let mut homes = vec![0, 0, 0];
        let mut files = vec![
            (Some(&self.graph.dir), format!("{dir}/layers.json")),
            (Some(&self.graph.dir), format!("{dir}/volatile-layers.json")),
            (run.as_ref(), format!("{dir}/volatile-layers.json")),
        ];
        for (home, place) in self.homes().skip(1) {
            homes.push(home);
            files.push((Some(place), format!("{dir}/layers.json")));
        }
        remembered(
            &self.layers,
            &files,
            |read: Vec<(usize, Records<LayerRecord>)>| {
                let mut layers = Layers::new();
                for (file, Records(records)) in read {
                    let home = homes.get(file).copied().unwrap_or_default();
                    for layer in records {
                        // Its own come before those of other stores (`storage/store.go`, `readAllLayerStores`).
                        layers.entry(layer.id.clone()).or_insert((layer, home));
                    }
                }
                layers
            },
        )
    }

    /// Returns the images.
    ///
    /// # Errors
    /// One clause that names the file.
    pub(super) fn images(&self) -> Result<Rc<Images>, String> {
        let file = format!("{}-images/images.json", self.driver);
        let files: Vec<_> = self
            .homes()
            .map(|(_, place)| (Some(place), file.clone()))
            .collect();
        remembered(
            &self.images,
            &files,
            |read: Vec<(usize, Records<ImageRecord>)>| {
                let mut images = Images::new();
                for (home, Records(records)) in read {
                    for image in records {
                        images.entry(image.id.clone()).or_insert((image, home));
                    }
                }
                images
            },
        )
    }

    /// Returns an image's layers, the base first, from its configuration, which is proved to be the one
    /// that the id names.
    ///
    /// # Errors
    /// One clause that says why it cannot be used.
    pub(super) fn image_layers(&self, image: &ImageRecord, home: Home) -> ImageLayers {
        if let Some(known) = self.configs.borrow().get(&image.id) {
            return known.clone();
        }
        let read = self.read_image_layers(image, home);
        let mut configs = self.configs.borrow_mut();
        configs.insert(image.id.clone(), read.clone());
        read
    }

    fn read_image_layers(&self, image: &ImageRecord, home: Home) -> ImageLayers {
        if !is_id(&image.id) {
            return Err("its id is not the digest of a configuration".into());
        }
        let (place, _) = self.home(home).ok_or("its store is gone")?;
        let file = big_data(&self.driver, &image.id, &format!("sha256:{}", image.id));
        let bytes = place
            .read_file(file.as_bytes(), RECORD_LIMIT)
            .map_err(|e| e.to_string())?;
        if sha256(&bytes).is_none_or(|actual| actual.hex() != image.id) {
            return Err("its SHA-256 is not the image id: the configuration was altered".into());
        }
        let config: ImageConfig = record::parse(&bytes)?;
        Ok(config.into_layers().into())
    }

    /// Reads the specification that the container was last started with; `None` where there is none.
    ///
    /// Podman takes the old one away before it writes a new one (`libpod/container_internal.go`,
    /// `saveSpec`): what just changed is waited for.
    ///
    /// # Errors
    /// One clause that says why it cannot be used.
    pub(super) fn spec(&self, id: &ContainerId) -> Result<Option<Spec>, String> {
        let dir = format!("{}-containers/{id}/userdata", self.driver);
        for _ in 0..SPEC_LOOKS {
            if let Ok(Some(spec)) = self.spec_now(&dir) {
                return Ok(Some(spec));
            }
            if !self.just_changed(&dir) {
                break;
            }
            std::thread::sleep(SPEC_WAIT);
        }
        self.spec_now(&dir)
    }

    fn spec_now(&self, dir: &str) -> Result<Option<Spec>, String> {
        let path = format!("{dir}/config.json");
        let bytes = match self.graph.dir.read_file(path.as_bytes(), RECORD_LIMIT) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(format!("{path}: {}", clause(&e))),
        };
        record::parse(&bytes)
            .map(Some)
            .map_err(|why| format!("{path}: {why}"))
    }

    /// Whether names came or went in a directory within the last second.
    fn just_changed(&self, dir: &str) -> bool {
        let opened = self.graph.dir.open_beneath(dir.as_bytes());
        let Ok(stat) = opened.and_then(|dir| dir.stat_self()) else {
            return false;
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0));
        (0..=1).contains(&(now - stat.ctime.seconds))
    }

    /// Opens the run root, where it is known and there.
    fn run_root(&self) -> Option<Dir> {
        let path = self.graph.run_root.as_ref()?;
        self.graph.open_named(path).ok()
    }
}

/// Returns where what an image has by a key lies (`storage/images.go`, `datapath`; `storage/store.go`,
/// `makeBigDataBaseName`).
pub(super) fn big_data(driver: &str, image: &str, key: &str) -> String {
    let is_plain = key
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.');
    let name = match is_plain {
        true => key.to_owned(),
        false => format!("={}", STANDARD.encode(key)),
    };
    format!("{driver}-images/{image}/{name}")
}

/// Reads the arrays in files, and makes of them what is wanted; or returns what was made of the very
/// files that are there. A file is replaced by renaming another over it, so that one file is one state.
/// Files that are not there are left out; each array is given with the number of its file.
fn remembered<T, R: DeserializeOwned>(
    memo: &Memo<T>,
    files: &[(Option<&Dir>, String)],
    make: impl FnOnce(Vec<(usize, Records<R>)>) -> T,
) -> Result<Rc<T>, String> {
    if let Some((seen, value)) = &*memo.borrow() {
        let unchanged = files
            .iter()
            .zip(seen)
            .all(|((dir, path), seen)| match (dir, seen) {
                (Some(dir), Some(seen)) => dir.is_still(path.as_bytes(), seen),
                (Some(dir), None) => !dir.has(path.as_bytes()),
                (None, _) => true,
            });
        if unchanged {
            return Ok(Rc::clone(value));
        }
    }
    let mut seen = Vec::with_capacity(files.len());
    let mut read = Vec::new();
    for (n, (dir, path)) in files.iter().enumerate() {
        let Some(dir) = dir else {
            seen.push(None);
            continue;
        };
        match dir.read_file_of(path.as_bytes(), RECORD_LIMIT) {
            Ok((bytes, file)) => {
                read.push((
                    n,
                    record::parse(&bytes).map_err(|why| format!("{path}: {why}"))?,
                ));
                seen.push(Some(file));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => seen.push(None),
            Err(e) => return Err(format!("{path}: {}", clause(&e))),
        }
    }
    let value = Rc::new(make(read));
    *memo.borrow_mut() = Some((seen, Rc::clone(&value)));
    Ok(value)
}

/// Says what an error of opening beneath the graph root means.
pub(super) fn clause(error: &std::io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::XDEV) => {
            "a link stands in its path, which containers/storage never makes".into()
        }
        Some(Errno::NOTDIR) => "not a directory, a link or a file stands there".into(),
        Some(Errno::NOENT) => "it is missing".into(),
        _ => error.to_string(),
    }
}

/// Returns a container's id; `None` for one in another form than runtimes make it. Its control group is
/// told by it, so that it must be one that is in no other name.
pub(super) fn container_id(text: &str) -> Option<ContainerId> {
    is_id(text).then(|| ContainerId::new(text.to_owned()))
}

/// Whether a text is 64 lower-case hexadecimal digits.
fn is_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Shows what a record holds in the place of an id.
pub(super) fn shown(text: &str) -> String {
    match text.len() {
        0..=100 => escape(text.as_bytes()).into_owned(),
        _ => excerpt(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_configuration_lies() {
        // As Podman 4.3 named the file of an image.
        assert_eq!(
            big_data(
                "overlay",
                "6acf92a99d015a828c4147f50bb7fb6f08cce7cdbb124b5273909413ccd7ebe7",
                "sha256:6acf92a99d015a828c4147f50bb7fb6f08cce7cdbb124b5273909413ccd7ebe7"
            )
            .rsplit('/')
            .next(),
            Some(
                "=c2hhMjU2OjZhY2Y5MmE5OWQwMTVhODI4YzQxNDdmNTBiYjdmYjZmMDhjY2U3Y2RiYjEyNGI1MjczOTA5NDEzY2NkN2ViZTc="
            )
        );
    }

    /// A graph root with these files, and one image store beside it.
    fn store(files: &[(&str, &str)]) -> (tempfile::TempDir, Store) {
        let top = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = top.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        let open = |path: &str| {
            let path = top.path().join(path);
            (Dir::open(&path).unwrap(), path)
        };
        let (dir, path) = open("graph");
        let graph = Graph {
            dir,
            path,
            user: None,
            owners: None,
            run_root: Some(top.path().join("run")),
            image_stores: vec![open("images")],
        };
        let mut stores = Store::all(graph).unwrap();
        assert_eq!(stores.len(), 1);
        (top, stores.remove(0))
    }

    const FILES: [(&str, &str); 8] = [
        (
            "graph/overlay-containers/containers.json",
            r#"[{"id":"a"}]"#,
        ),
        (
            "graph/overlay-containers/volatile-containers.json",
            r#"[{"id":"b"}]"#,
        ),
        (
            "run/overlay-containers/volatile-containers.json",
            r#"[{"id":"c"}]"#,
        ),
        (
            "graph/overlay-layers/layers.json",
            r#"[{"id":"l"},{"id":"both"}]"#,
        ),
        (
            "graph/overlay-layers/volatile-layers.json",
            r#"[{"id":"v","parent":"l"}]"#,
        ),
        (
            "images/overlay-layers/layers.json",
            r#"[{"id":"m"},{"id":"both","parent":"m"}]"#,
        ),
        ("graph/overlay-images/images.json", r#"[{"id":"i"}]"#),
        (
            "images/overlay-images/images.json",
            r#"[{"id":"i"},{"id":"j"}]"#,
        ),
    ];

    #[test]
    fn records_of_every_place() {
        let (top, store) = store(&FILES);
        let ids = |store: &Store| -> Vec<String> {
            let containers = store.containers().unwrap();
            containers.iter().map(|record| record.id.clone()).collect()
        };
        assert_eq!(ids(&store), ["a", "b", "c"]);
        let layers = store.layers().unwrap();
        let home = |id: &str| {
            layers
                .get(id)
                .map(|(layer, home)| (layer.parent.as_str(), *home))
        };
        assert_eq!(home("v"), Some(("l", 0)));
        assert_eq!(home("m"), Some(("", 1)));
        // Its own come first.
        assert_eq!(home("both"), Some(("", 0)));
        assert_eq!(store.images().unwrap().get("i").unwrap().1, 0);
        assert_eq!(store.images().unwrap().get("j").unwrap().1, 1);
        // What is replaced is read again, and what is not, is not.
        let before = store.containers().unwrap();
        assert!(Rc::ptr_eq(&before, &store.containers().unwrap()));
        let graph = top.path().join("graph/overlay-containers");
        std::fs::write(graph.join("new"), r#"[{"id":"d"}]"#).unwrap();
        std::fs::rename(graph.join("new"), graph.join("containers.json")).unwrap();
        std::fs::remove_file(graph.join("volatile-containers.json")).unwrap();
        assert_eq!(ids(&store), ["d", "c"]);
        std::fs::write(graph.join("volatile-containers.json"), "[{").unwrap();
        let told = store.containers().unwrap_err();
        assert!(
            told.starts_with("overlay-containers/volatile-containers.json: "),
            "{told}"
        );
    }
}
