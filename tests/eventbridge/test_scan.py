"""Scans answer as `matches` does, whatever the lines and wherever they lie; `diff` counts what a new pattern changes."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.aws import RunbookError
from helpers.eventbridge import InvalidEvent, InvalidPattern, diff, matches, scan
from helpers.eventbridge import reader, sources

Cases = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="module", autouse=True, params=["msgspec", "machine code"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """How events are read."""
    if request.param == "machine code" and not reader.load():
        pytest.skip("numba is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "is_loaded", lambda: request.param == "machine code")
        yield request.param

EC2 = {"source": "aws.ec2", "detail": {"state": "running", "n": 5}}
S3 = {"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "n": 2**60}}


def line(event: Any) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode()


def expected(pattern: Any, text: bytes) -> Any:
    try:
        return matches(pattern, text)
    except InvalidEvent:
        return "bad"


def scanned(pattern: Any, text: bytes) -> Any:
    found = scan(pattern, [text], progress=False, cores=1)
    assert found.events + found.bad == 1
    return "bad" if found.bad else found.matched == (1,)


def differing(cases: list[dict[str, Any]]) -> list[Any]:
    """Cases that a scan answers in another way than `matches`; a line break is a space to JSON, and more than one event is another thing."""
    wrong = []
    for case in cases:
        text = case["event"].replace("\n", " ").encode(errors="surrogatepass")
        if not text.strip() or len(sources.events_in(text.strip())) > 1:
            continue
        try:
            want = expected(case["pattern"], text)
            got = scanned(case["pattern"], text)
        except InvalidPattern as error:
            try:
                scan(case["pattern"], [text], progress=False)
                wrong.append((case["pattern"], str(error)))
            except InvalidPattern:
                continue
        else:
            if want != got:
                wrong.append((case["pattern"], text, want, got))
    return wrong


def test_every_case_of_ours_is_answered_as_matches_answers_it(own: Cases) -> None:
    assert differing(own("patterns")) == []


def test_every_recorded_case_is_answered_as_matches_answers_it(recorded: Cases) -> None:
    assert differing(recorded("patterns")) == []


def test_all_patterns_at_once_are_answered_as_one_by_one(own: Cases) -> None:
    valid = [case for case in own("patterns") if case["expected"] in (True, False) and "\n" not in case["event"] and "\\" not in case["event"]]
    patterns = [text for text in dict.fromkeys(case["pattern"] for case in valid) if "*:*:" not in text][:60]
    lines = [case["event"].encode() for case in valid[:200]]
    found = scan(patterns, lines, progress=False)
    want = tuple(sum(matches(pattern, text) for text in lines) for pattern in patterns)
    assert found.matched == want


names = st.sampled_from(["a", "b", "a.b", "b.a", "", "\\u0061"])
scalars = st.sampled_from(['"x"', '"y"', '"xy"', '""', "null", "true", "false", "0", "1", "1.0", "-0", "5", "1e0", "9007199254740993", '"1"', '"\\u0078"', '"\\ud800"', '"10.0.0.1"', '"a"'])
space = st.sampled_from(["", " ", "\t"])


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(names, space, inner), max_size=3)
    return pairs.map(lambda found: "{" + ",".join(f'"{name}"{gap}:{gap}{value}' for name, gap, value in found) + "}")


event_values = st.recursive(scalars, lambda inner: st.one_of(objects(inner), st.lists(inner, max_size=3).map(lambda found: "[" + ",".join(found) + "]")), max_leaves=6)
event_texts = st.one_of(objects(event_values), objects(event_values), event_values, st.text(max_size=8))
tests = st.sampled_from(
    ['"x"', '"1"', "1", "true", "null", '{"exists":true}', '{"exists":false}', '{"prefix":"x"}', '{"anything-but":"x"}', '{"anything-but":1}']
    + ['{"numeric":[">",0]}', '{"numeric":["=",1]}', '"10.0.0.1"', '{"suffix":"y"}', '{"wildcard":"x*"}', '{"equals-ignore-case":"X"}', '{"cidr":"10.0.0.0/8"}']
)
lists = st.lists(tests, min_size=1, max_size=3).map(lambda found: "[" + ",".join(found) + "]")
patterns = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), lists, min_size=1, max_size=3).map(lambda d: "{" + ",".join(f'"{k}":{v}' for k, v in d.items()) + "}"),
    st.tuples(lists, lists).map(lambda two: f'{{"a":{{"a":{two[0]},"b":{two[1]}}}}}'),
    st.tuples(lists, lists, lists).map(lambda three: f'{{"c":{three[0]},"$or":[{{"a":{three[1]}}},{{"b":{three[2]}}}]}}'),
    st.tuples(lists, lists).map(lambda two: f'{{"b":{{"a":{two[0]}}},"a":{two[1]}}}'),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(patterns, min_size=1, max_size=3), st.lists(event_texts, min_size=1, max_size=6))
def test_a_scan_answers_as_matches_does_on_any_lines(given_patterns: list[str], texts: list[str]) -> None:
    lines = [text.replace("\n", " ").replace("\r", " ").encode(errors="replace") for text in texts]
    lines = [text for text in lines if text.strip(b" \t\r\n") and len(sources.events_in(text.strip())) == 1]
    want = [[expected(pattern, text) for pattern in given_patterns] for text in lines]
    found = scan(given_patterns, lines, progress=False, keep=10)
    good = [row for row in want if "bad" not in row]
    assert found.bad == len(want) - len(good)
    assert found.matched == tuple(sum(row[number] for row in good) for number in range(len(given_patterns)))
    assert all(found.funnel(number)["left"].to_list()[-1:] == [found.matched[number]] for number in range(len(given_patterns)))


WHOLE = line({"version": "0", "source": "aws.s3", "detail": {"state": "off", "é": ["x", {"n": -1.5e3, "m": None}], "n": 5, "big": {"state": "running"}}, "ok": True})
pieces = st.sampled_from(
    [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\r", b"\x01", b"\x7f", b"\xff", b"\xed\xa0\x80", "é".encode(), b"\\u00e9", b"\\ud800", b"\\x", b"0", b"1", b"-", b".5", b"e5", b"1e400"]
    + [b"tru", b"null", b'"state":"running",', b'"detail":{},', b'"detail.state":"running",', b'"detail.":1,', b'"x":1,', b'"n":[5],', b'"n":5.0,', b'"\\u006e":5,', b'"x":[[{"detail":{"state":1}}]],']
)
edits = st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 3), pieces), min_size=1, max_size=3)


def edited(changes: list[tuple[int, int, bytes]]) -> bytes:
    """An event with pieces put in, in place of some bytes."""
    text = WHOLE
    for at, gone, piece in changes:
        text = text[:at] + piece + text[at + gone :]
    return text


@settings(max_examples=300, deadline=None)
@given(st.lists(edits, min_size=1, max_size=8), st.sampled_from(['{"detail":{"state":["running",null]}}', '{"source":[{"prefix":"aws"}],"detail":{"n":[5,{"exists":false}]}}']))
def test_a_scan_answers_as_matches_does_on_damaged_lines(changes: list[list[tuple[int, int, bytes]]], pattern: str) -> None:
    lines = [text for text in map(edited, changes) if len(sources.events_in(text.strip())) == 1]
    want = [expected(pattern, text) for text in lines]
    found = scan(pattern, lines, progress=False)
    assert (found.bad, found.matched) == (want.count("bad"), (want.count(True),))


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        (b'{"a":"x","n":1.50}', 0),
        (b' {"n": -0 , "a" :"x"}\t', 0),
        ('{"é":"\\ud800\\n", "n":12345678901234567890}'.encode(), 0),
        (b'{"b":[{"n":1,"n":2}],"n":1}', 0),
        (b'{"n":[1]}', 1),
        (b'{"n":1,"n":2}', 1),
        (b'{"\\u006e":1}', 1),
        (b'{"n":1} x', 1),
    ],
)
def test_machine_code_leaves_to_the_exact_matcher_only_what_it_cannot_settle(way: str, text: bytes, exact: int) -> None:
    if way == "machine code":
        assert scan({"n": [{"exists": True}]}, [text], progress=False).exact == exact


@pytest.mark.parametrize(
    ("text", "matched"),
    [
        (b'{"detail":{"state":"running"},"detail":{"state":"off"}}', 1),
        (b'{"detail":{"state":"running","state":"off"}}', 1),
        (b'{"detail":{"state":"off","x":{"state":"running"}}}', 0),
        (b'{"detail.state":"running","detail":{"state":"off"}}', 1),
        (b'{"detail":{"state":"off","\\u0073tate":"running"}}', 1),
        (b'{"detail":{"state":["off","running"]}}', 1),
        (b'{"detail":null}', 0),
        (b'{"detail":[{"state":"running"}]}', 1),
    ],
)
def test_a_line_that_its_decoded_fields_do_not_settle_is_answered_exactly(text: bytes, matched: int) -> None:
    alone = scan({"detail": {"state": ["running"]}}, [text], progress=False)
    among = scan({"detail": {"state": ["running"]}}, [line(S3)] * 50 + [text] + [line({"detail": {"state": "off"}})] * 50, progress=False)
    assert (alone.matched, among.matched) == ((matched,), (matched,))


def test_bad_lines_are_counted_and_shown_and_the_rest_is_scanned() -> None:
    found = scan({"source": ["aws.ec2"]}, [line(EC2), b"{broken", b"", b"[1]", b'{"a":"\xff"}', b'{"a":NaN}', b"\x0b" + line(EC2), line(EC2)], progress=False)
    assert (found.matched, found.events, found.bad) == ((2,), 2, 5)
    assert found.bad_lines()["line"].to_list()[:2] == ["{broken", "[1]"]
    assert "5 lines are no events" in found.finding


@pytest.mark.parametrize("text", [b'{"z":%s}' % (b"[" * 1200 + b"]" * 1200), b'{"z":%s}' % (b"1" * 1100), b'{"%s":1}' % (b"n" * 50_001), b'{"z":"%s"}' % (b"x" * 1_100_000)])
def test_an_event_beyond_the_limits_is_a_bad_line(text: bytes) -> None:
    assert scanned({"source": [{"exists": False}]}, text) == expected({"source": [{"exists": False}]}, text) == "bad"


def test_the_funnel_says_which_field_rejects_how_many() -> None:
    lines = [line(EC2)] * 3 + [line(S3)] * 5 + [line({**EC2, "detail": {"state": "off"}})] * 2
    funnel = scan({"source": ["aws.ec2"], "detail": {"state": ["running"]}}, lines, progress=False).funnel()
    assert funnel.values.tolist() == [["source", '"aws.ec2"', 10, 5, 5], ["detail.state", '"running"', 5, 2, 3]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = [line({**(EC2 if number % 3 else S3), "id": str(number)}) for number in range(3000)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines[:1500]))
    (tmp_path / "b.jsonl").write_bytes(b"\r\n".join(lines[1500:2500]) + b"\r\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b"\n".join(lines[2500:])))
    return tmp_path


def test_paths_globs_gzip_and_lines_are_read(folder: Path) -> None:
    paths = sorted(folder.iterdir())
    lines = [text for path in paths for text in (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).splitlines()]
    for source in (f"{folder}/*", paths, [str(path) for path in paths], lines, iter(lines), (text.decode() for text in lines)):
        assert scan({"source": ["aws.ec2"]}, source, progress=False).matched == (2000,)


def test_every_line_belongs_to_exactly_one_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "BLOCK", 333)
    for size in (1, 17, 91, 1000, 5000):
        monkeypatch.setattr(sources, "PART", size)
        found = scan({"source": ["aws.ec2"]}, folder / "a.jsonl", progress=False, keep=5000)
        assert [event["id"] for event in found.matching()] == [str(number) for number in range(1500) if number % 3]
        assert (found.events, found.bad) == (1500, 0)


def test_several_processes_count_the_same_in_the_same_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PART", 9000)
    alone = scan([{"source": ["aws.ec2"]}, {"id": [{"prefix": "1"}]}], f"{folder}/*", keep=20, cores=1, progress=False)
    monkeypatch.setattr(sys.modules["helpers.eventbridge.scan"], "WORTH_PROCESSES", 0)
    together = scan([{"source": ["aws.ec2"]}, {"id": [{"prefix": "1"}]}], f"{folder}/*", keep=20, cores=2, progress=False)
    assert (alone.outcomes, alone.rejected, alone.kept) == (together.outcomes, together.rejected, together.kept)


class S3Client:
    """Two objects, as boto3 hands them out."""

    objects = {"day/1.jsonl": line(EC2) + b"\n" + line(S3), "day/2.jsonl.gz": gzip.compress(line(EC2) + b"\n")}

    def get_paginator(self, name: str) -> S3Client:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:
        return [{"Contents": [{"Key": key, "Size": len(body)} for key, body in self.objects.items() if key.startswith(Prefix)]}]

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        return {"ContentLength": len(self.objects[Key])}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        return {"Body": io.BytesIO(self.objects[Key])}


@pytest.mark.parametrize(("place", "matched"), [("s3://b/day/", 2), ("s3://b/day/1.jsonl", 1), ("s3://b/day/2.jsonl.gz", 1)])
def test_objects_of_s3_are_read(place: str, matched: int) -> None:
    assert scan({"source": ["aws.ec2"]}, place, s3=S3Client(), progress=False).matched == (matched,)


def test_the_two_ways_of_an_archive_into_s3_are_read() -> None:
    logged = b"2026-11-24T03:00:00.000Z " + line(EC2)
    found = scan({"source": ["aws.ec2"]}, [logged, line(EC2) + line(S3) + line(EC2), line(EC2) + b" " + line(EC2)], progress=False)
    assert (found.matched, found.events, found.bad) == ((5,), 6, 0)


@pytest.mark.parametrize("source", ["nowhere.jsonl", "nowhere/*.gz", "s3://b/day/", b"{}"])
def test_a_source_that_is_not_there_is_told_with_its_remedy(source: Any) -> None:
    with pytest.raises(RunbookError) as told:
        scan({"source": ["aws.ec2"]}, source, progress=False)
    assert told.value.remedy


def test_a_pattern_that_aws_refuses_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InvalidPattern, match="must be an object or an array"):
        scan({"source": "aws.ec2"}, "nowhere.jsonl", progress=False)


def test_a_new_pattern_gains_and_loses_events() -> None:
    lines = [line(EC2)] * 3 + [line(S3)] * 5 + [line({"source": "aws.iam"})] * 2
    change = diff({"source": ["aws.ec2", "aws.iam"]}, {"source": ["aws.ec2", "aws.s3"]}, lines, keep=4, progress=False)
    assert (change.gained, change.lost, change.both, change.neither) == (5, 2, 3, 0)
    assert change.gained_events() == [S3] * 4 and change.lost_events() == [{"source": "aws.iam"}] * 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.eventbridge import projection

    monkeypatch.setattr(projection, "MAX_REMEMBERED", 5)
    monkeypatch.setattr(projection, "MAX_TERMINALS", 3)
    monkeypatch.setattr(sources, "BLOCK", 50)
    lines = [line({"a": f"x{number}" if number % 2 else f"y{number}", "b": str(number % 7)}) for number in range(300)]
    found = scan([{"a": [{"prefix": "x"}]}, {"a": [{"suffix": "1"}], "b": ["3"]}], lines, progress=False)
    assert found.matched == (150, sum(number % 10 == 1 and number % 7 == 3 for number in range(300)))


def test_values_beyond_the_room_for_them_are_answered_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line({"a": f"x{number}", "b": number}) for number in range(400)]
    for values, steps, texts in ((16, 1024, 4096), (1024, 16, 4096), (1024, 1024, 64)):
        monkeypatch.setattr(reader, "VALUES", values)
        monkeypatch.setattr(reader, "STEPS", steps)
        monkeypatch.setattr(reader, "_TEXTS", texts)
        assert scan({"a": [{"suffix": "1"}], "b": [{"numeric": ["<", 200]}]}, lines, progress=False).matched == (20,)


def test_a_long_event_needs_no_exact_matcher(monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.eventbridge import projection

    monkeypatch.setattr(projection, "_DEEPER", True)
    found = scan({"source": ["aws.ec2"]}, [line({**EC2, "text": "x" * 3000})] * 400, progress=False)
    assert (found.matched, found.exact) == ((400,), 0)


def test_a_pattern_that_needs_the_exact_matcher_leaves_the_others_to_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.eventbridge import projection

    patterns = ['{"source":["aws.ec2"],"detail":{"state":["running"]}}', '{"detail":["x"]}', '{"n/a":[1]}']
    lines = [line(EC2), line({"source": "aws.ec2", "detail": "x"}), line({"n/a": 1, **EC2}), line(S3), b"{broken"]
    want = tuple(sum(expected(pattern, text) is True for text in lines) for pattern in patterns)
    asked: list[str] = []
    monkeypatch.setattr(projection, "matches", lambda pattern, text: asked.append(pattern) or matches(pattern, text))
    found = scan(patterns, lines * 20, progress=False, keep=9)
    assert found.matched == tuple(20 * count for count in want) and found.bad == 20
    assert [found.funnel(number)["left"].to_list()[-1] for number in range(3)] == list(found.matched)
    assert len(asked) > asked.count(patterns[0]) + 100 and asked.count(patterns[0]) <= 41


def test_machine_code_is_loaded_when_this_process_has_read_so_much_that_it_is_worth_it(monkeypatch, tmp_path):
    module, asked = sys.modules["helpers.eventbridge.scan"], []
    monkeypatch.setattr(module, "_read", 0)
    monkeypatch.setattr(module, "WORTH_LOADING", 60)
    monkeypatch.setattr(module.reader, "is_loaded", lambda: False)
    monkeypatch.setattr(module.reader, "is_kept", lambda: True)
    monkeypatch.setattr(module.reader, "load", lambda: asked.append(module._read) or False)
    path = tmp_path / "events.jsonl"
    path.write_text('{"source": "aws.ec2"}\n')
    for _ in range(4):
        assert scan({"source": ["aws.ec2"]}, path, progress=False).matched == (1,)
    assert asked == [44, 66]
