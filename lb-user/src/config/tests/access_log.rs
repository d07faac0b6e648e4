//! `[access_log.NAME]`, good and bad.

use super::*;
use tls_worker::api::LogFormat;

fn text(keys: &str) -> String {
    format!(
        "[edge]\nname = \"x\"\ndatapath = \"sockets\"\nuser = \"bailey\"\n\
         [service.web]\naddresses = [\"127.0.0.1:80\"]\nmode = \"http\"\npool = \"app\"\naccess_log = \"main\"\n\
         [pool.app]\nbackends = [\"127.0.0.1:1\"]\n[access_log.main]\n{keys}\n"
    )
}

fn good(files: &Files, keys: &str) -> AccessLog {
    let loaded = files.parse(&text(keys)).unwrap_or_else(|error| panic!("{keys}: {error}"));
    assert!(loaded.warnings.views().is_empty(), "{keys}");
    assert_eq!(loaded.config.services[0].access_log, Some(0));
    loaded.config.access_logs[0].clone()
}

#[test]
fn every_target_and_format_is_read() {
    let files = Files::new();
    let log = good(&files, "to = \"file\"\npath = \"access.log\"");
    assert_eq!(log.target, LogTarget::File(files.0.path().join("access.log")));
    let LogFormat::Json(fields) = &log.log.format else { panic!() };
    assert!(fields.iter().any(|(key, _)| key == "status") && !fields.iter().any(|(_, text)| text.contains("cookie")));
    assert_eq!((log.log.sample, log.log.errors_always, log.log.buffer), (1, false, 1 << 20));
    let keys = "to = \"stdout\"\nformat = \"text\"\ntext = \"${client.ip} ${response.status}\"\n\
                sample = 10\nerrors_always = true\nbuffer = \"64KiB\"";
    let log = good(&files, keys);
    assert_eq!(log.target, LogTarget::Stdout);
    assert_eq!((log.log.sample, log.log.errors_always, log.log.buffer), (10, true, 64 << 10));
    let log = good(&files, "to = \"syslog\"\nformat = \"combined\"");
    let default = Syslog { socket: "/dev/log".into(), facility: 16, tag: "bailey".into() };
    assert_eq!(log.target, LogTarget::Syslog(default));
    let log =
        good(&files, "to = \"syslog\"\nformat = \"common\"\nfacility = \"daemon\"\ntag = \"edge\"\nsocket = \"s\"");
    let LogTarget::Syslog(syslog) = log.target else { panic!() };
    assert_eq!((syslog.facility, &*syslog.tag), (3, "edge"));
    let log = good(&files, "to = \"stdout\"\nfields = { z = \"${request.host}\", a = \"${response.bytes}\" }");
    let LogFormat::Json(fields) = log.log.format else { panic!() };
    assert_eq!(fields.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), ["z", "a"], "as they are written");
}

#[test]
fn what_makes_no_sense_is_told_with_its_place_and_a_remedy() {
    let files = Files::new();
    for (keys, message, help) in [
        ("format = \"json\"", "lacks the key `to`", "\"stdout\""),
        ("to = \"flie\"", "is none of", "did you mean \"file\""),
        ("to = \"file\"", "lacks the key `path`", "access.log"),
        ("to = \"file\"\npath = \"none/a.log\"", "there can be no file", "make its directory"),
        ("to = \"stdout\"\npath = \"a.log\"", "`path` belongs to", "to = \"file\""),
        ("to = \"stdout\"\nfacility = \"mail\"", "`facility` belongs to", "syslog"),
        ("to = \"syslog\"\ntag = \"a b\"", "is no tag", "letters"),
        ("to = \"stdout\"\nformat = \"text\"", "lacks the key `text`", "client.ip"),
        ("to = \"stdout\"\ntext = \"x\"", "`text` belongs to", "format = \"text\""),
        ("to = \"stdout\"\nformat = \"common\"\nfields = { a = \"b\" }", "`fields` belongs to", "json"),
        ("to = \"stdout\"\nfields = {}", "0 fields", "choose"),
        ("to = \"stdout\"\nfields = { a = 1 }", "must be a string", "quotes"),
        ("to = \"stdout\"\nfields = { a = \"${clint.ip}\" }", "clint.ip", "client.ip"),
        ("to = \"stdout\"\nfields = { a = \"${header('Authorization')}\" }", "credentials", "leave"),
        ("to = \"stdout\"\nfields = { a = \"${cookie('sid')}\" }", "credentials", "leave"),
        (
            "to = \"stdout\"\nfields = { a = \"${default(header('a'), response_header('b'))}\" }",
            "in one expression",
            "two expressions",
        ),
        ("to = \"stdout\"\nsample = 0", "out of bounds", "1 to"),
        ("to = \"stdout\"\nbuffer = 1", "out of bounds", "4096"),
    ] {
        let problem = files.only(&text(keys));
        assert!(problem.message.contains(message), "{keys}: {problem:#?}");
        let told = problem.help.clone().unwrap_or_default();
        assert!(told.contains(help), "{keys}: {problem:#?}");
    }
    let unused = text("to = \"stdout\"").replace("access_log = \"main\"\n", "");
    assert!(files.only(&unused).message.contains("is used by no service"));
    let twice = text("to = \"file\"\npath = \"a.log\"\n[access_log.b]\nto = \"file\"\npath = \"a.log\"");
    assert!(files.only(&twice).message.contains("the file of another"));
    let stream = text("to = \"stdout\"").replace("mode = \"http\"", "mode = \"passthrough\"");
    assert!(files.only(&stream).message.contains("access_log"), "{:?}", files.views(&stream));
}
