//! gRPC end to end, by its own client and server (Python's grpcio): calls of all four kinds, statuses and trailers,
//! deadlines, and what the edge itself says.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Result, ensure};
use lb_tests::harness::{Test, python};
use lb_tests::here::{Here, free_address};
use lb_tests::lab::HOST;
use lb_tests::need::venv;
use lb_tests::process::Process;
use lb_tests::programs::run;
use lb_tests::wait::{PATIENCE, wait_ok};

pub(crate) fn tests() -> Vec<Test> {
    vec![python("calls_of_every_kind_pass_with_status_trailers_and_deadline", "grpc", calls)]
}

const SERVER: &str = r#"
import sys, threading, grpc
from concurrent import futures
address, certificate, key = sys.argv[1:4]
def unary(request, context):
    if request == b"fail":
        context.abort(grpc.StatusCode.ALREADY_EXISTS, "it is there")
    if request == b"sleep":
        print("time", context.time_remaining() < 10, flush=True)
        gone = threading.Event()
        context.add_callback(gone.set)
        gone.wait(20)
        print("cancelled", flush=True)
    context.set_trailing_metadata((("x-last", "seen"),))
    return b"one " + request
def download(request, context):
    for number in range(int(request)):
        yield b"%d" % number
def upload(requests, context):
    return b"%d" % sum(len(request) for request in requests)
def both(requests, context):
    for request in requests:
        yield b"echo " + request
methods = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "Download": grpc.unary_stream_rpc_method_handler(download),
    "Upload": grpc.stream_unary_rpc_method_handler(upload),
    "Both": grpc.stream_stream_rpc_method_handler(both),
}
server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lab.Lab", methods),))
pair = (open(key, "rb").read(), open(certificate, "rb").read())
server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
server.start()
server.wait_for_termination()
"#;

const CLIENT: &str = r#"
import queue, sys, grpc
address, host, ca = sys.argv[1:4]
options = [("grpc.ssl_target_name_override", host)]
trust = grpc.ssl_channel_credentials(open(ca, "rb").read())
with grpc.secure_channel(address, trust, options) as channel:
    unary = channel.unary_unary("/lab.Lab/Unary")
    answer, call = unary.with_call(b"call", timeout=20)
    print("unary", answer, dict(call.trailing_metadata()).get("x-last"), call.code())
    big = b"x" * 3_000_000
    print("big", unary(big, timeout=20) == b"one " + big)
    print("download", sum(int(part) for part in channel.unary_stream("/lab.Lab/Download")(b"1000", timeout=20)))
    print("upload", channel.stream_unary("/lab.Lab/Upload")((b"x" * 1000 for _ in range(1000)), timeout=20))
    said = queue.Queue()
    both = channel.stream_stream("/lab.Lab/Both")(iter(said.get, None), timeout=20)
    for word in (b"one", b"two", b"three"):
        said.put(word)
        print("both", next(both))
    said.put(None)
    print("both", list(both), both.code())
    def refused(name, path, request, timeout):
        try:
            channel.unary_unary(path)(request, timeout=timeout)
        except grpc.RpcError as error:
            print(name, error.code().name, error.details())
    refused("fail", "/lab.Lab/Unary", b"fail", 20)
    refused("late", "/lab.Lab/Unary", b"sleep", 1)
    refused("method", "/lab.Lab/Nothing", b"", 20)
    refused("route", "/other.Other/Unary", b"", 20)
    refused("gone", "/gone.Gone/Unary", b"", 20)
    calls = [unary.future(b"%d" % number, timeout=20) for number in range(200)]
    print("many", all(call.result() == b"one %d" % number for number, call in enumerate(calls)))
"#;

fn calls() -> Result<()> {
    let here = Here::new()?;
    let (at, behind, gone) = (free_address()?, free_address()?, free_address()?);
    here.authority.issue(here.folder(), "grpc", &["grpc.test"])?;
    let server = serve(&here, behind)?;
    let pool = |name: &str, backend: SocketAddr| {
        format!(
            "[pool.{name}]\nbackends = [\"{backend}\"]\n[pool.{name}.tls]\nca = \"ca.pem\"\nserver_name = \"grpc.test\"\n\
             alpn = [\"h2\"]\n"
        )
    };
    let edge = here.start(&format!(
        "{}[service.calls]\naddresses = [\"{at}\"]\nmode = \"https\"\ncertificates = [\"lab\"]\n\
         [[service.calls.routes]]\npath = \"/lab.Lab\"\npool = \"lab\"\n\
         [[service.calls.routes]]\npath = \"/gone.Gone\"\npool = \"gone\"\n{}{}",
        here.head(""),
        pool("lab", behind),
        pool("gone", gone)
    ))?;
    let python = venv()?.join("bin/python").display().to_string();
    let said = run(&python, &["-c", CLIENT, &at.to_string(), HOST, &here.ca().display().to_string()], "")?;
    for line in [
        "unary b'one call' seen StatusCode.OK",
        "big True",
        "download 499500",
        "upload b'1000000'",
        "both b'echo one'",
        "both b'echo two'",
        "both b'echo three'",
        "both [] StatusCode.OK",
        "fail ALREADY_EXISTS it is there",
        "late DEADLINE_EXCEEDED",
        "method UNIMPLEMENTED Method not found!",
        "route UNIMPLEMENTED 404 nothing is served here",
        "gone UNAVAILABLE 502 the backend did not answer properly",
        "many True",
    ] {
        ensure!(said.text.lines().any(|said| said.starts_with(line)), "{line} is not in\n{}", said.text);
    }
    // The server knew how long its client would wait, and that it waits no more.
    wait_ok("the call to be given up", PATIENCE, || {
        ensure!(server.log().contains("time True") && server.log().contains("cancelled"), "{}", server.log());
        Ok(())
    })?;
    let failures = edge.metrics()?.sum("bailey_backend_failures_total", &[("pool", "lab"), ("kind", "reset")]);
    ensure!(failures == 0.0, "{failures} resets");
    Ok(())
}

fn serve(here: &Here, at: SocketAddr) -> Result<Process> {
    let mut command = Command::new(venv()?.join("bin/python"));
    command.args(["-c", SERVER, &at.to_string()]).args([here.file("grpc.pem"), here.file("grpc.key")]);
    let mut server = Process::start("grpc", here.folder(), &mut command)?;
    wait_ok("the server to listen", PATIENCE, || {
        if let Some(status) = server.ended() {
            return Ok(Err(anyhow::anyhow!("it ended ({status}):\n{}", server.log())));
        }
        TcpStream::connect(at)?;
        Ok(Ok(()))
    })??;
    Ok(server)
}
