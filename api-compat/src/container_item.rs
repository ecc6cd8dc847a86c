//! One element of `GET /containers/json`: what we read in it, and how it is shown again without encoding it anew.
//!
//! Source: moby 28.5.2 `container.Summary` and `getContainersJSON`, which drops `HostConfig.Annotations` below API 1.46
//! and `ImageManifestDescriptor` below 1.48.
//!
//! **Invariant**: of an item that is shown, every byte we have no reason to change is the engine's.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::ops::Range;

use crate::json_edit::{Change, Edit, quote};
use crate::json_view::{Malformed, View, compact};
use crate::labels;
use crate::published::{Row, Rows};
use crate::version::ApiVersion;

/// What we read of an item. Missing, `null` and unknown members do no harm.
#[derive(Debug, Clone, Default)]
pub struct Head<'a> {
    /// `Id`
    pub id: Cow<'a, str>,
    /// `Names`, each with its leading slash; aliases of links have a second one.
    pub names: Vec<Cow<'a, str>>,
    /// `Image`
    pub image: Cow<'a, str>,
    /// `ImageID`
    pub image_id: Cow<'a, str>,
    /// `Created`, in Unix seconds.
    pub created: i64,
    /// `State`
    pub state: Cow<'a, str>,
    /// `Status`
    pub status: Cow<'a, str>,
    /// `Labels`
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// `Ports`
    pub ports: Vec<Port<'a>>,
    /// `HostConfig.NetworkMode`
    pub network_mode: Cow<'a, str>,
    /// `NetworkSettings.Networks`
    pub networks: Vec<Network<'a>>,
    /// `Mounts`
    pub mounts: Vec<Mount<'a>>,
}

/// A port of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Port<'a> {
    /// The host's address; empty if not published.
    pub ip: Cow<'a, str>,
    /// The container's port.
    pub private: u16,
    /// The host's port; 0 if not published.
    pub public: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: Cow<'a, str>,
}

/// A network a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network<'a> {
    /// The key.
    pub name: Cow<'a, str>,
    /// `NetworkID`, empty before the first start on some engines.
    pub id: Cow<'a, str>,
}

/// A mount of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount<'a> {
    /// `volume`, `bind` or another.
    pub kind: Cow<'a, str>,
    /// The volume's name; empty for binds.
    pub name: Cow<'a, str>,
    /// The path on the host.
    pub source: Cow<'a, str>,
    /// The path in the container.
    pub destination: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// Reads an item.
    pub fn parse(item: &'a [u8]) -> Result<Self, Malformed> {
        Ok(Self::of(View::parse(item)?))
    }

    /// Reads an item of a list that was parsed as a whole.
    pub fn of(item: View<'a>) -> Self {
        let mut head = Self::default();
        for member in item.members() {
            let value = member.value;
            let text = || value.str().unwrap_or_default();
            match &*member.key {
                "Id" => head.id = text(),
                "Names" => head.names = value.elements().filter_map(|name| name.str()).collect(),
                "Image" => head.image = text(),
                "ImageID" => head.image_id = text(),
                "Created" => head.created = value.i64().unwrap_or_default(),
                "State" => head.state = text(),
                "Status" => head.status = text(),
                "Labels" => head.labels = value.string_pairs().collect(),
                "Ports" => head.ports = value.elements().map(Port::of).collect(),
                "HostConfig" => head.network_mode = value.text_of("NetworkMode"),
                "NetworkSettings" => head.networks = networks(value),
                "Mounts" => head.mounts = value.elements().map(Mount::of).collect(),
                _ => {}
            }
        }
        head
    }

    /// The container's own name, without the slash; empty if it has lost it, as dead containers do.
    pub fn name(&self) -> &str {
        let own = |name: &&Cow<'_, str>| !name.get(1..).unwrap_or_default().contains('/');
        let name = self.names.iter().find(own).map_or("", |name| name);
        name.strip_prefix('/').unwrap_or(name)
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| &**value)
    }
}

/// Where a container stands in lists: newest first, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order<'a> {
    created_nanos: Reverse<i64>,
    id: Cow<'a, str>,
}

