//! The programs, as `scripts/bpf.sh` makes them of `bpf/`.

pub(crate) mod socket_filter;
pub(crate) mod xdp;

/// A program, not loaded yet.
#[derive(Clone, Copy, Debug)]
pub struct Code {
    /// Which source it is made of.
    pub name: &'static str,
    /// Instructions of 8 bytes (`struct bpf_insn`), as a little-endian machine reads them.
    pub instructions: &'static [u64],
    /// Where an address of a map belongs, and which.
    pub maps: &'static [(usize, &'static str)],
}

/// All there are.
pub const ALL: &[&Code] = &[&socket_filter::CODE, &xdp::CODE];
