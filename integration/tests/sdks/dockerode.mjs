// What programs do with dockerode, against whatever DOCKER_HOST names. It is run in the folder that has dockerode installed.
//
// Each check makes what it needs and removes it. None knows whether an engine answers or a pool of them.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

import { run } from "./checks.mjs";

const require = createRequire(join(process.cwd(), "/"));
const Docker = require("dockerode");
const tar = require("tar-stream");

const IMAGE = "busybox";
const MARK = { "made-by": "dockerode" };
const MINE = { label: ["made-by=dockerode"] };
const SOON = 20_000;

const docker = new Docker();

async function refused(status, words, promise) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.statusCode, status, error.message);
    assert.match(error.message, words);
    return true;
  });
}

async function until(what, probe) {
  for (const end = Date.now() + SOON; Date.now() < end; await sleep(50)) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`no ${what} after ${SOON} ms`);
}

/** A tar archive of these texts by their names. */
async function archive(files) {
  const pack = tar.pack();
  for (const [name, content] of Object.entries(files)) pack.entry({ name }, content);
  pack.finalize();
  return buffer(pack);
}

/** The texts of an archive by their names. */
async function unpacked(stream) {
  const files = {};
  const extract = tar.extract();
  extract.on("entry", async (header, entry, next) => {
    const content = await text(entry);
    if (header.type === "file") files[header.name] = content;
    next();
  });
  const done = new Promise((resolve, reject) => extract.on("finish", resolve).on("error", reject));
  stream.pipe(extract);
  await done;
  return files;
}

/** Both outputs of a stream that carries them in frames, when it ends. */
async function parted(stream) {
  const [out, err] = [new PassThrough(), new PassThrough()];
  docker.modem.demuxStream(stream, out, err);
  stream.on("end", () => [out, err].forEach((part) => part.end()));
  return Promise.all([text(out), text(err)]);
}

/** All that a build or a load tells. */
function followed(stream) {
  return new Promise((resolve, reject) =>
    docker.modem.followProgress(stream, (error, lines) => (error ? reject(error) : resolve(lines))),
  );
}

async function container(Cmd, more = {}) {
  return docker.createContainer({ Image: IMAGE, Cmd, Labels: MARK, ...more });
}

async function sleeper(more = {}) {
  const it = await container(["sleep", "600"], more);
  await it.start();
  return it;
}

/** The output of a command in a container. */
async function inside(it, ...Cmd) {
  const exec = await it.exec({ Cmd, AttachStdout: true, AttachStderr: true });
  const output = await parted(await exec.start({}));
  return [(await exec.inspect()).ExitCode, ...output];
}

