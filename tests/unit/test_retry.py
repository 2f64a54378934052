"""The retry policy: delays, their bounds, and when there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compensation.retry import RetryPolicy

DEFAULT = RetryPolicy()

policies = st.builds(
    lambda initial, factor, coefficient, attempts, jitter: RetryPolicy(
        initial_interval=initial,
        backoff_coefficient=coefficient,
        maximum_interval=initial * factor,
        maximum_attempts=attempts,
        jitter=jitter,
    ),
    initial=st.floats(0.001, 1000),
    factor=st.floats(1, 1000),
    coefficient=st.floats(1, 100),
    attempts=st.integers(1, 10_000),
    jitter=st.floats(0, 1),
)
chances = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "random", "seconds"),
    [
        (1, 0.0, 1.0),
        (2, 0.0, 2.0),
        (3, 0.0, 4.0),
        (7, 0.0, 64.0),
        (8, 0.0, 100.0),
        (5000, 0.0, 100.0),  # 2 ** 4999 is no float any more
        (1, 0.5, 0.9),
        (8, 0.5, 90.0),
    ],
)
def test_delay_doubles_up_to_the_longest_and_chance_only_shortens_it(
    attempt: int, random: float, seconds: float
) -> None:
    assert DEFAULT.delay(attempt, random) == pytest.approx(seconds)


@pytest.mark.parametrize(("attempt", "exhausted"), [(1, False), (9, False), (10, True), (11, True)])
def test_the_last_attempt_of_ten(attempt: int, exhausted: bool) -> None:
    assert DEFAULT.exhausted(attempt) is exhausted


@pytest.mark.parametrize(
    ("error", "entry"),
    [
        ("no such image", "no such image"),
        ("no such image: 7", "no such image"),
        ("no such image in the archive", "no such image in"),
        ("there is no such image", None),
        ("No such image", None),
        ("", None),
    ],
)
def test_non_retryable_is_the_text_or_its_longest_beginning(error: str, entry: str | None) -> None:
    policy = RetryPolicy(non_retryable_errors=("no such image", "no such image in"))
    assert policy.non_retryable(error) == entry


def test_every_number_that_makes_no_sense_is_named() -> None:
    with pytest.raises(ValueError) as error:
        RetryPolicy(
            initial_interval=0,
            backoff_coefficient=0.5,
            maximum_interval=-1,
            maximum_attempts=0,
            jitter=1.5,
            non_retryable_errors=("",),
        )
    for word in ("initial_interval", "coefficient", "maximum_interval", "maximum_attempts", "jitter", "non-retryable"):
        assert word in str(error.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_intervals_that_are_no_numbers_are_refused(number: float) -> None:
    with pytest.raises(ValueError):
        RetryPolicy(initial_interval=number)
    with pytest.raises(ValueError):
        RetryPolicy(maximum_interval=number)
    with pytest.raises(ValueError):
        RetryPolicy(backoff_coefficient=number)


@given(policy=policies, attempt=st.integers(1, 100_000), random=chances)
def test_a_delay_is_never_negative_and_never_over_the_longest(policy: RetryPolicy, attempt: int, random: float) -> None:
    assert 0 <= policy.delay(attempt, random) <= policy.maximum_interval


@given(policy=policies, attempt=st.integers(1, 500), random=chances)
def test_a_later_attempt_never_waits_less(policy: RetryPolicy, attempt: int, random: float) -> None:
    assert policy.delay(attempt, random) <= policy.delay(attempt + 1, random)
