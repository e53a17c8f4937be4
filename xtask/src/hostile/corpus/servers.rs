//! Servers that lie: references that are none, packs that are none, answers without end.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::Class;
use crate::hostile::{
    daemon::{Say, Script, greeting, line, lines, packfile, say, say_endlessly, start},
    place::Place,
    repo::BRANCH,
    stage::{Expect, Scene},
};

/// What an answer that makes no sense comes to.
const NONSENSE: Expect =
    Expect::Refused(&["source/protocol", "source/corrupt", "source/commit-missing", "source/pack-too-large"]);

/// A repository as an honest server has it.
struct Honest {
    head: String,
    pack: Vec<u8>,
}

impl Honest {
    fn of(place: &Place) -> Result<Self> {
        let repo = place.repo()?;
        let head = repo.files(&[("index.html", b"x\n")])?;
        let pack =
            repo.bytes(&["pack-objects", "--quiet", "--stdout", "--revs"], format!("{BRANCH}\n").as_bytes())?;
        Ok(Self { head, pack })
    }

    fn refs(&self) -> Vec<u8> {
        let head = &self.head;
        lines(&[format!("{head} HEAD symref-target:refs/heads/main\n"), format!("{head} refs/heads/main\n")])
    }

    /// Returns the pack without its checksum.
    fn body(&self) -> &[u8] {
        self.pack.get(..self.pack.len().saturating_sub(20)).unwrap_or_default()
    }

    fn script(&self) -> Script {
        Script { greeting: say(greeting()), refs: say(self.refs()), pack: say(packfile(&self.pack)) }
    }
}

