//! Words, expressions, and whole configurations with what is said of them.

use super::condition::{condition, keys};
use super::expr::parse;
use super::text::{parameter, text};
use super::{netscaler, read_lines};
use crate::import::{Fate, Imported};

const SITE: &str = include_str!("mdm-edge.ns.conf");

fn words(line: &str) -> Vec<String> {
    read_lines(line).remove(0).words.into_iter().map(|word| word.text).collect()
}

#[test]
fn words_have_quotes_parentheses_and_escapes() {
    for (line, expected) in [
        ("add server a 10.0.0.1", &["add", "server", "a", "10.0.0.1"][..]),
        ("add cs policy p -rule \"a == \\\"b c\\\"\"", &["add", "cs", "policy", "p", "-rule", "a == \"b c\""]),
        ("set x 'it''s' \"\"", &["set", "x", "it''s", ""]),
        ("add x q{a \"b\" c} d", &["add", "x", "a \"b\" c", "d"]),
        ("add x queue q/a b/", &["add", "x", "queue", "a b"]),
        ("add x -p f(g(\"a b\") c) h", &["add", "x", "-p", "f(g(\"a b\") c)", "h"]),
        ("add x \"A(\"b\").NOT\" c", &["add", "x", "A(\"b\").NOT", "c"]),
        ("add x \"A && B(\"c d\")\" e", &["add", "x", "A && B(\"c d\")", "e"]),
        ("add x \"\"a.b\"\" c", &["add", "x", "\"a.b\"", "c"]),
        ("add x \"(a\" \"b)\"", &["add", "x", "(a\" \"b)"]),
        ("add x \"never ends", &["add", "x", "never ends"]),
        ("add x \"line\\r\\nnext\\tä\\.\"", &["add", "x", "line\r\nnext\tä\\."]),
    ] {
        assert_eq!(words(line), expected, "{line}");
    }
}

#[test]
fn comments_are_passed_over_and_wrapped_lines_joined() {
    let lines = read_lines("#NS13.0 Build 1\n# x\n\nadd server a 1.2.3.4\nadd lb vserver v HTTP\n  1.2.3.4 80\n");
    assert_eq!(lines.iter().map(|line| (line.number, line.words.len())).collect::<Vec<_>>(), [(4, 4), (5, 7)]);
    let imported = netscaler("add server a\n 10.0.0.1\n");
    assert!(imported.notes.iter().any(|note| note.line == 2 && note.fate == Fate::Repaired), "{:?}", imported.notes);
}

