//! The threads that hash.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use plimsoll_core::model::{Algorithm, Digest};

use super::hash;
use crate::measure::{Content, Trouble};

/// Jobs under way for each thread: enough that none waits, few enough to bound open files.
const QUEUE: usize = 8;

/// What a job hashes.
#[derive(Debug)]
pub(super) enum Subject {
    /// A file, from start to end.
    File(OwnedFd),
    /// Nothing: the digest is known.
    Known(Digest),
}

/// Files to hash with one ticket.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ticket: u64,
    pub(super) algorithm: Algorithm,
    pub(super) subjects: Vec<Subject>,
}

/// A job that is done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) ticket: u64,
    pub(super) digests: Result<Vec<Digest>, Trouble>,
    pub(super) bytes_read: u64,
}

impl Done {
    /// Whether everything that was hashed has one digest.
    pub(super) fn content(self) -> Result<Content, Trouble> {
        let digests = self.digests?;
        let same = digests.windows(2).all(|pair| pair.first() == pair.last());
        Ok(if same {
            Content::Same
        } else {
            Content::Different
        })
    }
}

/// Threads, and the jobs that are under way.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
    under_way: usize,
    room: usize,
}

impl Pool {
    pub(super) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let room = threads * QUEUE;
        // There is room for every job that may be under way, so submitting never waits.
        let (jobs, queue) = sync_channel(room + 1);
        let (results, done) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads)
            .map(|_| {
                let (queue, results) = (Arc::clone(&queue), results.clone());
                std::thread::spawn(move || work(&queue, &results))
            })
            .collect();
        Self {
            jobs: Some(jobs),
            done,
            threads,
            under_way: 0,
            room,
        }
    }

    pub(super) fn submit(&mut self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_ok()
        {
            self.under_way += 1;
        }
    }

    /// Returns a job that is done; waits for one when `all` are wanted or there is no room for more.
    pub(super) fn next(&mut self, all: bool) -> Option<Done> {
        if self.under_way == 0 {
            return None;
        }
        let done = if all || self.under_way >= self.room {
            self.done.recv().ok()
        } else {
            self.done.try_recv().ok()
        };
        if done.is_some() {
            self.under_way -= 1;
        }
        done
    }
}

impl Drop for Pool {
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

fn work(queue: &Mutex<Receiver<Job>>, results: &Sender<Done>) {
    let mut buffer = Vec::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let mut bytes_read = 0;
        let digests = job
            .subjects
            .iter()
            .map(|subject| match subject {
                Subject::Known(digest) => Ok(*digest),
                Subject::File(fd) => {
                    let (digest, read) = hash::of_file(fd, job.algorithm, &mut buffer)?;
                    bytes_read += read;
                    Ok(digest)
                }
            })
            .collect();
        if results
            .send(Done {
                ticket: job.ticket,
                digests,
                bytes_read,
            })
            .is_err()
        {
            return;
        }
    }
}
