//! The teachers that a run is connected to.
