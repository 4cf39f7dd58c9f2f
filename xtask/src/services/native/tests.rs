//! The life of a server, shown on a shell script that stands for one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);
const SCRIPT: &str = "trap 'echo stopped; exit 0' TERM; echo ready; while :; do sleep 0.02; done";

fn launch(folder: &Path, script: &str) -> Launch {
    Launch {
        name: "a server",
        program: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: Vec::new(),
        account: Account::Own,
        folder: folder.to_owned(),
        log: folder.join("log"),
        stop: Signal::TERM,
        crash: Signal::KILL,
        ready: Ready::Log("ready"),
    }
}

fn process(server: &NativeServer) -> ProcessId {
    server.process().expect("the server runs")
}

#[test]
fn a_restarted_server_is_another_process_with_the_same_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = NativeServer::start(launch(folder.path(), SCRIPT)).expect("the server starts");
    let first = process(&server);
    server.stop();
    assert!(!first.runs());
    assert_eq!(server.process(), None);
    server.resume().expect("the server starts again");
    assert!(process(&server).runs());
    let log = fs::read_to_string(folder.path().join("log")).expect("a log");
    assert_eq!(log, "ready\nstopped\nready\n");
}

#[test]
fn a_crash_leaves_no_time_for_clean_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = NativeServer::start(launch(folder.path(), SCRIPT)).expect("the server starts");
    server.crash();
    let log = fs::read_to_string(folder.path().join("log")).expect("a log");
    assert_eq!(log, "ready\n");
}

#[test]
fn a_panic_ends_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = NativeServer::start(launch(folder.path(), SCRIPT)).expect("the server starts");
    let running = process(&server);
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _server = server;
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert!(!running.runs());
}

#[test]
fn a_server_whose_program_died_is_ended_and_its_data_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a data folder");
    let mut server = NativeServer::start(launch(&data, SCRIPT)).expect("the server starts");
    let mut running = server.running.take().expect("the server runs");
    // What the kernel does when this program dies: the pipe to the guard closes.
    drop(running.guard);
    running.child.wait().expect("the server ends");
    assert!(deadline::settles(LIMIT, || !data.exists()));
}

#[test]
fn a_server_that_ends_at_once_is_an_error_with_its_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = NativeServer::start(launch(folder.path(), "echo the port is taken; exit 3"))
        .expect_err("the server ends at once");
    let text = format!("{error:#}");
    assert!(text.contains("the port is taken"), "{text}");
    assert!(text.contains("exit status: 3"), "{text}");
}
