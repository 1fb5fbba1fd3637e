//! Disk images for a first install: GPT, ESP, both slots, var.
