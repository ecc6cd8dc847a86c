//! What `GET /distribution/{name}/json` says of an image, from what an engine with containerd's store says of it itself.
//!
//! Source: moby 28.5.2 `daemon/server/router/distribution` and `daemon/containerd/image_inspect.go` (`Descriptor` since
//! API 1.48). An engine's own store keeps of a manifest its digest alone: its inspect has no `Descriptor`.
//!
//! **Invariant**: nothing is made up: without a digest, a media type and a size there is no answer.

use crate::json_edit::quote;
use crate::json_view::View;

/// An answer about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// What the name means.
    pub digest: String,
    /// The body of the answer.
    pub body: String,
}

/// The answer about the image whose `GET /images/{name}/json?manifests=1` this is.
pub fn of_image(image: View<'_>) -> Option<Described> {
    let descriptor = image.get("Descriptor")?;
    let (media_type, digest) = (
        descriptor.text_of("mediaType"),
        descriptor.text_of("digest"),
    );
    let size = descriptor.int_of("size");
    if media_type.is_empty() || digest.is_empty() || size <= 0 {
        return None;
    }
    let manifests = image.get("Manifests").into_iter();
    let manifests = manifests.flat_map(|all| all.elements());
    let platforms = manifests.filter_map(|manifest| manifest.at(&["ImageData", "Platform"]));
    let mut platforms: Vec<_> = platforms.map(|platform| platform.as_json()).collect();
    let own = platform(image);
    if platforms.is_empty() {
        platforms.extend(own.as_deref());
    }
    let body = format!(
        "{{\"Descriptor\":{{\"mediaType\":{},\"digest\":{},\"size\":{size}}},\"Platforms\":[{}]}}\n",
        quote(&media_type),
        quote(&digest),
        platforms.join(",")
    );
    Some(Described {
        digest: digest.into_owned(),
        body,
    })
}

/// The platform of an image that says of its manifests nothing.
fn platform(image: View<'_>) -> Option<String> {
    let (arch, os) = (image.text_of("Architecture"), image.text_of("Os"));
    let known = !arch.is_empty() && !os.is_empty();
    known.then(|| {
        format!(
            "{{\"architecture\":{},\"os\":{}}}",
            quote(&arch),
            quote(&os)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Engine 28.5.2 with containerd's store says of an image, shortened.
    const OF_CONTAINERD: &str = r#"{"Id":"sha256:e5","RepoDigests":["it@sha256:e5"],"Architecture":"amd64","Os":"linux",
        "Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:e5","size":422,
        "annotations":{"io.containerd.image.name":"docker.io/library/it:1"}},
        "Manifests":[{"ID":"sha256:e6","Available":true,"Kind":"image","ImageData":{"Platform":{"architecture":"amd64","os":"linux"}}},
        {"ID":"sha256:e7","Available":false,"Kind":"image","ImageData":{"Platform":{"architecture":"arm","os":"linux","variant":"v7"}}},
        {"ID":"sha256:e8","Available":true,"Kind":"attestation","AttestationData":{"For":"sha256:e6"}}]}"#;

    #[track_caller]
    fn check(image: &str, expected: Option<&str>) {
        let image = View::parse(image.as_bytes()).expect("JSON");
        let found = of_image(image).map(|described| described.body);
        assert_eq!(found.as_deref().map(str::trim_end), expected);
    }

    #[test]
    fn what_containerd_keeps_is_what_a_registry_says() {
        check(
            OF_CONTAINERD,
            Some(concat!(
                r#"{"Descriptor":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:e5","size":422},"#,
                r#""Platforms":[{"architecture":"amd64","os":"linux"},{"architecture":"arm","os":"linux","variant":"v7"}]}"#
            )),
        );
        check(
            r#"{"Architecture":"arm64","Os":"linux","Descriptor":{"mediaType":"m","digest":"sha256:e5","size":1}}"#,
            Some(
                r#"{"Descriptor":{"mediaType":"m","digest":"sha256:e5","size":1},"Platforms":[{"architecture":"arm64","os":"linux"}]}"#,
            ),
        );
    }

    #[test]
    fn what_an_engines_own_store_keeps_is_not_enough() {
        check(
            r#"{"Id":"sha256:1f","RepoDigests":["it@sha256:b9"],"Architecture":"amd64","Os":"linux"}"#,
            None,
        );
        check(
            r#"{"Descriptor":{"mediaType":"m","digest":"sha256:e5"}}"#,
            None,
        );
        check(r#"{"Descriptor":null}"#, None);
    }
}
