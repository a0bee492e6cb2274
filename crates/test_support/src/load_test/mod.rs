//! Black-box tests of a load tester: its real program is let loose on a fake tracker, which
//! misbehaves by plan and keeps book of it. The report must say the same.
//!
//! How a tracker misbehaves, and what it speaks, is each tester's own. What is the same for all is
//! here:
//!
//! | module | what it gives |
//! |---|---|
//! | [`tester`] | the program and its report |
//! | [`fake_tracker`] | the thread that a fake tracker runs in, TCP and TLS |
//!
//! Only tests use it. It panics where they would.

pub mod fake_tracker;
pub mod tester;

pub use fake_tracker::FakeTracker;
pub use tester::Tester;
