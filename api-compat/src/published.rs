//! The address under which a published port is shown.
//!
//! An engine shows `0.0.0.0` and `::` for a port published on every address, one row each; behind one endpoint for many
//! hosts that names no host, so the node's address stands there instead, once.

/// Whether an address means every address of the host.
pub fn is_wildcard(address: &str) -> bool {
    matches!(address, "" | "0.0.0.0" | "::" | "[::]")
}

/// Decides on the rows of one list of published ports, in order.
#[derive(Debug)]
pub(crate) struct Rows<'a, K> {
    address: &'a str,
    seen: Vec<K>,
}

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row<'a> {
    /// It names a host already.
    Keep,
    /// It shows this address.
    Show(&'a str),
    /// It is the twin of one shown before.
    Drop,
}

impl<'a, K: PartialEq> Rows<'a, K> {
    pub(crate) fn new(address: &'a str) -> Self {
        Self {
            address,
            seen: Vec::new(),
        }
    }

    /// `port` is what two rows have in common when they are twins.
    pub(crate) fn next(&mut self, address: &str, port: K) -> Row<'a> {
        if !is_wildcard(address) {
            return Row::Keep;
        }
        if self.seen.contains(&port) {
            return Row::Drop;
        }
        self.seen.push(port);
        Row::Show(self.address)
    }
}
