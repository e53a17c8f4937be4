//! `.deployignore` means exactly what `.gitignore` means to git: compared with git itself.

use crate::common::*;
use eeveon_testkit::git::Repo;

/// Numbers that look random and are the same on every run (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn path(&mut self) -> String {
        let names =
            ["a", "b", "c", "ab", "a b", "x.log", "b.txt", "A", "#x", "!x", "a\\b", "[a]", "é", "-x", "a*"];
        let depth = 1 + self.below(4);
        (0..depth).map(|_| self.of(&names)).collect::<Vec<_>>().join("/")
    }

    fn pattern(&mut self) -> String {
        let parts = [
            "a",
            "b",
            "c",
            "ab",
            "*",
            "**",
            "?",
            "*.log",
            "*.txt",
            "[ab]",
            "[!a]",
            "[a-c]*",
            "a*",
            "*b",
            "a b",
            "x.log",
            "\\#x",
            "\\!x",
            "a\\\\b",
            "\\[a\\]",
            "[[:alpha:]]",
            "[^a]",
            "é",
            "-x",
            "a\\*",
            "***",
            "a**",
            "**b",
            "[]a]",
            "[a",
            "A",
        ];
        let mut out = String::new();
        if self.below(4) == 0 {
            out.push('!');
        }
        if self.below(4) == 0 {
            out.push('/');
        }
        let count = 1 + self.below(3);
        out.push_str(&(0..count).map(|_| self.of(&parts)).collect::<Vec<_>>().join("/"));
        if self.below(4) == 0 {
            out.push('/');
        }
        out
    }

    fn file(&mut self) -> String {
        let ends = ["\n", "\n", "\n", "\n", "\r\n", "  \n", "\\ \n", "\n\n", "\n# comment\n", "\t\n"];
        let mut out = String::new();
        if self.below(10) == 0 {
            out.push('\u{feff}');
        }
        for _ in 0..1 + self.below(5) {
            out.push_str(&self.pattern());
            out.push_str(self.of(&ends));
        }
        if self.below(3) == 0 {
            out.push_str(&self.pattern());
        }
        out
    }
}

/// Many releases in one repository, each a folder of it, so that git is started once for all.
struct Folders {
    repo: Repo,
    head: Option<eeveon_core::CommitId>,
}

impl Folders {
    fn new() -> Self {
        Self { repo: Repo::new(), head: None }
    }

    fn write(&self, round: usize, path: &str, content: &str) {
        self.repo.write(format!("r{round}/{path}"), content);
    }

    async fn publish(&mut self) {
        let head = id(&self.repo.commit("all"));
        mirror(&self.repo, |_| {}).fetch(&head, None, &permit()).await.unwrap();
        self.head = Some(head);
    }

    /// Lists what is deployed of one folder.
    fn deployed(&self, round: usize, configured: &[String]) -> Vec<String> {
        let mirror = mirror(&self.repo, |config| {
            config.dir = format!("r{round}");
            config.ignore = configured.to_vec();
        });
        paths(&list(&mirror, self.head.as_ref().unwrap()).unwrap())
    }
}

/// What git says of one set of patterns and files.
struct Case {
    described: String,
    configured: Vec<String>,
    expected: Vec<String>,
}

/// Makes up files and patterns, once for git as `.gitignore`, once for us as `.deployignore`.
fn make_up(random: &mut Random, round: usize, ours: &Folders) -> Case {
    let theirs = Repo::new();
    let mut described = String::new();
    for _ in 0..3 + random.below(12) {
        let path = random.path();
        let place = theirs.path().join(&path);
        // A file may be where a folder was to be; then there is just one file less.
        if !place.exists() && !place.ancestors().skip(1).any(|above| above.is_file()) {
            theirs.write(&path, "x");
            ours.write(round, &path, "x");
            described.push_str(&format!("{path:?} "));
        }
    }
    for folder in ["", "a/", "b/", "a/b/", "ab/"] {
        if folder.is_empty() || (theirs.path().join(folder).is_dir() && random.below(2) == 0) {
            let content = random.file();
            theirs.write(format!("{folder}.gitignore"), &content);
            ours.write(round, &format!("{folder}.deployignore"), &content);
            described.push_str(&format!("\n{folder}: {content:?}"));
        }
    }
    let configured: Vec<String> = (0..random.below(3)).map(|_| random.pattern()).collect();
    let mut expected = theirs.not_ignored(&configured);
    expected.retain(|path| !path.ends_with(b".gitignore"));
    expected.sort();
    let expected = expected.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    Case { described, configured, expected }
}

#[tokio::test]
async fn random_patterns_agree_with_git() {
    let mut random = Random(0x5eed_cafe);
    let mut ours = Folders::new();
    let cases: Vec<_> = (0..400).map(|round| make_up(&mut random, round, &ours)).collect();
    ours.publish().await;
    for (round, Case { described, configured, expected }) in cases.into_iter().enumerate() {
        let found = ours.deployed(round, &configured);
        assert_eq!(found, expected, "round {round}: {described}\nconfigured: {configured:?}");
    }
}

/// The table of wildmatch facts: each pattern alone, asked of git and of us.
#[tokio::test]
async fn the_wildmatch_table_agrees_with_git() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures");
    let folder = std::env::var("EEVEON_FIXTURES").unwrap_or_else(|_| fixtures.to_owned());
    let Ok(table) = std::fs::read(format!("{folder}/git-ignore/wildmatch.json")) else {
        eprintln!("skipped: no table of wildmatch facts in {folder}/git-ignore");
        return;
    };
    let table: serde_json::Value = serde_json::from_slice(&table).unwrap();
    let mut ours = Folders::new();
    let mut cases = Vec::new();
    for row in table["rows"].as_array().unwrap() {
        let (text, pattern) = (row["text"].as_str().unwrap(), row["pattern"].as_str().unwrap());
        let plain = !text.is_empty() && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !plain || pattern.contains('\n') {
            continue;
        }
        let theirs = Repo::new();
        theirs.write(text, "x");
        theirs.write(".gitignore", format!("{pattern}\n"));
        let ignored = theirs.ignores(text.as_bytes());
        ours.write(cases.len(), text, "x");
        ours.write(cases.len(), ".deployignore", &format!("{pattern}\n"));
        cases.push((text, pattern, ignored));
    }
    assert!(cases.len() > 100, "{} rows", cases.len());
    ours.publish().await;
    for (round, (text, pattern, ignored)) in cases.into_iter().enumerate() {
        assert_eq!(ours.deployed(round, &[]).is_empty(), ignored, "{pattern:?} of {text:?}");
    }
}
