//! The committed JSON schema of the report.

use std::path::Path;

use plimsoll_core::report::v1;

const PLACE: &str = "docs/reference/report.schema.json";

fn generated() -> Result<String, Vec<String>> {
    let text = serde_json::to_string_pretty(&v1::schema());
    text.map(|text| text + "\n")
        .map_err(|error| vec![error.to_string()])
}

/// Writes the schema where it is committed.
pub(crate) fn write(root: &Path) -> Result<(), Vec<String>> {
    let path = root.join(PLACE);
    std::fs::write(&path, generated()?).map_err(|error| vec![format!("{PLACE}: {error}")])
}

/// Fails when the committed schema is not the generated one.
pub(crate) fn check(root: &Path) -> Result<(), Vec<String>> {
    let committed = std::fs::read_to_string(root.join(PLACE))
        .map_err(|error| vec![format!("{PLACE}: {error}")])?;
    if committed == generated()? {
        Ok(())
    } else {
        Err(vec![format!("{PLACE} is stale: run cargo xtask schema")])
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_schema_is_current() {
        super::check(&crate::root()).unwrap();
    }
}
