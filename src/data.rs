//! The data directory: whose it is, and the log of all that was promised.
//!
//! `lock` keeps a second manager out, `cluster-id` names the cluster, `log.redb` has the promises, and
//! `seal-key` opens what is sealed in it.
//!
//! **Invariant**: what is damaged, or is another cluster's, is refused and left as it is; nothing here
//! is ever overwritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use raft_store::{DurableDisk, Identity, MemberId, OpenError, Options, Store};
use rustix::fs::{FlockOperation, flock};

use crate::clock;
use crate::model::{ClusterId, ManagerId};
use crate::seal::{KEY_BYTES, Seal};
use crate::state::Cluster;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing can be kept there.
    #[error("the data directory {} cannot be used: {cause}", path.display())]
    Unusable {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// Another manager keeps its data there.
    #[error("another manager uses the data directory {}: stop it, or give this one another with --data", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The cluster's id on disk is none.
    #[error("{} holds no cluster id: restore it, or remove the whole directory to begin a new cluster", path.display())]
    BadClusterId {
        /// The file.
        path: PathBuf,
    },
    /// The cluster's id is gone, but its log is not.
    #[error(
        "{} is missing, and {} belongs to cluster {cluster}: write that id into the file, or restore both from one backup",
        path.display(), log.display()
    )]
    LostClusterId {
        /// The file that is missing.
        path: PathBuf,
        /// The log that is there.
        log: PathBuf,
        /// Whose log it is.
        cluster: ClusterId,
    },
    /// The key is gone or damaged, but not what is sealed with it.
    #[error(
        "{} is missing or damaged, and {} has what is sealed with it: restore it from a backup, or remove the whole directory to \
         begin anew: containers are then found by their labels",
        path.display(), log.display()
    )]
    LostKey {
        /// The file.
        path: PathBuf,
        /// The log that is there.
        log: PathBuf,
    },
    /// The log cannot be trusted.
    #[error("{}", with_causes(.0))]
    Log(OpenError),
    /// The log is sound and cannot be taken up.
    #[error("the log {} cannot be taken up: {cause}", path.display())]
    Store {
        /// The log.
        path: PathBuf,
        /// What the store said.
        cause: io::Error,
    },
}

/// The error and what is behind it, in one line.
fn with_causes(error: &OpenError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// The hold on a data directory.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the lock ends with the file")] File);

/// What a manager finds in its data directory.
#[derive(Debug)]
pub struct Data {
    /// The cluster: the same for ever, because containers carry it.
    pub cluster: ClusterId,
    /// Who this manager is in it.
    pub member: ManagerId,
    /// All that was promised.
    pub store: Store<Cluster>,
    /// Seals what lies beside it.
    pub seal: Seal,
    /// Keeps others out for as long as this lives.
    pub lock: Lock,
}

impl Data {
    /// Opens the directory, or makes it. Blocks while it reads.
    pub fn open(path: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(path).map_err(unusable(path))?;
        let lock = lock(path)?;
        let cluster = cluster_id(path)?;
        let seal = seal_key(path)?;
        let disk = log_of(path, cluster).map_err(Error::Log)?;
        let member = disk.identity().member;
        let store = Store::open(member, Cluster::new(), disk, Options::new(clock::instant));
        Ok(Self {
            cluster,
            member: ManagerId::from_bytes(member.0),
            store: store.map_err(|cause| Error::Store {
                path: DurableDisk::path(path),
                cause,
            })?,
            seal,
            lock,
        })
    }
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |cause| Error::Unusable { path, cause }
}

fn lock(path: &Path) -> Result<Lock, Error> {
    let file = path.join("lock");
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .map_err(unusable(&file))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::InUse {
        path: path.to_owned(),
    })?;
    Ok(Lock(lock))
}

/// The log of this cluster; an empty one if there is none: the containers are then adopted by their labels.
fn log_of(path: &Path, cluster: ClusterId) -> Result<DurableDisk, OpenError> {
    let cluster = raft_store::ClusterId(*cluster.as_bytes());
    if DurableDisk::exists(path) {
        return DurableDisk::open(path)?.of_cluster(cluster);
    }
    let mut member: [u8; 16] = clock::random_bytes();
    // The consensus knows a member by its first eight bytes, of which none may be nobody's.
    member[0] |= 1;
    DurableDisk::create(
        path,
        Identity {
            cluster,
            member: MemberId(member),
        },
    )
}

