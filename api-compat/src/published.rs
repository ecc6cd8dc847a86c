//! The address under which a published port is shown.
//!
//! An engine shows `0.0.0.0` and `::` for a port published on every address, one row each; behind one endpoint for many
//! hosts that names no host, so the node's address stands there instead, once. A port that is on `::` alone is not there at
//! an IPv4 address, and stays as it is.

use std::net::Ipv6Addr;

/// Whether an address means every address of the host, of one family at least.
fn is_wildcard(address: &str) -> bool {
    matches!(address, "" | "0.0.0.0") || is_every_v6(address)
}

fn is_every_v6(address: &str) -> bool {
    matches!(address, "::" | "[::]")
}

/// Whether a port that is published on this address is there at `node`, an address or name of its host.
pub fn is_reached_at(node: &str, published: &str) -> bool {
    is_wildcard(published) && (!is_every_v6(published) || node.parse::<Ipv6Addr>().is_ok())
}

/// Decides on the rows of one list of published ports, in order.
#[derive(Debug)]
pub(crate) struct Rows<'a, K> {
    address: &'a str,
    /// The ports that are there at that address.
    reached: Vec<K>,
    seen: Vec<K>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    /// It names a host already, or is not there at its address.
    Keep,
    /// It shows this address.
    Show(&'a str),
    /// It is the twin of one shown before.
    Drop,
}

impl<'a, K: PartialEq> Rows<'a, K> {
    /// `all` are the rows, each with what it has in common with its twin.
    pub(crate) fn new<T: AsRef<str>>(address: &'a str, all: impl Iterator<Item = (T, K)>) -> Self {
        let reached = all.filter(|(published, _)| is_reached_at(address, published.as_ref()));
        Self {
            address,
            reached: reached.map(|(_, port)| port).collect(),
            seen: Vec::new(),
        }
    }

    /// `port` is what two rows have in common when they are twins.
    pub(crate) fn next(&mut self, address: &str, port: K) -> Row<'a> {
        if !is_wildcard(address) || !self.reached.contains(&port) {
            return Row::Keep;
        }
        if self.seen.contains(&port) {
            return Row::Drop;
        }
        self.seen.push(port);
        Row::Show(self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows are `address port`.
    #[track_caller]
    fn check(node: &str, rows: &[&str], expected: &[&str]) {
        let rows = rows.iter();
        let rows: Vec<_> = rows.map(|row| row.split_once(' ').expect("two")).collect();
        let mut decided = Rows::new(node, rows.iter().copied());
        let shown: Vec<_> = rows
            .iter()
            .filter_map(|(address, port)| match decided.next(address, port) {
                Row::Keep => Some(format!("{address} {port}")),
                Row::Show(address) => Some(format!("{address} {port}")),
                Row::Drop => None,
            })
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_nodes_address_is_shown_for_what_is_there() {
        let v4 = "192.0.2.7";
        check(v4, &["0.0.0.0 80", ":: 80"], &["192.0.2.7 80"]);
        check(v4, &[":: 80", "0.0.0.0 80"], &["192.0.2.7 80"]);
        check(v4, &["0.0.0.0 80"], &["192.0.2.7 80"]);
        check(v4, &[" 80", ":: 81"], &["192.0.2.7 80", ":: 81"]);
        check(v4, &["0.0.0.0 81", ":: 80"], &["192.0.2.7 81", ":: 80"]);
        check(v4, &["127.0.0.1 80", ":: 80"], &["127.0.0.1 80", ":: 80"]);
        check("host1", &[":: 80"], &[":: 80"]);
        check("2001:db8::7", &[":: 80"], &["2001:db8::7 80"]);
        check("2001:db8::7", &["0.0.0.0 80", ":: 80"], &["2001:db8::7 80"]);
    }
}
