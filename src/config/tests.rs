use super::settings::variable;
use super::*;
use clap::{Args as _, Command, FromArgMatches as _};

fn flags(line: &str) -> Settings {
    let command = Settings::augment_args(Command::new("serve").no_binary_name(true));
    let matches = command
        .try_get_matches_from(line.split_whitespace())
        .expect("known flags");
    Settings::from_arg_matches(&matches).expect("settings")
}

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Surroundings {
        root: true,
        variables: variables.iter().map(pair).collect(),
    }
}

fn config(line: &str) -> Config {
    Config::resolve(flags(line), None, &surroundings(&[])).expect("sound")
}

fn refused(line: &str) -> String {
    Config::resolve(flags(line), None, &surroundings(&[]))
        .expect_err(line)
        .to_string()
}

fn from_file(content: &str) -> Result<Config, Error> {
    let file = Some((PathBuf::from("f.toml"), content.to_owned()));
    Config::resolve(Settings::default(), file, &surroundings(&[]))
}

#[test]
fn without_settings_it_pools_the_local_engine() {
    let root = config("");
    assert_eq!(root.listen, [Listen::Unix("/run/flotilla.sock".into())]);
    assert_eq!(root.engines.len(), 1);
    assert_eq!(
        root.engines[0].endpoint.to_string(),
        "unix:///var/run/docker.sock"
    );
    assert_eq!(root.data, Path::new("/var/lib/flotilla"));
    assert_eq!(
        (root.drain, root.node_timeout),
        (duration_of(10), duration_of(3))
    );
    assert_eq!((root.max_body, root.names), (16 << 20, Names::Bare));
    assert_eq!(
        root.log,
        Log {
            format: LogFormat::Text,
            filter: "info".to_owned()
        }
    );

    let user = |variables| {
        let surroundings = Surroundings {
            root: false,
            ..surroundings(variables)
        };
        Config::resolve(Settings::default(), None, &surroundings)
    };
    let session = user(&[("XDG_RUNTIME_DIR", "/run/user/7"), ("HOME", "/home/x")]);
    let session = session.expect("sound");
    assert_eq!(
        session.listen,
        [Listen::Unix("/run/user/7/flotilla.sock".into())]
    );
    assert_eq!(session.data, Path::new("/home/x/.local/share/flotilla"));
    let bare = user(&[]).expect_err("no place").to_string();
    assert!(bare.ends_with("--listen unix:///PATH"), "{bare}");
    let no_home = user(&[("XDG_RUNTIME_DIR", "/run/user/7")]).expect_err("no place");
    assert!(no_home.to_string().ends_with("--data DIR"), "{no_home}");
}

fn duration_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn flags_win_over_the_environment_over_the_file() {
    let file = "drain = 1\nnode-timeout = \"4s\"\nlog = \"warn\"\nlisten = \"unix:///f.sock\"";
    let variables = [
        ("FLOTILLA_DRAIN", "2"),
        ("FLOTILLA_NODE_TIMEOUT", "5s"),
        (
            "FLOTILLA_ENGINE",
            "a=tcp://10.0.0.1:2375, tcp://10.0.0.2:2375",
        ),
    ];
    let config = Config::resolve(
        flags("--drain 3"),
        Some((PathBuf::from("f.toml"), file.to_owned())),
        &surroundings(&variables),
    );
    let config = config.expect("sound");
    assert_eq!(
        (config.drain, config.node_timeout),
        (duration_of(3), duration_of(5))
    );
    assert_eq!(config.log.filter, "warn");
    assert_eq!(config.listen, [Listen::Unix("/f.sock".into())]);
    let engines: Vec<_> = config
        .engines
        .iter()
        .map(|engine| engine.endpoint.to_string())
        .collect();
    assert_eq!(engines, ["tcp://10.0.0.1:2375", "tcp://10.0.0.2:2375"]);
    let given = config.given_names();
    let given: Vec<_> = given.values().map(NodeName::as_str).collect();
    assert_eq!(given, ["a"]);
}