/// The cluster's id: made at the first start, the same ever after.
fn cluster_id(data: &Path) -> Result<ClusterId, Error> {
    let path = data.join("cluster-id");
    match File::open(&path) {
        Ok(mut file) => {
            let mut text = String::new();
            file.read_to_string(&mut text).map_err(unusable(&path))?;
            text.trim()
                .parse()
                .map_err(|_| Error::BadClusterId { path: path.clone() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if DurableDisk::exists(data) {
                return Err(lost_cluster_id(data, path));
            }
            let cluster = ClusterId::from_bytes(clock::random_bytes());
            write_whole(data, &path, format!("{cluster}\n").as_bytes()).map_err(unusable(&path))?;
            Ok(cluster)
        }
        Err(error) => Err(unusable(&path)(error)),
    }
}

fn lost_cluster_id(data: &Path, path: PathBuf) -> Error {
    match DurableDisk::open(data) {
        Ok(disk) => Error::LostClusterId {
            path,
            log: DurableDisk::path(data),
            cluster: ClusterId::from_bytes(disk.identity().cluster.0),
        },
        Err(error) => Error::Log(error),
    }
}

/// The key of what is sealed: made at the first start, for the eyes of this user alone.
fn seal_key(data: &Path) -> Result<Seal, Error> {
    let path = data.join("seal-key");
    let lost = || Error::LostKey {
        path: path.clone(),
        log: DurableDisk::path(data),
    };
    match std::fs::read(&path) {
        Ok(key) => Ok(Seal::new(&key.try_into().map_err(|_| lost())?)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unusable(&path)(error)),
        Err(_) if DurableDisk::exists(data) => Err(lost()),
        Err(_) => {
            let key: [u8; KEY_BYTES] = clock::random_bytes();
            write_whole(data, &path, &key).map_err(unusable(&path))?;
            Ok(Seal::new(&key))
        }
    }
}

/// Whole or not at all: a half-written id would orphan every container.
fn write_whole(data: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(data)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        match Data::open(path) {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => error.to_string(),
        }
    }

    async fn open_and_end(path: &Path) -> (ClusterId, ManagerId) {
        let data = Data::open(path).expect("opens");
        data.store.shutdown().await;
        (data.cluster, data.member)
    }

    #[tokio::test]
    async fn cluster_and_member_are_the_same_at_every_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = open_and_end(folder.path()).await;
        assert_eq!(open_and_end(folder.path()).await, first);
    }

    #[tokio::test]
    async fn a_directory_belongs_to_one_manager() {
        let folder = tempfile::tempdir().expect("a folder");
        let _first = Data::open(folder.path()).expect("opens");
        assert!(refusal(folder.path()).contains("another manager uses"));
    }

    #[tokio::test]
    async fn what_does_not_belong_together_is_refused_and_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let (cluster, _) = open_and_end(path).await;
        let (id, log) = (path.join("cluster-id"), DurableDisk::path(path));
        std::fs::remove_file(&id).expect("removes");
        let said = refusal(path);
        assert!(
            said.contains(&format!("belongs to cluster {cluster}")),
            "{said}"
        );
        std::fs::write(&id, "what").expect("writes");
        assert!(refusal(path).contains("holds no cluster id"));
        std::fs::write(&id, format!("{}\n", "7".repeat(32))).expect("writes");
        let said = refusal(path);
        assert!(said.contains("belongs to cluster"), "{said}");
        std::fs::write(&id, format!("{cluster}\n")).expect("writes");
        let key = std::fs::read(path.join("seal-key")).expect("reads");
        std::fs::remove_file(path.join("seal-key")).expect("removes");
        assert!(refusal(path).contains("seal-key is missing or damaged"));
        std::fs::write(path.join("seal-key"), &key).expect("writes");
        let mut bytes = std::fs::read(&log).expect("reads");
        let middle = bytes.len() / 2;
        bytes.truncate(middle);
        std::fs::write(&log, &bytes).expect("writes");
        let said = refusal(path);
        assert!(
            said.contains("damaged") && said.contains("backup"),
            "{said}"
        );
        assert_eq!(std::fs::read(&log).expect("reads"), bytes, "left as it is");
    }
}
