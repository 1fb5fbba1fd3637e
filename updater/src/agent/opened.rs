//! Both partitions of a slot, open.

use upright_manifests::name::Slot;
use upright_manifests::size::Size;

use super::AgentError;
use crate::apply::Partitions;
use crate::flow::GentleDevice;
use crate::host::{Access, BlockDevice, Clock, Host, Part};

/// Both partitions of a slot.
pub(super) struct Opened<'a> {
    pub(super) slot: Slot,
    pub(super) root: Box<dyn BlockDevice + 'a>,
    pub(super) verity: Box<dyn BlockDevice + 'a>,
}

impl Opened<'static> {
    pub(super) fn of(host: &dyn Host, slot: Slot, access: Access) -> Result<Self, AgentError> {
        let open = |part| {
            let opened = host.slots().open(slot, part, access);
            opened.map_err(AgentError::system(format!("open the partitions of slot {slot}")))
        };
        Ok(Self { slot, root: open(Part::Root)?, verity: open(Part::Verity)? })
    }
}

impl<'a> Opened<'a> {
    /// The same, written at a bounded rate.
    pub(super) fn gently(self, clock: &'a dyn Clock, rate: Option<Size>) -> Opened<'a> {
        let gentle = |device: Box<dyn BlockDevice + 'a>| Box::new(GentleDevice::new(device, clock, rate));
        Opened { slot: self.slot, root: gentle(self.root), verity: gentle(self.verity) }
    }

    pub(super) fn partitions(&self) -> Partitions<'_> {
        Partitions { slot: self.slot, root: self.root.as_ref(), verity: self.verity.as_ref() }
    }
}
