//! What programs do with bollard.

use std::collections::HashMap;
use std::fmt::Debug;

use anyhow::{Context, Result, ensure};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ExecConfig, HostConfig, NetworkCreateRequest,
    NetworkingConfig, VolumeCreateRequest,
};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, BuildImageOptionsBuilder, CommitContainerOptionsBuilder,
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, DownloadFromContainerOptionsBuilder,
    EventsOptionsBuilder, ImportImageOptionsBuilder, InspectNetworkOptions,
    ListContainersOptionsBuilder, LogsOptionsBuilder, PruneContainersOptionsBuilder,
    PruneNetworksOptionsBuilder, PruneVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptions, RemoveVolumeOptions, StatsOptionsBuilder, TagImageOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use integration::client;
use integration::images::archive;
use tokio::io::AsyncWriteExt as _;

const MARK: (&str, &str) = ("made-by", "bollard");

/// Runs all of it against the endpoint of a CLI.
pub(super) fn run(docker: &client::Docker) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let docker = Docker::connect_with_host(docker.endpoint())?
            .negotiate_version()
            .await?;
        lifecycle(&docker).await.context("lifecycle")?;
        attach(&docker).await.context("attach")?;
        exec(&docker).await.context("exec")?;
        events(&docker).await.context("events")?;
        images(&docker).await.context("images")?;
        volumes(&docker).await.context("volumes")?;
        networks(&docker).await.context("networks")
    })
}

fn marked() -> Option<HashMap<String, String>> {
    Some(HashMap::from([(MARK.0.to_owned(), MARK.1.to_owned())]))
}

fn mine() -> HashMap<&'static str, Vec<&'static str>> {
    HashMap::from([("label", vec!["made-by=bollard"])])
}

fn words(line: &[&str]) -> Option<Vec<String>> {
    Some(line.iter().map(|&word| word.to_owned()).collect())
}

fn body(line: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some("busybox".to_owned()),
        cmd: words(line),
        labels: marked(),
        ..Default::default()
    }
}

async fn create(docker: &Docker, body: ContainerCreateBody) -> Result<String> {
    Ok(docker.create_container(None, body).await?.id)
}

async fn start(docker: &Docker, body: ContainerCreateBody) -> Result<String> {
    let id = create(docker, body).await?;
    docker.start_container(&id, None).await?;
    Ok(id)
}

async fn remove(docker: &Docker, id: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
    let removed = docker.remove_container(id, Some(options.build()));
    removed.await.context("cannot remove")
}

/// The exit code; bollard takes all but 0 for an error.
async fn exit_code(docker: &Docker, id: &str) -> Result<i64> {
    match docker.wait_container(id, None).next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(error.into()),
        None => anyhow::bail!("wait said nothing"),
    }
}

/// Fails unless it was refused with this status, and with these words among others.
fn refused<T: Debug>(outcome: Result<T, Error>, status: u16, text: &str) -> Result<()> {
    match outcome {
        Err(Error::DockerResponseServerError {
            status_code,
            message,
        }) if status_code == status && message.contains(text) => Ok(()),
        other => anyhow::bail!("{other:?}, not {status} {text:?}"),
    }
}

/// What came of standard output and of standard error.
async fn parted(
    mut output: impl Stream<Item = Result<LogOutput, Error>> + Unpin,
) -> Result<(String, String)> {
    let mut parts = (String::new(), String::new());
    while let Some(part) = output.try_next().await? {
        match &part {
            LogOutput::StdErr { .. } => parts.1 += &part.to_string(),
            LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
                parts.0 += &part.to_string();
            }
        }
    }
    Ok(parts)
}

fn pair(out: &str, err: &str) -> (String, String) {
    (out.to_owned(), err.to_owned())
}

