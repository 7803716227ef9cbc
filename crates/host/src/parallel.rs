//! Work that several threads share.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

/// Returns how many threads to use. Not asked until there is work for them: the answer takes the reading
/// of several files of the kernel's.
pub(crate) fn thread_count(asked: Option<NonZero<usize>>) -> usize {
    let threads = asked.or_else(|| std::thread::available_parallelism().ok());
    threads.map_or(1, NonZero::get)
}

/// Does `work` for each number of `order` in as many threads as given, the first ones first, and returns
/// what came of the numbers below `count`; `None` for one that was not in the order, or whose thread ended.
pub(crate) fn each<T: Send>(
    order: &[usize],
    count: usize,
    threads: NonZero<usize>,
    work: impl Fn(usize) -> T + Sync,
) -> Vec<Option<T>> {
    let next = AtomicUsize::new(0);
    let (send, done) = channel();
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(order.len()) {
            let (next, work, send) = (&next, &work, send.clone());
            scope.spawn(move || {
                while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed))
                    && send.send((*at, work(*at))).is_ok()
                {}
            });
        }
    });
    drop(send);
    let mut found: Vec<Option<T>> = (0..count).map(|_| None).collect();
    for (at, of) in done {
        if let Some(place) = found.get_mut(at) {
            *place = Some(of);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_stands_in_its_place() {
        for threads in [1, 3, 50] {
            let threads = NonZero::new(threads).unwrap();
            let found = each(&[4, 0, 2], 5, threads, |at| at * 10);
            assert_eq!(found, [Some(0), None, Some(20), None, Some(40)]);
            assert!(each(&[], 0, threads, |at| at).is_empty());
        }
    }
}
