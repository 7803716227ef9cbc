//! Which stores there are: the system's, those of users, or the one that was named.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_core::model::{Bytes, Gap, escape};
use rustix::io::Errno;

use super::conf::{self, Conf, User};
use super::user_ids;
use crate::fs::{Dir, Owners, RECORD_LIMIT};
use crate::runtimes::RuntimeError;
use crate::runtimes::find::Sources;

/// Where the configuration may be, beneath `/` or the root of a mounted disk; the first that is there.
const CONFS: [&str; 2] = [
    "etc/containers/storage.conf",
    "usr/share/containers/storage.conf",
];

/// The graph root unless configured otherwise, beneath the same.
const GRAPH_ROOT: &str = "var/lib/containers/storage";

/// The run root unless configured otherwise.
const RUN_ROOT: &str = "/run/containers/storage";

/// Where a user's store and configuration are, beneath the home directory.
const USER_GRAPH_ROOT: &str = ".local/share/containers/storage";
const USER_CONF: &str = ".config/containers/storage.conf";

/// Most users who are looked at.
const USERS_MAX: usize = 10_000;

/// What every store makes at its top (`storage/store.go`, `newStore`): the mark of a graph root.
pub(in crate::runtimes) const MARK: &str = "storage.lock";

/// The directory that holds a store.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) dir: Dir,
    pub(super) path: PathBuf,
    /// The user whose store it is, where that is not root.
    pub(super) user: Option<u32>,
    /// The map from owners on disk to those in the namespace of that user, or why it is not known.
    pub(super) owners: Option<Result<Arc<Owners>, String>>,
    /// Where what lasts until the machine is switched off lies, on this machine.
    pub(super) run_root: Option<PathBuf>,
    /// Stores that its images may lie in.
    pub(super) image_stores: Vec<(Dir, PathBuf)>,
}

impl Graph {
    /// Opens a directory that a record of this store names by its path on this machine. What a user
    /// wrote must not lead elsewhere by a link.
    pub(super) fn open_named(&self, path: &Path) -> rustix::io::Result<Dir> {
        match self.user {
            None => Dir::open(path),
            Some(_) => beneath(&Dir::open(Path::new("/"))?, path),
        }
    }
}

/// What containers are looked for with.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) graphs: Vec<Graph>,
    /// Whether processes of the containers are on this machine.
    pub(super) local: bool,
    /// What could not be seen on the way.
    pub(super) gaps: Vec<Gap>,
}

/// A file system as the operator names it: this machine's, or a mounted disk, of which no link may lead
/// to this machine's own files.
#[derive(Debug)]
struct Disk {
    path: PathBuf,
    offline: Option<Dir>,
}

impl Disk {
    fn open(root: Option<&Path>) -> Result<Self, RuntimeError> {
        let path = root.unwrap_or(Path::new("/")).to_owned();
        let offline = root.map(Dir::open).transpose().map_err(|errno| {
            RuntimeError::Unavailable(format!("{}: {}", shown(&path), std::io::Error::from(errno)))
        })?;
        Ok(Self { path, offline })
    }

    /// Opens a directory by a path of that file system.
    fn dir(&self, path: &Path) -> rustix::io::Result<Dir> {
        match &self.offline {
            Some(disk) => beneath(disk, path),
            None => Dir::open(path),
        }
    }

    /// The same with no link followed on this machine either: a path that a user wrote.
    fn dir_of_user(&self, path: &Path) -> rustix::io::Result<Dir> {
        match &self.offline {
            Some(disk) => beneath(disk, path),
            None => beneath(&Dir::open(Path::new("/"))?, path),
        }
    }

    /// Reads a file; `None` where there is none.
    fn read(&self, relative: &str) -> Result<Option<Vec<u8>>, String> {
        let bytes = match &self.offline {
            Some(disk) => disk.read_file(relative.as_bytes(), RECORD_LIMIT),
            None => crate::fs::read_small_bytes(Path::new("/").join(relative)),
        };
        match bytes {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if is_missing(&e) => Ok(None),
            Err(e) => Err(format!("{}: {e}", shown(&self.path.join(relative)))),
        }
    }

