//! Documented TOML configuration: printed with comments, read strictly.
