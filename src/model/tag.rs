//! A tag: a name that means one image in the whole pool.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Realm;

/// A name of an image, and what it means on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Whose name it is.
    pub realm: Realm,
    /// `busybox:latest`, as clients see it.
    pub name: String,
    /// The image's id as it is shown: `sha256:…`. It changes only when the tag is moved.
    pub image: String,
    /// The ids that engines with another kind of image store give the same image.
    #[serde(default)]
    pub twins: BTreeSet<String>,
    /// When it was last moved.
    pub at: Timestamp,
}

impl Tag {
    /// All ids of the image, the shown one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.image)
            .chain(&self.twins)
            .map(String::as_str)
    }
}
