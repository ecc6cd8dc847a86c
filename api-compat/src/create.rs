//! `POST /containers/create`: what placing needs to know of a body, and the few changes made to its bytes.
//!
//! Source: moby 28.5.2 `runconfig/config.go`, `postContainersCreate`, `daemon/container.go`, `daemon/names.go`. The body is
//! read leniently: what we do not know goes to the engine as it came, and a field of a wrong type is the engine's to
//! refuse. Field names are found in any case, as Go finds them.
//!
//! Stricter than the engine: a closing brace or bracket behind the value is refused here (the engine does not look that
//! far), and so is a field that stands twice. The engine judges a name only after it has found the image.
//!
//! **Invariant**: what was read is what is sent. A body in which one field stands twice is refused, for Go would take
//! another one of the two than we.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::claim::Claim;
use crate::error::ApiError;
use crate::generic::Wishes;
use crate::go_text;
use crate::json_edit::{Change, Edit, quote};
use crate::json_view::View;
use crate::list_filter::split_port;

/// What placing reads in a body.
#[derive(Debug, Clone, Default)]
pub struct Create<'a> {
    /// `Image`
    pub image: Cow<'a, str>,
    /// `Env`: placement constraints may be in it.
    pub env: Vec<Cow<'a, str>>,
    /// `Labels`
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// CPU and memory.
    pub claim: Claim,
    /// What it claims beside those.
    pub generic: Wishes,
    /// `HostConfig.PortBindings`
    pub host_ports: Vec<HostPort<'a>>,
    /// `HostConfig.PublishAllPorts`: every exposed port, also those of the image, gets a random host port.
    pub publish_all: bool,
    /// `ExposedPorts`, such as `80/tcp`.
    pub exposed: Vec<Cow<'a, str>>,
    /// Containers that must be on the same node.
    pub needs: Vec<Need<'a>>,
    /// Named volumes.
    pub volumes: Vec<Volume<'a>>,
    /// Whether it asks for a volume without a name, which nothing else has.
    pub anonymous_volumes: bool,
    /// Paths of the host that are mounted.
    pub host_paths: Vec<Cow<'a, str>>,
    /// Images that are mounted (`Mounts` of the type `image`, API 1.48).
    pub mounted_images: Vec<Cow<'a, str>>,
    /// Where its network comes from.
    pub network_mode: NetworkMode<'a>,
    /// The networks it joins, `network_mode` first; without those every host has.
    pub networks: Vec<Cow<'a, str>>,
    /// `HostConfig.RestartPolicy.Name`; empty means `no`.
    pub restart_policy: Cow<'a, str>,
    /// `HostConfig.AutoRemove`
    pub auto_remove: bool,
}

/// `HostConfig.NetworkMode`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkMode<'a> {
    /// `default`, `bridge` or nothing: no wish. An endpoint called `default` is none either.
    #[default]
    Default,
    /// The network of the host: its exposed ports are the host's.
    Host,
    /// `none`
    None,
    /// `container:x`
    Container(Cow<'a, str>),
    /// A network by name or id.
    Named(Cow<'a, str>),
}

/// A wish for a port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// The key in `PortBindings`, and which of its bindings this is: for [`Body::set_host_port`].
    pub key: Cow<'a, str>,
    /// See `key`.
    pub index: usize,
    /// The container's port.
    pub private: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The address of the host; empty for all.
    pub address: Cow<'a, str>,
    /// The number.
    pub wanted: Wanted,
}

/// Which number a host port may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Any: nothing given, or 0.
    Random,
    /// This one.
    Number(u16),
    /// Any of these.
    Range(u16, u16),
}

/// A container that another one depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need<'a> {
    /// How.
    pub kind: NeedKind,
    /// Its name or id, as given.
    pub container: Cow<'a, str>,
}

/// How one container depends on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeedKind {
    /// `HostConfig.Links`
    Link,
    /// `HostConfig.VolumesFrom`
    VolumesFrom,
    /// `HostConfig.NetworkMode`
    Network,
    /// `HostConfig.PidMode`
    Pid,
    /// `HostConfig.IpcMode`
    Ipc,
}

