//! The place of a container in a Kubernetes cluster, by what containerd's CRI plugin writes down.
//!
//! Labels: containerd `internal/cri/labels/labels.go`, and those that the kubelet gives; extensions:
//! `internal/cri/store/{container,sandbox}/metadata.go`.

use plimsoll_core::model::Pod;
use serde::Deserialize;

use super::metadata::Record;
use super::spec::value_of_any;

/// The extensions of a record that are read.
pub(super) const EXTENSIONS: [&[u8]; 2] = [CONTAINER, SANDBOX];

const CONTAINER: &[u8] = b"io.cri-containerd.container.metadata";
const SANDBOX: &[u8] = b"io.cri-containerd.sandbox.metadata";

/// What the CRI plugin made a container for: `container` or `sandbox`.
const KIND: &str = "io.cri-containerd.kind";

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
const POD_UID: &str = "io.kubernetes.pod.uid";
const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// An extension: metadata of one version.
#[derive(Debug, Default, Deserialize)]
struct Extension {
    #[serde(rename = "Metadata", default)]
    metadata: Metadata,
}

/// What the CRI plugin keeps of a container or of a sandbox.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Metadata {
    /// The sandbox that a container is in.
    #[serde(rename = "SandboxID", default)]
    sandbox: String,
    /// Digest of the configuration of a container's image.
    #[serde(rename = "ImageRef", default)]
    pub(super) image: String,
    #[serde(rename = "Config", default)]
    config: Option<Config>,
}

/// What was asked for (`k8s.io/cri-api`, `ContainerConfig` and `PodSandboxConfig`).
#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    metadata: Option<Named>,
}

#[derive(Debug, Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
}

impl Metadata {
    fn named(self) -> Named {
        let config = self.config.unwrap_or_default();
        config.metadata.unwrap_or_default()
    }
}

/// Decodes the extension of a record; `None` when it has none that can be understood.
fn extension(record: &Record, key: &[u8]) -> Option<Metadata> {
    let json = value_of_any(record.extensions.get(key)?)?;
    let extension: Extension = serde_json::from_slice(json).ok()?;
    Some(extension.metadata)
}

/// Returns what the CRI plugin keeps of a container that is no sandbox.
pub(super) fn of_container(record: &Record) -> Option<Metadata> {
    extension(record, CONTAINER)
}

/// Whether the CRI plugin made this container.
pub(super) fn is_of_cri(record: &Record) -> bool {
    record.labels.contains_key(KIND) || !record.extensions.is_empty()
}

/// Whether it is the sandbox of a pod.
pub(super) fn is_sandbox(record: &Record) -> bool {
    match record.labels.get(KIND) {
        Some(kind) => kind == "sandbox",
        None => record.extensions.contains_key(SANDBOX),
    }
}

/// Returns the pod that a container belongs to; `record_of` finds the record of another container of the
/// namespace by its id.
pub(super) fn pod<'r>(
    record: &Record,
    record_of: impl FnOnce(&str) -> Option<&'r Record>,
) -> Option<Pod> {
    if !is_of_cri(record) {
        return None;
    }
    let label = |key: &str| record.labels.get(key).filter(|value| !value.is_empty());
    let mut pod = Pod {
        namespace: label(POD_NAMESPACE).cloned().unwrap_or_default(),
        name: label(POD_NAME).cloned().unwrap_or_default(),
        uid: label(POD_UID).cloned(),
        container: None,
        labels: record.labels.clone(),
    };
    let sandbox = is_sandbox(record);
    let container = of_container(record);
    if pod.name.is_empty() || pod.namespace.is_empty() {
        // What was not made by a kubelet need not have labels.
        let named = match sandbox {
            true => extension(record, SANDBOX),
            false => {
                let sandbox = container.as_ref().map(|metadata| metadata.sandbox.as_str());
                sandbox
                    .and_then(record_of)
                    .and_then(|sandbox| extension(sandbox, SANDBOX))
            }
        };
        let named = named.map(Metadata::named).unwrap_or_default();
        for (field, told) in [
            (&mut pod.name, named.name),
            (&mut pod.namespace, named.namespace),
        ] {
            if field.is_empty() {
                *field = told;
            }
        }
        pod.uid = pod.uid.or(Some(named.uid).filter(|uid| !uid.is_empty()));
    }
    if !sandbox {
        let label = label(CONTAINER_NAME).cloned();
        let told = || container.map(|metadata| metadata.named().name);
        // With no name at all it must still not be taken for a sandbox.
        pod.container = Some(label.or_else(told).unwrap_or_default());
    }
    Some(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str, labels: &[(&str, &str)], extension: Option<(&[u8], &str)>) -> Record {
        let any =
            |json: &str| [&[0x12, u8::try_from(json.len()).unwrap()], json.as_bytes()].concat();
        Record {
            id: id.into(),
            labels: labels
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            extensions: extension
                .map(|(key, json)| (key.to_vec(), any(json)))
                .into_iter()
                .collect(),
            ..Record::default()
        }
    }

    #[test]
    fn labels_and_what_stands_in_for_them() {
        let labels = [
            (KIND, "container"),
            (POD_NAME, "web"),
            (POD_NAMESPACE, "shop"),
            (POD_UID, "u1"),
            (CONTAINER_NAME, "nginx"),
        ];
        let told = pod(&record("a", &labels, None), |_| None).unwrap();
        assert_eq!((&*told.namespace, &*told.name), ("shop", "web"));
        assert_eq!(told.uid.as_deref(), Some("u1"));
        assert_eq!(told.container.as_deref(), Some("nginx"));

        let json = r#"{"Version":"v1","Metadata":{"Config":{"metadata":{"name":"p","uid":"u","namespace":"n"}}}}"#;
        let sandbox = record("s", &[(KIND, "sandbox")], Some((SANDBOX, json)));
        let of = pod(&sandbox, |_| None).unwrap();
        assert_eq!((&*of.namespace, &*of.name), ("n", "p"));
        assert_eq!((of.uid.as_deref(), of.container), (Some("u"), None));
        let json = r#"{"Metadata":{"SandboxID":"s","Config":{"metadata":{"name":"c"}}}}"#;
        let container = record("c", &[], Some((CONTAINER, json)));
        let of = pod(&container, |id| (id == "s").then_some(&sandbox)).unwrap();
        assert_eq!((&*of.namespace, &*of.name), ("n", "p"));
        assert_eq!(of.container.as_deref(), Some("c"));
    }

    #[test]
    fn what_is_not_kubernetes() {
        assert_eq!(
            pod(&record("a", &[(POD_NAME, "web")], None), |_| None),
            None
        );
        let odd = record("a", &[(KIND, "odd")], Some((SANDBOX, "not JSON")));
        let told = pod(&odd, |_| None).unwrap();
        assert_eq!(told.container.as_deref(), Some(""));
    }
}
