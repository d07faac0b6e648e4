//! `[pool.NAME.persistence]`, good and bad.

use super::*;
use tls_worker::api::{PersistBy, Persistence, SameSite};

fn text(keys: &str) -> String {
    format!(
        "[service.web]\naddresses = [\"127.0.0.1:80\"]\nmode = \"http\"\npool = \"app\"\n\
         [pool.app]\nbackends = [\"127.0.0.1:1\"]\n[pool.app.persistence]\n{keys}\n"
    )
    .replace("[service.web]", "[edge]\nname = \"x\"\ndatapath = \"sockets\"\nuser = \"bailey\"\n[service.web]")
}

fn good(files: &Files, keys: &str) -> Persistence {
    let loaded = files.parse(&text(keys)).unwrap_or_else(|error| panic!("{keys}: {error}"));
    loaded.config.pools[0].persistence.clone().unwrap()
}

#[test]
fn every_type_is_read() {
    let files = Files::new();
    let key = |text: &str, secret| PersistBy::Key { text: text.into(), secret };
    for (keys, by) in [
        ("type = \"source\"", PersistBy::Source { v4: 32, v6: 64 }),
        ("type = \"source\"\nipv4_prefix = 24\nipv6_prefix = 48", PersistBy::Source { v4: 24, v6: 48 }),
        ("type = \"app_cookie\"\nname = \"JSESSIONID\"", PersistBy::AppCookie("JSESSIONID".into())),
        ("type = \"header\"\nname = \"X-User\"", key("${header('x-user')}", true)),
        ("type = \"query\"\nname = \"user\"", key("${query('user')}", true)),
        ("type = \"path_part\"", key("${path_part('1')}", false)),
        ("type = \"path_part\"\npart = 3", key("${path_part('3')}", false)),
        ("type = \"client_cert\"", key("${tls.client_cert.fingerprint}", false)),
        ("type = \"key\"\nkey = \"${lower(header('x-user'))}\"", key("${lower(header('x-user'))}", true)),
    ] {
        let persistence = good(&files, keys);
        assert_eq!(persistence.by, by, "{keys}");
        assert_eq!((persistence.timeout, persistence.max_entries), (Duration::from_secs(3600), 100_000));
        // What stands in the text of a key is a text that the worker reads.
        if let PersistBy::Key { text, .. } = &persistence.by {
            tls_worker::api::vars::Template::parse(text).unwrap();
        }
    }
}

#[test]
fn a_cookie_has_defaults_that_are_safe() {
    use base64::Engine as _;
    let files = Files::new();
    let PersistBy::Cookie(cookie) = good(&files, "type = \"cookie\"").by else { panic!() };
    assert_eq!((cookie.same_site, cookie.http_only, cookie.secure), (SameSite::Lax, true, None));
    assert_eq!((&*cookie.path, cookie.domain, cookie.max_age, cookie.keys.len()), ("/", None, None, 0));
    assert!(cookie.name.starts_with("bailey-") && !cookie.name.contains("app"), "{}", cookie.name);
    let path = files.0.path().join("cookie.keys");
    std::fs::write(&path, base64::engine::general_purpose::STANDARD.encode([3; 48])).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let all = "type = \"cookie\"\nname = \"sid\"\npath = \"/app\"\ndomain = \"example.com\"\nsame_site = \"none\"\n\
               max_age = \"1d\"\nhttp_only = false\nsecure = true\nkeys_file = \"cookie.keys\"\ntimeout = \"10m\"";
    let PersistBy::Cookie(cookie) = good(&files, all).by else { panic!() };
    assert_eq!((cookie.same_site, cookie.http_only, cookie.secure), (SameSite::None, false, Some(true)));
    assert_eq!((&*cookie.name, &*cookie.path, cookie.domain.as_deref()), ("sid", "/app", Some("example.com")));
    assert_eq!((cookie.max_age, cookie.keys.len()), (Some(Duration::from_secs(86_400)), 1));
}

#[test]
fn what_makes_no_sense_is_told_with_its_place_and_a_remedy() {
    let files = Files::new();
    for (keys, message, help) in [
        ("", "lacks the key `type`", "type = \"cookie\""),
        ("type = \"cookies\"", "is none of", "did you mean \"cookie\""),
        ("type = \"tls_session\"", "has no name that a server sees again", "tickets"),
        ("type = \"header\"", "lacks the key `name`", "x-user"),
        ("type = \"header\"\nname = \"x user\"", "is no header name", "token"),
        ("type = \"key\"", "lacks the key `key`", "header"),
        ("type = \"key\"\nkey = \"all\"", "same for every request", "header"),
        ("type = \"key\"\nkey = \"${response.status}\"", "none of yet", "variables"),
        ("type = \"key\"\nkey = \"${heder('x')}\"", "heder", ""),
        ("type = \"source\"\nname = \"x\"", "does not belong to type \"source\"", "\"cookie\""),
        ("type = \"source\"\nipv4_prefix = 33", "out of bounds", "1 to 32"),
        ("type = \"cookie\"\nname = \"a b\"", "is no name of a cookie", "letters"),
        ("type = \"cookie\"\npath = \"/;x\"", "is no path of a cookie", "begins"),
        ("type = \"cookie\"\nsame_site = \"none\"\nsecure = false", "SameSite=None", "lax"),
        ("type = \"cookie\"\nname = \"__Host-x\"\npath = \"/a\"", "browsers drop", "another name"),
        ("type = \"cookie\"\nmax_entries = 5", "needs no table", "remove"),
        ("type = \"cookie\"\nkeys_file = \"none.keys\"", "cannot read", "there is no"),
        ("type = \"source\"\ntimeout = \"0s\"", "bounds", "from"),
        ("type = \"source\"\nmax_entries = 0", "out of bounds", "1 to 1000000"),
    ] {
        let problem = files.only(&text(keys));
        assert!(problem.message.contains(message), "{keys}: {problem:#?}");
        let told = problem.help.clone().unwrap_or_default();
        assert!(told.contains(help), "{keys}: {problem:#?}");
    }
}

#[test]
fn without_http_there_is_the_source_alone() {
    let files = Files::new();
    let of = |mode: &str, keys: &str| text(keys).replace("mode = \"http\"", &format!("mode = \"{mode}\""));
    let problem = files.only(&of("passthrough", "type = \"cookie\""));
    assert!(problem.message.contains("does not go with service \"web\" of mode \"passthrough\""), "{problem:#?}");
    assert!(files.views(&of("passthrough", "type = \"source\"")).is_empty());
}