/// A named volume that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume<'a> {
    /// Its name, as given.
    pub name: Cow<'a, str>,
    /// Its driver; empty for the default one.
    pub driver: Cow<'a, str>,
    /// The driver's options, if the volume is made for this container.
    pub options: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Its labels, likewise.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// A network that a container joins, as its engine is to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its name there.
    pub name: String,
    /// Its id there, for endpoints that give one.
    pub id: String,
}

/// What the engine calls an allowed name of a container.
const NAME_CHARACTERS: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

/// What a mode begins with that is shared with another container.
const SHARED: &str = "container:";

/// The members of a body that belong to the container's config: a body with none of them has no config.
const CONFIG_FIELDS: [&str; 25] = [
    "Hostname",
    "Domainname",
    "User",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "ExposedPorts",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Env",
    "Cmd",
    "Healthcheck",
    "ArgsEscaped",
    "Image",
    "Volumes",
    "WorkingDir",
    "Entrypoint",
    "NetworkDisabled",
    "MacAddress",
    "OnBuild",
    "Labels",
    "StopSignal",
    "StopTimeout",
    "Shell",
];

/// Refuses a name the engine would refuse: 400 with its words. One leading slash is allowed.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let bare = name.strip_prefix('/').unwrap_or(name).as_bytes();
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let valid = bare.len() >= 2 && bare[0].is_ascii_alphanumeric() && bare.iter().all(allowed);
    if valid {
        return Ok(());
    }
    let message = format!("Invalid container name ({name}), only {NAME_CHARACTERS} are allowed");
    Err(ApiError::bad_parameter(message))
}

/// Refuses a `Content-Type` that is not JSON, as the engine does on every call with a JSON body. A request without a
/// body (`Content-Length: 0`) needs none.
pub fn check_content_type(content_type: Option<&str>, has_body: bool) -> Result<(), ApiError> {
    let given = content_type.unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if (given.is_empty() && !has_body) || media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::bad_parameter(if media_type.is_empty() {
        format!("malformed Content-Type header ({given}): mime: no media type")
    } else {
        format!("unsupported Content-Type header ({given}): must be 'application/json'")
    }))
}

/// A body that was read, ready to be changed.
pub struct Body<'a> {
    edit: Edit<'a>,
}

