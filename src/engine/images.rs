//! The images that one engine last listed, found by id, tag and digest.

use std::collections::HashMap;

use api_compat::image_ref::ImageRef;
use api_compat::labels;
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

/// All images of one engine, but for those of nothing that only carry a tag away.
#[derive(Debug, Default)]
pub struct Images {
    images: Vec<Image>,
    /// So many of them are listed; the others are known by id alone.
    listed: usize,
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
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

impl Images {
    /// Reads the engine's answer to `GET /images/json`.
    pub fn read(body: &[u8]) -> serde_json::Result<Self> {
        let mut images = Vec::new();
        let mut names = HashMap::new();
        for raw in serde_json::from_slice::<Vec<Box<RawValue>>>(body)? {
            let item: Item = serde_json::from_str(raw.get())?;
            let is_nothing = |labels: &HashMap<_, _>| labels.contains_key(labels::NOTHING);
            if item.labels.as_ref().is_some_and(is_nothing) {
                continue;
            }
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
        let listed = images.len();
        Ok(Self {
            images,
            listed,
            names,
        })
    }

    /// These without an image, or without a tag of one; without its last tag an image is gone.
    pub fn without(&self, name: &str) -> serde_json::Result<Self> {
        let mut left = Vec::new();
        for image in self.all().iter().filter(|image| image.id != name) {
            if !image.tags.iter().any(|tag| tag == name) {
                left.push(image.raw.clone());
            } else if image.tags.len() > 1 {
                let mut item: serde_json::Value = serde_json::from_str(image.raw.get())?;
                let tags = image.tags.iter().filter(|tag| *tag != name);
                item["RepoTags"] = tags.cloned().collect();
                left.push(RawValue::from_string(item.to_string())?);
            }
        }
        Self::read(&serde_json::to_vec(&left)?)
    }

    /// These and one that the engine has but does not list: an intermediate one of the classic builder.
    pub(super) fn beside(mut self, id: &str, created: i64) -> Self {
        if !self.names.contains_key(id) {
            self.names.insert(id.to_owned(), self.images.len());
            self.images.push(Image {
                id: id.to_owned(),
                tags: Vec::new(),
                digests: Vec::new(),
                created,
                raw: RawValue::NULL.to_owned(),
            });
        }
        self
    }

    /// All that are listed, in the engine's order.
    pub fn all(&self) -> &[Image] {
        self.images.get(..self.listed).unwrap_or_default()
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
            && let Some(&at) = self.names.get(&name.looked_up())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_as_an_engine_finds_it() {
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let (one, other, unknown) = (digest("a"), digest("b"), digest("c"));
        let images = serde_json::json!([
            {"Id": "sha256:11", "RepoTags": ["reg:5000/it:1"], "RepoDigests": [format!("reg:5000/it@{one}")]},
            {"Id": "sha256:12", "RepoTags": ["it:latest"], "RepoDigests": [format!("reg:5000/it@{other}")]},
        ]);
        let images = Images::read(images.to_string().as_bytes()).expect("reads");
        let check = |reference: &str, id: &str| {
            let found = images.find(reference).map(|image| image.id.as_str());
            assert_eq!(found.unwrap_or_default(), id, "{reference}");
        };
        check("reg:5000/it:1", "sha256:11");
        check("docker.io/library/it", "sha256:12");
        check(&format!("reg:5000/it@{one}"), "sha256:11");
        // Beside a digest a tag says nothing, not even where it means another image.
        check(&format!("reg:5000/it:1@{one}"), "sha256:11");
        check(&format!("reg:5000/it:1@{other}"), "sha256:12");
        check(&format!("reg:5000/it:1@{unknown}"), "");
        check("11", "sha256:11");
        check("sha256:12", "sha256:12");
        check("1", "");
    }

    #[test]
    fn what_is_not_listed_is_found_by_id() {
        let images = r#"[{"Id":"sha256:aa11","RepoTags":["a:1"]}]"#;
        let images = Images::read(images.as_bytes()).expect("reads");
        let images = images.beside("sha256:bb22", 7).beside("sha256:aa11", 7);
        let found = |reference: &str| images.find(reference).map(|image| image.id.as_str());
        assert_eq!(found("bb2"), Some("sha256:bb22"));
        assert_eq!(found("sha256:bb22"), Some("sha256:bb22"));
        assert_eq!(found("aa"), Some("sha256:aa11"));
        assert_eq!(images.all().len(), 1);
        assert!(
            images
                .with_id("sha256:bb22")
                .is_some_and(|image| image.created == 7)
        );
    }

    #[test]
    fn what_was_removed_is_gone_from_the_picture() {
        let images = r#"[{"Id":"sha256:aa","RepoTags":["a:1","b:1"],"Size":7},{"Id":"sha256:bb","RepoTags":["c:1"]}]"#;
        let images = Images::read(images.as_bytes()).expect("reads");
        let check = |name: &str, expected: &str| {
            let left = images.without(name).expect("reads");
            let shown: Vec<_> = left
                .all()
                .iter()
                .map(|image| format!("{}={}", image.id, image.tags.join("+")))
                .collect();
            assert_eq!(shown.join(" "), expected, "{name}");
        };
        check("a:1", "sha256:aa=b:1 sha256:bb=c:1");
        check("c:1", "sha256:aa=a:1+b:1");
        check("sha256:aa", "sha256:bb=c:1");
        check("d:1", "sha256:aa=a:1+b:1 sha256:bb=c:1");
        let left = images.without("a:1").expect("reads");
        assert!(left.all()[0].raw.get().contains("\"Size\":7"));
    }
}
