//! Upload of an exported model to an inference service.