impl<'a> Body<'a> {
    /// Checks that the body is one JSON value with a config in it. Refuses with the engine's 400s; where the text of
    /// a syntax error is Go's decoder's, ours names the same kind of error in serde's words.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Err(ApiError::bad_parameter(
                "invalid JSON: got EOF while reading request body",
            ));
        }
        let edit = Edit::new(body)
            .map_err(|malformed| ApiError::bad_parameter(syntax_error(body, &malformed)))?;
        let root = edit.root();
        if !root.is_object() && !root.is_null() {
            let kind = kind_of(root);
            let message = format!(
                "invalid JSON: json: cannot unmarshal {kind} into Go value of type container.CreateRequest"
            );
            return Err(ApiError::bad_parameter(message));
        }
        if !CONFIG_FIELDS
            .iter()
            .any(|field| root.member_folded(field).is_some())
        {
            return Err(ApiError::bad_parameter(
                "config cannot be empty in order to create a container",
            ));
        }
        if let Some(field) = repeated(root) {
            let message = format!(
                "invalid JSON: the field {} is given twice",
                go_text::quote(&field)
            );
            return Err(ApiError::bad_parameter(message));
        }
        Ok(Self { edit })
    }

    /// What placing needs. Ports the engine would refuse are refused here.
    pub fn read(&self) -> Result<Create<'a>, ApiError> {
        let root = self.edit.root();
        is_a(root, "Image", "string", "string")?;
        is_a(root, "Labels", "object", "map[string]string")?;
        let mut create = Create {
            image: text(root, "Image"),
            env: texts(root, "Env").collect(),
            labels: root
                .get_folded("Labels")
                .iter()
                .flat_map(View::string_pairs)
                .collect(),
            exposed: keys(root.get_folded("ExposedPorts")).collect(),
            ..Create::default()
        };
        let is_given = |field: &str| root.get_folded(field).is_some_and(|value| !value.is_null());
        if create.image.is_empty() && !is_given("Cmd") && !is_given("Entrypoint") {
            return Err(ApiError::bad_parameter("no command specified"));
        }
        let host = root.get_folded("HostConfig");
        create.anonymous_volumes = asks_for_anonymous_volume(root, host);
        create.generic = Wishes::of_create(host, create.labels.iter().cloned())?;
        let Some(host) = host else {
            create.join_endpoints(root);
            return Ok(create);
        };
        create.claim = Claim::of_host_config(host);
        create.publish_all = switch(host, "PublishAllPorts");
        create.auto_remove = switch(host, "AutoRemove");
        create.restart_policy = host
            .get_folded("RestartPolicy")
            .map(|policy| text(policy, "Name"))
            .unwrap_or_default();
        if let Some(bindings) = host.get_folded("PortBindings") {
            create.host_ports = host_ports(bindings)?;
        }
        create.read_network(host);
        create.join_endpoints(root);
        create.needs.extend(needs_besides_network(host));
        create.read_mounts(host);
        Ok(create)
    }

    /// Gives the container labels, in the place of those of the same name.
    pub fn add_labels(&mut self, labels: &[(&str, &str)]) {
        let root = self.edit.root();
        let member = root.member_folded("Labels");
        let fresh = || {
            let pairs: Vec<_> = labels
                .iter()
                .map(|(key, value)| format!("{}:{}", quote(key), quote(value)))
                .collect();
            format!("{{{}}}", pairs.join(","))
        };
        match member {
            None => self.edit.add(root, "Labels", &fresh()),
            Some(member) if member.value.is_object() => {
                for (key, value) in labels {
                    match member.value.members().find(|label| label.key == *key) {
                        Some(label) => self.edit.replace(label.value, quote(value)),
                        None => self.edit.add(member.value, key, &quote(value)),
                    }
                }
            }
            Some(member) => self.edit.replace(member.value, fresh()),
        }
    }

    /// Has the container made of another image than the client named.
    pub fn set_image(&mut self, image: &str) {
        let root = self.edit.root();
        match root.member_folded("Image") {
            Some(member) => self.edit.replace(member.value, quote(image)),
            None => self.edit.add(root, "Image", &quote(image)),
        }
    }

    /// Has other images mounted than the client named, where `known` has one.
    pub fn set_mounted_images(&mut self, known: impl Fn(&str) -> Option<String>) {
        let root = self.edit.root();
        let host = root.get_folded("HostConfig");
        let mounts = host.and_then(|host| host.get_folded("Mounts"));
        for mount in mounts.iter().flat_map(View::elements) {
            let source = mount.get_folded("Source");
            let named = source.filter(|_| &*text(mount, "Type") == "image");
            if let Some(source) = named
                && let Some(known) = source.str().and_then(|name| known(&name))
            {
                self.edit.replace(source, quote(&known));
            }
        }
    }

    /// Tells of the networks that `joined` knows, by whatever reference, in their engine's terms.
    pub fn set_networks(&mut self, joined: impl Fn(&str) -> Option<Joined>) {
        let root = self.edit.root();
        let mode = root
            .get_folded("HostConfig")
            .and_then(|host| host.get_folded("NetworkMode"));
        if let Some(mode) = mode
            && let Some(reference) = mode.str()
            && let Some(network) = joined(&reference)
            && network.name != *reference
        {
            self.edit.replace(mode, quote(&network.name));
        }
        let Some(endpoints) = endpoints(root) else {
            return;
        };
        let mut renamed = Vec::new();
        self.edit.members(endpoints, |reference, endpoint| {
            let Some(network) = joined(reference) else {
                return Change::Keep;
            };
            let told = with_network_id(endpoint, &network.id);
            if network.name == *reference {
                return told.map_or(Change::Keep, Change::Replace);
            }
            let told = told.unwrap_or_else(|| endpoint.as_json().to_owned());
            renamed.push((network.name, told));
            Change::Drop
        });
        for (name, endpoint) in renamed {
            self.edit.add(endpoints, &name, &endpoint);
        }
    }

    /// Tells of the containers that `known` renames, whatever the container depends on them for, in their engine's terms.
    pub fn set_needs(&mut self, known: impl Fn(&str) -> Option<String>) {
        let root = self.edit.root();
        let host = root.get_folded("HostConfig");
        let of_host = |field| host.and_then(|host| host.get_folded(field));
        for mode in ["NetworkMode", "PidMode", "IpcMode"].map(of_host) {
            let text = mode.and_then(|mode| mode.str());
            let named = text.as_deref().and_then(|text| text.strip_prefix(SHARED));
            if let (Some(mode), Some(known)) = (mode, named.and_then(&known)) {
                self.edit.replace(mode, quote(&format!("{SHARED}{known}")));
            }
        }
        // On networks of users, engines take links from the endpoints.
        let endpoints = endpoints(root);
        let endpoints = endpoints.iter().flat_map(View::members);
        let links = endpoints.filter_map(|endpoint| endpoint.value.get_folded("Links"));
        let lists = ["Links", "VolumesFrom"].into_iter().filter_map(of_host);
        for list in lists.chain(links) {
            self.edit.elements(list, |entry| {
                let text = entry.str().unwrap_or_default();
                let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                match known(name) {
                    Some(known) => Change::Replace(quote(&format!("{known}{rest}"))),
                    None => Change::Keep,
                }
            });
        }
    }

    /// Gives the binding `index` of the port `key` its number on the host.
    pub fn set_host_port(&mut self, key: &str, index: usize, port: u16) {
        let bindings = self
            .edit
            .root()
            .get_folded("HostConfig")
            .and_then(|host| host.get_folded("PortBindings"));
        let Some(binding) = bindings
            .and_then(|all| all.get(key))
            .and_then(|all| all.elements().nth(index))
        else {
            return;
        };
        let json = format!("\"{port}\"");
        match binding.member_folded("HostPort") {
            Some(member) => self.edit.replace(member.value, json),
            None if binding.is_object() => self.edit.add(binding, "HostPort", &json),
            None => self
                .edit
                .replace(binding, format!("{{\"HostPort\":{json}}}")),
        }
    }

    /// Binds ports of the container that are bound to nothing, such as `80/tcp`, to these numbers of the host.
    pub fn bind_ports(&mut self, ports: &[(&str, u16)]) {
        let Some(host) = self.edit.root().get_folded("HostConfig") else {
            return;
        };
        let bindings = host
            .member_folded("PortBindings")
            .map(|member| member.value);
        let binding = |number: u16| format!("[{{\"HostPort\":\"{number}\"}}]");
        if let Some(bindings) = bindings.filter(View::is_object) {
            for (key, number) in ports {
                self.edit.add(bindings, key, &binding(*number));
            }
            return;
        }
        let pairs: Vec<_> = ports
            .iter()
            .map(|(key, number)| format!("{}:{}", quote(key), binding(*number)))
            .collect();
        let all = format!("{{{}}}", pairs.join(","));
        match bindings {
            Some(null) => self.edit.replace(null, all),
            None if pairs.is_empty() => {}
            None => self.edit.add(host, "PortBindings", &all),
        }
    }

    /// The body's edit, for further changes.
    pub fn edit(&mut self) -> &mut Edit<'a> {
        &mut self.edit
    }

    /// The bytes for the engine.
    pub fn finish(self) -> Vec<u8> {
        self.edit.finish()
    }
}

