"""What programs do with docker-py, against whatever DOCKER_HOST names.

Each check makes what it needs and removes it. None knows whether an engine answers or a pool of them.
"""

import io
import json
import tarfile
import threading
import time

import docker
from docker.errors import APIError, BuildError, ContainerError, ImageNotFound
from docker.types import EndpointConfig, Healthcheck, IPAMConfig, IPAMPool, Mount
from docker.utils.socket import consume_socket_output, demux_adaptor, frames_iter

from checks import check, equal, run

IMAGE = "busybox"
MARK = {"made-by": "docker-py"}
MINE = {"label": "made-by=docker-py"}
SOON = 20


def refused(status, text, function, *arguments, **named):
    """The API's error that this call must end with."""
    try:
        found = function(*arguments, **named)
    except APIError as error:
        equal(error.response.status_code, status)
        assert text in error.explanation, f"{error.explanation!r} lacks {text!r}"
        return error
    raise AssertionError(f"{found!r} instead of {status}")


def until(what, probe):
    end = time.monotonic() + SOON
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < end, f"no {what} after {SOON} s"
        time.sleep(0.05)


def archive(files):
    """A tar archive of these texts by their names."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            tar.addfile(entry, io.BytesIO(text.encode()))
    return whole.getvalue()


def unpacked(chunks, folder):
    """The texts below one folder of an archive by their names."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        files = [entry for entry in tar if entry.isfile() and entry.name.startswith(folder)]
        return {entry.name: tar.extractfile(entry).read().decode() for entry in files}


def sleeper(client, **named):
    return client.containers.run(IMAGE, ["sleep", "600"], detach=True, labels=MARK, init=True, **named)


# --- The engine itself


@check
def the_endpoint_says_what_it_is(client):
    assert client.ping()
    version = client.version()
    equal(version["Os"], "linux")
    assert version["ApiVersion"] >= "1.44", version
    info = client.info()
    equal(info["OSType"], "linux")
    assert info["NCPU"] > 0 and info["MemTotal"] > 0, info
    assert "LayersSize" in client.df()


# --- Containers


@check
def run_gives_the_output(client):
    equal(client.containers.run(IMAGE, "echo hello", remove=True), b"hello\n")
    line = ["sh", "-c", "echo good; echo bad >&2"]
    equal(client.containers.run(IMAGE, line, remove=True, stdout=False, stderr=True), b"bad\n")
    equal(list(client.containers.run(IMAGE, line, remove=True, stream=True)), [b"good\n"])


