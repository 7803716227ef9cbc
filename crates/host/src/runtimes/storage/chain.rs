//! From a container's record to the layers that it lies on.

use std::collections::HashSet;

use plimsoll_core::model::{DiffId, Gap};

use super::record::{ContainerRecord, ImageRecord};
use super::store::{Home, Layers, Store, shown};
use crate::runtimes::lower::LayerName;

/// Most layers beneath a container: 500 in the overlay driver (`maxDepth`), more than others allow.
const LAYERS_MAX: usize = 500;

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: LayerName,
    pub(super) diff_id: Option<DiffId>,
    /// The place that holds it.
    pub(super) home: Home,
    /// Whether its files have the owners of a user namespace.
    pub(super) is_mapped: bool,
    /// How many bytes its stream has, by its record.
    pub(super) size: u64,
}

/// A container's own layer, and those beneath it.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) own: Link,
    /// The top one first.
    pub(super) image: Vec<Link>,
    /// What the top one is a copy of, with other owners: the overlay driver stacks both
    /// (`storage/drivers/template.go`; `storage/store.go`, `imageTopLayerForMapping`).
    pub(super) copied: Option<Link>,
}

impl Chain {
    /// Returns the layers that the overlay driver stacks beneath a container's own, the top one first.
    pub(super) fn stacked(&self) -> impl Iterator<Item = &Link> {
        let (top, rest) = self.image.split_at(self.image.len().min(1));
        top.iter().chain(&self.copied).chain(rest)
    }
}

/// Follows the parents of a container's layer.
///
/// # Errors
/// One clause, where a record is missing, or what they say cannot be.
pub(super) fn chain(layers: &Layers, container: &ContainerRecord) -> Result<Chain, String> {
    let mut links = links(layers, &container.layer)?.into_iter();
    let own = links.next().ok_or("its record names no layer")?;
    Ok(Chain {
        own,
        image: links.collect(),
        copied: None,
    })
}

/// Follows the parents of a layer, itself first.
///
/// # Errors
/// Those of [`chain`].
pub(super) fn links(layers: &Layers, top: &str) -> Result<Vec<Link>, String> {
    let mut seen = HashSet::new();
    let mut links = Vec::new();
    let mut next = top;
    while !next.is_empty() {
        if links.len() > LAYERS_MAX {
            return Err(format!("it lies on more than {LAYERS_MAX} layers"));
        }
        if !seen.insert(next) {
            return Err(format!("layer {} is a parent of its own", shown(next)));
        }
        let (link, parent) = link(layers, next)?;
        links.push(link);
        next = parent;
    }
    Ok(links)
}

/// Returns a layer, and the id of its parent.
fn link<'l>(layers: &'l Layers, id: &str) -> Result<(Link, &'l str), String> {
    let name = LayerName::parse(id.as_bytes())
        .ok_or_else(|| format!("\"{}\" is not the id of a layer", shown(id)))?;
    let (record, home) = layers
        .get(id)
        .ok_or_else(|| format!("layer {name} has no record"))?;
    if record.is_incomplete() {
        return Err(format!("layer {name} is being made or removed"));
    }
    let diff_id = record
        .diff_id()
        .map_err(|text| format!("layer {name} has the digest \"{}\"", shown(text)))?;
    let link = Link {
        name,
        diff_id,
        home: *home,
        is_mapped: record.is_mapped(),
        size: record.size(),
    };
    Ok((link, &record.parent))
}

/// What is known of an image's layers.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The base first.
    pub(super) ids: Vec<DiffId>,
    /// What is wrong with how they are known.
    pub(super) gaps: Vec<Gap>,
}

