//! What addresses are taken, refused, and shown as.

use super::*;

fn rule(text: &str) -> &'static str {
    match RepoUrl::parse(text) {
        Err(SourceError::Url { rule, .. }) => rule,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_kind_is_understood() {
    for (text, shown) in [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("HTTPS://example.org:8443/a", "https://example.org:8443/a"),
        ("https://me@example.org/a", "https://example.org/a"),
        ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080/a"),
        ("http://localhost/a", "http://localhost/a"),
        ("http://[::1]:1/a", "http://[::1]:1/a"),
        ("ssh://git@example.org/a/b", "ssh://git@example.org/a/b"),
        ("ssh://example.org:2222/~me/b", "ssh://example.org:2222/~me/b"),
        ("ssh://[fe80::1]/a%20b", "ssh://[fe80::1]/a b"),
        ("git@example.org:a/b.git", "ssh://git@example.org/a/b.git"),
        ("example.org:/srv/a", "ssh://example.org/srv/a"),
        ("[::1]:a", "ssh://[::1]/a"),
        ("[example.org:2222]:a", "ssh://example.org:2222/a"),
        ("git@host:a@b:c", "ssh://git@host/a@b:c"),
        ("git@host:a%2fb", "ssh://git@host/a%252fb"),
        ("ssh://host/a%252fb", "ssh://host/a%252fb"),
        ("git://localhost/a", "git://localhost/a"),
        ("git://localhost/a%2541", "git://localhost/a%2541"),
        ("file:///srv/a%41", "/srv/aA"),
        ("file://localhost/srv/a", "/srv/a"),
        ("/srv/a", "/srv/a"),
        ("/srv/a:b", "/srv/a:b"),
        ("/srv/x@y:z", "/srv/x@y:z"),
    ] {
        assert_eq!(RepoUrl::parse(text).unwrap().to_string(), shown, "{text}");
    }
}

#[test]
fn proto_allow_refuses_every_other_transport() {
    for bad in [
        "ext::sh -c touch% /tmp/x",
        "fd::17/foo",
        "a::b",
        "file::/x",
        "transport-x::y",
        "ftp://h/x",
        "rsync://h/x",
        "ftps://h/x",
        "bundle:///x",
        "http://example.org/x",
        "git://example.org/x",
        "javascript://x/y",
        "http+unix://x/y",
    ] {
        assert!(RepoUrl::parse(bad).is_err(), "{bad}");
    }
    assert!(RepoUrl::parse_allowing_insecure("git://example.org/x").is_ok());
    assert!(RepoUrl::parse_allowing_insecure("http://example.org/x").is_err());
    assert!(RepoUrl::parse_allowing_insecure("ext::sh").is_err());
}

#[test]
fn inj_option_no_part_begins_with_a_dash() {
    for bad in [
        "-oProxyCommand=x",
        "--upload-pack=x",
        "ssh://-oProxyCommand=x/y",
        "ssh://-u@host/y",
        "-x@host:y",
        "a@-host:y",
        "-host:y",
        "host:-y",
        "git@host:-oProxyCommand=x",
        "ssh://[-x]/y",
        "git://-x/y",
        "https://-x/y",
        "https://-u@x/y",
        "[-oProxyCommand=x]:y",
    ] {
        assert!(RepoUrl::parse(bad).is_err(), "{bad}");
    }
    assert!(RepoUrl::parse_in("-x", Path::new("/a")).is_err());
}

#[test]
fn cred_host_control_bytes_are_refused() {
    for bad in [
        "https://h/x\ny",
        "https://h/x\0",
        "https://h\r/x",
        "ssh://h/%0ax",
        "ssh://h/%00",
        "git@h:a\nb",
        "/a\nb",
        "file:///a%0Ab",
        "git://localhost/a%0ahost=x",
        "https://h/\u{9b}x",
        "git@h:\u{85}",
        // Found by fuzzing: git passes the empty user on, and takes the last two for a scheme.
        "@host:x",
        "https://@host/x",
        ".@https://host/x",
        "/a://b",
    ] {
        assert!(RepoUrl::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn passwords_are_refused_and_never_shown() {
    for bad in [
        "https://me:hunter2@example.org/x",
        "ssh://me:hunter2@example.org/x",
        "https://:hunter2@h/x",
        "me:hunter2@example.org:x",
        "ftp://me:hunter2@h/x",
        "https://hunter2@/x",
        "ftp://hunter2@h/x",
    ] {
        let error = RepoUrl::parse(bad).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let url = RepoUrl::parse("https://ghp_token@example.org/x").unwrap();
    assert!(!url.to_string().contains("ghp_token"));
}

#[test]
fn malformed_ones_say_why() {
    assert_eq!(rule(""), "it is empty");
    assert_eq!(rule("https:///x"), "it names no host");
    assert_eq!(rule("ssh:///x"), "it names no host");
    assert_eq!(rule("https://h"), "it names no repository");
    assert_eq!(rule("ssh://h/"), "it names no repository");
    assert_eq!(rule("h:"), "it names no repository");
    assert_eq!(rule("https://h:0/x"), "its port is malformed");
    assert_eq!(rule("https://h:99999/x"), "its port is malformed");
    assert_eq!(rule("https://h:+1/x"), "its port is malformed");
    assert_eq!(rule("https://h$(x)/x"), "its host is malformed");
    assert_eq!(rule("https://exämple.org/x"), "its host is malformed");
    assert_eq!(rule("a/b"), "a path must be absolute");
    assert_eq!(rule("file://host/x"), "file:// names paths on this machine only");
    assert_eq!(rule("https://h/x?y"), "its path is malformed");
    assert_eq!(rule("ssh://h/%zz"), "it has a malformed `%`");
}

#[test]
fn relative_paths_start_where_one_stands() {
    let at = |text: &str| RepoUrl::parse_in(text, Path::new("/srv")).unwrap().to_string();
    assert_eq!(at("."), "/srv/.");
    assert_eq!(at("a/b:c"), "/srv/a/b:c");
    assert_eq!(at("./a:b"), "/srv/./a:b");
    assert_eq!(at("/a"), "/a");
    assert_eq!(at("host:a"), "ssh://host/a");
    assert_eq!(at("https://h/x"), "https://h/x");
}

#[test]
fn names_come_from_the_last_part() {
    for (text, name) in [
        ("https://h/acme/shop.git", "shop"),
        ("git@h:shop", "shop"),
        ("git@h:a/shop.git/", "shop"),
        ("/srv/shop/.git", "shop"),
        ("/srv/shop/", "shop"),
    ] {
        assert_eq!(RepoUrl::parse(text).unwrap().name(), Some(name), "{text}");
    }
}

#[test]
fn the_same_place_may_be_written_in_several_ways() {
    let same = |a: &str, b: &str| {
        let (a, b) = (RepoUrl::parse(a).unwrap(), RepoUrl::parse(b).unwrap());
        assert_eq!(a.same_place(&b), b.same_place(&a));
        a.same_place(&b)
    };
    for other in ["/srv/r", "/srv/r/", "file:///srv/r", "file://localhost/srv/r/", "/srv//./r/."] {
        assert!(same("/srv/r", other), "{other}");
    }
    assert!(same("https://h/x", "https://H:443/x/"));
    assert!(same("https://me@h/x", "https://h/x"));
    assert!(same("git@h:x/", "git@h:x"));
    assert!(same("git@h:/x", "ssh://git@h:22/x"));
    for (a, b) in [
        ("/srv/r", "/srv/r.git"),
        ("/srv/a/../r", "/srv/r"),
        ("https://h/x", "https://h/x.git"),
        ("https://h/x", "https://h/X"),
        ("https://h/x", "https://h:8443/x"),
        ("http://localhost/x", "https://localhost/x"),
        ("git@h:x", "me@h:x"),
        ("git@h:x", "git@h:/x"),
        ("ssh://h/srv/r", "/srv/r"),
    ] {
        assert!(!same(a, b), "{a} {b}");
    }
}
