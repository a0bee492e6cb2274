//! What all daemons of the family do alike.

aquatic_daemon_tests::operations!(crate::protocol::setup::HTTP);
aquatic_daemon_tests::stream_operations!(crate::protocol::setup::HTTP);
