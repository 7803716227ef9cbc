//! What must hold of Docker's records and of its daemon's answers.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use plimsoll_core::fuzzing::{Input, says_plainly};
use plimsoll_core::model::{Digest, ExpectedSource, RootPath, RuntimePathKind, State};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::daemons::hints;
use super::disk::{self, RecordError, container_id, is_remapped};
use super::injected::made_by_runtime;
use super::layerdb::digest;
use super::live::{self, ApiError, Info, Inspected, Listed};
use super::locate::Driver;
use super::mounts;
use super::record::{DaemonConfig, HostConfig, MountPoint, Record};
use crate::proc::mountinfo::subvolume_option;
use crate::runtimes::image_config::ImageConfig;
use crate::runtimes::links::{LINKS_MAX, lead};
use crate::runtimes::lower::{LayerName, excerpt, layer_of};
use crate::runtimes::made::MADE_MAX;

/// A `config.v2.json`, a NUL byte and a `hostconfig.json`: what they let Docker make is paths that can be,
/// each with the directories above it, and not without bound.
pub fn docker_record(data: &[u8]) {
    let mut input = Input::new(data);
    let record: Record = match parsed(input.until(0)) {
        Some(record) => record,
        None => return,
    };
    let host: HostConfig = parsed(input.rest()).unwrap_or_default();
    let (state, pid) = (record.state.state(), record.state.pid());
    assert!(pid != Some(0) && state != State::Unknown);
    if let Some(driver) = Driver::parse(&record.driver) {
        assert_eq!(driver.as_str(), record.driver);
    }
    if let Some(id) = record.image_id() {
        assert_eq!(id.to_string(), record.image);
    }
    let made = made_by_runtime(&record, &host);
    let mut bytes = 0;
    let directories: BTreeSet<&RootPath> = made
        .iter()
        .filter(|made| made.kind == RuntimePathKind::Directory)
        .map(|made| &made.path)
        .collect();
    let mut seen = BTreeSet::new();
    for made in &made {
        let path = made.path.as_bytes();
        assert_eq!(RootPath::parse(path).as_ref(), Ok(&made.path));
        assert_ne!(path, b"/");
        let above = made.path.parent().unwrap();
        assert!(above.as_bytes() == b"/" || directories.contains(&above));
        bytes += path.len();
        assert!(
            seen.insert((path, format!("{:?}", made.kind))),
            "{}",
            made.path
        );
    }
    assert!(bytes <= MADE_MAX);

    let root = Path::new("/data-root");
    let expected = mounts::expected(root, &record, &host);
    assert!(expected.len() <= data.len() + 16);
    for mount in expected {
        let path = mount.path.as_bytes();
        assert_eq!(RootPath::parse(path).as_ref(), Ok(&mount.path));
        let ExpectedSource::HostPath(source) = mount.what else {
            continue;
        };
        // A volume of this data root is in its own directory.
        let source = Path::new(OsStr::from_bytes(source.as_bytes()));
        if let Ok(volume) = source.strip_prefix(root.join("volumes")) {
            let parts: Vec<Component<'_>> = volume.components().collect();
            let named = matches!(parts[..], [Component::Normal(_), Component::Normal(last)] if last == "_data");
            let told = |point: &MountPoint| point.source.starts_with("/data-root");
            let points = record.mount_points.iter().flatten();
            let told = points.filter_map(|(_, point)| point.as_ref()).any(told);
            assert!(named || told, "{source:?}");
        }
    }
}

/// The command line of a daemon: hints of whole paths, and what was given is found in whatever form it was.
pub fn dockerd_arguments(data: &[u8]) {
    let found = hints(data);
    let paths = [&found.data_root, &found.config].into_iter().flatten();
    assert!(paths.clone().all(|path| path.is_absolute()));
    let hosts: usize = found.hosts.iter().map(String::len).sum();
    let paths: usize = paths.map(|path| path.as_os_str().len()).sum();
    assert!(paths + hosts <= data.len());

    let mut input = Input::new(data);
    let form = input.u8();
    let [root, file] = [(); 2].map(|()| std::str::from_utf8(input.until(0)).ok());
    let (Some(root), Some(file)) = (root, file) else {
        return;
    };
    let line = match form % 3 {
        0 => format!("dockerd\0--data-root=/{root}\0--config-file=/{file}\0"),
        1 => format!("/usr/bin/dockerd\0--config-file\0/{file}\0--data-root\0/{root}\0"),
        _ => format!("dockerd\0-g/{root}\0-D\0--config-file\0/{file}"),
    };
    let found = hints(line.as_bytes());
    assert_eq!(found.config, Some(format!("/{file}").into()));
    assert_eq!(found.data_root, Some(format!("/{root}").into()));
}