#[test]
fn conditions_are_those_of_routes() {
    let said = |text: &str| {
        let found = parse(text).and_then(|expr| condition(&expr))?;
        let keys: Vec<String> = keys(&found).into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
        Ok::<_, String>(keys.join("\n"))
    };
    for (text, expected) in [
        ("true", ""),
        ("HTTP.REQ.URL.STARTSWITH(\"/a.b\")", r#"path_regex = '^/a\.b'"#),
        ("HTTP.REQ.URL.SET_TEXT_MODE(IGNORECASE).STARTSWITH(\"/A\")", r#"path_regex = "(?i)^/A""#),
        ("http.req.url.path.eq(\"/a\")", r#"path_exact = "/a""#),
        ("HTTP.REQ.URL.CONTAINS(\"x\")", r#"values."${request.uri}" = { contains = "x" }"#),
        ("HTTP.REQ.HOSTNAME.EQ(\"A.Test\")", r#"hosts = ["a.test"]"#),
        ("HTTP.REQ.HEADER(\"Host\") == \"a.test\"", r#"hosts = ["a.test"]"#),
        ("HTTP.REQ.HEADER(\"x\").EXISTS.NOT", "not = { headers.x = { present = true } }"),
        ("!HTTP.REQ.COOKIE.VALUE(\"s\").EQ(\"1\")", r#"not = { cookies.s = { exact = "1" } }"#),
        ("HTTP.REQ.URL.QUERY.VALUE(\"d\").ENDSWITH(\"9\")", r#"query.d = { suffix = "9" }"#),
        ("HTTP.REQ.METHOD.EQ(post)", r#"methods = ["POST"]"#),
        ("CLIENT.IP.SRC.IN_SUBNET(10.1.2.3/8)", r#"clients = ["10.0.0.0/8"]"#),
        ("CLIENT.IP.SRC == 10.1.2.3", r#"clients = ["10.1.2.3"]"#),
        (
            "CLIENT.SSL.CLIENT_CERT.EXISTS && HTTP.REQ.URL.STARTSWITH(\"/a\").NOT",
            "client_cert.present = true\nnot = { path_regex = \"^/a\" }",
        ),
        (
            "HTTP.REQ.METHOD.EQ(GET) && (HTTP.REQ.HOSTNAME.EQ(\"a.test\") || HTTP.REQ.HOSTNAME.EQ(\"b.test\"))",
            "methods = [\"GET\"]\nany = [{ hosts = [\"a.test\"] }, { hosts = [\"b.test\"] }]",
        ),
        (
            "HTTP.REQ.HEADER(\"x\").CONTAINS(\"a\") && HTTP.REQ.HEADER(\"x\").CONTAINS(\"b\")",
            "headers.x = { contains = \"a\" }\nall = [{ headers.x = { contains = \"b\" } }]",
        ),
    ] {
        assert_eq!(said(text).as_deref(), Ok(expected), "{text}");
    }
    for text in [
        "CLIENT.TCP.DSTPORT.EQ(443)",
        "HTTP.REQ.URL.LENGTH > 5",
        "HTTP.REQ.URL.STARTSWITH(",
        "\"text\"",
        "HTTP.REQ.URL.REGEX_MATCH(re/a/)",
        "",
        &"(".repeat(1000),
        &"!".repeat(2000),
    ] {
        assert!(said(text).is_err(), "{text}: {:?}", said(text));
    }
}

#[test]
fn texts_are_those_with_variables() {
    let said = |made: fn(&super::expr::Expr) -> Result<String, String>, text: &str| made(&parse(text).unwrap());
    for (expr, expected) in [
        ("\"a $ b\"", "a $$ b"),
        ("\"https://\" + HTTP.REQ.HOSTNAME + HTTP.REQ.URL", "${request.url}"),
        ("\"https://www.\"+HTTP.REQ.HOSTNAME+HTTP.REQ.URL.PATH", "https://www.${request.host}${request.path}"),
        ("HTTP.REQ.HEADER(\"o'clock\")", "${header('o''clock')}"),
        ("CLIENT.IP.SRC", "${client.ip}"),
        ("HTTP.REQ.URL.QUERY.VALUE(\"D\").TO_LOWER", "${lower(query('D'))}"),
        ("(\"https://\"+HTTP.REQ.HOSTNAME+HTTP.REQ.URL).B64ENCODE", "${base64(request.url)}"),
    ] {
        assert_eq!(said(text, expr).as_deref(), Ok(expected), "{expr}");
    }
    assert_eq!(
        said(
            parameter,
            "HTTP.REQ.HEADER(\"authorization\").AFTER_STR(\"Basic \").B64DECODE.BEFORE_STR(\":\").HTTP_URL_SAFE"
        ),
        Ok("${before(base64_decode(after(header('authorization'), 'Basic ')), ':')}".into())
    );
    assert!(said(text, "(\"a\"+HTTP.REQ.URL).B64ENCODE").is_err());
    assert!(said(text, "HTTP.REQ.BODY(20)").is_err());
}

fn has(imported: &Imported, parts: &[&str]) {
    for part in parts {
        assert!(imported.toml.contains(part), "no {part:?} in\n{}", imported.toml);
    }
}

fn told(imported: &Imported, line: usize, fate: Fate, part: &str) {
    let found = imported.notes.iter().any(|note| note.line == line && note.fate == fate && note.says.contains(part));
    assert!(found, "line {line}, {part:?}: {:#?}", imported.notes);
}

#[test]
fn the_appliances_site_is_carried_over_and_its_traps_are_told() {
    let imported = netscaler(SITE);
    has(
        &imported,
        &[
            "[service.cs_vs_mdm_01]\naddresses = [\"192.0.2.1:443\"]\nmode = \"https\"\n\
             certificates = [\"PUBLICCERTIFICATE-NAME\"]\npool = \"1201_lb_vs_mdm_80\"\n\
             client_cert_headers = { NSClientCert = \"pem\" }\n",
            "mode = \"optional\"\nca = [\"CA_XenMobile_Device_CA.pem\", \"CA_XenMobile_Root_CA.pem\"]\nocsp = \"optional\"\n",
            "path_regex = \"^/Microsoft-Server-ActiveSync\"\npool = \"1203_lb_vs_mdm_exchange\"\nclient_cert_headers = {}\n",
            "[service.1201_lb_vs_mdm_80]\naddresses = [\"192.0.2.1:80\"]\nmode = \"http\"\ntimeouts.idle = \"120s\"\n",
            "[authorizer.httpCalloutXNC]\npool = \"1204_lb_vs_mdm_xnc\"\n",
            "host = \"callout.asfilter.internal\"\npath = \"/services/ActiveSync/Authorize\"\n",
            "body_equals = \"Allow\"\nbody_first = 20\n",
            "url = \"${base64(request.url)}\"\nresultType = \"json\"\nDeviceId = \"${query('DeviceId')}\"\n",
        ],
    );
    assert!(!imported.toml.contains("[service.1202"), "{}", imported.toml);
    for (line, fate, part) in [
        (1, Fate::Differs, "[DEVICEMANAGER-FQDN] is no address"),
        (2, Fate::LeftOut, "0302_lb_sv_mdm"),
        (3, Fate::Differs, "takes any certificate of a backend"),
        (5, Fate::Differs, "[PUBLIC-IP] is no address: 192.0.2.1"),
        (6, Fate::LeftOut, "has no certificate"),
        (8, Fate::Repaired, "of type SSL and is reached from inside alone"),
        (14, Fate::LeftOut, "needs no certificate"),
        (17, Fate::Repaired, "HTTP.REQ.URL.STARTSWITH(\"/Microsoft-Server-ActiveSync\")"),
        (22, Fate::Repaired, "quotes inside quotes"),
        (23, Fate::Differs, "is made nowhere"),
        (25, Fate::Differs, "no responder is configured"),
        (27, Fate::Differs, "no policy uses it"),
        (27, Fate::Differs, "without an answer a request is refused"),
        (28, Fate::Repaired, "\"callout.asfilter.internal\""),
    ] {
        told(&imported, line, fate, part);
    }
    let files: Vec<&str> = imported.files.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(
        files,
        [
            "CA_XenMobile_Device_CA.pem",
            "CA_XenMobile_Root_CA.pem",
            "PUBLICCERTIFICATE-NAME.key",
            "PUBLICCERTIFICATE-NAME.pem"
        ]
    );
}

#[test]
fn groups_monitors_persistence_and_ranges_make_pools() {
    let imported = netscaler(
        "bind lb vserver shop web\nadd server svc[1-3] 10.0.0.[1-3]\n\
         add serviceGroup web HTTP -maxClient 50 -svrTimeout 90 -cip ENABLED X-Client\n\
         bind serviceGroup web svc1 8080 -weight 3\nbind serviceGroup web svc2 8080\nbind serviceGroup web svc3 8080\n\
         bind serviceGroup web -monitorName up\ndisable server svc3\n\
         add lb monitor up HTTP -respCode 200 302-304 -httpRequest \"HEAD /ok\" -interval 10 -retries 2 -maxForwards 3\n\
         add lb vserver shop HTTP 192.0.2.7 80 -persistenceType COOKIEINSERT -timeout 30 -lbMethod ROUNDROBIN -backupVServer spare\n\
         add lb vserver spare HTTP 0\nadd service s spare.Example.com HTTP 8080\nbind lb vserver spare s\n",
    );
    has(
        &imported,
        &[
            "{ address = \"10.0.0.1:8080\", weight = 3, max_connections = 50 }",
            "{ address = \"spare.example.com:8080\", backup = true }",
            "balance = \"round_robin\"",
            "timeouts.idle = \"90s\"",
            "type = \"cookie\"\ntimeout = \"30m\"",
            "method = \"HEAD\"\npath = \"/ok\"\ncodes = [200, \"302-304\"]\ninterval = \"10s\"\nfall = 2",
            "client_ip_header = \"x-client\"",
        ],
    );
    assert!(!imported.toml.contains("10.0.0.3"), "{}", imported.toml);
    told(&imported, 8, Fate::LeftOut, "out of service");
    told(&imported, 9, Fate::LeftOut, "-maxforwards 3");
}

#[test]
fn policies_answer_redirect_ask_and_change_headers() {
    let imported = netscaler(
        "add service s 10.0.0.9 HTTP 8080\nadd lb vserver v HTTP 192.0.2.7 80\nbind lb vserver v s\n\
         add responder action to_www redirect \"\\\"https://www.a.test\\\" + HTTP.REQ.URL\" -responseStatusCode 301\n\
         add responder policy old \"HTTP.REQ.HOSTNAME.EQ(\\\"a.test\\\")\" to_www\n\
         add responder action no respondwith \"\\\"HTTP/1.1 410 Gone\\r\\n\\r\\nno\\\"\"\n\
         add responder policy gone \"HTTP.REQ.URL.STARTSWITH(\\\"/gone\\\")\" no\n\
         add policy httpCallout ask -IPAddress 10.0.0.5 -port 81 -hostExpr \"\\\"h\\\"\" -urlStemExpr \"\\\"/may\\\"\" -resultExpr \"HTTP.RES.BODY(9)\"\n\
         add responder policy asked \"HTTP.REQ.URL.STARTSWITH(\\\"/in\\\") && SYS.HTTP_CALLOUT(ask).CONTAINS(\\\"ok\\\").NOT\" DROP\n\
         add rewrite action name insert_http_header X-Client CLIENT.IP.SRC\nadd rewrite policy name true name\n\
         bind lb vserver v -policyName gone -priority 20 -gotoPriorityExpression END -type REQUEST\n\
         bind lb vserver v -policyName old -priority 10\nbind lb vserver v -policyName asked -priority 30\n\
         bind lb vserver v -policyName name -priority 40 -type REQUEST\n",
    );
    has(
        &imported,
        &[
            "name = \"old\"\npriority = 40\nhosts = [\"a.test\"]\nredirect = { to = \"https://www.a.test${request.uri}\", code = 301 }",
            "name = \"gone\"\npriority = 30\npath_regex = \"^/gone\"\nrespond = { status = 410, body = \"no\" }",
            "path_regex = \"^/in\"\npool = \"v\"\nauthorizer = \"ask\"\nrequest_headers.set = { X-Client = \"${client.ip}\" }",
            "name = \"rest\"\npriority = 10\npool = \"v\"\nrequest_headers.set",
            "url = \"http://10.0.0.5:81\"",
            "body_contains = \"ok\"\nbody_first = 9",
            "[authorizer.ask.deny]\ndrop = true",
        ],
    );
}

#[test]
fn a_header_that_holds_for_a_part_of_a_route_parts_it() {
    let imported = netscaler(
        "add service s 10.0.0.9 HTTP 8080\nadd lb vserver v SSL 192.0.2.7 443\nbind lb vserver v s\n\
         add ssl certKey c -cert /nsconfig/ssl/c.pem -key c.key\nbind ssl vserver v -certkeyName c\n\
         set ssl vserver v -clientAuth ENABLED -clientCert Mandatory -HSTS ENABLED -maxage 100 -tls1 ENABLED\n\
         add ssl certKey ca -cert ca.pem\nbind ssl vserver v -certkeyName ca -CA -ocspCheck Mandatory\n\
         add ssl action a -clientCert ENABLED -certHeader X-Cert\n\
         add ssl policy p -rule \"HTTP.REQ.URL.STARTSWITH(\\\"/a\\\")\" -action a\nbind ssl vserver v -policyName p -priority 1\n",
    );
    has(
        &imported,
        &[
            "chain = \"c.pem\"\nkey = \"c.key\"",
            "hsts = { max_age = \"100s\", include_subdomains = false, preload = false }\npool = \"v\"\n",
            "mode = \"required\"\nca = [\"ca.pem\"]\nocsp = \"required\"",
            "name = \"default-cert\"\npath_regex = \"^/a\"\npool = \"v\"\nclient_cert_headers = { X-Cert = \"pem\" }",
        ],
    );
    told(&imported, 6, Fate::Differs, "nothing below TLS 1.2");
}

#[test]
fn what_is_none_of_ours_is_told() {
    let imported = netscaler(
        "set ns config -IPAddress 10.0.0.1\nadd vlan 5\nadd lb vserver v SIP_TCP 192.0.2.7 80\nbind lb vserver v nobody\n\
         add lb vserver w HTTP 192.0.2.8 80\nbind lb vserver w nobody\nset ssl certKey c -passcrypt 00 -encrypted\n\
         add cs vserver c HTTP 192.0.2.9 80\nadd cs policy p -rule \"REQ.HTTP.URL == /a\"\n\
         bind cs vserver c -policyName p -targetLBVserver w -priority 1\nrm server x\nshow me\n",
    );
    told(&imported, 1, Fate::LeftOut, "are the host's here");
    told(&imported, 2, Fate::LeftOut, "are the host's here");
    told(&imported, 3, Fate::LeftOut, "SIP_TCP has no counterpart");
    told(&imported, 6, Fate::LeftOut, "no service nobody");
    told(&imported, 7, Fate::Differs, "cannot be decoded");
    told(&imported, 9, Fate::LeftOut, "a classic expression");
    told(&imported, 11, Fate::LeftOut, "there is no server x");
    told(&imported, 12, Fate::Repaired, "no command begins here");
    has(&imported, &["respond = 503"]);
}

#[test]
fn secrets_are_shown_to_nobody_and_members_are_told_apart_by_all_of_their_address() {
    let imported = netscaler(
        "add lb monitor m RADIUS -userName u -password S3cret -radKey K3y\n\
         add service a 10.0.0.1 HTTP 8080\nadd service b 10.0.0.1 HTTP 80\nadd lb vserver v HTTP 192.0.2.7 80\n\
         bind lb vserver v a\nbind lb vserver v b\nbind service a -monitorName m\n",
    );
    let all = format!("{:?}{}", imported.notes, imported.toml);
    assert!(!all.contains("S3cret") && !all.contains("K3y"), "{all}");
    has(&imported, &["\"10.0.0.1:8080\"", "\"10.0.0.1:80\""]);
}

#[test]
fn monitors_are_checks_of_their_kind() {
    let made = |service: &str, monitor: &str| {
        let site = format!(
            "add service s 10.0.0.9 {service}\nadd lb vserver v TCP 192.0.2.7 80\nbind lb vserver v s\n\
             bind service s -monitorName m\n{monitor}\n"
        );
        let imported = netscaler(&site);
        let (_, after) = imported.toml.split_once(".health]\n").expect(&imported.toml);
        after.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
    };
    for (service, monitor, expected) in [
        ("TCP 80", "add lb monitor m PING -destIP 10.0.0.1", "type = \"icmp\"\naddress = \"10.0.0.1\""),
        ("UDP 53", "add lb monitor n TCP", "type = \"tcp\""),
        (
            "TCP 25",
            r#"add lb monitor m TCP-ECV -send "EHLO a\r\n" -recv 250 -downTime 60 -reverse YES"#,
            "type = \"text\"\nsend = 'EHLO a\\r\\n'\nexpect = \"250\"\ndown_interval = \"60s\"\nreverse = true",
        ),
        (
            "UDP 9",
            "add lb monitor m UDP-ECV -send ping",
            "type = \"text\"\ntransport = \"udp\"\nsend = \"ping\"\nexpect = \"\"",
        ),
        (
            "DNS 53",
            "add lb monitor m DNS -query a.test -queryType Address -IPAddress 192.0.2.5",
            "type = \"dns\"\nquery = \"a.test\"\nexpect = \"192.0.2.5\"",
        ),
        (
            "HTTP 80",
            "add lb monitor m HTTP-ECV -send \"GET /x\" -recv fine -secure YES -destPort 81",
            "type = \"http\"\npath = \"/x\"\ncodes = [200]\nbody = \"fine\"\ntls = true\nport = 81",
        ),
        ("SSL 443", "add lb monitor m HTTP", "type = \"http\"\npath = \"/\"\ncodes = [200]\ntls = false"),
        ("TCP 1", "add lb monitor m RADIUS", "type = \"tcp\""),
    ] {
        assert_eq!(made(service, monitor), expected, "{monitor}");
    }
}