    /// Returns a path of that file system as it is on this machine, to show.
    fn show(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Returns the map of the ids that a user gives to containers.
    fn owners(&self, user: &User) -> Result<Arc<Owners>, String> {
        let read = |file| Ok::<_, String>(self.read(file)?.unwrap_or_default());
        let (users, groups) = (read("etc/subuid")?, read("etc/subgid")?);
        user_ids::owners(user, &users, &groups).map(Arc::new)
    }

    /// Reads the configuration of the system.
    fn conf(&self) -> Result<Conf, String> {
        for file in CONFS {
            if let Some(bytes) = self.read(file)? {
                let path = self.path.join(file);
                return conf::parse(&bytes).map_err(|why| format!("{}: {why}", shown(&path)));
            }
        }
        Ok(Conf::default())
    }
}

/// Opens a directory with no link followed.
fn beneath(dir: &Dir, path: &Path) -> rustix::io::Result<Dir> {
    match path
        .strip_prefix("/")
        .unwrap_or(path)
        .as_os_str()
        .as_bytes()
    {
        b"" => dir.open_beneath(b"."),
        path => dir.open_beneath(path),
    }
}

/// Finds the stores.
///
/// A data root that is given is used alone. Else the system's store is where its configuration says,
/// or at the default; and root looks for those of all users too, another user for their own.
///
/// # Errors
/// [`RuntimeError::Unavailable`] when what was asked for cannot be used, with the way out, and
/// [`RuntimeError::Absent`] when there is no store at all.
pub(super) fn find(sources: &Sources) -> Result<Source, RuntimeError> {
    let disk = Disk::open(sources.root.as_deref())?;
    let mut source = Source {
        graphs: Vec::new(),
        local: disk.offline.is_none(),
        gaps: Vec::new(),
    };
    let conf = disk.conf();
    if let Some(path) = &sources.data_root {
        // Where it is was said: the configuration is asked for the places beside it alone.
        let conf = conf.unwrap_or_default();
        source.graphs.push(named(&disk, path, &conf)?);
        return Ok(source);
    }
    let conf = conf.map_err(|why| {
        RuntimeError::Unavailable(format!("{why}: give the graph root with --data-root"))
    })?;
    let path = Path::new("/").join(conf.graph_root.as_deref().unwrap_or(GRAPH_ROOT));
    let mut absent = String::new();
    match disk.dir(&path) {
        Ok(dir) if is_graph_root(&dir) => {
            let run_root = conf.run_root.as_deref().unwrap_or(RUN_ROOT);
            let graph = Graph {
                dir,
                path: disk.show(&path),
                user: None,
                owners: None,
                run_root: source.local.then(|| run_root.into()),
                image_stores: image_stores(&disk, &conf, &mut source.gaps),
            };
            source.graphs.push(graph);
        }
        Ok(_) => absent = format!("{} holds no store", shown(&disk.show(&path))),
        Err(Errno::NOENT) => {
            absent = format!("there is no {}", shown(&disk.show(&path)));
        }
        Err(errno) => source.gaps.push(unreadable(&disk.show(&path), errno)),
    }
    users(&disk, &conf, &mut source)?;
    match source.graphs.is_empty() {
        false => Ok(source),
        true if source.gaps.is_empty() => Err(RuntimeError::Absent(format!(
            "no store of Podman or CRI-O: {absent}, and no user has one: give its graph root with --data-root"
        ))),
        true => {
            let told: Vec<String> = source
                .gaps
                .iter()
                .map(|gap| format!("{}: {}", gap.what, gap.why))
                .collect();
            Err(RuntimeError::Unavailable(format!(
                "no store of Podman or CRI-O can be read: {}",
                told.join("; ")
            )))
        }
    }
}

/// The graph root that the operator named.
fn named(disk: &Disk, path: &Path, conf: &Conf) -> Result<Graph, RuntimeError> {
    let failed = |why: String| {
        RuntimeError::Unavailable(format!(
            "{}: {why}: give the graph root with --data-root, as podman info tells it under \"graphRoot\"",
            shown(path)
        ))
    };
    let dir = Dir::open(path).map_err(|errno| failed(std::io::Error::from(errno).to_string()))?;
    if !is_graph_root(&dir) {
        return Err(failed("it is no graph root of containers/storage".into()));
    }
    let owner = dir.stat_self().map_or(0, |stat| stat.uid);
    let user = (owner != 0).then_some(owner);
    // The run root is known where it is the system's store that was named, and that of a user.
    let system = Path::new("/").join(conf.graph_root.as_deref().unwrap_or(GRAPH_ROOT));
    let is_system = disk.dir(&system).is_ok_and(|other| same(&dir, &other));
    let run_root = match (is_system, user) {
        _ if disk.offline.is_some() => None,
        (true, _) => Some(conf.run_root.as_deref().unwrap_or(RUN_ROOT).into()),
        (false, Some(uid)) => Some(user_run_root(uid)),
        (false, None) => None,
    };
    Ok(Graph {
        dir,
        path: path.to_owned(),
        user,
        owners: user.map(|uid| {
            let passwd = disk.read("etc/passwd")?.unwrap_or_default();
            let user = conf::users(&passwd).into_iter().find(|user| user.uid == uid);
            let user = user.ok_or_else(|| {
                format!("there is no user {uid} in /etc/passwd, so that the owners of the files cannot be told")
            })?;
            disk.owners(&user)
        }),
        run_root,
        image_stores: image_stores(disk, conf, &mut Vec::new()),
    })
}

/// Adds the stores of users.
fn users(disk: &Disk, system: &Conf, source: &mut Source) -> Result<(), RuntimeError> {
    let passwd = disk.read("etc/passwd").map_err(RuntimeError::Unavailable)?;
    let mut users = conf::users(&passwd.unwrap_or_default());
    let me = rustix::process::geteuid();
    if !me.is_root() {
        users.retain(|user| user.uid == me.as_raw());
    }
    if users.len() > USERS_MAX {
        let why = format!("only the stores of the first {USERS_MAX} users were looked for");
        source.gaps.push(Gap::new("etc/passwd", why));
        users.truncate(USERS_MAX);
    }
    for user in users {
        match of_user(disk, &user, system, source.local) {
            // Several users may have one home.
            Ok(Some(graph))
                if source
                    .graphs
                    .iter()
                    .any(|other| same(&graph.dir, &other.dir)) => {}
            Ok(Some(graph)) => source.graphs.push(graph),
            Ok(None) => {}
            Err(gap) => source.gaps.push(gap),
        }
    }
    Ok(())
}

/// Finds the store of a user (`storage/types/options.go`).
fn of_user(disk: &Disk, user: &User, system: &Conf, local: bool) -> Result<Option<Graph>, Gap> {
    let home = disk.show(Path::new(&user.home));
    let told = |path: &Path, why: String| {
        let what = Bytes::from(path.as_os_str().as_bytes());
        Err(Gap::new(
            what,
            format!("the store of user {}: {why}", user.uid),
        ))
    };
    let dir = match disk.dir(Path::new(&user.home)) {
        Ok(dir) => dir,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return told(&home, clause(errno.into())),
    };
    let file = home.join(USER_CONF);
    let own = match dir.read_file(USER_CONF.as_bytes(), RECORD_LIMIT) {
        Ok(bytes) => match conf::parse(&bytes) {
            Ok(conf) => conf,
            Err(why) => return told(&file, why),
        },
        Err(e) if is_missing(&e) => Conf::default(),
        Err(e) => return told(&file, clause(e)),
    };
    let configured = own.graph_root.as_ref().or(own.rootless.as_ref());
    let (opened, path) = match configured.or(system.rootless.as_ref()) {
        Some(path) => match user.expand(path) {
            Ok(path) => (disk.dir_of_user(&path), disk.show(&path)),
            Err(why) => return told(&file, why),
        },
        None => (
            dir.open_beneath(USER_GRAPH_ROOT.as_bytes()),
            home.join(USER_GRAPH_ROOT),
        ),
    };
    let graph = match opened {
        Ok(dir) if is_graph_root(&dir) => dir,
        Ok(_) | Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return told(&path, clause(errno.into())),
    };
    if graph.stat_self().map(|stat| stat.uid) != Ok(user.uid) {
        return told(&path, "it belongs to another user".into());
    }
    let run_root = match own.run_root.as_deref().map(|path| user.expand(path)) {
        Some(Ok(path)) => path,
        Some(Err(_)) | None => user_run_root(user.uid),
    };
    let stores = [&own, system]
        .into_iter()
        .flat_map(|conf| &conf.image_stores);
    let stores = stores.filter_map(|path| user.expand(path).ok());
    let open = |path: PathBuf| Some((disk.dir_of_user(&path).ok()?, disk.show(&path)));
    Ok(Some(Graph {
        dir: graph,
        path,
        user: Some(user.uid),
        owners: Some(disk.owners(user)),
        run_root: local.then_some(run_root),
        image_stores: stores.filter_map(open).collect(),
    }))
}

/// The run root of a user (`storage/types/options.go`, `setDefaultRootlessStoreOptions`; the directory
/// that logind makes).
fn user_run_root(uid: u32) -> PathBuf {
    format!("/run/user/{uid}/containers").into()
}

/// Opens the stores that images are read from as well. One that is missing is missed by the container
/// that needs it.
fn image_stores(disk: &Disk, conf: &Conf, gaps: &mut Vec<Gap>) -> Vec<(Dir, PathBuf)> {
    let mut stores = Vec::new();
    for path in &conf.image_stores {
        let path = Path::new("/").join(path);
        match disk.dir(&path) {
            Ok(dir) => stores.push((dir, disk.show(&path))),
            Err(Errno::NOENT) => {}
            Err(errno) => gaps.push(unreadable(&disk.show(&path), errno)),
        }
    }
    stores
}

/// Whether a directory is a graph root.
fn is_graph_root(dir: &Dir) -> bool {
    dir.has(MARK.as_bytes())
}

fn same(a: &Dir, b: &Dir) -> bool {
    a.leads_to(b".", b).unwrap_or(false)
}

fn unreadable(path: &Path, errno: Errno) -> Gap {
    let what = Bytes::from(path.as_os_str().as_bytes());
    Gap::new(what, clause(errno.into()))
}

/// Says what an error of opening means, and the way out.
fn clause(error: std::io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::LOOP | Errno::XDEV | Errno::NOTDIR) => {
            "a link stands in its path, or a file: give the graph root with --data-root".into()
        }
        Some(Errno::ACCESS | Errno::PERM) => "permission denied: run as root".into(),
        _ => error.to_string(),
    }
}

