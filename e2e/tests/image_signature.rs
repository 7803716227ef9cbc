//! `--key` and `--signature`: an image has a manifest that somebody signed with cosign, or it is violated.

use std::path::Path;
use std::process::Command;

use plimsoll_e2e::image_layers::rootfs;
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::registry::Registry;
use plimsoll_e2e::{next, program, require_podman_image};

/// A registry, a Podman that took two images from it, and a key that signed one of them.
struct Signed {
    podman: Podman,
    registry: Registry,
    scratch: tempfile::TempDir,
}

impl Signed {
    fn new() -> Self {
        let signed = Self {
            podman: Podman::new(),
            registry: Registry::start(),
            scratch: tempfile::tempdir().expect("a directory"),
        };
        let podman = &signed.podman;
        podman.import("base", rootfs().path());
        podman.build("localhost/evil", "FROM base\nRUN echo evil > /app/f1");
        for (local, name) in [("base", "web:1"), ("localhost/evil", "evil:1")] {
            let name = signed.registry.image(name);
            podman.podman(&["push", "--tls-verify=false", local, &name]);
            podman.podman(&["pull", "--tls-verify=false", &name]);
        }
        signed.cosign(&["generate-key-pair"]);
        signed
    }

    /// Runs cosign, which takes an empty password.
    fn cosign(&self, arguments: &[&str]) {
        let output = next::command(&[&["cosign"], arguments].concat())
            .current_dir(self.scratch.path())
            .env("COSIGN_PASSWORD", "")
            .env("HOME", self.scratch.path())
            .output()
            .expect("cosign");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "cosign {}: {told}",
            arguments.join(" ")
        );
    }

    /// Returns the digest of an image's manifest in the registry.
    fn digest(&self, name: &str) -> String {
        let image = format!("docker://{}", self.registry.image(name));
        let output = Command::new("skopeo")
            .args([
                "inspect",
                "--tls-verify=false",
                "--format",
                "{{.Digest}}",
                &image,
            ])
            .output()
            .expect("skopeo");
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Verifies an image, or checks a container, with these signatures.
    fn run(&self, arguments: &[&str], signatures: &[&str]) -> (Option<i32>, String) {
        let mut command = program::command();
        command
            .args(arguments)
            .arg("--data-root")
            .arg(self.podman.graph_root())
            .arg("--key")
            .arg(self.path("cosign.pub"));
        for signature in signatures {
            command.arg("--signature").arg(self.path(signature));
        }
        let output = command.output().expect("plimsoll");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.code(), text)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.scratch.path().join(name)
    }
}

/// Signs with the key alone: no log, no certificate.
const OFFLINE: [&str; 5] = [
    "-y",
    "--key=cosign.key",
    "--tlog-upload=false",
    "--use-signing-config=false",
    "--allow-http-registry",
];

#[test]
fn by_cosign() {
    require_podman_image!();
    plimsoll_e2e::require!("skopeo");
    if let Some(why) = next::cosign_missing() {
        return eprintln!("SKIPPED {}: {why}", module_path!());
    }
    let signed = Signed::new();
    let (web, evil) = (
        signed.registry.image("web:1"),
        signed.registry.image("evil:1"),
    );
    let of = |name: &str| {
        format!(
            "{}@{}",
            signed.registry.image(name),
            signed.digest(&format!("{name}:1"))
        )
    };
    // A bundle, and the older form: a payload, and its signature beside it.
    signed.cosign(
        &[
            &["sign"],
            &OFFLINE[..],
            &["--bundle=bundle.json", &of("web")],
        ]
        .concat(),
    );
    let older = [
        "--new-bundle-format=false",
        "--output-payload=payload",
        "--output-signature=payload.sig",
    ];
    signed.cosign(&[&["sign"], &OFFLINE[..], &older, &[&of("web")]].concat());
    for (name, image) in [("good", &web), ("bad", &evil)] {
        let create = ["create", "--name", name, image, "/bin/busybox", "true"];
        signed.podman.podman(&create);
    }
    for signature in ["bundle.json", "payload"] {
        let (code, told) = signed.run(&["check", "good"], &[signature]);
        assert_eq!(code, Some(0), "{signature}: {told}");
        let (code, told) = signed.run(&["image", "verify", &web], &[signature]);
        assert_eq!(code, Some(0), "{signature}: {told}");
    }
    let (code, told) = signed.run(&["check", "bad"], &["bundle.json"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("which none of the signatures is over"),
        "{told}"
    );
    // The payload says which repository it is of.
    let (code, told) = signed.run(&["check", "bad"], &["payload"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("say nothing of image"), "{told}");
    // Signed by nobody that is trusted: another key, and a bundle that was altered.
    std::fs::rename(signed.path("cosign.pub"), signed.path("trusted.pub")).expect("rename");
    std::fs::remove_file(signed.path("cosign.key")).expect("remove");
    signed.cosign(&["generate-key-pair"]);
    let (code, told) = signed.run(&["check", "good"], &["bundle.json"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("its signature is not by this key"), "{told}");
    std::fs::rename(signed.path("trusted.pub"), signed.path("cosign.pub")).expect("rename");
    alter(&signed.path("payload"));
    let (code, told) = signed.run(&["check", "good"], &["payload"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("what was signed was altered"), "{told}");
}

fn alter(path: &Path) {
    let text = std::fs::read_to_string(path).expect("read");
    std::fs::write(path, text.replace("docker-manifest", "docker-Manifest")).expect("write");
}
