//! Slots as block devices.
