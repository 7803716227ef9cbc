//! YAML that an operator wrote: read strictly, with errors of one line that say where.

use serde::de::DeserializeOwned;

use crate::model::escape;

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct YamlError {
    /// The line, counted from 1; 0 when it belongs to no line.
    pub line: u64,
    /// What is wrong there, escaped, on one line.
    pub why: String,
}

/// Reads a document. Duplicate keys are refused, and what aliases may expand to is bounded.
///
/// # Errors
/// [`YamlError`] for text that is no YAML, and for what `T` does not take.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| YamlError {
        line: error.location().map_or(0, |location| location.line()),
        why: sentence(&error),
    })
}

/// Returns the message without the position, which is told beside it.
fn sentence(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().render();
    let text = text.lines().next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let text = match text
        .strip_prefix("line ")
        .and_then(|rest| rest.split_once(": "))
    {
        Some((_, message)) => message,
        None => text.split(" at line ").next().unwrap_or(text),
    };
    escape(text.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where_on_one_line() {
        for (text, line) in [
            ("a: 1\na: 2\n", 2),
            ("a: x\n", 1),
            ("a: [\n", 1),
            ("\u{1b}: 1\n", 1),
        ] {
            let error = from_str::<std::collections::BTreeMap<String, u8>>(text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(
                !error.why.contains(['\n', '\u{1b}']) && !error.why.is_empty(),
                "{error:?}"
            );
        }
    }
}
