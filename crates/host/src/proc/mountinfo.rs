//! The kernel's list of mounts, `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use plimsoll_core::model::Bytes;

/// One line of mountinfo, unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Number of the mount, unlike that of any other on this machine while it lasts.
    pub id: u64,
    /// Device number of the file system, `major:minor`.
    pub device: Bytes,
    /// Path within the file system that is the root of this mount.
    pub root: Bytes,
    /// Where it is mounted, relative to the root of the process.
    pub mount_point: Bytes,
    /// Whether nothing can be written through it.
    pub read_only: bool,
    /// Type of the file system.
    pub fs_type: Bytes,
    /// What was mounted.
    pub source: Bytes,
    /// Options of the file system as the kernel prints them: octal escapes are still in place, since
    /// what they hide matters when the options are split.
    pub super_options: Bytes,
}

impl Mount {
    /// Whether the program fuse-overlayfs answers for it, or one that says that it is that: nothing but the
    /// name tells.
    #[must_use]
    pub fn is_fuse_overlay(&self) -> bool {
        is_fuse_overlay(&self.fs_type)
    }
}

/// Whether a file system of this type is one that the program fuse-overlayfs answers for, or one that says that
/// it is that.
pub(super) fn is_fuse_overlay(fs_type: &Bytes) -> bool {
    fs_type.as_bytes() == b"fuse.fuse-overlayfs"
}

/// Parses a mountinfo file. Lines that are not of its form are left out.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = fields.nth(1)?;
    let root = fields.next()?;
    let mount_point = fields.next()?;
    let mut options = fields.next()?.split(|b| *b == b',');
    // Optional fields, then a hyphen.
    fields.find(|field| *field == b"-")?;
    let fs_type = fields.next()?;
    // The source may be empty, which leaves two spaces in a row.
    let source = fields.next()?;
    let super_options = fields.next()?;
    Some(Mount {
        id,
        device: device.into(),
        read_only: options.any(|option| option == b"ro"),
        root: unescape(root).into(),
        mount_point: unescape(mount_point).into(),
        fs_type: unescape(fs_type).into(),
        source: unescape(source).into(),
        super_options: super_options.into(),
    })
}

/// Whether a mountinfo file ends where the kernel ended it: after a whole line.
#[must_use]
pub fn is_whole(text: &[u8]) -> bool {
    text.last().is_none_or(|last| *last == b'\n')
}