impl<'a> Order<'a> {
    /// The place of the container with this id that was made then.
    pub fn of(created_nanos: i64, id: &'a str) -> Self {
        Self {
            created_nanos: Reverse(created_nanos),
            id: Cow::Borrowed(id),
        }
    }

    /// The same, kept apart from the id.
    pub fn into_owned(self) -> Order<'static> {
        Order {
            created_nanos: self.created_nanos,
            id: Cow::Owned(self.id.into_owned()),
        }
    }
}

impl<'a> Port<'a> {
    fn of(port: View<'a>) -> Self {
        let number = |key| u16::try_from(port.int_of(key)).unwrap_or_default();
        Self {
            ip: port.text_of("IP"),
            private: number("PrivatePort"),
            public: number("PublicPort"),
            protocol: port.text_of("Type"),
        }
    }
}

impl<'a> Mount<'a> {
    fn of(mount: View<'a>) -> Self {
        Self {
            kind: mount.text_of("Type"),
            name: mount.text_of("Name"),
            source: mount.text_of("Source"),
            destination: mount.text_of("Destination"),
        }
    }
}

fn networks<'a>(settings: View<'a>) -> Vec<Network<'a>> {
    let networks = settings
        .get("Networks")
        .into_iter()
        .flat_map(|networks| networks.members());
    networks
        .map(|member| Network {
            name: member.key,
            id: member.value.text_of("NetworkID"),
        })
        .collect()
}

/// What an item shows that its engine does not know.
pub struct ShownAs<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The node's id.
    pub id: &'a str,
    /// The address that published ports are reached at; none leaves them as the engine shows them.
    pub address: Option<&'a str>,
    /// Whether names are shown as `/node/name`.
    pub prefix_names: bool,
    /// The id clients know a network by, for the id the engine knows it by; none leaves it.
    pub network_id: &'a dyn Fn(&str) -> Option<String>,
}

/// An item ready to be shown: compact JSON without the values of `State` and `Status`, which change with time.
#[derive(Debug, Clone)]
pub struct Template {
    bytes: Box<[u8]>,
    /// Where the value of `State` goes, and that of `Status`.
    state: u32,
    status: u32,
    /// What clients below API 1.46 and below 1.48 do not get.
    annotations: (u32, u32),
    descriptor: (u32, u32),
    /// Where the values of `Image` and of `ImageID` stand.
    image: (u32, u32),
    image_id: (u32, u32),
}

/// A place that an item does not have.
const NOWHERE: u32 = u32::MAX;

impl Template {
    /// Makes the changes that do not depend on time or client.
    pub fn new(item: &[u8], node: &ShownAs<'_>) -> Result<Self, Malformed> {
        let mut edit = Edit::new(item)?;
        edit_labels(&mut edit, node.name);
        if node.prefix_names {
            prefix_names(&mut edit, node.name);
        }
        if let Some(address) = node.address {
            show_address(&mut edit, address);
        }
        show_networks(&mut edit, node.network_id);
        let shown = format!(
            "{{\"Name\":{},\"ID\":{}}}",
            quote(node.name),
            quote(node.id)
        );
        edit.set(&["Node"], &shown);
        let edited = edit.finish();
        let json = compact(View::parse(&edited)?.as_json());
        Self::cut(&json)
    }

    /// The item without the networks that `has_left` is true of, by their names and the ids that clients know them by.
    pub fn without_networks(
        &self,
        has_left: impl Fn(&str, &str) -> bool,
    ) -> Result<Self, Malformed> {
        let mut item = Vec::new();
        self.render(&mut item, ApiVersion::MAX, "", "");
        let mut edit = Edit::new(&item)?;
        if let Some(networks) = edit.root().at(&["NetworkSettings", "Networks"]) {
            edit.members(networks, |name, network| {
                if has_left(name, &network.text_of("NetworkID")) {
                    Change::Drop
                } else {
                    Change::Keep
                }
            });
        }
        let edited = edit.finish();
        Self::cut(View::parse(&edited)?.as_json())
    }

