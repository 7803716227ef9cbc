//! Comparing the containers of a run: one after the other, or several at a time once there are many.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_core::model::{Container, EngineKind, Measurement, RootPath};

use super::threads::Threads;
use super::{Images, Options, measure};
use crate::layers::LayerStack;

/// Containers from which on threads are started: each costs as much as comparing one or two.
const MANY: usize = 16;

/// Threads at most, the one that reads the records among them: of each container that is on its way two
/// directories are open.
const THREADS_MAX: usize = 4;

/// Containers that a thread takes at a time, at most. Handing one over and waking the thread that waits for it
/// costs as much as comparing it.
const BUNDLE_MAX: usize = 16;

/// What is asked of every container.
#[derive(Debug)]
struct Question {
    paths: Vec<RootPath>,
    options: Options,
    images: Images,
}

/// A container that is to be compared.
#[derive(Debug)]
struct Job {
    number: usize,
    container: Container,
    stack: LayerStack,
}

/// One that was.
#[derive(Debug)]
struct Done {
    number: usize,
    compared: Compared,
}

/// What came of comparing a container.
#[derive(Debug)]
pub struct Compared {
    /// The measurement.
    pub measurement: Measurement,
    /// The layers that were compared.
    pub stack: LayerStack,
    /// How long that took.
    pub took: Duration,
}

/// The comparisons of a run.
#[derive(Debug)]
pub struct Comparisons {
    question: Arc<Question>,
    pool: Option<Threads<Vec<Job>, Vec<Done>>>,
    /// How many containers a thread takes at a time.
    bundle: usize,
    /// How many keep all threads busy.
    ahead: usize,
    /// Those handed over that no thread has: without threads, all.
    own: VecDeque<Job>,
    /// Those that were done before their turn.
    done: BTreeMap<usize, Compared>,
    submitted: usize,
    taken: usize,
}

impl Comparisons {
    /// Returns what compares so many containers.
    #[must_use]
    pub fn new(count: usize, paths: &[RootPath], options: &Options) -> Self {
        let question = Arc::new(Question {
            paths: paths.to_vec(),
            options: options.clone(),
            images: Images::default(),
        });
        // One is held still at a time; and who hashes everything has threads for each.
        let alone = options.atomic || options.engine == Some(EngineKind::Digest);
        let threads = match count < MANY || alone {
            true => 1,
            false => options.threads().min(THREADS_MAX),
        };
        // This thread compares as well, when the others have enough to do.
        let others = threads - 1;
        let pool = (others > 0).then(|| {
            Threads::new(others, others, || {
                let question = Arc::clone(&question);
                move |jobs: Vec<Job>| jobs.into_iter().map(|job| question.answer(job)).collect()
            })
        });
        let bundle = (count / (2 * threads)).clamp(1, BUNDLE_MAX);
        Self {
            ahead: match pool {
                Some(_) => bundle * (2 * others + 1),
                None => 0,
            },
            bundle,
            question,
            pool,
            own: VecDeque::new(),
            done: BTreeMap::new(),
            submitted: 0,
            taken: 0,
        }
    }

    /// Hands over the next container.
    pub fn submit(&mut self, container: Container, stack: LayerStack) {
        self.own.push_back(Job {
            number: self.submitted,
            container,
            stack,
        });
        self.submitted += 1;
        if let Some(pool) = &mut self.pool
            && self.own.len() == self.bundle
            && let Err(jobs) = pool.try_submit(self.own.drain(..).collect())
        {
            // All are busy: these are for this thread.
            for job in jobs {
                let done = self.question.answer(job);
                self.done.insert(done.number, done.compared);
            }
        }
    }

