//! Random operations on real trees, each burst held against brute force.
//!
//! A short run by default. `make torture` sets `PLIMSOLL_TORTURE_STEPS` and `PLIMSOLL_TORTURE_SEED`,
//! and runs until it is through. A difference is reduced to the fewest steps that show it.

use std::path::{Path, PathBuf};

use plimsoll_core::model::Measurement;
use plimsoll_e2e::brute::{self, Tree};
use plimsoll_e2e::command::run;
use plimsoll_e2e::loopfs::{Kind, LoopFs};
use plimsoll_e2e::overlay::Overlay;
use plimsoll_e2e::require;
use plimsoll_e2e::torture::{Generator, Step, build_debian, number, reduce};
use plimsoll_host::inspect::{Options, Request, Sources, Target, inspect};

/// Steps after which a container is thrown away for a new one.
const LIFE: usize = 4000;
/// Layers over the five of Debian, each made as `docker build` makes them: by a container on those
/// beneath, in which random steps ran.
const RANDOM_LAYERS: u64 = 12;
/// Random steps in each of these.
const LAYER_STEPS: usize = 120;

/// What ran in the container that random layer `n` came from.
fn layer(n: u64, image: &Path, container: &Path) {
    let seed = number("PLIMSOLL_TORTURE_SEED", 1) << 8 | n;
    let mut generator = Generator::new(seed, image);
    for _ in 0..LAYER_STEPS {
        generator.next_step().perform(container);
    }
}

/// A kind of container to be tortured.
trait Bench {
    /// Makes a new container, in place of the one before.
    fn fresh(&mut self);
    fn image(&self) -> PathBuf;
    fn container(&self) -> PathBuf;
    fn target(&self) -> Target;
}

struct OnOverlay {
    // Before the file system that they are on: fields are dropped in this order.
    overlay: Option<Overlay>,
    /// What the image is, whatever container is mounted.
    reference: Overlay,
    fs: LoopFs,
    lowers: Vec<PathBuf>,
    options: &'static str,
    made: usize,
}

impl OnOverlay {
    fn new(kind: Kind, options: &'static str) -> Self {
        let fs = LoopFs::new(kind, 8192);
        let mut lowers: Vec<PathBuf> = (0..5).map(|n| fs.path().join(format!("l{n}"))).collect();
        for lower in &lowers {
            std::fs::create_dir(lower).expect("layer");
        }
        build_debian(&lowers);
        for n in 0..RANDOM_LAYERS {
            let container = Overlay::mount(&fs.path().join(format!("b{n}")), &lowers, &[], options);
            layer(n, &container.image(), &container.container());
            lowers.insert(0, container.upper());
        }
        let reference = Overlay::mount(&fs.path().join("reference"), &lowers, &[], options);
        let mut bench = Self {
            reference,
            fs,
            lowers,
            options,
            made: 0,
            overlay: None,
        };
        bench.fresh();
        bench
    }

    fn mounted(&self) -> &Overlay {
        self.overlay.as_ref().expect("mounted")
    }
}

impl Bench for OnOverlay {
    fn fresh(&mut self) {
        if self.overlay.take().is_some() {
            run(
                "rm",
                &[
                    "-rf",
                    &self
                        .fs
                        .path()
                        .join(format!("c{}", self.made))
                        .display()
                        .to_string(),
                ],
            );
        }
        self.made += 1;
        let base = self.fs.path().join(format!("c{}", self.made));
        self.overlay = Some(Overlay::mount(&base, &self.lowers, &[], self.options));
    }

    fn image(&self) -> PathBuf {
        self.reference.image()
    }

    fn container(&self) -> PathBuf {
        self.mounted().container()
    }

    fn target(&self) -> Target {
        Target::OverlayMount(self.container())
    }
}

struct OnBtrfs {
    fs: LoopFs,
    made: usize,
}

impl OnBtrfs {
    fn new(options: &str) -> Self {
        let fs = LoopFs::with(Kind::Btrfs, 8192, &[], options);
        let base = fs.path().join("base");
        run("btrfs", &["-q", "subvolume", "create", text(&base)]);
        // The layers one over the other, in one tree.
        build_debian(&vec![base.clone(); 5]);
        let mut below = base;
        for n in 0..RANDOM_LAYERS {
            let above = match n + 1 {
                RANDOM_LAYERS => fs.path().join("image"),
                _ => fs.path().join(format!("b{n}")),
            };
            snapshot(&below, &above);
            layer(n, &below, &above);
            below = above;
        }
        run("sync", &["-f", text(&below)]);
        let mut bench = Self { fs, made: 0 };
        bench.fresh();
        bench
    }
}

