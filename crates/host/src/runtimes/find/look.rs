//! Which runtimes are here, whatever containers they have.

use std::rc::Rc;

use plimsoll_core::model::RuntimeKind;

use super::{RUNTIMES, Sources};
use crate::runtimes::{Runtime, RuntimeError};

/// A runtime that was looked for.
pub struct Looked {
    /// Whose containers it tells.
    pub kinds: &'static [RuntimeKind],
    /// The runtime, or why it cannot be asked.
    pub found: Result<Rc<dyn Runtime>, RuntimeError>,
}

/// Looks for each runtime that the sources do not leave out.
#[must_use]
pub fn runtimes(sources: &Sources) -> Vec<Looked> {
    let entries = RUNTIMES.iter();
    let asked = entries.filter_map(|entry| Some((entry, entry.is_asked_for(sources, None)?)));
    asked
        .map(|(entry, must)| {
            let found = (entry.find)(sources, None);
            Looked {
                kinds: entry.kinds,
                found: match must {
                    true => found.map_err(RuntimeError::of_what_must_be),
                    false => found,
                },
            }
        })
        .collect()
}
