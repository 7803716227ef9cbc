//! The images: a Debian base, filled up with generated files in several layers, as one archive that
//! Docker, Podman and containerd all load.
//!
//! No registry is asked. The generated part is the same on every machine; the base is what Debian's
//! mirrors hold on the day it is made.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::results::ImageFacts;

/// What an image is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    /// Its name, which the results go by.
    pub(crate) name: &'static str,
    /// Regular files, those of the base included.
    pub(crate) files: usize,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Layers, the base included.
    pub(crate) layers: usize,
}

/// An image, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Archive {
    /// What it was to be.
    pub(crate) spec: Spec,
    /// The archive, in the form of `docker save`.
    pub(crate) path: PathBuf,
    /// What it came to.
    pub(crate) facts: ImageFacts,
    /// The name that its topmost layer has in containerd: its chain id.
    pub(crate) chain_id: String,
    /// The regular files that can be changed, sorted: not empty, with one name, and plain to print.
    pub(crate) candidates: Vec<String>,
}

/// Where the program lies that containers run.
pub(crate) const WAITER: &str = "/opt/bench/busybox";

/// A part of the image that nobody else has: the tag is the same for every image.
pub(crate) fn reference(spec: Spec) -> String {
    format!("bench/{}:1", spec.name)
}

/// Makes the archive in `dir` from the archive of the base.
pub(crate) fn make(spec: Spec, base: &Path, dir: &Path) -> Archive {
    let mut facts = ImageFacts {
        name: spec.name.to_owned(),
        layers: spec.layers,
        ..ImageFacts::default()
    };
    let mut candidates = of_base(base, &mut facts);
    let mut layers = vec![base.to_owned()];
    let missing = spec.files.saturating_sub(facts.files as usize + 1);
    let average = spec.bytes.saturating_sub(facts.bytes) / missing.max(1) as u64;
    let generated = spec.layers - 1;
    let mut done = 0;
    for layer in 0..generated {
        let until = missing * (layer + 1) / generated;
        let path = dir.join(format!("{}-{layer}.tar", spec.name));
        let mut made = Layer::new(&path, layer);
        if layer == 0 {
            made.waiter();
            facts.files += 1;
        }
        for number in done..until {
            let (name, bytes) = made.file(number, average.max(64));
            candidates.push(name);
            facts.files += 1;
            facts.bytes += bytes;
        }
        facts.directories += made.directories.len() as u64;
        made.finish();
        done = until;
        layers.push(path);
    }
    candidates.sort();
    let path = dir.join(format!("{}.tar", spec.name));
    let chain_id = pack(spec, &layers, &path);
    for layer in layers.iter().skip(1) {
        std::fs::remove_file(layer).expect("layer");
    }
    Archive {
        spec,
        path,
        facts,
        chain_id,
        candidates,
    }
}

/// Counts what the base has, and returns which of its files can be changed.
fn of_base(base: &Path, facts: &mut ImageFacts) -> Vec<String> {
    let mut tar = tar::Archive::new(BufReader::new(File::open(base).expect("base")));
    let (mut files, mut linked) = (BTreeSet::new(), BTreeSet::new());
    for entry in tar.entries().expect("base") {
        let entry = entry.expect("entry of the base");
        let kind = entry.header().entry_type();
        let path = absolute(&entry.path().expect("path").display().to_string());
        if kind.is_dir() {
            facts.directories += 1;
        } else if kind.is_file() {
            facts.files += 1;
            facts.bytes += entry.size();
            if entry.size() > 0 {
                files.insert(path);
            }
        } else if kind.is_hard_link() {
            let target = entry.link_name().expect("target").expect("target");
            linked.insert(absolute(&target.display().to_string()));
        } else if kind.is_symlink() {
            facts.symlinks += 1;
        }
    }
    files
        .into_iter()
        .filter(|path| !linked.contains(path) && is_plain(path) && !is_of_runtime(path))
        .collect()
}

fn absolute(path: &str) -> String {
    format!("/{}", path.trim_start_matches("./").trim_start_matches('/'))
}

/// Whether every tool prints it as it is.
fn is_plain(path: &str) -> bool {
    path.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte))
}

/// Whether a runtime puts something of its own in its place.
fn is_of_runtime(path: &str) -> bool {
    ["/dev/", "/proc/", "/sys/", "/run/"]
        .iter()
        .any(|dir| path.starts_with(dir))
        || [
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/etc/mtab",
        ]
        .contains(&path)
}

/// A layer of generated files.
struct Layer {
    tar: tar::Builder<BufWriter<File>>,
    number: usize,
    directories: BTreeSet<String>,
    noise: Vec<u8>,
}

/// The time of everything that is generated: with nanoseconds of 0, as in every layer.
const MTIME: u64 = 1_577_934_245;

impl Layer {
    fn new(path: &Path, number: usize) -> Self {
        let mut noise = vec![0; 1 << 21];
        fastrand::Rng::with_seed(7).fill(&mut noise);
        Self {
            tar: tar::Builder::new(BufWriter::new(File::create(path).expect("layer"))),
            number,
            directories: BTreeSet::new(),
            noise,
        }
    }

