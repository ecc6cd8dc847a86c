//! Naming a container in every way there is, and listing those one means.

use anyhow::{Context, Result, ensure};
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

use crate::contains;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_container_is_found_by_all_its_names", by_all_names),
        case("an_ambiguous_prefix_is_refused", ambiguous),
        case("what_nobody_knows_is_not_found", unknown),
        case("names_that_look_like_paths_are_names", strange_names),
        case("lists_are_filtered_as_on_one_engine", filters),
        case("lists_are_limited_over_all_nodes", limits),
        case("names_carry_the_node_if_asked_for", names_with_node),
        case("a_name_that_is_anothers_is_taken_back", misnamed),
        case("twins_made_behind_our_back_are_told_apart", twins),
        case("what_is_shared_is_found_by_all_its_names", shared),
    ]
}

fn by_all_names(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let id = pool.ok("run -d --name=web busybox sleep 600")?;
    pool.ok("run -d --name=webby busybox sleep 600")?;
    let node = pool.node_of("web")?;
    let node_id = pool.ok("inspect -f {{.Node.ID}} web")?;
    let names = [
        "web".to_owned(),
        "/web".to_owned(),
        id.clone(),
        id[..12].to_owned(),
        id[..7].to_owned(),
        format!("{node}/web"),
        format!("{node_id}/web"),
    ];
    for name in &names {
        pool.says(&format!("exec {name} echo hi"), "hi")
            .context(name.clone())?;
        pool.says(&format!("container inspect -f {{{{.Id}}}} {name}"), &id)?;
    }
    let other = lab.hosts().iter().find(|host| host.name() != node);
    let other = other.context("no other host")?.name();
    pool.refuses(
        &format!("stop {other}/web"),
        &format!("No such container: {other}/web"),
    )?;
    pool.refuses("stop we", "No such container: we")?;
    pool.says(&format!("rm -f {node}/web"), &format!("{node}/web"))
}

fn ambiguous(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    // Seventeen ids, sixteen first digits: two of them begin alike.
    let mut ids: Vec<String> = Vec::new();
    let prefix = loop {
        let id = pool.ok("create busybox true")?;
        let twin = ids.iter().find(|other| other[..1] == id[..1]);
        if twin.is_some() {
            break id[..1].to_owned();
        }
        ids.push(id);
    };
    pool.refuses(
        &format!("start {prefix}"),
        &format!("multiple IDs found with provided prefix: {prefix}"),
    )?;
    let answer = pool.ask("GET", &format!("/containers/{prefix}/json"), b"")?;
    ensure!(answer.status == 400, "{answer:?}");
    Ok(())
}

fn unknown(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for line in [
        "logs nosuch",
        "start nosuch",
        "stop nosuch",
        "kill nosuch",
        "pause nosuch",
        "rm nosuch",
        "rm nosuch/nosuch",
        "top nosuch",
        "diff nosuch",
        "wait nosuch",
        "attach nosuch",
        "exec nosuch true",
        "rename nosuch other",
        "update -m 64m nosuch",
        "commit nosuch it:1",
        "cp nosuch:/x -",
        "port nosuch",
        "stats --no-stream nosuch",
    ] {
        let refusal = pool.refusal(line)?;
        let wanted = if line.contains('/') && !line.contains(':') {
            "No such container: nosuch/nosuch"
        } else {
            "No such container: nosuch"
        };
        contains(&refusal, wanted).with_context(|| format!("docker {line}"))?;
    }
    // The CLI asks for every kind of object, and comes to its own conclusion.
    pool.refuses("inspect nosuch", "No such object: nosuch")
}

fn strange_names(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for name in [
        "json",
        "containers",
        "create",
        "prune",
        "v1.41",
        "exec",
        "start",
    ] {
        let id = pool.ok(&format!("run -d --name={name} busybox sleep 600"))?;
        pool.says(&format!("inspect -f {{{{.Id}}}} {name}"), &id)?;
        pool.says(&format!("exec {name} echo hi"), "hi")?;
        pool.says(&format!("stop -t 0 {name}"), name)?;
        pool.says(&format!("rm {name}"), name)?;
    }
    pool.says("ps -aq", "")
}

