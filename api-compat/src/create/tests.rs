use proptest::prelude::*;

use super::*;

fn refused(body: &str) -> String {
    let read = Body::parse(body.as_bytes()).and_then(|body| body.read().map(|_| ()));
    read.map_or_else(|error| error.message, |()| "read".to_owned())
}

#[test]
fn networks_are_told_in_their_engines_terms() {
    #[track_caller]
    fn check(body: &str, expected: &str) {
        let mut edited = Body::parse(body.as_bytes()).expect("a body");
        edited.set_networks(|reference| {
            matches!(reference, "front" | "f1" | "n1/front").then(|| Joined {
                name: "front".to_owned(),
                id: "e1".to_owned(),
            })
        });
        let edited = String::from_utf8(edited.finish()).expect("text");
        assert_eq!(edited, expected);
    }
    let body = |mode: &str, endpoints: &str| {
        format!(
            r#"{{"Image":"i","HostConfig":{{"NetworkMode":{mode}}},"NetworkingConfig":{{"EndpointsConfig":{endpoints}}}}}"#
        )
    };
    let same = body(r#""front""#, r#"{"front":{"Aliases":["a"]}, "other":null}"#);
    check(&same, &same);
    let same = body(r#""bridge""#, r#"{"bridge":{"NetworkID":"f1"}}"#);
    check(&same, &same);
    check(
        &body(r#""f1""#, r#"{"f1":{"Aliases":["a"]}, "other":null}"#),
        &body(r#""front""#, r#"{"other":null,"front":{"Aliases":["a"]}}"#),
    );
    check(
        &body(
            r#""n1/front""#,
            r#"{"front":{"NetworkID" : "f1","IPAMConfig":{}}}"#,
        ),
        &body(
            r#""front""#,
            r#"{"front":{"NetworkID" : "e1","IPAMConfig":{}}}"#,
        ),
    );
    check(
        &body(r#""front""#, r#"{"front":{"networkid":"f1"},"f1":null}"#),
        &body(r#""front""#, r#"{"front":{"networkid":"e1"},"front":null}"#),
    );
    check(r#"{"Image":"i"}"#, r#"{"Image":"i"}"#);
}

#[test]
fn mounted_images_are_told_in_their_engines_terms() {
    let mounts = |first: &str| {
        format!(
            r#"{{"Image":"it","HostConfig":{{"Mounts":[{{"Type":"image","Source":"{first}","Target":"/a"}},{{"Type":"volume","Source":"it"}}]}}}}"#
        )
    };
    let body = mounts("it");
    let mut edited = Body::parse(body.as_bytes()).expect("a body");
    edited.set_mounted_images(|reference| (reference == "it").then(|| "sha256:aa".to_owned()));
    let edited = String::from_utf8(edited.finish()).expect("text");
    assert_eq!(edited, mounts("sha256:aa"));
}

#[test]
fn containers_are_told_in_their_engines_terms() {
    #[track_caller]
    fn check(body: &str, expected: &str) {
        let mut edited = Body::parse(body.as_bytes()).expect("a body");
        edited.set_needs(|reference| Some(reference.strip_prefix("n1/")?.to_owned()));
        let edited = String::from_utf8(edited.finish()).expect("text");
        assert_eq!(edited, expected);
    }
    let host = |members: &str| format!(r#"{{"Image":"i","HostConfig":{{{members}}}}}"#);
    for field in ["NetworkMode", "PidMode", "IpcMode"] {
        let mode = |mode: &str| host(&format!(r#""{field}":"{mode}""#));
        check(&mode("container:n1/db"), &mode("container:db"));
        check(&mode("container:db"), &mode("container:db"));
        check(&mode("n1/db"), &mode("n1/db"));
        check(&mode("host"), &mode("host"));
    }
    check(
        &host(
            r#""volumesFrom":["n1/db:ro","db","n1/db"],"Links":["n1/db:alias","n1/db","/db:/x/db"]"#,
        ),
        &host(r#""volumesFrom":["db:ro","db","db"],"Links":["db:alias","db","/db:/x/db"]"#),
    );
    let endpoint = |link: &str| {
        format!(
            r#"{{"Image":"i","NetworkingConfig":{{"EndpointsConfig":{{"front":{{"Links":["{link}"]}},"back":null}}}}}}"#
        )
    };
    check(&endpoint("n1/db:alias"), &endpoint("db:alias"));
    let same = host(r#""PidMode":null,"Links":null,"VolumesFrom":"n1/db""#);
    check(&same, &same);
    check(r#"{"Image":"i"}"#, r#"{"Image":"i"}"#);
}

#[test]
fn a_body_without_a_config_is_refused() {
    let empty = "config cannot be empty in order to create a container";
    for (body, said) in [
        ("", "invalid JSON: got EOF while reading request body"),
        (
            r#"{"Image":5}"#,
            "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string",
        ),
        (
            r#"{"Labels":[]}"#,
            "invalid JSON: json: cannot unmarshal array into Go struct field .Labels of type map[string]string",
        ),
        (" \n", "invalid JSON: got EOF while reading request body"),
        ("{", "invalid JSON: unexpected EOF"),
        (
            "x",
            "invalid JSON: invalid character 'x' looking for beginning of value",
        ),
        (
            "5",
            "invalid JSON: json: cannot unmarshal number into Go value of type container.CreateRequest",
        ),
        ("{}", empty),
        ("null", empty),
        (r#"{"HostConfig":{}}"#, empty),
        (r#"{"Foo":1}"#, empty),
        (r#"{"Image":"a"} {}"#, "unexpected content after JSON"),
        (
            "[]",
            "invalid JSON: json: cannot unmarshal array into Go value of type container.CreateRequest",
        ),
        (
            r#"{"Image":"a","IMAGE":"b"}"#,
            "invalid JSON: the field \"IMAGE\" is given twice",
        ),
        (
            r#"{"Cmd":[],"HostConfig":{"PortBindings":{"1/tcp":[{"HostPort":"1","hostPort":"2"}]}}}"#,
            "invalid JSON: the field \"hostPort\" is given twice",
        ),
        (
            r#"{"Cmd":[],"HostConfig":{"DeviceRequests":[{"Count":1,"count":2}]}}"#,
            "invalid JSON: the field \"count\" is given twice",
        ),
        (r#"{"Image":"x","Labels":{"a":"1","A":"2"}}"#, "read"),
        (
            r#"{"Labels":{"a":"1","a":"2"}}"#,
            "invalid JSON: the field \"a\" is given twice",
        ),
        (r#"{"image":"a"}"#, "read"),
        (r#"{"Cmd":null}"#, "no command specified"),
        (r#"{"Cmd":["a"]}"#, "read"),
        (
            r#"{"Image":"a","HostConfig":{"PortBindings":{"x/tcp":[]}}}"#,
            "invalid port specification: \"x\"",
        ),
        (
            r#"{"Image":"a","HostConfig":{"PortBindings":{"1/tcp":[{"HostPort":"9-8"}]}}}"#,
            "invalid port specification: \"9-8\"",
        ),
    ] {
        assert_eq!(refused(body), said, "{body}");
    }
}

#[test]
fn headers_and_names_are_refused_in_the_engines_words() {
    let header =
        |value, has_body| check_content_type(value, has_body).map_err(|error| error.message);
    assert_eq!(header(None, false), Ok(()));
    assert_eq!(
        header(Some("application/json; charset=utf-8"), true),
        Ok(())
    );
    assert_eq!(
        header(None, true),
        Err("malformed Content-Type header (): mime: no media type".to_owned())
    );
    assert_eq!(
        header(Some("text/plain"), true),
        Err("unsupported Content-Type header (text/plain): must be 'application/json'".to_owned())
    );
    for good in ["web", "/web", "a1", "A_.-"] {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for bad in ["", "/", "a", "host1/web", "-ab", "//ab", "a b", "ä1"] {
        let said = check_name(bad).map_err(|error| error.message);
        assert_eq!(
            said,
            Err(format!(
                "Invalid container name ({bad}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            ))
        );
    }
}

#[test]
fn placing_reads_all_it_needs() {
    let body = r#"{"Image":"busybox","Env":["a=b"],"Labels":{"x":"y"},"ExposedPorts":{"80/tcp":{}},"New":1,
        "HostConfig":{"Memory":64,"NanoCpus":5,"NetworkMode":"front","PidMode":"container:p","IpcMode":"shareable",
          "Links":["db:alias"],"VolumesFrom":["src:ro"],"AutoRemove":true,"RestartPolicy":{"Name":"always"},
          "Binds":["data:/data:ro","/etc:/etc","/anonymous","/var/run/docker.sock:/s","/no:target"],
          "Mounts":[{"Type":"volume","Source":"v","VolumeOptions":{"Labels":{"l":"m"},"DriverConfig":{"Name":"nfs","Options":{"o":"p"}}}},
                    {"Type":"volume","Target":"/t"},{"Type":"bind","Source":"/home"},{"Type":"tmpfs"},{"Type":"image","Source":"files:1"}],
          "PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"},{"HostPort":""}],
                          "53/udp":[{"HostPort":"5000-5010"}],"1/tcp":null}},
        "NetworkingConfig":{"EndpointsConfig":{"front":{},"back":null,"default":{}}}}"#;
    let create = Body::parse(body.as_bytes())
        .and_then(|body| body.read())
        .expect("a body");
    assert_eq!(
        (
            &*create.image,
            create.claim.memory_bytes,
            create.claim.cpu_nanos
        ),
        ("busybox", 64, 5)
    );
    let ports: Vec<_> = create
        .host_ports
        .iter()
        .map(|p| format!("{}[{}] {} {:?}", p.key, p.index, p.address, p.wanted))
        .collect();
    assert_eq!(
        ports,
        [
            "80/tcp[0] 127.0.0.1 Number(8080)",
            "80/tcp[1]  Random",
            "53/udp[0]  Range(5000, 5010)"
        ]
    );
    let needs: Vec<_> = create
        .needs
        .iter()
        .map(|need| format!("{:?} {}", need.kind, need.container))
        .collect();
    assert_eq!(needs, ["Link db", "VolumesFrom src", "Pid p"]);
    let volumes: Vec<_> = create
        .volumes
        .iter()
        .map(|v| format!("{} {} {:?} {:?}", v.name, v.driver, v.options, v.labels))
        .collect();
    assert_eq!(
        volumes,
        ["data  [] []", r#"v nfs [("o", "p")] [("l", "m")]"#]
    );
    assert_eq!(create.host_paths, ["/etc", "/var/run/docker.sock", "/home"]);
    assert_eq!(create.mounted_images, ["files:1"]);
    assert_eq!(create.networks, ["front", "back"]);
    assert!(create.mounts_engine_socket() && create.auto_remove && !create.publish_all);
}

#[test]
fn the_default_network_is_no_wish() {
    let network = |mode: &str| {
        let body = format!(
            r#"{{"Image":"a","HostConfig":{{"NetworkMode":"{mode}"}},"NetworkingConfig":{{"EndpointsConfig":{{"default":{{}}}}}}}}"#
        );
        let create = Body::parse(body.as_bytes()).and_then(|body| {
            body.read()
                .map(|c| format!("{:?} {:?}", c.network_mode, c.networks))
        });
        create.expect("a body")
    };
    assert_eq!(network("default"), "Default []");
    assert_eq!(network("bridge"), "Default []");
    assert_eq!(network("host"), "Host []");
    assert_eq!(network("container:x"), "Container(\"x\") []");
    assert_eq!(network("front"), "Named(\"front\") [\"front\"]");
}

#[track_caller]
fn changed(body: &str, expected: &str) {
    let mut edit = Body::parse(body.as_bytes()).expect("a body");
    edit.add_labels(&[("i", "1"), ("c", "2")]);
    edit.set_host_port("80/tcp", 1, 20000);
    assert_eq!(String::from_utf8(edit.finish()).expect("text"), expected);
}

#[test]
fn labels_and_ports_are_put_into_the_bytes() {
    changed(
        r#"{"Image":"a" }"#,
        r#"{"Image":"a","Labels":{"i":"1","c":"2"} }"#,
    );
    changed(
        r#"{"Image":"a","labels":null}"#,
        r#"{"Image":"a","labels":{"i":"1","c":"2"}}"#,
    );
    changed(
        r#"{"Labels":{},"X":1.0}"#,
        r#"{"Labels":{"i":"1","c":"2"},"X":1.0}"#,
    );
    changed(
        r#"{"Labels":{"i":"old","z":"y"}}"#,
        r#"{"Labels":{"i":"1","z":"y","c":"2"}}"#,
    );
    changed(
        r#"{"Labels":{},"HostConfig":{"PortBindings":{"80/tcp":[{},{"HostIp":"","HostPort":""}]}}}"#,
        r#"{"Labels":{"i":"1","c":"2"},"HostConfig":{"PortBindings":{"80/tcp":[{},{"HostIp":"","HostPort":"20000"}]}}}"#,
    );
}

#[test]
fn exposed_ports_are_bound() {
    let bound = |body: &str| {
        let mut body = Body::parse(body.as_bytes()).expect("a body");
        let wanted = body.read().expect("readable");
        let keys: Vec<_> = wanted
            .published_besides()
            .map(|port| port.0.to_owned())
            .collect();
        let ports: Vec<_> = keys.iter().map(|key| (&**key, 20_000)).collect();
        body.bind_ports(&ports);
        String::from_utf8(body.finish()).expect("text")
    };
    let none = r#"{"Image":"a","ExposedPorts":{"80/tcp":{}},"HostConfig":{}}"#;
    assert_eq!(bound(none), none);
    for (bindings, all) in [
        (
            "",
            r#","PortBindings":{"53/udp":[{"HostPort":"20000"}],"80/tcp":[{"HostPort":"20000"}]}"#,
        ),
        (
            r#","PortBindings":{}"#,
            r#","PortBindings":{"53/udp":[{"HostPort":"20000"}],"80/tcp":[{"HostPort":"20000"}]}"#,
        ),
        (
            r#","PortBindings":null"#,
            r#","PortBindings":{"53/udp":[{"HostPort":"20000"}],"80/tcp":[{"HostPort":"20000"}]}"#,
        ),
        (
            r#","PortBindings":{"80/tcp":[{"HostPort":"1"}]}"#,
            r#","PortBindings":{"80/tcp":[{"HostPort":"1"}],"53/udp":[{"HostPort":"20000"}]}"#,
        ),
    ] {
        let body = |bindings: &str| {
            format!(
                r#"{{"Image":"a","ExposedPorts":{{"80/tcp":{{}},"53/udp":{{}},"x":{{}}}},"HostConfig":{{"PublishAllPorts":true{bindings}}}}}"#
            )
        };
        assert_eq!(bound(&body(bindings)), body(all));
    }
}

proptest! {
    #[test]
    fn no_body_breaks_it(body in r#"\{("(Image|HostConfig|Labels|hostconfig|Binds)":[\[\]{}:,"a0]{0,8},?){0,3}\}?"#) {
        if let Ok(mut parsed) = Body::parse(body.as_bytes()) {
            let _ = parsed.read();
            parsed.add_labels(&[("a", "b")]);
            prop_assert!(View::parse(&parsed.finish()).is_ok());
        }
    }
}

#[test]
fn volumes_without_a_name_are_noticed() {
    let check = |config: &str, host: &str, expected: bool| {
        let body = format!(r#"{{"Image":"x"{config},"HostConfig":{host}}}"#);
        let body = Body::parse(body.as_bytes()).expect("a body");
        let create = body.read().expect("readable");
        assert_eq!(create.anonymous_volumes, expected, "{config} {host}");
    };
    let paths = r#","Volumes":{"/data/":{}}"#;
    check("", "null", false);
    check(paths, "null", true);
    check(paths, r#"{"Binds":["db:/data"]}"#, false);
    check(paths, r#"{"Binds":["db:/other"]}"#, true);
    check("", r#"{"Binds":["/data"]}"#, true);
    check(
        paths,
        r#"{"Mounts":[{"Type":"tmpfs","Target":"/data"}]}"#,
        false,
    );
    check(
        "",
        r#"{"Mounts":[{"Type":"volume","Target":"/data"}]}"#,
        true,
    );
    check(
        "",
        r#"{"Mounts":[{"Type":"volume","Source":"db","Target":"/data"}]}"#,
        false,
    );
}