impl<'a> Create<'a> {
    /// With `PublishAllPorts`: the ports that are exposed and bound to nothing, with key, number and protocol. What the image
    /// exposes has to be added to `exposed` for that.
    pub fn published_besides(&self) -> impl Iterator<Item = (&str, u16, &str)> {
        let is_bound = |key: &str| self.host_ports.iter().any(|port| port.key == *key);
        let exposed = exposed_ports(&self.exposed).filter(|_| self.publish_all);
        exposed.filter(move |(key, ..)| !is_bound(key))
    }

    /// Whether a path of the host is the socket of its engine: the container will see one node only.
    pub fn mounts_engine_socket(&self) -> bool {
        let sockets = ["/var/run/docker.sock", "/run/docker.sock"];
        self.host_paths
            .iter()
            .any(|path| sockets.contains(&&**path))
    }

    /// The containers that it cannot be without, by name or id.
    pub fn needed(&self) -> impl Iterator<Item = String> {
        let bare = |need: &Need<'_>| need.container.trim_start_matches('/').to_owned();
        self.needs.iter().map(bare)
    }

    /// The containers that it links, by name or id.
    pub fn linked(&self) -> impl Iterator<Item = String> {
        let links = self.needs.iter().filter(|need| need.kind == NeedKind::Link);
        links.map(|link| link.container.trim_start_matches('/').to_owned())
    }