#[test]
fn every_flag_is_a_variable_and_a_key() {
    let command = Settings::augment_args(Command::new("serve"));
    for arg in command.get_arguments() {
        let key = arg.get_long().expect("all flags are long");
        let value = match key {
            "listen" => "unix:///x.sock",
            "engine" => "tcp://x:1",
            "engine-tls" => "/x",
            "address" => "10.0.0.1",
            "data" => "/x",
            "names" => "node",
            "entry-point" => "off",
            "random-ports" => "4000-5000",
            "missing-bind" => "create",
            "pull-to" | "slots" => "2",
            "strategy" => "binpack",
            "survive-node-loss" => "warn",
            "reserve-cpu" | "overcommit" | "default-cpu" => "0.5",
            "reserve-memory" | "default-memory" => "64m",
            "log-format" => "json",
            "log" => "debug",
            "drain" | "node-timeout" => "7s",
            "max-body" => "1m",
            "api-advertise" => "1.44",
            _ => "x",
        };
        // What is for tcp:// engines only changes nothing without one.
        let base = match key {
            "engine-tls" => "--engine=tcp://x:1",
            _ => "",
        };
        let default = config(base);
        let flag = config(&format!("{base} --{key}={value}"));
        assert_ne!(flag, default, "--{key} changes nothing");
        // A number needs no quotes; a version is none, for 1.40 is not 1.4.
        let is_number = value.parse::<f64>().is_ok() && key != "api-advertise";
        let bare = is_number.then(|| value.to_owned());
        for value in std::iter::once(format!("\"{value}\"")).chain(bare) {
            let file = (PathBuf::from("f.toml"), format!("{key} = {value}"));
            let file = Config::resolve(flags(base), Some(file), &surroundings(&[]));
            assert_eq!(file.expect(key), flag);
        }
        let surroundings = surroundings(&[(&variable(key), value)]);
        let variable = Config::resolve(flags(base), None, &surroundings);
        assert_eq!(variable.expect(key), flag);
    }
}

#[test]
fn a_file_is_told_what_is_wrong_with_it() {
    let problem = |content| from_file(content).expect_err(content).to_string();
    let unknown = problem("drain = 1\nlisen = \"unix:///x\"");
    assert!(
        unknown.starts_with("f.toml, line 2: unknown field `lisen`"),
        "{unknown}"
    );
    let kind = problem("drain = true");
    assert_eq!(kind, "f.toml, line 1: expected a text or a number");
    let count = problem("pull-to = \"0\"");
    assert_eq!(
        count,
        "`pull-to` in f.toml: `0` must be `all` or the number of nodes, 1 or more"
    );
    let strategy = problem("strategy = \"most\"");
    assert!(
        strategy.contains("it is spread, binpack or random"),
        "{strategy}"
    );
    let overcommit = problem("overcommit = \"5%\"");
    assert!(
        overcommit.ends_with("as in 0.05 for 5 % more"),
        "{overcommit}"
    );
    let cpus = problem("reserve-cpu = \"-1\"");
    assert!(
        cpus.ends_with("`-1` is no number of CPUs such as 2 or 0.5"),
        "{cpus}"
    );
    let bare = problem("reserve-cpu = -0.25");
    assert!(
        bare.ends_with("`-0.25` is no number of CPUs such as 2 or 0.5"),
        "{bare}"
    );
    let whole = problem("overcommit = -1");
    assert!(whole.contains("`-1` must be a share"), "{whole}");
    let slots = problem("slots = 0");
    assert!(
        slots.ends_with("`0` must be a number of containers, 1 or more"),
        "{slots}"
    );
    let value = problem("names = \"long\"");
    assert_eq!(value, "`names` in f.toml: `long` must be `bare` or `node`");
    let load = |path: &str| {
        let file = Some(PathBuf::from(path));
        Config::load(Settings::default(), file, &surroundings(&[]))
    };
    let missing = load("/nowhere/f.toml").expect_err("missing").to_string();
    assert!(
        missing.starts_with("cannot read the settings in /nowhere/f.toml: No such"),
        "{missing}"
    );
}