    /// Returns how many are to be handed over before one is taken back.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.ahead
    }

    /// Takes the containers back in the order in which they were handed over; `None` when there is none, or
    /// when the thread that had it ended.
    pub fn take(&mut self) -> Option<Compared> {
        let number = self.taken;
        if number == self.submitted {
            return None;
        }
        self.taken += 1;
        loop {
            if let Some(compared) = self.done.remove(&number) {
                return Some(compared);
            }
            if self.own.front().is_some_and(|job| job.number == number) {
                let job = self.own.pop_front()?;
                return Some(self.question.answer(job).compared);
            }
            for done in self.pool.as_mut()?.next(true)? {
                self.done.insert(done.number, done.compared);
            }
        }
    }
}

impl Question {
    fn answer(&self, job: Job) -> Done {
        let start = Instant::now();
        let Job {
            number,
            container,
            stack,
        } = job;
        let measurement = measure(container, &stack, &self.paths, &self.options, &self.images);
        Done {
            number,
            compared: Compared {
                measurement,
                stack,
                took: start.elapsed(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::path::Path;

    use plimsoll_core::model::{ContainerId, RuntimeKind};

    use super::*;
    use crate::fs::Dir;
    use crate::layers::{Held, Layer, MarkNamespace, OverlayStack};

    fn layer(path: &Path) -> Layer {
        Layer {
            dir: Arc::new(Dir::open(path).unwrap()),
            path: path.to_owned(),
            diff_id: None,
        }
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// As many containers as threads are started for, on one image: each is told as by itself, in its turn.
    #[test]
    fn what_is_shared_is_told_as_by_itself() {
        const COUNT: usize = 2 * MANY;
        let dir = tempfile::tempdir().unwrap();
        let layers = ["top", "middle", "base"].map(|name| dir.path().join(name));
        for (n, path) in layers.iter().enumerate() {
            write(&path.join("etc/all"), &format!("of {n}"));
            for file in (0..COUNT).filter(|file| file % layers.len() == n) {
                write(&path.join(format!("etc/deep/{file}")), "as it was");
            }
        }
        let image: Vec<Arc<Layer>> = layers.iter().map(|path| Arc::new(layer(path))).collect();
        let upper = |n: usize| dir.path().join(format!("upper{n}"));
        let init = |n: usize| dir.path().join(format!("init{n}"));
        for n in 0..COUNT {
            std::fs::create_dir(upper(n)).unwrap();
            write(&init(n).join("etc/hosts"), "");
            // Of some nothing differs.
            if n % 3 > 0 {
                write(&upper(n).join(format!("etc/deep/{n}")), "as it is");
                write(&upper(n).join(format!("etc/new-{n}/file")), "");
            }
            if n % 4 == 0 {
                write(&upper(n).join("etc/all"), "of 0");
            }
        }
        let stack = |n: usize| {
            let injected = init(n);
            LayerStack::Overlay(OverlayStack {
                upper: layer(&upper(n)),
                index: None,
                injected: vec![layer(&injected)],
                injected_paths: Vec::new(),
                image: image.clone(),
                data_only: Vec::new(),
                marks: MarkNamespace::User,
                held: Held::default(),
            })
        };
        let container =
            |n: usize| Container::new(ContainerId::new(n.to_string()), RuntimeKind::Docker);
        let options = Options {
            jobs: NonZero::new(3),
            ..Options::default()
        };
        let mut comparisons = Comparisons::new(COUNT, &[], &options);
        assert!(comparisons.ahead() > 1);
        for n in 0..COUNT {
            comparisons.submit(container(n), stack(n));
        }
        for n in 0..COUNT {
            let told = comparisons.take().unwrap().measurement;
            let alone = measure(container(n), &stack(n), &[], &options, &Images::default());
            assert_eq!(told.container.id.as_str(), n.to_string());
            assert_eq!(told.changes, alone.changes, "{n}");
            assert_eq!(told.gaps, alone.gaps, "{n}");
            // The file that differs and the two that are new, beside that of the layer beneath.
            assert!(n % 3 == 0 || told.changes.len() >= 4, "{:?}", told.changes);
        }
        assert!(comparisons.take().is_none());
    }
}
