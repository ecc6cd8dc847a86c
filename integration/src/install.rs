//! Where the engines, the stock CLI and the image come from.
//!
//! A recent engine of the machine is used as it is. Otherwise the packages are unpacked, not installed, below the lab
//! folder: once per machine, whoever asks first, while others wait. Only `iproute2`, `iptables`, `procps` and, for clients in
//! other languages, `python3-venv`, `nodejs` and `npm` are installed.
//!
//! **Invariant**: what stands under its final name is whole; a folder in the making has another name.

mod sources;

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::process;

/// The suite with the old engine, and with a runc that needs no newer libc than that.
const OLD_SUITE: &str = "bookworm";
/// The suites that may have the recent engine; the first that does is taken.
const NEW_SUITES: [&str; 2] = ["forky", "sid"];
const RECENT_MAJOR: u32 = 28;
const QUICK: Duration = Duration::from_secs(20);
const PATIENT: Duration = Duration::from_secs(600);

/// Which engine a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum EngineVersion {
    /// A recent one (28 or newer).
    #[default]
    Current,
    /// The oldest that is supported: 20.10, API 1.41.
    Old,
}

/// Why there can be no lab on this machine, in a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// One engine's programs: a root folder with `usr/bin`, `usr/sbin` and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    root: PathBuf,
}

impl Engine {
    /// The folder the programs live below; `/` for the machine's own.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folders with programs, best first.
    #[must_use]
    pub fn programs(&self) -> Vec<PathBuf> {
        ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"]
            .map(|folder| self.root.join(folder))
            .to_vec()
    }

    /// The folders with plugins of the CLI (compose, buildx).
    #[must_use]
    pub fn plugins(&self) -> Vec<PathBuf> {
        [
            "usr/local/lib",
            "usr/local/libexec",
            "usr/libexec",
            "usr/lib",
        ]
        .map(|folder| self.root.join(folder).join("docker/cli-plugins"))
        .to_vec()
    }

    /// The path of one program.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let found = self
            .programs()
            .into_iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        found.with_context(|| format!("there is no `{name}` below {}", self.root.display()))
    }
}

/// The lab folder: `$FLOTILLA_LAB_DIR`, else `/var/tmp/flotilla-lab`. Short, as socket paths are limited.
#[must_use]
pub fn folder() -> PathBuf {
    std::env::var_os("FLOTILLA_LAB_DIR")
        .map_or_else(|| PathBuf::from("/var/tmp/flotilla-lab"), PathBuf::from)
}

/// Says without downloading anything why there can be no lab here, if that is already clear.
#[must_use]
pub fn impossible() -> Option<Unavailable> {
    static ANSWER: OnceLock<Option<Unavailable>> = OnceLock::new();
    ANSWER.get_or_init(examine).clone()
}

fn examine() -> Option<Unavailable> {
    if std::env::var_os("FLOTILLA_LAB").is_some_and(|value| value == "off") {
        return Some(Unavailable("FLOTILLA_LAB=off".into()));
    }
    if !cfg!(target_os = "linux") {
        return Some(Unavailable("a lab of real engines needs Linux".into()));
    }
    if !rustix::process::geteuid().is_root() {
        return Some(Unavailable(
            "a lab of real engines needs root: run the tests as root (or with sudo -E)".into(),
        ));
    }
    let script = "mount -t tmpfs tmpfs /run && mkdir /run/u /run/w /run/m && \
                  mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/u,workdir=/run/w /run/m";
    let mut probe = Command::new("unshare");
    probe.args([
        "--net",
        "--mount",
        "--uts",
        "--ipc",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
        script,
    ]);
    match process::succeed(&mut probe, QUICK) {
        Ok(_) => None,
        Err(error) => Some(Unavailable(format!(
            "a lab needs namespaces and overlayfs, which this machine refuses (in a container: run it privileged): {error:#}"
        ))),
    }
}

/// The programs of one engine version, installed now if they are missing.
pub fn engine(version: EngineVersion) -> Result<Engine, Unavailable> {
    type Known = Vec<(EngineVersion, Result<Engine, Unavailable>)>;
    static KNOWN: Mutex<Known> = Mutex::new(Vec::new());
    let mut known = KNOWN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, engine)) = known.iter().find(|(of, _)| *of == version) {
        return engine.clone();
    }
    let engine = match impossible() {
        Some(reason) => Err(reason),
        None => prepare(version)
            .map_err(|error| Unavailable(format!("the lab cannot be installed: {error:#}"))),
    };
    known.push((version, engine.clone()));
    engine
}