    fn read_network(&mut self, host: View<'a>) {
        let mode = text(host, "NetworkMode");
        self.network_mode = match &*mode {
            "" | "default" | "bridge" => NetworkMode::Default,
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            _ => match after(&mode, SHARED) {
                Some(container) => {
                    self.needs.push(Need {
                        kind: NeedKind::Network,
                        container: container.clone(),
                    });
                    NetworkMode::Container(container)
                }
                None => {
                    self.networks.push(mode.clone());
                    NetworkMode::Named(mode)
                }
            },
        };
    }

    fn join_endpoints(&mut self, root: View<'a>) {
        for name in keys(endpoints(root)) {
            let everywhere = matches!(&*name, "default" | "bridge" | "host" | "none" | "");
            if !everywhere && !self.networks.contains(&name) {
                self.networks.push(name);
            }
        }
    }

    fn read_mounts(&mut self, host: View<'a>) {
        let default_driver = text(host, "VolumeDriver");
        for bind in texts(host, "Binds") {
            let source = before(&bind, ':');
            match bind.split(':').nth(1) {
                // A path alone is an anonymous volume there.
                None => {}
                Some(target) if source.starts_with('/') => {
                    // Engines refuse another one, whatever is at the source.
                    let is_read = target.starts_with('/');
                    self.host_paths.extend(is_read.then_some(source));
                }
                Some(_) => self.volumes.push(Volume {
                    name: source,
                    driver: default_driver.clone(),
                    options: Vec::new(),
                    labels: Vec::new(),
                }),
            }
        }
        for mount in host.get_folded("Mounts").iter().flat_map(View::elements) {
            let source = text(mount, "Source");
            match &*text(mount, "Type") {
                "bind" => self.host_paths.push(source),
                "image" => self.mounted_images.push(source),
                "volume" if !source.is_empty() => {
                    let options = mount.get_folded("VolumeOptions");
                    let driver = options.and_then(|options| options.get_folded("DriverConfig"));
                    self.volumes.push(Volume {
                        name: source,
                        driver: driver
                            .map(|driver| text(driver, "Name"))
                            .unwrap_or_default(),
                        options: pairs(driver, "Options"),
                        labels: pairs(options, "Labels"),
                    });
                }
                _ => {}
            }
        }
    }
}

