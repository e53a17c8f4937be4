//! A Rust source taken apart just enough for checks by pattern: code without comments, literals and
//! tests, and the literals on their own.

/// A source file.
#[derive(Debug)]
pub(crate) struct RustFile {
    /// Relative to the root of the repository.
    pub(crate) path: String,
    /// The file as it is.
    pub(crate) text: String,
    /// The code, line by line; comments, the insides of literals, and tests are spaces.
    pub(crate) code: Vec<String>,
    /// The literals outside tests.
    pub(crate) literals: Vec<Literal>,
}

/// A string or character literal.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Literal {
    /// The line it begins in, counted from 1.
    pub(crate) line: usize,
    /// What stands between the quotes, escapes as written.
    pub(crate) text: String,
}

impl RustFile {
    /// Takes `text` apart.
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut scanner =
            Scanner { chars: text.chars().collect(), at: 0, code: String::new(), literals: Vec::new() };
        scanner.scan();
        let mut code: Vec<char> = scanner.code.chars().collect();
        let mut literals = scanner.literals;
        if is_test_file(path) {
            blank(&mut code, 0, usize::MAX);
            literals.clear();
        }
        for (from, to) in test_items(&code) {
            let line_of = |at: usize| code.iter().take(at).filter(|c| **c == '\n').count() + 1;
            let lines = line_of(from)..=line_of(to);
            literals.retain(|literal| !lines.contains(&literal.line));
            blank(&mut code, from, to);
        }
        let code = code.iter().collect::<String>().lines().map(str::to_owned).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code, literals }
    }

    /// Returns the lines, counted from 1, whose code has `needle`, not as the end of a longer name.
    pub(crate) fn lines_with<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
        let numbered = self.code.iter().zip(1..);
        numbered.filter(move |(line, _)| has_word(line, needle)).map(|(_, number)| number)
    }

    /// Returns the literals inside the bodies of functions called `name`.
    pub(crate) fn literals_in_fn<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Literal> {
        let code: Vec<char> = self.code.join("\n").chars().collect();
        let head: Vec<char> = format!("fn {name}(").chars().collect();
        let mut bodies = Vec::new();
        for from in positions(&code, &head) {
            let line_of = |at: usize| code.iter().take(at).filter(|c| **c == '\n').count() + 1;
            bodies.push(line_of(from)..=line_of(end_of_item(&code, from)));
        }
        self.literals.iter().filter(move |literal| bodies.iter().any(|body| body.contains(&literal.line)))
    }
}

/// Tells whether a file holds nothing but tests.
fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs")
}

fn has_word(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn positions(code: &[char], needle: &[char]) -> Vec<usize> {
    code.windows(needle.len().max(1))
        .enumerate()
        .filter(|(_, part)| *part == needle)
        .map(|(at, _)| at)
        .collect()
}

/// Returns where each item marked as test only begins and ends.
fn test_items(code: &[char]) -> Vec<(usize, usize)> {
    let marks = ["#[cfg(test)]", "#[cfg(all(test,"].map(|mark| mark.chars().collect::<Vec<_>>());
    let starts = marks.iter().flat_map(|mark| positions(code, mark));
    starts.map(|from| (from, end_of_item(code, from))).collect()
}

/// Returns where the item that begins at `from` ends: its closing brace, or a semicolon before any.
fn end_of_item(code: &[char], from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code.iter().enumerate().skip(from) {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return at,
            '}' => depth -= 1,
            ';' if depth == 0 => return at,
            _ => {}
        }
    }
    code.len()
}

fn blank(code: &mut [char], from: usize, to: usize) {
    for c in code.iter_mut().take(to.saturating_add(1)).skip(from).filter(|c| **c != '\n') {
        *c = ' ';
    }
}

/// Walks through a source once, telling code from comments and literals.
///
/// Source: <https://doc.rust-lang.org/reference/tokens.html>
struct Scanner {
    chars: Vec<char>,
    at: usize,
    code: String,
    literals: Vec<Literal>,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    /// Copies one character.
    fn keep(&mut self) {
        self.code.extend(self.peek(0));
        self.at += 1;
    }

    /// Passes over one character, leaving a space, or the line break it is.
    fn hide(&mut self) {
        self.code.push(if self.peek(0) == Some('\n') { '\n' } else { ' ' });
        self.at += 1;
    }