@check
def run_tells_of_failures(client):
    try:
        client.containers.run(IMAGE, ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
        raise AssertionError("it succeeded")
    except ContainerError as error:
        equal((error.exit_status, error.stderr), (3, b"bad\n"))
    refused(404, "No such image", client.api.create_container, "nosuch:1")
    it = client.containers.create(IMAGE, "nosuch")
    refused(400, "executable file not found", it.start)
    it.remove()
    refused(404, "No such container: nosuch", client.containers.get, "nosuch")


@check
def a_container_lives_and_ends(client):
    it = client.containers.create(
        IMAGE,
        ["sh", "-c", "trap 'exit 7' TERM; echo $WORD; while :; do sleep 0.1; done"],
        name="py-life",
        environment={"WORD": "hello"},
        labels=MARK,
        working_dir="/tmp",
        mem_limit="64m",
        hostname="py",
    )
    equal((it.status, it.name, it.labels["made-by"]), ("created", "py-life", "docker-py"))
    refused(409, '"/py-life" is already in use', client.containers.create, IMAGE, name="py-life")
    it.start()
    it.reload()
    equal((it.status, it.attrs["Config"]["Hostname"], it.attrs["HostConfig"]["Memory"]), ("running", "py", 64 << 20))
    until("output", lambda: it.logs() == b"hello\n")
    equal(it.top()["Titles"][-1], "CMD")
    it.pause()
    it.reload()
    equal(it.status, "paused")
    it.unpause()
    it.rename("py-other")
    equal(client.containers.get("py-other").id, it.id)
    equal(client.containers.get(it.short_id).id, it.id)
    it.update(mem_limit="128m", memswap_limit="256m")
    it.reload()
    equal((it.name, it.attrs["HostConfig"]["Memory"]), ("py-other", 128 << 20))
    it.restart(timeout=5)
    until("output after the restart", lambda: it.logs() == b"hello\nhello\n")
    it.stop(timeout=5)
    equal(it.wait()["StatusCode"], 7)
    refused(409, "is not running", it.kill)
    it.start()
    refused(409, "container is running", it.remove)
    it.kill(signal="KILL")
    equal(it.wait()["StatusCode"], 137)
    it.remove(v=True)
    refused(404, f"No such container: {it.id}", it.reload)


@check
def lists_are_filtered(client):
    runs = sleeper(client, name="py-runs")
    ended = client.containers.run(IMAGE, ["sh", "-c", "exit 5"], detach=True, name="py-ended", labels=MARK | {"kind": "x"})
    ended.wait()

    def names(**named):
        return sorted(it.name for it in client.containers.list(**named))

    # An engine answers who waits a little before its lists show the end.
    until("end in the list", lambda: names(filters=MINE) == ["py-runs"])
    equal(names(all=True, filters=MINE), ["py-ended", "py-runs"])
    equal(names(all=True, filters={"exited": 5, "label": ["made-by", "kind=x"]}), ["py-ended"])
    equal(names(filters={"status": "exited", "name": "^/?py-"}), ["py-ended"])
    equal(names(all=True, filters=MINE | {"ancestor": IMAGE}), ["py-ended", "py-runs"])
    equal(names(all=True, filters=MINE | {"since": "py-runs"}), ["py-ended"])
    equal(names(all=True, filters=MINE | {"before": "py-ended"}), ["py-runs"])
    equal([it.id for it in client.containers.list(filters={"id": runs.id}, sparse=True)], [runs.id])
    equal([it.name for it in client.containers.list(limit=1)], ["py-ended"])
    sized = client.api.containers(all=True, size=True, filters=MINE)
    assert all("SizeRootFs" in it for it in sized), sized
    for it in (runs, ended):
        it.remove(force=True)


@check
def logs_are_followed(client):
    it = client.containers.run(
        IMAGE, ["sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.1; echo e$n >&2; sleep 0.1; done"], detach=True, labels=MARK
    )
    equal(b"".join(it.logs(stream=True, follow=True, stderr=False)), b"1\n2\n3\n")
    equal(it.wait()["StatusCode"], 0)
    equal(it.logs(stdout=False), b"e1\ne2\ne3\n")
    equal(it.logs(tail=1), b"e3\n")
    stamp, text = it.logs(tail=1, timestamps=True).split(b" ")
    assert stamp.endswith(b"Z") and text == b"e3\n", stamp
    equal(it.logs(since=int(time.time()) + 60), b"")
    it.remove()


@check
def attach_carries_input_and_output(client):
    it = client.containers.create(IMAGE, ["sh", "-c", "cat; echo bad >&2; exit 4"], stdin_open=True, labels=MARK)
    socket = client.api.attach_socket(it.id, {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    it.start()
    raw = getattr(socket, "_sock", socket)
    raw.sendall(b"hello\n")
    parts = frames_iter(socket, tty=False)
    equal(next(parts), (1, b"hello\n"))
    it.stop(timeout=0)
    socket.close()
    it.remove()
    # From the very beginning, and with the streams apart.
    it = client.containers.create(IMAGE, ["sh", "-c", "echo good; echo bad >&2"], labels=MARK)
    parts = it.attach(stream=True, logs=True, demux=True)
    it.start()
    good, bad = zip(*parts)
    equal(b"".join(part or b"" for part in good), b"good\n")
    equal(b"".join(part or b"" for part in bad), b"bad\n")
    it.remove()


@check
def files_come_and_go(client):
    it = client.containers.create(IMAGE, "true", labels=MARK)
    assert it.put_archive("/tmp", archive({"one": "first", "dir/two": "second"}))
    chunks, stat = it.get_archive("/tmp/dir")
    equal(unpacked(chunks, "dir/"), {"dir/two": "second"})
    equal(stat["name"], "dir")
    refused(404, "Could not find the file /nosuch", it.get_archive, "/nosuch")
    refused(404, "Could not find the file /nosuch", it.put_archive, "/nosuch", archive({"a": ""}))
    until("change", lambda: {"Path": "/tmp/one", "Kind": 1} in it.diff())
    equal(unpacked(it.export(), "tmp/"), {"tmp/one": "first", "tmp/dir/two": "second"})
    it.remove()


@check
def exec_runs_in_a_container(client):
    it = sleeper(client)
    equal(it.exec_run("echo hello"), (0, b"hello\n"))
    line = ["sh", "-c", "echo $WORD; pwd; echo bad >&2; exit 3"]
    equal(it.exec_run(line, demux=True, environment=["WORD=good"], workdir="/tmp"), (3, (b"good\n/tmp\n", b"bad\n")))
    code, terminal = it.exec_run("tty", tty=True)
    equal((code, terminal.startswith(b"/dev/")), (0, True))
    code, parts = it.exec_run(["sh", "-c", "echo 1; sleep 0.1; echo 2"], stream=True)
    equal((code, b"".join(parts)), (None, b"1\n2\n"))
    it.exec_run("touch /detached", detach=True)
    until("file", lambda: it.exec_run("ls /detached").exit_code == 0)
    equal(it.exec_run("id -u", user="1000").output, b"1000\n")
    refused(404, "No such exec instance: nosuch", client.api.exec_inspect, "nosuch")
    # With input, which ends before the output does.
    order = client.api.exec_create(it.id, ["sh", "-c", "cat; exit 6"], stdin=True)
    socket = client.api.exec_start(order, socket=True)
    raw = getattr(socket, "_sock", socket)
    raw.sendall(b"hello\n")
    raw.shutdown(1)
    frames = (demux_adaptor(*frame) for frame in frames_iter(socket, tty=False))
    equal(consume_socket_output(frames, demux=True), (b"hello\n", None))
    socket.close()
    until("end", lambda: not client.api.exec_inspect(order)["Running"])
    equal(client.api.exec_inspect(order)["ExitCode"], 6)
    it.stop(timeout=0)
    refused(409, "is not running", it.exec_run, "true")
    it.remove()


@check
def terminals_have_a_size(client):
    it = client.containers.run(IMAGE, "sh", detach=True, tty=True, stdin_open=True, labels=MARK)
    it.resize(height=33, width=111)
    socket = it.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    raw = getattr(socket, "_sock", socket)
    raw.settimeout(SOON)
    raw.sendall(b"stty size\n")
    shown = b""
    while b"33 111" not in shown:
        part = raw.recv(4096)
        assert part, shown
        shown += part
    socket.close()
    it.remove(force=True)


@check
def stats_are_told_once_and_again(client):
    it = sleeper(client)
    once = it.stats(stream=False)
    assert once["memory_stats"]["usage"] > 0, once
    equal(once["id"], it.id)
    again = it.stats(stream=True, decode=True)
    assert next(again)["read"] > once["read"]
    again.close()
    it.remove(force=True)


@check
def wait_waits_for_what_is_asked(client):
    it = client.containers.create(IMAGE, ["sh", "-c", "exit 9"], labels=MARK)
    results = {}

    def waiter(condition):
        own = docker.from_env()
        results[condition] = own.containers.get(it.id).wait(condition=condition, timeout=SOON)
        own.close()

    threads = [threading.Thread(target=waiter, args=(condition,)) for condition in ("next-exit", "removed")]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    it.start()
    equal(it.wait(timeout=SOON)["StatusCode"], 9)
    threads[0].join(SOON)
    equal(results["next-exit"]["StatusCode"], 9)
    assert threads[1].is_alive(), "it is not removed yet"
    it.remove()
    threads[1].join(SOON)
    equal(results["removed"]["StatusCode"], 9)


@check
def health_is_checked(client):
    test = Healthcheck(test=["CMD-SHELL", "test -f /healthy"], interval=100_000_000, retries=50)
    it = sleeper(client, healthcheck=test)
    it.reload()
    equal(it.health, "starting")
    it.exec_run("touch /healthy")
    until("health", lambda: client.containers.get(it.id).health == "healthy")
    equal([one.id for one in client.containers.list(filters=MINE | {"health": "healthy"})], [it.id])
    it.remove(force=True)


@check
def ports_are_published(client):
    it = sleeper(client, ports={"80/tcp": None, "53/udp": 15353})
    it.reload()
    assert int(it.ports["80/tcp"][0]["HostPort"]) > 0, it.ports
    equal(it.ports["53/udp"][0]["HostPort"], "15353")
    equal(client.api.port(it.id, 80)[0]["HostPort"], it.ports["80/tcp"][0]["HostPort"])
    it.remove(force=True)


@check
def events_are_told_as_they_happen_and_afterwards(client):
    begun = client.api.events(decode=True, filters=MINE | {"type": "container"})
    since = time.time()
    it = client.containers.run(IMAGE, "true", detach=True, labels=MARK, name="py-events")
    it.wait()
    it.remove()
    wanted = ["create", "start", "die", "destroy"]

    def told(events):
        """The actions of the container up to its last."""
        for event in events:
            equal((event["Actor"]["ID"], event["Actor"]["Attributes"]["name"]), (it.id, "py-events"))
            if event["Action"] in wanted:
                yield event["Action"]
            if event["Action"] == "destroy":
                return

    equal(list(told(begun)), wanted)
    begun.close()
    past = client.events(since=f"{since - 0.1:.9f}", until=f"{time.time() + 0.1:.9f}", decode=True, filters={"container": it.id})
    equal(list(told(past)), wanted)


@check
def ended_containers_are_pruned(client):
    stays = sleeper(client)
    gone = [client.containers.run(IMAGE, "true", detach=True, labels=MARK) for _ in range(4)]
    for it in gone:
        it.wait()
    pruned = client.containers.prune(filters=MINE)
    equal(sorted(pruned["ContainersDeleted"]), sorted(it.id for it in gone))
    stays.reload()
    stays.remove(force=True)
    equal(client.containers.prune(filters=MINE)["SpaceReclaimed"], 0)


# --- Images


@check
def an_image_is_built(client):
    context = archive({"Dockerfile": f"FROM {IMAGE}\nARG WORD\nCOPY it /it\nRUN echo $WORD >>/it\nCMD cat /it\n", "it": "begun\n"})
    image, lines = client.images.build(
        fileobj=io.BytesIO(context),
        custom_context=True,
        tag="py/built:1",
        buildargs={"WORD": "done"},
        labels=MARK,
        rm=True,
    )
    assert any("Successfully built" in line.get("stream", "") for line in lines)
    equal(image.tags, ["py/built:1"])
    equal(image.labels["made-by"], "docker-py")
    for _ in range(4):
        equal(client.containers.run("py/built:1", remove=True), b"begun\ndone\n")
    assert any('CMD ["/bin/sh" "-c" "cat /it"]' in layer["CreatedBy"] for layer in image.history()), image.history()
    try:
        client.images.build(fileobj=io.BytesIO(f"FROM {IMAGE}\nRUN exit 5\n".encode()), rm=True, forcerm=True)
        raise AssertionError("it was built")
    except BuildError as error:
        assert "returned a non-zero code: 5" in error.msg, error.msg
    client.images.remove("py/built:1")


@check
def tags_name_images(client):
    it = client.images.get(IMAGE)
    assert it.tag("py/tagged", "1") and it.tag("py/tagged", "2")
    it.reload()
    assert {"py/tagged:1", "py/tagged:2"} <= set(it.tags), it.tags
    equal([one.id for one in client.images.list("py/tagged")], [it.id])
    equal([one.id for one in client.images.list(filters={"reference": "py/tagged:2"})], [it.id])
    equal(client.images.get("py/tagged:1").id, it.id)
    client.images.remove("py/tagged:1")
    refused(404, "No such image: py/tagged:1", client.images.get, "py/tagged:1")
    client.images.remove("py/tagged:2")
    equal(client.images.list("py/tagged"), [])
    client.images.get(IMAGE)


@check
def images_are_saved_and_loaded(client):
    it = client.containers.run(IMAGE, ["sh", "-c", "echo kept >/kept"], detach=True, labels=MARK)
    it.wait()
    image = it.commit("py/saved", "1", changes='CMD ["cat", "/kept"]')
    it.remove()
    saved = b"".join(image.save(named=True))
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        equal(json.load(tar.extractfile("manifest.json"))[0]["RepoTags"], ["py/saved:1"])
    client.images.remove("py/saved:1")
    refused(404, "No such image", client.images.get, image.id)
    [loaded] = client.images.load(saved)
    equal((loaded.id, loaded.tags), (image.id, ["py/saved:1"]))
    for _ in range(4):
        equal(client.containers.run("py/saved:1", remove=True), b"kept\n")
    user = client.containers.create("py/saved:1")
    refused(409, "is being used", client.images.remove, image.id)
    user.remove()
    client.images.remove(image.id)


@check
def an_archive_becomes_an_image(client):
    told = client.api.import_image_from_data(archive({"it": "x"}), repository="py/imported", tag="1")
    assert "sha256:" in told, told
    equal(client.images.get("py/imported:1").tags, ["py/imported:1"])
    client.images.remove("py/imported:1")


@check
def a_pull_that_fails_says_so(client):
    for name in ("127.0.0.1:1/nosuch", "nosuch.invalid/it:1"):
        refused(500, "", client.images.pull, name)
    try:
        client.images.get("nosuch:1")
        raise AssertionError("it is there")
    except ImageNotFound as error:
        assert "No such image: nosuch:1" in error.explanation, error.explanation
    equal(client.images.list("nosuch"), [])


@check
def images_without_a_name_are_pruned(client):
    for number in range(2):
        text = f"FROM {IMAGE}\nLABEL made-by=docker-py number={number}\nRUN echo {number} >/number\n"
        client.images.build(fileobj=io.BytesIO(text.encode()), tag="py/pruned", rm=True)
    pruned = client.images.prune(filters={"dangling": True} | MINE)
    assert any("Deleted" in record for record in pruned["ImagesDeleted"]), pruned
    client.images.remove("py/pruned")


# --- Volumes


@check
def volumes_keep_what_is_written(client):
    volume = client.volumes.create("py-data", labels=MARK, driver="local")
    equal((volume.name, volume.attrs["Driver"], volume.attrs["Labels"]), ("py-data", "local", MARK))
    equal(client.volumes.create("py-data").name, "py-data")
    writer = sleeper(client, volumes={"py-data": {"bind": "/data", "mode": "rw"}})
    writer.exec_run(["sh", "-c", "echo kept >/data/it"])
    mount = Mount("/data", "py-data", read_only=True)
    for _ in range(4):
        equal(client.containers.run(IMAGE, "cat /data/it", mounts=[mount], remove=True), b"kept\n")
    equal([it.name for it in client.volumes.list(filters=MINE)], ["py-data"])
    equal([it.name for it in client.volumes.list(filters={"name": "py-data", "dangling": False})], ["py-data"])
    equal(client.volumes.get("py-data").attrs["Scope"], "local")
    refused(409, "volume is in use", volume.remove)
    writer.remove(force=True)
    equal([it.name for it in client.volumes.list(filters=MINE | {"dangling": True})], ["py-data"])
    equal(client.volumes.prune(filters=MINE | {"all": True})["VolumesDeleted"], ["py-data"])
    refused(404, "no such volume", client.volumes.get, "py-data")


@check
def a_volume_without_a_name_goes_with_its_container(client):
    it = client.containers.create(IMAGE, "true", mounts=[Mount("/data", None)], labels=MARK)
    [mount] = client.containers.get(it.id).attrs["Mounts"]
    client.volumes.get(mount["Name"])
    it.remove(v=True)
    refused(404, "no such volume", client.volumes.get, mount["Name"])
    volume = client.volumes.create(labels=MARK)
    equal(len(volume.name), 64)
    volume.remove()


# --- Networks


@check
def networks_carry_names(client):
    pool = IPAMPool(subnet="10.211.0.0/24", gateway="10.211.0.1")
    network = client.networks.create(
        "py-net", driver="bridge", labels=MARK, ipam=IPAMConfig(pool_configs=[pool]), check_duplicate=True
    )
    equal([it.id for it in client.networks.list(names=["py-net"])], [network.id])
    equal(client.networks.get("py-net").attrs["IPAM"]["Options"], None)
    equal([it.id for it in client.networks.list(filters=MINE)], [network.id])
    refused(409, "already exists", client.networks.create, "py-net", check_duplicate=True)
    first = sleeper(client, network="py-net", name="py-first")
    second = sleeper(
        client,
        network="py-net",
        networking_config={"py-net": EndpointConfig("1.44", aliases=["nick"], ipv4_address="10.211.0.77")},
    )
    for name in ("nick", second.id[:12], "10.211.0.77"):
        found = first.exec_run(["ping", "-c1", "-W5", name])
        assert found.exit_code == 0, found
    network.reload()
    equal(sorted(it.id for it in network.containers), sorted([first.id, second.id]))
    first.reload()
    equal(first.attrs["NetworkSettings"]["Networks"]["py-net"]["NetworkID"], network.id)
    equal(first.attrs["NetworkSettings"]["Networks"]["py-net"]["Gateway"], "10.211.0.1")
    network.disconnect(second)
    assert first.exec_run(["ping", "-c1", "-W1", "10.211.0.77"]).exit_code != 0
    network.connect(second, aliases=["again"])
    equal(first.exec_run(["ping", "-c1", "-W5", "again"]).exit_code, 0)
    refused(403, "has active endpoints", network.remove)
    first.remove(force=True)
    network.disconnect(second, force=True)
    second.remove(force=True)
    network.remove()
    refused(404, "network py-net not found", client.networks.get, "py-net")


@check
def networks_are_pruned(client):
    made = [client.networks.create(f"py-prune-{number}", labels=MARK) for number in range(3)]
    used = sleeper(client, network="py-prune-0")
    equal(sorted(client.networks.prune(filters=MINE)["NetworksDeleted"]), ["py-prune-1", "py-prune-2"])
    used.remove(force=True)
    made[0].remove()


@check
def nothing_is_left(client):
    equal(client.containers.list(all=True), [])
    equal(client.volumes.list(), [])
    equal(sorted(it.name for it in client.networks.list()), ["bridge", "host", "none"])
    equal([it.tags for it in client.images.list()], [["busybox:latest"]])


def mend(client):
    for it in client.containers.list(all=True, ignore_removed=True):
        it.remove(force=True, v=True)


if __name__ == "__main__":
    run(lambda: (docker.from_env(),), mend)
