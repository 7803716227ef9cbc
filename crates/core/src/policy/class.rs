//! What a path is good for, by its name, its mode and its type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Attributes, Change, FileType};

/// What a path is good for.
///
/// A guess from names that the file system hierarchy standard and the distributions settled on: it
/// helps to read a report and to write a rule, and proves nothing. What can run comes first, so
/// that a rule about logs or caches never covers a program that was put among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A device node.
    Device,
    /// A regular file that may be executed, or anything in a directory of programs.
    Executable,
    /// A shared object, a kernel module or a static library.
    Library,
    /// Source or byte code that an interpreter runs, by its extension.
    Script,
    /// Accounts, keys, and who may become whom.
    Credential,
    /// What the package manager believes to be installed.
    PackageDatabase,
    /// Configuration.
    Config,
    /// Logs.
    Log,
    /// What a program can make again.
    Cache,
    /// Temporary files.
    Temporary,
    /// State of the running system: pid files, sockets, pipes.
    RuntimeState,
    /// None of these.
    Other,
}

impl Class {
    /// Returns the word used in reports and policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Executable => "executable",
            Self::Library => "library",
            Self::Script => "script",
            Self::Credential => "credential",
            Self::PackageDatabase => "package-database",
            Self::Config => "config",
            Self::Log => "log",
            Self::Cache => "cache",
            Self::Temporary => "temporary",
            Self::RuntimeState => "runtime-state",
            Self::Other => "other",
        }
    }

    /// Returns the class of a changed path: by what it is now, and by what it was, whichever comes
    /// first in the order of [`Class`].
    #[must_use]
    pub fn of(change: &Change) -> Self {
        let path = change.path.as_bytes();
        let sides = [change.before(), change.after()];
        let sides = sides.each_ref().map(Option::as_ref);
        if sides.iter().flatten().any(|a| is_device(a)) {
            return Self::Device;
        }
        let is_directory = sides.iter().flatten().all(|a| a.file_type.has_entries())
            && sides.iter().any(Option::is_some);
        if !is_directory {
            if let Some(class) = library(path).or_else(|| script(path)) {
                return class;
            }
            if sides.iter().flatten().any(|a| may_run(a)) || beneath(path, PROGRAMS) {
                return Self::Executable;
            }
        }
        by_place(path, sides.into_iter().flatten())
    }
}

const PROGRAMS: &[&[u8]] = &[
    b"/bin",
    b"/sbin",
    b"/usr/bin",
    b"/usr/sbin",
    b"/usr/local/bin",
    b"/usr/local/sbin",
    b"/usr/libexec",
];

/// Paths and directories by class, most specific first. An entry stands for itself and for
/// everything beneath it.
const PLACES: &[(Class, &[&[u8]])] = &[
    (
        Class::Credential,
        &[
            b"/etc/passwd",
            b"/etc/passwd-",
            b"/etc/shadow",
            b"/etc/shadow-",
            b"/etc/group",
            b"/etc/group-",
            b"/etc/gshadow",
            b"/etc/gshadow-",
            b"/etc/subuid",
            b"/etc/subgid",
            b"/etc/sudoers",
            b"/etc/sudoers.d",
            b"/etc/doas.conf",
            b"/etc/doas.d",
            b"/etc/pam.d",
            b"/etc/security",
            b"/etc/krb5.keytab",
            b"/etc/ssh",
            b"/etc/ssl/private",
            b"/etc/pki/tls/private",
            b"/run/secrets",
            b"/var/run/secrets",
        ],
    ),
    (
        Class::PackageDatabase,
        &[
            b"/var/lib/dpkg",
            b"/var/lib/apt",
            b"/var/lib/rpm",
            b"/usr/lib/sysimage/rpm",
            b"/var/lib/dnf",
            b"/lib/apk",
            b"/usr/lib/apk",
            b"/var/lib/pacman",
        ],
    ),
    (Class::Log, &[b"/var/log"]),
    (Class::Cache, &[b"/var/cache", b"/etc/ld.so.cache"]),
    (Class::Temporary, &[b"/tmp", b"/var/tmp", b"/dev/shm"]),
    (Class::RuntimeState, &[b"/run", b"/var/run", b"/var/lock"]),
    (Class::Config, &[b"/etc", b"/usr/local/etc", b"/usr/etc"]),
];

/// Directory names that make a class wherever they lie.
const DIRECTORIES: &[(Class, &[&[u8]])] = &[
    (
        Class::Credential,
        &[b".ssh", b".gnupg", b".aws", b".kube", b".docker"],
    ),
    (Class::Cache, &[b".cache"]),
];

const SECRET_NAMES: &[&[u8]] = &[b".netrc", b".pgpass", b".git-credentials", b".htpasswd"];
const SECRET_EXTENSIONS: &[&[u8]] = &[b"key", b"p12", b"pfx", b"jks", b"keytab"];
const SCRIPTS: &[&[u8]] = &[
    b"sh", b"bash", b"py", b"pyc", b"pyo", b"pth", b"pl", b"pm", b"rb", b"php", b"phar", b"js",
    b"mjs", b"cjs", b"lua", b"tcl", b"awk", b"class", b"jar", b"war",
];

fn by_place<'a>(path: &[u8], sides: impl Iterator<Item = &'a Attributes>) -> Class {
    let name = name(path);
    if SECRET_NAMES.contains(&name)
        || extension(name).is_some_and(|e| SECRET_EXTENSIONS.contains(&e))
    {
        return Class::Credential;
    }
    let named = DIRECTORIES
        .iter()
        .find(|(_, names)| path.split(|b| *b == b'/').any(|part| names.contains(&part)));
    if let Some((class, _)) = named {
        return *class;
    }
    if let Some((class, _)) = PLACES.iter().find(|(_, places)| beneath(path, places)) {
        return *class;
    }
    let mut types = sides.map(|a| a.file_type);
    if types.any(|t| matches!(t, FileType::Fifo | FileType::Socket))
        || extension(name) == Some(b"pid")
    {
        return Class::RuntimeState;
    }
    Class::Other
}

