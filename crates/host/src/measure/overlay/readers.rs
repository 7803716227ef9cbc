//! Threads that compare contents, once there are so many to compare that they pay.

use std::collections::{HashSet, VecDeque};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::UPPER;
use super::content::Contents;
use super::node::{Leaf, Node};
use crate::measure::{Confirm, Content, Settled, Trouble, options};

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
    pool: Option<Pool>,
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
            return self.own.compare(image.data(), container.data());
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
            let beside_this = options::threads(threads) - 1;
            Pool::new(confirm, beside_this.min(THREADS_MAX))
        });
        if let Err(batch) = pool.submit(std::mem::take(&mut self.batch)) {
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

/// Threads, and the batches that are under way.
#[derive(Debug)]
struct Pool {
    jobs: Option<SyncSender<Vec<Job>>>,
    done: Receiver<Vec<Done>>,
    threads: Vec<JoinHandle<()>>,
    under_way: usize,
}

impl Pool {
    fn new(confirm: Confirm, threads: usize) -> Self {
        // One batch waits for each thread.
        let (jobs, queue) = sync_channel(threads);
        let (results, done) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads)
            .map(|_| {
                let (queue, results) = (Arc::clone(&queue), results.clone());
                std::thread::spawn(move || work(confirm, &queue, &results))
            })
            .collect();
        Self {
            jobs: Some(jobs),
            done,
            threads,
            under_way: 0,
        }
    }

    /// Hands a batch over, or gives it back when there is no room.
    fn submit(&mut self, batch: Vec<Job>) -> Result<(), Vec<Job>> {
        let Some(jobs) = &self.jobs else {
            return Err(batch);
        };
        match jobs.try_send(batch) {
            Ok(()) => {
                self.under_way += 1;
                Ok(())
            }
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => Err(batch),
        }
    }

    fn next(&mut self, wait: bool) -> Option<Vec<Done>> {
        if self.under_way == 0 {
            return None;
        }
        let done = match wait {
            true => self.done.recv().ok(),
            false => self.done.try_recv().ok(),
        }?;
        self.under_way -= 1;
        Some(done)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                // A panic in a thread was printed when it happened; its results are missing, and a
                // missing result is a gap.
                continue;
            }
        }
    }
}

fn work(confirm: Confirm, queue: &Mutex<Receiver<Vec<Job>>>, results: &Sender<Vec<Done>>) {
    let mut contents = Contents::new(confirm);
    loop {
        let batch = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(batch) = batch else { return };
        let batch = batch.into_iter().map(|job| done(job, &mut contents));
        if results.send(batch.collect()).is_err() {
            return;
        }
    }
}
