//! `plimsoll doctor`
use crate::{args::DoctorArgs, error::CliError, talk::Talk};
pub(crate) fn run(_: DoctorArgs, _: Option<&std::path::Path>, _: &Talk) -> Result<u8, CliError> {
    Err(CliError::new("not built yet"))
}
