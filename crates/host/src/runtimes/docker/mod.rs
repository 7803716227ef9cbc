//! Docker Engine: its data root on disk, and its API as a help.
