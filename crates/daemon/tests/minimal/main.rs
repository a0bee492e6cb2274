//! Starts `examples/minimal.rs` as an operator would, and looks at it from outside.

mod command_line;
mod life;
mod log_lines;
mod privileges;
mod process;
mod signals;
