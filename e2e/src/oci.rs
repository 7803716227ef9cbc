//! Images in the form of the OCI image layout, made without any registry.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::command::run;

/// An image that is being put together.
#[derive(Debug)]
pub struct Image {
    dir: TempDir,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
    form: Form,
    other_platform: bool,
}

/// In which form the blobs of layers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Tar,
    /// Compressed with gzip.
    Gzip,
    /// Compressed with zstd.
    Zstd,
}

/// An image that is whole.
#[derive(Debug)]
pub struct Archive {
    /// The archive: a tar of an OCI image layout.
    pub path: PathBuf,
    /// Digest of the index, by which the image is named.
    pub index: String,
    /// Digest of the manifest.
    pub manifest: String,
    /// Digest of the configuration.
    pub config: String,
    /// The layers, the base first.
    pub diff_ids: Vec<String>,
    /// Digests of their blobs.
    pub blobs: Vec<String>,
    _dir: TempDir,
}

impl Default for Image {
    fn default() -> Self {
        Self::new()
    }
}

impl Image {
    /// Begins with no layer.
    ///
    /// # Panics
    /// When a directory cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        std::fs::create_dir_all(dir.path().join("layout/blobs/sha256")).expect("blobs");
        Self {
            dir,
            layers: Vec::new(),
            diff_ids: Vec::new(),
            form: Form::Tar,
            other_platform: false,
        }
    }

    /// Has the index name a manifest for another platform too, which is not in the archive: what is left of
    /// an image of several platforms when it is pulled for one.
    #[must_use]
    pub fn other_platform(mut self) -> Self {
        self.other_platform = true;
        self
    }

    /// Makes the blobs of the next layers in this form.
    #[must_use]
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// Puts everything in a directory over what is there already; a file `.wh.NAME` removes NAME.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn layer(self, rootfs: &Path) -> Self {
        self.members(rootfs, &["."])
    }

    /// Puts only these members of a directory over what is there already, and none of the directories above
    /// them.
    ///
    /// # Panics
    /// When they cannot be read.
    #[must_use]
    pub fn members(mut self, rootfs: &Path, members: &[&str]) -> Self {
        let tar = self.dir.path().join("layer.tar").display().to_string();
        let rootfs = rootfs.display().to_string();
        let options = [
            "-C",
            &rootfs,
            "--format=pax",
            "--xattrs",
            "--numeric-owner",
            "-cf",
            &tar,
        ];
        run("tar", &[&options, members].concat());
        let bytes = std::fs::read(&tar).expect("layer");
        self.diff_ids.push(named(&bytes));
        const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
        let layer = match self.form {
            Form::Tar => self.add(TAR, &bytes),
            Form::Gzip => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
                gzip.write_all(&bytes).expect("gzip");
                self.add(&format!("{TAR}+gzip"), gzip.finish().expect("gzip"))
            }
            Form::Zstd => {
                let zstd = zstd::encode_all(&bytes[..], 3).expect("zstd");
                self.add(&format!("{TAR}+zstd"), zstd)
            }
        };
        self.layers.push(layer);
        self
    }

    /// Writes the archive, for an image of this name.
    ///
    /// # Panics
    /// When a file cannot be written.
    #[must_use]
    pub fn archive(self, name: &str) -> Archive {
        let platform = json!({"os": "linux", "architecture": architecture()});
        let config = json!({
            "os": "linux",
            "architecture": architecture(),
            "config": {
                "Cmd": ["sleep", "100000"],
                "Env": ["PATH=/usr/bin:/bin"],
                "WorkingDir": "/srv/app",
            },
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        });
        let config = self.add("application/vnd.oci.image.config.v1+json", text(&config));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": self.layers,
        });
        let mut manifest = self.add(
            "application/vnd.oci.image.manifest.v1+json",
            text(&manifest),
        );
        manifest["platform"] = platform;
        let mut manifests = vec![manifest.clone()];
        if self.other_platform {
            let mut other = manifest.clone();
            other["digest"] = named(b"none").into();
            other["platform"]["architecture"] = "riscv64".into();
            manifests.insert(0, other);
        }
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        let mut index = self.add("application/vnd.oci.image.index.v1+json", text(&index));
        index["annotations"] = json!({"io.containerd.image.name": name});
        let layout = self.dir.path().join("layout");
        for (file, content) in [
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
            (
                "index.json",
                json!({"schemaVersion": 2, "manifests": [index]}),
            ),
        ] {
            std::fs::write(layout.join(file), text(&content)).expect("layout");
        }
        let path = self.dir.path().join("image.tar");
        let (from, to) = (layout.display().to_string(), path.display().to_string());
        run("tar", &["-C", &from, "-cf", &to, "."]);
        Archive {
            path,
            index: digest_of(&index),
            manifest: digest_of(&manifest),
            config: digest_of(&config),
            diff_ids: self.diff_ids,
            blobs: self.layers.iter().map(digest_of).collect(),
            _dir: self.dir,
        }
    }

    /// Adds a blob and returns its descriptor.
    fn add(&self, media_type: &str, bytes: impl AsRef<[u8]>) -> Value {
        let bytes = bytes.as_ref();
        let digest = named(bytes);
        let hex = digest.trim_start_matches("sha256:");
        let path = self.dir.path().join("layout/blobs/sha256").join(hex);
        std::fs::write(path, bytes).expect("blob");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }
}

/// Returns the digest of bytes.
fn named(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn digest_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().expect("digest").to_owned()
}

/// Returns this machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
