//! The device of a run.

use super::Scene;

#[test]
fn a_device_that_does_not_exist_is_refused_before_anything_is_written() {
    let scene = Scene::new();
    let message = scene.failure("run", &["device=cuda:99"]);
    assert!(message.contains("\"cuda:99\""), "{message}");
    assert!(!scene.path("run").exists());
}