    fn cut(json: &str) -> Result<Self, Malformed> {
        let item = View::parse(json.as_bytes())?;
        let value = |key| item.get(key).map(|value: View<'_>| value.span());
        let mut cuts: Vec<Range<usize>> = [value("State"), value("Status")]
            .into_iter()
            .flatten()
            .collect();
        cuts.sort_by_key(|cut| cut.start);
        let mut bytes = Vec::with_capacity(json.len());
        let mut done = 0;
        for cut in &cuts {
            bytes.extend_from_slice(&json.as_bytes()[done..cut.start]);
            done = cut.end;
        }
        bytes.extend_from_slice(&json.as_bytes()[done..]);
        // Offsets shift by what was cut before them.
        let place = |at: usize| {
            let gone: usize = cuts
                .iter()
                .filter(|cut| cut.start < at)
                .map(Range::len)
                .sum();
            u32::try_from(at - gone).unwrap_or(NOWHERE)
        };
        let hole = |key| value(key).map_or(NOWHERE, |span| place(span.start));
        let drop = |span: Option<Range<usize>>| {
            span.map_or((NOWHERE, NOWHERE), |span| {
                (place(span.start), place(span.end))
            })
        };
        Ok(Self {
            state: hole("State"),
            status: hole("Status"),
            annotations: drop(
                item.get("HostConfig")
                    .and_then(|host| with_comma(host, "Annotations")),
            ),
            descriptor: drop(with_comma(item, "ImageManifestDescriptor")),
            image: drop(value("Image")),
            image_id: drop(value("ImageID")),
            bytes: bytes.into_boxed_slice(),
        })
    }

    /// What the image is called, and its id; nothing if its engine says neither.
    pub fn image(&self) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
        let text = |span| View::parse(self.part(span)).ok()?.str();
        Some((text(self.image)?, text(self.image_id)?))
    }

    fn part(&self, (start, end): (u32, u32)) -> &[u8] {
        let span = start as usize..end as usize;
        self.bytes.get(span).unwrap_or_default()
    }

    /// Writes the item for a client of that version.
    pub fn render(
        &self,
        out: &mut Vec<u8>,
        version: ApiVersion,
        state: &str,
        status: impl Display,
    ) {
        self.write(out, version, state, status, false);
    }

    /// [`Self::render`], with the id of the image in place of its name, as engines show one whose name means another
    /// by now.
    pub fn render_with_image_id(
        &self,
        out: &mut Vec<u8>,
        version: ApiVersion,
        state: &str,
        status: impl Display,
    ) {
        self.write(out, version, state, status, true);
    }

    fn write(
        &self,
        out: &mut Vec<u8>,
        version: ApiVersion,
        state: &str,
        status: impl Display,
        has_image_id: bool,
    ) {
        let mut steps = [
            (self.image.0, self.image.1, Step::Image),
            (self.state, self.state, Step::State),
            (self.status, self.status, Step::Status),
            (
                self.annotations.0,
                self.annotations.1,
                Step::Since(ApiVersion::new(1, 46)),
            ),
            (
                self.descriptor.0,
                self.descriptor.1,
                Step::Since(ApiVersion::new(1, 48)),
            ),
        ];
        steps.sort_unstable_by_key(|step| step.0);
        out.reserve(self.bytes.len() + 64);
        let mut done = 0;
        for (start, end, step) in steps {
            if start == NOWHERE {
                break;
            }
            let (start, end) = (start as usize, end as usize);
            let is_kept = match step {
                Step::Since(since) => version >= since,
                Step::Image => !has_image_id,
                Step::State | Step::Status => false,
            };
            if is_kept {
                continue;
            }
            out.extend_from_slice(self.bytes.get(done..start).unwrap_or_default());
            done = end;
            match step {
                Step::State => write_text(out, state),
                Step::Status => write_text(out, &status),
                Step::Image => out.extend_from_slice(self.part(self.image_id)),
                Step::Since(_) => {}
            }
        }
        out.extend_from_slice(self.bytes.get(done..).unwrap_or_default());
    }

