//! What is measured: which images, how many changes, which tools where, how often.

use plimsoll_e2e::dockerd::Driver;

use crate::archive::Spec;

/// What was asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// The small image alone, and each tool once: whether all of it works, not how fast.
    pub(crate) quick: bool,
    /// The slow tools at every count of changes, in every state, and on the largest image.
    pub(crate) full: bool,
    /// The fast tools with empty caches too.
    pub(crate) cold: bool,
    /// Only these drivers; all when empty.
    pub(crate) drivers: Vec<String>,
    /// Only these images; all when empty.
    pub(crate) images: Vec<String>,
}

/// One image in a plan.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// The image.
    pub(crate) spec: Spec,
    /// Another, asked about in the same rounds where the container runs: their ratio is measured then, and not
    /// how much faster the machine was some minutes before.
    pub(crate) beside: Option<Beside>,
    /// The counts of changes at which the fast tools are asked.
    pub(crate) changes: Vec<usize>,
    /// Those at which the slow tools are asked too.
    pub(crate) thorough: Vec<usize>,
    /// Whether Podman has the image.
    pub(crate) elsewhere: bool,
    /// The states of the container.
    pub(crate) states: Vec<State>,
}

/// The smaller image beside one.
#[derive(Debug, Clone)]
pub(crate) struct Beside {
    /// The image.
    pub(crate) spec: Spec,
    /// The counts of changes at which there is one.
    pub(crate) changes: Vec<usize>,
}

impl Part {
    /// Whether the other image is measured beside with so many changes.
    pub(crate) fn has_beside(&self, changes: usize) -> bool {
        let beside = self.beside.as_ref();
        beside.is_some_and(|beside| beside.changes.contains(&changes))
    }
}

/// A state of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its processes run.
    Running,
    /// They are frozen.
    Paused,
    /// There are none.
    Stopped,
}

impl State {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// All of them, in the order in which a container goes through them.
pub(crate) const STATES: &[State] = &[State::Running, State::Paused, State::Stopped];

/// The images. `tenth` has a tenth of the files of `large`, beside which it is measured, and nothing else is
/// different.
const SMALL: Spec = spec("small", 6_000, 130 << 20, 5);
const TENTH: Spec = spec("tenth", 8_000, 205 << 20, 11);
/// The image that the ratios are about.
pub(crate) const LARGE: Spec = spec("large", 80_000, 2 << 30, 11);
const HUGE: Spec = spec("huge", 400_000, 2560 << 20, 11);

const fn spec(name: &'static str, files: usize, bytes: u64, layers: usize) -> Spec {
    Spec {
        name,
        files,
        bytes,
        layers,
    }
}

impl Plan {
    /// Returns the drivers that are measured.
    pub(crate) fn drivers(&self) -> Vec<Driver> {
        let wanted = |driver: &Driver| {
            self.drivers.is_empty() || self.drivers.iter().any(|name| name == driver.as_str())
        };
        [Driver::Overlay2, Driver::Btrfs]
            .into_iter()
            .filter(wanted)
            .collect()
    }

    /// Returns the images that are measured.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let counts = [0, 1, 100, 10_000];
        let small = Part {
            spec: SMALL,
            beside: None,
            changes: counts.to_vec(),
            thorough: counts.to_vec(),
            elsewhere: true,
            states: STATES.to_vec(),
        };
        if self.quick {
            return vec![small];
        }
        let large_counts = [0, 1, 100, 1_000, 10_000];
        let parts = vec![
            small,
            Part {
                spec: LARGE,
                beside: Some(Beside {
                    spec: TENTH,
                    changes: vec![0, 1, 100, 1_000],
                }),
                changes: large_counts.to_vec(),
                thorough: if self.full {
                    counts.to_vec()
                } else {
                    vec![1, 100]
                },
                elsewhere: true,
                states: STATES.to_vec(),
            },
            Part {
                spec: HUGE,
                beside: None,
                changes: counts.to_vec(),
                thorough: if self.full { vec![1] } else { Vec::new() },
                elsewhere: self.full,
                states: if self.full { STATES } else { &STATES[..1] }.to_vec(),
            },
        ];
        parts
            .into_iter()
            .filter(|part| self.wants(part.spec.name))
            .collect()
    }

    /// Whether an image or scenario of this name is measured.
    pub(crate) fn wants(&self, image: &str) -> bool {
        self.images.is_empty() || self.images.iter().any(|name| name == image)
    }

    /// How often a tool is run whose first run took so many microseconds.
    pub(crate) fn runs(&self, first: u64) -> usize {
        match first {
            _ if self.quick => 1,
            0..50_000 => 31,
            50_000..250_000 => 11,
            250_000..1_000_000 => 5,
            1_000_000..30_000_000 => 3,
            _ => 1,
        }
    }

    /// The containers that one run looks at together.
    pub(crate) fn many(&self) -> usize {
        if self.quick { 20 } else { 1_000 }
    }

    /// Says what this plan leaves out.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let mut left_out = vec![
            "ctr snapshots diff is asked about a snapshot that is mounted nowhere: a snapshot has no \
             state of its own"
                .to_owned(),
            "tools that read every file, docker diff, and what takes more than a second are asked \
             about running containers alone (--full asks them in the other states too, where there \
             is a tree to read)"
                .to_owned(),
        ];
        if self.full {
            left_out.pop();
        }
        if self.quick {
            left_out.push("quick: the small image alone, each tool once; no times to go by".into());
        } else if !self.full {
            left_out.push(
                "slow tools are asked about the large image with 1 and with 100 changes, and not \
                 about the huge one (--full asks them)"
                    .into(),
            );
            left_out
                .push("the huge image is looked at running alone, and not loaded into Podman and containerd \
                 (--full)".into());
        }
        if !self.cold {
            left_out.push("cold caches (--cold)".into());
        }
        left_out
    }
}
