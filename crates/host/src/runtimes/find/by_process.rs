//! Containers found by what their processes have as their root.

use std::rc::Rc;

use plimsoll_core::model::Container;

use super::{FindError, Found, Outcome, Search, asked};
use crate::proc::root;
use crate::runtimes::overlay_mount::At;
use crate::runtimes::process::{Process, of_a_program};
use crate::runtimes::{RuntimeError, unclaimed};

impl Search<'_> {
    /// Adds the containers that run and that no runtime accounts for; returns whether there are any.
    pub(super) fn unclaimed(&mut self) -> Result<bool, RuntimeError> {
        let told = self.found.iter().map(|(_, container)| container);
        let known: Vec<Container> = told.chain(&self.left_out).cloned().collect();
        let (overlays, gaps) = unclaimed::find(&known);
        self.gaps.extend(gaps);
        let any = !overlays.is_empty();
        for overlay in overlays {
            self.add(overlay)?;
        }
        Ok(any)
    }

    /// Adds an overlay. Where its layers cannot be reached by their paths, the runtime whose container it
    /// is may know better; what that has is held against the mount as well.
    pub(super) fn overlay(&mut self, at: At) -> Result<(), FindError> {
        let overlay = match at {
            At::Kernel(overlay) => *overlay,
            At::Program { shown, device } => {
                let is_its = |pid: u32| root::of(pid).is_ok_and(|root| root.mount.device == device);
                let owner = self.owner(&is_its)?;
                self.found.push(owner.ok_or_else(|| of_a_program(&shown))?);
                return Ok(());
            }
        };
        if overlay.reach().is_err() {
            let is_its =
                |pid: u32| root::of(pid).is_ok_and(|root| root.mount.device == *overlay.device());
            let owner = self.owner(&is_its)?;
            let knows = |(runtime, container): &Found| {
                let located = runtime.locate(container, false);
                located.is_ok_and(|located| overlay.agrees(&located.stack))
            };
            if let Some(found) = owner.filter(knows) {
                self.found.push(found);
                return Ok(());
            }
        }
        // Why its layers cannot be compared is told with it.
        Ok(self.add(Rc::new(overlay))?)
    }

    /// Adds the container that a process is in: as its runtime has it, if one does.
    pub(super) fn process(&mut self, pid: u32) -> Result<(), FindError> {
        if self.sources.root.is_some() {
            return Err(FindError::Unavailable(format!(
                "pid:{pid} is a process of this machine, --root names the disk of another one"
            )));
        }
        let process = Process::find(pid)?;
        match self.owner(&|pid| process.shares_root_with(pid))? {
            Some(found) => self.found.push(found),
            None => self.add(process.unknown()?.into_runtime())?,
        }
        Ok(())
    }

    /// Returns the container of a runtime whose first process is told to be the one.
    fn owner(&mut self, is_its: &dyn Fn(u32) -> bool) -> Result<Option<Found>, FindError> {
        for (at, _) in asked(self.sources, None) {
            let Outcome::Here(runtime) = self.runtime(at, false, None)? else {
                continue;
            };
            let Ok((containers, _)) = runtime.containers() else {
                continue;
            };
            let found = containers
                .into_iter()
                .find(|one| one.pid.is_some_and(is_its));
            if let Some(container) = found {
                return Ok(Some((runtime, container)));
            }
        }
        Ok(None)
    }
}
