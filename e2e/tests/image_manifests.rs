//! The manifests that containers/storage keeps of its images: each proved, and none believed.

use std::num::NonZero;

use plimsoll_core::Verdict;
use plimsoll_core::model::{ImageMeasurement, LayerMeasurement};
use plimsoll_e2e::command::shell;
use plimsoll_e2e::oci::{Form, Image};
use plimsoll_e2e::podman::Podman;
use plimsoll_e2e::require;
use plimsoll_e2e::rootfs::small_rootfs;
use plimsoll_host::image;

const NAME: &str = "example.org/web:1";

fn verify(podman: &Podman, name: &str) -> (ImageMeasurement, Vec<LayerMeasurement>) {
    let (images, gaps) = image::images(&podman.live(), &[name.to_owned()]).expect("images");
    assert_eq!(gaps, []);
    let mut verified = image::verify(images, NonZero::<usize>::MIN, &|_| {});
    assert_eq!(verified.images.len(), 1);
    (verified.images.remove(0).0, verified.layers)
}

#[test]
fn what_is_kept_is_proved() {
    require!("podman", "runc", "busybox", "python3");
    let archive = Image::new()
        .form(Form::Gzip)
        .layer(small_rootfs().path())
        .archive(NAME);
    let podman = Podman::new();
    let path = format!("oci-archive:{}", archive.path.display());
    podman.podman(&["pull", &path]);
    podman.import("base", small_rootfs().path());
    podman.build("built", "FROM base\nRUN echo > /new");
    let intact = || {
        let (image, layers) = verify(&podman, NAME);
        assert_eq!(
            (&image.gaps[..], image.verdict(&layers)),
            (&[][..], Verdict::Intact)
        );
        assert_eq!(text(image.image.manifest), archive.manifest);
        assert_eq!(text(image.image.id), archive.config);
    };
    intact();
    // One that was made here has a manifest as well.
    let (image, layers) = verify(&podman, "localhost/built");
    assert_eq!(
        (&image.gaps[..], image.verdict(&layers)),
        (&[][..], Verdict::Intact)
    );
    assert!(image.image.manifest.is_some());
    let images = podman.graph_root().join("overlay-images");
    let of = images.join(archive.config.trim_start_matches("sha256:"));
    let kept = |key: &str| {
        of.join(format!(
            "={}",
            shell(&format!("printf %s '{key}' | base64 -w0"))
        ))
    };
    let cases = [
        (of.join("manifest"), "manifest", "s/^{/{ /", "was altered"),
        (
            kept(&format!("manifest-{}", archive.manifest)),
            "manifest-sha256:",
            "s/^{/{ /",
            "was altered",
        ),
        (
            kept(&format!("manifest-{}", archive.index)),
            "manifest-sha256:",
            "s/^{/{ /",
            "was altered",
        ),
        // The record says another one.
        (
            images.join("images.json"),
            "image",
            &format!(
                "s/\"digest\":\"{}\"/\"digest\":\"{}\"/",
                archive.index, archive.config
            ),
            "has the digest of its record",
        ),
    ];
    for (file, what, sed, why) in cases {
        let as_it_was = std::fs::read(&file).expect("record");
        shell(&format!("sed -i '{sed}' '{}'", file.display()));
        assert_ne!(std::fs::read(&file).expect("record"), as_it_was, "{sed}");
        let (image, layers) = verify(&podman, NAME);
        assert_eq!(image.verdict(&layers), Verdict::Unknown, "{sed}");
        let told = image
            .gaps
            .iter()
            .any(|gap| gap.what.to_string().starts_with(what) && gap.why.contains(why));
        assert!(told, "{sed}: {:?}", image.gaps);
        // What the layers are is another question.
        assert!(
            layers
                .iter()
                .all(|layer| layer.verdict() == Verdict::Intact)
        );
        std::fs::write(&file, as_it_was).expect("record");
    }
    intact();
    // The manifest of another image, with records that were made to fit.
    shell(&format!(
        r#"python3 - '{}' '{}' '{}' <<'END'
import hashlib, json, sys
own, config, images = sys.argv[1:]
text = open(own).read().replace(config, 'sha256:' + '5' * 64)
open(own, 'w').write(text)
records = json.load(open(images))
for record in records:
    if 'sha256:' + record['id'] == config:
        record['big-data-digests']['manifest'] = 'sha256:' + hashlib.sha256(text.encode()).hexdigest()
json.dump(records, open(images, 'w'))
END"#,
        of.join("manifest").display(),
        archive.config,
        images.join("images.json").display()
    ));
    let (image, _) = verify(&podman, NAME);
    assert_eq!(image.image.manifest, None);
    let of_another = |why: &str| why.contains("of another image");
    assert!(
        image.gaps.iter().any(|gap| of_another(&gap.why)),
        "{:?}",
        image.gaps
    );
    std::fs::remove_file(of.join("manifest")).expect("manifest");
    let (image, _) = verify(&podman, NAME);
    assert_eq!(image.image.manifest, None);
    assert!(
        image.gaps.iter().any(|gap| gap.why.contains("missing")),
        "{:?}",
        image.gaps
    );
}

fn text(of: Option<impl ToString>) -> String {
    of.map(|of| of.to_string()).unwrap_or_default()
}
