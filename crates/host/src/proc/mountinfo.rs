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

/// Undoes the octal escapes of the kernel's `mangle_path` and `seq_escape`.
#[must_use]
pub fn unescape(text: &[u8]) -> Vec<u8> {
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
}

impl OverlayMount {
    /// Decodes the options of an overlay mount.
    ///
    /// Order matters (facts: kernel `fs/overlayfs/params.c`): octal escapes first, then the options
    /// are split at bare commas, then the lowers at bare colons, then backslashes go. `::` begins
    /// the data-only lowers.
    #[must_use]
    pub fn decode(super_options: &[u8]) -> Self {
        let mut mount = Self::default();
        for option in super_options.split(|b| *b == b',') {
            // A comma within a path is printed as \054, so bare commas separate options.
            let option = unescape(option);
            let (key, value) = match option.iter().position(|b| *b == b'=') {
                Some(at) => (&option[..at], &option[at + 1..]),
                None => (&option[..], &b""[..]),
            };
            match key {
                b"lowerdir" => {
                    let mut groups = split_lowers(value).into_iter();
                    mount.lower = groups.next().unwrap_or_default();
                    mount.data_only = groups.flatten().collect();
                }
                // Of these two the kernel takes the value as it is: a backslash is part of the name.
                b"lowerdir+" => mount.lower.push(value.to_vec()),
                b"datadir+" => mount.data_only.push(value.to_vec()),
                b"upperdir" => mount.upper = Some(strip_backslashes(value)),
                b"workdir" => mount.work = Some(strip_backslashes(value)),
                b"userxattr" => mount.userxattr = true,
                _ => {}
            }
        }
        mount
    }
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
    fn bad_octals_stay() {
        assert_eq!(unescape(b"\\9 \\0 \\12"), b"\\9 \\0 \\12");
        assert_eq!(unescape(b"\\777"), b"?");
    }
}
