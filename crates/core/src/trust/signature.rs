//! Signatures over the digests of manifests, verified offline with a key: what cosign writes, as a Sigstore
//! bundle (sigstore/protobuf-specs `sigstore_bundle.proto`) or as a simple-signing payload with its signature
//! beside (containers/image `docs/containers-signature.5.md`, cosign `specs/SIGNATURE_SPEC.md`).
//!
//! What a certificate or a transparency log would say is not looked at: the key is all that is trusted.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::DecodePublicKey as _;
use serde::Deserialize;

use super::name::ImageName;
use crate::model::{Algorithm, Digest, escape};
use crate::yaml;

/// The type of an in-toto statement in an envelope.
const STATEMENT: &str = "application/vnd.in-toto+json";

/// Why a signature proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// The key is none that can be used.
    #[error("it is no public key of ECDSA on P-256 in PEM, as cosign makes them")]
    Key,
    /// The text is of no form that is known.
    #[error("{0}")]
    Form(String),
    /// It is not this key's, or not of this text.
    #[error("its signature is not by this key, or what was signed was altered")]
    Wrong,
    /// It is good, and of something else than a manifest.
    #[error("what was signed is no manifest of an image: {0}")]
    NoManifest(String),
}

/// A key that signatures are verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Manifests that were signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The repository that the signature says they are of, where it says so.
    pub name: Option<ImageName>,
    /// Their digests.
    pub manifests: Vec<Digest>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
    message_signature: Option<MessageSignature>,
}

/// A DSSE envelope (secure-systems-lab/dsse `envelope.md`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: MessageDigest,
    signature: String,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: String,
}