/// `NetworkingConfig.EndpointsConfig`
fn endpoints(root: View<'_>) -> Option<View<'_>> {
    root.get_folded("NetworkingConfig")?
        .get_folded("EndpointsConfig")
}

/// A path alone among `Binds` or `Volumes`, or a mount of a volume without a name. Where something else is mounted there is
/// none.
fn asks_for_anonymous_volume(root: View<'_>, host: Option<View<'_>>) -> bool {
    let binds: Vec<_> = host.iter().flat_map(|host| texts(*host, "Binds")).collect();
    let mounts = host.and_then(|host| host.get_folded("Mounts"));
    let mounts: Vec<_> = mounts.iter().flat_map(View::elements).collect();
    let mut taken: BTreeSet<String> = mounts
        .iter()
        .map(|mount| bare_path(&text(*mount, "Target")))
        .collect();
    let bound = binds.iter().filter_map(|bind| bind.split(':').nth(1));
    taken.extend(bound.map(bare_path));
    let is_anonymous =
        |mount: &View<'_>| text(*mount, "Type") == "volume" && text(*mount, "Source").is_empty();
    binds.iter().any(|bind| !bind.contains(':'))
        || mounts.iter().any(is_anonymous)
        || keys(root.get_folded("Volumes")).any(|path| !taken.contains(&bare_path(&path)))
}

fn bare_path(path: &str) -> String {
    path.trim_end_matches('/').to_owned()
}

/// The containers that one with this `HostConfig` shares its network with, or another name space, or whose volumes it mounts,
/// or that it links.
pub fn needs(host: View<'_>) -> Vec<Need<'_>> {
    let network = after(&text(host, "NetworkMode"), SHARED).map(|container| Need {
        kind: NeedKind::Network,
        container,
    });
    network
        .into_iter()
        .chain(needs_besides_network(host))
        .collect()
}

fn needs_besides_network(host: View<'_>) -> Vec<Need<'_>> {
    let mut needs = Vec::new();
    for (kind, field) in [
        (NeedKind::Link, "Links"),
        (NeedKind::VolumesFrom, "VolumesFrom"),
    ] {
        let named = texts(host, field).map(|entry| before(&entry, ':'));
        needs.extend(named.map(|container| Need { kind, container }));
    }
    for (kind, field) in [(NeedKind::Pid, "PidMode"), (NeedKind::Ipc, "IpcMode")] {
        let container = after(&text(host, field), SHARED);
        needs.extend(container.map(|container| Need { kind, container }));
    }
    needs
}

/// Exposed ports such as `80/tcp`, each once, with number and protocol. What is none is left out.
pub fn exposed_ports<'a>(
    exposed: &'a [Cow<'_, str>],
) -> impl Iterator<Item = (&'a str, u16, &'a str)> {
    let exposed: BTreeSet<&str> = exposed.iter().map(|key| &**key).collect();
    exposed.into_iter().filter_map(|key| {
        let (number, protocol) = split_port(key);
        let number = go_text::parse_port(number).ok()?;
        (number > 0).then_some((key, number, protocol))
    })
}

/// The endpoint with the id that the engine knows its network by; nothing if it gives none.
pub fn with_network_id(endpoint: View<'_>, id: &str) -> Option<String> {
    let given = endpoint.get_folded("NetworkID")?;
    given.str().filter(|given| !given.is_empty())?;
    let start = given.span().start - endpoint.span().start;
    let end = given.span().end - endpoint.span().start;
    let json = endpoint.as_json();
    Some(format!("{}{}{}", &json[..start], quote(id), &json[end..]))
}

/// A field that stands twice in an object that is read here.
fn repeated<'a>(root: View<'a>) -> Option<Cow<'a, str>> {
    let host = root.get_folded("HostConfig");
    let networking = root.get_folded("NetworkingConfig");
    let of_host = |field| host.and_then(|host| host.get_folded(field));
    let mounts: Vec<_> = of_host("Mounts").iter().flat_map(View::elements).collect();
    let options: Vec<_> = mounts
        .iter()
        .filter_map(|mount| mount.get_folded("VolumeOptions"))
        .collect();
    let drivers = options
        .iter()
        .filter_map(|options| options.get_folded("DriverConfig"));
    let ports = of_host("PortBindings");
    let bindings = ports
        .iter()
        .flat_map(View::members)
        .flat_map(|port| port.value.elements());
    let devices = of_host("DeviceRequests");
    let mut structs = [Some(root), host, networking, of_host("RestartPolicy")]
        .into_iter()
        .flatten()
        .chain(devices.iter().flat_map(View::elements))
        .chain(mounts.iter().copied())
        .chain(options.iter().copied())
        .chain(drivers)
        .chain(bindings);
    let endpoints = networking.and_then(|networking| networking.get_folded("EndpointsConfig"));
    let mut maps = [
        root.get_folded("Labels"),
        root.get_folded("ExposedPorts"),
        ports,
        endpoints,
    ]
    .into_iter()
    .flatten();
    structs
        .find_map(|object| object.repeated_field())
        .or_else(|| maps.find_map(|map| map.repeated_key()))
}

fn host_ports<'a>(bindings: View<'a>) -> Result<Vec<HostPort<'a>>, ApiError> {
    let invalid = |text: &str| {
        ApiError::bad_parameter(format!(
            "invalid port specification: {}",
            go_text::quote(text)
        ))
    };
    let mut ports = Vec::new();
    for member in bindings.members() {
        let (number, protocol) = split_port(&member.key);
        let private = go_text::parse_port(number).map_err(|_| invalid(number))?;
        let protocol = protocol.to_ascii_lowercase();
        for (index, binding) in member.value.elements().enumerate() {
            let host_port = text(binding, "HostPort");
            let wanted = wanted(&host_port).ok_or_else(|| invalid(&host_port))?;
            let address = text(binding, "HostIp");
            ports.push(HostPort {
                key: member.key.clone(),
                index,
                private,
                protocol: protocol.clone(),
                address,
                wanted,
            });
        }
    }
    Ok(ports)
}

