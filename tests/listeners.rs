//! listeners
