//! Where data goes: standard output, or a file that appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use tempfile::NamedTempFile;

use crate::error::CliError;

/// The open destination of a command's data.
pub(crate) enum Output {
    /// Standard output, with colour when it is a terminal that wants it.
    Stdout(BufWriter<AutoStream<io::StdoutLock<'static>>>),
    /// A regular file: written beside its place, put there by [`Output::finish`].
    File(BufWriter<NamedTempFile>, PathBuf),
    /// Something that is there and is no regular file: a pipe, a terminal.
    Special(BufWriter<File>),
}

impl Output {
    /// Opens `path`, or standard output, for people.
    ///
    /// # Errors
    /// [`CliError`] when it cannot be made.
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, CliError> {
        path.map_or_else(
            || Ok(Self::stdout(AutoStream::choice(&io::stdout()))),
            Self::open_file,
        )
    }

    /// Opens `path`, or standard output, for programs: what is written has no colour, and is not searched
    /// for any that would have to be taken out.
    ///
    /// # Errors
    /// [`CliError`] when it cannot be made.
    pub(crate) fn open_plain(path: Option<&Path>) -> Result<Self, CliError> {
        path.map_or_else(
            || Ok(Self::stdout(ColorChoice::AlwaysAnsi)),
            Self::open_file,
        )
    }

    fn stdout(colour: ColorChoice) -> Self {
        Self::Stdout(BufWriter::new(AutoStream::new(io::stdout().lock(), colour)))
    }

    fn open_file(path: &Path) -> Result<Self, CliError> {
        let failed = |error: io::Error| CliError::file("cannot write", path, &error);
        if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            let file = File::options().write(true).open(path).map_err(failed)?;
            return Ok(Self::Special(BufWriter::new(file)));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let file = NamedTempFile::new_in(directory).map_err(failed)?;
        Ok(Self::File(BufWriter::new(file), path.to_owned()))
    }

    /// Returns the width to fit into, where it is a terminal: columns.
    pub(crate) fn width(&self) -> Option<usize> {
        match self {
            Self::Stdout(_) => {
                terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into())
            }
            Self::File(..) | Self::Special(_) => None,
        }
    }

    /// Delivers what was written.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Stdout(mut out) => out.flush(),
            Self::Special(mut out) => out.flush(),
            Self::File(out, path) => {
                let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.as_file().sync_all()?;
                file.persist(path)?;
                Ok(())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(out, _) => out.write(bytes),
            Self::Special(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(out, _) => out.flush(),
            Self::Special(out) => out.flush(),
        }
    }
}
