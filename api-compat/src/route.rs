//! The route table: which operation a method and a path mean, and the path of an operation on an engine.
//!
//! Source: the routers of moby 28.5.2 and gorilla/mux as `CreateMux` uses it. What follows from them:
//!
//! - The *decoded* path is matched, so `%2f` is a slash. It is cleaned first (`//`, `.`, `..`); a path that changes by
//!   that is answered 301 to the clean one, for every method. A trailing slash survives: `/containers/json/` is 404,
//!   `/networks/` has a route of its own.
//! - `{name:.*}` may hold slashes and may be empty (`DELETE /containers/`), and takes as much as it can
//!   (`/containers/a/json/json` inspects `a/json`). It never holds a line feed. `{id}` is one segment, not empty.
//! - No route, or none with this method: 404 `page not found`, without the headers of the version middleware and
//!   without a look at the version. `OPTIONS` has a route for every path.
//! - A path that cannot be decoded is refused by Go's server before any of this: 400 in plain text.
//!
//! **Invariant**: a path sent to an engine is built from an operation and names, never by replacing text in a path.

use std::sync::LazyLock;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::version::{ApiVersion, split_version_prefix};

/// What the table says about a method and path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// A route: its version is still to be judged.
    Found(Match),
    /// `OPTIONS` on any path: 200 with no body, if the version (raw, as in [`Match::version`]) is in the window.
    Options {
        /// The version in the path.
        version: Option<String>,
    },
    /// 301 with this `Location` and no body.
    Redirect(String),
    /// 404 `page not found`.
    NotFound,
    /// The path has a bad percent escape: 400 with the plain body [`BAD_REQUEST_BODY`], and the connection closes.
    Undecodable,
}

/// What Go's server writes, as `text/plain; charset=utf-8`, when it cannot parse a request.
pub const BAD_REQUEST_BODY: &str = "400 Bad Request";

/// A route that was found, with the names in its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// What is asked.
    pub operation: Operation,
    /// The version in the path as it stands there, for [`ApiVersion::negotiate`].
    pub version: Option<String>,
    /// The object in the path, decoded; empty where the operation names none.
    pub name: String,
    /// The checkpoint of [`Operation::CheckpointDelete`]; empty elsewhere.
    pub checkpoint: String,
}

/// A method that has routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    Head,
    Post,
    Put,
    Delete,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $operation:ident $name:literal $verb:ident $pattern:literal $(since $minor:literal)?;)*) => {
        /// One operation of the Engine API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation {
            $(
                #[doc = concat!("`", stringify!($verb), " ", $pattern, "`")]
                $(#[$doc])*
                $operation,
            )*
        }

        impl Operation {
            /// Every operation, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$operation),*];

            /// A short constant name for logs and metrics, such as `container.inspect`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$operation => $name,)* }
            }

            /// The version in which the operation appeared, if that is later than [`ApiVersion::MIN`].
            ///
            /// Engine 28 serves its routes to every version; from 29 on these are 404 below it.
            pub fn min_version(self) -> Option<ApiVersion> {
                match self {
                    $($(Self::$operation => Some(ApiVersion::new(1, $minor)),)?)*
                    _ => None,
                }
            }

            fn pattern(self) -> &'static str {
                match self { $(Self::$operation => $pattern,)* }
            }

            fn verb(self) -> Verb {
                match self { $(Self::$operation => Verb::$verb,)* }
            }
        }
    };
}