/// The image `busybox:latest` as a file for `docker load`; its id is the same on every engine.
pub fn busybox() -> Result<PathBuf, Unavailable> {
    engine(EngineVersion::Current)?;
    let path = folder().join("busybox.tar");
    let made = if path.is_file() {
        Ok(())
    } else {
        locked(|| make_busybox(&path))
    };
    made.map(|()| path)
        .map_err(|error| Unavailable(format!("the busybox image cannot be made: {error:#}")))
}

/// The program of Docker's registry.
pub fn registry() -> Result<PathBuf, Unavailable> {
    if let Some(reason) = impossible() {
        return Err(reason);
    }
    let root = folder().join("registry");
    let made = locked(|| {
        if root.is_dir() {
            Ok(())
        } else {
            unpack_registry(&root)
        }
    });
    let program = root.join("usr/bin/docker-registry");
    made.map(|()| program)
        .map_err(|error| Unavailable(format!("the registry cannot be installed: {error:#}")))
}

/// The programs of OpenSSH, for both ends.
pub fn ssh() -> Result<Engine, Unavailable> {
    if let Some(reason) = impossible() {
        return Err(reason);
    }
    let root = folder().join("ssh");
    let made = locked(|| {
        if root.is_dir() {
            Ok(())
        } else {
            unpack_ssh(&root)
        }
    });
    made.map(|()| Engine { root })
        .map_err(|error| Unavailable(format!("OpenSSH cannot be installed: {error:#}")))
}

/// The program of docker-compose 1.29.2, the last one in Python, in an environment of its own.
pub fn old_compose() -> Result<PathBuf, Unavailable> {
    let root = client("old-compose", install_old_compose)?;
    Ok(root.join("bin/docker-compose"))
}

/// The Python of an environment that has docker-py 7.
pub fn docker_py() -> Result<PathBuf, Unavailable> {
    let root = client("docker-py", install_docker_py)?;
    Ok(root.join("bin/python"))
}

/// A folder in which programs for `node` find dockerode 5.
pub fn dockerode() -> Result<PathBuf, Unavailable> {
    client("dockerode", install_dockerode)
}

/// The Python of an environment that has testcontainers 4.
pub fn testcontainers_python() -> Result<PathBuf, Unavailable> {
    let root = client("testcontainers-python", install_testcontainers_python)?;
    Ok(root.join("bin/python"))
}

/// A folder in which programs for `node` find testcontainers 10.
pub fn testcontainers_node() -> Result<PathBuf, Unavailable> {
    client("testcontainers-node", install_testcontainers_node)
}

/// The folder of a client that is installed in its place.
fn client(name: &str, install: fn(&Path) -> Result<()>) -> Result<PathBuf, Unavailable> {
    if let Some(reason) = impossible() {
        return Err(reason);
    }
    let root = folder().join(name);
    let made = locked(|| {
        if root.join(INSTALLED).is_file() {
            return Ok(());
        }
        install(&root)?;
        fs::write(root.join(INSTALLED), "").context("cannot mark it as installed")
    });
    made.map(|()| root)
        .map_err(|error| Unavailable(format!("{name} cannot be installed: {error:#}")))
}

/// What pip and npm install cannot be moved, so it is made in its place; this file in it says that it is whole.
const INSTALLED: &str = "installed";

fn install_docker_py(root: &Path) -> Result<()> {
    make_environment(root)?;
    say("installing docker-py with pip");
    pip(root, &["docker~=7.1"])
}

fn install_testcontainers_python(root: &Path) -> Result<()> {
    make_environment(root)?;
    say("installing testcontainers with pip");
    pip(root, &["testcontainers~=4.15"])
}

fn install_dockerode(root: &Path) -> Result<()> {
    say("installing dockerode with npm");
    npm(root, &["dockerode@5", "tar-stream@3"])
}

fn install_testcontainers_node(root: &Path) -> Result<()> {
    say("installing testcontainers with npm");
    // The last ones that Debian's Node can run.
    npm(root, &["testcontainers@10"])
}

fn npm(root: &Path, packages: &[&str]) -> Result<()> {
    let machine = Engine { root: "/".into() };
    if machine.program("node").is_err() || machine.program("npm").is_err() {
        say("installing nodejs and npm with apt-get");
        install_packages(&["nodejs", "npm"])?;
    }
    fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
    let mut npm = Command::new("npm");
    // What its SSH needs to be faster would be compiled.
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"])
        .args(["--omit=optional", "--prefix"])
        .arg(root)
        .args(packages);
    process::succeed(&mut npm, PATIENT).map(drop)
}

