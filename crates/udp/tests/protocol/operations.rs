//! What all daemons of the family do alike.

aquatic_test_support::operations!(crate::protocol::setup::UDP);
aquatic_test_support::address_operations!(crate::protocol::setup::UDP);