fn is_device(attributes: &Attributes) -> bool {
    matches!(
        attributes.file_type,
        FileType::CharDevice | FileType::BlockDevice
    )
}

fn may_run(attributes: &Attributes) -> bool {
    attributes.file_type == FileType::File && attributes.mode & 0o111 != 0
}

/// `libc.so`, `libc.so.6`, `ext4.ko.xz`, `libm.a`, and the file that makes the loader take one more.
fn library(path: &[u8]) -> Option<Class> {
    let name = name(path);
    let mut parts = name.split(|b| *b == b'.').skip(1).peekable();
    let versioned = parts.any(|part| part == b"so" || part == b"ko")
        && parts.all(|part| {
            part.iter().all(u8::is_ascii_digit) || [&b"xz"[..], b"gz", b"zst"].contains(&part)
        });
    let archive = name.starts_with(b"lib") && extension(name) == Some(b"a");
    (versioned || archive || path == b"/etc/ld.so.preload").then_some(Class::Library)
}

fn script(path: &[u8]) -> Option<Class> {
    let extension = extension(name(path))?;
    SCRIPTS.contains(&extension).then_some(Class::Script)
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or_default()
}

fn extension(name: &[u8]) -> Option<&[u8]> {
    let dot = name.iter().rposition(|b| *b == b'.')?;
    (dot > 0).then(|| name.get(dot + 1..)).flatten()
}

fn beneath(path: &[u8], places: &[&[u8]]) -> bool {
    places.iter().any(|place| {
        path.strip_prefix(*place)
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChangeKind, RootPath, Sides, Timestamp};

    fn attributes(file_type: FileType, mode: u16) -> Option<Box<Attributes>> {
        Some(Box::new(Attributes {
            file_type,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp {
                seconds: 0,
                nanoseconds: 0,
            },
            links: 1,
            device: None,
            target: None,
            immutable: false,
            append_only: false,
        }))
    }

    fn change(
        path: &[u8],
        before: Option<Box<Attributes>>,
        after: Option<Box<Attributes>>,
    ) -> Change {
        Change {
            sides: Sides::new(before.as_deref(), after.as_deref()),
            ..Change::new(RootPath::parse(path).unwrap(), ChangeKind::Changed)
        }
    }

    #[test]
    fn classes_by_name_mode_and_type() {
        use FileType::{BlockDevice, Directory, Fifo, File, Symlink};
        for (path, file_type, mode, class) in [
            ("/usr/bin/nginx", File, 0o755, Class::Executable),
            ("/usr/bin/vi", Symlink, 0o777, Class::Executable),
            ("/opt/app/server", File, 0o755, Class::Executable),
            ("/opt/app", Directory, 0o755, Class::Other),
            (
                "/usr/lib/x86_64-linux-gnu/libc.so.6",
                File,
                0o755,
                Class::Library,
            ),
            ("/opt/plugin.so", File, 0o644, Class::Library),
            ("/etc/ld.so.preload", File, 0o644, Class::Library),
            ("/etc/ld.so.cache", File, 0o644, Class::Cache),
            ("/opt/so.conf", File, 0o644, Class::Other),
            ("/srv/www/index.php", File, 0o644, Class::Script),
            (
                "/usr/lib/python3/x/__pycache__/y.pyc",
                File,
                0o644,
                Class::Script,
            ),
            ("/etc/passwd", File, 0o644, Class::Credential),
            ("/etc/passwd.d", File, 0o644, Class::Config),
            ("/root/.ssh/authorized_keys", File, 0o600, Class::Credential),
            ("/root/.ssh", Directory, 0o700, Class::Credential),
            ("/srv/tls/site.key", File, 0o600, Class::Credential),
            ("/var/lib/dpkg/status", File, 0o644, Class::PackageDatabase),
            ("/var/log/nginx/access.log", File, 0o644, Class::Log),
            ("/var/log/nginx/miner", File, 0o755, Class::Executable),
            ("/tmp/x.so", File, 0o644, Class::Library),
            ("/tmp/x", File, 0o644, Class::Temporary),
            ("/tmp", Directory, 0o1777, Class::Temporary),
            ("/home/a/.cache/x", File, 0o644, Class::Cache),
            ("/run/nginx.pid", File, 0o644, Class::RuntimeState),
            ("/srv/queue", Fifo, 0o644, Class::RuntimeState),
            ("/etc/nginx/nginx.conf", File, 0o644, Class::Config),
            ("/srv/disk", BlockDevice, 0o600, Class::Device),
            ("/srv/data", File, 0o644, Class::Other),
            ("/", Directory, 0o755, Class::Other),
        ] {
            let change = change(path.as_bytes(), None, attributes(file_type, mode));
            assert_eq!(Class::of(&change), class, "{path}");
        }
    }

    #[test]
    fn either_side_can_make_it_a_program() {
        let change = change(
            b"/var/log/x",
            attributes(FileType::File, 0o755),
            attributes(FileType::File, 0o644),
        );
        assert_eq!(Class::of(&change), Class::Executable);
    }

    #[test]
    fn words_are_the_serialised_ones() {
        for class in [
            Class::PackageDatabase,
            Class::RuntimeState,
            Class::Other,
            Class::Device,
        ] {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
        }
    }
}
