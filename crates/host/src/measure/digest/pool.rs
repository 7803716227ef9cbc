//! The threads that hash.

use std::os::fd::OwnedFd;

use plimsoll_core::model::{Algorithm, Digest};

use super::hash;
use crate::measure::threads::Threads;
use crate::measure::{Content, Settled, Trouble};

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
    fn content(self) -> Result<Content, Trouble> {
        let digests = self.digests?;
        let same = digests.windows(2).all(|pair| pair.first() == pair.last());
        Ok(if same {
            Content::Same
        } else {
            Content::Different
        })
    }
}

/// Threads that hash, and the jobs that are under way.
#[derive(Debug)]
pub(super) struct Pool {
    threads: Threads<Job, Done>,
    room: usize,
}

impl Pool {
    pub(super) fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let room = threads * QUEUE;
        // There is room for every job that may be under way, so submitting never waits.
        let threads = Threads::new(threads, room + 1, || {
            let mut buffer = Vec::new();
            move |job| done(job, &mut buffer)
        });
        Self { threads, room }
    }

    pub(super) fn submit(&mut self, job: Job) {
        self.threads.submit(job);
    }

    /// Returns a job that is done; waits for one when `all` are wanted or there is no room for more.
    pub(super) fn next(&mut self, all: bool) -> Option<Done> {
        let wait = all || self.threads.under_way() >= self.room;
        self.threads.next(wait)
    }
}

/// Contents that are compared by their digests: what both pairs that hash have beside their trees.
#[derive(Debug)]
pub(super) struct Contents {
    pool: Pool,
    algorithm: Algorithm,
    next_ticket: u64,
    /// Of the jobs that were taken from the pool so far.
    pub(super) bytes_read: u64,
}

impl Contents {
    pub(super) fn new(algorithm: Algorithm, threads: usize) -> Self {
        Self {
            pool: Pool::new(threads),
            algorithm,
            next_ticket: 0,
            bytes_read: 0,
        }
    }

    /// Has two contents compared; [`Contents::settle`] tells what came of it.
    pub(super) fn compare(&mut self, image: Subject, container: Subject) -> Content {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.pool.submit(Job {
            ticket,
            algorithm: self.algorithm,
            subjects: vec![image, container],
        });
        Content::Pending(ticket)
    }

    /// As [`crate::measure::Pair::settle`].
    pub(super) fn settle<N>(&mut self, all: bool) -> Option<Settled<N>> {
        let done = self.pool.next(all)?;
        self.bytes_read += done.bytes_read;
        Some(Settled {
            ticket: done.ticket,
            content: done.content(),
            moved: None,
        })
    }
}

fn done(job: Job, buffer: &mut Vec<u8>) -> Done {
    let mut bytes_read = 0;
    let digests = job
        .subjects
        .iter()
        .map(|subject| match subject {
            Subject::Known(digest) => Ok(*digest),
            Subject::File(fd) => {
                let (digest, read) = hash::of_file(fd, job.algorithm, buffer)?;
                bytes_read += read;
                Ok(digest)
            }
        })
        .collect();
    Done {
        ticket: job.ticket,
        digests,
        bytes_read,
    }
}
