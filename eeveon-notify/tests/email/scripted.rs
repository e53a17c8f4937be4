//! A mail server on loopback that says what it is told to, and keeps what it heard.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

/// Answers by the beginning of what was said; `greeting` comes first of all, `.` is the end of a
/// letter, and an empty answer is none, with the connection staying open. The first rule that fits
/// counts.
type Rules = Vec<(&'static str, String)>;

pub(crate) struct Scripted {
    pub(crate) port: u16,
    rules: Arc<Mutex<Rules>>,
    heard: Arc<Mutex<Vec<String>>>,
    subjects: Arc<Mutex<Vec<String>>>,
}

/// What a server with nothing to object to says.
const USUAL: [(&str, &str); 7] = [
    ("greeting", "220 hello"),
    (".", "250 2.0.0 ok"),
    ("EHLO", "250-mail.example.org\r\n250 AUTH PLAIN LOGIN XOAUTH2"),
    ("AUTH", "235 2.7.0 ok"),
    ("DATA", "354 go on"),
    ("QUIT", "221 bye"),
    ("", "250 2.1.0 ok"),
];

impl Scripted {
    /// Starts one that differs by `rules` from a server with nothing to object to.
    pub(crate) fn with(rules: &[(&'static str, &str)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, rules: Arc::default(), heard: Arc::default(), subjects: Arc::default() };
        server.change(rules);
        let (rules, heard, subjects) = (server.rules.clone(), server.heard.clone(), server.subjects.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (rules, heard, subjects) =
                    (rules.lock().unwrap().clone(), heard.clone(), subjects.clone());
                thread::spawn(move || talk(&stream, &rules, &heard, &subjects));
            }
        });
        server
    }

    /// Has other rules from the next conversation on.
    pub(crate) fn change(&self, rules: &[(&'static str, &str)]) {
        let rules = rules.iter().chain(&USUAL).map(|(said, answer)| (*said, (*answer).to_owned()));
        *self.rules.lock().unwrap() = rules.collect();
    }

    /// Returns what it heard so far, line by line.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    /// Returns the subjects of the letters it took.
    pub(crate) fn subjects(&self) -> Vec<String> {
        self.subjects.lock().unwrap().clone()
    }
}

/// Has one conversation. Ends when the other side hangs up.
fn talk(stream: &TcpStream, rules: &Rules, heard: &Mutex<Vec<String>>, subjects: &Mutex<Vec<String>>) {
    let answer = |said: &str| {
        let (rule, answer) = rules.iter().find(|(rule, _)| said.starts_with(rule)).unwrap();
        if !answer.is_empty() {
            // It may have hung up already.
            let _said = (&*stream).write_all(format!("{answer}\r\n").as_bytes());
        }
        (*rule, answer.as_str())
    };
    answer("greeting");
    let mut letter = None;
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        heard.lock().unwrap().push(line.clone());
        match &mut letter {
            Some(subject) if line != "." => {
                if let Some(text) = line.strip_prefix("Subject: ") {
                    *subject = text.to_owned();
                }
                continue;
            }
            _ => {}
        }
        // Who is told that a letter was taken finds it here.
        let mut taken = subjects.lock().unwrap();
        let count = taken.len();
        taken.extend(letter.take());
        match answer(&line) {
            ("DATA", said) if said.starts_with("354") => letter = Some(String::new()),
            (".", said) if !said.starts_with("250") => taken.truncate(count),
            _ => {}
        }
    }
}
