//! What must hold of the records of containers/storage and of its configuration.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use plimsoll_core::fuzzing::{Input, says_plainly};
use plimsoll_core::model::{ExpectedSource, MountOrigin, RootPath, RuntimePathKind};
use serde::de::DeserializeOwned;

use super::chain::chain;
use super::conf::{self, User};
use super::injected::{Owner, ROOT, made_by_runtime};
use super::record::{self, ContainerRecord, ImageRecord, LayerRecord, Records, Spec};
use super::store::{Layers, container_id};
use super::user_ids;
use super::{mounts, pods, state};
use crate::runtimes::image_manifest::Node;
use crate::runtimes::made::MADE_MAX;

/// A `containers.json`, a `layers.json`, an `images.json` and a `config.json` with NUL bytes between them:
/// each container lies on a chain of layers that ends, or that is refused in one clause; what the
/// runtime makes is paths that can be, and not without bound.
pub fn storage_records(data: &[u8]) {
    let mut input = Input::new(data);
    let Records(containers) = parsed(input.until(0)).unwrap_or(Records(Vec::new()));
    let Records(layers) = parsed(input.until(0)).unwrap_or(Records(Vec::new()));
    let Records(images) = parsed(input.until(0)).unwrap_or(Records(Vec::new()));
    let rest = input.rest();
    let spec: Option<Spec> = parsed(rest);
    // The same as a manifest or an index: no more is in it than was written.
    if let Some(node) = parsed::<Node>(rest) {
        assert!(node.layers.len() + node.manifests.len() <= rest.len());
    }
    let layers: Layers = layers
        .into_iter()
        .map(|layer: LayerRecord| (layer.id.clone(), (layer, 0)))
        .collect();
    let by_id = |record| {
        let record: &ContainerRecord = record;
        (record.id.as_str(), record)
    };
    let by_id: HashMap<&str, &ContainerRecord> = containers.iter().map(by_id).collect();
    // The rest of a file of many records would be the same again, as often.
    for container in containers.iter().take(100) {
        if let Some(id) = container_id(&container.id) {
            assert_eq!(id.as_str(), container.id);
            assert!(container.id.len() == 64 && !container.id.contains(['/', '.']));
        }
        lies_on(&layers, container);
        let metadata = container.metadata();
        let pod = pods::pod(&metadata, &by_id, spec.as_ref());
        assert_eq!(pod.is_some(), metadata.is_of_crio());
        if let Some(pod) = pod {
            assert_eq!(pod.container.is_none(), metadata.pod);
            assert!(!pod.name.contains(['\n', '\x1b']) && !pod.namespace.contains(['\n', '\x1b']));
        }
    }
    for image in images.iter().take(100) {
        let image: &ImageRecord = image;
        assert!(image.ends_with(&image.layer));
    }
    if let Some(spec) = spec {
        made(&spec);
        mounted(&spec, data.len());
    }
}

/// The chain of a container, or the clause that refuses it.
fn lies_on(layers: &Layers, container: &ContainerRecord) {
    let chain = match chain(layers, container) {
        Ok(chain) => chain,
        Err(why) => {
            says_plainly(&why);
            return assert!(why.len() <= 1024);
        }
    };
    assert_eq!(chain.own.name.as_str(), container.layer);
    let mut names = BTreeSet::from([chain.own.name.as_str()]);
    let mut above = &chain.own;
    for link in &chain.image {
        let name = link.name.as_str();
        assert!(names.insert(name) && !name.contains(['/', '.', '\0']));
        let (record, _) = &layers[above.name.as_str()];
        assert!(record.parent == name && !record.is_incomplete());
        above = link;
    }
    let (last, _) = &layers[above.name.as_str()];
    assert!(last.parent.is_empty());
    assert_eq!(chain.stacked().count(), chain.image.len());
}

fn made(spec: &Spec) {
    let root = Owner {
        uid: 100_000,
        gid: 7,
    };
    let mut bytes = 0;
    let user = Owner { uid: 5, gid: 0 };
    let made = made_by_runtime(spec, root, user);
    assert!(made.len() <= 2 * made_by_runtime(spec, ROOT, ROOT).len() + 4096);
    for made in &made {
        let path = made.path.as_bytes();
        assert_eq!(RootPath::parse(path).as_ref(), Ok(&made.path));
        assert_ne!(path, b"/");
        bytes += path.len();
        let RuntimePathKind::OwnedBy { uid, gid, .. } = made.kind else {
            // By the root of the machine: the working directory, and those above it.
            assert_eq!(made.kind, RuntimePathKind::Directory);
            continue;
        };
        assert!([root, user].contains(&Owner { uid, gid }));
    }
    // A working directory of the greatest length, with all those above it.
    assert!(bytes <= MADE_MAX + (4 << 20) + 4096);
}

fn mounted(spec: &Spec, length: usize) {
    let own = Path::new("/run/own");
    let expected = mounts::expected(spec, &[own]);
    assert!(expected.len() <= length);
    for mount in expected {
        let path = mount.path.as_bytes();
        assert_eq!(RootPath::parse(path).as_ref(), Ok(&mount.path));
        if let ExpectedSource::HostPath(source) = &mount.what {
            assert!(source.as_bytes().starts_with(b"/"));
            let own = source.as_bytes().starts_with(b"/run/own");
            assert!(
                mount.origin != MountOrigin::Runtime
                    || own
                    || source.as_bytes() == b"/dev/null"
                    || path == b"/run/podman-init"
            );
        }
    }
}

fn parsed<T: DeserializeOwned>(data: &[u8]) -> Option<T> {
    record::parse(data).map_err(|why| says_plainly(&why)).ok()
}

/// A `storage.conf`, a NUL byte, a `passwd`, a NUL byte and a `pidfile`: places are absolute, or refused in
/// one clause.
pub fn storage_conf(data: &[u8]) {
    let mut input = Input::new(data);
    let (text, passwd, number) = (input.until(0), input.until(0), input.rest());
    let users = conf::users(passwd);
    let mut seen = BTreeSet::new();
    for user in &users {
        assert!(user.uid != 0 && seen.insert(user.uid) && user.home.starts_with('/'));
    }
    if let Some(pid) = state::pid(number) {
        assert_ne!(pid, 0);
        let digits = number.trim_ascii().strip_prefix(b"+");
        let digits = digits.unwrap_or(number.trim_ascii());
        assert!(digits.iter().all(u8::is_ascii_digit));
    }
    let ann = User {
        name: "ann".into(),
        uid: 1000,
        gid: 100,
        home: "/home/ann".into(),
    };
    // The same as `subuid` and `subgid`.
    match user_ids::owners(&ann, passwd, number) {
        Ok(owners) => assert_eq!((owners.user(1000), owners.group(100)), (0, 0)),
        Err(why) => says_plainly(&why),
    }
    let conf = match conf::parse(text) {
        Ok(conf) => conf,
        Err(why) => return says_plainly(&why),
    };
    let texts = [&conf.graph_root, &conf.run_root, &conf.rootless];
    let texts = texts.into_iter().flatten().chain(&conf.image_stores);
    for text in texts {
        assert!(!text.is_empty() && text.len() <= data.len());
        match ann.expand(text) {
            Ok(path) => {
                assert!(path.is_absolute());
                let plain = Path::new(text) == path;
                assert_eq!(plain, !text.contains('$'), "{text:?}");
            }
            Err(why) => says_plainly(&why),
        }
    }
}
