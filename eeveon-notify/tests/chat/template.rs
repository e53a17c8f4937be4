//! Templates: what they may ask for, what is refused when they are read, what becomes of values.

use eeveon_notify::{EventKind, Markup, NotifyError, Template, Templates};
use eeveon_testkit::notify::{event, hostile};

use crate::rig::{own_words, units};

fn refusal(source: &str) -> (usize, String) {
    match Template::parse("slack", Markup::SlackMrkdwn, source) {
        Err(NotifyError::Template { channel, line, why }) => {
            assert_eq!(channel, "slack");
            (line, why)
        }
        other => panic!("{source} is not refused: {other:?}"),
    }
}

#[test]
fn mistakes_are_found_when_a_template_is_read_with_their_line() {
    for (source, line) in [
        ("{{ title }}\n{{ comit }}", 2),
        ("{{ title }}\n\n{% if level == 'failure' %}{% if more > 100 %}{{ nmae }}{% endif %}{% endif %}", 3),
        ("{{ title }}\n{% if %}", 2),
        ("{{ title }}\n{{ title | safe }}", 2),
        ("{{ title }}\n{{ title | escape }}", 2),
        ("{{ title }}\n{% include '/etc/passwd' %}", 2),
        ("{{ title }}\n{% macro a() %}{% endmacro %}", 2),
        ("{{ title }}\n{{ range(9) }}", 2),
        ("{{ title }}\n{{ title.nothing }}", 2),
        ("{{ title }}\n{{ causes[0] }}", 2),
        ("{{ title }}\n{{ more.x.y }}", 2),
        ("{{ title", 1),
        ("   \n", 1),
        ("{% if level == 'success' %}only then{% endif %}", 1),
    ] {
        let (at, why) = refusal(source);
        assert_eq!(at, line, "{source}: {why}");
        assert!(!why.is_empty() && !why.contains('\n'), "{why}");
    }
}

#[test]
fn an_expression_as_deep_as_a_template_may_be_long_is_read_to_its_end() {
    for deep in ["-", "not ", "(", "title."] {
        // Whatever comes of it: on a thread with little stack, as a daemon has, nothing overflows.
        let source = format!("{{{{ {}1 }}}}", deep.repeat(16_000 / deep.len()));
        let read = std::thread::Builder::new().stack_size(1 << 20);
        let read = read.spawn(move || Template::parse("slack", Markup::SlackMrkdwn, &source).is_err());
        let is_refused = read.unwrap().join().unwrap();
        // Signs and negations of a number are something to say.
        assert_eq!(is_refused, ["(", "title."].contains(&deep), "{deep}");
    }
}

#[test]
fn html_that_telegram_would_refuse_is_found_when_it_is_read() {
    for (source, line, what) in [
        ("{{ title }}\n<p>{{ subject }}</p>", 2, "`p` is no tag"),
        ("{{ title }}<br>", 1, "`br` is no tag"),
        ("{{ title }}\n\n<b>{{ subject }}", 3, "`b` is not closed"),
        ("<b><i>{{ title }}</b></i>", 1, "`b` is closed where"),
        ("{{ title }}</i>", 1, "`i` is closed where"),
        ("{{ title }}\n<span>x</span>", 2, "`span` lacks class=\"tg-spoiler\""),
        ("{{ title }}<span class=\"red\">x</span>", 1, "`class` of `span` can only be \"tg-spoiler\""),
        ("<b foo>{{ title }}</b>", 1, "`foo` is no name=\"value\""),
        ("<b\tfoo=\"x\">{{ title }}</b>", 1, "`foo` is no attribute of `b`"),
        ("<a href=>{{ title }}</a>", 1, "`href=` is no name=\"value\""),
        ("<a href=\"x\"id=\"y\">{{ title }}</a>", 1, "`id` is no attribute of `a`"),
        ("<a href=\"https://example.org>{{ title }}</a>", 1, "`href=\"https://example.org` is no name"),
        ("<a \"x\">{{ title }}</a>", 1, "`\"x\"` is no name"),
        ("<tg-emoji>x</tg-emoji> {{ title }}", 1, "`tg-emoji` lacks emoji-id"),
        ("<tg-emoji emoji-id=\"smile\">x</tg-emoji> {{ title }}", 1, "`emoji-id` of `tg-emoji` is a number"),
        ("<pre expandable>{{ title }}</pre>", 1, "`expandable` is no name"),
        ("<blockquote cite=\"x\">{{ title }}</blockquote>", 1, "`cite` is no attribute of `blockquote`"),
        ("<b>{{ title }}</b foo>", 1, "`b foo` is no tag"),
        ("<b>{{ title }}<//b>", 1, "`/b` is no tag"),
        ("{{ title }}\n&nbsp;", 2, "`&` begins no entity"),
        ("{{ title }}\nR & D", 2, "`&` begins no"),
        ("{{ title }}\n{{ duration }} < 5", 2, "`<` begins no tag"),
    ] {
        match Template::parse("x", Markup::TelegramHtml, source) {
            Err(NotifyError::Template { line: at, why, .. }) => {
                assert_eq!(at, line, "{source}: {why}");
                assert!(why.starts_with(what), "{source}: {why}");
            }
            other => panic!("{source} is not refused: {other:?}"),
        }
        // What shows it as it is need not care.
        assert!(Template::parse("x", Markup::Plain, source).is_ok(), "{source}");
    }
    let good = "<b>{{ title }}</b> <a href=\"{{ link }}\">R &amp; D &#39;x&#x27;</a> <pre><code class=\"x\">{{ hint }}</code></pre>";
    for good in [
        good,
        "<b >{{ title }}</b > <span  class=\"tg-spoiler\" >x</span><tg-spoiler>x</tg-spoiler>",
        "<blockquote expandable>{{ title }}</blockquote><blockquote>x</blockquote>",
        "<tg-emoji emoji-id='5368324170671202286'>x</tg-emoji> <code class='language-sh'>{{ title }}</code>",
        "<a href=\"https://example.org/?a=1&b=it's\nx y\">{{ title }}</a>",
    ] {
        let read = Template::parse("x", Markup::TelegramHtml, good);
        assert!(read.is_ok(), "{good}: {read:?}");
    }
}

