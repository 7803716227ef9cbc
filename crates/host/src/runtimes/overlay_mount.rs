//! Any overlay mount, named by its mount point or by a process that has it as its root: the kernel's own
//! list says where its layers lie.

use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plimsoll_core::model::{Bytes, Container, ContainerId, Gap, RuntimeKind, escape};

use super::{Located, Runtime, RuntimeError};
use crate::fs::Dir;
use crate::layers::overlay::{Mounted, ReachError, Root};
use crate::layers::{LayerStack, OverlayStack};
use crate::proc::mountinfo::{self, Mount, OverlayMount as Layers};

/// Longest time that reaching the layers of one overlay may take, where a container may hold it up.
const PATIENCE: Duration = Duration::from_secs(5);

/// An overlay that is mounted.
#[derive(Debug)]
pub struct OverlayMount {
    container: Container,
    /// What it is, for people.
    shown: String,
    device: Bytes,
    mounted: Arc<Mounted>,
    /// The layers, from when it was looked whether they can be reached.
    reached: RefCell<Option<OverlayStack>>,
}

/// An overlay that was found by its mount point.
#[derive(Debug)]
pub(super) enum At {
    /// The kernel mounted it.
    Kernel(Box<OverlayMount>),
    /// A program did (fuse-overlayfs), and only a runtime knows its layers.
    Program {
        /// What it is, for people.
        shown: String,
        /// Its device number.
        device: Bytes,
    },
}

impl OverlayMount {
    /// Finds the overlay that is mounted at `mount_point`, the topmost one if there are several.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when there is none, or the list of mounts cannot be read.
    pub(super) fn at(mount_point: &Path) -> Result<At, RuntimeError> {
        let given = escape(mount_point.as_os_str().as_bytes()).into_owned();
        let unavailable = |why: String| RuntimeError::Unavailable(why);
        let resolved =
            std::fs::canonicalize(mount_point).map_err(|e| unavailable(format!("{given}: {e}")))?;
        let text = crate::fs::read_small_bytes("/proc/self/mountinfo")
            .map_err(|e| unavailable(format!("/proc/self/mountinfo: {e}")))?;
        if !mountinfo::is_whole(&text) {
            return Err(unavailable("/proc/self/mountinfo is cut short".into()));
        }
        let mount = mountinfo::parse(&text)
            .into_iter()
            .rfind(|mount| mount.mount_point.as_bytes() == resolved.as_os_str().as_bytes())
            .filter(|mount| mount.fs_type.as_bytes() == b"overlay" || mount.is_fuse_overlay())
            .ok_or_else(|| {
                unavailable(format!(
                    "no overlay is mounted at {given}: /proc/self/mountinfo lists those that are"
                ))
            })?;
        if mount.is_fuse_overlay() {
            let path = escape(resolved.as_os_str().as_bytes());
            return Ok(At::Program {
                shown: format!("the overlay at {path}"),
                device: mount.device,
            });
        }
        let merged = Dir::look(&resolved)
            .map_err(|errno| unavailable(format!("{given}: {}", std::io::Error::from(errno))))?;
        let path = escape(resolved.as_os_str().as_bytes()).into_owned();
        let container = Container {
            name: Some(path.clone()),
            ..Container::new(ContainerId::new(path.clone()), RuntimeKind::Overlay)
        };
        let shown = format!("the overlay at {path}");
        let mounted = Mounted {
            options: options(&shown, &mount)?,
            merged,
            mount_point: Some(resolved),
            roots: vec![Root::Own],
            foreign: false,
        };
        Ok(At::Kernel(Box::new(Self {
            container,
            shown,
            device: mount.device,
            mounted: Arc::new(mounted),
            reached: RefCell::default(),
        })))
    }

    /// Takes an overlay that is the root of `container`, which may have mounted it itself: its entry in a
    /// list of mounts, and its root directory. `shown` says for people what it is.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when its options are not whole, or it shows a part of an overlay.
    pub(super) fn of(
        container: Container,
        shown: String,
        mount: &Mount,
        merged: Dir,
        roots: Vec<Root>,
    ) -> Result<Self, RuntimeError> {
        let mounted = Mounted {
            options: options(&shown, mount)?,
            merged,
            mount_point: None,
            roots,
            foreign: true,
        };
        Ok(Self {
            container,
            shown,
            device: mount.device.clone(),
            mounted: Arc::new(mounted),
            reached: RefCell::default(),
        })
    }

