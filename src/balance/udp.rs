//! UDP: what one client sends goes to one container, and its answers go back, until neither has said anything for a while.
//!
//! **Invariant**: so many clients at most are known at a time; of more, the datagrams are dropped.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use raft_store::watch;
use tokio::net::UdpSocket;

use super::backends::{Backends, Target};
use super::book::PoolPort;
use crate::clock;
use crate::tasks::spawn_stream;

/// A client that is silent for so long begins anew (docker-proxy has the same).
const IDLE: Duration = Duration::from_secs(90);
/// So many clients of one port.
const SESSIONS: usize = 4096;
/// The largest datagram there is.
const DATAGRAM_BYTES: usize = 65_535;

type Sessions = Arc<Mutex<HashMap<SocketAddr, Arc<Session>>>>;

#[derive(Debug)]
struct Session {
    target: Target,
    socket: UdpSocket,
    last: Mutex<Instant>,
}

impl Session {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = clock::instant();
    }

    fn idle_at(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + IDLE
    }
}

/// Passes datagrams on until it is told to close.
pub(super) async fn serve(
    port: PoolPort,
    socket: UdpSocket,
    backends: Arc<Backends>,
    mut closing: watch::Receiver<bool>,
) {
    let socket = Arc::new(socket);
    let sessions = Sessions::default();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error tells of an earlier datagram that a client did not take.
        let Ok((length, client)) = received else {
            continue;
        };
        let known = lock(&sessions).get(&client).cloned();
        let session = match known {
            Some(session) => session,
            None => match open(port, client, &socket, &sessions, &backends, &closing).await {
                Some(session) => session,
                None => continue,
            },
        };
        session.touch();
        if let Err(error) = session.socket.send(&buffer[..length]).await {
            failed(&session, &backends, &error);
            lock(&sessions).remove(&client);
        }
    }
}

async fn open(
    port: PoolPort,
    client: SocketAddr,
    socket: &Arc<UdpSocket>,
    sessions: &Sessions,
    backends: &Arc<Backends>,
    closing: &watch::Receiver<bool>,
) -> Option<Arc<Session>> {
    if lock(sessions).len() >= SESSIONS {
        tracing::debug!(
            port = port.number,
            "too many clients: a datagram was dropped"
        );
        return None;
    }
    let target = backends.turn().into_iter().next()?;
    let to_container = match connected(&target, port.number).await {
        Ok(socket) => socket,
        Err(error) => {
            tracing::debug!(node = %target.host.tag.name, %error, "a datagram was dropped");
            backends.eject(target.backend);
            return None;
        }
    };
    let session = Arc::new(Session {
        target,
        socket: to_container,
        last: Mutex::new(clock::instant()),
    });
    lock(sessions).insert(client, Arc::clone(&session));
    let answers = Answers {
        client,
        socket: Arc::clone(socket),
        session: Arc::clone(&session),
        sessions: Arc::clone(sessions),
        backends: Arc::clone(backends),
        closing: closing.clone(),
    };
    let span = tracing::debug_span!("datagrams", port = port.number, %client);
    spawn_stream(span, answers.pass_on());
    Some(session)
}

async fn connected(target: &Target, number: u16) -> io::Result<UdpSocket> {
    let mut found = tokio::net::lookup_host((&*target.address, number)).await?;
    let to = found.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any: SocketAddr = if to.is_ipv4() {
        ([0; 4], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(to).await?;
    Ok(socket)
}

/// The way back of one session.
struct Answers {
    client: SocketAddr,
    socket: Arc<UdpSocket>,
    session: Arc<Session>,
    sessions: Sessions,
    backends: Arc<Backends>,
    closing: watch::Receiver<bool>,
}

impl Answers {
    async fn pass_on(mut self) {
        let ended = self.until_idle().await;
        if let Err(error) = ended {
            failed(&self.session, &self.backends, &error);
        }
        let mut sessions = lock(&self.sessions);
        let is_ours = |known: &Arc<Session>| Arc::ptr_eq(known, &self.session);
        if sessions.get(&self.client).is_some_and(is_ours) {
            sessions.remove(&self.client);
        }
    }

    async fn until_idle(&mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                biased;
                _ = self.closing.wait_for(|closing| *closing) => return Ok(()),
                ready = self.session.socket.readable() => ready?,
                () = tokio::time::sleep_until(self.session.idle_at().into()) => {
                    if self.session.idle_at() <= clock::instant() {
                        return Ok(());
                    }
                    continue;
                }
            }
            let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
            match self.session.socket.try_recv_buf(&mut datagram) {
                Ok(_) => {
                    self.session.touch();
                    self.backends.answers(self.session.target.backend);
                    // A client that takes no answers is its own affair.
                    let _ = self.socket.send_to(&datagram, self.client).await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The container's node says that nobody takes datagrams there.
fn failed(session: &Session, backends: &Backends, error: &io::Error) {
    let target = &session.target;
    tracing::debug!(container = %target.backend.container, node = %target.host.tag.name, %error, "ejected");
    backends.eject(target.backend);
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
