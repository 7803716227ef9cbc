//! Only some paths: each is resolved on both sides from the root down, as a process in the
//! container would, so that its cost does not depend on the size of either tree.

use std::collections::VecDeque;

use plimsoll_core::model::{FileType, Gap, RootPath};

use super::compare::Comparison;
use super::outcome::{Limits, Outcome};
use super::{Pair, Side, Trouble};

/// Links followed for one path, as in the kernel (`MAXSYMLINKS` in `include/linux/namei.h`).
const MAX_LINKS: usize = 40;

/// Compares these paths alone, and each symbolic link on the way to them. Of a directory itself only
/// its own attributes are compared.
pub fn check<P: Pair>(pair: &mut P, paths: &[RootPath], limits: Limits) -> Outcome {
    let mut compare = Comparison::new(pair, limits);
    for path in paths {
        if let Err(trouble) = check_one(&mut compare, path) {
            compare.recorder.gap(Gap::new(path.as_bytes(), trouble.0));
        }
    }
    compare.finish()
}

/// One level of the way down: its name and its object on each side that has it.
struct Level<P: Pair> {
    path: RootPath,
    image: Option<P::Node>,
    container: Option<P::Node>,
}

fn check_one<P: Pair>(compare: &mut Comparison<'_, P>, path: &RootPath) -> Result<(), Trouble> {
    let mut todo: VecDeque<Vec<u8>> = path.components().map(<[u8]>::to_vec).collect();
    let mut way: Vec<Level<P>> = vec![Level {
        path: RootPath::root(),
        image: Some(compare.pair.root(Side::Image)?),
        container: Some(compare.pair.root(Side::Container)?),
    }];
    if todo.is_empty() {
        return reach(compare, &way[0]);
    }
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                if way.len() > 1 {
                    way.pop();
                }
                continue;
            }
            _ => {}
        }
        let Some(dir) = way.last() else { return Ok(()) };
        let mut find = |side, node: &Option<P::Node>| match node {
            Some(node) => compare.pair.lookup(side, node, &name),
            None => Ok(None),
        };
        let level = Level {
            path: dir.path.join(&name),
            container: find(Side::Container, &dir.container)?,
            image: find(Side::Image, &dir.image)?,
        };
        let found = match (&level.image, &level.container) {
            (_, Some(node)) => compare.pair.attributes(Side::Container, node)?,
            (Some(node), None) => {
                compare.deleted(&level.path, node);
                return Ok(());
            }
            (None, None) => return Ok(()),
        };
        if let Some(target) = found.target {
            reach(compare, &level)?;
            links += 1;
            if links > MAX_LINKS {
                return Err(Trouble("too many levels of symbolic links".into()));
            }
            if target.as_bytes().first() == Some(&b'/') {
                way.truncate(1);
            }
            for part in target.as_bytes().split(|b| *b == b'/').rev() {
                todo.push_front(part.to_vec());
            }
        } else if todo.iter().all(|part| part.is_empty() || part == b".") {
            return reach(compare, &level);
        } else if found.file_type == FileType::Directory || found.file_type == FileType::Subvolume {
            if let Some(image) = &level.image {
                let before = compare.pair.attributes(Side::Image, image)?;
                if before.file_type != found.file_type {
                    return reach(compare, &level);
                }
            }
            way.push(level);
        } else {
            // The path goes on, but the container has no directory here.
            return reach(compare, &level);
        }
    }
    Ok(())
}

/// Compares the objects at one level.
fn reach<P: Pair>(compare: &mut Comparison<'_, P>, level: &Level<P>) -> Result<(), Trouble> {
    match (&level.image, &level.container) {
        (Some(image), Some(container)) => {
            if let Some(doubt) = compare.pair.doubt_alone(container) {
                let gap = Gap::new(level.path.as_bytes(), doubt.0);
                compare.recorder.gap(gap);
            }
            if !compare.pair.proven_same(image, container) {
                compare.both(&level.path, image, container);
            }
        }
        (None, Some(container)) => {
            compare.added(&level.path, container);
        }
        (Some(image), None) => {
            compare.deleted(&level.path, image);
        }
        (None, None) => {}
    }
    Ok(())
}
