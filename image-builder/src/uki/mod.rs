//! Unified kernel images (UAPI.5).
