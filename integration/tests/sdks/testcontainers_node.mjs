// What tests do with testcontainers for Node, against whatever DOCKER_HOST names. It is run in the folder that has it
// installed.
//
// Each check makes what it needs and removes it. None knows whether an engine answers or a pool of them.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

import { run } from "./checks.mjs";

// Where tests themselves run in a container, and DOCKER_HOST is local, it would look for ports at a network's gateway.
process.env.TESTCONTAINERS_HOST_OVERRIDE = new URL(process.env.DOCKER_HOST).hostname || "localhost";
process.env.TESTCONTAINERS_RYUK_DISABLED = "true";

const require = createRequire(join(process.cwd(), "/"));
const testcontainers = require("testcontainers");
const { DockerComposeEnvironment, GenericContainer, Network, Wait } = testcontainers;

const IMAGE = "busybox";
const WEB = "echo hello > /index.html; echo it serves; exec httpd -f -p 8080 -h /";

const sleeper = () => new GenericContainer(IMAGE).withCommand(["sleep", "600"]);
const web = () => new GenericContainer(IMAGE).withCommand(["sh", "-c", WEB]).withExposedPorts(8080);

/** What the container says to someone beside the client: by its mapped port on the host of DOCKER_HOST. */
async function fetched(container) {
  const answer = await fetch(`http://${container.getHost()}:${container.getMappedPort(8080)}/index.html`);
  return (await answer.text()).trim();
}

/** Runs the check with a new folder that has these files, and removes it. */
async function withFolder(files, check) {
  const folder = await mkdtemp(join(tmpdir(), "testcontainers-node"));
  try {
    for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content);
    await check(folder);
  } finally {
    await rm(folder, { recursive: true });
  }
}

const checks = {
  async a_mapped_port_answers_where_the_library_looks() {
    const container = await web().withWaitStrategy(Wait.forHttp("/index.html", 8080)).start();
    assert.equal(await fetched(container), "hello");
    await container.restart();
    assert.equal(await fetched(container), "hello");
    await container.stop();
    await assert.rejects(container.exec(["true"]));
  },

  async many_at_once_have_ports_of_their_own() {
    const started = await Promise.all(Array.from({ length: 12 }, () => web().start()));
    await Promise.all(started.map((one, number) => one.exec(["sh", "-c", `echo ${number} > /index.html`])));
    assert.deepEqual(await Promise.all(started.map(fetched)), started.map((_, number) => `${number}`));
    await Promise.all(started.map((one) => one.stop()));
  },

  async it_waits_for_ports_logs_and_health() {
    const listens = await web().withWaitStrategy(Wait.forListeningPorts()).start();
    await listens.stop();
    const talks = await new GenericContainer(IMAGE)
      .withCommand(["sh", "-c", "sleep 1; echo now; sleep 600"])
      .withWaitStrategy(Wait.forLogMessage("now"))
      .start();
    await talks.stop();
    const ready = await new GenericContainer(IMAGE)
      .withCommand(["sh", "-c", "sleep 1; touch /ready; sleep 600"])
      .withHealthCheck({ test: ["CMD", "test", "-f", "/ready"], interval: 200, timeout: 1000, retries: 50, startPeriod: 0 })
      .withWaitStrategy(Wait.forHealthCheck())
      .start();
    await ready.stop();
    const ends = await new GenericContainer(IMAGE).withCommand(["true"]).withWaitStrategy(Wait.forOneShotStartup()).start();
    await ends.stop();
  },

  async files_go_in_and_out() {
    const container = await sleeper()
      .withCopyContentToContainer([{ content: "from the client", target: "/etc/sent" }])
      .withEnvironment({ A: "b" })
      .start();
    const { exitCode, output } = await container.exec(["sh", "-c", "cat /etc/sent; echo -n $A"]);
    assert.deepEqual({ exitCode, output }, { exitCode: 0, output: "from the clientb" });
    assert.match(await text(await container.copyArchiveFromContainer("/etc/sent")), /from the client/);
    await container.stop();
  },

  async containers_of_a_network_find_each_other() {
    const network = await new Network().start();
    const server = await web().withNetwork(network).withNetworkAliases("web").start();
    const client = await sleeper().withNetwork(network).start();
    assert.equal((await client.exec(["wget", "-qO-", "http://web:8080/index.html"])).output, "hello\n");
    assert.equal(await fetched(server), "hello");
    await client.stop();
    await server.stop();
    await network.stop();
  },

  async an_image_is_built_and_run() {
    await withFolder({ Dockerfile: `FROM ${IMAGE}\nRUN echo built > /made\nCMD ["sleep", "600"]\n` }, async (folder) => {
      const image = await GenericContainer.fromDockerfile(folder).build("testcontainers-node:built", { deleteOnExit: false });
      for (let round = 0; round < 3; round += 1) {
        const container = await image.start();
        assert.equal((await container.exec(["cat", "/made"])).output, "built\n");
        await container.stop();
      }
    });
  },

  async a_container_is_committed_and_run() {
    const container = await sleeper().start();
    await container.exec(["sh", "-c", "echo kept > /made"]);
    const image = await container.commit({ repo: "testcontainers-node", tag: "kept", deleteOnExit: false });
    await container.stop();
    const again = await new GenericContainer("testcontainers-node:kept").withCommand(["sleep", "600"]).start();
    assert.ok(image);
    assert.equal((await again.exec(["cat", "/made"])).output, "kept\n");
    await again.stop();
  },

  async what_is_kept_is_used_again() {
    const reused = () => sleeper().withLabels({ kept: "yes" }).withReuse();
    const first = await reused().start();
    const second = await reused().start();
    assert.equal(first.getId(), second.getId());
    await first.stop();
  },

  async compose_is_brought_up_and_down() {
    const services = `
services:
  web:
    image: ${IMAGE}
    command: ["sh", "-c", "${WEB}"]
    ports: ["8080"]
    init: true
  asks:
    image: ${IMAGE}
    command: ["sleep", "600"]
    init: true
`;
    await withFolder({ "compose.yaml": services }, async (folder) => {
      const compose = await new DockerComposeEnvironment(folder, "compose.yaml").up();
      assert.equal(await fetched(compose.getContainer("web-1")), "hello");
      const asked = await compose.getContainer("asks-1").exec(["wget", "-qO-", "http://web:8080/index.html"]);
      assert.equal(asked.output, "hello\n");
      await compose.down();
    });  },

  async nothing_is_left() {
    const { dockerode } = (await testcontainers.getContainerRuntimeClient()).container;
    for (const name of ["testcontainers-node:built", "testcontainers-node:kept"]) await dockerode.getImage(name).remove();
    assert.deepEqual(await dockerode.listContainers({ all: true }), []);
    assert.deepEqual((await dockerode.listNetworks()).map((one) => one.Name).sort(), ["bridge", "host", "none"]);
    assert.deepEqual((await dockerode.listImages()).map((one) => one.RepoTags), [["busybox:latest"]]);
  },
};

await run(checks);
