//! What all daemons of the family do alike.

aquatic_daemon_tests::operations!(crate::protocol::setup::WS);
aquatic_daemon_tests::stream_operations!(crate::protocol::setup::WS);