const checks = {
  async the_endpoint_says_what_it_is() {
    assert.equal(String(await docker.ping()), "OK");
    assert.equal((await docker.version()).Os, "linux");
    assert.equal((await docker.info()).OSType, "linux");
  },

  async run_ends_as_its_command_does() {
    const output = new PassThrough();
    const [result, it] = await docker.run(IMAGE, ["sh", "-c", "echo hello; exit 3"], output, { Labels: MARK });
    assert.equal(result.StatusCode, 3);
    assert.match(String(output.read()), /^hello/);
    await it.remove();
    await refused(404, /No such image: nosuch:1/, docker.createContainer({ Image: "nosuch:1" }));
    await refused(404, /No such container: nosuch/, docker.getContainer("nosuch").inspect());
  },

  async a_container_lives_and_ends() {
    const loop = ["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"];
    const it = await container(loop, { name: "js-life", HostConfig: { Memory: 64 << 20 } });
    assert.equal((await it.inspect()).State.Status, "created");
    await refused(409, /"\/js-life" is already in use/, container(["true"], { name: "js-life" }));
    await it.start();
    await refused(304, /already started/, it.start());
    await until("output", async () => String(await it.logs({ stdout: true })).endsWith("up\n"));
    assert.equal((await it.top()).Titles.at(-1), "CMD");
    await it.pause();
    assert.equal((await docker.listContainers({ filters: { status: ["paused"] } }))[0].Id, it.id);
    await it.unpause();
    await it.rename({ name: "js-other" });
    await it.update({ Memory: 128 << 20, MemorySwap: 256 << 20 });
    const inspected = await docker.getContainer("js-other").inspect();
    assert.deepEqual([inspected.Id, inspected.HostConfig.Memory], [it.id, 128 << 20]);
    await it.restart({ t: 5 });
    await it.stop({ t: 5 });
    assert.equal((await it.wait()).StatusCode, 7);
    assert.equal((await it.inspect()).State.ExitCode, 7);
    await it.start();
    await refused(409, /container is running/, it.remove());
    await it.kill();
    assert.equal((await it.wait({ condition: "not-running" })).StatusCode, 137);
    // An engine answers who waits a little before its lists show the end.
    await until("end in the list", async () => (await docker.listContainers({ filters: MINE })).length === 0);
    assert.equal((await docker.listContainers({ all: true, filters: JSON.stringify(MINE) })).length, 1);
    await it.remove({ v: true });
    await refused(404, /No such container/, it.inspect());
  },

  async attach_carries_input_and_output() {
    const asked = { OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true };
    const it = await container(["sh", "-c", "cat; echo bad >&2; exit 4"], asked);
    const stream = await it.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: true });
    const output = parted(stream);
    const ended = it.wait({ condition: "next-exit" });
    await it.start();
    stream.write("hello\n");
    stream.end("end\n");
    assert.deepEqual(await output, ["hello\nend\n", "bad\n"]);
    assert.equal((await ended).StatusCode, 4);
    await it.remove();
  },

  async a_terminal_has_a_size() {
    const it = await container(["sh"], { Tty: true, OpenStdin: true });
    const stream = await it.attach({ stream: true, hijack: true, stdin: true, stdout: true });
    let shown = "";
    stream.on("data", (part) => (shown += part));
    await it.start();
    await it.resize({ h: 33, w: 111 });
    stream.write("stty size\n");
    await until("size", () => shown.includes("33 111"));
    stream.write("exit 5\n");
    assert.equal((await it.wait()).StatusCode, 5);
    await it.remove();
  },

  async logs_are_followed() {
    const it = await container(["sh", "-c", "for n in 1 2 3; do echo $n; echo e$n >&2; sleep 0.1; done"]);
    await it.start();
    const stream = await it.logs({ follow: true, stdout: true, stderr: true });
    assert.deepEqual(await parted(stream), ["1\n2\n3\n", "e1\ne2\ne3\n"]);
    await it.wait();
    await it.remove();
  },

  async exec_runs_in_a_container() {
    const it = await sleeper();
    assert.deepEqual(await inside(it, "sh", "-c", "echo good; echo bad >&2; exit 3"), [3, "good\n", "bad\n"]);
    const asked = { AttachStdin: true, AttachStdout: true, AttachStderr: true };
    const exec = await it.exec({ Cmd: ["sh", "-c", "cat; exit 6"], ...asked });
    const stream = await exec.start({ hijack: true, stdin: true });
    const output = parted(stream);
    stream.end("typed");
    assert.deepEqual(await output, ["typed", ""]);
    await until("end", async () => !(await exec.inspect()).Running);
    assert.equal((await exec.inspect()).ExitCode, 6);
    const terminal = await it.exec({ Cmd: ["tty"], Tty: true, AttachStdout: true });
    assert.match(await text(await terminal.start({ Tty: true })), /^\/dev\//);
    await (await it.exec({ Cmd: ["touch", "/detached"] })).start({ Detach: true });
    await until("file", async () => (await inside(it, "ls", "/detached"))[0] === 0);
    await it.remove({ force: true });
  },

  async files_come_and_go() {
    const it = await container(["true"]);
    await it.putArchive(await archive({ one: "first", "dir/two": "second" }), { path: "/tmp" });
    assert.deepEqual(await unpacked(await it.getArchive({ path: "/tmp/dir" })), { "dir/two": "second" });
    await refused(404, /Could not find the file \/nosuch/, it.getArchive({ path: "/nosuch" }));
    assert((await it.changes()).some((change) => change.Path === "/tmp/one"));
    assert.equal((await unpacked(await it.export()))["tmp/one"], "first");
    await it.remove();
  },

  async stats_are_told_once_and_again() {
    const it = await sleeper();
    assert((await it.stats({ stream: false })).memory_stats.usage > 0);
    const stream = await it.stats({ stream: true });
    const first = await new Promise((resolve) => stream.once("data", resolve));
    assert.equal(JSON.parse(first).id, it.id);
    stream.destroy();
    await it.remove({ force: true });
  },

  async events_are_told_as_they_happen_and_afterwards() {
    const filters = { ...MINE, type: ["container"] };
    const stream = await docker.getEvents({ filters });
    let told = "";
    stream.on("data", (part) => (told += part));
    const since = Date.now() / 1000 - 0.1;
    const it = await container(["true"]);
    await it.start();
    await it.wait();
    await it.remove();
    const wanted = ["create", "start", "die", "destroy"];
    const actions = (lines) => {
      const events = lines.trim().split("\n").map((line) => JSON.parse(line));
      assert(events.every((event) => event.Actor.ID === it.id));
      return events.map((event) => event.Action).filter((action) => wanted.includes(action));
    };
    await until("last event", () => told.endsWith("\n") && told.includes('"destroy"'));
    stream.destroy();
    assert.deepEqual(actions(told), wanted);
    const past = { since, until: Date.now() / 1000 + 0.1, filters: { container: [it.id] } };
    assert.deepEqual(actions(await text(await docker.getEvents(past))), wanted);
  },

  async ended_containers_are_pruned() {
    const stays = await sleeper();
    const gone = await Promise.all([1, 2, 3].map(() => container(["true"])));
    const pruned = await docker.pruneContainers({ filters: MINE });
    assert.deepEqual(pruned.ContainersDeleted.sort(), gone.map((it) => it.id).sort());
    await stays.remove({ force: true });
  },

  async an_image_is_built() {
    const context = await mkdtemp(join(tmpdir(), "dockerode-"));
    await writeFile(join(context, "Dockerfile"), `FROM ${IMAGE}\nARG WORD\nCOPY it /it\nRUN echo $WORD >>/it\nCMD cat /it\n`);
    await writeFile(join(context, "it"), "begun\n");
    const asked = { t: "js/built:1", buildargs: { WORD: "done" }, labels: MARK, rm: true };
    const lines = await followed(await docker.buildImage({ context, src: ["Dockerfile", "it"] }, asked));
    assert.match(lines.at(-1).stream, /Successfully tagged js\/built:1/);
    const output = new PassThrough();
    const [result, it] = await docker.run("js/built:1", [], output);
    assert.equal(result.StatusCode, 0);
    assert.match(String(output.read()), /begun\s+done/);
    await it.remove();
    const image = docker.getImage("js/built:1");
    assert((await image.history()).some((layer) => layer.CreatedBy.includes("cat /it")));
    await image.remove();
    await writeFile(join(context, "Dockerfile"), `FROM ${IMAGE}\nRUN exit 5\n`);
    const failing = await docker.buildImage({ context, src: ["Dockerfile"] }, { rm: true, forcerm: true });
    assert.match((await followed(failing)).at(-1).error, /returned a non-zero code: 5/);
    await rm(context, { recursive: true });
  },

  async images_are_tagged_saved_and_loaded() {
    const it = await container(["sh", "-c", "echo kept >/kept"]);
    await it.start();
    await it.wait();
    const made = await it.commit({ repo: "js/made", tag: "1", changes: 'CMD ["cat", "/kept"]' });
    await it.remove();
    const image = docker.getImage("js/made:1");
    await image.tag({ repo: "js/other", tag: "2" });
    const listed = await docker.listImages({ filters: { reference: ["js/*"] } });
    assert.deepEqual(listed.map((one) => [one.Id, one.RepoTags.sort()]), [[made.Id, ["js/made:1", "js/other:2"]]]);
    const saved = await buffer(await image.get());
    await image.remove();
    await refused(404, /No such image: js\/made:1/, image.inspect());
    const lines = await followed(await docker.loadImage(new PassThrough().end(saved)));
    assert.match(lines.at(-1).stream, /Loaded image: js\/made:1/);
    const output = new PassThrough();
    const [, user] = await docker.run("js/made:1", [], output, {});
    assert.match(String(output.read()), /^kept/);
    await refused(409, /is referenced in multiple repositories/, docker.getImage(made.Id).remove());
    await docker.getImage("js/other:2").remove();
    await refused(409, /container [0-9a-f]+ is using/, image.remove());
    await user.remove();
    await image.remove();
  },

  async a_pull_that_fails_says_so() {
    await refused(500, /connection refused/, docker.pull("127.0.0.1:1/nosuch:1"));
  },

  async volumes_keep_what_is_written() {
    const volume = await docker.createVolume({ Name: "js-data", Labels: MARK });
    const HostConfig = { Binds: ["js-data:/data"] };
    const writer = await sleeper({ HostConfig });
    await inside(writer, "sh", "-c", "echo kept >/data/it");
    for (let turn = 0; turn < 3; turn++) {
      const reader = await sleeper({ HostConfig: { Mounts: [{ Type: "volume", Source: "js-data", Target: "/d" }] } });
      assert.deepEqual(await inside(reader, "cat", "/d/it"), [0, "kept\n", ""]);
      await reader.remove({ force: true });
    }
    assert.deepEqual((await docker.listVolumes({ filters: MINE })).Volumes.map((one) => one.Name), ["js-data"]);
    assert.equal((await volume.inspect()).Driver, "local");
    await refused(409, /volume is in use/, volume.remove());
    await writer.remove({ force: true });
    assert.deepEqual((await docker.pruneVolumes({ filters: { ...MINE, all: ["true"] } })).VolumesDeleted, ["js-data"]);
    await refused(404, /no such volume/, volume.inspect());
  },

  async networks_carry_names() {
    const network = await docker.createNetwork({ Name: "js-net", Driver: "bridge", Labels: MARK });
    const first = await sleeper({ HostConfig: { NetworkMode: "js-net" } });
    const joined = await sleeper({ NetworkingConfig: { EndpointsConfig: { "js-net": { Aliases: ["nick"] } } } });
    const [code, , trouble] = await inside(first, "ping", "-c1", "-W5", "nick");
    assert.equal(code, 0, trouble);
    assert.deepEqual(Object.keys((await network.inspect()).Containers).sort(), [first.id, joined.id].sort());
    await network.disconnect({ Container: joined.id });
    await network.connect({ Container: joined.id, EndpointConfig: { Aliases: ["again"] } });
    assert.equal((await inside(first, "ping", "-c1", "-W5", "again"))[0], 0);
    await refused(403, /has active endpoints/, network.remove());
    await first.remove({ force: true });
    await joined.remove({ force: true });
    assert.deepEqual((await docker.pruneNetworks({ filters: MINE })).NetworksDeleted, ["js-net"]);
    await refused(404, /network [0-9a-f]+ not found/, network.inspect());
  },

  async nothing_is_left() {
    assert.deepEqual(await docker.listContainers({ all: true }), []);
    assert.deepEqual((await docker.listVolumes()).Volumes ?? [], []);
    assert.deepEqual((await docker.listNetworks()).map((one) => one.Name).sort(), ["bridge", "host", "none"]);
    assert.deepEqual((await docker.listImages()).map((one) => one.RepoTags), [["busybox:latest"]]);
  },
};

await run(checks, async () => {
  for (const { Id } of await docker.listContainers({ all: true })) {
    await docker.getContainer(Id).remove({ force: true, v: true }).catch(() => {});
  }
});