/// Everything else that Docker writes as JSON.
pub fn docker_json(data: &[u8]) {
    if let Some(image) = parsed::<ImageConfig>(data) {
        // A layer takes at least its digest.
        assert!(image.into_layers().len() <= data.len() / 32);
    }
    if let Some(config) = parsed::<DaemonConfig>(data) {
        assert!(
            config
                .data_root()
                .is_none_or(|root| root.len() <= data.len())
        );
    }
    if let Some(info) = parsed::<Info>(data) {
        assert!(info.data_root.as_os_str().len() + info.driver.len() <= data.len());
    }
    if let Some(listed) = parsed::<Vec<Listed>>(data) {
        assert!(listed.iter().map(|listed| listed.id.len()).sum::<usize>() <= data.len());
    }
    if let Some(told) = parsed::<Inspected>(data) {
        let upper = told.upper_dir().unwrap_or_default().len();
        assert!(told.state.status.len() + told.image.len() + upper <= data.len());
    }
}

fn parsed<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    match disk::parse(data) {
        Ok(value) => Some(value),
        Err(RecordError::Broken(why)) => {
            says_plainly(&why);
            None
        }
        Err(RecordError::Absent) => panic!("it is there"),
    }
}

/// An answer of the daemon is whole, and its body is the end of it.
pub fn docker_answer(data: &[u8]) {
    let (status, body) = match live::parse(data) {
        Ok(answer) => answer,
        Err(ApiError::Malformed(_)) => return,
        Err(error) => panic!("{error:?}"),
    };
    assert!(status < 1000 && data.ends_with(body));
    let head = &data[..data.len() - body.len()];
    assert!(head.starts_with(b"HTTP/1.") || head.trim_ascii_start().starts_with(b"HTTP/1."));
    assert!(head.ends_with(b"\n"));
    // The same as a server would write it, and then without its last byte.
    let length = body.len();
    let mut plain =
        format!("HTTP/1.0 {status:03} -\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    plain.extend(body);
    match live::parse(&plain) {
        Ok(again) => assert_eq!(again, (status, body)),
        Err(error) => panic!("{error:?}"),
    }
    plain.pop();
    assert!(live::parse(&plain).is_err());
}

/// A text, a NUL byte and the target of a short link: names in Docker's layer database lead nowhere but
/// to directories beside each other.
pub fn docker_layer(data: &[u8]) {
    let mut input = Input::new(data);
    let (text, target) = (input.until(0), input.rest());
    let good = |bytes: &[u8]| {
        let known = |b: &u8| b"abcdefghijklmnopqrstuvwxyz0123456789-".contains(b);
        (1..=128).contains(&bytes.len()) && bytes.iter().all(known)
    };
    let name = LayerName::parse(text);
    assert_eq!(name.is_some(), good(text));
    if let Some(name) = name {
        assert_eq!(name.as_str().as_bytes(), text);
    }
    let id = container_id(text);
    let hex = |b: &u8| b"0123456789abcdef".contains(b);
    assert_eq!(id.is_some(), text.len() == 64 && text.iter().all(hex));
    assert!(id.is_none_or(|id| id.as_str().as_bytes() == text));
    let numbers: Vec<&[u8]> = text.split(|b| *b == b'.').collect();
    let is_number = |part: &&[u8]| !part.is_empty() && part.iter().all(|b| (48..58).contains(b));
    assert_eq!(
        is_remapped(text),
        numbers.len() == 2 && numbers.iter().all(is_number)
    );
    let expected = std::str::from_utf8(text)
        .ok()
        .and_then(|t| t.parse::<Digest>().ok());
    match digest(text, "diff") {
        Ok(digest) => assert_eq!(Some(digest), expected),
        Err(RecordError::Broken(why)) => {
            says_plainly(&why);
            assert!(expected.is_none() && why.len() <= 512);
        }
        Err(RecordError::Absent) => panic!("it is there"),
    }
    assert!(excerpt(text).len() <= 400);

    let parts: Vec<&[u8]> = text.split(|b| *b == b'/').collect();
    let mut asked = Vec::new();
    let told = layer_of(text, |link| {
        asked.push(link.to_vec());
        match target {
            [] => Err(Errno::NOENT),
            target => Ok(target.to_vec()),
        }
    });
    let expected = match parts.as_slice() {
        [.., b"l", link] if !link.is_empty() && link.iter().all(u8::is_ascii_alphanumeric) => {
            assert_eq!(asked, [link.to_vec()]);
            let parts: Vec<&[u8]> = target.split(|b| *b == b'/').collect();
            match parts.as_slice() {
                [b"..", name, b"diff"] if good(name) => Some(*name),
                _ => None,
            }
        }
        [.., name, b"diff"] => Some(*name),
        _ => None,
    };
    match told {
        Ok(name) => assert_eq!(Some(&name[..]), expected),
        Err(why) => {
            says_plainly(&why);
            assert_eq!(expected, None);
        }
    }

    let expected = std::str::from_utf8(text).ok().and_then(|text| {
        let option = text
            .split(',')
            .find(|option| option.starts_with("subvolid="))?;
        option["subvolid=".len()..].parse().ok()
    });
    if std::str::from_utf8(text).is_ok() {
        assert_eq!(subvolume_option(text), expected);
    }
}

/// A path, and then lines of a path, a tab and the target of the link there: following them ends, and
/// leads where a process in the container would be led.
pub fn docker_links(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(path) = RootPath::parse(input.until(b'\n')) else {
        return;
    };
    let mut links: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    while !input.is_empty() {
        let mut line = Input::new(input.until(b'\n'));
        let (at, target) = (line.until(b'\t'), line.rest());
        // The kernel makes no other links.
        if let Ok(at) = RootPath::parse(at)
            && (1..=4095).contains(&target.len())
            && !target.contains(&0)
        {
            links.insert(at.as_bytes().to_vec(), target.to_vec());
        }
    }
    let mut asked = 0;
    let asked_for = std::cell::Cell::new(0);
    let led = lead(&path, |parent, name| {
        asked_for.set(asked_for.get() + 1);
        let at = [&b"/"[..], &parent.join(&b'/'), b"/", name].concat();
        let at = RootPath::parse(&at).unwrap();
        Some(Ok(links.get(at.as_bytes())?.clone()))
    });
    asked += asked_for.get();
    // Each of the links gives way to at most 2048 names.
    assert!(asked <= path.components().count() + LINKS_MAX * 2048);

    // The plain way: text, one component after the other, from the root again after each link.
    let mut left = LINKS_MAX;
    let mut text = path.as_bytes().to_vec();
    let expected = 'again: loop {
        let mut done: Vec<&[u8]> = Vec::new();
        let parts: Vec<&[u8]> = text.split(|b| *b == b'/').collect();
        for (n, part) in parts.iter().enumerate() {
            match *part {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                part => done.push(part),
            }
            let here = [&b"/"[..], &done.join(&b'/')].concat();
            if let Some(target) = links.get(&here) {
                let Some(fewer) = left.checked_sub(1) else {
                    break 'again None;
                };
                left = fewer;
                done.pop();
                let base = if target[0] == b'/' {
                    Vec::new()
                } else {
                    done.join(&b'/')
                };
                text = [
                    &b"/"[..],
                    &base,
                    b"/",
                    target,
                    b"/",
                    &parts[n + 1..].join(&b'/'),
                ]
                .concat();
                continue 'again;
            }
        }
        break Some([&b"/"[..], &done.join(&b'/')].concat());
    };
    let expected = expected.filter(|path| path != b"/");
    assert_eq!(led.map(|path| path.as_bytes().to_vec()), expected);
}