fn install_old_compose(root: &Path) -> Result<()> {
    make_environment(root)?;
    say("installing docker-compose 1.29.2 with pip");
    // What it asks for (PyYAML below 6) can be built no more; what it is given does as well.
    pip(
        root,
        &["--no-deps", "docker-compose==1.29.2", "docker==5.0.3"],
    )?;
    pip(
        root,
        &[
            "setuptools<81",
            "pyyaml<7",
            "requests<2.32",
            "urllib3<2",
            "websocket-client<1",
            "docopt<1",
            "dockerpty<1",
            "python-dotenv<1",
            "distro<2",
            "texttable<2",
            "jsonschema<4",
            "cached-property<2",
            "paramiko<4",
            "six<2",
        ],
    )
}

/// An empty Python environment.
fn make_environment(root: &Path) -> Result<()> {
    // Debian has neither Python nor its way to make environments unless something asked for them.
    let mut makes_environments = Command::new("python3");
    makes_environments.args(["-c", "import venv, ensurepip"]);
    if process::succeed(&mut makes_environments, QUICK).is_err() {
        say("installing python3-venv with apt-get");
        install_packages(&["python3-venv"])?;
    }
    let mut venv = Command::new("python3");
    process::succeed(venv.args(["-m", "venv", "--clear"]).arg(root), PATIENT).map(drop)
}

fn pip(root: &Path, packages: &[&str]) -> Result<()> {
    let mut pip = Command::new(root.join("bin/pip"));
    pip.args(["install", "-q", "--disable-pip-version-check"]);
    process::succeed(pip.args(packages), PATIENT).map(drop)
}

fn prepare(version: EngineVersion) -> Result<Engine> {
    if version == EngineVersion::Current
        && let Some(engine) = of_this_machine()
    {
        locked(install_tools)?;
        return Ok(engine);
    }
    let root = folder().join("engines").join(match version {
        EngineVersion::Current => "current",
        EngineVersion::Old => "old",
    });
    locked(|| {
        install_tools()?;
        if !root.is_dir() {
            match version {
                EngineVersion::Current => unpack_current(&root),
                EngineVersion::Old => unpack_old(&root),
            }?;
        }
        Ok(())
    })?;
    Ok(Engine { root })
}

/// Runs `work` while no other process of this machine installs anything.
fn locked<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let _lock = lock("install.lock")?;
    work()
}

/// Takes a lock of the lab folder; it ends with the returned file or with this process.
pub(crate) fn lock(name: &str) -> Result<File> {
    let folder = folder();
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}; set FLOTILLA_LAB_DIR", folder.display()))?;
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    file.lock()
        .with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn of_this_machine() -> Option<Engine> {
    let engine = Engine { root: "/".into() };
    let version = |program: &str, arguments: &[&str]| {
        process::succeed(
            Command::new(engine.program(program).ok()?).args(arguments),
            QUICK,
        )
        .ok()
    };
    let recent = |text: String| major(&text).is_some_and(|major| major >= RECENT_MAJOR);
    let complete = recent(version("dockerd", &["--version"])?)
        && recent(version("docker", &["--version"])?)
        && version("docker", &["compose", "version"]).is_some()
        && version("docker", &["buildx", "version"]).is_some()
        && version("containerd", &["--version"]).is_some()
        && version("runc", &["--version"]).is_some();
    complete.then_some(engine)
}

/// `Docker version 28.5.2+dfsg4, build …` → 28
fn major(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("version ")?;
    rest.split('.').next()?.parse().ok()
}

fn say(line: &str) {
    eprintln!("lab: {line}");
}

/// What engines call of their host: it must match the machine, so these are the only packages that are really installed. A
/// minimal Debian lacks all of them; `ps` is what `docker top` asks.
fn install_tools() -> Result<()> {
    let machine = Engine { root: "/".into() };
    let tools = [
        ("ip", "iproute2"),
        ("iptables", "iptables"),
        ("ps", "procps"),
    ];
    let missing: Vec<&str> = tools
        .into_iter()
        .filter(|(program, _)| {
            machine.program(program).is_err() && !Path::new("/sbin").join(program).is_file()
        })
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("installing {} with apt-get", missing.join(", ")));
    install_packages(&missing)
}

