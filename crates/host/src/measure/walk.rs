//! The one walk that drives every engine, and the meaning of added, deleted, replaced and changed.
//!
//! It goes depth first with a stack of its own, because the depth of a tree is the container's
//! choice. Of a deep tree only the last [`OPEN_LEVELS`] levels keep their nodes (and so their file
//! descriptors); the others are looked up again on the way back.

use plimsoll_core::model::{Gap, RootPath};

use super::compare::Comparison;
use super::outcome::{Limits, Outcome};
use super::{Listing, Names, Pair, Side, Trouble};

/// Levels of directories whose nodes are kept alive at once.
pub const OPEN_LEVELS: usize = 64;

/// Longest path that is looked beneath, in bytes. The kernel takes none above 4096 in one call, so
/// whatever lies deeper was made to be hard to reach.
pub const PATH_LIMIT: usize = 64 << 10;

/// Compares the two trees of a pair.
pub fn walk<P: Pair>(pair: &mut P, limits: Limits) -> Outcome {
    let mut walk = Walk {
        compare: Comparison::new(pair, limits),
        stack: Vec::new(),
        path: Vec::new(),
    };
    walk.run();
    walk.compare.finish()
}

/// A directory that is being looked through.
struct Frame<P: Pair> {
    /// Its name in its parent; empty for the root.
    name: Box<[u8]>,
    /// Its objects, `None` when they are parked or when that side has none.
    image: Option<P::Node>,
    container: Option<P::Node>,
    scope: Scope,
    /// The identities of both objects, to know them again after they were parked.
    identity: [Option<(u64, u64)>; 2],
    parked: bool,
    cursor: P::Cursor,
    names: Names,
    next: usize,
    more: bool,
    /// A replaced directory of which the deleted side is being listed: the added side comes next.
    then_added: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Both sides have it.
    Both,
    /// Everything in it is on one side only.
    Only(Side),
}

struct Walk<'p, P: Pair> {
    compare: Comparison<'p, P>,
    stack: Vec<Frame<P>>,
    /// Path of the directory on top of the stack, without a trailing slash: empty for the root.
    path: Vec<u8>,
}

