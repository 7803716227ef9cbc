//! Reference values, as an operator gives them: files, OCI image layouts, and signatures.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use plimsoll_core::trust::{ImageName, PublicKey, ReferenceValues, Signed};

use crate::args::IdentityArgs;
use crate::config;
use crate::error::{CliError, shown};

/// Largest index or manifest that is read, in bytes.
const BLOB_LIMIT: u64 = 8 << 20;

/// Returns the reference values of all these; `None` when there are none.
///
/// # Errors
/// [`CliError`] when one cannot be read or makes no sense.
pub(crate) fn load(given: &IdentityArgs) -> Result<Option<ReferenceValues>, CliError> {
    let mut values = ReferenceValues::default();
    for one in &given.reference {
        values.extend(read(one)?);
    }
    if let Some(path) = &given.key {
        let key = text("the key", path)?;
        let key = PublicKey::parse(&key)
            .map_err(|error| CliError::new(format!("the key {}: {error}", shown(path))))?;
        for path in &given.signature {
            values.add_signed(signed(&key, path)?);
        }
    }
    let any = !given.reference.is_empty() || !given.signature.is_empty();
    Ok(any.then_some(values))
}

/// Returns what a file proves to be signed.
fn signed(key: &PublicKey, path: &Path) -> Result<Signed, CliError> {
    let what = text("the signature", path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".sig");
    let beside = Path::new(&beside);
    let proved = match beside.exists() {
        true => key.verify_payload(&what, &text("the signature", beside)?),
        false => key.verify_bundle(&what),
    };
    proved.map_err(|error| CliError::new(format!("the signature {}: {error}", shown(path))))
}

fn text(what: &str, path: &Path) -> Result<String, CliError> {
    config::text(&format!("cannot read {what}"), path)?
        .ok_or_else(|| CliError::new(format!("{what} {}: there is no such file", shown(path))))
}

fn read(given: &OsStr) -> Result<ReferenceValues, CliError> {
    let (name, path) = parts(given)?;
    let failed =
        |why: String| CliError::new(format!("the reference values {}: {why}", shown(path)));
    if !path.is_dir() {
        let text = text("the reference values", path)?;
        return ReferenceValues::parse(&text, name).map_err(|error| {
            failed(error.to_string()).hint(
                "a file of images with their manifest or config digests, what skopeo inspect printed, or an OCI layout",
            )
        });
    }
    let open = |path: &Path| -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(BLOB_LIMIT + 1).read_to_end(&mut bytes)?;
        match bytes.len() as u64 > BLOB_LIMIT {
            true => Err(std::io::Error::other("longer than 8 MiB")),
            false => Ok(bytes),
        }
    };
    let index = open(&path.join("index.json")).map_err(|error| {
        failed(format!("index.json: {error}")).hint("a directory is taken for an OCI image layout")
    })?;
    ReferenceValues::of_layout(&index, name.as_ref(), &mut |digest| {
        let blob = path
            .join("blobs")
            .join(digest.algorithm().as_str())
            .join(digest.hex());
        open(&blob).map_err(|error| error.to_string())
    })
    .map_err(|error| failed(error.to_string()))
}

/// Splits `NAME=PATH`, unless there is a file or directory of the whole name.
fn parts(given: &OsStr) -> Result<(Option<ImageName>, &Path), CliError> {
    let whole = Path::new(given);
    let bytes = given.as_bytes();
    let Some(at) = bytes.iter().position(|byte| *byte == b'=') else {
        return Ok((None, whole));
    };
    if whole.exists() {
        return Ok((None, whole));
    }
    let name = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
    let name = ImageName::parse(&name)
        .map_err(|error| CliError::new(format!("--reference {}: {error}", shown(whole))))?;
    let path = bytes.get(at + 1..).unwrap_or_default();
    Ok((Some(name), Path::new(OsStr::from_bytes(path))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_may_be_given_a_name() {
        let (name, path) = parts(OsStr::new("acme/web:1=/srv/a=b")).unwrap();
        assert_eq!(name.unwrap().to_string(), "docker.io/acme/web:1");
        assert_eq!(path, Path::new("/srv/a=b"));
        assert_eq!(
            parts(OsStr::new("/srv/x")).unwrap(),
            (None, Path::new("/srv/x"))
        );
        assert!(parts(OsStr::new("no name=/srv/x")).is_err());
    }

    #[test]
    fn what_is_not_there_is_told_by_its_name() {
        let error = read(OsStr::new("/nowhere/values.yaml")).unwrap_err();
        assert!(
            error.message.contains("/nowhere/values.yaml"),
            "{}",
            error.message
        );
        let directory = tempfile::tempdir().unwrap();
        let error = read(directory.path().as_os_str()).unwrap_err();
        assert!(error.message.contains("index.json"), "{}", error.message);
    }
}