/// An in-toto statement (in-toto/attestation `spec/v1/statement.md`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// A simple-signing payload.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    identity: PayloadIdentity,
    image: PayloadImage,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PayloadIdentity {
    #[serde(default)]
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PayloadImage {
    docker_manifest_digest: Digest,
}

impl PublicKey {
    /// Reads a key in PEM.
    ///
    /// # Errors
    /// [`SignatureError::Key`] for any other text, and for keys of other kinds.
    pub fn parse(pem: &str) -> Result<Self, SignatureError> {
        VerifyingKey::from_public_key_pem(pem.trim())
            .map(Self)
            .map_err(|_| SignatureError::Key)
    }

    /// Returns what a bundle proves to be signed by this key.
    ///
    /// # Errors
    /// [`SignatureError`] when it proves nothing.
    pub fn verify_bundle(&self, text: &str) -> Result<Signed, SignatureError> {
        let bundle: Bundle = json("the bundle", text)?;
        match (bundle.dsse_envelope, bundle.message_signature) {
            (Some(envelope), None) => self.verify_envelope(&envelope),
            (None, Some(message)) => {
                if message.message_digest.algorithm != "SHA2_256" {
                    let why = "the bundle's digest is none of SHA-256";
                    return Err(SignatureError::Form(why.into()));
                }
                let digest = decoded("the bundle's digest", &message.message_digest.digest)?;
                let manifest = Digest::new(Algorithm::Sha256, &digest).ok_or_else(|| {
                    SignatureError::Form("the bundle's digest is too short".into())
                })?;
                let signature = signature(&message.signature)?;
                self.0
                    .verify_prehash(&digest, &signature)
                    .map_err(|_| SignatureError::Wrong)?;
                Ok(Signed {
                    name: None,
                    manifests: vec![manifest],
                })
            }
            _ => Err(SignatureError::Form(
                "it is no bundle with one envelope, nor with one signature of a message".into(),
            )),
        }
    }

    fn verify_envelope(&self, envelope: &Envelope) -> Result<Signed, SignatureError> {
        let payload = decoded("the payload of the envelope", &envelope.payload)?;
        // The pre-authentication encoding (secure-systems-lab/dsse `protocol.md`).
        let kind = &envelope.payload_type;
        let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
        let message = [head.as_bytes(), &payload].concat();
        let is_good = |one: &EnvelopeSignature| {
            signature(&one.sig).is_ok_and(|signature| self.0.verify(&message, &signature).is_ok())
        };
        if !envelope.signatures.iter().any(is_good) {
            return Err(SignatureError::Wrong);
        }
        if kind != STATEMENT {
            return Err(SignatureError::NoManifest(escape(kind.as_bytes()).into()));
        }
        let text = String::from_utf8(payload)
            .map_err(|_| SignatureError::Form("the statement is not UTF-8".into()))?;
        let statement: Statement = json("the statement", &text)?;
        // Other statements are about an image too, and say something else of it: what it was made of, say.
        if statement.predicate_type != "https://sigstore.dev/cosign/sign/v1" {
            let kind = escape(statement.predicate_type.as_bytes()).into();
            return Err(SignatureError::NoManifest(kind));
        }
        let manifests: Vec<Digest> = statement
            .subject
            .iter()
            .filter_map(|subject| {
                let hex = subject.digest.get("sha256")?;
                format!("sha256:{hex}").parse().ok()
            })
            .collect();
        match manifests.len() == statement.subject.len() && !manifests.is_empty() {
            true => Ok(Signed {
                name: None,
                manifests,
            }),
            false => Err(SignatureError::NoManifest(
                "a subject has no SHA-256".into(),
            )),
        }
    }

    /// Returns what a payload proves to be signed by this key, whose signature in base64 this is.
    ///
    /// # Errors
    /// [`SignatureError`] when it proves nothing.
    pub fn verify_payload(&self, payload: &str, sig: &str) -> Result<Signed, SignatureError> {
        self.0
            .verify(payload.as_bytes(), &signature(sig)?)
            .map_err(|_| SignatureError::Wrong)?;
        let Critical {
            kind,
            identity,
            image,
        } = json::<Payload>("the payload", payload)?.critical;
        if ![
            "cosign container image signature",
            "atomic container signature",
        ]
        .contains(&&*kind)
        {
            return Err(SignatureError::NoManifest(escape(kind.as_bytes()).into()));
        }
        let name = match &*identity.docker_reference {
            "" => None,
            name => Some(ImageName::parse(name).map_err(|e| SignatureError::Form(e.to_string()))?),
        };
        Ok(Signed {
            name,
            manifests: vec![image.docker_manifest_digest],
        })
    }
}

fn signature(text: &str) -> Result<Signature, SignatureError> {
    let der = decoded("the signature", text)?;
    Signature::from_der(&der)
        .map_err(|_| SignatureError::Form("the signature is none of ECDSA on P-256".into()))
}

fn decoded(what: &str, text: &str) -> Result<Vec<u8>, SignatureError> {
    let bad = |_| SignatureError::Form(format!("{what} is no base64"));
    STANDARD.decode(text.trim()).map_err(bad)
}

fn json<T: serde::de::DeserializeOwned>(what: &str, text: &str) -> Result<T, SignatureError> {
    // JSON is YAML, and this reader bounds what it reads.
    yaml::from_str(text).map_err(|error| SignatureError::Form(format!("{what}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by cosign 3.1.1: `generate-key-pair`, and `sign --key` into a bundle and into a payload.
    const KEY: &str = include_str!("testdata/cosign.pub");
    const BUNDLE: &str = include_str!("testdata/bundle.json");
    const PAYLOAD: &str = include_str!("testdata/payload.json");
    const SIGNATURE: &str = include_str!("testdata/payload.json.sig");
    const BLOB: &str = include_str!("testdata/blob-bundle.json");
    const MANIFEST: &str =
        "sha256:2187731ce1fc349cc3f5a758170113952c7f6281bad1f05a225fb021d9dd4e50";

    fn key() -> PublicKey {
        PublicKey::parse(KEY).unwrap()
    }

    fn digests(signed: &Signed) -> Vec<String> {
        signed.manifests.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_cosign_signs_is_proved() {
        let signed = key().verify_bundle(BUNDLE).unwrap();
        assert_eq!(
            (digests(&signed), signed.name),
            (vec![MANIFEST.into()], None)
        );
        let signed = key().verify_payload(PAYLOAD, SIGNATURE).unwrap();
        assert_eq!(digests(&signed), [MANIFEST]);
        assert_eq!(signed.name.unwrap().to_string(), "127.0.0.1:15999/acme/web");
        let signed = key().verify_bundle(BLOB).unwrap();
        assert_eq!(digests(&signed), [MANIFEST]);
    }

    #[test]
    fn one_letter_of_anything_that_was_signed_proves_nothing() {
        // Each letter of the text becomes another one, where it is part of what was signed.
        for (at, letter) in PAYLOAD.char_indices() {
            let mut altered = PAYLOAD.to_owned();
            altered.replace_range(at..=at, if letter == 'x' { "y" } else { "x" });
            let error = key().verify_payload(&altered, SIGNATURE).unwrap_err();
            assert_eq!(error, SignatureError::Wrong, "{at}");
        }
        for text in [BUNDLE, BLOB] {
            let field = if text == BUNDLE {
                "\"payload\":\""
            } else {
                "\"digest\":\""
            };
            let at = text.find(field).unwrap() + field.len() + 30;
            let mut altered = text.to_owned();
            let other = if altered.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            altered.replace_range(at..=at, other);
            assert_eq!(key().verify_bundle(&altered), Err(SignatureError::Wrong));
        }
    }

    #[test]
    fn another_key_and_other_texts_prove_nothing() {
        // Another point of the curve: the base point.
        let other = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n-----END PUBLIC KEY-----\n";
        let other = PublicKey::parse(other).unwrap();
        assert_eq!(other.verify_bundle(BUNDLE), Err(SignatureError::Wrong));
        let wrong = other.verify_payload(PAYLOAD, SIGNATURE);
        assert_eq!(wrong, Err(SignatureError::Wrong));
        for bad in [
            "",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ] {
            assert_eq!(PublicKey::parse(bad), Err(SignatureError::Key));
        }
        for bad in ["", "{}", "[", r#"{"dsseEnvelope": {}}"#] {
            let error = key().verify_bundle(bad).unwrap_err();
            assert!(matches!(error, SignatureError::Form(_)), "{error:?}");
        }
    }
}
