//! The load command line: gantry load FILE.
