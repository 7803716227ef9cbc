//! Threads that take jobs from one queue, and the jobs that are under way.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Threads that make a `Done` of each `Job`.
#[derive(Debug)]
pub(super) struct Threads<Job, Done> {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
    under_way: usize,
}

impl<Job: Send + 'static, Done: Send + 'static> Threads<Job, Done> {
    /// Starts `threads`, each with a worker of its own, for which `waiting` jobs may wait.
    pub(super) fn new<Worker>(threads: usize, waiting: usize, worker: impl Fn() -> Worker) -> Self
    where
        Worker: FnMut(Job) -> Done + Send + 'static,
    {
        let (jobs, queue) = sync_channel(waiting);
        let (results, done) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads)
            .map(|_| {
                let (queue, results) = (Arc::clone(&queue), results.clone());
                let mut worker = worker();
                std::thread::spawn(move || {
                    while let Some(job) = next(&queue)
                        && results.send(worker(job)).is_ok()
                    {}
                })
            })
            .collect();
        Self {
            jobs: Some(jobs),
            done,
            threads,
            under_way: 0,
        }
    }
}

fn next<Job>(queue: &Mutex<Receiver<Job>>) -> Option<Job> {
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    queue.recv().ok()
}

impl<Job, Done> Threads<Job, Done> {
    /// Returns how many jobs were handed over and are not taken back yet.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Hands a job over, once there is room for it.
    pub(super) fn submit(&mut self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_ok()
        {
            self.under_way += 1;
        }
    }

    /// Hands a job over, or gives it back when too many wait.
    pub(super) fn try_submit(&mut self, job: Job) -> Result<(), Job> {
        let Some(jobs) = &self.jobs else {
            return Err(job);
        };
        match jobs.try_send(job) {
            Ok(()) => {
                self.under_way += 1;
                Ok(())
            }
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Err(job),
        }
    }

    /// Takes back a job that is done, if there is one; waits for it, when one is under way and `wait`
    /// says so.
    pub(super) fn next(&mut self, wait: bool) -> Option<Done> {
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

impl<Job, Done> Drop for Threads<Job, Done> {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                // A panic in a thread was printed when it happened; its results are missing, and a
                // missing result is a gap already.
                continue;
            }
        }
    }
}