fn filters(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=one -l app=web -l tier=front -p 8080:80 busybox sleep 600")?;
    pool.ok("run -d --name=two -l app=web busybox sleep 600")?;
    pool.ends_with("run --name=over -l app=job busybox sh -c 'exit 3'", 3)?;
    pool.ok("create --name=made busybox true")?;
    let first = pool.ok("inspect -f {{.Id}} one")?;
    let node = pool.node_of("one")?;
    let on_node = pool.ok("ps -a --format '{{.Names}} {{.Label \"com.flotilla.node\"}}'")?;
    let mut on_node: Vec<&str> = on_node
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, at)| *at == node)
        .map(|(name, _)| name)
        .collect();
    on_node.sort_unstable();
    let on_node = on_node.join("\n");
    let table = [
        ("", "one\ntwo"),
        ("-a", "made\none\nover\ntwo"),
        ("--filter name=o", "one\ntwo"),
        ("-a --filter name=^o", "one\nover"),
        ("--filter name=^/one$", "one"),
        ("-a --filter label=app=web", "one\ntwo"),
        ("-a --filter label=app", "one\nover\ntwo"),
        ("-a --filter label=app=web --filter label=tier", "one"),
        ("--filter status=exited", "over"),
        ("--filter status=created", "made"),
        (
            "--filter status=running --filter status=created",
            "made\none\ntwo",
        ),
        ("-a --filter exited=3", "over"),
        ("-a --filter ancestor=busybox", "made\none\nover\ntwo"),
        (
            "-a --filter ancestor=busybox:latest",
            "made\none\nover\ntwo",
        ),
        ("-a --filter ancestor=nosuch", ""),
        ("-a --filter since=two", "made\nover"),
        ("-a --filter before=two", "one"),
        ("--filter publish=8080", "one"),
        ("--filter publish=8080-8090/tcp", "one"),
        ("--filter expose=80", "one"),
        ("--filter network=bridge", "one\ntwo"),
        ("--filter health=none", "one\ntwo"),
    ];
    let check = |line: &str, wanted: &str| {
        let listed = pool.ok(&format!("ps {line} --format {{{{.Names}}}}"))?;
        let mut names: Vec<&str> = listed.lines().collect();
        names.sort_unstable();
        ensure!(
            names.join("\n") == wanted,
            "ps {line}: {names:?}, not {wanted:?}"
        );
        Ok(())
    };
    for (line, wanted) in table {
        check(line, wanted)?;
    }
    check(&format!("--filter id={first}"), "one")?;
    check(&format!("--filter id={}", &first[..9]), "one")?;
    check(&format!("-a --filter node={node}"), &on_node)?;
    check(
        &format!("-a --filter label=com.flotilla.node={node}"),
        &on_node,
    )?;
    check("-a --filter node=nosuch", "")?;
    pool.refuses("ps --filter nosuch=x", "invalid filter 'nosuch'")?;
    pool.refuses(
        "ps --filter status=nosuch",
        "invalid filter 'status=nosuch'",
    )?;
    pool.refuses("ps --filter since=nosuch", "No such container: nosuch")?;
    pool.says("ps -q --no-trunc --filter name=one", &first)?;
    pool.says("ps -q --filter name=one", &first[..12])?;
    let size = pool.ok("ps -s --filter name=one --format {{.Size}}")?;
    contains(&size, "virtual")
}

fn limits(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for name in ["c1", "c2", "c3", "c4", "c5"] {
        pool.ok(&format!("create --name={name} busybox true"))?;
    }
    let names = "--format {{.Names}}";
    pool.says(&format!("ps -n 3 {names}"), "c5\nc4\nc3")?;
    pool.says(&format!("ps -l {names}"), "c5")?;
    pool.says(&format!("ps -a {names}"), "c5\nc4\nc3\nc2\nc1")?;
    pool.says(&format!("ps -n 2 --filter before=c4 {names}"), "c3\nc2")?;
    pool.says(&format!("ps {names}"), "")
}