impl Bench for OnBtrfs {
    fn fresh(&mut self) {
        if self.made > 0 {
            run(
                "btrfs",
                &["-q", "subvolume", "delete", text(&self.container())],
            );
        }
        self.made += 1;
        snapshot(&self.image(), &self.container());
    }

    fn image(&self) -> PathBuf {
        self.fs.path().join("image")
    }

    fn container(&self) -> PathBuf {
        self.fs.path().join(format!("c{}", self.made))
    }

    fn target(&self) -> Target {
        Target::Trees {
            image: self.image(),
            container: self.container(),
        }
    }
}

fn snapshot(of: &Path, to: &Path) {
    run(
        "btrfs",
        &["-q", "subvolume", "snapshot", text(of), text(to)],
    );
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn check(bench: &dyn Bench) -> Measurement {
    let request = Request {
        sources: Sources::default(),
        targets: vec![bench.target()],
        paths: Vec::new(),
        options: Options::default(),
    };
    let mut found = None;
    inspect(&request, &mut |measurement| found = Some(measurement)).expect("inspect");
    found.expect("one measurement")
}

/// Returns what the engine says that the referee does not, or the other way round.
fn difference(bench: &dyn Bench, image: &Tree) -> Option<String> {
    let measurement = check(bench);
    let expected = brute::differences(image, &Tree::read(&bench.container()));
    let reported = brute::of_changes(&measurement.changes);
    if expected == reported && measurement.gaps.is_empty() {
        return None;
    }
    let only = |a: &brute::Differences, b: &brute::Differences| -> Vec<String> {
        a.iter()
            .filter(|(path, what)| b.get(*path) != Some(what))
            .map(|(path, what)| format!("{path} {what:?}"))
            .collect()
    };
    let (missed, invented) = (only(&expected, &reported), only(&reported, &expected));
    Some(format!(
        "missed {missed:?}\ninvented {invented:?}\ngaps {:?}",
        measurement.gaps
    ))
}

fn torture(bench: &mut dyn Bench, name: &str) {
    let total = number("PLIMSOLL_TORTURE_STEPS", 3000);
    let seed = number("PLIMSOLL_TORTURE_SEED", 1);
    let image = Tree::read(&bench.image());
    let mut generator = Generator::new(seed, &bench.image());
    let mut sizes = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let (mut done, mut checks) = (0, 0);
    let mut history: Vec<Step> = Vec::new();
    let start = std::time::Instant::now();
    while done < total {
        let burst = if sizes.u32(..4) == 0 {
            sizes.u64(1..20)
        } else {
            sizes.u64(100..1000)
        }
        .min(total - done);
        for _ in 0..burst {
            let step = generator.next_step();
            step.perform(&bench.container());
            history.push(step);
        }
        done += burst;
        checks += 1;
        if let Some(what) = difference(bench, &image) {
            let fails = |steps: &[Step]| {
                bench.fresh();
                let container = bench.container();
                steps.iter().for_each(|step| step.perform(&container));
                difference(bench, &image).is_some()
            };
            let steps = reduce(history, fails);
            let steps: Vec<String> = steps.iter().map(Step::to_string).collect();
            panic!(
                "{name}, seed {seed}, after {done} steps:\n{what}\nfewest steps that show a difference:\n{}",
                steps.join("\n")
            );
        }
        if history.len() >= LIFE {
            history.clear();
            bench.fresh();
        }
    }
    println!(
        "{name}: seed {seed}, {done} steps, {checks} checks, {:.0?}: nothing missed, nothing invented",
        start.elapsed()
    );
}

#[test]
fn overlay_on_ext4() {
    require!("mkfs.ext4", "xfs_io");
    torture(&mut OnOverlay::new(Kind::Ext4, ""), "overlay on ext4");
}

#[test]
fn overlay_on_xfs_with_redirects() {
    require!("mkfs.xfs", "xfs_io");
    torture(
        &mut OnOverlay::new(Kind::Xfs, ",redirect_dir=on"),
        "overlay on XFS, redirect_dir=on",
    );
}

#[test]
fn overlay_with_everything() {
    require!("mkfs.ext4", "xfs_io");
    torture(
        &mut OnOverlay::new(Kind::Ext4, ",metacopy=on,redirect_dir=on,index=on"),
        "overlay on ext4, metacopy, redirect_dir, index",
    );
}

#[test]
fn btrfs() {
    require!("mkfs.btrfs", "btrfs", "xfs_io");
    torture(&mut OnBtrfs::new(""), "Btrfs");
}

#[test]
fn btrfs_compressed() {
    require!("mkfs.btrfs", "btrfs", "xfs_io");
    torture(
        &mut OnBtrfs::new(",compress-force=zstd"),
        "Btrfs, compressed",
    );
}
