//! Small files that survive a power cut: written aside, synced, renamed, the folder synced.