async fn lifecycle(docker: &Docker) -> Result<()> {
    let named = || Some(CreateContainerOptionsBuilder::new().name("rs-life").build());
    let line = ["sh", "-c", "echo good; echo bad >&2; exit 3"];
    let id = docker.create_container(named(), body(&line)).await?.id;
    let twin = docker.create_container(named(), body(&line)).await;
    refused(twin, 409, "\"/rs-life\" is already in use")?;
    docker.start_container("rs-life", None).await?;
    ensure!(exit_code(docker, &id).await? == 3);
    // An engine answers who waits a little before its lists show the end.
    let mut running = 1;
    for _ in 0..100 {
        let ours = ListContainersOptionsBuilder::new().filters(&mine()).build();
        running = docker.list_containers(Some(ours)).await?.len();
        if running == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    ensure!(running == 0, "it is listed as running");
    let logs = LogsOptionsBuilder::new()
        .stdout(true)
        .stderr(true)
        .follow(true);
    let said = parted(docker.logs(&id, Some(logs.build()))).await?;
    ensure!(said == pair("good\n", "bad\n"), "{said:?}");
    let state = docker.inspect_container(&id, None).await?.state;
    ensure!(state.and_then(|state| state.exit_code) == Some(3));
    let pruned = docker
        .prune_containers(Some(
            PruneContainersOptionsBuilder::new()
                .filters(&mine())
                .build(),
        ))
        .await?;
    ensure!(
        pruned.containers_deleted.as_deref() == Some(std::slice::from_ref(&id)),
        "{pruned:?}"
    );
    let gone = docker.inspect_container(&id, None).await;
    refused(gone, 404, "No such container")?;
    let id = start(docker, body(&["sleep", "600"])).await?;
    let once = StatsOptionsBuilder::new().stream(false).one_shot(true);
    let stats = docker.stats(&id, Some(once.build())).try_next().await?;
    ensure!(
        stats.is_some_and(|stats| stats.memory_stats.is_some()),
        "no stats"
    );
    docker.pause_container(&id).await?;
    docker.unpause_container(&id).await?;
    docker.kill_container(&id, None).await?;
    ensure!(exit_code(docker, &id).await? == 137);
    remove(docker, &id).await
}

async fn attach(docker: &Docker) -> Result<()> {
    let mut body = body(&["sh", "-c", "cat; echo bad >&2"]);
    (body.open_stdin, body.stdin_once) = (Some(true), Some(true));
    let id = create(docker, body).await?;
    let options = AttachContainerOptionsBuilder::new()
        .stream(true)
        .stdin(true)
        .stdout(true)
        .stderr(true);
    let mut attached = docker.attach_container(&id, Some(options.build())).await?;
    docker.start_container(&id, None).await?;
    attached.input.write_all(b"hello\n").await?;
    attached.input.shutdown().await?;
    let said = parted(attached.output).await?;
    ensure!(said == pair("hello\n", "bad\n"), "{said:?}");
    ensure!(exit_code(docker, &id).await? == 0);
    let upload = UploadToContainerOptionsBuilder::new().path("/tmp").build();
    let sent = bollard::body_full(archive("it", b"first").into());
    docker.upload_to_container(&id, Some(upload), sent).await?;
    let wanted = DownloadFromContainerOptionsBuilder::new()
        .path("/tmp/it")
        .build();
    let came: Vec<Bytes> = docker
        .download_from_container(&id, Some(wanted))
        .try_collect()
        .await?;
    ensure!(came.concat().windows(5).any(|part| part == b"first"));
    remove(docker, &id).await
}

async fn exec(docker: &Docker) -> Result<()> {
    let id = start(docker, body(&["sleep", "600"])).await?;
    let order = ExecConfig {
        cmd: words(&["sh", "-c", "cat; echo bad >&2; exit 6"]),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(&id, order).await?.id;
    let StartExecResults::Attached { output, mut input } = docker.start_exec(&exec, None).await?
    else {
        anyhow::bail!("it is detached")
    };
    input.write_all(b"typed\n").await?;
    input.shutdown().await?;
    let said = parted(output).await?;
    ensure!(said == pair("typed\n", "bad\n"), "{said:?}");
    let ended = docker.inspect_exec(&exec).await?;
    ensure!(matches!(ended.exit_code, Some(6) | None), "{ended:?}");
    let terminal = ExecConfig {
        cmd: words(&["tty"]),
        tty: Some(true),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(&id, terminal).await?.id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await? else {
        anyhow::bail!("it is detached")
    };
    let (said, _) = parted(output).await?;
    ensure!(said.starts_with("/dev/"), "{said:?}");
    remove(docker, &id).await
}

async fn events(docker: &Docker) -> Result<()> {
    let filters = HashMap::from([
        ("label", vec!["made-by=bollard"]),
        ("type", vec!["container"]),
        ("event", vec!["create", "start", "die", "destroy"]),
    ]);
    let options = EventsOptionsBuilder::new().filters(&filters).build();
    let mut told = Box::pin(docker.events(Some(options)));
    // The request is made once somebody reads.
    let read = async {
        let mut actions = vec![];
        while actions.last().is_none_or(|last| last != "destroy") {
            let event = told.try_next().await?.context("the events ended")?;
            actions.extend(event.action);
        }
        Ok::<_, anyhow::Error>(actions)
    };
    let work = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let id = start(docker, body(&["true"])).await?;
        exit_code(docker, &id).await?;
        remove(docker, &id).await
    };
    let (actions, done) = tokio::join!(read, work);
    done?;
    let actions = actions?;
    ensure!(
        actions == ["create", "start", "die", "destroy"],
        "{actions:?}"
    );
    Ok(())
}

async fn images(docker: &Docker) -> Result<()> {
    let context = archive("Dockerfile", b"FROM busybox\nRUN echo built >/it\n");
    let options = BuildImageOptionsBuilder::new().t("rs/built:1").rm(true);
    let told: Vec<_> = docker
        .build_image(
            options.build(),
            None,
            Some(bollard::body_full(context.into())),
        )
        .try_collect()
        .await?;
    ensure!(
        told.iter()
            .filter_map(|line| line.stream.as_deref())
            .any(|line| line.contains("Successfully tagged rs/built:1")),
        "{told:?}"
    );
    let built = docker.inspect_image("rs/built:1").await?.id;
    ensure!(docker.image_history("rs/built:1").await?.len() > 1);
    let tag = TagImageOptionsBuilder::new().repo("rs/other").tag("2");
    docker.tag_image("rs/built:1", Some(tag.build())).await?;
    ensure!(docker.inspect_image("rs/other:2").await?.id == built);
    let saved: Vec<Bytes> = docker.export_image("rs/other:2").try_collect().await?;
    for name in ["rs/built:1", "rs/other:2"] {
        docker
            .remove_image(name, None::<RemoveImageOptions>, None)
            .await?;
    }
    let gone = docker.inspect_image("rs/other:2").await;
    refused(gone, 404, "No such image: rs/other:2")?;
    let load = ImportImageOptionsBuilder::new().build();
    let _: Vec<_> = docker
        .import_image(load, bollard::body_full(saved.concat().into()), None)
        .try_collect()
        .await?;
    ensure!(docker.inspect_image("rs/other:2").await?.id == built);
    let mut user = body(&["cat", "/it"]);
    user.image = Some("rs/other:2".to_owned());
    let id = start(docker, user).await?;
    ensure!(exit_code(docker, &id).await? == 0);
    let commit = CommitContainerOptionsBuilder::new()
        .container(&id)
        .repo("rs/made");
    docker
        .commit_container(commit.build(), ContainerConfig::default())
        .await?;
    remove(docker, &id).await?;
    for name in ["rs/made", "rs/other:2"] {
        docker
            .remove_image(name, None::<RemoveImageOptions>, None)
            .await?;
    }
    let pull = CreateImageOptionsBuilder::new().from_image("127.0.0.1:1/nosuch:1");
    let pulled: Result<Vec<_>, _> = docker
        .create_image(Some(pull.build()), None, None)
        .try_collect()
        .await;
    refused(pulled, 500, "connection refused")
}

async fn volumes(docker: &Docker) -> Result<()> {
    let wanted = VolumeCreateRequest {
        name: Some("rs-data".to_owned()),
        labels: marked(),
        ..Default::default()
    };
    docker.create_volume(wanted).await?;
    let with_it = |line: &[&str]| ContainerCreateBody {
        host_config: Some(HostConfig {
            binds: words(&["rs-data:/data"]),
            ..Default::default()
        }),
        ..body(line)
    };
    for line in ["echo kept >/data/it", "grep kept /data/it"] {
        let id = start(docker, with_it(&["sh", "-c", line])).await?;
        ensure!(exit_code(docker, &id).await? == 0, "{line}");
        let removed = docker
            .remove_volume("rs-data", None::<RemoveVolumeOptions>)
            .await;
        refused(removed, 409, "volume is in use")?;
        remove(docker, &id).await?;
    }
    ensure!(docker.inspect_volume("rs-data").await?.name == "rs-data");
    let mut filters = mine();
    filters.insert("all", vec!["true"]);
    let prune = PruneVolumesOptionsBuilder::new().filters(&filters).build();
    let pruned = docker.prune_volumes(Some(prune)).await?.volumes_deleted;
    ensure!(pruned == words(&["rs-data"]), "{pruned:?}");
    Ok(())
}

async fn networks(docker: &Docker) -> Result<()> {
    let wanted = NetworkCreateRequest {
        name: "rs-net".to_owned(),
        labels: marked(),
        ..Default::default()
    };
    let network = docker.create_network(wanted).await?.id;
    let in_it = |line: &[&str]| ContainerCreateBody {
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([("rs-net".to_owned(), Default::default())])),
        }),
        ..body(line)
    };
    let named = CreateContainerOptionsBuilder::new()
        .name("rs-first")
        .build();
    let sleeps = in_it(&["sleep", "600"]);
    let first = docker.create_container(Some(named), sleeps).await?.id;
    docker.start_container(&first, None).await?;
    let second = start(docker, in_it(&["ping", "-c1", "-W5", "rs-first"])).await?;
    ensure!(exit_code(docker, &second).await? == 0, "it found nobody");
    let inspected = docker
        .inspect_network("rs-net", None::<InspectNetworkOptions>)
        .await?;
    ensure!(inspected.id.as_ref() == Some(&network), "{inspected:?}");
    refused(
        docker.remove_network("rs-net").await,
        403,
        "has active endpoints",
    )?;
    remove(docker, &first).await?;
    remove(docker, &second).await?;
    let prune = PruneNetworksOptionsBuilder::new().filters(&mine()).build();
    let pruned = docker.prune_networks(Some(prune)).await?.networks_deleted;
    ensure!(pruned == words(&["rs-net"]), "{pruned:?}");
    Ok(())
}
