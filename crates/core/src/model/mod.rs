//! The vocabulary: what a measurement consists of.

mod bytes;
mod change;
mod code;
mod container;
mod coverage;
mod digest;
mod layer;
mod measurement;
mod mount;
mod path;
mod sides;

pub use bytes::{Bytes, escape};
pub use change::{Aspect, Aspects, Attributes, Change, ChangeKind, Device, FileType, Timestamp};
pub use code::{Code, CodeOrigin};
pub use container::{
    Container, ContainerId, Image, Pod, RuntimeKind, RuntimePath, RuntimePathKind, State,
};
pub use coverage::Gap;
pub use digest::{Algorithm, ChainId, DiffId, Digest, DigestError, ImageId};
pub use layer::{ImageMeasurement, LayerMeasurement};
pub use measurement::{
    Baseline, Cost, EngineKind, ImageIdentity, LayerProof, LayerTrust, Measurement,
};
pub use mount::{ExpectedMount, ExpectedSource, Mount, MountOrigin};
pub use path::{PathError, RootPath};
pub use sides::Sides;
