//! The lines of `docker diff`: a letter and a path.
//!
//! It differs from Docker in what is found, not in the form: Docker has no letter for another file
//! type, which is `C` here too, and it prints names as they are, which are escaped here. What could
//! not be seen has no place in it and goes to stderr.

use std::io::{self, Write};

use plimsoll_core::model::{ChangeKind, Gap};
use plimsoll_core::report::v1;

use crate::talk::Talk;

/// Writes the changes, and keeps the gaps to tell of them.
#[derive(Debug, Default)]
pub(crate) struct Docker {
    gaps: Vec<v1::Gap>,
}

impl Docker {
    pub(super) fn container(
        &mut self,
        container: v1::Container,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        for change in container.changes.iter() {
            let letter = match change.kind {
                ChangeKind::Added => 'A',
                ChangeKind::Deleted => 'D',
                ChangeKind::Changed | ChangeKind::Replaced => 'C',
            };
            writeln!(out, "{letter} {}", change.path)?;
        }
        self.gaps.extend(container.gaps);
        Ok(())
    }

    pub(super) fn finish(self, talk: Talk) {
        for gap in self.gaps {
            talk.gap(&Gap::new(gap.what, gap.why));
        }
    }
}
