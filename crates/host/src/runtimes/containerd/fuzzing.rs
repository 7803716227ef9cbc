//! What must hold of what containerd writes down, whatever its database has in its place.
#![expect(
    clippy::unwrap_used,
    reason = "a property that does not hold is a panic: that is how a fuzzer is told"
)]

use std::collections::BTreeSet;
use std::path::Path;

use plimsoll_core::fuzzing::says_plainly;
use plimsoll_core::model::{RootPath, RuntimePathKind};

use super::config::Config;
use super::metadata::{Record, identifier};
use super::pod;
use super::snapshots::{take_uvarint, uvarint};
use super::spec::{Spec, value_of_any};
use crate::runtimes::made::MADE_MAX;

/// The specification of a container, as it is recorded and as the JSON alone: it makes paths that can be,
/// each with the directories above it, and not without bound.
pub fn containerd_spec(data: &[u8]) {
    spec(data);
    let any = wrapped(data);
    assert_eq!(value_of_any(&any), Some(data));
    spec(&any);
    if let Some(value) = value_of_any(data) {
        assert!(value.len() <= data.len());
    }
    for key in pod::EXTENSIONS {
        let record = Record {
            extensions: [(key.to_vec(), any.clone())].into(),
            ..Record::default()
        };
        let of = pod::pod(&record, |_| Some(&record)).unwrap();
        let told = of.namespace.len() + of.name.len();
        // An escape of JSON takes more bytes than what it stands for.
        assert!(told <= 3 * data.len());
        assert_eq!(of.container.is_none(), pod::is_sandbox(&record));
    }
}

fn spec(any: &[u8]) {
    let spec = match Spec::decode(any) {
        Ok(spec) => spec,
        Err(why) => return says_plainly(&why),
    };
    let made = spec.made();
    let directories: BTreeSet<&RootPath> = made
        .iter()
        .filter(|made| made.kind == RuntimePathKind::Directory)
        .map(|made| &made.path)
        .collect();
    let mut bytes = 0;
    for made in &made {
        let path = made.path.as_bytes();
        assert_eq!(RootPath::parse(path).as_ref(), Ok(&made.path));
        let above = made.path.parent().unwrap();
        assert!(above.as_bytes() == b"/" || directories.contains(&above));
        bytes += path.len();
    }
    assert!(bytes <= MADE_MAX);
    assert!(spec.expected(&[Path::new("/root")]).len() <= any.len());
}

/// Returns a `google.protobuf.Any` with this value and nothing else.
fn wrapped(value: &[u8]) -> Vec<u8> {
    let mut any = vec![0x12];
    let mut length = value.len();
    while length >= 0x80 {
        any.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    any.push(u8::try_from(length).unwrap());
    any.extend(value);
    any
}

/// A configuration, a name or a number: what is taken from them is in them.
pub fn containerd_text(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let config = Config::parse(text);
        let places = [&config.root, &config.state];
        let told = places
            .into_iter()
            .flatten()
            .chain(config.snapshotters.values());
        for place in told {
            assert!(!place.is_empty() && place.len() <= text.len());
        }
        let again = Config::parse(&format!("{text}\n"));
        assert_eq!(again, config);
    }
    if let Some(name) = identifier(data) {
        assert!(!name.contains(['/', '\0']) && ![".", "..", ""].contains(&name));
    }
    if let Some((value, rest)) = take_uvarint(data) {
        let taken = data.len() - rest.len();
        assert!((1..=10).contains(&taken));
        assert_eq!(uvarint(&data[..taken]), Some(value));
        assert!(taken == 10 || value < 1 << (7 * taken));
    }
}