    /// Adds the program that containers run: no library of the image is needed for it, so that each
    /// of them may be changed.
    fn waiter(&mut self) {
        let busybox = plimsoll_e2e::command::shell("command -v busybox");
        let bytes = std::fs::read(busybox.trim()).expect("busybox");
        self.add(WAITER, &bytes, 0o755);
    }

    /// Adds the file of this number, of about so many bytes; returns its name and size.
    fn file(&mut self, number: usize, average: u64) -> (String, u64) {
        let mut random = fastrand::Rng::with_seed(number as u64);
        // Most files are small and some are large, as in real images.
        let size = -(1.0 - random.f64()).ln() * average as f64;
        let size = (size as usize).clamp(16, self.noise.len() / 2);
        let at = random.usize(..self.noise.len() - size);
        let mut bytes = self.noise[at..at + size].to_vec();
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        // A tenth lies in directories that every layer has a part of.
        let name = if number.is_multiple_of(10) {
            format!(
                "/usr/share/bench/shared/d{:03}/f{number:06}",
                number / 10 % 97
            )
        } else {
            let layer = self.number;
            format!(
                "/usr/share/bench/layer{layer}/d{:03}/f{number:06}",
                number / 100 % 1000
            )
        };
        self.add(&name, &bytes, 0o644);
        (name, size as u64)
    }

    fn add(&mut self, name: &str, bytes: &[u8], mode: u32) {
        let relative = name.trim_start_matches('/');
        for (at, _) in relative.match_indices('/') {
            let directory = &relative[..at];
            // Those of the base too: a parent that its layer does not list is made with odd modes.
            if self.directories.insert(directory.to_owned()) {
                let mut header = header(0, 0o755);
                header.set_entry_type(tar::EntryType::Directory);
                self.tar
                    .append_data(&mut header, format!("{directory}/"), std::io::empty())
                    .expect("directory");
            }
        }
        let mut header = header(bytes.len() as u64, mode);
        self.tar
            .append_data(&mut header, relative, bytes)
            .expect("file");
    }

    fn finish(self) {
        let mut file = self.tar.into_inner().expect("layer");
        file.flush().expect("layer");
    }
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header
}

/// Packs layers into one archive and returns the chain id of the topmost.
fn pack(spec: Spec, layers: &[PathBuf], path: &Path) -> String {
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let diff_ids: Vec<String> = digests.iter().map(|d| format!("sha256:{d}")).collect();
    let configuration = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "2020-01-02T03:04:05Z",
        "config": {"Cmd": [WAITER, "sleep", "100000000"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created": "2020-01-02T03:04:05Z"})).collect::<Vec<_>>(),
    })
    .to_string();
    let name = format!("{}.json", hex(&Sha256::digest(&configuration)));
    let manifest = json!([{
        "Config": name,
        "RepoTags": [reference(spec)],
        "Layers": digests.iter().map(|d| format!("{d}/layer.tar")).collect::<Vec<_>>(),
    }])
    .to_string();
    let mut tar = tar::Builder::new(BufWriter::new(File::create(path).expect("archive")));
    for (layer, digest) in layers.iter().zip(&digests) {
        let mut file = File::open(layer).expect("layer");
        let mut header = header(file.seek(std::io::SeekFrom::End(0)).expect("size"), 0o644);
        file.rewind().expect("layer");
        tar.append_data(&mut header, format!("{digest}/layer.tar"), file)
            .expect("layer");
    }
    for (name, text) in [
        (name.as_str(), &configuration),
        ("manifest.json", &manifest),
    ] {
        let mut header = header(text.len() as u64, 0o644);
        tar.append_data(&mut header, name, text.as_bytes())
            .expect("record");
    }
    tar.into_inner().expect("archive").flush().expect("archive");
    diff_ids
        .into_iter()
        .reduce(|chain, diff| format!("sha256:{}", hex(&Sha256::digest(format!("{chain} {diff}")))))
        .expect("an image has a layer")
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn digest(path: &Path) -> String {
    let mut file = File::open(path).expect("layer");
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).expect("layer");
        if read == 0 {
            return hex(&hash.finalize());
        }
        hash.update(&buffer[..read]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the archive of a Debian base, made once and kept in `cache`.
pub(crate) fn base(cache: &Path) -> PathBuf {
    let path = cache.join("debian.tar");
    if !path.exists() {
        eprintln!("A Debian to make the images of (debootstrap, once)");
        std::fs::create_dir_all(cache).expect("cache");
        let dir = tempfile::tempdir_in(cache).expect("temporary directory");
        // With every change of a path's name a file of it would be another candidate: the names are
        // sorted, and what differs from day to day is left out.
        plimsoll_e2e::command::shell(&format!(
            "cd '{}'
            debootstrap --variant=minbase stable rootfs >log 2>&1 || {{ tail -n 5 log >&2; exit 1; }}
            rm -rf rootfs/var/cache/apt/archives/*.deb rootfs/var/lib/apt/lists/* rootfs/var/log/*
            find rootfs/dev rootfs/proc rootfs/sys rootfs/run -mindepth 1 -delete
            mkdir -p rootfs/opt
            tar --sort=name --numeric-owner -C rootfs -cf base.tar .
            mv base.tar '{}'",
            dir.path().display(),
            path.display()
        ));
    }
    path
}
