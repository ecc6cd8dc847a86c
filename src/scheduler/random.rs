//! Random: any node that fits. The dice were thrown by whoever asks: the same seed chooses the same node.

use super::Request;
use super::brief::Brief;

pub(super) fn weigh(request: &Request, node: &Brief) -> (u64, u32) {
    let (front, back) = node.node.as_bytes().split_at(8);
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    (mix(mix(request.seed ^ number(front)) ^ number(back)), 0)
}

/// Spreads neighbouring numbers over all numbers (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