/// Undoes the octal escapes of the kernel's `mangle_path` and `seq_escape`.
#[must_use]
pub fn unescape(text: &[u8]) -> Vec<u8> {
    if !text.contains(&b'\\') {
        return text.to_vec();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .filter(|digits| byte == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        match octal {
            Some(digits) => {
                let value = digits.iter().fold(0u32, |n, d| n * 8 + u32::from(d - b'0'));
                out.push(u8::try_from(value).unwrap_or(b'?'));
                rest = &tail[3..];
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

/// What an overlay mount's options say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OverlayMount {
    /// Lower directories as they were given at mount time, top first.
    pub lower: Vec<Vec<u8>>,
    /// Data-only lower directories, top first.
    pub data_only: Vec<Vec<u8>>,
    /// Upper directory; `None` for a read-only mount.
    pub upper: Option<Vec<u8>>,
    /// Work directory.
    pub work: Option<Vec<u8>>,
    /// Whether marks are `user.overlay.*`.
    pub userxattr: bool,
    /// Whether the mount's file system id comes from an attribute of the upper layer (`uuid=on`).
    pub uuid: bool,
}

/// Why the options of an overlay mount do not tell its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// They end within a value.
    #[error("its options are cut short: they end within \"{0}\"")]
    CutShort(&'static str),
    /// There is no lower layer, or one without a name.
    #[error("its options name no lower layer, or one without a path")]
    NoLower,
    /// An upper layer without a work directory, or the other way round, which the kernel never mounts.
    #[error("its options name {0} alone, which is never mounted so: they are cut short")]
    Half(&'static str),
}

impl OverlayMount {
    /// Decodes the options of an overlay mount, and sees that they are whole.
    ///
    /// # Errors
    /// [`OptionsError`] when layers are missing or a value is cut off.
    pub fn decode_whole(super_options: &[u8]) -> Result<Self, OptionsError> {
        if let Some(key) = cut_off(super_options) {
            return Err(OptionsError::CutShort(key));
        }
        let mount = Self::decode(super_options);
        if mount.lower.is_empty() || mount.paths().any(<[u8]>::is_empty) {
            return Err(OptionsError::NoLower);
        }
        match (&mount.upper, &mount.work) {
            (Some(_), None) => Err(OptionsError::Half("an upper layer")),
            (None, Some(_)) => Err(OptionsError::Half("a work directory")),
            _ => Ok(mount),
        }
    }

    /// Returns every path that they name.
    fn paths(&self) -> impl Iterator<Item = &[u8]> {
        let lowers = self.lower.iter().chain(&self.data_only);
        let all = lowers.chain(&self.upper).chain(&self.work);
        all.map(Vec::as_slice)
    }

    /// Decodes the options of an overlay mount.
    ///
    /// Order matters (facts: kernel `fs/overlayfs/params.c`): octal escapes first, then the options
    /// are split at bare commas, then the lowers at bare colons, then backslashes go. `::` begins
    /// the data-only lowers.
    ///
    /// Linux 6.5 and 6.6 print `lowerdir` otherwise: as the names themselves, in which a colon is an octal
    /// escape and a backslash is part of the name.
    #[must_use]
    pub fn decode(super_options: &[u8]) -> Self {
        let mut mount = Self::default();
        for raw in super_options.split(|b| *b == b',') {
            // A comma within a path is printed as \054, so bare commas separate options.
            let option = unescape(raw);
            let (key, value) = match option.iter().position(|b| *b == b'=') {
                Some(at) => (&option[..at], &option[at + 1..]),
                None => (&option[..], &b""[..]),
            };
            match key {
                b"lowerdir" => {
                    let groups = match raw.windows(4).any(|octal| octal == b"\\072") {
                        true => split_names(raw.get(b"lowerdir=".len()..).unwrap_or_default()),
                        false => split_lowers(value),
                    };
                    let mut groups = groups.into_iter();
                    mount.lower = groups.next().unwrap_or_default();
                    mount.data_only = groups.flatten().collect();
                }
                // Of these two the kernel takes the value as it is: a backslash is part of the name.
                b"lowerdir+" => mount.lower.push(value.to_vec()),
                b"datadir+" => mount.data_only.push(value.to_vec()),
                b"upperdir" => mount.upper = Some(strip_backslashes(value)),
                b"workdir" => mount.work = Some(strip_backslashes(value)),
                b"userxattr" => mount.userxattr = true,
                b"uuid" => mount.uuid = value == b"on",
                _ => {}
            }
        }
        mount
    }
}

/// Returns the option that the options end in the middle of: within an escape, or after a separator.
fn cut_off(options: &[u8]) -> Option<&'static str> {
    const KEYS: [&str; 5] = ["lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir"];
    let last = options.rsplit(|b| *b == b',').next()?;
    let (key, value) = last.split_at(last.iter().position(|b| *b == b'=')?);
    let key = KEYS.into_iter().find(|known| known.as_bytes() == key)?;
    let value = value.get(1..).unwrap_or_default();
    // An octal escape has three digits; every backslash of a name is one.
    let after = value.iter().rev().position(|b| *b == b'\\');
    let in_escape = after.is_some_and(|digits| digits < 3);
    let is_escaping =
        key != "lowerdir+" && key != "datadir+" && ends_in_backslash(&unescape(value));
    (value.is_empty() || in_escape || is_escaping || value.ends_with(b":")).then_some(key)
}

/// Whether a value ends with a backslash that nothing follows.
fn ends_in_backslash(value: &[u8]) -> bool {
    value.iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1
}

/// Splits a `lowerdir` value of names in which every colon is an octal escape.
fn split_names(value: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut groups = vec![Vec::new()];
    let mut names = value.split(|b| *b == b':').peekable();
    while let Some(name) = names.next() {
        if let Some(group) = groups.last_mut() {
            group.push(unescape(name));
        }
        // Two in a row have nothing between them.
        if names.next_if(|next| next.is_empty()).is_some() {
            groups.push(Vec::new());
        }
    }
    groups
}

/// Splits a `lowerdir` value: groups separated by `::`, directories within a group by `:`.
fn split_lowers(value: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut groups = vec![Vec::new()];
    let mut current = Vec::new();
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => current.extend(bytes.next()),
            b':' => {
                if let Some(group) = groups.last_mut() {
                    group.push(std::mem::take(&mut current));
                }
                if bytes.next_if_eq(&b':').is_some() {
                    groups.push(Vec::new());
                }
            }
            _ => current.push(byte),
        }
    }
    if let Some(group) = groups.last_mut() {
        group.push(current);
    }
    groups
}

fn strip_backslashes(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            _ => out.push(byte),
        }
    }
    out
}

