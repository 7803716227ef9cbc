//! Copies of an image's topmost layer with other owners: what containers with a user namespace lie on where
//! the kernel cannot map the owners of the layer itself (`storage/store.go`, `imageTopLayerForMapping`).

use std::sync::Arc;

use super::chain::{self, Link};
use super::locate;
use super::record;
use super::store::Store;
use crate::layers::stored::Copied;
use crate::layers::{Held, Layer, LayerStack, OverlayStack, PlainStack};

/// Returns a copy in the container's place over what it is a copy of, and all beneath that, the next one
/// first, with its owners seen as those of the image.
///
/// # Errors
/// One clause that says why it cannot be compared.
pub(super) fn stacks(
    store: &Store,
    copy: &str,
    below: &[Arc<Layer>],
) -> Result<Vec<Copied>, String> {
    let layers = store.layers()?;
    let link: Link = chain::links(&layers, copy)?
        .into_iter()
        .next()
        .ok_or("it has no record")?;
    let (record, _) = layers.get(copy).ok_or("it has no record")?;
    let (users, groups) = record.id_maps();
    if users.is_empty() || groups.is_empty() {
        return Err("its record does not say with which owners it was made".into());
    }
    let own = record::owners(users, groups).inverse();
    // A user's are those of the user's own namespace, whose ids are others on disk.
    let outer = store.graph.owners.clone().transpose()?;
    let owners = Arc::new(match &outer {
        None => own,
        Some(outer) => outer.then(&own),
    });
    if store.driver == "overlay" {
        let mut dirs = Vec::new();
        locate::lowers(store, &link, Some(&owners), &mut dirs).map_err(|e| e.to_string())?;
        let marks = locate::resting_marks(store).map_err(|e| e.to_string())?;
        // Whatever one of them has must be as it is in the original: then so is all of them together.
        let over = |(n, upper): (usize, &Arc<Layer>)| Copied {
            stack: LayerStack::Overlay(OverlayStack {
                upper: Layer::clone(upper),
                index: None,
                injected: Vec::new(),
                injected_paths: Vec::new(),
                image: below.to_vec(),
                data_only: Vec::new(),
                marks,
                held: Held::default(),
            }),
            shows_root: n == 0,
        };
        return Ok(dirs.iter().enumerate().map(over).collect());
    }
    let original = below.first().ok_or("it is a copy of nothing")?;
    let container = match store.driver.as_str() {
        "btrfs" => {
            let relative = format!("{}/{}", locate::SUBVOLUMES, link.name);
            let all = locate::subvolumes(store).map_err(|e| e.to_string())?;
            let dir = all
                .child(link.name.as_str().as_bytes())
                .map_err(|errno| format!("{relative}: {}", std::io::Error::from(errno)))?;
            Layer {
                dir: Arc::new(dir.with_owners(owners)),
                path: store.show(&relative),
                diff_id: None,
            }
        }
        _ => locate::layer(store, &link, "", Some(&owners)).map_err(|e| e.to_string())?,
    };
    Ok(vec![Copied {
        stack: LayerStack::Plain(PlainStack {
            image: Layer::clone(original),
            container,
            injected: None,
        }),
        shows_root: true,
    }])
}