operations! {
    Ping "system.ping" Get "/_ping";
    PingHead "system.ping_head" Head "/_ping";
    Version "system.version" Get "/version";
    Info "system.info" Get "/info";
    Events "system.events" Get "/events";
    DiskUsage "system.df" Get "/system/df";
    Auth "system.auth" Post "/auth";
    DebugVars "debug.vars" Get "/debug/vars";
    DebugProfiles "debug.pprof" Get "/debug/pprof/{name:.*}";

    ContainerList "container.list" Get "/containers/json";
    ContainerCreate "container.create" Post "/containers/create";
    ContainerPrune "container.prune" Post "/containers/prune" since 25;
    ContainerInspect "container.inspect" Get "/containers/{name:.*}/json";
    ContainerTop "container.top" Get "/containers/{name:.*}/top";
    ContainerLogs "container.logs" Get "/containers/{name:.*}/logs";
    ContainerChanges "container.changes" Get "/containers/{name:.*}/changes";
    ContainerExport "container.export" Get "/containers/{name:.*}/export";
    ContainerStats "container.stats" Get "/containers/{name:.*}/stats";
    ContainerAttachWebsocket "container.attach_ws" Get "/containers/{name:.*}/attach/ws";
    ContainerStatPath "container.stat_path" Head "/containers/{name:.*}/archive";
    ContainerArchive "container.archive" Get "/containers/{name:.*}/archive";
    ContainerExtract "container.extract" Put "/containers/{name:.*}/archive";
    ContainerStart "container.start" Post "/containers/{name:.*}/start";
    ContainerStop "container.stop" Post "/containers/{name:.*}/stop";
    ContainerRestart "container.restart" Post "/containers/{name:.*}/restart";
    ContainerKill "container.kill" Post "/containers/{name:.*}/kill";
    ContainerPause "container.pause" Post "/containers/{name:.*}/pause";
    ContainerUnpause "container.unpause" Post "/containers/{name:.*}/unpause";
    ContainerWait "container.wait" Post "/containers/{name:.*}/wait";
    ContainerResize "container.resize" Post "/containers/{name:.*}/resize";
    ContainerAttach "container.attach" Post "/containers/{name:.*}/attach";
    ContainerRename "container.rename" Post "/containers/{name:.*}/rename";
    ContainerUpdate "container.update" Post "/containers/{name:.*}/update";
    ContainerRemove "container.remove" Delete "/containers/{name:.*}";
    /// Stands before [`Self::ContainerRemove`] in the engine's order, and only for a name of one segment.
    CheckpointDelete "checkpoint.delete" Delete "/containers/{name}/checkpoints/{checkpoint}";
    CheckpointList "checkpoint.list" Get "/containers/{name:.*}/checkpoints";
    CheckpointCreate "checkpoint.create" Post "/containers/{name:.*}/checkpoints";
    ExecCreate "exec.create" Post "/containers/{name:.*}/exec";
    ExecStart "exec.start" Post "/exec/{name:.*}/start";
    ExecResize "exec.resize" Post "/exec/{name:.*}/resize";
    ExecInspect "exec.inspect" Get "/exec/{id:.*}/json";
    Commit "container.commit" Post "/commit";

    ImageList "image.list" Get "/images/json";
    ImageSearch "image.search" Get "/images/search";
    /// The names are in the query.
    ImageSaveMany "image.save_many" Get "/images/get";
    ImageSave "image.save" Get "/images/{name:.*}/get";
    ImageHistory "image.history" Get "/images/{name:.*}/history";
    ImageInspect "image.inspect" Get "/images/{name:.*}/json";
    ImageLoad "image.load" Post "/images/load";
    /// A pull, or an import when the query has `fromSrc`.
    ImageCreate "image.create" Post "/images/create";
    ImagePush "image.push" Post "/images/{name:.*}/push";
    ImageTag "image.tag" Post "/images/{name:.*}/tag";
    ImagePrune "image.prune" Post "/images/prune" since 25;
    ImageRemove "image.remove" Delete "/images/{name:.*}";
    DistributionInspect "distribution.inspect" Get "/distribution/{name:.*}/json" since 30;

    Build "build.run" Post "/build";
    BuildPrune "build.prune" Post "/build/prune" since 31;
    BuildCancel "build.cancel" Post "/build/cancel";
    Session "build.session" Post "/session";
    Grpc "build.grpc" Post "/grpc";

    NetworkList "network.list" Get "/networks";
    NetworkInspect "network.inspect" Get "/networks/{id:.+}";
    NetworkCreate "network.create" Post "/networks/create";
    NetworkConnect "network.connect" Post "/networks/{id:.*}/connect";
    NetworkDisconnect "network.disconnect" Post "/networks/{id:.*}/disconnect";
    NetworkPrune "network.prune" Post "/networks/prune" since 25;
    NetworkRemove "network.remove" Delete "/networks/{id:.*}";

    VolumeList "volume.list" Get "/volumes";
    VolumeInspect "volume.inspect" Get "/volumes/{name:.*}";
    VolumeCreate "volume.create" Post "/volumes/create";
    VolumePrune "volume.prune" Post "/volumes/prune" since 25;
    VolumeUpdate "volume.update" Put "/volumes/{name:.*}" since 42;
    VolumeRemove "volume.remove" Delete "/volumes/{name:.*}";

    PluginList "plugin.list" Get "/plugins";
    PluginInspect "plugin.inspect" Get "/plugins/{name:.*}/json";
    PluginPrivileges "plugin.privileges" Get "/plugins/privileges";
    PluginRemove "plugin.remove" Delete "/plugins/{name:.*}";
    PluginEnable "plugin.enable" Post "/plugins/{name:.*}/enable";
    PluginDisable "plugin.disable" Post "/plugins/{name:.*}/disable";
    PluginPull "plugin.pull" Post "/plugins/pull";
    PluginPush "plugin.push" Post "/plugins/{name:.*}/push";
    PluginUpgrade "plugin.upgrade" Post "/plugins/{name:.*}/upgrade" since 26;
    PluginSet "plugin.set" Post "/plugins/{name:.*}/set";
    PluginCreate "plugin.create" Post "/plugins/create";

    SwarmInspect "swarm.inspect" Get "/swarm";
    SwarmInit "swarm.init" Post "/swarm/init";
    SwarmJoin "swarm.join" Post "/swarm/join";
    SwarmLeave "swarm.leave" Post "/swarm/leave";
    SwarmUpdate "swarm.update" Post "/swarm/update";
    SwarmUnlockKey "swarm.unlock_key" Get "/swarm/unlockkey";
    SwarmUnlock "swarm.unlock" Post "/swarm/unlock";
    ServiceList "service.list" Get "/services";
    ServiceInspect "service.inspect" Get "/services/{id}";
    ServiceCreate "service.create" Post "/services/create";
    ServiceUpdate "service.update" Post "/services/{id}/update";
    ServiceRemove "service.remove" Delete "/services/{id}";
    ServiceLogs "service.logs" Get "/services/{id}/logs";
    NodeList "node.list" Get "/nodes";
    NodeInspect "node.inspect" Get "/nodes/{id}";
    NodeUpdate "node.update" Post "/nodes/{id}/update";
    NodeRemove "node.remove" Delete "/nodes/{id}";
    TaskList "task.list" Get "/tasks";
    TaskInspect "task.inspect" Get "/tasks/{id}";
    TaskLogs "task.logs" Get "/tasks/{id}/logs";
    SecretList "secret.list" Get "/secrets" since 25;
    SecretInspect "secret.inspect" Get "/secrets/{id}" since 25;
    SecretCreate "secret.create" Post "/secrets/create" since 25;
    SecretUpdate "secret.update" Post "/secrets/{id}/update" since 25;
    SecretRemove "secret.remove" Delete "/secrets/{id}" since 25;
    ConfigList "config.list" Get "/configs" since 30;
    ConfigInspect "config.inspect" Get "/configs/{id}" since 30;
    ConfigCreate "config.create" Post "/configs/create" since 30;
    ConfigUpdate "config.update" Post "/configs/{id}/update" since 30;
    ConfigRemove "config.remove" Delete "/configs/{id}" since 30;
}

