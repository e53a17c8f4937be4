//! Events to tell of, harmless and hostile.

use eeveon_core::{
    Class, CommitId, DeploymentId, Failure, Kind, ProjectName, ReleaseNumber, Revision, Seq, Stage, StepKey,
    Trigger, Untrusted,
};
use eeveon_notify::{Event, EventKind, FORMAT, Serving};
use jiff::Timestamp;

/// Returns an event of `kind`, with everything such an event has.
///
/// # Panics
///
/// Never: the names in it are valid.
pub fn event(kind: EventKind) -> Event {
    let failed = matches!(
        kind,
        EventKind::NotStarted
            | EventKind::Failed
            | EventKind::RolledBack
            | EventKind::Refused
            | EventKind::Parked
    );
    let failure = Failure {
        stage: Stage::Check,
        code: "health/unhealthy".to_owned(),
        class: Class::Failed,
        message: "the release did not answer in time".to_owned(),
        causes: vec!["connection refused".to_owned(), "port 3000 is closed".to_owned()],
        hint: Some("look at the log of the service".to_owned()),
        details: None,
    };
    let old = CommitId::new("fedcba9876543210fedcba9876543210fedcba98").unwrap();
    Event {
        format: FORMAT,
        kind,
        project: ProjectName::new("shop").unwrap(),
        deployment: DeploymentId(42),
        seq: Seq(7),
        at: "2026-03-04T05:06:07Z".parse().unwrap(),
        operation: Kind::Deploy,
        release: ReleaseNumber(12),
        revision: Revision {
            commit: CommitId::new("0123456789abcdef0123456789abcdef01234567").unwrap(),
            subject: Untrusted::from("Fix the checkout of empty carts"),
            author: Untrusted::from("Ada Lovelace"),
            committed_at: Timestamp::UNIX_EPOCH,
        },
        branch: Untrusted::from("main"),
        actor: Untrusted::from("user:ada"),
        trigger: Trigger::Manual,
        reason: Some(Untrusted::from("customers wait for it")),
        duration_ms: 83_000,
        failure: failed.then_some(failure),
        step: matches!(kind, EventKind::Parked | EventKind::CheckFlapping)
            .then(|| StepKey::new("health/post")),
        serving: Serving::Release { release: ReleaseNumber(11), revision: Some(old.clone()) },
        quarantined: if kind == EventKind::Quarantined { vec![old] } else { Vec::new() },
        link: Some("https://deploy.example.org/shop/42?tab=log&x=(a)_b".to_owned()),
        more: 3,
    }
}

/// Returns events that have `text` everywhere somebody else could have written it.
pub fn hostile(text: &str) -> Vec<Event> {
    let spoiled = |kind| {
        let mut event = event(kind);
        event.revision.subject = Untrusted::from(text);
        event.revision.author = Untrusted::from(text);
        event.branch = Untrusted::from(text);
        event.actor = Untrusted::from(text);
        event.reason = Some(Untrusted::from(text));
        event.link = Some(text.to_owned());
        if let Some(failure) = &mut event.failure {
            failure.message = text.to_owned();
            failure.causes = vec![text.to_owned(); 16];
            failure.hint = Some(text.to_owned());
        }
        event
    };
    vec![spoiled(EventKind::Succeeded), spoiled(EventKind::Failed)]
}

/// Returns texts that broke something somewhere: long ones, markup, mentions, controls, and the
/// fixture of naughty strings where it lies.
pub fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "\n\n\n",
        "\r\nBcc: all@example.org\r\n\r\nhi",
        "@everyone @here <!channel> <!everyone> <@U012AB3CD> <#C123> <@&123> <@123>",
        "<https://evil.example|click here> [click](https://evil.example) https://evil.example",
        "*bold* _it_ ~no~ `code` ```block``` ||spoiler|| **b** __u__ # h1\n> quote\n- list",
        "<b>bold</b> <i>it <script>alert(1)</script> <a href=\"tg://user?id=1\">x</a> </code></pre>",
        "&amp; &lt; &#60; &quot; &bogus; & ",
        "{{ 7 * 7 }} {% include 'x' %} ${7*7} <%= 7 %> @{variables('x')} {{DATE(2017-02-14T06:00:00Z)}}",
        "\\ \\\\ \\n \\u0000 \" ' \u{0} \u{1b}[31mred\u{1b}[0m \u{7} \u{8} \u{7f} \u{9b}",
        "\u{202e}txt.exe \u{2066}x\u{2069} \u{200b}\u{200d}\u{feff} \u{e0041}",
        "👩‍👩‍👧‍👦 🏳️‍🌈 e\u{301}\u{301}\u{301} 日本語 العربية \u{fffd} \u{10ffff}",
        ":smile: :+1: :not_an_emoji: /command #hashtag $CASH user@example.org +1 555 0100",
    ]
    .map(str::to_owned)
    .into();
    for piece in ["a", "word ", "&", "<", "\"", "\\", "*", "日", "🙂", "\n", "\u{0}", "\u{202e}", "<b>", "]("]
    {
        let count = 20_000_usize.div_ceil(piece.chars().count());
        texts.push(piece.repeat(count));
    }
    texts.extend(naughty_texts());
    texts
}

/// Returns the fixture of naughty strings. Says so and returns none if it is not there.
///
/// # Panics
///
/// The fixture is not what it was.
pub fn naughty_texts() -> Vec<String> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures");
    let folder = std::env::var("EEVEON_FIXTURES").unwrap_or_else(|_| beside.to_owned());
    let Ok(text) = std::fs::read_to_string(format!("{folder}/naughty-strings/blns.json")) else {
        tell_absent();
        return Vec::new();
    };
    let texts: Vec<String> = serde_json::from_str(&text).unwrap();
    assert!(texts.len() > 400, "the fixture has {} texts", texts.len());
    texts
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests is to know")]
fn tell_absent() {
    eprintln!("SKIPPED: the fixture naughty-strings is not there; set EEVEON_FIXTURES");
}