fn is_missing(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR))
}

fn shown(path: &Path) -> String {
    escape(path.as_os_str().as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(conf: Option<(&str, &str)>) -> tempfile::TempDir {
        let disk = tempfile::tempdir().unwrap();
        for dir in ["var/lib/containers/storage", "srv/graph", "usr/lib/images"] {
            std::fs::create_dir_all(disk.path().join(dir)).unwrap();
        }
        for dir in ["var/lib/containers/storage", "srv/graph"] {
            std::fs::write(disk.path().join(dir).join(MARK), "").unwrap();
        }
        if let Some((file, text)) = conf {
            let file = disk.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        disk
    }

    fn look(disk: &Path) -> Result<(PathBuf, usize), String> {
        let sources = Sources {
            root: Some(disk.to_owned()),
            ..Sources::default()
        };
        let source = find(&sources).map_err(|error| error.to_string())?;
        let [graph] = &source.graphs[..] else {
            panic!("{:?}", source.graphs);
        };
        assert!(!source.local && graph.user.is_none() && graph.run_root.is_none());
        assert_eq!(source.gaps, []);
        let path = graph.path.strip_prefix(disk).unwrap().to_owned();
        Ok((path, graph.image_stores.len()))
    }

    #[test]
    fn the_store_of_a_mounted_disk() {
        let [etc, usr] = CONFS;
        for (conf, path, stores) in [
            (None, GRAPH_ROOT, 0),
            (Some((etc, "")), GRAPH_ROOT, 0),
            (
                Some((etc, "[storage]\ngraphroot = \"/srv/graph\"")),
                "srv/graph",
                0,
            ),
            (
                Some((usr, "[storage]\ngraphroot = \"/srv/graph\"")),
                "srv/graph",
                0,
            ),
            (
                Some((
                    etc,
                    "[storage.options]\nadditionalimagestores = [\"/usr/lib/images\", \"/none\"]",
                )),
                GRAPH_ROOT,
                1,
            ),
        ] {
            let disk = disk(conf);
            assert_eq!(
                look(disk.path()).unwrap(),
                (path.into(), stores),
                "{conf:?}"
            );
        }
    }

    #[test]
    fn a_disk_that_lies() {
        let [etc, _] = CONFS;
        for (text, why) in [
            ("[storage", "not TOML"),
            ("[storage]\ngraphroot = 5", "not TOML"),
            (
                "[storage]\ngraphroot = \"/../../../var/lib/containers/storage\"",
                "a link stands in its path",
            ),
            ("[storage]\ngraphroot = \"/none\"", "there is no"),
            ("[storage]\ngraphroot = \"/usr\"", "holds no store"),
        ] {
            let disk = disk(Some((etc, text)));
            let told = look(disk.path()).unwrap_err();
            assert!(
                told.contains(why) && told.contains("--data-root"),
                "{text}: {told}"
            );
        }
    }

    #[test]
    fn a_graph_root_that_is_named() {
        let disk = disk(None);
        let sources = |path: &str| Sources {
            data_root: Some(disk.path().join(path)),
            ..Sources::default()
        };
        let found = find(&sources("srv/graph")).unwrap();
        assert!(found.local && found.graphs.len() == 1);
        for (path, why) in [("usr", "no graph root"), ("none", "No such file")] {
            let told = find(&sources(path)).unwrap_err();
            assert!(matches!(&told, RuntimeError::Unavailable(text) if text.contains(why)));
        }
    }
}
