//! A writable layer that nothing was ever written to, which takes no walk to tell.

use plimsoll_core::model::Timestamp;

use super::OverlayPair;
use super::example::Root;
use super::node::Part;
use crate::measure::compare::aspects;

/// What was seen of a container that has an untouched writable layer.
#[derive(Debug)]
pub struct Untouched {
    /// Change time of the root of its writable layer.
    pub ctime: Timestamp,
    /// The root of the layer beneath.
    pub beneath: Root,
}

impl OverlayPair<'_> {
    /// Looks whether there is nothing in the writable layer and its root is as that of the layer beneath, which
    /// is how containers are that never ran. Then no path differs, as long as the change time of the layer's
    /// root is the one returned. `None` where that is not so, or cannot be seen: then the walk tells.
    pub fn untouched(&mut self) -> Option<Untouched> {
        if self.exhaustive || !self.stacked || self.marks.are_fuse() {
            return None;
        }
        if self.roots.is_empty() {
            self.roots = self.open_roots().ok()?;
        }
        let [upper, beneath, ..] = self.roots.as_slice() else {
            return None;
        };
        let mut is_empty = true;
        let mut reader = upper.dir.reader(0).ok()?;
        while is_empty && reader.next_portion(|_| is_empty = false).ok()? {}
        let as_beneath = aspects(&beneath.attributes(), &upper.attributes()).is_empty();
        if !is_empty || !as_beneath {
            return None;
        }
        let mut visible = |part: &Part| self.marks.visible(&part.dir, b"", &part.marks).ok();
        (visible(upper)? == visible(beneath)?).then(|| Untouched {
            ctime: upper.stat.ctime,
            beneath: Root {
                stat: beneath.stat,
                names: beneath.marks.names().into(),
            },
        })
    }
}
