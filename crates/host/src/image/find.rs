//! Which images a request is about.

use plimsoll_core::model::{Gap, escape};

use crate::layers::stored::StoredImage;
use crate::runtimes::RuntimeError;
use crate::runtimes::find::{self, FindError, Looked, Sources};

/// Returns the images that these names mean, all of them when there is no name, and what could not be
/// read of the runtimes' records.
///
/// # Errors
/// [`FindError`] when a name means none or several, or no runtime can be asked.
pub fn images(
    sources: &Sources,
    names: &[String],
) -> Result<(Vec<StoredImage>, Vec<Gap>), FindError> {
    let (mut runtimes, mut gaps) = (Vec::new(), Vec::new());
    let (mut absent, mut unreadable) = (Vec::new(), Vec::new());
    for Looked { kinds, found } in find::runtimes(sources) {
        match found {
            Ok(runtime) => runtimes.push(runtime),
            Err(RuntimeError::Absent(why)) => absent.push(why),
            Err(error) => {
                let name = kinds.first().map_or("runtime", |kind| kind.as_str());
                gaps.push(Gap::new(name, error.to_string()));
                unreadable.push(error.to_string());
            }
        }
    }
    if runtimes.is_empty() {
        return Err(find::nothing(absent, unreadable));
    }
    let mut found = Vec::new();
    for runtime in &runtimes {
        match runtime.images() {
            Ok((images, unread)) => {
                found.extend(images);
                gaps.extend(unread);
            }
            Err(error) => gaps.push(Gap::new("images", error.to_string())),
        }
    }
    if names.is_empty() {
        return Ok((found, gaps));
    }
    let mut wanted = Vec::new();
    for name in names {
        let target = escape(name.as_bytes()).into_owned();
        let exact: Vec<usize> = positions(&found, |image| is_called(image, name));
        let meant = match exact.is_empty() {
            true => positions(&found, |image| begins(image, name)),
            false => exact,
        };
        match meant.as_slice() {
            [] => {
                let searched: Vec<String> = runtimes.iter().map(|r| r.describe()).collect();
                return Err(FindError::NoImage {
                    target,
                    searched: searched.join(" nor in "),
                });
            }
            // One image that lies in several places is meant in all of them.
            all if is_one(&found, all) => wanted.extend(all),
            several => {
                let candidates: Vec<String> = several
                    .iter()
                    .filter_map(|at| found.get(*at)?.image.id.as_ref())
                    .map(ToString::to_string)
                    .collect();
                return Err(FindError::Ambiguous {
                    target,
                    candidates: candidates.join(", "),
                });
            }
        }
    }
    let mut at = 0;
    found.retain(|_| {
        at += 1;
        wanted.contains(&(at - 1))
    });
    Ok((found, gaps))
}

/// Whether all of these are one image, by its id or by being alone.
fn is_one(images: &[StoredImage], at: &[usize]) -> bool {
    let mut ids = at.iter().map(|at| images.get(*at)?.image.id);
    let first = ids.next().flatten();
    at.len() == 1 || first.is_some() && ids.all(|id| id == first)
}

fn positions(images: &[StoredImage], meant: impl Fn(&StoredImage) -> bool) -> Vec<usize> {
    let images = images.iter().enumerate();
    images
        .filter(|(_, image)| meant(image))
        .map(|(at, _)| at)
        .collect()
}

/// Whether an image has this name, with the tag that is meant where none is given, or this id.
fn is_called(image: &StoredImage, name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = match last.contains([':', '@']) {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    };
    let named = |of: &plimsoll_core::model::Bytes| {
        of.as_bytes() == name.as_bytes() || of.as_bytes() == tagged.as_bytes()
    };
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    image.names.iter().any(named)
        || image
            .image
            .id
            .as_ref()
            .is_some_and(|id| id.digest().hex() == hex)
}

/// Whether the id of an image begins so.
fn begins(image: &StoredImage, name: &str) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    let id = image.image.id.as_ref();
    !hex.is_empty() && id.is_some_and(|id| id.digest().hex().starts_with(hex))
}
