//! The images that one engine last listed, found by id, tag and digest.

use std::collections::HashMap;

use api_compat::image_ref::ImageRef;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One image of one engine.
#[derive(Debug)]
pub struct Image {
    /// `sha256:` and 64 hexadecimal digits.
    pub id: String,
    /// `busybox:latest`.
    pub tags: Vec<String>,
    /// `busybox@sha256:…`.
    pub digests: Vec<String>,
    /// When it was built, in seconds since 1970.
    pub created: i64,
    /// The engine's bytes of its list item.
    pub raw: Box<RawValue>,
}

/// All images of one engine.
#[derive(Debug, Default)]
pub struct Images {
    images: Vec<Image>,
    names: HashMap<String, usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    id: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    created: i64,
}

impl Images {
    /// Reads the engine's answer to `GET /images/json`.
    pub fn read(body: &[u8]) -> serde_json::Result<Self> {
        let mut images = Vec::new();
        let mut names = HashMap::new();
        for raw in serde_json::from_slice::<Vec<Box<RawValue>>>(body)? {
            let item: Item = serde_json::from_str(raw.get())?;
            let named = |name: &String| !name.starts_with("<none>");
            let tags: Vec<_> = item
                .repo_tags
                .unwrap_or_default()
                .into_iter()
                .filter(named)
                .collect();
            let digests: Vec<_> = item
                .repo_digests
                .unwrap_or_default()
                .into_iter()
                .filter(named)
                .collect();
            for name in tags.iter().chain(&digests).chain([&item.id]) {
                names.insert(name.clone(), images.len());
            }
            images.push(Image {
                id: item.id,
                tags,
                digests,
                created: item.created,
                raw,
            });
        }
        Ok(Self { images, names })
    }

    /// All of them, in the engine's order.
    pub fn all(&self) -> &[Image] {
        &self.images
    }

    /// The image under this very name: `busybox:latest` or `busybox@sha256:…`.
    pub fn named(&self, name: &str) -> Option<&Image> {
        self.names.get(name).and_then(|&at| self.images.get(at))
    }

    /// The image of this whole id.
    pub fn with_id(&self, id: &str) -> Option<&Image> {
        self.named(id)
    }

    /// The image that the engine would use for `reference`: a name, a digest, an id or the beginning of
    /// one. Nothing too when several ids begin so.
    pub fn find(&self, reference: &str) -> Option<&Image> {
        if let Ok(name) = ImageRef::parse(reference)
            && let Some(&at) = self.names.get(&name.or_latest().familiar())
        {
            return self.images.get(at);
        }
        let digits = reference.strip_prefix("sha256:").unwrap_or(reference);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut hits = self.images.iter().filter(|i| {
            i.id.strip_prefix("sha256:")
                .is_some_and(|id| id.starts_with(digits))
        });
        match (hits.next(), hits.next()) {
            (Some(one), None) => Some(one),
            _ => None,
        }
    }
}
