//! The command line: arguments and output. Knows all rooms but the other front ends.