fn install_packages(packages: &[&str]) -> Result<()> {
    let install = || {
        let mut apt = apt_get(None);
        apt.args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages);
        process::succeed(&mut apt, PATIENT)
    };
    // The package lists of a fresh machine are empty.
    if install().is_err() {
        process::succeed(apt_get(None).args(["update", "-q"]), PATIENT)?;
        install().with_context(|| {
            format!("install {} by hand, then try again", packages.join(" and "))
        })?;
    }
    Ok(())
}

fn apt_get(config: Option<&Path>) -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    if let Some(config) = config {
        command.env("APT_CONFIG", config);
    }
    command
}

fn unpack_current(root: &Path) -> Result<()> {
    let mut refusals = Vec::new();
    for suite in NEW_SUITES {
        let archive = match Archive::open(suite) {
            Ok(archive) => archive,
            Err(error) => {
                refusals.push(format!("{suite}: {error:#}"));
                continue;
            }
        };
        match archive.version("docker.io")? {
            Some(version)
                if major(&format!("version {version}"))
                    .is_some_and(|major| major >= RECENT_MAJOR) =>
            {
                say(&format!(
                    "fetching docker {version}, compose and buildx (about 90 MB)"
                ));
                let new = [
                    "docker.io",
                    "docker-cli",
                    "docker-compose",
                    "docker-buildx",
                    "containerd",
                ];
                let old = Archive::open(OLD_SUITE)?;
                return whole(root, |root| {
                    archive.unpack(&new, root)?;
                    // The recent runc needs a newer libc than a machine with the old suite has; tini is `run --init`.
                    old.unpack(&["runc", "tini"], root)
                });
            }
            found => refusals.push(format!(
                "{suite} has docker.io {}",
                found.unwrap_or_else(|| "in no version".into())
            )),
        }
    }
    bail!(
        "no suite has docker.io {RECENT_MAJOR} ({}); install a recent dockerd, docker, compose and buildx",
        refusals.join("; ")
    )
}

fn unpack_old(root: &Path) -> Result<()> {
    let archive = Archive::open(OLD_SUITE)?;
    let version = archive
        .version("docker.io")?
        .with_context(|| format!("{OLD_SUITE} has no docker.io"))?;
    say(&format!(
        "fetching the old engine, docker {version} (about 70 MB)"
    ));
    whole(root, |root| {
        archive.unpack(&["docker.io", "containerd", "runc", "tini"], root)?;
        let libraries = process::succeed(
            Command::new("ldd").arg(root.join("usr/sbin/dockerd")),
            QUICK,
        )?;
        if libraries.contains("not found") {
            install_packages(&["libdevmapper1.02.1"])?;
        }
        Ok(())
    })
}

fn unpack_registry(root: &Path) -> Result<()> {
    say("fetching a registry (about 5 MB)");
    let archive = Archive::open(OLD_SUITE)?;
    whole(root, |root| archive.unpack(&["docker-registry"], root))
}

/// Unpacked, a server starts nothing by itself; only libraries are really installed.
fn unpack_ssh(root: &Path) -> Result<()> {
    say("fetching OpenSSH (about 2 MB)");
    let archive = Archive::open(OLD_SUITE)?;
    whole(root, |root| {
        archive.unpack(&["openssh-server", "openssh-client"], root)?;
        let lacks = |program: &str| {
            let libraries = process::succeed(Command::new("ldd").arg(root.join(program)), QUICK)?;
            Ok::<_, anyhow::Error>(libraries.contains("not found"))
        };
        if lacks("usr/sbin/sshd")? || lacks("usr/bin/ssh")? {
            install_packages(&["libwrap0", "libgssapi-krb5-2", "libfido2-1", "libedit2"])?;
        }
        Ok(())
    })
}

fn make_busybox(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    say("making the busybox image");
    let work = folder().join("busybox.partial");
    whole(&work.join("root"), |root| {
        Archive::open(OLD_SUITE)?.unpack(&["busybox-static"], root)
    })?;
    let program = ["bin/busybox", "usr/bin/busybox"].map(|name| work.join("root").join(name));
    let program = program
        .iter()
        .find(|path| path.is_file())
        .context("busybox-static holds no busybox")?;
    let mut make = Command::new("sh");
    make.args(["-c", include_str!("install/image.sh"), "image"])
        .arg(program)
        .current_dir(&work);
    process::succeed(&mut make, QUICK)?;
    fs::rename(work.join("busybox.tar"), path).context("cannot put the image in its place")?;
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))
}

