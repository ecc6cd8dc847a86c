"""What tests do with testcontainers for Python, against whatever DOCKER_HOST names.

Each check makes what it needs and removes it. None knows whether an engine answers or a pool of them.
"""

import concurrent.futures
import contextlib
import os
import pathlib
import tempfile
import urllib.parse
import urllib.request

# Where tests themselves run in a container, and DOCKER_HOST is local, it would look for ports at a network's gateway.
HOST = urllib.parse.urlparse(os.environ["DOCKER_HOST"]).hostname or "localhost"
os.environ["TESTCONTAINERS_HOST_OVERRIDE"] = HOST
os.environ["TESTCONTAINERS_CONNECTION_MODE"] = "docker_host"
# It would give its reaper the socket by the path that DOCKER_HOST has here.
os.environ["TESTCONTAINERS_DOCKER_SOCKET_OVERRIDE"] = "/var/run/docker.sock"

import docker
from testcontainers.compose import DockerCompose
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.image import DockerImage
from testcontainers.core.labels import SESSION_ID
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import HealthcheckWaitStrategy, HttpWaitStrategy, LogMessageWaitStrategy

from checks import check, equal, run

IMAGE = "busybox"
WEB = "echo hello > /index.html; echo it serves; exec httpd -f -p 8080 -h /"


def web():
    container = DockerContainer(IMAGE).with_command(["sh", "-c", WEB]).with_exposed_ports(8080)
    return container.waiting_for(HttpWaitStrategy(8080, "/index.html").for_status_code(200))


def fetch(container):
    """What the container says at the address that the library gives."""
    return said(container.get_exposed_port(8080), container.get_container_host_ip())


def said(port, host=HOST):
    with urllib.request.urlopen(f"http://{host}:{port}/index.html", timeout=10) as answer:
        return answer.read().decode().strip()


def gone(container_id):
    try:
        docker.from_env().containers.get(container_id)
    except docker.errors.NotFound:
        return True
    return False


@check
def a_mapped_port_answers_where_the_library_looks():
    with web() as container:
        equal(fetch(container), "hello")
        made = container.get_wrapped_container().id
    assert gone(made), "the container is still there"


@check
def many_at_once_have_ports_of_their_own():
    def one(number):
        with web() as container:
            container.exec(["sh", "-c", f"echo {number} > /index.html"])
            return fetch(container)

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        equal(list(threads.map(one, range(12))), [str(number) for number in range(12)])


@check
def it_waits_for_logs_and_health():
    talks = DockerContainer(IMAGE).with_command(["sh", "-c", "sleep 1; echo now; sleep 600"])
    with talks.waiting_for(LogMessageWaitStrategy("now")) as container:
        stdout, stderr = container.get_logs()
        equal((stdout, stderr), (b"now\n", b""))
    health = {"test": ["CMD", "test", "-f", "/ready"], "interval": 200_000_000, "retries": 50}
    ready = DockerContainer(IMAGE).with_command(["sh", "-c", "sleep 1; touch /ready; sleep 600"])
    with ready.with_kwargs(healthcheck=health).waiting_for(HealthcheckWaitStrategy()) as container:
        equal(container.exec(["ls", "/ready"]).output, b"/ready\n")


@check
def files_go_in_and_out():
    with tempfile.TemporaryDirectory() as folder:
        sent, back = pathlib.Path(folder, "sent"), pathlib.Path(folder, "back")
        sent.write_text("from the client")
        sleeper = DockerContainer(IMAGE).with_command(["sleep", "600"])
        with sleeper.with_copy_into_container(sent, "/etc/sent").with_env("A", "b") as container:
            equal(container.exec(["sh", "-c", "cat /etc/sent; echo -n $A"]).output, b"from the clientb")
            container.copy_from_container("/etc/sent", back)
            equal(back.read_text(), "from the client")


@check
def containers_of_a_network_find_each_other():
    with Network() as network, web().with_network(network).with_network_aliases("web") as server:
        asks = DockerContainer(IMAGE).with_network(network).with_command(["sleep", "600"])
        with asks as client:
            answer = client.exec(["wget", "-qO-", "http://web:8080/index.html"])
            equal((answer.exit_code, answer.output), (0, b"hello\n"))
        equal(fetch(server), "hello")


@check
def an_image_is_built_and_run():
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo built > /made\n")
        with DockerImage(path=folder, tag="testcontainers-python:built") as image:
            for _ in range(3):
                with DockerContainer(str(image)).with_command(["sleep", "600"]) as container:
                    equal(container.exec(["cat", "/made"]).output, b"built\n")


@check
def compose_is_brought_up_and_down():
    services = f"""
services:
  web:
    image: {IMAGE}
    command: ["sh", "-c", "{WEB}"]
    ports: ["8080"]
    init: true
  asks:
    image: {IMAGE}
    command: ["sleep", "600"]
    init: true
"""
    with tempfile.TemporaryDirectory(prefix="testcontainers-python") as folder:
        pathlib.Path(folder, "compose.yaml").write_text(services)
        with DockerCompose(folder, wait=True) as compose:
            equal(said(compose.get_service_port("web", 8080)), "hello")
            output, _, _ = compose.exec_in_container(["wget", "-qO-", "http://web:8080/index.html"], "asks")
            equal(output.strip(), "hello")


@check
def the_reaper_is_told_of_the_session():
    """The image of the reaper is not at hand; what takes its place says what it is told, and that it has the socket."""
    listens = "ls /var/run/docker.sock; echo ' Started!'; exec nc -ll -p 8080 -e cat"
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "Dockerfile").write_text(f'FROM {IMAGE}\nCMD ["sh", "-c", "{listens}"]\n')
        with DockerImage(path=folder, tag="testcontainers-python:reaper") as image:
            testcontainers_config.ryuk_disabled = False
            testcontainers_config.ryuk_image = str(image)
            try:
                with DockerContainer(IMAGE).with_command(["sleep", "600"]):
                    reaper = Reaper._container
                    assert b"/var/run/docker.sock" in reaper.get_logs()[0]
                    told = Reaper._socket.recv(1000).decode()
                    assert SESSION_ID in told, told
                    made = reaper.get_wrapped_container().id
            finally:
                testcontainers_config.ryuk_disabled = True
                # It stops and removes what removes itself when it stops: whichever is the second is refused.
                with contextlib.suppress(docker.errors.APIError):
                    Reaper.delete_instance()
            assert gone(made), "the reaper is still there"


@check
def nothing_is_left():
    client = docker.from_env()
    equal(client.containers.list(all=True), [])
    equal(sorted(it.name for it in client.networks.list()), ["bridge", "host", "none"])
    equal([it.tags for it in client.images.list()], [["busybox:latest"]])


if __name__ == "__main__":
    testcontainers_config.ryuk_disabled = True
    run()
