//! One launcher that confines a process
