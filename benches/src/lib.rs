//! Speed of the hot paths, measured by the benches beside this file.