/// Puts the checksum behind a pack that fits.
fn sealed(body: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("sha1sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sha1sum")?;
    child.stdin.take().context("sha1sum has no input")?.write_all(body)?;
    let said = String::from_utf8(child.wait_with_output()?.stdout)?;
    let mut pack = body.to_vec();
    for digits in said.as_bytes().get(..40).unwrap_or_default().chunks(2) {
        pack.push(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
    }
    Ok(pack)
}

/// A pack of these objects, as they stand.
fn pack_of(count: u32, objects: &[u8]) -> Result<Vec<u8>> {
    sealed(&[b"PACK\0\0\0\x02".as_slice(), &count.to_be_bytes(), objects].concat())
}

/// The head of an object in a pack: its kind and what it says of its size.
fn head(kind: u8, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut byte, mut rest) = (kind << 4 | (size & 15) as u8, size >> 4);
    while rest > 0 {
        out.push(byte | 0x80);
        byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    out.push(byte);
    out
}

/// Bytes as zlib has them, without compressing: at most 65,535.
fn stored(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in content {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    [
        &[0x78, 0x01, 0x01],
        &length.to_le_bytes()[..],
        &(!length).to_le_bytes(),
        content,
        &(b << 16 | a).to_be_bytes(),
    ]
    .concat()
}

const BLOB: u8 = 3;
const OFFSET_DELTA: u8 = 6;
const REFERENCE_DELTA: u8 = 7;

pub(super) fn servers() -> Class {
    let mut class = Class::new("server");
    let mut case = |name: &'static str, expect: Expect, change: fn(&Honest, &mut Script) -> Result<()>| {
        class.case(name, move |place| {
            let honest = Honest::of(place)?;
            let mut script = honest.script();
            change(&honest, &mut script)?;
            Ok(Scene::of(start(script)?, expect))
        });
    };
    let honest_end = || Expect::Live(vec![("index.html", b"x\n".to_vec())]);
    case("honest", honest_end(), |_, _| Ok(()));

    // What it says first.
    fn greets(script: &mut Script, with: impl Into<Vec<u8>>) -> Result<()> {
        script.greeting = say(with);
        Ok(())
    }
    case("error", Expect::Refused(&["source/protocol", "source/repository-missing"]), |_, script| {
        greets(script, line("ERR \u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e} no\n"))
    });
    case("another-protocol", NONSENSE, |_, script| greets(script, "HTTP/1.1 200 OK\r\n\r\n\u{1b}[2J"));
    case("bad-length", NONSENSE, |_, script| greets(script, "zzzz\u{1b}[2J"));
    case("short-length", NONSENSE, |_, script| greets(script, "0003000200010000"));
    case("not-utf-8", NONSENSE, |_, script| greets(script, line(b"version 2\n\xff\xfe\x1b[2J\n")));
    case("other-hash", Expect::Refused(&["source/object-format", "source/protocol"]), |_, script| {
        greets(script, lines(&["version 2\n", "ls-refs\n", "fetch\n", "object-format=md5\u{1b}[2J\n"]))
    });
    case("endless-greeting", NONSENSE, |_, script| {
        script.greeting =
            say_endlessly(line("version 2\n"), line(format!("{}\n", "x".repeat(900))), 400 << 20);
        Ok(())
    });

    // Which references it says there are.
    fn has(honest: &Honest, script: &mut Script, reference: &str) -> Result<()> {
        let head = &honest.head;
        script.refs = say(lines(&[
            format!("{head} HEAD symref-target:{reference}\n"),
            format!("{head} {reference}\n"),
            format!("{head} refs/heads/main\n"),
        ]));
        Ok(())
    }
    let either = || Expect::Either(&["source/protocol", "source/corrupt"]);
    case("traversing-reference", either(), |honest, script| {
        has(honest, script, "refs/heads/../../../../outside/pwned")
    });
    case("option-reference", either(), |honest, script| has(honest, script, "--upload-pack=touch"));
    case("escaping-reference", either(), |honest, script| has(honest, script, "refs/heads/\u{1b}[2J"));
    case("absolute-reference", either(), |honest, script| has(honest, script, "/etc/passwd"));
    case("other-branches", Expect::Refused(&["source/branch-missing"]), |honest, script| {
        let names = ["\u{9b}2J", "\u{202e}x", "\u{200b}", "%1b[2J"];
        script.refs = say(lines(&names.map(|name| format!("{} refs/heads/{name}\n", honest.head))));
        Ok(())
    });
    case("bad-id", NONSENSE, |_, script| {
        script.refs = say(lines(&["zzzz refs/heads/main\n"]));
        Ok(())
    });
    case("unknown-id", NONSENSE, |_, script| {
        script.refs = say(lines(&[format!("{} refs/heads/main\n", "1".repeat(40))]));
        Ok(())
    });
    case("endless-references", NONSENSE, |honest, script| {
        let reference = line(format!("{} refs/heads/{}\n", honest.head, "r".repeat(900)));
        script.refs = say_endlessly("", reference, 400 << 20);
        Ok(())
    });

    // What it sends.
    fn sends(script: &mut Script, pack: &[u8]) -> Result<()> {
        script.pack = say(packfile(pack));
        Ok(())
    }
    case("nothing", NONSENSE, |_, script| sends(script, b""));
    case("no-pack", NONSENSE, |_, script| sends(script, b"\x1b[2J this is no pack"));
    case("bad-checksum", NONSENSE, |honest, script| sends(script, &[honest.body(), &[0; 20]].concat()));
    case("cut", NONSENSE, |honest, script| sends(script, honest.body().get(..30).unwrap_or_default()));
    case("flipped", NONSENSE, |honest, script| {
        let mut body = honest.body().to_vec();
        body.iter_mut().skip(14).step_by(5).for_each(|byte| *byte ^= 0x55);
        sends(script, &sealed(&body)?)
    });
    case("more-behind", either(), |honest, script| sends(script, &[&honest.pack, &b"more"[..]].concat()));
    case("too-few", NONSENSE, |_, script| sends(script, &pack_of(0, b"")?));
    case("too-many", NONSENSE, |honest, script| {
        let objects = honest.body().get(12..).unwrap_or_default().to_vec();
        sends(script, &pack_of(u32::MAX, &objects)?)
    });
    case("other-object", NONSENSE, |_, script| {
        sends(script, &pack_of(1, &[head(BLOB, 5), stored(b"other")].concat())?)
    });
    case("size-lies", NONSENSE, |_, script| {
        sends(script, &pack_of(1, &[head(BLOB, 1 << 50), stored(b"small")].concat())?)
    });
    case("size-overflows", NONSENSE, |_, script| {
        let endless = [&[0xbf][..], &[0xff; 40], &[0x7f]].concat();
        sends(script, &pack_of(1, &[endless, stored(b"small")].concat())?)
    });
    case("no-base", NONSENSE, |_, script| {
        let delta = stored(b"\x05\x05\x05other");
        sends(script, &pack_of(1, &[head(REFERENCE_DELTA, 8), vec![0x11; 20], delta].concat())?)
    });
    case("own-base", NONSENSE, |_, script| {
        sends(script, &pack_of(1, &[head(OFFSET_DELTA, 8), vec![0], stored(b"\x05\x05\x05other")].concat())?)
    });
    case("base-before-all", NONSENSE, |_, script| {
        sends(
            script,
            &pack_of(1, &[head(OFFSET_DELTA, 8), vec![0xff, 0x7f], stored(b"\x05\x05\x05other")].concat())?,
        )
    });
    case("delta-bomb", NONSENSE, |honest, script| {
        // Each object is the one before, a hundred and twenty-seven times over.
        let mut objects = honest.body().get(12..).unwrap_or_default().to_vec();
        let base = [head(BLOB, 32), stored(&[0; 32])].concat();
        let mut before = base.len();
        objects.extend_from_slice(&base);
        let (mut size, mut count) = (32_u64, 4);
        for _ in 0..8 {
            let mut delta = Vec::new();
            for number in [size, size * 127] {
                let mut rest = number;
                while rest > 0x7f {
                    delta.push(rest as u8 & 0x7f | 0x80);
                    rest >>= 7;
                }
                delta.push(rest as u8);
            }
            // Copy from the start, as much as one instruction can.
            let length = size.min(0xff_ffff) as u32;
            let [a, b, c, _] = length.to_le_bytes();
            (0..127).for_each(|_| delta.extend_from_slice(&[0xf0, a, b, c]));
            let back = u8::try_from(before.min(0x7f)).unwrap_or(0x7f);
            let offset = match before {
                0..=0x7f => vec![back],
                before => vec![((before - 128) >> 7) as u8 | 0x80, ((before - 128) & 0x7f) as u8],
            };
            let object = [head(OFFSET_DELTA, delta.len() as u64), offset, stored(&delta)].concat();
            before = object.len();
            objects.extend_from_slice(&object);
            size *= 127;
            count += 1;
        }
        sends(script, &pack_of(count, &objects)?)
    });
    case("error-while-sending", NONSENSE, |_, script| {
        let error = line("\u{3}fatal: \u{1b}[2J\u{9b}31m\u{202e} K\r\n");
        script.pack = say([line("packfile\n"), error, b"0000".to_vec()].concat());
        Ok(())
    });
    case("noisy", honest_end(), |honest, script| {
        let noise = line("\u{2}\u{1b}[2J\u{1b}]0;x\u{7}progress 1%\r\n").repeat(2000);
        let pack = packfile(&honest.pack);
        let (opening, rest) = pack.split_at(line("packfile\n").len());
        script.pack = say([opening, &noise, rest].concat());
        Ok(())
    });
    case("endless-noise", NONSENSE, |_, script| {
        script.pack = endless(line(format!("\u{2}{}\n", "n".repeat(900))));
        Ok(())
    });
    case("endless-sections", NONSENSE, |_, script| {
        script.pack =
            say_endlessly(line("shallow-info\n"), line(format!("shallow {}\n", "1".repeat(40))), 400 << 20);
        Ok(())
    });
    class
}

fn endless(again: Vec<u8>) -> Say {
    say_endlessly(line("packfile\n"), again, 400 << 20)
}