/// Fills a folder under another name and renames it when it is complete.
fn whole(root: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let partial = root.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)
            .with_context(|| format!("cannot remove {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    fill(&partial)?;
    fs::rename(&partial, root)
        .with_context(|| format!("cannot put {} in its place", root.display()))
}

/// One suite of the machine's own archive, with package lists of its own.
struct Archive {
    suite: &'static str,
    folder: PathBuf,
    config: PathBuf,
}

impl Archive {
    fn open(suite: &'static str) -> Result<Self> {
        let folder = folder().join("apt").join(suite);
        let archive = Self {
            suite,
            config: folder.join("apt.conf"),
            folder,
        };
        let fresh = archive.folder.join("fresh");
        if fresh.is_file() {
            return Ok(archive);
        }
        for part in ["sources", "lists/partial", "cache/archives/partial", "none"] {
            fs::create_dir_all(archive.folder.join(part))
                .context("cannot create the package folders")?;
        }
        let source = sources::derive(&machine_sources(), &codename()?, suite).ok_or_else(|| {
            anyhow!(
                "this machine has no package source of its Debian release to derive `{suite}` from"
            )
        })?;
        fs::write(archive.folder.join("sources/suite.sources"), source)
            .context("cannot write the package source")?;
        let at = archive.folder.display();
        let config = format!(
            "Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::SourceParts \"{at}/sources\";\n\
             Dir::Etc::Preferences \"/dev/null\";\nDir::Etc::PreferencesParts \"{at}/none\";\n\
             Dir::State::Lists \"{at}/lists\";\nDir::Cache \"{at}/cache\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"3\";\nAPT::Sandbox::User \"root\";\n"
        );
        fs::write(&archive.config, config).context("cannot write the package settings")?;
        archive.read_lists()?;
        fs::write(fresh, "").context("cannot mark the package lists")?;
        Ok(archive)
    }

    fn read_lists(&self) -> Result<()> {
        say(&format!("reading the package lists of {}", self.suite));
        let mut update = apt_get(Some(&self.config));
        process::succeed(update.args(["update", "-q", "--error-on=any"]), PATIENT).map(drop)
    }

    fn version(&self, package: &str) -> Result<Option<String>> {
        let mut show = Command::new("apt-cache");
        show.env("APT_CONFIG", &self.config)
            .env("LC_ALL", "C")
            .args(["policy", package]);
        let text = process::succeed(&mut show, QUICK)?;
        let candidate = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate:"));
        Ok(candidate
            .map(|version| version.trim().to_owned())
            .filter(|version| version != "(none)"))
    }

    fn unpack(&self, packages: &[&str], root: &Path) -> Result<()> {
        let debs = self.folder.join("debs");
        if debs.exists() {
            fs::remove_dir_all(&debs).context("cannot empty the download folder")?;
        }
        fs::create_dir_all(&debs).context("cannot create the download folder")?;
        let fetch = || {
            let mut download = apt_get(Some(&self.config));
            process::succeed(
                download
                    .args(["download", "-q"])
                    .args(packages)
                    .current_dir(&debs),
                PATIENT,
            )
        };
        // Lists that were read long ago name versions that are gone.
        if fetch().is_err() {
            self.read_lists()?;
            fetch().with_context(|| format!("cannot fetch packages of {}", self.suite))?;
        }
        for deb in fs::read_dir(&debs).context("cannot read the download folder")? {
            let deb = deb.context("cannot read the download folder")?.path();
            process::succeed(Command::new("dpkg").arg("-x").arg(&deb).arg(root), PATIENT)?;
        }
        fs::remove_dir_all(&debs).context("cannot empty the download folder")
    }
}

fn machine_sources() -> Vec<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|kind| kind == "sources" || kind == "list")
        })
        .collect();
    paths.sort();
    paths.insert(0, "/etc/apt/sources.list".into());
    paths
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

fn codename() -> Result<String> {
    let release =
        fs::read_to_string("/etc/os-release").context("this machine has no /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    codename
        .map(|name| name.trim_matches('"').to_owned())
        .context("/etc/os-release names no release")
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn a_version_line_gives_its_major_number() {
        assert_eq!(major("Docker version 28.5.2+dfsg4, build abc"), Some(28));
        assert_eq!(major("docker 28"), None);
    }
}