    /// Returns the device number of the overlay: no other one that is mounted has it.
    pub(super) fn device(&self) -> &Bytes {
        &self.device
    }

    /// Whether anything can be written to it.
    pub(super) fn is_writable(&self) -> bool {
        self.mounted.options.upper.is_some()
    }

    /// Whether its layers can be reached by the paths that it was mounted with.
    ///
    /// # Errors
    /// Why not: [`RuntimeError::Unavailable`].
    pub(super) fn reach(&self) -> Result<(), RuntimeError> {
        let stack = self.stack()?;
        self.reached.replace(Some(stack));
        Ok(())
    }

    /// Whether the layers that a runtime has for it are the ones that are mounted.
    pub(super) fn agrees(&self, stack: &LayerStack) -> bool {
        match stack {
            LayerStack::Overlay(stack) => self.mounted.agrees(stack).is_ok(),
            LayerStack::Btrfs(_) | LayerStack::Plain(_) => false,
        }
    }

    fn stack(&self) -> Result<OverlayStack, RuntimeError> {
        if let Some(stack) = self.reached.take() {
            return Ok(stack);
        }
        let reached = match self.mounted.foreign {
            true => self.reach_in_time()?,
            false => self.mounted.reach(),
        };
        reached.map_err(|error| {
            let hint = match error {
                ReachError::NoUpper => "",
                _ => ": name the container by its runtime",
            };
            RuntimeError::Unavailable(format!("{}: {error}{hint}", self.shown))
        })
    }

    /// Reaches layers by paths that a process in a container may have chosen, or file systems that it answers
    /// for: they can make who follows them wait without end. Once a few did, no more are followed.
    fn reach_in_time(&self) -> Result<Result<OverlayStack, ReachError>, RuntimeError> {
        static IN_VAIN: AtomicUsize = AtomicUsize::new(0);
        const IN_VAIN_MAX: usize = 3;
        let late = || {
            RuntimeError::Unavailable(format!(
                "{}: its layers do not answer within {} seconds",
                self.shown,
                PATIENCE.as_secs()
            ))
        };
        if IN_VAIN.load(Ordering::Relaxed) >= IN_VAIN_MAX {
            return Err(late());
        }
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let mounted = Arc::clone(&self.mounted);
        // It ends with the program, should it wait for ever.
        let asked = std::thread::Builder::new().spawn(move || {
            // Nobody may be left to tell.
            tell.send(mounted.reach()).ok();
        });
        asked.map_err(|e| RuntimeError::Unavailable(format!("{}: {e}", self.shown)))?;
        told.recv_timeout(PATIENCE).map_err(|_| {
            IN_VAIN.fetch_add(1, Ordering::Relaxed);
            late()
        })
    }
}

/// Decodes the options of an overlay that `shown` is for people.
fn options(shown: &str, mount: &Mount) -> Result<Layers, RuntimeError> {
    if mount.root.as_bytes() != b"/" {
        return Err(RuntimeError::Unavailable(format!(
            "{shown} shows only {} of an overlay: give the overlay's own mount point",
            mount.root
        )));
    }
    Layers::decode_whole(mount.super_options.as_bytes()).map_err(|error| {
        RuntimeError::Unavailable(format!(
            "{shown}: {error}: name the container by its runtime"
        ))
    })
}

impl Runtime for OverlayMount {
    fn describe(&self) -> String {
        self.shown.clone()
    }

    fn containers(&self) -> Result<(Vec<Container>, Vec<Gap>), RuntimeError> {
        Ok((vec![self.container.clone()], Vec::new()))
    }

    fn locate(&self, _: &Container, _: bool) -> Result<Located, RuntimeError> {
        Ok(Located {
            stack: LayerStack::Overlay(self.stack()?),
            mounts: Vec::new(),
            gaps: Vec::new(),
        })
    }
}
