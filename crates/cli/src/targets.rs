//! What a TARGET on the command line means.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use plimsoll_core::model::{RootPath, RuntimeKind, escape};
use plimsoll_host::inspect::Target;

use crate::error::CliError;

/// Parses a TARGET: a name or an id, or a scheme and what it takes.
///
/// # Errors
/// [`CliError`] for a scheme that does not exist, or lacks what it takes.
pub(crate) fn parse(text: &OsStr) -> Result<Target, CliError> {
    let bytes = text.as_bytes();
    let colon = bytes.iter().position(|b| *b == b':');
    let Some((scheme, rest)) = colon.map(|at| (&bytes[..at], &bytes[at + 1..])) else {
        return match name(bytes)? {
            path if path.contains('/') => Err(CliError::new(format!(
                "\"{}\" is a path, not a container",
                escape(bytes)
            ))
            .hint("say overlay:MOUNTPOINT, btrfs:SUBVOLUME or tree:IMAGE_DIR:CONTAINER_DIR")),
            name => Ok(Target::Named {
                runtime: None,
                name,
            }),
        };
    };
    match scheme {
        b"docker" => of(RuntimeKind::Docker, rest),
        b"podman" => of(RuntimeKind::Podman, rest),
        b"cri-o" => of(RuntimeKind::CriO, rest),
        b"containerd" => of(RuntimeKind::Containerd, rest),
        b"k8s" => in_pod(rest),
        b"overlay" => Ok(Target::OverlayMount(path("overlay:MOUNTPOINT", rest)?)),
        b"btrfs" => Ok(Target::Subvolume(path("btrfs:SUBVOLUME", rest)?)),
        b"pid" => Ok(Target::Process(pid(rest)?)),
        b"tree" => trees(rest),
        other => Err(
            CliError::new(format!("\"{}:\" is no kind of target", escape(other)))
                .hint(
                    "there are docker:, podman:, cri-o:, containerd:, k8s:, overlay:, pid:, btrfs: and tree:",
                ),
        ),
    }
}

/// Parses the name of a runtime that `--runtime` gives.
///
/// # Errors
/// [`CliError`] for one that is not known.
pub(crate) fn runtime(name: &str) -> Result<RuntimeKind, CliError> {
    match name {
        "docker" => Ok(RuntimeKind::Docker),
        "containerd" => Ok(RuntimeKind::Containerd),
        "podman" => Ok(RuntimeKind::Podman),
        "cri-o" => Ok(RuntimeKind::CriO),
        other => Err(CliError::new(format!(
            "\"{}\" is no runtime that Plimsoll knows",
            escape(other.as_bytes())
        ))
        .hint("there are docker, containerd, podman and cri-o")),
    }
}

/// Parses a path inside the container.
///
/// # Errors
/// [`CliError`] when it is relative or not clean.
pub(crate) fn inside(text: &OsStr) -> Result<RootPath, CliError> {
    RootPath::parse(text.as_bytes()).map_err(|error| CliError::new(error.to_string()))
}

fn of(runtime: RuntimeKind, rest: &[u8]) -> Result<Target, CliError> {
    Ok(Target::Named {
        runtime: Some(runtime),
        name: name(rest)?,
    })
}

fn in_pod(rest: &[u8]) -> Result<Target, CliError> {
    const FORM: &str = "k8s:NAMESPACE/POD/CONTAINER";
    let text = name(rest)?;
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [namespace, pod, container] if parts.iter().all(|part| !part.is_empty()) => {
            Ok(Target::Pod {
                namespace: (*namespace).to_owned(),
                pod: (*pod).to_owned(),
                container: (*container).to_owned(),
            })
        }
        _ => Err(CliError::new(format!(
            "a container of a pod is named {FORM}, not \"{}\"",
            escape(text.as_bytes())
        ))),
    }
}

fn name(bytes: &[u8]) -> Result<String, CliError> {
    match std::str::from_utf8(bytes) {
        Ok("") => Err(CliError::new("the name of a container is missing")
            .hint("plimsoll check, without a name, lists every container that is found")),
        Ok(name) => Ok(name.to_owned()),
        Err(_) => Err(CliError::new(format!(
            "no container can have the name \"{}\"",
            escape(bytes)
        ))),
    }
}

fn pid(bytes: &[u8]) -> Result<u32, CliError> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match text.parse::<u32>() {
        // As the kernel writes them.
        Ok(pid @ 1..) if pid.to_string() == text => Ok(pid),
        _ => Err(CliError::new(format!(
            "\"pid:{}\" is no number of a process: pid:1234",
            escape(bytes)
        ))),
    }
}

