use std::{
    io::{BufRead, BufReader, Read},
    sync::mpsc::{Receiver, Sender, channel},
    time::Instant,
};

use super::*;

/// Longer than any step of these tests takes; only a hang exceeds it.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(stream: impl Write + Send + 'static) -> BackgroundWriter {
    let stream = Mutex::new(Some(Box::new(stream) as Box<dyn Write + Send>));
    BackgroundWriter::start("test", move || stream.lock().unwrap().take().unwrap())
}

/// Answers each write as the test specifies, and reports the text it took.
struct Scripted {
    answers: Receiver<io::Result<usize>>,
    taken: Sender<String>,
}

impl Write for Scripted {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        // Without a script it takes everything.
        let bytes = self.answers.try_recv().unwrap_or(Ok(usize::MAX))?;
        let bytes = bytes.min(text.len());
        let text = String::from_utf8_lossy(&text[..bytes]).into_owned();
        self.taken.send(text).unwrap();
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn full() -> io::Result<usize> {
    Err(ErrorKind::StorageFull.into())
}

#[test]
fn lines_that_cannot_be_written_are_dropped_and_counted_and_later_ones_begin_anew() {
    for (answers, expected, dropped) in [
        (vec![], "one\ntwo\nthree\n", 0),
        (vec![full()], "three\n", 2),
        (vec![full(), full()], "", 3),
        (vec![Ok(2), Ok(1), full()], "one\nthree\n", 2),
        (vec![Ok(4), full()], "one\nthree\n", 1),
        (
            vec![
                Err(ErrorKind::WouldBlock.into()),
                Err(ErrorKind::Interrupted.into()),
            ],
            "one\ntwo\nthree\n",
            0,
        ),
    ] {
        let case = format!("{answers:?}");
        let (script, stream_answers) = channel();
        let (taken, received) = channel();
        for answer in answers {
            script.send(answer).unwrap();
        }
        let writer = start(Scripted {
            answers: stream_answers,
            taken,
        });
        writer.write(b"one\ntwo\n", PATIENCE);
        writer.write(b"three\n", PATIENCE);
        assert_eq!(writer.dropped(), dropped, "{case}");
        assert_eq!(received.try_iter().collect::<String>(), expected, "{case}");
    }
}

#[test]
fn a_pipe_that_is_not_read_takes_bounded_memory_and_no_time() {
    let (reader, pipe) = io::pipe().unwrap();
    let writer = start(pipe);
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    let lines = 8 * MAX_WAITING_BYTES / line.len();
    for _ in 0..lines {
        writer.push(&line);
    }
    let dropped = writer.dropped() as usize;
    assert!(dropped > lines / 2, "{dropped} of {lines}");

    let mut reader = BufReader::new(reader);
    let mut read = || {
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        text
    };
    for _ in 0..lines - dropped {
        assert_eq!(read().len(), line.len());
    }
    writer.write(b"again\n", PATIENCE);
    assert_eq!(read(), "again\n");
    assert!(!writer.has_failed());
}

#[test]
fn callers_wait_once_for_a_stuck_stream() {
    struct Gate(Receiver<()>, Sender<usize>);
    impl Write for Gate {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.send(text.len()).unwrap();
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (open, gate) = channel();
    let (taken, received) = channel();
    let writer = start(Gate(gate, taken));
    writer.write(b"one\n", Duration::ZERO);
    let began = Instant::now();
    writer.write(b"two\n", PATIENCE);
    assert!(began.elapsed() < PATIENCE);
    drop(open);
    writer.flush(PATIENCE);
    assert_eq!(received.try_iter().sum::<usize>(), 8);
}

#[test]
fn a_pipe_without_a_reader_is_noticed() {
    let (reader, pipe) = io::pipe().unwrap();
    drop(reader);
    let writer = start(pipe);
    writer.write(b"one\n", PATIENCE);
    assert!(writer.has_failed());
    assert_eq!(writer.dropped(), 1);
}

#[test]
fn text_comes_out_in_order() {
    let (mut reader, pipe) = io::pipe().unwrap();
    let writer = start(pipe);
    for number in 0..100 {
        writer.push(format!("{number}\n").as_bytes());
    }
    writer.flush(PATIENCE);
    let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
    let mut text = vec![0; expected.len()];
    reader.read_exact(&mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), expected);
}
