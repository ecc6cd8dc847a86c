//! The host ports that the user asked for must be free on the node.

use super::{Candidate, Reason, Request};

pub(super) fn check(request: &Request, candidate: &Candidate) -> Result<(), Reason> {
    for port in &request.ports {
        if let Some(taken) = candidate
            .taken
            .iter()
            .find(|taken| taken.port.overlaps(port))
        {
            return Err(Reason::Port {
                port: *port,
                by: taken.by.clone(),
            });
        }
    }
    Ok(())
}