fn path(form: &str, bytes: &[u8]) -> Result<PathBuf, CliError> {
    if bytes.is_empty() {
        return Err(CliError::new(format!("a path is missing: {form}")));
    }
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

fn trees(bytes: &[u8]) -> Result<Target, CliError> {
    const FORM: &str = "tree:IMAGE_DIR:CONTAINER_DIR";
    let mut parts = bytes.split(|b| *b == b':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(image), Some(container), None) => Ok(Target::Trees {
            image: path(FORM, image)?,
            container: path(FORM, container)?,
        }),
        (_, Some(_), Some(_)) => Err(CliError::new(format!(
            "\"tree:{}\" has more than two paths",
            escape(bytes)
        ))
        .hint(
            "of a directory with a colon in its name, give one without by way of a symbolic link",
        )),
        _ => Err(CliError::new(format!("two paths are needed: {FORM}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Target {
        parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn every_form() {
        let named = |runtime, name: &str| Target::Named {
            runtime,
            name: name.into(),
        };
        assert_eq!(parsed("web"), named(None, "web"));
        assert_eq!(parsed("0a1b2c"), named(None, "0a1b2c"));
        assert_eq!(
            parsed("docker:web"),
            named(Some(RuntimeKind::Docker), "web")
        );
        assert_eq!(parsed("podman:db"), named(Some(RuntimeKind::Podman), "db"));
        assert_eq!(parsed("cri-o:db"), named(Some(RuntimeKind::CriO), "db"));
        assert_eq!(
            parsed("containerd:k8s.io/0a1b"),
            named(Some(RuntimeKind::Containerd), "k8s.io/0a1b")
        );
        assert_eq!(
            parsed("k8s:shop/web-0/nginx"),
            Target::Pod {
                namespace: "shop".into(),
                pod: "web-0".into(),
                container: "nginx".into()
            }
        );
        assert_eq!(parsed("overlay:/a:b"), Target::OverlayMount("/a:b".into()));
        assert_eq!(parsed("btrfs:/a:b"), Target::Subvolume("/a:b".into()));
        assert_eq!(parsed("pid:1234"), Target::Process(1234));
        assert_eq!(
            parsed("tree:a:/b"),
            Target::Trees {
                image: "a".into(),
                container: "/b".into()
            }
        );
        assert_eq!(
            parse(OsStr::from_bytes(b"overlay:/\xff")).unwrap(),
            Target::OverlayMount(OsStr::from_bytes(b"/\xff").into())
        );
    }

    #[test]
    fn what_cannot_be_is_refused_in_one_sentence() {
        for (text, why) in [
            (&b""[..], "missing"),
            (b"docker:", "missing"),
            (b"overlay:", "a path is missing"),
            (b"btrfs:", "a path is missing"),
            (b"pid:", "no number"),
            (b"pid:0", "no number"),
            (b"pid:+7", "no number"),
            (b"pid:07", "no number"),
            (b"pid:99999999999", "no number"),
            (b"pid:self", "no number"),
            (b"tree:/a", "two paths are needed"),
            (b"tree:/a:", "a path is missing"),
            (b"tree:/a:/b:/c", "more than two"),
            (b"podman:", "missing"),
            (b"containerd:", "missing"),
            (b"k8s:ns/pod", "k8s:NAMESPACE/POD/CONTAINER"),
            (b"k8s:ns//c", "k8s:NAMESPACE/POD/CONTAINER"),
            (b"k8s:a/b/c/d", "k8s:NAMESPACE/POD/CONTAINER"),
            (b"oci:x", "no kind of target"),
            (b"/var/lib/x", "is a path"),
            (b"\xff", "no container can have"),
            (b"\x1b[2J:x", "\\x1b[2J"),
        ] {
            let error = parse(OsStr::from_bytes(text)).unwrap_err();
            assert!(error.message.contains(why), "{}: {error}", escape(text));
            assert!(!error.message.contains(['\n', '\x1b']), "{error:?}");
        }
    }

    #[test]
    fn runtimes() {
        for known in ["docker", "containerd", "podman", "cri-o"] {
            assert_eq!(runtime(known).unwrap().as_str(), known);
        }
        for other in ["crio", "k8s", "lxc", ""] {
            assert!(runtime(other).is_err(), "{other}");
        }
    }
}