fn wanted(host_port: &str) -> Option<Wanted> {
    let port = split_port(host_port).0;
    if port.is_empty() {
        return Some(Wanted::Random);
    }
    let (first, last) = port.split_once('-').unwrap_or((port, port));
    match (
        go_text::parse_port(first).ok()?,
        go_text::parse_port(last).ok()?,
    ) {
        (0, 0) => Some(Wanted::Random),
        (first, last) if first == last => Some(Wanted::Number(first)),
        (first, last) => (first < last).then_some(Wanted::Range(first, last)),
    }
}

/// Fails in Go's words if a field that is there is of another kind than this.
fn is_a(root: View<'_>, field: &str, kind: &str, go_type: &str) -> Result<(), ApiError> {
    let value = root.get_folded(field).filter(|value| !value.is_null());
    let Some(found) = value.map(kind_of).filter(|found| *found != kind) else {
        return Ok(());
    };
    Err(ApiError::bad_parameter(format!(
        "invalid JSON: json: cannot unmarshal {found} into Go struct field .{field} of type {go_type}"
    )))
}

/// What Go calls the kind of a JSON value.
pub(crate) fn kind_of(value: View<'_>) -> &'static str {
    match value.as_json().as_bytes() {
        [b'[', ..] => "array",
        [b'{', ..] => "object",
        [b'"', ..] => "string",
        [b't' | b'f', ..] => "bool",
        _ => "number",
    }
}

/// What the engine says of a body that is no JSON: in Go's words where they are simple, else in serde's.
pub fn syntax_error(body: &[u8], malformed: &crate::json_view::Malformed) -> String {
    // The decoder reads one value and only then finds that more follows.
    let mut values =
        serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => "unexpected content after JSON".to_owned(),
        Some(Err(error)) if error.is_eof() => "invalid JSON: unexpected EOF".to_owned(),
        _ => match body.trim_ascii_start() {
            [first, ..]
                if first.is_ascii_graphic() && !b"\"'\\-[{tfn0123456789".contains(first) =>
            {
                let first = char::from(*first);
                format!("invalid JSON: invalid character '{first}' looking for beginning of value")
            }
            _ => format!("invalid JSON: {malformed}"),
        },
    }
}

fn text<'a>(object: View<'a>, field: &str) -> Cow<'a, str> {
    object
        .get_folded(field)
        .and_then(|value| value.str())
        .unwrap_or_default()
}

fn switch(object: View<'_>, field: &str) -> bool {
    object
        .get_folded(field)
        .and_then(|value| value.bool())
        .unwrap_or(false)
}

fn texts<'a>(object: View<'a>, field: &str) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    object
        .get_folded(field)
        .into_iter()
        .flat_map(|list| list.elements())
        .filter_map(|entry| entry.str())
}

fn keys<'a>(object: Option<View<'a>>) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    object
        .into_iter()
        .flat_map(|object| object.members())
        .map(|member| member.key)
}

fn pairs<'a>(object: Option<View<'a>>, field: &str) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
    let map = object.and_then(|object| object.get_folded(field));
    map.iter().flat_map(View::string_pairs).collect()
}

fn before<'a>(text: &Cow<'a, str>, mark: char) -> Cow<'a, str> {
    let end = text.find(mark).unwrap_or(text.len());
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(text) => Cow::Owned(text[..end].to_owned()),
    }
}

fn after<'a>(text: &Cow<'a, str>, prefix: &str) -> Option<Cow<'a, str>> {
    match text {
        Cow::Borrowed(text) => text.strip_prefix(prefix).map(Cow::Borrowed),
        Cow::Owned(text) => text
            .strip_prefix(prefix)
            .map(|rest| Cow::Owned(rest.to_owned())),
    }
}
