"""The script: the same seed tells the same story, another run tells it with other ids."""

import argparse
from collections import Counter
from datetime import UTC, datetime
from random import Random

import pytest

from devtools.simulator import naming, options, plots, scenario
from devtools.simulator.options import OptionError, Options
from devtools.simulator.scenario import Script

RUN, OTHER_RUN = "20260131T154500-aaaaaa", "20260131T154501-bbbbbb"
OPTIONS = Options(sagas=300, images=(0, 3), failure_rate=0.6, own_task_rate=0.1, silence_rate=0.1, orphans=5, seed=11)


def story(script: Script) -> list[tuple[object, ...]]:
    """What happens in a script, without the ids."""
    return [
        (
            task.plot,
            len(task.images),
            task.expected.status if task.expected else None,
            [(event.type, event.topic, event.at - script.began, event.late) for event in task.events],
            [(name, answer) for (name, _), answer in task.answers.items()],
        )
        for task in script.tasks
    ]


def test_the_same_seed_and_run_give_the_same_script() -> None:
    assert scenario.write_script(OPTIONS, RUN).tasks == scenario.write_script(OPTIONS, RUN).tasks


def test_another_run_shows_the_same_story_with_other_ids() -> None:
    one, other = scenario.write_script(OPTIONS, RUN), scenario.write_script(OPTIONS, OTHER_RUN)
    assert story(one) == story(other)
    assert not one.by_task.keys() & other.by_task.keys()
    ids = [{event.event_id for task in script.tasks for event in task.events} for script in (one, other)]
    assert not ids[0] & ids[1]


def test_another_seed_shows_another_story() -> None:
    assert story(scenario.write_script(OPTIONS, RUN)) != story(
        scenario.write_script(Options(sagas=300, images=(0, 3), failure_rate=0.6, seed=12), RUN)
    )


def test_all_ids_of_a_run_are_its_own() -> None:
    tasks = scenario.write_script(OPTIONS, RUN).tasks
    counts = Counter(event.event_id for task in tasks for event in task.events)
    assert set(counts.values()) == {1}
    assert len({image.image_id for task in tasks for image in task.images}) == sum(len(t.images) for t in tasks)


def test_every_plot_and_every_status_comes_up() -> None:
    script = scenario.write_script(
        Options(sagas=600, images=(0, 3), failure_rate=0.7, own_task_rate=0.1, silence_rate=0.1), RUN
    )
    assert {task.plot for task in script.tasks} == set(plots.PLOTS)
    assert set(script.foreseen()) == {
        "STARTED",
        "COMPLETED",
        "FAILED",
        "COMPENSATION_SUCCEEDED",
        "COMPENSATION_FAILED",
    }


def test_without_failures_every_saga_is_completed() -> None:
    assert scenario.write_script(Options(sagas=100, failure_rate=0), RUN).foreseen() == {"COMPLETED": 100}


def test_an_orphan_has_no_saga_and_all_its_events_are_parked() -> None:
    script = scenario.write_script(OPTIONS, RUN)
    orphans = [task for task in script.tasks if task.expected is None]
    assert len(orphans) == 5
    assert len(script.sagas) == 300
    for task in orphans:
        assert "RetrievalStarted" not in {event.type for event in task.events}
        assert sum(task.parked.values()) == len(task.events)


def test_images_stay_in_their_range() -> None:
    script = scenario.write_script(Options(sagas=100, images=(2, 4)), RUN)
    assert {len(task.images) for task in script.tasks} == {2, 3, 4}


def test_a_task_begins_when_its_run_does_or_later_and_late_events_are_its_last() -> None:
    script = scenario.write_script(OPTIONS, RUN)
    for task in script.tasks:
        assert all(event.at > script.began for event in task.events)
        soon = [event.at for event in task.events if not event.late]
        assert all(event.at > max(soon, default=task.begins) for event in task.events if event.late)


def test_a_task_id_shows_its_run() -> None:
    began = datetime(2026, 1, 31, 15, 45, tzinfo=UTC)
    ids = Random(1)
    made = [naming.task_id(began, ids) for _ in range(100)]
    assert len(set(made)) == 100
    assert {naming.began(task) for task in made} == {int(began.timestamp())}


@pytest.mark.parametrize("task", ["", "order-1", "7f1e3a52-5b1b-4a57-9f0e-3d7f0c6f2a11"])
def test_other_task_ids_tell_none(task: str) -> None:
    assert naming.began(task) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_rate": 1.5},
        {"silence_rate": -0.1},
        {"sagas": -1},
        {"images": (3, 1)},
        {"images": (-1, 1)},
        {"rate": -5.0},
        {"timeout": 0.0},
        {"failure_scope": "world"},
        {"regions": ()},
        {"run": "yesterday"},
    ],
)
def test_options_that_cannot_be_used_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        Options(**wrong)  # type: ignore[arg-type]


def test_arguments_become_options() -> None:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    line = "--sagas 7 --images 2-3 --rate 0 --failure-rate 0.5 --shuffle --regions usa,north --seed 9 --once"
    told = options.from_arguments(vars(parser.parse_args(line.split())), failure_scope="saga")
    assert told == Options(
        sagas=7,
        images=(2, 3),
        rate=0,
        failure_rate=0.5,
        shuffle=True,
        regions=("usa", "north"),
        seed=9,
        once=True,
        failure_scope="saga",
    )


def test_no_arguments_are_the_standard_options() -> None:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    assert options.from_arguments(vars(parser.parse_args([]))) == Options()


@pytest.mark.parametrize("line", ["--images x", "--failure-rate 2", "--failure-rate often"])
def test_arguments_that_make_no_sense_are_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(line.split())
    assert "is n" in capsys.readouterr().err


def test_a_fresh_run_is_a_runs_name() -> None:
    run = options.fresh_run()
    assert abs((options.started_at(run) - datetime.now(UTC)).total_seconds()) < 5
    assert run != options.fresh_run()
