//! One teacher with several addresses.

use super::SIZE;
use crate::distillation::{Scene, TEACHER, address, student};
use test_support::{Relay, Teacher, eventually};

fn lines(output: &str, text: &str) -> usize {
    output.lines().filter(|line| line.contains(text)).count()
}

#[test]
fn a_teacher_of_two_addresses_counts_once() {
    let scene = Scene::new(SIZE);
    let open = ["grpc.access=anyone_who_reaches_the_port"];
    let teacher = Teacher::start_at(&TEACHER, &scene.artifact(), "0.0.0.0:0", &open);
    let port = teacher.grpc.port();
    let endpoints = ["127.0.0.1", "127.0.0.2"].map(|host| format!("{host}:{port}"));
    let output = scene.run("run", &endpoints, &[]).succeed();
    assert_eq!(lines(&output, "is connected"), 1, "{output}");
    assert_eq!(
        lines(&output, "is another address of the teacher at"),
        1,
        "{output}"
    );
}

#[test]
fn a_spare_address_takes_over_and_leaves_no_trace() {
    let scene = Scene::new(SIZE);
    let teacher = scene.teacher(&[]);
    let relays = [Relay::to(teacher.grpc), Relay::to(teacher.grpc)];
    let endpoints = relays.each_ref().map(|relay| relay.address.to_string());
    let longer = ["phases[0].epochs=24", "teacher.answer_timeout_seconds=2"];
    let run = scene.run("run", &endpoints, &longer);
    run.says("is another address of the teacher at");
    let is_held_by = |endpoint: &String| {
        let said = run.process.stderr();
        said.contains(&format!("teacher {endpoint} is connected"))
    };
    let holder = eventually("a stream", || endpoints.iter().position(is_held_by));
    relays[holder].cut();
    let spare = &endpoints[1 - holder];
    run.says(&format!("teacher {spare} is connected"));
    relays[holder].restore();
    run.succeed();

    let alone = scene.run("alone", &[address(&teacher)], &longer);
    alone.succeed();
    assert!(student(&scene.path("run")) == student(&scene.path("alone")));
}