impl<P: Pair> Walk<'_, P> {
    fn run(&mut self) {
        let pair = &mut *self.compare.pair;
        let roots = pair
            .root(Side::Image)
            .and_then(|image| Ok((image, pair.root(Side::Container)?)));
        let (image, container) = match roots {
            Ok(roots) => roots,
            Err(trouble) => return self.compare.recorder.gap(Gap::new("/", trouble.0)),
        };
        if self.compare.pair.proven_same(&image, &container) {
            return;
        }
        self.compare.both(&RootPath::root(), &image, &container);
        self.push(Box::default(), Some(image), Some(container), Scope::Both);
        while let Some(frame) = self.stack.last_mut() {
            if frame.next < frame.names.len() {
                let index = frame.next;
                frame.next += 1;
                let name: Box<[u8]> = frame.names.get(index).unwrap_or_default().into();
                self.entry(name);
            } else if frame.more {
                self.refill();
            } else {
                self.pop();
            }
        }
    }

    /// Reads the next portion of names of the directory on top.
    fn refill(&mut self) {
        if let Err(trouble) = self.reopen() {
            self.gap_here(trouble);
            return self.pop();
        }
        let Some(frame) = self.stack.last_mut() else {
            return;
        };
        frame.names.clear();
        frame.next = 0;
        let what = match (&frame.image, &frame.container, frame.scope) {
            (Some(image), Some(container), Scope::Both) => Listing::Suspects { image, container },
            (Some(dir), _, Scope::Only(side @ Side::Image))
            | (_, Some(dir), Scope::Only(side @ Side::Container)) => Listing::All { side, dir },
            _ => {
                frame.more = false;
                return;
            }
        };
        match self
            .compare
            .pair
            .list(what, &mut frame.cursor, &mut frame.names)
        {
            Ok(more) => frame.more = more,
            Err(trouble) => {
                frame.more = false;
                self.gap_here(trouble);
            }
        }
    }

    /// Compares one entry of the directory on top.
    fn entry(&mut self, name: Box<[u8]>) {
        if let Err(trouble) = self.reopen() {
            self.gap_here(trouble);
            return self.pop();
        }
        let Some(frame) = self.stack.last() else {
            return;
        };
        let mut find = |side: Side, dir: &Option<P::Node>| match dir {
            Some(dir) => self.compare.pair.lookup(side, dir, &name),
            None => Ok(None),
        };
        // The container's side first: what is gone from there is looked for in the image after it.
        let found = find(Side::Container, &frame.container)
            .and_then(|container| Ok((find(Side::Image, &frame.image)?, container)));
        let path = self.path_of(&name);
        let (image, container) = match found {
            Ok(found) => found,
            Err(trouble) => {
                return self
                    .compare
                    .recorder
                    .gap(Gap::new(path.as_bytes(), trouble.0));
            }
        };
        match (image, container) {
            (None, None) => {}
            (Some(image), None) => {
                if let Some(attributes) = self.compare.deleted(&path, &image)
                    && attributes.file_type.has_entries()
                    && self.compare.expand
                {
                    self.push(name, Some(image), None, Scope::Only(Side::Image));
                }
            }
            (None, Some(container)) => {
                if let Some(attributes) = self.compare.added(&path, &container)
                    && attributes.file_type.has_entries()
                {
                    self.push(name, None, Some(container), Scope::Only(Side::Container));
                }
            }
            (Some(image), Some(container)) => {
                if self.compare.pair.proven_same(&image, &container) {
                    return;
                }
                match self.compare.both(&path, &image, &container) {
                    Some((before, after)) if before == after && before.has_entries() => {
                        self.push(name, Some(image), Some(container), Scope::Both);
                    }
                    Some((before, after)) if before != after => {
                        let gone = before.has_entries() && self.compare.expand;
                        match (gone, after.has_entries()) {
                            (true, new) => {
                                self.push(name, Some(image), None, Scope::Only(Side::Image));
                                if let Some(frame) = self.stack.last_mut() {
                                    frame.then_added = new;
                                }
                            }
                            (false, true) => {
                                self.push(name, None, Some(container), Scope::Only(Side::Container))
                            }
                            (false, false) => {}
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn path_of(&self, name: &[u8]) -> RootPath {
        let mut path = Vec::with_capacity(self.path.len() + 1 + name.len());
        path.extend_from_slice(&self.path);
        path.push(b'/');
        path.extend_from_slice(name);
        RootPath::parse(&path).unwrap_or_else(|_| RootPath::root())
    }

    fn gap_here(&mut self, trouble: Trouble) {
        let what = if self.path.is_empty() {
            b"/"
        } else {
            &self.path[..]
        };
        self.compare.recorder.gap(Gap::new(what, trouble.0));
    }

    fn push(
        &mut self,
        name: Box<[u8]>,
        image: Option<P::Node>,
        container: Option<P::Node>,
        scope: Scope,
    ) {
        if !name.is_empty() {
            if self.path.len() + 1 + name.len() > PATH_LIMIT {
                let why = format!(
                    "its path is longer than {PATH_LIMIT} bytes: nothing beneath was looked at"
                );
                return self.gap_here(Trouble(why));
            }
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
        }
        let pair = &*self.compare.pair;
        let identity =
            [&image, &container].map(|node| node.as_ref().map(|node| pair.identity(node)));
        self.stack.push(Frame {
            name,
            image,
            container,
            scope,
            identity,
            parked: false,
            cursor: P::Cursor::default(),
            names: Names::default(),
            next: 0,
            more: true,
            then_added: false,
        });
        if let Some(index) = self.stack.len().checked_sub(OPEN_LEVELS + 1)
            && let Some(frame) = self.stack.get_mut(index)
        {
            frame.park();
        }
    }

    fn pop(&mut self) {
        let Some(frame) = self.stack.pop() else {
            return;
        };
        if !frame.name.is_empty() {
            self.path.truncate(self.path.len() - frame.name.len() - 1);
        }
        if frame.then_added {
            let found = self.reopen().and_then(|()| match self.stack.last() {
                Some(Frame {
                    container: Some(dir),
                    ..
                }) => self.compare.pair.lookup(Side::Container, dir, &frame.name),
                _ => Ok(None),
            });
            match found {
                Ok(Some(node)) => {
                    self.push(frame.name, None, Some(node), Scope::Only(Side::Container))
                }
                Ok(None) => {}
                Err(trouble) => self.gap_here(trouble),
            }
        }
    }

    /// Looks the parked levels up again, from the root down, when the one on top is parked.
    fn reopen(&mut self) -> Result<(), Trouble> {
        if !self.stack.last().is_some_and(|frame| frame.parked) {
            return Ok(());
        }
        let keep_from = self.stack.len().saturating_sub(OPEN_LEVELS);
        let pair = &mut *self.compare.pair;
        let mut nodes = (
            Some(pair.root(Side::Image)?),
            Some(pair.root(Side::Container)?),
        );
        for index in 0..self.stack.len() {
            let below = match self.stack.get(index + 1) {
                Some(next) => {
                    let mut find =
                        |side, node: &Option<P::Node>, known: Option<_>| match (node, known) {
                            (Some(node), Some(_)) => pair.lookup(side, node, &next.name),
                            _ => Ok(None),
                        };
                    let [image, container] = next.identity;
                    (
                        find(Side::Image, &nodes.0, image)?,
                        find(Side::Container, &nodes.1, container)?,
                    )
                }
                None => (None, None),
            };
            let Some(frame) = self.stack.get_mut(index) else {
                break;
            };
            let found =
                [&nodes.0, &nodes.1].map(|node| node.as_ref().map(|node| pair.identity(node)));
            if frame
                .identity
                .iter()
                .zip(found)
                .any(|(known, found)| known.is_some() && *known != found)
            {
                return Err(Trouble("it moved while it was being looked at".into()));
            }
            if index >= keep_from {
                frame.parked = false;
                (frame.image, frame.container) = nodes;
            }
            nodes = below;
        }
        Ok(())
    }
}

impl<P: Pair> Frame<P> {
    /// Lets go of the nodes, and with them of their file descriptors.
    fn park(&mut self) {
        self.image = None;
        self.container = None;
        self.parked = true;
    }
}
