//! What the kernel says of a process: memory, CPU seconds.
