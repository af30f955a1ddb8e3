"""The bench counts rightly, says what it has measured, and its guard turns red when a ratio has collapsed."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from bench import guard, profile, records, report
from bench.meter import Meter, measured
from bench.posts import Plan, Sender, body
from bench.records import HORIZON_DAYS, Load
from bench.report import Result, Section
from bench.sizing import Costs, size
from processor.calls import id_time_ms, parse_call_end
from processor.codec.rows import decode
from tests.running_door import running

RECORDED = {"worker: speed": 10.0, "door: speed": 4.0}


def quiet(_: str) -> None:
    pass


def ratio(name: str, *values: float) -> "Measure":
    return Measure(name, list(values))


class Measure:
    """Measures one value after the other."""

    def __init__(self, name: str, values: list[float]) -> None:
        self.name = name
        self.values = values

    def __call__(self) -> Mapping[str, float]:
        return {self.name: self.values.pop(0)}


def test_the_guard_says_nothing_while_ratios_are_above_half_of_what_was_recorded() -> None:
    parts = {"worker": ratio("worker: speed", 5.1), "door": ratio("door: speed", 9.0)}
    assert guard.watch(parts, RECORDED, quiet) == []


def test_the_guard_names_what_has_collapsed_to_half() -> None:
    parts = {"worker": ratio("worker: speed", 4.9, 4.8), "door": ratio("door: speed", 4.0)}
    (collapse,) = guard.watch(parts, RECORDED, quiet)
    assert collapse == "worker: speed: 4.8 times, less than half of the 10 that were recorded"


def test_the_guard_measures_again_before_it_believes_a_collapse() -> None:
    assert guard.watch({"door": ratio("door: speed", 0.1, 3.9)}, RECORDED, quiet) == []


def test_the_guard_refuses_ratios_that_were_not_recorded() -> None:
    with pytest.raises(LookupError, match="record them"):
        guard.watch({"door": ratio("door: other", 1.0)}, RECORDED, quiet)


def test_the_guard_has_a_record_of_all_that_it_measures() -> None:
    assert {name.partition(":")[0] for name in guard.read()} == set(guard.PARTS)


def test_figures_have_median_spread_and_ratios_of_rounds_side_by_side() -> None:
    ours = Result("ours", [{"events/s": 100.0}, {"events/s": 30.0}, {"events/s": 120.0}])
    theirs = Result("theirs", [{"events/s": 10.0}, {"events/s": 3.0}, {"events/s": 10.0}])
    ours.compare("events/s", theirs)
    assert (ours.median("events/s"), ours.spread("events/s")) == (100.0, 90.0)
    assert ours.ratios == {"events/s, theirs": 10.0}


def test_less_cpu_is_better() -> None:
    ours, theirs = Result("ours", [{"door us": 50.0}]), Result("theirs", [{"door us": 200.0}])
    ours.compare("door us", theirs, less_is_better=True)
    assert ours.ratios == {"door us, theirs": 4.0}


def test_a_section_replaces_only_that_of_its_title_and_is_read_back_as_it_was(tmp_path: Path) -> None:
    file, document = tmp_path / "results.json", tmp_path / "RESULTS.md"
    result = Result("base", [{"events/s": 151_234.0}, {"events/s": 149_000.0}], {"events/s, a loop": 9.5})
    one = Section("Worker", "make bench", "2026-01-01", "a machine", {"python": "3.11"}, [[20.0, 3.0]] * 2, [result])
    other = Section("Door", "make bench", "2026-01-02", "a machine", {}, [[20.0, 3.0]] * 2, [result])
    for section in (one, other, other):
        report.save(section, file, document)
    assert report.load(file) == {"Worker": one, "Door": other}
    assert "| base | 2 | 150,117 (1 %) |" in document.read_text()
    assert "| base | events/s, a loop | 9.50 |" in document.read_text()


def test_records_are_what_the_door_would_write_with_the_stated_repeats_and_sizes() -> None:
    load = Load(4000, size=1100, projects=7, repeats=0.25, models=3, hot=0.5)
    written = list(load.records())
    calls = {(call.project_id, call.id) for call in (decode(value).end for _, value, _ in written)}
    assert len(calls) == sum(is_new for *_, is_new in written)
    assert 0.2 < 1 - len(calls) / len(written) < 0.3
    projects = Counter(project for project, _ in calls)
    assert 0.5 < max(projects.values()) / len(calls) < 0.65
    assert all(abs(len(value) - load.size) < 8 for _, value, _ in written)
    assert all(decode(value).end.project_id.encode() == key for key, value, _ in written[:100])


def test_calls_end_in_the_order_of_the_log_unless_they_are_scattered_over_an_hour() -> None:
    for load in (Load(4000, repeats=0), Load(4000, repeats=0, scattered=True)):
        calls = [decode(value).end for _, value, _ in load.records()]
        ends_s = [call.ended_at.timestamp() for call in calls]
        lasted_s = [end_s - (id_time_ms(call.id) or 0) / 1000 for end_s, call in zip(ends_s, calls, strict=True)]
        assert min(lasted_s) >= 0
        assert 0.9 < sum(lasted_s) / len(lasted_s) / records.LASTED_S < 1.1
        assert (ends_s == sorted(ends_s)) != load.scattered
        assert max(ends_s) - min(ends_s) == pytest.approx(3600 if load.scattered else 4000 / records.PER_S, rel=0.01)


def test_bodies_are_valid_calls_of_the_stated_size() -> None:
    now = datetime.now(UTC)
    for content in (body(Random(seed), now, 1024) for seed in range(100)):
        parse_call_end(content, now=now, horizon_days=HORIZON_DAYS)
        assert len(content) == 1024


def test_posts_are_answered_each_once_as_fast_as_possible_or_as_they_are_due() -> None:
    with running() as door:
        answers = asyncio.run(Sender(Plan(door.port, connections=4, seconds=0.3)).run())
        assert set(answers.status) == {200}
        assert 4 < len(answers.status) == len(answers.took_s) == len(answers.at_s)
        due = asyncio.run(Sender(Plan(door.port, connections=4, seconds=0.5, per_s=40)).run())
        assert len(due.status) + due.unsent == pytest.approx(20, abs=2)
        assert not answers.broken + due.broken


def test_the_meter_counts_a_process_and_its_children() -> None:
    child = "import time\nwhile time.process_time() < 0.25: pass"  # the system counts whole hundredths
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]]); print(flush=True); input()"
    command = [sys.executable, "-c", parent, child]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        meter = Meter({"one": process.pid})
        assert meter.cpu_s()["one"] >= 0.2
        assert meter.peak_mib()["one"] > 1
        process.communicate(b"\n")


def test_a_rate_begins_with_the_first_progress_that_is_seen() -> None:
    """What happens before, such as starting, is not in it."""
    began_s = time.monotonic()
    sample = measured(
        Meter({"us": os.getpid()}), lambda: int(max(0.0, time.monotonic() - began_s - 0.3) * 1000), until=500
    )
    assert sample["events/s"] == pytest.approx(1000, rel=0.2)


def test_samples_are_charged_to_the_innermost_function_of_ours() -> None:
    main = 'thread (1): "MainThread";run (processor/cli/worker.py:49);'
    stacks = (
        f"{main}fold (processor/counting/columns.py:9);sum (numpy/x.py:1) 6\n"
        f"{main}poll (uvicorn/server.py:70) 2\n"
        'thread (2): "other";f (processor/admin.py:3) 50\n'
    )
    assert profile.shares(stacks) == {"fold (counting/columns.py)": 0.75, "poll (uvicorn/server.py)": 0.25}


def test_sizes_grow_with_the_rate_and_leave_room() -> None:
    cost = Costs(60, 4, 3, 10, worker_per_s=100_000, key_bytes=100)
    small, large = size(100, cost), size(100_000, cost)
    assert (small.doors, small.workers, small.partitions) == (2, 2, 12)
    assert (large.doors, large.workers, large.partitions) == (10, 2, 12)
    assert size(500_000, cost).workers == 10
    assert size(500_000, cost).partitions == 24
    assert large.postgres_cores == pytest.approx(0.5)
    assert json.dumps(small.postgres_gib) != "0"