#[test]
fn tcp_beyond_loopback_is_refused_with_a_way_out() {
    let loopback = config("--listen tcp://localhost:2375 --listen tcp://[::1]:2375");
    let shown: Vec<_> = loopback.listen.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["tcp://127.0.0.1:2375", "tcp://[::1]:2375"]);
    for open in [
        "tcp://0.0.0.0:2375",
        "tcp://[::]:2375",
        "tcp://10.0.0.5:2375",
    ] {
        let text = refused(&format!("--listen {open}"));
        assert!(
            text.starts_with(&format!("--listen: {open} can be reached")),
            "{text}"
        );
        assert!(
            text.ends_with("`ssh -L 2375:127.0.0.1:2375 HOST`"),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_is_explained() {
    let check = |line: &str, expected: &str| assert_eq!(refused(line), expected);
    check(
        "--listen /x.sock",
        "--listen: /x.sock must begin with unix:// or tcp://",
    );
    check(
        "--listen unix://x.sock",
        "--listen: unix://x.sock is no path of a socket: it must be absolute, as in \
         unix:///run/flotilla.sock",
    );
    check(
        "--listen tcp://127.0.0.1",
        "--listen: tcp://127.0.0.1 must be an IP address and a port, as in \
         tcp://127.0.0.1:2375",
    );
    check(
        "--listen unix:///x --listen unix:///x",
        "--listen: unix:///x is given twice",
    );
    check(
        "--engine tcp://h:1 --engine a=tcp://h:1",
        "--engine: tcp://h:1 is given twice",
    );
    check(
        "--engine tcp://h:1 --engine tcp://h:1?tls=/x",
        "--engine: tcp://h:1 is given twice",
    );
    check(
        "--engine ssh://-h",
        "--engine: `ssh://-h` is not an engine's address: the host must begin with a letter or \
         digit and go on with these and ._-",
    );
    check(
        "--engine a=tcp://h:1 --engine a=tcp://i:1",
        "--engine: two engines are called a",
    );
    check(
        "--listen unix:///var/run/docker.sock",
        "--engine: unix:///var/run/docker.sock is where flotilla itself would listen: let one \
         of them be elsewhere",
    );
    check(
        "--listen tcp://127.0.0.1:1 --engine tcp://localhost:1",
        "--engine: tcp://localhost:1 is where flotilla itself would listen: let one of them be \
         elsewhere",
    );
    check("--data x", "--data: x must be an absolute path");
    check(
        "--node-timeout 1s",
        "--node-timeout: 1s is too short: nodes are asked once a second; give 2s or more",
    );
    check(
        "--drain soon",
        "--drain: `soon` is no time such as 10, 500ms or 1m 30s",
    );
    check(
        "--max-body 1x",
        "--max-body: `1x` is no size such as 16MiB, 1.5g or 4096",
    );
    check(
        "--max-body 0",
        "--max-body: `0` is no size such as 16MiB, 1.5g or 4096",
    );
    check(
        "--api-advertise 1.99",
        "--api-advertise: `1.99` is not an API version from 1.24 to 1.51",
    );
    assert!(refused("--log x=y=z").starts_with("--log: `x=y=z` is neither a level"));
    assert!(refused("--engine docker").starts_with("--engine: `docker` is not an engine's"));
    assert!(refused("--engine a/b=tcp://h:1").starts_with("--engine: `a/b` is not a node name"));
}

#[test]
fn an_address_belongs_to_one_engine() {
    let only = config("--address 10.0.0.5");
    assert_eq!(only.engines[0].address.as_deref(), Some("10.0.0.5"));
    let two = "--engine a=tcp://h:1 --engine unix:///x=y.sock";
    let given = config(&format!("{two} --address a=fd00::1"));
    assert_eq!(given.engines[0].address.as_deref(), Some("fd00::1"));
    assert_eq!(given.engines[1].name, None);
    let check = |rest: &str, expected: &str| {
        assert_eq!(
            refused(&format!("{two} {rest}")),
            format!("--address: {expected}")
        );
    };
    check(
        "--address 10.0.0.5",
        "10.0.0.5 does not say which engine it is of: give NAME=10.0.0.5",
    );
    check(
        "--address b=10.0.0.5",
        "no engine was given the name b: use --engine b=ADDRESS",
    );
    check(
        "--address a=h",
        "`h` is not an IP address, as in host1=10.0.0.5",
    );
    check(
        "--address a=0.0.0.0",
        "0.0.0.0 is no address that a client could reach",
    );
    check(
        "--address a=10.0.0.5 --address a=10.0.0.6",
        "tcp://h:1 has two addresses",
    );
}

#[test]
fn tls_is_for_the_engines_it_was_given_for() {
    let four = "--engine a=tcp://a:1 --engine b=tcp://b:1?tls=/own --engine c=tcp://c:1 \
                --engine s=ssh://s --engine unix:///u.sock";
    let endpoints = |rest: &str| {
        let engines = config(&format!("{four} {rest}")).engines;
        let texts = engines.iter().map(|engine| engine.endpoint.to_string());
        texts.take(3).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(endpoints(""), "tcp://a:1 tcp://b:1?tls=/own tcp://c:1");
    assert_eq!(
        endpoints("--engine-tls /all --engine-tls c=none"),
        "tcp://a:1?tls=/all tcp://b:1?tls=/own tcp://c:1"
    );
    assert_eq!(
        endpoints("--engine-tls a=/x=y --engine-tls /al=l"),
        "tcp://a:1?tls=/x=y tcp://b:1?tls=/own tcp://c:1?tls=/al=l"
    );
    let check = |rest: &str, expected: &str| {
        let text = refused(&format!("{four} {rest}"));
        assert_eq!(text, format!("--engine-tls: {expected}"));
    };
    check(
        "--engine-tls d=/x",
        "no engine was given the name d: use --engine d=ADDRESS",
    );
    check("--engine-tls s=/x", "s is ssh://s: TLS is for tcp:// only");
    check(
        "--engine-tls /x --engine-tls /y",
        "there are two folders for all engines",
    );
    check("--engine-tls a=/x --engine-tls a=none", "a is given twice");
    check(
        "--engine-tls x",
        "`x` must be the absolute path of a folder, as in /etc/flotilla/tls, or host1=none",
    );
    check(
        "--engine-tls none",
        "`none` must be the absolute path of a folder, as in /etc/flotilla/tls, or host1=none",
    );
}

#[test]
fn missing_tls_files_are_named_at_the_start() {
    let given = flags("--engine tcp://h:2376 --engine-tls /nowhere");
    let error = Config::load(given, None, &surroundings(&[])).expect_err("no files");
    assert_eq!(
        error.to_string(),
        "engine tcp://h:2376 is to be reached by TLS, which needs ca.pem, cert.pem and key.pem: \
         /nowhere/ca.pem: No such file or directory (os error 2)"
    );
}

#[test]
fn sizes_and_times_read_as_docker_reads_them() {
    for (text, bytes) in [
        ("4096", 4096),
        ("64m", 64 << 20),
        ("16MiB", 16 << 20),
        ("1 gb", 1 << 30),
        ("2.5g", 5 << 29),
        (".5K", 512),
        ("1.k", 1 << 10),
        ("1t", 1 << 40),
        ("1.5TiB", 3 << 39),
        ("2Pb", 2 << 50),
        ("0.1m", 104_857),
        ("4096.9", 4096),
        ("1.0000000000000000000000001b", 1),
    ] {
        assert_eq!(read_size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "g",
        ".",
        ".g",
        "1.2.3m",
        "-1g",
        "1e3",
        "1x",
        "1kk",
        "1bb",
        "1ki",
        "0.1",
        "1é",
        "99999999p",
        "99999999999999999999999999999999999999g",
    ] {
        assert!(read_size(text).is_err(), "{text}");
    }
    assert_eq!(duration("90"), Ok(duration_of(90)));
    assert_eq!(duration("1m 30s"), Ok(duration_of(90)));
}
