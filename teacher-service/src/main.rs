//! Streams a teacher's logits over gRPC.

fn main() {}
