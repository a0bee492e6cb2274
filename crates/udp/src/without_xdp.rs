//! What there is in front of the network stack where there is no Linux: nothing.

use aquatic_config::Checks;
use aquatic_xdp::Counts;

use crate::config::{Config, NetworkConfig};
use crate::connection_id::ConnectionIds;
use crate::front_end::GuardParts;
use crate::socket_worker::frames::FrameQueue;

/// Never made.
pub(crate) enum Attached {}

impl Attached {
    /// None. Whoever asks for one is told so when the configuration is read.
    pub(crate) fn new(_config: &Config) -> anyhow::Result<Option<Self>> {
        Ok(None)
    }

    pub(crate) fn take_queues(&mut self, _workers: usize) -> Vec<Vec<FrameQueue>> {
        match *self {}
    }
}

/// The configuration is refused if it wants one.
pub(crate) fn inspect(_network: &NetworkConfig, _checks: &mut Checks) {}

/// Never made.
#[derive(Debug)]
pub(crate) enum XdpControl {}

impl XdpControl {
    pub(crate) fn deactivate(&self) {
        match *self {}
    }
}

/// Never made.
#[derive(Debug)]
pub(crate) enum Guard {}

impl Guard {
    pub(crate) fn new(
        attached: Attached,
        _network: &NetworkConfig,
        _parts: GuardParts<'_>,
    ) -> Self {
        match attached {}
    }

    pub(crate) fn look_each_second(&mut self, _ids: &ConnectionIds) {
        match *self {}
    }

    pub(crate) fn end(&mut self) {
        match *self {}
    }

    pub(crate) fn control(&self) -> XdpControl {
        match *self {}
    }

    pub(crate) fn take_counts(&mut self) -> [Counts; 2] {
        match *self {}
    }

    pub(crate) fn malformed(&self) -> u64 {
        match *self {}
    }
}