/// Returns the `subvolid` of a Btrfs mount's options.
pub(crate) fn subvolume_option(options: &[u8]) -> Option<u64> {
    let value = options
        .split(|b| *b == b',')
        .find_map(|option| option.strip_prefix(b"subvolid="))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_escapes_and_an_empty_source() {
        let text =
            b"36 35 98:0 /a\\040b /mnt\\134x rw,noatime shared:1 master:2 - ext4  rw\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].root.as_bytes(), b"/a b");
        assert_eq!(mounts[0].mount_point.as_bytes(), b"/mnt\\x");
        assert_eq!(mounts[0].source.as_bytes(), b"");
    }

    #[test]
    fn overlay_options() {
        let mount = OverlayMount::decode(
            b"rw,lowerdir=/a\\134:b:/c\\134\\054d::/data,upperdir=/up\\134\\134x,workdir=/w,userxattr,metacopy=on",
        );
        assert_eq!(mount.lower, [b"/a:b".to_vec(), b"/c,d".to_vec()]);
        assert_eq!(mount.data_only, [b"/data".to_vec()]);
        assert_eq!(mount.upper.as_deref(), Some(&b"/up\\x"[..]));
        assert!(mount.userxattr);
        let mount =
            OverlayMount::decode(b"rw,lowerdir+=/one,lowerdir+=/two,datadir+=/three,upperdir=/u");
        assert_eq!(mount.lower, [b"/one".to_vec(), b"/two".to_vec()]);
        assert_eq!(mount.data_only, [b"/three".to_vec()]);
        // As Linux 6.18 prints an overlay of /x\:y with two lists of lowers.
        let mount = OverlayMount::decode(
            b"rw,lowerdir+=/x\\134:y/l,datadir+=/x\\134:y/d,upperdir=/x\\134\\134\\134:y/u",
        );
        assert_eq!(mount.lower, [b"/x\\:y/l".to_vec()]);
        assert_eq!(mount.data_only, [b"/x\\:y/d".to_vec()]);
        assert_eq!(mount.upper.as_deref(), Some(&b"/x\\:y/u"[..]));
    }

    #[test]
    fn names_with_colons_as_linux_6_5_prints_them() {
        let mount = OverlayMount::decode(
            b"rw,lowerdir=/a\\072b:/c\\134d::/data\\072::/e,upperdir=/u,workdir=/w",
        );
        assert_eq!(mount.lower, [b"/a:b".to_vec(), b"/c\\d".to_vec()]);
        assert_eq!(mount.data_only, [b"/data:".to_vec(), b"/e".to_vec()]);
    }

    #[test]
    fn options_that_are_cut_short() {
        let whole = b"rw,lowerdir=/a\\134:b:/c,upperdir=/u\\040x,workdir=/w\\134\\134";
        assert!(OverlayMount::decode_whole(whole).is_ok());
        for end in 0..whole.len() {
            let told = OverlayMount::decode_whole(&whole[..end]);
            // Where a path ends cannot be told from the path.
            let within_work = end > whole.len() - b"w\\134\\134".len() - 1;
            if let Ok(mount) = told {
                let read_only = mount.upper.is_none();
                assert!(
                    within_work || read_only,
                    "{}",
                    &String::from_utf8_lossy(&whole[..end])
                );
            }
        }
        for (options, error) in [
            (
                &b"rw,lowerdir=/a,upperdir=/u"[..],
                OptionsError::Half("an upper layer"),
            ),
            (
                b"rw,lowerdir=/a,upperdir=/u,workdir=",
                OptionsError::CutShort("workdir"),
            ),
            (
                b"rw,lowerdir=/a,upperdir=/u,workdir=/w\\13",
                OptionsError::CutShort("workdir"),
            ),
            (b"rw,lowerdir=/a:", OptionsError::CutShort("lowerdir")),
            (
                b"rw,lowerdir=/a::/b\\134",
                OptionsError::CutShort("lowerdir"),
            ),
            (b"rw,upperdir=/u,workdir=/w", OptionsError::NoLower),
            (b"rw", OptionsError::NoLower),
        ] {
            assert_eq!(OverlayMount::decode_whole(options), Err(error));
        }
        assert!(is_whole(b"a line\n") && is_whole(b"") && !is_whole(b"a li"));
    }

    #[test]
    fn bad_octals_stay() {
        assert_eq!(unescape(b"\\9 \\0 \\12"), b"\\9 \\0 \\12");
        assert_eq!(unescape(b"\\777"), b"?");
    }
}