    /// How many bytes this keeps, itself included.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }
}

#[derive(Clone, Copy)]
enum Step {
    State,
    Status,
    Image,
    Since(ApiVersion),
}

/// Writes a JSON string; what needs no escapes, as states and statuses do not, is written in place.
fn write_text(out: &mut Vec<u8>, text: impl Display) {
    let start = out.len();
    out.push(b'"');
    // Writing to memory cannot fail.
    let _ = write!(out, "{text}");
    let plain = |byte: &u8| *byte >= b' ' && !matches!(byte, b'"' | b'\\');
    if out[start + 1..].iter().all(plain) {
        out.push(b'"');
        return;
    }
    out.truncate(start);
    let mut told = String::new();
    let _ = write!(told, "{text}");
    out.extend_from_slice(quote(&told).as_bytes());
}

/// The span of a member and of the comma that goes with it.
fn with_comma(object: View<'_>, key: &str) -> Option<Range<usize>> {
    let mut before: Option<usize> = None;
    let mut members = object.members();
    while let Some(member) = members.next() {
        if member.key == key {
            let after = members.next().map(|next| next.span.start);
            return Some(match (before, after) {
                (Some(before), _) => before..member.span.end,
                (None, Some(after)) => member.span.start..after,
                (None, None) => member.span,
            });
        }
        before = Some(member.span.end);
    }
    None
}

fn edit_labels(edit: &mut Edit<'_>, node: &str) {
    if let Some(shown) = edit.root().get("Labels") {
        edit.members(shown, |name, _| {
            if labels::is_hidden(name) {
                Change::Drop
            } else {
                Change::Keep
            }
        });
    }
    edit.set(&["Labels", labels::NODE], &quote(node));
}

fn prefix_names(edit: &mut Edit<'_>, node: &str) {
    if let Some(names) = edit.root().get("Names") {
        edit.elements(names, |name| match name.str() {
            Some(name) => Change::Replace(quote(&format!("/{node}{name}"))),
            None => Change::Keep,
        });
    }
}

fn show_address(edit: &mut Edit<'_>, address: &str) {
    let Some(ports) = edit.root().get("Ports") else {
        return;
    };
    let all = ports.elements().map(Port::of);
    let all = all.map(|port| (port.ip, (port.private, port.public, port.protocol)));
    let mut rows = Rows::new(address, all);
    let mut shown = Vec::new();
    edit.elements(ports, |row| {
        let port = Port::of(row);
        if port.public == 0 {
            return Change::Keep;
        }
        match rows.next(&port.ip, (port.private, port.public, port.protocol)) {
            Row::Keep => Change::Keep,
            Row::Drop => Change::Drop,
            Row::Show(address) => {
                shown.push((row, quote(address)));
                Change::Keep
            }
        }
    });
    for (row, address) in shown {
        match row.get("IP") {
            Some(ip) => edit.replace(ip, address),
            None => edit.add(row, "IP", &address),
        }
    }
}

