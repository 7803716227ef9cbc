//! One path that differs between an image and a container.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use super::{Bytes, DiffId, RootPath, Sides};

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// Only the container has it.
    Added,
    /// Only the image has it. A deleted directory stands for everything beneath it.
    Deleted,
    /// Both have it, of one type, and it differs.
    Changed,
    /// Both have it, but as different file types.
    Replaced,
}

impl ChangeKind {
    /// Returns the letter used in tables: `A`, `D`, `C`, `T`.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Deleted => 'D',
            Self::Changed => 'C',
            Self::Replaced => 'T',
        }
    }
}

/// In which respect a changed path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[repr(u16)]
pub enum Aspect {
    /// The bytes of a regular file.
    Content = 1,
    /// Permission bits, set-uid, set-gid and sticky included.
    Mode = 1 << 1,
    /// User or group.
    Owner = 1 << 2,
    /// Extended attributes: file capabilities and ACLs are among them.
    Xattr = 1 << 3,
    /// The target of a symbolic link.
    Target = 1 << 4,
    /// The numbers of a device node.
    Device = 1 << 5,
    /// The inode flags *immutable* and *append-only* (chattr).
    Flags = 1 << 6,
    /// The number of names of the inode. Told beside other aspects, never a change by itself.
    Links = 1 << 7,
    /// The modification time. Told beside other aspects, never a change by itself.
    Times = 1 << 8,
}

impl Aspect {
    /// All aspects, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::Content,
        Self::Mode,
        Self::Owner,
        Self::Xattr,
        Self::Target,
        Self::Device,
        Self::Flags,
        Self::Links,
        Self::Times,
    ];

    /// Returns the word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Xattr => "xattr",
            Self::Target => "target",
            Self::Device => "device",
            Self::Flags => "flags",
            Self::Links => "links",
            Self::Times => "times",
        }
    }
}

/// A set of [`Aspect`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Aspects(u16);

impl Aspects {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// Adds one aspect.
    pub fn insert(&mut self, aspect: Aspect) {
        self.0 |= aspect as u16;
    }

    /// Whether `aspect` is among them.
    #[must_use]
    pub fn contains(self, aspect: Aspect) -> bool {
        self.0 & aspect as u16 != 0
    }

    /// Whether none is set.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether what is set makes a change: anything but the number of links and the times, which
    /// move without the path being any different to who reads it.
    #[must_use]
    pub fn is_change(self) -> bool {
        self.0 & !(Aspect::Links as u16 | Aspect::Times as u16) != 0
    }

    /// Returns the aspects in the order in which they are shown.
    pub fn iter(self) -> impl Iterator<Item = Aspect> {
        Aspect::ALL.into_iter().filter(move |a| self.contains(*a))
    }
}

impl FromIterator<Aspect> for Aspects {
    fn from_iter<I: IntoIterator<Item = Aspect>>(aspects: I) -> Self {
        let mut set = Self::NONE;
        for aspect in aspects {
            set.insert(aspect);
        }
        set
    }
}

impl fmt::Debug for Aspects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Aspects {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Aspects {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Aspect>::deserialize(deserializer).map(Self::from_iter)
    }
}

impl JsonSchema for Aspects {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Aspects".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<Aspect>();
        json_schema!({"type": "array", "items": item, "uniqueItems": true})
    }
}

/// The type of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// The root of a Btrfs subvolume nested in the container's own.
    Subvolume,
}

impl FileType {
    /// Returns the type that the format bits of `st_mode` name, or `None` for unknown bits.
    #[must_use]
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            _ => return None,
        })
    }

    /// Whether it has entries beneath it.
    #[must_use]
    pub fn has_entries(self) -> bool {
        matches!(self, Self::Directory | Self::Subvolume)
    }
}

/// Major and minor number of a device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// A moment on the host's real-time clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A container may set any time, also one that no calendar has: then the bare number.
        match jiff::Timestamp::new(self.seconds, self.nanoseconds.min(999_999_999) as i32) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "@{}.{:09}", self.seconds, self.nanoseconds),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "RFC 3339 in UTC, or @SECONDS.NANOSECONDS outside the calendar"})
    }
}

/// The attributes of one path on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    /// File type.
    #[serde(rename = "type")]
    pub file_type: FileType,
    /// Permission bits (the lower 12 bits of `st_mode`), in JSON as four octal digits.
    #[serde(serialize_with = "octal")]
    #[schemars(with = "String")]
    pub mode: u16,
    /// Numeric user id, as on disk.
    pub uid: u32,
    /// Numeric group id, as on disk.
    pub gid: u32,
    /// Length in bytes; 0 for anything but regular files and symbolic links.
    pub size: u64,
    /// Modification time.
    pub mtime: Timestamp,
    /// Number of names of the inode, as the file system counts them.
    pub links: u32,
    /// Numbers of a device node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// Target of a symbolic link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Bytes>,
    /// The inode flag *immutable*.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub immutable: bool,
    /// The inode flag *append-only*.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub append_only: bool,
}

fn octal<S: Serializer>(mode: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{mode:04o}"))
}

/// One path that differs. There may be very many of them, so that what most do not have takes no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path inside the rootfs.
    pub path: RootPath,
    /// What happened to it.
    pub kind: ChangeKind,
    /// In which respects it differs; empty for added and deleted paths.
    pub aspects: Aspects,
    /// `false` when metadata shows that the content may differ and nobody looked: only with
    /// `--confirm never`, or beside a gap.
    pub confirmed: bool,
    /// The attributes in the image and in the container.
    pub sides: Sides,
    /// The names of the extended attributes that differ, sorted; of what the image does not have, of all that the
    /// host's security modules do not give to every file.
    pub xattrs: Box<[Bytes]>,
    /// Where the storage driver says that it came from, for an added path.
    pub renamed_from: Option<Box<RootPath>>,
    /// The layer that the original came from, where the driver tells layers apart: one for all of its.
    pub origin: Option<Arc<DiffId>>,
}

impl Change {
    /// Returns a change of this kind of which nothing more is known.
    #[must_use]
    pub fn new(path: RootPath, kind: ChangeKind) -> Self {
        Self {
            path,
            kind,
            aspects: Aspects::NONE,
            confirmed: true,
            sides: Sides::default(),
            xattrs: Box::default(),
            renamed_from: None,
            origin: None,
        }
    }

    /// Returns the attributes in the image.
    #[must_use]
    pub fn before(&self) -> Option<Attributes> {
        self.sides.before()
    }

    /// Returns the attributes in the container.
    #[must_use]
    pub fn after(&self) -> Option<Attributes> {
        self.sides.after()
    }
}