    fn scan(&mut self) {
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('/')) => self.line_comment(),
                ('/', Some('*')) => self.block_comment(),
                ('"', _) => self.quoted('"'),
                ('\'', Some('\\')) => self.quoted('\''),
                ('\'', Some(_)) if self.peek(2) == Some('\'') => self.quoted('\''),
                _ if c.is_alphabetic() || c == '_' => self.word(),
                _ => self.keep(),
            }
        }
    }

    fn line_comment(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.hide();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        while self.peek(0).is_some() {
            let step = match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => 1,
                (Some('*'), Some('/')) => -1,
                _ => 0,
            };
            depth += step;
            self.hide();
            if step != 0 {
                self.hide();
            }
            if depth == 0 {
                break;
            }
        }
    }

    /// Takes a literal in which a backslash escapes.
    fn quoted(&mut self, quote: char) {
        let line = self.line();
        let mut text = String::new();
        self.keep();
        while let Some(c) = self.peek(0).filter(|c| *c != quote) {
            text.push(c);
            if c == '\\' {
                text.extend(self.peek(1));
                self.hide();
            }
            self.hide();
        }
        self.keep();
        self.literals.push(Literal { line, text });
    }

    /// Takes an identifier, a keyword, or a literal that begins with letters.
    fn word(&mut self) {
        let mut word = String::new();
        while let Some(c) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(c);
            self.keep();
        }
        if matches!(word.as_str(), "r" | "br" | "cr") && matches!(self.peek(0), Some('"' | '#')) {
            self.raw();
        }
    }

    /// Takes the rest of a raw literal, or of a raw identifier.
    fn raw(&mut self) {
        let hashes = (0..).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
        if self.peek(hashes) != Some('"') {
            return;
        }
        let line = self.line();
        (0..=hashes).for_each(|_| self.keep());
        let mut text = String::new();
        let closes = |scanner: &Self| {
            scanner.peek(0) == Some('"') && (1..=hashes).all(|ahead| scanner.peek(ahead) == Some('#'))
        };
        while let Some(c) = self.peek(0).filter(|_| !closes(self)) {
            text.push(c);
            self.hide();
        }
        (0..=hashes).for_each(|_| self.keep());
        self.literals.push(Literal { line, text });
    }

    fn line(&self) -> usize {
        self.code.matches('\n').count() + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        RustFile::parse("a/src/lib.rs", text).code.join("\n")
    }

    fn literals(text: &str) -> Vec<String> {
        RustFile::parse("a/src/lib.rs", text).literals.into_iter().map(|literal| literal.text).collect()
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        assert_eq!(code("let a = 1; // env::var"), "let a = 1;            ");
        assert_eq!(code("a /* x /* y */ z */ b"), "a                   b");
        assert_eq!(code("f(\"env::var\", b'x', 'y');"), "f(\"        \", b' ', ' ');");
        assert_eq!(code("f(r#\"a\"b\"#, c)"), "f(r#\"   \"#, c)");
        assert_eq!(code("fn f<'a>(x: &'a str) { '\\'' }"), "fn f<'a>(x: &'a str) { '  ' }");
        assert_eq!(code("r#type + \"a\\\"b\" + c"), "r#type + \"    \" + c");
    }

    #[test]
    fn literals_come_as_written() {
        let text = "a(\"x\\u{1b}[y\", r\"z\\\", '\\n', br##\"q\"# \"##);";
        assert_eq!(literals(text), ["x\\u{1b}[y", "z\\", "\\n", "q\"# "]);
    }

    #[test]
    fn tests_are_left_out() {
        let text =
            "fn a() { one(\"1\") }\n#[cfg(test)]\nmod tests {\n    fn b() { two(\"2\") }\n}\nfn c() {}\n";
        let file = RustFile::parse("a/src/lib.rs", text);
        assert_eq!(file.lines_with("one(").collect::<Vec<_>>(), [1]);
        assert_eq!(file.lines_with("two(").count(), 0);
        assert_eq!(file.lines_with("fn c(").collect::<Vec<_>>(), [6]);
        assert_eq!(literals(text), ["1"]);
        assert_eq!(RustFile::parse("a/tests/it.rs", "one(\"1\")").lines_with("one(").count(), 0);
    }

    #[test]
    fn a_longer_name_is_another_name() {
        let file =
            RustFile::parse("a/src/lib.rs", "println!(); eprintln!();\nmy_env::var();\nstd::env::var();");
        assert_eq!(file.lines_with("env::").collect::<Vec<_>>(), [3]);
        assert_eq!(file.lines_with("println!").collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn literals_of_one_function() {
        let text = "fn code(&self) -> &str {\n match self { A => \"a/b\", B { .. } => \"c/d\" }\n}\nfn hint() { \"no\" }";
        let file = RustFile::parse("a/src/lib.rs", text);
        let found: Vec<_> = file.literals_in_fn("code").map(|literal| literal.text.as_str()).collect();
        assert_eq!(found, ["a/b", "c/d"]);
    }
}