fn show_networks(edit: &mut Edit<'_>, network_id: &dyn Fn(&str) -> Option<String>) {
    let Some(networks) = edit.root().at(&["NetworkSettings", "Networks"]) else {
        return;
    };
    for network in networks.members() {
        let Some(id) = network.value.get("NetworkID") else {
            continue;
        };
        if let Some(ours) = network_id(&id.str().unwrap_or_default()) {
            edit.replace(id, quote(&ours));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::container_status::ContainerStatus;

    /// A `docker run -d -p 80:80 busybox sleep 1d` as Engine 28.5.2 lists it.
    const ITEM: &str = concat!(
        r#"{"Id":"8dfafdbc3a40a2f9b2a1c0f2a6d3e4b5c6d7e8f90123456789abcdef01234567","Names":["/web","/db/alias"],"#,
        r#""Image":"busybox","ImageID":"sha256:5c1b2d4f0a9e8d7c6b5a49382716050493827160504938271605049382716050","#,
        r#""Command":"sleep 1d","Created":1731000000,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"#,
        r#""Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":443,"Type":"tcp"},"#,
        r#"{"IP":"10.0.0.9","PrivatePort":81,"PublicPort":81,"Type":"udp"}],"#,
        r#""Labels":{"com.flotilla.cluster":"c","a":"b","com.flotilla.id":"i"},"State":"running","#,
        r#""Status":"Up 3 minutes","HostConfig":{"NetworkMode":"bridge","Annotations":{"x":"y"}},"#,
        r#""NetworkSettings":{"Networks":{"bridge":{"IPAMConfig":null,"Links":null,"Aliases":null,"MacAddress":"","#,
        r#""NetworkID":"abc","EndpointID":"","Gateway":"","IPAddress":"","DNSNames":null}}},"#,
        r#""Mounts":[{"Type":"volume","Name":"data","Source":"","Destination":"/data"}],"#,
        r#""ImageManifestDescriptor":{"digest":"sha256:00"}}"#
    );

    fn ours(id: &str) -> Option<String> {
        (id == "abc").then(|| "net1".to_owned())
    }

    fn node(address: Option<&'static str>, prefix_names: bool) -> ShownAs<'static> {
        ShownAs {
            name: "host1",
            id: "n1",
            address,
            prefix_names,
            network_id: &ours,
        }
    }

    #[track_caller]
    fn shown(item: &str, node: &ShownAs<'_>, version: ApiVersion) -> String {
        let head = Head::parse(item.as_bytes()).expect("an item");
        let template = Template::new(item.as_bytes(), node).expect("an item");
        let mut out = Vec::new();
        let status = ContainerStatus::parse(&head.status);
        template.render(&mut out, version, &head.state, status.render(180));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn an_image_is_shown_by_its_id_where_its_name_means_another() {
        let template = Template::new(ITEM.as_bytes(), &node(None, false)).expect("an item");
        let (name, id) = template.image().expect("both are there");
        assert_eq!((&*name, &id[..12]), ("busybox", "sha256:5c1b2"));
        let (mut named, mut by_id) = (Vec::new(), Vec::new());
        template.render(&mut named, ApiVersion::MAX, "running", "Up");
        template.render_with_image_id(&mut by_id, ApiVersion::MAX, "running", "Up");
        let named = String::from_utf8(named).expect("text");
        let wanted = named.replace(r#""Image":"busybox""#, &format!(r#""Image":"{id}""#));
        assert_eq!(String::from_utf8(by_id).expect("text"), wanted);
    }

    #[test]
    fn only_what_must_change_changes() {
        let expected = ITEM
            .replace(
                r#"{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},"#,
                "",
            )
            .replace("0.0.0.0", "192.0.2.7")
            .replace(
                r#"{"com.flotilla.cluster":"c","a":"b","com.flotilla.id":"i"}"#,
                r#"{"a":"b","com.flotilla.node":"host1"}"#,
            )
            .replace(r#""NetworkID":"abc""#, r#""NetworkID":"net1""#)
            .replace(
                r#""sha256:00"}}"#,
                r#""sha256:00"},"Node":{"Name":"host1","ID":"n1"}}"#,
            );
        let with_address = node(Some("192.0.2.7"), false);
        assert_eq!(shown(ITEM, &with_address, ApiVersion::MAX), expected);
        let without_annotations = expected.replace(r#","Annotations":{"x":"y"}"#, "");
        let without_descriptor =
            |item: &str| item.replace(r#","ImageManifestDescriptor":{"digest":"sha256:00"}"#, "");
        assert_eq!(
            shown(ITEM, &with_address, ApiVersion::new(1, 47)),
            without_descriptor(&expected)
        );
        assert_eq!(
            shown(ITEM, &with_address, ApiVersion::new(1, 45)),
            without_descriptor(&without_annotations)
        );
        let spaced = format!(
            " {} ",
            ITEM.replace("\":{", "\" : { ").replace(",\"", ",\n \"")
        );
        assert_eq!(shown(&spaced, &with_address, ApiVersion::MAX), expected);
    }

    #[test]
    fn a_network_that_was_left_is_shown_no_more() {
        let both = ITEM.replace(
            r#""Networks":{"#,
            r#""Networks":{"front":{"NetworkID":"f00d"},"never-ran":{"NetworkID":""},"#,
        );
        let template = Template::new(both.as_bytes(), &node(None, true)).expect("reads");
        let shown = |template: &Template| {
            let mut out = Vec::new();
            template.render(&mut out, ApiVersion::new(1, 45), "running", "Up 3 minutes");
            String::from_utf8(out).expect("text")
        };
        let left = template
            .without_networks(|name, id| id == "f00d" || (id.is_empty() && name == "never-ran"))
            .expect("reads");
        let without = shown(&template).replace(
            r#""front":{"NetworkID":"f00d"},"never-ran":{"NetworkID":""},"#,
            "",
        );
        assert_eq!(shown(&left), without);
        let same = template.without_networks(|_, _| false).expect("reads");
        assert_eq!(shown(&same), shown(&template));
    }

    #[test]
    fn names_and_addresses_stay_if_so_wished() {
        let shown = shown(ITEM, &node(None, true), ApiVersion::MAX);
        assert!(
            shown.contains(r#""Names":["/host1/web","/host1/db/alias"]"#),
            "{shown}"
        );
        assert!(shown.contains(r#""IP":"::""#), "{shown}");
    }

    #[test]
    fn items_with_nothing_in_them_are_borne() {
        assert_eq!(
            shown("{}", &node(None, true), ApiVersion::MAX),
            r#"{"Labels":{"com.flotilla.node":"host1"},"Node":{"Name":"host1","ID":"n1"}}"#
        );
        assert_eq!(
            shown(
                r#"{"Status":"\"","Labels":null,"Ports":null,"State":null}"#,
                &node(Some("a"), true),
                ApiVersion::MAX
            ),
            r#"{"Status":"\"","Labels":{"com.flotilla.node":"host1"},"Ports":null,"State":null,"Node":{"Name":"host1","ID":"n1"}}"#
        );
    }

    #[test]
    fn a_head_is_what_lists_and_filters_need() {
        let head = Head::parse(ITEM.as_bytes()).expect("an item");
        assert_eq!(
            (head.name(), head.created, &*head.state),
            ("web", 1_731_000_000, "running")
        );
        assert_eq!((head.label("a"), head.label("x")), (Some("b"), None));
        assert_eq!(
            (head.ports.len(), head.ports[0].public, &*head.ports[3].ip),
            (4, 8080, "10.0.0.9")
        );
        assert_eq!(
            (&*head.networks[0].name, &*head.networks[0].id),
            ("bridge", "abc")
        );
        assert_eq!(
            (&*head.mounts[0].name, &*head.network_mode),
            ("data", "bridge")
        );
        let alias_first = Head {
            names: vec!["/db/alias".into(), "/web".into()],
            ..Head::default()
        };
        assert_eq!(alias_first.name(), "web");
    }

    #[test]
    fn an_item_keeps_little_more_than_its_bytes() {
        let template =
            Template::new(ITEM.as_bytes(), &node(Some("192.0.2.7"), false)).expect("an item");
        assert!(
            template.size() <= ITEM.len() + 64,
            "{} of {}",
            template.size(),
            ITEM.len()
        );
        assert!(template.size() <= 1300, "{}", template.size());
    }

    proptest! {
        #[test]
        fn no_item_breaks_it(cut in 0..ITEM.len(), put in "[\\[\\]{}\",:0a]{0,3}") {
            let mut item = ITEM.to_owned();
            item.replace_range(cut..(cut + put.len()).min(ITEM.len()), &put);
            if Head::parse(item.as_bytes()).is_ok() {
                let template = Template::new(item.as_bytes(), &node(Some("192.0.2.7"), true)).expect("well-formed");
                let mut out = Vec::new();
                template.render(&mut out, ApiVersion::MIN, "running", "Up 1 second");
                if item.starts_with('{') { prop_assert!(View::parse(&out).is_ok(), "{}", String::from_utf8_lossy(&out)); }
            }
        }
    }
}
