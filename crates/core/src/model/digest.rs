//! Digests, and the identifiers of the OCI image specification that are digests.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// MD5: broken, kept because the paper compares with it.
    Md5,
    /// SHA-256: what OCI identifiers use.
    Sha256,
    /// BLAKE3: the fastest of the three.
    Blake3,
}

impl Algorithm {
    /// Returns the length of its output in bytes.
    #[must_use]
    pub fn len_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 | Self::Blake3 => 32,
        }
    }

    /// Returns its name as it stands before the colon of a digest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Blake3 => "blake3",
        }
    }
}

/// A digest: `algorithm:hex`, always of the algorithm's full length.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: [u8; 32],
}

/// Why a string is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a digest of the form sha256:HEX")]
pub struct DigestError {
    text: String,
}

impl Digest {
    /// Returns the digest with these bytes, or `None` when their number is not the algorithm's.
    #[must_use]
    pub fn new(algorithm: Algorithm, value: &[u8]) -> Option<Self> {
        if value.len() != algorithm.len_bytes() {
            return None;
        }
        let mut bytes = [0; 32];
        bytes[..value.len()].copy_from_slice(value);
        Some(Self { algorithm, bytes })
    }

    /// Returns the hash function it was made with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the raw value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.len_bytes()]
    }

    /// Returns the value in lower-case hexadecimal, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 15)]);
        let mut hex = String::with_capacity(2 * self.as_bytes().len());
        for byte in self.as_bytes() {
            hex.push(digit(byte >> 4));
            hex.push(digit(*byte));
        }
        hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let bad = || DigestError {
            text: super::escape(text.as_bytes()).into_owned(),
        };
        let (name, hex) = text.split_once(':').ok_or_else(bad)?;
        let algorithm = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Blake3]
            .into_iter()
            .find(|a| a.as_str() == name)
            .ok_or_else(bad)?;
        // Lower case alone, as in the OCI image specification: a digest has one spelling.
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if hex.len() != 2 * algorithm.len_bytes() || !hex.bytes().all(is_digit) {
            return Err(bad());
        }
        let value: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).map_err(|_| bad()))
            .collect::<Result<_, _>>()?;
        Self::new(algorithm, &value).ok_or_else(bad)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "algorithm:hex, of the algorithm's full length",
            "type": "string",
            "pattern": "^(md5:[0-9a-f]{32}|(sha256|blake3):[0-9a-f]{64})$"
        })
    }
}

macro_rules! sha256_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// Returns the digest behind this identifier.
            #[must_use]
            pub fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl From<Digest> for $name {
            fn from(digest: Digest) -> Self {
                Self(digest)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

sha256_id! {
    /// Digest of an image's configuration, which Docker calls the image id.
    ImageId
}
sha256_id! {
    /// Digest of a layer's uncompressed tar stream (OCI image specification, `rootfs.diff_ids`).
    DiffId
}
sha256_id! {
    /// Digest that names a layer together with all layers beneath it (OCI image specification,
    /// "Layer ChainID").
    ChainId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_never_padded_or_cut() {
        let text = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        for bad in [
            "sha256:abcd",
            "sha1:abcd",
            "abcd",
            "",
            &text[..70],
            "sha256:+1",
            &text.replace('a', "A"),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