/// A route with its pattern taken apart: literals with a hole between each two.
struct Route {
    operation: Operation,
    verb: Verb,
    literals: Vec<&'static str>,
    hole: Hole,
}

/// What a hole in a pattern may hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hole {
    /// `{name:.*}`
    Any,
    /// `{name:.+}`
    Some,
    /// `{name}`
    Segment,
}

impl Route {
    fn new(operation: Operation, pattern: &'static str) -> Self {
        let hole = match pattern {
            _ if pattern.contains(":.*}") => Hole::Any,
            _ if pattern.contains(":.+}") => Hole::Some,
            _ => Hole::Segment,
        };
        let literals = pattern
            .split('{')
            .map(|part| part.split_once('}').map_or(part, |(_, after)| after))
            .collect();
        Self {
            operation,
            verb: operation.verb(),
            literals,
            hole,
        }
    }

    /// The names in `path`, if it has this route's form. Patterns with a greedy hole have only that one.
    fn capture<'p>(&self, path: &'p str) -> Option<(&'p str, &'p str)> {
        match *self.literals.as_slice() {
            [whole] => (path == whole).then_some(("", "")),
            [before, after] => {
                let name = path.strip_prefix(before)?.strip_suffix(after)?;
                self.fits(name).then_some((name, ""))
            }
            [before, between, after] => {
                let names = path.strip_prefix(before)?.strip_suffix(after)?;
                let (first, second) = names.split_once(between)?;
                (self.fits(first) && self.fits(second)).then_some((first, second))
            }
            _ => None,
        }
    }

    fn fits(&self, name: &str) -> bool {
        match self.hole {
            Hole::Any => !name.contains('\n'),
            Hole::Some => !name.is_empty() && !name.contains('\n'),
            Hole::Segment => !name.is_empty() && !name.contains('/'),
        }
    }
}