#[test]
fn what_is_refused_is_named() {
    assert_eq!(refusal("\n{{ comit }}"), (2, "there is no `comit`".to_owned()));
    assert!(refusal("{{ title | safe }}").1.contains("safe"));
    assert!(refusal(" ").1.contains("`started`"));
}

#[test]
fn a_template_cannot_take_forever_or_everything() {
    let (_, why) = refusal(
        "{% for a in commit %}{% for b in commit %}{% for c in commit %}{% for d in commit %}x\
                            {% endfor %}{% endfor %}{% endfor %}{% endfor %}",
    );
    assert!(why.contains("fuel"), "{why}");
    let doubling = format!("{{% set x = 'xxxxxxxx' %}}{}{{{{ x }}}}", "{% set x = x ~ x %}".repeat(60));
    assert!(refusal(&doubling).1.contains("fuel"));
    assert!(refusal("{{ 'x' * 90000000 }}").1.contains("fuel"));
    assert!(refusal(&"x".repeat(3001)).1.contains("longer than 3000"));
    assert!(refusal(&"x".repeat(20_000)).1.contains("longer than 16384 bytes"));
}

#[test]
fn every_variable_is_there_for_every_event() {
    let names = [
        "project",
        "release",
        "commit",
        "short_commit",
        "subject",
        "author",
        "branch",
        "actor",
        "trigger",
        "reason",
        "duration",
        "event",
        "level",
        "failed_stage",
        "code",
        "message",
        "causes",
        "hint",
        "serving",
        "link",
        "quarantined",
        "more",
        "title",
        "deployment",
    ];
    let source: String = names.iter().map(|name| format!("{name}={{{{ {name} }}}}\n")).collect();
    let templates = own_words(Markup::Plain, &source);
    let text = templates.render("x", &event(EventKind::Failed)).unwrap();
    for line in [
        "project=shop",
        "release=12",
        "short_commit=01234567",
        "actor=user:ada",
        "trigger=manual",
        "duration=1 min 23 s",
        "event=failed",
        "level=failure",
        "failed_stage=check",
        "code=health/unhealthy",
        "serving=release 11 serves, commit fedcba98",
        "more=3",
        "deployment=42",
        "hint=look at the log of the service",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    let text = templates.render("x", &event(EventKind::Started)).unwrap();
    assert!(text.contains("\nmessage=\n") && text.contains("\ncode=\n"), "{text}");
}

#[test]
fn values_are_escaped_and_the_templates_own_text_is_not() {
    let mut event = event(EventKind::Succeeded);
    event.revision.subject = "<b>&*@here".into();
    for (markup, expected) in [
        (Markup::Plain, "<i>*<b>&*@here*</i>"),
        (Markup::SlackMrkdwn, "<i>*&lt;b&gt;&amp;*@here*</i>"),
        (Markup::DiscordMarkdown, "<i>*\\<b\\>&\\*\\@here*</i>"),
        (Markup::TelegramHtml, "<i>*&lt;b&gt;&amp;*@here*</i>"),
        (Markup::Html, "<i>*&lt;b&gt;&amp;*@here*</i>"),
    ] {
        for source in [
            "<i>*{{ subject }}*</i>",
            "{% set x %}<i>*{{ subject }}{% endset %}{{ x }}*</i>",
            "<i>*{{ subject | trim }}*</i>",
        ] {
            assert_eq!(
                own_words(markup, source).render("x", &event).unwrap(),
                expected,
                "{markup:?} {source}"
            );
        }
    }
    // What was captured is not escaped twice, and what is made of it is not trusted.
    let twice = own_words(Markup::Html, "{% set x %}{{ subject }}{% endset %}{{ x ~ subject }}");
    assert!(!twice.render("x", &event).unwrap().contains('<'));
}

#[test]
fn a_long_message_is_cut_in_its_values_only() {
    let source = "<b>{{ subject }}</b> <i>{{ author }}</i> {% for cause in causes %}<code>{{ cause }}</code>{% endfor %}.";
    let templates = own_words(Markup::TelegramHtml, source);
    for piece in ["&", "<", "🙂", "x", "\u{202e}"] {
        for event in hostile(&piece.repeat(20_000)) {
            let text = templates.render("x", &event).unwrap();
            assert!(units(&text) <= 4096, "{}", units(&text));
            assert!(text.ends_with('.') && text.starts_with("<b>"), "{text}");
            assert_eq!(text.matches("<code>").count(), text.matches("</code>").count());
            let plain = text.replace("&amp;", "").replace("&lt;", "");
            assert!(!plain.contains('&'), "{text}");
        }
    }
}

#[test]
fn a_level_can_have_a_template_of_its_own() {
    let parse = |source| Template::parse("x", Markup::Plain, source).unwrap();
    let mut templates = Templates::default();
    assert_eq!(templates.render("x", &event(EventKind::Failed)), None);
    templates.levels.insert(EventKind::Failed.level(), parse("oh no"));
    assert_eq!(templates.render("x", &event(EventKind::Failed)).unwrap(), "oh no");
    assert_eq!(templates.render("x", &event(EventKind::Succeeded)), None);
    templates.every = Some(parse("hm"));
    assert_eq!(templates.render("x", &event(EventKind::Succeeded)).unwrap(), "hm");
}

/// What no sample showed when it was read is seen when it happens, and the default words are sent.
#[test]
fn what_a_service_would_refuse_is_not_sent_though_every_sample_was_fine() {
    // No sample has a branch like this one, and none has a commit like this one.
    for (markup, source) in [
        (Markup::Plain, "{% if branch == 'main' %}{{ title }}{% endif %}"),
        (Markup::SlackMrkdwn, "{% if branch == 'main' %}{{ title }}{% endif %} \n"),
        (Markup::DiscordMarkdown, "{% if branch == 'main' %}{{ title }}{% endif %}"),
        (Markup::TelegramHtml, "{% if branch == 'main' %}{{ title }}{% endif %}"),
        (Markup::TelegramHtml, "<b>{% if branch == 'main' %}{{ title }}{% endif %}</b> "),
        (Markup::TelegramHtml, "{{ title }}{% if branch != 'main' %}<b>{% endif %}"),
        (Markup::TelegramHtml, "<a href={% if branch == 'main' %}\"x\"{% endif %}>{{ title }}</a>"),
        (Markup::TelegramHtml, "{{ title }}{% if branch != 'main' %} R & D{% endif %}"),
    ] {
        let words = own_words(markup, source);
        let mut event = event(EventKind::Failed);
        assert!(words.render("x", &event).is_some(), "{source}");
        event.branch = "next".into();
        assert_eq!(words.render("x", &event), None, "{markup:?} {source}");
    }
}

/// Telegram says "message text is empty" to tags around nothing.
#[test]
fn tags_around_nothing_are_nothing() {
    for source in ["<b></b>", "<b> {{ reason }} </b>", "<a href=\"{{ link }}\"></a>"] {
        let read = Template::parse("x", Markup::TelegramHtml, source);
        assert!(matches!(read, Err(NotifyError::Template { .. })), "{source}");
    }
}
