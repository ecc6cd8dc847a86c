//! A seeded world: the real manager and its log over simulated engines, a simulated disk and one clock, all in one thread.

pub mod engine;
