//! The same request to an engine and to a pool of that one engine: status, headers and body must agree, byte for byte.
//!
//! What may differ is a closed list (`allowed`), each entry with its reason; one that nothing needs any more fails the
//! test, as does a difference that no entry allows.

mod allowed;
mod changes;
mod compare;
mod reads;

use std::process::ExitCode;

use integration::harness::{self, case};
use integration::lab::Spec;

fn main() -> ExitCode {
    harness::main(
        Spec::hosts(1),
        vec![
            case("reads_and_refusals_agree", reads::agree),
            case("changes_and_their_errors_agree", changes::agree),
            case("streams_agree", changes::streams_agree),
        ],
    )
}
