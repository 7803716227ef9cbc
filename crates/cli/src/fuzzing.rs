//! What must hold of each parser of what an operator gives, whatever bytes it gets.
//!
//! For `fuzz/` and for the replay of its corpus, and no part of the API: see `plimsoll_core::fuzzing`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use plimsoll_core::fuzzing::{says_plainly, says_where};
use plimsoll_host::inspect::Target;

use crate::args::Settings;
use crate::{config, targets};

/// All parsers of this crate.
pub const TARGETS: &[plimsoll_core::fuzzing::Target] = &[("config", config), ("target", target)];

/// A text is settings that can be used, or is refused with one line that says where.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let directory = Path::new("/etc/plimsoll");
    let settings = match config::parse(text, directory) {
        Ok(settings) => settings,
        Err(error) => return says_where(&error, text),
    };
    let Settings { places, comparison } = &settings;
    let paths = [&places.data_root, &places.root, &comparison.policy];
    assert!(paths.into_iter().flatten().all(|path| path.is_absolute()));
    assert!(comparison.jobs != Some(0) && comparison.max_changes != Some(0));
    let or = |a: &Settings, b: &Settings| a.clone().or(b.clone());
    let nothing = Settings::default();
    assert_eq!(or(&settings, &nothing), settings);
    assert_eq!(or(&nothing, &settings), settings);
    assert_eq!(or(&settings, &settings), settings);
}

/// A word is one kind of target and says so again, or is refused in one sentence.
pub fn target(data: &[u8]) {
    let target = match targets::parse(OsStr::from_bytes(data)) {
        Ok(target) => target,
        Err(error) => {
            says_plainly(&error.message);
            return error.hint.iter().for_each(|hint| says_plainly(hint));
        }
    };
    let written = match &target {
        Target::Named { runtime, name } => match runtime {
            Some(runtime) => format!("{}:{name}", runtime.as_str()).into_bytes(),
            None => name.clone().into_bytes(),
        },
        Target::Pod {
            namespace,
            pod,
            container,
        } => format!("k8s:{namespace}/{pod}/{container}").into_bytes(),
        Target::OverlayMount(path) => [b"overlay:", path.as_os_str().as_bytes()].concat(),
        Target::Process(pid) => format!("pid:{pid}").into_bytes(),
        Target::Subvolume(path) => [b"btrfs:", path.as_os_str().as_bytes()].concat(),
        Target::Trees { image, container } => {
            let paths = [image, container].map(|path| path.as_os_str().as_bytes());
            [b"tree", paths[0], paths[1]].join(&b':')
        }
    };
    assert_eq!(written, data);
}
