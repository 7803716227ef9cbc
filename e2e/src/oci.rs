//! Images in the form of the OCI image layout, made without any registry.

use std::path::{Path, PathBuf};

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
        }
    }

    /// Puts everything in a directory over what is there already; a file `.wh.NAME` removes NAME.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn layer(mut self, rootfs: &Path) -> Self {
        let tar = self.dir.path().join("layer.tar").display().to_string();
        let rootfs = rootfs.display().to_string();
        run(
            "tar",
            &[
                "-C",
                &rootfs,
                "--format=pax",
                "--xattrs",
                "--numeric-owner",
                "-cf",
                &tar,
                ".",
            ],
        );
        let bytes = std::fs::read(&tar).expect("layer");
        let layer = self.add("application/vnd.oci.image.layer.v1.tar", &bytes);
        self.diff_ids.push(digest_of(&layer));
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
        let index = json!({"schemaVersion": 2, "manifests": [manifest]});
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
            _dir: self.dir,
        }
    }

    /// Adds a blob and returns its descriptor.
    fn add(&self, media_type: &str, bytes: impl AsRef<[u8]>) -> Value {
        let bytes = bytes.as_ref();
        let hash = Sha256::digest(bytes);
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.dir.path().join("layout/blobs/sha256").join(&hex);
        std::fs::write(path, bytes).expect("blob");
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    }
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