/// Holds the layers that a container lies on against the configuration of its image, which its id
/// proves, and gives those the diffIDs that the records of the layers lack.
pub(super) fn known(store: &Store, container: &ContainerRecord, chain: &mut Chain) -> Known {
    let of_records = |chain: &Chain| -> Vec<DiffId> {
        let all: Option<Vec<DiffId>> = chain.image.iter().rev().map(|link| link.diff_id).collect();
        all.unwrap_or_default()
    };
    let wrong = |chain: &Chain, why: String| Known {
        ids: of_records(chain),
        gaps: vec![Gap::new("image", why)],
    };
    let images = match store.images() {
        Ok(images) => images,
        Err(why) => return wrong(chain, why),
    };
    let Some((image, home)) = images.get(&container.image) else {
        let why = match container.image.is_empty() {
            true => "the record of the container names no image".into(),
            false => format!("there is no record of image {}", shown(&container.image)),
        };
        return wrong(
            chain,
            format!("{why}: it is compared with what its layer lies on"),
        );
    };
    let mut known = match store.image_layers(image, *home) {
        Ok(ids) => against(&ids, chain),
        Err(why) => wrong(
            chain,
            format!(
                "the configuration of image {} cannot be used, {why}: its layers are those that their records name",
                shown(&image.id)
            ),
        ),
    };
    known.gaps.extend(top(image, chain));
    let top = chain.image.first();
    if top.is_some_and(|top| top.is_mapped && top.name.as_str() != image.layer) {
        let copied = store.layers().and_then(|layers| {
            let (link, _) = link(&layers, &image.layer)?;
            Ok(link)
        });
        match copied {
            Ok(copied) => chain.copied = Some(copied),
            Err(why) => known.gaps.push(Gap::new("image", why)),
        }
    }
    known
}

/// Whether a container's layer lies on the topmost layer of its image.
fn top(image: &ImageRecord, chain: &Chain) -> Option<Gap> {
    let top = chain.image.first().map_or("", |link| link.name.as_str());
    (!image.ends_with(top)).then(|| {
        Gap::new(
            "image",
            format!(
                "the container lies on layer \"{}\", its image ends with \"{}\"",
                shown(top),
                shown(&image.layer)
            ),
        )
    })
}

/// Holds the layers against the diffIDs of the configuration, the base first.
fn against(ids: &[DiffId], chain: &mut Chain) -> Known {
    let mut gaps = Vec::new();
    if ids.len() != chain.image.len() {
        gaps.push(Gap::new(
            "image",
            format!(
                "the container lies on {} layers, the configuration of its image names {}",
                chain.image.len(),
                ids.len()
            ),
        ));
        return Known {
            ids: ids.to_vec(),
            gaps,
        };
    }
    for (link, id) in chain.image.iter_mut().rev().zip(ids) {
        match link.diff_id {
            Some(told) if told != *id => gaps.push(Gap::new(
                "image",
                format!(
                    "the record of layer {} says {told}, the configuration of the image says {id}",
                    link.name
                ),
            )),
            _ => link.diff_id = Some(*id),
        }
    }
    Known {
        ids: ids.to_vec(),
        gaps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::storage::record::{self, LayerRecord, Records};

    fn layers(json: &str) -> Layers {
        let Records(records): Records<LayerRecord> = record::parse(json.as_bytes()).unwrap();
        let with_home = records
            .into_iter()
            .map(|layer| (layer.id.clone(), (layer, 0)));
        with_home.collect()
    }

    fn of(layer: &str) -> ContainerRecord {
        let json = format!("{{\"id\":\"c\",\"layer\":{layer:?}}}");
        record::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn parents_in_their_order() {
        let layers =
            layers(r#"[{"id":"base"},{"id":"top","parent":"base"},{"id":"own","parent":"top"}]"#);
        let chain = chain(&layers, &of("own")).unwrap();
        let names: Vec<_> = chain.image.iter().map(|link| link.name.as_str()).collect();
        assert_eq!(names, ["top", "base"]);
    }

    #[test]
    fn what_cannot_be() {
        let many: Vec<String> = (0..600)
            .map(|n| format!("{{\"id\":\"l{n}\",\"parent\":\"l{}\"}}", n + 1))
            .collect();
        let many = format!("[{}]", many.join(","));
        for (json, layer, why) in [
            (
                r#"[{"id":"a","parent":"b"},{"id":"b","parent":"a"}]"#,
                "a",
                "a parent of its own",
            ),
            (r#"[{"id":"a","parent":"a"}]"#, "a", "a parent of its own"),
            (
                r#"[{"id":"a","parent":"../../etc"}]"#,
                "a",
                "not the id of a layer",
            ),
            (
                r#"[{"id":"a","parent":"b/c"}]"#,
                "a",
                "not the id of a layer",
            ),
            (r#"[{"id":"a","parent":"b"}]"#, "a", "layer b has no record"),
            (
                r#"[{"id":"a","flags":{"incomplete":true}}]"#,
                "a",
                "being made or removed",
            ),
            (r#"[{"id":"a","diff-digest":"md4:x"}]"#, "a", "the digest"),
            ("[]", "", "names no layer"),
            (&many, "l0", "more than 500"),
        ] {
            let told = chain(&layers(json), &of(layer)).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }
}