/// Routes in the engine's order where two can match one path: checkpoints before containers.
static TABLE: LazyLock<Vec<Route>> = LazyLock::new(|| {
    let first = Operation::CheckpointDelete;
    let rest = Operation::ALL
        .iter()
        .copied()
        .filter(|operation| *operation != first);
    std::iter::once(first)
        .chain(rest)
        .map(|operation| Route::new(operation, operation.pattern()))
        .chain([Route::new(Operation::NetworkList, "/networks/")])
        .collect()
});

/// Finds the operation of a request. `path` and `query` are as they stand in the request line.
pub fn lookup(method: &Method, path: &str, query: Option<&str>) -> Lookup {
    if method == Method::OPTIONS && path == "*" {
        return Lookup::Options { version: None };
    }
    if !escapes_are_valid(path) {
        return Lookup::Undecodable;
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let clean = clean(&decoded);
    if clean != decoded {
        let query = query.filter(|query| !query.is_empty());
        let path = utf8_percent_encode(&clean, IN_PATH).to_string();
        return Lookup::Redirect(query.map_or(path.clone(), |query| format!("{path}?{query}")));
    }
    let (version, rest) = split_version_prefix(&decoded);
    let version = version.map(str::to_owned);
    if method == Method::OPTIONS && !rest.contains('\n') {
        return Lookup::Options { version };
    }
    let Some(verb) = verb(method) else {
        return Lookup::NotFound;
    };
    let found = TABLE
        .iter()
        .filter(|route| route.verb == verb)
        .find_map(|route| route.capture(rest).map(|names| (route.operation, names)));
    match found {
        Some((operation, (name, checkpoint))) => Lookup::Found(Match {
            operation,
            version,
            name: name.to_owned(),
            checkpoint: checkpoint.to_owned(),
        }),
        None => Lookup::NotFound,
    }
}

fn verb(method: &Method) -> Option<Verb> {
    Some(match method.as_str() {
        "GET" => Verb::Get,
        "HEAD" => Verb::Head,
        "POST" => Verb::Post,
        "PUT" => Verb::Put,
        "DELETE" => Verb::Delete,
        _ => return None,
    })
}

impl Operation {
    /// The method of the operation.
    pub fn method(self) -> Method {
        match self.verb() {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Delete => Method::DELETE,
        }
    }

    /// The path of the operation on an engine, such as `/v1.44/containers/<id>/json`: the version, then
    /// [`Self::target`].
    pub fn path(self, version: ApiVersion, names: &[&str]) -> String {
        format!("/v{version}{}", self.target(names))
    }

    /// The path of the operation without a version, such as `/containers/<id>/json`.
    ///
    /// `names` fill the pattern in order and are escaped here; slashes stay, as image names have them. A name the
    /// pattern has no place for is ignored, a missing one is empty.
    pub fn target(self, names: &[&str]) -> String {
        let mut path = String::new();
        let mut names = names.iter();
        for (index, literal) in Route::new(self, self.pattern()).literals.iter().enumerate() {
            if index > 0 {
                path.extend(utf8_percent_encode(
                    names.next().copied().unwrap_or_default(),
                    IN_PATH,
                ));
            }
            path.push_str(literal);
        }
        path
    }
}

/// What Go escapes when it writes a path: all but letters, digits and these.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

fn escapes_are_valid(path: &str) -> bool {
    path.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// gorilla/mux's `cleanPath`: Go's `path.Clean` with the trailing slash put back.
fn clean(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            name => kept.push(name),
        }
    }
    let mut clean = format!("/{}", kept.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `request` is `METHOD path[?query]`; the answer is written as one line.
    fn told(request: &str) -> String {
        let (method, target) = request.split_once(' ').expect("a method and a target");
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        match lookup(&method.parse().expect("a method"), path, query) {
            Lookup::Found(found) => {
                let version = found.version.map_or(String::new(), |v| format!("v{v} "));
                let checkpoint = match found.checkpoint.as_str() {
                    "" => String::new(),
                    checkpoint => format!(" {checkpoint:?}"),
                };
                format!(
                    "{version}{} {:?}{checkpoint}",
                    found.operation.name(),
                    found.name
                )
            }
            other => format!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(request: &str, expected: &str) {
        assert_eq!(told(request), expected, "{request}");
    }

    #[test]
    fn names_hold_slashes_and_take_as_much_as_they_can() {
        check("GET /v1.41/containers/json", "v1.41 container.list \"\"");
        check("GET /containers/web/json", "container.inspect \"web\"");
        check(
            "GET /containers/host1/web/json",
            "container.inspect \"host1/web\"",
        );
        check(
            "GET /containers/a/json/json",
            "container.inspect \"a/json\"",
        );
        check(
            "GET /containers/web/attach/ws",
            "container.attach_ws \"web\"",
        );
        check(
            "GET /images/reg.example:5000/a/b@sha256:00/json",
            "image.inspect \"reg.example:5000/a/b@sha256:00\"",
        );
        check("GET /images/get?names=a", "image.save_many \"\"");
        check("GET /images/a/b/get", "image.save \"a/b\"");
        check(
            "GET /distribution/library/busybox:latest/json",
            "distribution.inspect \"library/busybox:latest\"",
        );
        check("DELETE /images/a/b:c", "image.remove \"a/b:c\"");
        check("POST /exec/abc/start", "exec.start \"abc\"");
    }

    #[test]
    fn a_container_may_be_called_like_a_part_of_a_path() {
        for name in [
            "json",
            "containers",
            "v1",
            "v1.41",
            "prune",
            "create",
            "archive",
            "checkpoints",
        ] {
            check(
                &format!("GET /containers/{name}/json"),
                &format!("container.inspect {name:?}"),
            );
            check(
                &format!("POST /containers/{name}/start"),
                &format!("container.start {name:?}"),
            );
            check(
                &format!("DELETE /v1.51/containers/{name}"),
                &format!("v1.51 container.remove {name:?}"),
            );
        }
        check("GET /networks/create", "network.inspect \"create\"");
        check("GET /volumes/prune", "volume.inspect \"prune\"");
        check("GET /services/create", "service.inspect \"create\"");
    }

    #[test]
    fn checkpoints_are_deleted_by_single_segments_only() {
        check(
            "DELETE /containers/a/checkpoints/b",
            "checkpoint.delete \"a\" \"b\"",
        );
        check(
            "DELETE /containers/n/a/checkpoints/b",
            "container.remove \"n/a/checkpoints/b\"",
        );
        check(
            "DELETE /containers/a/checkpoints/b/c",
            "container.remove \"a/checkpoints/b/c\"",
        );
        check("GET /containers/n/a/checkpoints", "checkpoint.list \"n/a\"");
    }

    #[test]
    fn paths_are_decoded_then_cleaned_by_a_redirect() {
        check(
            "GET /containers/host1%2fweb/json",
            "container.inspect \"host1/web\"",
        );
        check("GET /containers/%77eb/json", "container.inspect \"web\"");
        check("GET /containers/..%2f..%2f/json", "Redirect(\"/json\")");
        check(
            "GET //containers/json?all=1",
            "Redirect(\"/containers/json?all=1\")",
        );
        check("POST /containers//json", "Redirect(\"/containers/json\")");
        check(
            "GET /containers/a/../b%20c/json",
            "Redirect(\"/containers/b%20c/json\")",
        );
        check("GET /networks/", "network.list \"\"");
        check("GET /containers/json/", "NotFound");
        check("GET /volumes/", "volume.inspect \"\"");
        check("DELETE /containers/", "container.remove \"\"");
        check("DELETE /containers/web/", "container.remove \"web/\"");
        check("GET /containers/%zz/json", "Undecodable");
        check("GET /containers/a%2", "Undecodable");
        check("GET /containers/a%0ab/json", "NotFound");
    }

    #[test]
    fn what_has_no_route_is_not_found_whatever_its_version() {
        check("GET /", "NotFound");
        check("GET /v1.41", "NotFound");
        check("GET /v1.41/", "NotFound");
        check("GET /v9.9/nothing", "NotFound");
        check("PATCH /containers/json", "NotFound");
        check("HEAD /containers/json", "NotFound");
        check("POST /containers/web/copy", "NotFound");
        check("GET /containers/ps", "NotFound");
        check("GET /services/a/b", "NotFound");
        check("OPTIONS /nothing", "Options { version: None }");
        check("OPTIONS *", "Options { version: None }");
        check("OPTIONS /v1.24/x", "Options { version: Some(\"1.24\") }");
    }

    #[test]
    fn every_operation_is_found_by_the_path_it_builds() {
        for &operation in Operation::ALL {
            let path = operation.path(ApiVersion::MAX, &["one", "two"]);
            let Lookup::Found(found) = lookup(&operation.method(), &path, None) else {
                panic!("{path} has no route");
            };
            assert_eq!(found.operation, operation, "{path}");
        }
        let built = Operation::ContainerInspect.path(ApiVersion::new(1, 44), &["a b/ü%?"]);
        assert_eq!(built, "/v1.44/containers/a%20b/%C3%BC%25%3F/json");
    }

    proptest! {
        #[test]
        fn no_path_breaks_the_lookup(path in "[/%.a-z0-9\\PC]{0,40}") {
            let _ = lookup(&Method::GET, &path, Some("x"));
        }

        #[test]
        fn a_name_survives_the_way_to_an_engine_and_back(name in "[a-zA-Z0-9 %?#üß:@+_-]{1,20}") {
            let path = Operation::ImageInspect.path(ApiVersion::MAX, &[&name]);
            let Lookup::Found(found) = lookup(&Method::GET, &path, None) else { panic!("{path}") };
            prop_assert_eq!(found.name, name);
        }
    }
}
