//! The pod of a container of CRI-O.
//!
//! Only the sandbox's record has the pod's namespace and identifier (`internal/storage/runtime.go`,
//! `RuntimeContainerMetadata`); that of a container names its sandbox, by id and by the name that CRI-O
//! makes of all of it (`server/naming.go`).

use std::collections::HashMap;

use plimsoll_core::model::{Pod, escape};

use super::record::{ContainerRecord, Metadata, Spec};

/// The labels of a container, as JSON in a string (`internal/annotations/annotations.go`).
const LABELS: &str = "io.kubernetes.cri-o.Labels";

/// Returns the pod, with the records among which its sandbox's may be, by their ids; `None` for a container that CRI-O did not make.
pub(super) fn pod(
    metadata: &Metadata,
    sandboxes: &HashMap<&str, &ContainerRecord>,
    spec: Option<&Spec>,
) -> Option<Pod> {
    if !metadata.is_of_crio() {
        return None;
    }
    let labels = spec
        .and_then(|spec| spec.annotations.as_ref()?.get(LABELS))
        .and_then(|labels| serde_json::from_str(labels).ok())
        .unwrap_or_default();
    let sandbox = || {
        let record = sandboxes.get(metadata.pod_id.as_str())?;
        Some(record.metadata()).filter(|sandbox| sandbox.pod)
    };
    let of_sandbox = |sandbox: &Metadata| {
        let uid = (!sandbox.uid.is_empty()).then(|| sandbox.uid.clone());
        (
            sandbox.namespace.clone(),
            sandbox.metadata_name.clone(),
            uid,
        )
    };
    let (namespace, name, uid) = match metadata.pod {
        true => of_sandbox(metadata),
        false => sandbox()
            .map(|sandbox| of_sandbox(&sandbox))
            .or_else(|| of_name(&metadata.pod_name))
            .unwrap_or_default(),
    };
    let clean = |text: String| escape(text.as_bytes()).into_owned();
    Some(Pod {
        namespace: clean(namespace),
        name: clean(name),
        uid: uid.map(clean),
        container: (!metadata.pod).then(|| clean(metadata.metadata_name.clone())),
        labels,
    })
}

/// Takes the name of a sandbox apart: `k8s_<pod>_<namespace>_<uid>_<attempt>`. No name of Kubernetes' has
/// an underscore.
pub(super) fn of_name(name: &str) -> Option<(String, String, Option<String>)> {
    let parts: Vec<&str> = name.split('_').collect();
    let ["k8s", pod, namespace, uid, _] = parts[..] else {
        return None;
    };
    Some((namespace.into(), pod.into(), Some(uid.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::storage::record::{self, Records};

    /// By the sources of CRI-O; not written by it.
    fn records() -> Vec<ContainerRecord> {
        let sandbox = r#"{\"pod-name\":\"k8s_web-0_prod_u-1_0\",\"pod-id\":\"aa\",\"name\":\"k8s_POD_web-0_prod_u-1_0\",\"metadata-name\":\"web-0\",\"uid\":\"u-1\",\"namespace\":\"prod\",\"pod\":true}"#;
        let app = r#"{\"pod-name\":\"k8s_web-0_prod_u-1_0\",\"pod-id\":\"aa\",\"name\":\"k8s_app_web-0_prod_u-1_2\",\"metadata-name\":\"app\",\"attempt\":2}"#;
        let json = format!(
            "[{{\"id\":\"aa\",\"metadata\":\"{sandbox}\"}},{{\"id\":\"bb\",\"metadata\":\"{app}\"}},{{\"id\":\"cc\"}}]"
        );
        let Records(records) = record::parse(json.as_bytes()).unwrap();
        records
    }

    #[test]
    fn with_a_sandbox_and_without() {
        let records = records();
        let spec: Spec =
            record::parse(br#"{"annotations":{"io.kubernetes.cri-o.Labels":"{\"app\":\"web\"}"}}"#)
                .unwrap();
        let [sandbox, app, podman] = &records[..] else {
            panic!("{records:?}");
        };
        let of = |record: &ContainerRecord, records: &[ContainerRecord]| {
            let records = records.iter().map(|record| (record.id.as_str(), record));
            pod(&record.metadata(), &records.collect(), Some(&spec))
        };
        let told = of(app, &records).unwrap();
        assert_eq!(
            (
                told.namespace.as_str(),
                told.name.as_str(),
                told.uid.as_deref()
            ),
            ("prod", "web-0", Some("u-1"))
        );
        assert_eq!(told.container.as_deref(), Some("app"));
        assert_eq!(told.labels.get("app").map(String::as_str), Some("web"));
        assert_eq!(of(app, &[]).unwrap(), told);
        let told = of(sandbox, &records).unwrap();
        assert_eq!((told.name.as_str(), told.container), ("web-0", None));
        assert_eq!(of(podman, &records), None);
    }
}
