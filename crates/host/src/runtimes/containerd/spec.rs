//! What a container is to run: the OCI runtime specification in its record, as far as it makes paths and
//! mounts.

use std::path::Path;

use plimsoll_core::model::{
    Algorithm, Bytes, ChainId, Digest, ExpectedMount, ExpectedSource, MountOrigin, RootPath,
    RuntimePath, escape,
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::snapshots::take_uvarint;
use crate::runtimes::made::{Made, clean};

/// Longest specification that is parsed, in bytes.
const SPEC_MAX: usize = 8 << 20;

/// The fields that are needed (OCI runtime specification, `config.md`).
#[derive(Debug, Default, Deserialize)]
pub(super) struct Spec {
    #[serde(default)]
    process: Option<Process>,
    #[serde(default)]
    mounts: Option<Vec<Mount>>,
    #[serde(default)]
    linux: Option<Linux>,
}

#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(default, rename = "uidMappings")]
    uids: Option<Vec<Mapping>>,
    #[serde(default, rename = "gidMappings")]
    gids: Option<Vec<Mapping>>,
}

/// Users or groups of a user namespace, and those of the host that they are.
#[derive(Debug, Clone, Default, Deserialize)]
struct Mapping {
    #[serde(default, rename = "containerID")]
    inside: u32,
    #[serde(default, rename = "hostID")]
    outside: u32,
    #[serde(default)]
    size: u32,
}

#[derive(Debug, Default, Deserialize)]
struct Process {
    #[serde(default)]
    cwd: String,
}

#[derive(Debug, Default, Deserialize)]
struct Mount {
    #[serde(default)]
    destination: String,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    options: Option<Vec<String>>,
}

/// File systems that every container of containerd's own making has (containerd
/// `pkg/oci/mounts.go`, `defaultMounts`; the control groups come with `WithCgroup`), and the types of
/// which something is known of what they show.
const USUAL: [(&str, &str); 9] = [
    ("/proc", "proc"),
    ("/dev", "tmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/dev/mqueue", "mqueue"),
    ("/sys", "sysfs"),
    ("/run", "tmpfs"),
    ("/sys/fs/cgroup", "cgroup"),
    ("/sys/fs/cgroup", "cgroup2"),
];

/// Files that runtimes write for each container and mount over those of the image.
const WRITTEN: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

impl Spec {
    /// Decodes what is recorded: a `google.protobuf.Any` with JSON in it.
    ///
    /// # Errors
    /// A clause that says what is wrong.
    pub(super) fn decode(any: &[u8]) -> Result<Self, String> {
        if any.len() > SPEC_MAX {
            return Err(format!("its specification is longer than {SPEC_MAX} bytes"));
        }
        let value = value_of_any(any).ok_or("its specification is not wrapped as it should be")?;
        serde_json::from_slice(value).map_err(|e| {
            let why = escape(e.to_string().as_bytes()).into_owned();
            format!("its specification cannot be understood: {why}")
        })
    }

