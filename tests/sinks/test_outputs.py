"""Alerts reach commands and servers, the trace reaches OSC and LSL; none of them can harm the session."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from realtime_ser.errors import SinkError, UsageError
from realtime_ser.events import Alert, Marker, Measurement
from realtime_ser.sinks.actions import AlertActions
from realtime_ser.sinks.lsl import LslSink
from realtime_ser.sinks.osc import OscSink
from realtime_ser.sources.demo import demo_path
from realtime_ser.stages.monitor import Notice
from tests.cli.program import one_line, program, rows

COMMON: dict[str, Any] = {"session_id": "s", "seq": 1, "start_s": 2.0, "end_s": 3.0}
ALERT = Alert(**COMMON, rule="arousal > 0.7", value=0.75)
SPOKEN = Measurement(
    **COMMON, trigger="hop", state="speech", label="happy", confidence=0.5, arousal=0.25, valence=-0.5,
    scores={"neutral": 0.5, "happy": 0.5}, scores_smooth={"neutral": 0.25, "happy": 0.75}, level_dbfs=-20.0,
)  # fmt: skip
SILENT = Measurement(**COMMON, trigger="hop", state="no_speech", scores={}, scores_smooth={}, level_dbfs=-60.0)


def python(code: str) -> str:
    return f'{sys.executable} -c "{code}"'


def test_a_command_gets_the_alert(tmp_path: Path) -> None:
    out = tmp_path / "told"
    code = f"import os, sys; open({str(out)!r}, 'w').write(os.environ['REALTIME_SER_RULE'] + sys.stdin.read())"
    problems: list[Notice] = []
    actions = AlertActions(python(code), tell=problems.append)
    actions.write(SPOKEN)
    assert not out.exists()
    actions.write(ALERT)
    assert not problems
    rule, content = out.read_text().split("{", 1)
    assert rule == "arousal > 0.7"
    assert json.loads("{" + content)["value"] == 0.75


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/no/such/program", "no such file"),
        (python("import sys; print('bad luck', file=sys.stderr); sys.exit(3)"), "failed with 3: bad luck"),
        (python("import time; time.sleep(60)"), "took more than"),
    ],
)
def test_a_command_that_fails_or_hangs_is_reported(command: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime_ser.sinks.actions._PATIENCE_S", 1.0)
    problems: list[Notice] = []
    AlertActions(command, tell=problems.append).write(ALERT)
    (problem,) = problems
    assert why in problem.message


@pytest.mark.skipif(os.name != "posix", reason="POSIX shell")
def test_a_command_that_leaves_something_running_has_done_its_work() -> None:
    problems: list[Notice] = []
    actions = AlertActions("sh -c 'sleep 15 & exit 0'", tell=problems.append)
    begun = time.monotonic()
    actions.write(ALERT)
    assert not problems
    assert time.monotonic() - begun < 5
    AlertActions("sh -c 'sleep 15 & echo bad luck >&2; exit 3'", tell=problems.append).write(ALERT)
    assert "failed with 3: bad luck" in problems[0].message


@pytest.fixture
def server() -> Iterator[tuple[str, list[bytes]]]:
    """A web server that refuses what comes to /refuse, and keeps the rest."""
    heard: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(500 if self.path == "/refuse" else 204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}", heard
    listening.shutdown()


def test_a_webhook_gets_the_alert_and_a_refusal_is_reported(server: tuple[str, list[bytes]]) -> None:
    url, heard = server
    problems: list[Notice] = []
    AlertActions(url=f"{url}/", tell=problems.append).write(ALERT)
    assert json.loads(heard[0])["rule"] == "arousal > 0.7"
    assert not problems
    AlertActions(url=f"{url}/refuse", tell=problems.append).write(ALERT)
    assert "500" in problems[0].message
    AlertActions(url="http://127.0.0.1:9", tell=problems.append).write(ALERT)
    assert len(problems) == 2


def test_a_server_that_answers_no_http_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        threading.Thread(target=answer, daemon=True).start()
        problems: list[Notice] = []
        AlertActions(url=f"http://127.0.0.1:{listening.getsockname()[1]}/", tell=problems.append).write(ALERT)
    assert [problem.message for problem in problems] == [
        "the webhook of a rule: no answer in HTTP: SSH-2.0-OpenSSH_9.6"
    ]


def test_nonsense_is_refused_at_once() -> None:
    addresses = ("file:///etc/passwd", "http://localhost:80abc/x", "http:///x", "http://[::1/x", "http://a b/x")
    for arguments in ({"command": "say 'oops"}, *({"url": url} for url in addresses)):
        with pytest.raises(UsageError):
            AlertActions(**arguments)
    pytest.importorskip("pythonosc")
    for address in ("9000", "host", "host:x", "host:99999", "host:²", ":9000"):
        with pytest.raises(UsageError, match="HOST:PORT"):
            OscSink(address)
    with pytest.raises(SinkError, match="check the host"):
        OscSink("no.such.host.invalid:9000")


def test_osc_messages_arrive_as_documented() -> None:
    dispatcher_of = pytest.importorskip("pythonosc.dispatcher")
    osc_server = pytest.importorskip("pythonosc.osc_server")
    heard: dict[str, tuple[Any, ...]] = {}
    dispatcher = dispatcher_of.Dispatcher()
    dispatcher.set_default_handler(lambda address, *values: heard.update({address: values}))
    listening = osc_server.ThreadingOSCUDPServer(("127.0.0.1", 0), dispatcher)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    sink = OscSink(f"127.0.0.1:{listening.server_address[1]}")
    for event in (SPOKEN, ALERT, Marker(**COMMON, text="here", channel=2)):
        sink.write(event)
    deadline = time.monotonic() + 5
    while len(heard) < 9 and time.monotonic() < deadline:
        time.sleep(0.01)
    listening.shutdown()
    assert heard == {
        "/realtime_ser/state": ("speech",),
        "/realtime_ser/label": ("happy",),
        "/realtime_ser/confidence": (0.5,),
        "/realtime_ser/arousal": (0.25,),
        "/realtime_ser/valence": (-0.5,),
        "/realtime_ser/score/neutral": (0.25,),
        "/realtime_ser/score/happy": (0.75,),
        "/realtime_ser/alert": ("arousal > 0.7", 0.75),
        "/realtime_ser/2/marker": ("here",),
    }


def test_text_from_outside_is_one_harmless_string_in_osc_and_lsl() -> None:
    osc_message = pytest.importorskip("pythonosc.osc_message")
    text, shown = "a\0\0\0\0,s\x1b]0;owned\x07\udcff", "a����,s�]0;owned��"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        sink = OscSink(f"127.0.0.1:{listening.getsockname()[1]}")
        sink.write(Marker(**COMMON, text=text))
        sink.write(Alert(**COMMON, rule=text, value=0.5))
        heard = [osc_message.OscMessage(listening.recv(4096)) for _ in range(2)]
    assert [(m.address, m.params) for m in heard] == [
        ("/realtime_ser/marker", [shown]),
        ("/realtime_ser/alert", [shown, 0.5]),
    ]
    pytest.importorskip("pylsl")
    outlet = LslSink(("neutral", text), text)
    assert outlet._outlet.get_info().source_id() == shown
    outlet.close()


def test_lsl_samples_arrive_with_their_channels() -> None:
    pylsl = pytest.importorskip("pylsl")
    sink = LslSink(("neutral", "happy"), f"test {time.monotonic_ns()}")
    found = pylsl.resolve_byprop("name", "realtime_ser", timeout=10)
    assert found
    inlet = pylsl.StreamInlet(found[0])
    inlet.open_stream(timeout=10)
    described = inlet.info().desc().child("channels").child("channel")
    names = []
    while not described.empty():
        names.append(described.child_value("label"))
        described = described.next_sibling()
    assert names == ["arousal", "valence", "confidence", "level_dbfs", "s_neutral", "s_happy"]
    sink.write(SPOKEN)
    sink.write(SILENT)
    spoken, silent = inlet.pull_sample(timeout=10)[0], inlet.pull_sample(timeout=10)[0]
    assert spoken == [0.25, -0.5, 0.5, -20.0, 0.25, 0.75]
    assert [value != value for value in silent] == [True, True, True, False, True, True]
    sink.close()


@pytest.mark.slow
def test_a_failing_command_neither_stops_nor_delays_the_session(tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    rule = ("--on", "neutral > 0.3 for 1s cooldown 1s")
    slow = python("import time; time.sleep(60)")
    begun = time.monotonic()
    done = program("replay", demo_path(), "--speed", "max", "--csv", out, *rule, "--run", slow, "--duration", "20")
    assert time.monotonic() - begun < 40
    assert done.returncode == 0, done.stderr
    assert "20.0 s of audio" in done.stderr
    assert any(row["event"] == "alert" and row["note"].startswith("neutral > 0.3") for row in rows(out))
    quick = program("replay", demo_path(), "--speed", "max", "--plain", *rule, "--run", "/no/such/program")
    assert quick.returncode == 0
    assert "the command of a rule: no such file" in quick.stdout + quick.stderr


def test_rules_are_refused_at_the_start() -> None:
    one_line(program("replay", "demo", "--on", "anger > 1"), 2, "column 1", "arousal > 0.4 for 8s")
    one_line(program("replay", "demo", "--speed", "max", "--run", "true"), 2, "need a rule")