fn names_with_node(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let noded = Pool::of(&lab.endpoints(), &["--names=node"])?;
    pool.ok("run -d --name=web busybox sleep 600")?;
    let node = pool.node_of("web")?;
    noded.comes_to_say(
        "ps --format {{.Names}}",
        &format!("{node}/web"),
        crate::SOON,
    )?;
    noded.says("inspect -f {{.Name}} web", &format!("/{node}/web"))?;
    for filter in [
        "web".to_owned(),
        "^/web$".to_owned(),
        format!("^/{node}/web$"),
    ] {
        let line = format!("ps --filter name={filter} --format {{{{.Names}}}}");
        noded.says(&line, &format!("{node}/web"))?;
    }
    noded.says(&format!("exec {node}/web echo hi"), "hi")?;
    pool.says("ps --format {{.Names}}", "web")
}

fn misnamed(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=web -e constraint:node==host1 busybox sleep 600")?;
    pool.ok("run -d --name=db -e constraint:node==host2 busybox sleep 600")?;
    let host = lab.host(0);
    let id = pool.ok("inspect -f {{.Id}} web")?;
    let named = |wanted: &str| {
        let named = || Ok(host.docker(&["inspect", "-f", "{{.Name}}", &id])? == wanted);
        integration::wait::until_true(&format!("it is called {wanted}"), crate::SOON, named)
    };
    // On its own node nobody has the name; in the pool another container does.
    host.docker(&["rename", "web", "db"])?;
    named("/web")?;
    pool.comes_to_say(
        &format!("inspect -f {{{{.Name}}}} {id}"),
        "/web",
        crate::SOON,
    )?;
    pool.says("inspect -f {{.Node.Name}} db", "host2")?;
    // A name that is free is taken over.
    host.docker(&["rename", "web", "site"])?;
    pool.comes_to_say("inspect -f {{.Id}} site", &id, crate::SOON)?;
    named("/site")
}

fn twins(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for host in &lab.hosts()[..2] {
        host.docker(&["run", "-d", "--name=twin", "busybox", "sleep", "600"])?;
    }
    let both = "ps -q --filter name=twin";
    integration::wait::until_true("both to be seen", crate::SOON, || {
        Ok(pool.ok(both)?.lines().count() == 2)
    })?;
    let refusal = pool.refusal("stop -t 0 twin")?;
    contains(&refusal, "container name twin exists on host1 and host2")?;
    contains(&refusal, "host1/twin, host2/twin")?;
    pool.says("stop -t 0 host2/twin", "host2/twin")?;
    ensure!(
        lab.host(0).docker(&["ps", "-q"])?.lines().count() == 1,
        "the wrong one stopped"
    );
    let refusal = pool.refusal("run --name=twin busybox true")?;
    contains(
        &refusal,
        "The container name \"/twin\" is already in use by container",
    )?;
    for share in SHARES {
        let line = format!("create {}", share.replace("NAME", "twin"));
        let refusal = pool.refusal(&line)?;
        contains(
            &refusal,
            "container name twin exists on host1 and host2: use host1/twin, host2/twin or an ID",
        )
        .context(line)?;
    }
    pool.ok("rm -f host1/twin host2/twin").map(drop)
}

/// All ways to depend on another container.
const SHARES: [&str; 6] = [
    "--network container:NAME busybox true",
    "--pid container:NAME busybox true",
    "--ipc container:NAME busybox true",
    "--volumes-from NAME:ro busybox test -f /data/it",
    "--link NAME busybox ping -c 1 shared",
    "--network pair --link NAME:db busybox ping -c 1 db",
];

fn shared(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("network create host2/pair")?;
    let id = pool.ok(
        "run -d --name=shared --ipc=shareable -v /data -e constraint:node==host2 busybox sh -c \
         'touch /data/it; sleep 600'",
    )?;
    pool.ok("network connect pair shared")?;
    let qualified = format!("host2/{}", &id[..12]);
    for name in ["shared", "host2/shared", &qualified] {
        for share in SHARES {
            // By its id nobody finds it in a name server.
            if share.contains("ping -c 1 shared") && name == qualified {
                continue;
            }
            let line = share.replace("NAME", name);
            pool.ok(&format!("run --name=with {line}"))?;
            pool.says("inspect -f {{.Node.Name}} with", "host2")
                .with_context(|| line.clone())?;
            pool.ok("rm with")?;
        }
    }
    Ok(())
}