    /// Returns what a snapshot is called that has the files of `parent`, and they belong to the users and
    /// groups of this container's user namespace: the digest of a JSON text (containerd from version 2.1,
    /// `client/container_opts_unix.go`, `remappedSnapshot`).
    pub(super) fn remapped(&self, parent: &ChainId) -> Option<Digest> {
        let linux = self.linux.as_ref()?;
        let text = |mappings: &Option<Vec<Mapping>>| {
            let mut mappings = mappings.clone().filter(|mappings| !mappings.is_empty())?;
            mappings.sort_by_key(|mapping| mapping.inside);
            let texts = mappings.iter().map(|mapping| {
                let Mapping {
                    inside,
                    outside,
                    size,
                } = mapping;
                format!(r#"{{"containerID":{inside},"hostID":{outside},"size":{size}}}"#)
            });
            Some(texts.collect::<Vec<_>>().join(","))
        };
        let (uids, gids) = (text(&linux.uids)?, text(&linux.gids)?);
        let text =
            format!(r#"{{"Parent":"{parent}","IDMap":{{"UidMap":[{uids}],"GidMap":[{gids}]}}}}"#);
        Digest::new(Algorithm::Sha256, &Sha256::digest(text.as_bytes()))
    }

    /// Returns what the runtime makes in the writable layer where the image does not have it: the working
    /// directory and the targets of mounts. Whether a target becomes a file or a directory depends on
    /// what is mounted there, so both are named.
    pub(super) fn made(&self) -> Vec<RuntimePath> {
        let mut made = Made::default();
        let cwd = self.process.as_ref().map(|process| process.cwd.as_str());
        if let Some(path) = cwd.and_then(clean) {
            made.directory(path);
        }
        for mount in self.mounts.iter().flatten() {
            if let Some(path) = clean(&mount.destination) {
                made.directory(path.clone());
                if mount.is_bind() {
                    made.file(path);
                }
            }
        }
        made.paths()
    }

    /// Returns the mounts that the container is expected to have. `places` are containerd's own
    /// directories.
    pub(super) fn expected(&self, places: &[&Path]) -> Vec<ExpectedMount> {
        let mounts = self.mounts.iter().flatten();
        mounts
            .filter_map(|mount| {
                let path = RootPath::parse(mount.destination.as_bytes()).ok()?;
                Some(mount.expected(path, places))
            })
            .collect()
    }
}

impl Mount {
    fn is_bind(&self) -> bool {
        let options = self.options.iter().flatten();
        let asks = |option: &String| option == "bind" || option == "rbind";
        self.kind.as_deref() == Some("bind") || options.into_iter().any(asks)
    }

    fn expected(&self, path: RootPath, places: &[&Path]) -> ExpectedMount {
        let kind = self.kind.as_deref().unwrap_or_default();
        let usual = |(at, of): &&(&str, &str)| *at == self.destination && *of == kind;
        let source = self.source.as_deref().unwrap_or_default();
        let (origin, what) = if self.is_bind() {
            let own = places
                .iter()
                .any(|place| Path::new(source).starts_with(place));
            let written = WRITTEN.contains(&self.destination.as_str());
            let origin = match own && (written || self.destination == "/dev/shm") {
                true => MountOrigin::Runtime,
                false => MountOrigin::Declared,
            };
            (origin, ExpectedSource::HostPath(Bytes::from(source)))
        } else {
            match USUAL.iter().find(usual) {
                Some((_, kind)) => (MountOrigin::Runtime, ExpectedSource::FileSystem(kind)),
                None => {
                    let known = USUAL.iter().map(|(_, of)| *of).find(|of| *of == kind);
                    let what = known.map_or(ExpectedSource::Unknown, ExpectedSource::FileSystem);
                    (MountOrigin::Declared, what)
                }
            }
        };
        ExpectedMount { path, origin, what }
    }
}

/// Returns field 2 of a `google.protobuf.Any` (Protocol Buffers, "Encoding"), the last one if there are
/// several.
pub(super) fn value_of_any(any: &[u8]) -> Option<&[u8]> {
    const VALUE: u64 = 2;
    let mut rest = any;
    let mut value = None;
    while !rest.is_empty() {
        let (tag, after) = take_uvarint(rest)?;
        rest = match tag & 7 {
            0 => take_uvarint(after)?.1,
            1 => after.get(8..)?,
            2 => {
                let (length, after) = take_uvarint(after)?;
                let (field, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                if tag >> 3 == VALUE {
                    value = Some(field);
                }
                after
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(value.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(json: &str) -> Vec<u8> {
        let mut any = vec![0x0a, 3];
        any.extend(b"url");
        any.push(0x12);
        let mut length = json.len();
        while length >= 0x80 {
            any.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        any.push(u8::try_from(length).unwrap());
        any.extend(json.as_bytes());
        any
    }

    #[test]
    fn mounts_and_what_they_make() {
        let json = r#"{"process":{"cwd":"/srv/app"},"mounts":[
            {"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/data","type":"bind","source":"/srv/data","options":["rbind","ro"]},
            {"destination":"/etc/hosts","type":"bind","source":"/root/x/hosts","options":["bind"]},
            {"destination":"/etc/hostname","type":"bind","source":"/other/hostname","options":["bind"]},
            {"destination":"/tmp","type":"tmpfs","source":"tmpfs"},
            {"destination":"/strange/../x","type":"tmpfs"},
            {"destination":"/odd","type":"nfs","source":"a:b"}]}"#;
        let spec = Spec::decode(&wrapped(json)).unwrap();
        let made = spec.made();
        let of = |path: &str| {
            made.iter()
                .filter(|made| made.path.to_string() == path)
                .count()
        };
        for (path, count) in [
            ("/srv/app", 1),
            ("/srv", 1),
            ("/proc", 1),
            ("/data", 2),
            ("/etc/hosts", 2),
            ("/etc", 1),
            ("/x", 0),
        ] {
            assert_eq!(of(path), count, "{path}: {made:?}");
        }
        let expected: Vec<_> = spec
            .expected(&[Path::new("/root")])
            .into_iter()
            .map(|mount| (mount.path.to_string(), mount.origin, mount.what))
            .collect();
        let host = |path: &str| ExpectedSource::HostPath(path.into());
        let (runtime, declared) = (MountOrigin::Runtime, MountOrigin::Declared);
        assert_eq!(
            expected,
            [
                (
                    "/proc".to_owned(),
                    runtime,
                    ExpectedSource::FileSystem("proc")
                ),
                ("/data".to_owned(), declared, host("/srv/data")),
                ("/etc/hosts".to_owned(), runtime, host("/root/x/hosts")),
                (
                    "/etc/hostname".to_owned(),
                    declared,
                    host("/other/hostname")
                ),
                (
                    "/tmp".to_owned(),
                    declared,
                    ExpectedSource::FileSystem("tmpfs")
                ),
                ("/odd".to_owned(), declared, ExpectedSource::Unknown),
            ]
        );
    }

    #[test]
    fn what_is_not_wrapped_is_refused() {
        for bad in [
            &b"{}"[..],
            &[0x12],
            &[0x12, 0x80],
            &[0x12, 5, b'{'],
            &[0x13],
            &[0xff; 12],
        ] {
            assert!(Spec::decode(bad).is_err(), "{bad:?}");
        }
        assert!(Spec::decode(&wrapped("[")).is_err());
        assert!(
            Spec::decode(&wrapped("{\"mounts\":null}"))
                .unwrap()
                .made()
                .is_empty()
        );
    }
}
