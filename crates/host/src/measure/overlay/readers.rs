//! Threads that compare contents, once there are so many to compare that they pay.

use std::collections::{HashSet, VecDeque};
use std::num::NonZero;

use super::UPPER;
use super::content::Contents;
use super::node::{Leaf, Node};
use crate::measure::threads::Threads;
use crate::measure::{Confirm, Content, Settled, Trouble};
use crate::parallel;

/// Files that are compared before a thread is started: that costs as much as some of them.
const ALONE: usize = 256;

/// Files that are handed over at one go. Each holds two directories open.
const BATCH: usize = 16;

/// Threads at most: more would hold more directories open than a process may, and the walk, which is
/// one thread, has no more for them to do.
const THREADS_MAX: usize = 3;

/// Two files to compare.
#[derive(Debug)]
struct Job {
    ticket: u64,
    image: Leaf,
    container: Leaf,
}

/// Two files that were compared.
#[derive(Debug)]
struct Done {
    job: Job,
    compared: Result<(Content, u64), Trouble>,
    /// Whether the container's is another one now than when it was looked up.
    moved: bool,
}

/// Compares contents: at once while there are few, else with threads, of which the walk's own is one.
#[derive(Debug)]
pub(super) struct Readers {
    confirm: Confirm,
    /// How many threads were asked for.
    threads: Option<NonZero<usize>>,
    own: Contents,
    compared: usize,
    next_ticket: u64,
    batch: Vec<Job>,
    pool: Option<Threads<Vec<Job>, Vec<Done>>>,
    done: VecDeque<Done>,
    /// Files that changed while a thread compared them: they are compared at once from then on.
    restless: HashSet<((u32, u32), u64)>,
}

impl Readers {
    /// Returns what compares with the walk's own thread alone.
    pub(super) fn new(confirm: Confirm) -> Self {
        Self {
            confirm,
            threads: Some(NonZero::<usize>::MIN),
            own: Contents::new(confirm),
            compared: 0,
            next_ticket: 0,
            batch: Vec::new(),
            pool: None,
            done: VecDeque::new(),
            restless: HashSet::new(),
        }
    }

    pub(super) fn set_threads(&mut self, threads: Option<NonZero<usize>>) {
        self.threads = threads;
    }

    /// Compares two files of equal size at once.
    pub(super) fn compare_alone(
        &mut self,
        image: &Leaf,
        container: &Leaf,
    ) -> Result<(Content, u64), Trouble> {
        self.own.compare(image.data(), container.data())
    }

    /// Compares two files of equal size, or hands them over to be compared; returns how many bytes were
    /// read for it so far.
    pub(super) fn compare(
        &mut self,
        image: &Leaf,
        container: &Leaf,
    ) -> Result<(Content, u64), Trouble> {
        self.compared += 1;
        if self.threads == Some(NonZero::<usize>::MIN)
            || self.compared <= ALONE
            || self.confirm == Confirm::Never
            || self.restless.contains(&container.data_identity())
        {
            return self.compare_alone(image, container);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.batch.push(Job {
            ticket,
            image: image.clone(),
            container: container.clone(),
        });
        if self.batch.len() >= BATCH {
            self.submit();
        }
        Ok((Content::Pending(ticket), 0))
    }

    /// Returns what became of two files that were handed over, and the bytes read for it; waits for it
    /// when `all` are wanted.
    pub(super) fn next(&mut self, all: bool) -> Option<(Settled<Node>, u64)> {
        if self.done.is_empty() && all {
            self.compare_batch();
        }
        if self.done.is_empty() {
            let done = self.pool.as_mut()?.next(all)?;
            self.done.extend(done);
        }
        let Done {
            job,
            compared,
            moved,
        } = self.done.pop_front()?;
        if moved {
            self.restless.insert(job.container.data_identity());
        }
        let (content, bytes_read) = match compared {
            Ok((content, bytes_read)) => (Ok(content), bytes_read),
            Err(trouble) => (Err(trouble), 0),
        };
        let settled = Settled {
            ticket: job.ticket,
            content,
            moved: moved.then(|| (Node::Leaf(job.image), Node::Leaf(job.container))),
        };
        Some((settled, bytes_read))
    }

    /// Hands the batch over, or does it here when the threads have enough to do.
    fn submit(&mut self) {
        let (confirm, threads) = (self.confirm, self.threads);
        let pool = self.pool.get_or_insert_with(|| {
            let beside_this = (parallel::thread_count(threads) - 1).min(THREADS_MAX);
            // One batch waits for each thread.
            Threads::new(beside_this, beside_this, || {
                let mut contents = Contents::new(confirm);
                move |batch: Vec<Job>| {
                    let batch = batch.into_iter();
                    batch.map(|job| done(job, &mut contents)).collect()
                }
            })
        });
        if let Err(batch) = pool.try_submit(std::mem::take(&mut self.batch)) {
            self.batch = batch;
            self.compare_batch();
        }
    }

    fn compare_batch(&mut self) {
        for job in self.batch.drain(..) {
            self.done.push_back(done(job, &mut self.own));
        }
    }
}

fn done(job: Job, contents: &mut Contents) -> Done {
    let compared = contents.compare(job.image.data(), job.container.data());
    let Leaf {
        layer,
        parent,
        name,
        stat,
        ..
    } = &job.container;
    let moved = *layer == UPPER && parent.stat(name) != Ok(*stat);
    Done {
        job,
        compared,
        moved,
    }
}
